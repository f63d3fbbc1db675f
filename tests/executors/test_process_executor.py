"""The process backend under the real supervisor: every end is told and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode, Stage
from autoscorer.core.exposure import input_digest
from autoscorer.core.meta import load_job
from autoscorer.core.processes import ProcessIdentity
from autoscorer.core.provenance import sha256_file
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import RunLimits, SilentObserver
from autoscorer.executors.process import ProcessExecutor
from autoscorer.executors.reaper import reap, reap_if_needed
from autoscorer.executors.records import RunRecords
from autoscorer.executors.supervise import RunReport, run_sealed
from autoscorer.schemas.result import Result

TRUTH = "id,label\na,SECRET-TRUTH\n"
GOOD = "open(out / 'pred.csv', 'w').write('id,label\\na,x\\n')"
LIMITS = RunLimits(
    cpu=1, memory=1024**3, gpu=0, disk=1024**2, shm_size=1024**2, timeout=30, pids=64, nofile=256, tmp=1024**2,
    output_files=50, log=64 * 1024,
)  # fmt: skip
PRELUDE = """
import os, sys, time, json, subprocess, signal
from pathlib import Path
root = Path(os.environ["AUTOSCORER_WORKSPACE"])
out = root / "output"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("AUTOSCORER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AUTOSCORER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    root = tmp_path / "ws"
    (root / "input" / "data").mkdir(parents=True)
    (root / "input" / "gt.csv").write_text(TRUTH)
    (root / "input" / "data" / "x.csv").write_text("id\na\n")
    return Workspace(root)


def give(
    space: Workspace, program: str = GOOD, *, cmd: list[str] | None = None, env: dict[str, str] | None = None
) -> None:
    """Put a model into the workspace."""
    (space.root / "predict.py").write_text(PRELUDE + textwrap.dedent(program))
    container = {"cmd": ["python", "predict.py"] if cmd is None else cmd, "env": env or {}}
    space.meta.write_text(
        json.dumps({"scorer": "classification_f1", "params": {"secret_threshold": 0.75}, "container": container})
    )


def run(
    space: Workspace,
    *,
    limits: RunLimits = LIMITS,
    cancelled: Callable[[], bool] = lambda: False,
    observer: Any = None,
) -> RunReport:
    home = Path(os.environ["AUTOSCORER_HOME"])
    with space.lock():
        return run_sealed(
            ProcessExecutor(),
            space,
            load_job(space),
            limits,
            records=RunRecords(home),
            observer=observer or SilentObserver(),
            cancelled=cancelled,
        )


def failed(space: Workspace, **options: Any) -> AutoScorerError:
    report = run(space, **options)
    assert report.error is not None
    assert report.error.stage is Stage.EXECUTION or report.error.spec.stage is Stage.VALIDATION
    info = json.loads((space.logs / "run_info.json").read_text())
    assert info["error"] == report.error.to_dict()
    return report.error


def nothing_left(space: Workspace) -> bool:
    """No staged folder, no record, no process of a run."""
    mark = f"AUTOSCORER_WORKSPACE={space.scratch}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                return False
    staged = [name for name in os.listdir(space.scratch) if name != "lock"]
    return not staged and not list(RunRecords(Path(os.environ["AUTOSCORER_HOME"])).all())


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen")


# --- a run that succeeds ----------------------------------------------------------------------------------------


def test_a_good_model_delivers_its_output_and_the_report_says_how_it_ran(space: Workspace) -> None:
    give(space, f"print('hello'); {GOOD}; (out / 'more').mkdir(); (out / 'more' / 'f').write_text('abc')")
    report = run(space)
    assert report.error is None and report.backend == "process"
    assert (space.output / "pred.csv").read_text() == "id,label\na,x\n"
    assert (space.output / "more" / "f").read_text() == "abc"
    assert report.predictions_sha256 == sha256_file(space.output / "pred.csv").hex()
    assert report.input_sha256 == input_digest(space)
    resources = report.resources
    assert (resources.exit_code, resources.output_files, resources.output_bytes) == (0, 2, 16)
    assert resources.cpu_seconds is not None and resources.cpu_seconds > 0
    assert (space.logs / "container.log").read_text() == "hello\n"
    info = json.loads((space.logs / "run_info.json").read_text())
    assert info["error"] is None and info["run_id"] == report.run_id
    assert info["limits"]["timeout"] == 30 and info["began"] <= info["ended"]
    assert nothing_left(space)


def test_what_the_model_sees_is_its_input_its_job_and_an_empty_output(space: Workspace) -> None:
    (space.input / "extra.txt").write_text("x")
    (space.input / "gt.csv.bak").write_text("old truth")
    space.output.mkdir()
    (space.output / "pred.csv").write_text("old")
    give(
        space,
        """
        seen = {
            "input": sorted(os.listdir(root / "input")),
            "data": (root / "input" / "data" / "x.csv").read_text(),
            "output": os.listdir(out),
            "meta": json.loads((root / "meta.json").read_text()),
            "code": sorted(os.listdir(".")),
            "here": os.getcwd() == str(root / "code"),
            "stdin": sys.stdin.read(),
            "names": [str(p.relative_to(root)) for p in root.rglob("*")],
        }
        (out / "seen.json").write_text(json.dumps(seen))
        """,
    )
    assert run(space).error is None
    seen = json.loads((space.output / "seen.json").read_text())
    assert seen["input"] == ["data", "extra.txt"] and seen["data"] == "id\na\n"
    assert seen["output"] == [] and seen["stdin"] == "" and seen["here"]
    assert seen["code"] == ["input", "meta.json", "output", "predict.py"]
    assert not any("gt" in Path(name).name for name in seen["names"])
    assert "params" not in seen["meta"] and "scorer" not in seen["meta"]
    assert seen["meta"]["job_id"] == "ws"


def test_nothing_of_our_environment_reaches_the_model(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY", "PYTHONPATH", "DOCKER_HOST", "AUTOSCORER_HOME_SECRET"):
        monkeypatch.setenv(name, "s3cret")
    give(
        space,
        "(out / 'env.json').write_text(json.dumps(dict(os.environ)))",
        env={"MODE": "fast", "AUTOSCORER_WORKSPACE": "/elsewhere", "PATH": os.environ["PATH"]},
    )
    assert run(space).error is None
    seen = json.loads((space.output / "env.json").read_text())
    assert "s3cret" not in seen.values()
    assert seen["MODE"] == "fast"
    # Not the job's to choose: by it the processes of a run are found.
    assert seen["AUTOSCORER_WORKSPACE"].startswith(str(space.scratch))
    assert set(seen) <= {
        "MODE", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "HOME",
        "PYTHONDONTWRITEBYTECODE", "AUTOSCORER_WORKSPACE", "CUDA_VISIBLE_DEVICES",
    }  # fmt: skip


def test_a_result_that_the_model_wrote_is_ignored_and_ours_goes_to_the_history(space: Workspace) -> None:
    space.save_result(Result(metrics={"n": 1}))
    give(space, f"(out / 'result.json').write_text('{{}}'); (out / 'history').mkdir(); {GOOD}")
    report = run(space)
    assert report.error is None
    assert any("result.json" in note for note in report.notes) and any("history" in note for note in report.notes)
    assert not space.result_file.exists()
    space.save_result(Result(metrics={"n": 2}))
    assert run(space).error is None
    kept = [json.loads(path.read_bytes())["metrics"]["n"] for path in (space.output / "history").iterdir()]
    assert sorted(kept) == [1, 2]


def test_the_history_survives_a_failed_run_too(space: Workspace) -> None:
    space.save_result(Result(metrics={"n": 1}))
    give(space, "sys.exit(3)")
    failed(space)
    assert len(os.listdir(space.output / "history")) == 1


def test_special_files_beside_the_code_are_no_code(space: Workspace) -> None:
    os.mkfifo(space.root / "pipe")
    (space.root / "link").symlink_to("predict.py")
    give(space, "(out / 'names').write_text(' '.join(sorted(os.listdir('.'))))")
    assert run(space).error is None
    assert (space.output / "names").read_text() == "input link meta.json output predict.py"


class Watcher(SilentObserver):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.lines: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.stages.append(name)

    def log(self, line: str) -> None:
        self.lines.append(line)


def test_whoever_watches_is_told_the_stages_and_clean_lines(space: Workspace) -> None:
    give(space, f"print('\\x1b[31mred\\x1b[0m'); print('err', file=sys.stderr, flush=True); {GOOD}")
    watcher = Watcher()
    assert run(space, observer=watcher).error is None
    assert watcher.stages == ["run", "collect"]
    assert sorted(watcher.lines) == ["err", "red"]


def test_a_log_without_end_is_capped_and_both_its_ends_kept(space: Workspace) -> None:
    give(space, f"print('first'); [print('x' * 99) for _ in range(20_000)]; print('last'); {GOOD}")
    assert run(space).error is None
    log = (space.logs / "container.log").read_bytes()
    assert len(log) <= LIMITS.log + 100
    assert log.startswith(b"first\n") and log.endswith(b"last\n") and b"bytes left out" in log


# --- a run that fails -------------------------------------------------------------------------------------------


def test_a_models_own_error_comes_with_its_code_and_its_last_lines(space: Workspace) -> None:
    give(space, "print('loading'); raise ValueError('bad weights')")
    error = failed(space)
    assert error.code is ErrorCode.CONTAINER_FAILED and error.details["exit_code"] == 1
    assert error.details["log"][0] == "loading" and error.details["log"][-1] == "ValueError: bad weights"
    assert nothing_left(space)


@pytest.mark.parametrize(
    ("cmd", "code"),
    [
        (["no-such-program"], 127),
        (["./predict.py"], 127),
        (["/"], 127),
        (["sh", "-c", "kill -SEGV $$"], 139),
        (["sh", "-c", "exit 42"], 42),
    ],
    ids=["missing", "not executable", "a folder", "killed", "exit 42"],
)
def test_a_command_that_does_not_run_is_the_submissions_fault(space: Workspace, cmd: list[str], code: int) -> None:
    give(space, cmd=cmd)
    error = failed(space)
    assert error.code is ErrorCode.CONTAINER_FAILED and error.details["exit_code"] == code
    assert nothing_left(space)


def test_without_a_command_there_is_nothing_to_run(space: Workspace) -> None:
    give(space, cmd=[])
    assert failed(space).code is ErrorCode.INVALID_META


# A model that ignores every signal it can, with a child in its session, one in a session of its own, and a daemon.
STUBBORN = """
import json, os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
sleep = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)"]
pids = [os.getpid(), subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
daemon = "import os, sys, time; p = os.fork(); p and (print(p, flush=True), os._exit(0)); os.setsid(); time.sleep(300)"
with subprocess.Popen([sys.executable, "-c", daemon], stdout=subprocess.PIPE) as process:
    pids.append(int(process.stdout.readline()))
with open(os.environ["PIDS"] + ".part", "w") as file:
    json.dump(pids, file)
os.rename(os.environ["PIDS"] + ".part", os.environ["PIDS"])
print("all started", flush=True)
time.sleep(300)
"""


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """Where the stubborn model writes its processes; none of them outlives the test."""
    path = tmp_path / "pids"
    yield path
    for pid in json.loads(path.read_text()) if path.exists() else []:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_the_deadline_ends_every_process_of_the_run(space: Workspace, pids: Path) -> None:
    give(space, STUBBORN, env={"PIDS": str(pids)})
    error = failed(space, limits=replace(LIMITS, timeout=3))
    assert error.code is ErrorCode.TIMEOUT_ERROR and error.details["timeout"] == 3
    assert error.details["log"] == ["all started"]
    started = json.loads(pids.read_text())
    assert len(set(started)) == 4 and not any(lives(pid) for pid in started)
    assert nothing_left(space)


def test_what_a_good_model_leaves_running_is_ended_too(space: Workspace, pids: Path) -> None:
    ending = STUBBORN.rindex("time.sleep(300)")
    give(space, STUBBORN[:ending] + GOOD, env={"PIDS": str(pids)})
    assert run(space).error is None
    assert not any(lives(pid) for pid in json.loads(pids.read_text()))
    assert nothing_left(space)


def test_a_run_can_be_cancelled(space: Workspace, pids: Path) -> None:
    give(space, STUBBORN, env={"PIDS": str(pids)})
    assert failed(space, cancelled=pids.exists).code is ErrorCode.CANCELLED
    assert not any(lives(pid) for pid in json.loads(pids.read_text()))
    assert nothing_left(space)


def test_ctrl_c_ends_the_model_and_clears_up(space: Workspace, pids: Path) -> None:
    def interrupt() -> bool:
        if pids.exists():
            raise KeyboardInterrupt
        return False

    give(space, STUBBORN, env={"PIDS": str(pids)})
    with pytest.raises(KeyboardInterrupt):
        run(space, cancelled=interrupt)
    assert not any(lives(pid) for pid in json.loads(pids.read_text()))
    assert nothing_left(space)


@pytest.mark.parametrize(
    ("program", "resource"),
    [
        ("x = bytearray(3 * 1024**3)", "memory"),
        ("(out / 'big').write_bytes(b'x' * (2 * 1024**2))", "disk"),
        ("os.truncate(os.open(out / 'sparse', os.O_CREAT | os.O_WRONLY), 2**40)", "disk"),
        ("[(out / str(n)).write_bytes(b'x' * 300_000) for n in range(10)]; time.sleep(60)", "disk"),
        ("[(out / str(n)).write_bytes(b'x' * 300_000) for n in range(10)]", "disk"),
        ("[(out / str(n)).touch() for n in range(100)]; time.sleep(60)", "files"),
        ("[(out / str(n)).mkdir() for n in range(100)]", "files"),
        ("p = out\nfor n in range(50): p = p / 'd'; p.mkdir()", "files"),
    ],
    ids=["memory", "one file", "sparse", "many files, running", "many files, ended", "count", "folders", "depth"],
)
def test_each_limit_is_held_and_named(space: Workspace, program: str, resource: str) -> None:
    give(space, program)
    error = failed(space)
    assert error.code is ErrorCode.RESOURCE_ERROR and error.details["resource"] == resource
    assert os.listdir(space.output) == []
    assert nothing_left(space)


@pytest.mark.parametrize(
    "program",
    [
        "os.symlink('/etc/passwd', out / 'pred.csv')",
        "os.symlink('../../../input/gt.csv', out / 'pred.csv')",
        "(out / 'sub').mkdir(); os.symlink('/', out / 'sub' / 'root')",
        "os.mkfifo(out / 'pred.csv')",
    ],
)
def test_output_that_is_no_plain_file_is_rejected_whole(space: Workspace, program: str) -> None:
    give(space, f"(out / 'fine.csv').write_text('x'); {program}")
    assert failed(space).code is ErrorCode.OUTPUT_REJECTED
    assert os.listdir(space.output) == []
    assert nothing_left(space)


def test_an_exposed_ground_truth_stops_the_run_before_it_begins(space: Workspace, tmp_path: Path) -> None:
    (space.input / "data" / "copy").write_text(TRUTH)
    give(space, f"Path({str(tmp_path / 'started')!r}).touch()")
    assert failed(space).code is ErrorCode.GROUND_TRUTH_EXPOSED
    assert not (tmp_path / "started").exists() and nothing_left(space)


def test_a_run_that_can_not_be_staged_leaves_no_folder(space: Workspace) -> None:
    (space.input / "gt.csv").unlink()  # nothing is compared then, and the link is found while staging
    (space.input / "link").symlink_to("/etc")
    give(space)
    assert failed(space).code is ErrorCode.MISSING_FILE
    assert nothing_left(space)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "cmd"),
    [
        ("sys.exit(1)", None),
        ("time.sleep(60)", None),
        ("os.mkfifo(out / 'x')", None),
        ("(out / 'pred.csv').write_text('half'); sys.exit(1)", None),
        ("", ["no-such-program"]),
    ],
    ids=["exit 1", "deadline", "rejected", "half written", "never started"],
)
def test_a_failed_run_leaves_no_predictions_an_older_one_made(
    space: Workspace, program: str, cmd: list[str] | None
) -> None:
    space.output.mkdir()
    (space.output / "pred.csv").write_text("old")
    give(space, program, cmd=cmd)
    failed(space, limits=replace(LIMITS, timeout=1))
    assert not (space.output / "pred.csv").exists()


def test_no_descriptor_is_left_open(space: Workspace) -> None:
    give(space)
    run(space)
    before = len(os.listdir("/proc/self/fd"))
    for program in (GOOD, "sys.exit(1)", "os.mkfifo(out / 'x')"):
        give(space, program)
        run(space)
    give(space, cmd=["no-such-program"])
    run(space)
    assert len(os.listdir("/proc/self/fd")) == before


# --- the reaper -------------------------------------------------------------------------------------------------

OWNER = """
import os, sys
from pathlib import Path
from autoscorer.core.meta import load_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import RunLimits, SilentObserver
from autoscorer.executors.process import ProcessExecutor
from autoscorer.executors.records import RunRecords
from autoscorer.executors.supervise import run_sealed
space = Workspace(sys.argv[1])
limits = RunLimits(cpu=1, memory=2**30, gpu=0, disk=2**20, shm_size=1, timeout=60, pids=64, nofile=256, tmp=1,
                output_files=50, log=65536)
with space.lock():
    run_sealed(ProcessExecutor(), space, load_job(space), limits,
               records=RunRecords(Path(os.environ["AUTOSCORER_HOME"])), observer=SilentObserver())
"""


def no_docker(_: Settings) -> Any:
    raise AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, "There is no Docker here.")


def test_what_a_killed_owner_left_is_reaped(space: Workspace, pids: Path) -> None:
    give(space, STUBBORN, env={"PIDS": str(pids)})
    settings = load_settings()
    owner = subprocess.Popen([sys.executable, "-c", OWNER, space.root])
    try:
        wait_for(pids.exists, "the start of the model")
        started = json.loads(pids.read_text())
        (staged,) = (path for path in space.scratch.iterdir() if path.name.startswith("run-"))
        # While its owner lives, nothing of it is touched.
        assert reap_if_needed(settings) is None
        assert reap(settings, connect=no_docker).folders == []
        assert staged.exists() and all(lives(pid) for pid in started)
        owner.kill()
        owner.wait()
        wait_for(lambda: not lives(started[0]), "the end of the model with its owner")
        done = reap(settings, connect=no_docker)
    finally:
        owner.kill()
        owner.wait()
    assert done.folders == [str(staged)]
    assert not any(lives(pid) for pid in started)
    assert nothing_left(space)
    assert reap_if_needed(settings) is None
    # And the workspace can be used again.
    give(space)
    assert run(space).error is None


def record(home: Path, name: str, **changes: Any) -> Path:
    data: dict[str, Any] = {
        "run_id": name,
        "backend": "process",
        "owner": ProcessIdentity.current().text,
        "workspace": "/nowhere",
        **changes,
    }
    path = home / "runs" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def dead_owner() -> str:
    return re.sub(r"\d+$", "1", ProcessIdentity.current().text)


def test_records_that_can_not_be_read_break_nothing(home: Path) -> None:
    good = record(home, "good", owner=dead_owner())
    for number, field in enumerate(("run_id", "backend", "owner", "workspace")):
        for kind, value in (("number", 5), ("null", None), ("list", [1])):
            record(home, f"{number}-{kind}", **{field: value})
    for name, content in (("a", b""), ("b", b"[]"), ("c", b"\xff"), ("d", b"[" * 100_000), ("e", b'"x"'), ("f", b"5")):
        (home / "runs" / f"{name}.json").write_bytes(content)
    (home / "runs" / "folder.json").mkdir()
    assert [found.run_id for found in RunRecords(home).all()] == ["good"]
    assert reap(load_settings(), connect=no_docker).folders == []
    assert not good.exists()


@pytest.mark.parametrize("odd", [None, 5, "x", [5, None, []], {}, ["/usr", "/"]], ids=repr)
def test_a_run_that_was_staged_outside_of_its_workspace_is_cleared_there(home: Path, tmp_path: Path, odd: Any) -> None:
    folder = tmp_path / "autoscorer-gone"
    (folder / "output").mkdir(parents=True)
    record(home, "gone", owner=dead_owner(), elsewhere=[str(tmp_path / "nothing"), str(folder)])
    record(home, "odd", owner=dead_owner(), elsewhere=odd)
    assert reap(load_settings(), connect=no_docker).folders == [str(folder)]
    assert not folder.exists() and not list((home / "runs").iterdir())


def test_a_record_whose_container_may_still_run_outlives_a_docker_that_does_not_answer(home: Path) -> None:
    path = record(home, "gone", backend="docker", owner=dead_owner())
    done = reap(load_settings(), connect=no_docker)
    assert path.exists() and done.problems == ["There is no Docker here."]
    assert reap(load_settings(), connect=lambda _: Engine([])).problems == []
    assert not path.exists()


class Engine:
    """The three calls of a Docker Engine that reaping makes."""

    def __init__(self, containers: list[dict[str, Any]]) -> None:
        self.listed = containers
        self.removed: list[str] = []

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return self.listed

    def remove_container(self, container: str, **_: Any) -> None:
        self.removed.append(container)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("owner", "deadline", "name", "orphan"),
    [
        (dead_owner(), "", "/autoscorer-r", True),
        (dead_owner(), str(2**40), "/autoscorer-r", True),
        (ProcessIdentity.current().text, str(2**40), "/autoscorer-r", False),
        (ProcessIdentity.current().text, "1", "/autoscorer-r", True),
        ("elsewhere|b|1|1|1", "1", "/autoscorer-r", True),
        ("elsewhere|b|1|1|1", "9999999999", "/autoscorer-r", False),
        ("", "", "/autoscorer-r", False),
        ("", "²", "/autoscorer-r", False),
        ("", "9" * 5000, "/autoscorer-r", False),
        ("", "-1", "/autoscorer-r", False),
        (dead_owner(), "1", "/somebody-elses", False),
        (dead_owner(), "1", "/autoscorer-r-2", False),
    ],
    ids=[
        "dead owner", "dead owner in time", "alive", "alive past the deadline", "elsewhere past it", "elsewhere",
        "no labels", "no number", "huge number", "negative", "another name", "another name like ours",
    ],
)  # fmt: skip
def test_a_container_is_an_orphan_only_when_that_is_certain(owner: str, deadline: str, name: str, orphan: bool) -> None:
    labels = {"io.autoscorer.run": "r", "io.autoscorer.owner": owner, "io.autoscorer.deadline": deadline}
    engine = Engine([{"Id": "id", "Names": [name], "Labels": labels}])
    done = reap(load_settings(), connect=lambda _: engine)
    assert (engine.removed, done.containers) == ((["id"], ["autoscorer-r"]) if orphan else ([], []))


def test_a_disk_that_is_nearly_full_starts_nothing(space: Workspace) -> None:
    """With less room than the host must keep, the run is refused: that is the operator's to mend."""
    give(space)
    with pytest.raises(AutoScorerError) as caught:
        run(space, limits=replace(LIMITS, free_disk=1 << 60))
    assert caught.value.code is ErrorCode.STORAGE_FULL and "security.limits.free_disk" in caught.value.message
