"""A scorer runs in a process of its own: what it does there, or when it is imported, costs its own run alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.base import SilentObserver
from autoscorer.schemas.result import Result
from autoscorer.scorers.registry import get_registry
from autoscorer.tasks.score import score_workspace
from autoscorer.tasks.scoring import GuardedScoring

from ..support.prefect_server import eventually
from ..support.workspaces import result_of

pytestmark = pytest.mark.slow

TABLE = "id,label\na,x\nb,y\n"
# Does what its param ``does`` says.
SCORER = """
import mmap, os, pathlib, signal, sys, time
from autoscorer.core.errors import AutoScorerError as Error
from autoscorer.schemas.result import Result
from autoscorer.scorers.base import BaseScorer, ScorerParams
from autoscorer.scorers.registry import register

class Params(ScorerParams):
    does: str = ""

class Odd(BaseException):
    pass

@register("{id}")
class S(BaseScorer):
    name, version, Params = "{id}", "{version}", Params

    def score(self, workspace, params):
        scope = dict(globals(), self=self, workspace=workspace, notes=[], metrics={{"one": 1.0}})
        exec(params.get("does", ""), scope)
        return Result(summary={{"score": 1.0}}, metrics=scope["metrics"], notes=scope["notes"])
"""
HANGS = "import time\nfrom pathlib import Path\nPath(__file__ + '.tried').open('a').write('x')\ntime.sleep(600)\n"
MiB = 1024**2


def text_of(scorer_id: str, version: str = "1.0.0") -> str:
    return SCORER.format(id=scorer_id, version=version)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configured folder with the scorer ``mine``."""
    made = tmp_path / "scorers"
    made.mkdir()
    (made / "mine.py").write_text(text_of("mine"))
    monkeypatch.setenv("AUTOSCORER_SCORERS__DIRS", json.dumps([str(made)]))
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedScoring]:
    """One that all may use who leave its scorer as it is."""
    base = tmp_path_factory.mktemp("shared")
    (base / "mine.py").write_text(text_of("mine"))
    section = {"limits": {"scoring_memory": 256 * MiB}}
    with GuardedScoring(Settings(home=base / "home", scorers={"dirs": [base]}, security=section)) as scoring:
        yield scoring


@pytest.fixture
def root(make_workspace: Callable[..., Path]) -> Path:
    return make_workspace(truth=TABLE, pred=TABLE)


def command(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """A command in a process of its own: exit code, envelope, standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "autoscorer", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout), done.stdout


def does(scoring: GuardedScoring, root: Path, what: str) -> Result:
    """Score with ``mine``, which does what it is told."""
    return scoring.score(root, scorer="mine", params={"does": what})


def error_of(result: Result) -> tuple[str, str]:
    assert result.error is not None
    return result.error.code, result.error.message


# --- files that do not load ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [HANGS, "import os; os._exit(0)", "import ctypes; ctypes.string_at(0)", None],
    ids=["hangs", "exits", "crashes", "link to itself"],
)
def test_a_bad_file_stops_nobody_who_needs_another(
    folder: Path, make_workspace: Callable[..., Path], what: str | None
) -> None:
    root = make_workspace(truth=TABLE, pred=TABLE, container={"cmd": ["true"]})
    with GuardedScoring(load_settings()) as scoring:
        assert does(scoring, root, "").error is None
        bad = folder / "bad.py"
        if what is None:
            bad.symlink_to(bad)
        else:
            bad.write_text(what)
        for scorer in ("classification_f1", "mine"):
            assert scoring.score(root, scorer=scorer).versioning.scorer == scorer
            assert scoring.validate(root, scorer=scorer, backend="process")["scorer"] == scorer
    assert not (folder / "bad.py.tried").exists()


def test_a_command_needs_no_other_file_than_its_scorer_s(folder: Path, root: Path) -> None:
    command("score", root, "--scorer", "mine")
    (folder / "bad.py").write_text(HANGS)
    assert [command("score", root, "--scorer", scorer)[0] for scorer in ("classification_f1", "mine")] == [0, 0]


def test_a_link_to_itself_hides_none_of_the_others_in_its_folder(folder: Path) -> None:
    (folder / "loop.py").symlink_to("loop.py")
    code, answer, _ = command("scorers", "list")
    assert code == 0 and "mine" in {scorer["id"] for scorer in answer["data"]["scorers"]}
    assert [Path(failure["source"]).name for failure in answer["data"]["errors"]] == ["loop.py"]


@pytest.mark.parametrize("bad", [HANGS, "import os; os._exit(0)", "def (:", ""], ids=["hangs", "exits", "bad", "empty"])
def test_the_last_good_version_counts_and_a_bad_one_is_not_tried_by_every_run(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    monkeypatch.setenv("AUTOSCORER_SCORERS__LOAD_TIMEOUT", "10")
    with GuardedScoring(load_settings()) as scoring:
        good = does(scoring, root, "")
        (folder / "mine.py").write_text(bad)
        results = [does(scoring, root, "") for _ in range(3)]
        assert {result.versioning.scorer_sha256 for result in results} == {good.versioning.scorer_sha256}
        if bad == HANGS:
            assert (folder / "mine.py.tried").read_text() == "x"
        (folder / "mine.py").write_text(text_of("mine", "2.0.0"))
        assert does(scoring, root, "").versioning.scorer_version == "2.0.0"


def test_a_file_that_never_loaded_is_named_by_those_who_miss_its_scorer(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_SCORERS__LOAD_TIMEOUT", "10")
    (folder / "new.py").write_text(HANGS)
    code, answer, _ = command("score", root, "--scorer", "fresh")
    assert (code, answer["error"]["code"]) == (1, "SCORER_NOT_FOUND")
    assert "new.py" in answer["error"]["message"] and "mine" in answer["error"]["details"]["known"]
    assert str(folder) not in json.dumps(answer)


def test_an_editor_that_deletes_and_writes_anew_fails_no_run(folder: Path, root: Path) -> None:
    file, stop = folder / "mine.py", threading.Event()

    def edit() -> None:
        while not stop.is_set():
            file.unlink()
            time.sleep(0.06)
            with file.open("w") as half:
                half.write(text_of("mine")[:300])
                half.flush()
                time.sleep(0.02)
                half.write(text_of("mine")[300:])
            time.sleep(0.1)

    editor = threading.Thread(target=edit)
    with GuardedScoring(load_settings()) as scoring:
        does(scoring, root, "")
        editor.start()
        try:
            results = [does(scoring, root, "") for _ in range(60)]
        finally:
            stop.set()
            editor.join()
        assert [result.error for result in results if result.error] == []
        file.unlink()
        assert error_of(does(scoring, root, ""))[0] == "SCORER_NOT_FOUND"
        file.write_text(text_of("mine", "back"))
        assert does(scoring, root, "").versioning.scorer_version == "back"


def test_of_two_files_with_one_id_the_first_keeps_it(folder: Path, root: Path) -> None:
    with GuardedScoring(load_settings()) as scoring:
        does(scoring, root, "")
        (folder / "zzz.py").write_text(text_of("mine", "2.0.0"))
        assert error_of(scoring.score(root, scorer="fresh"))[0] == "SCORER_NOT_FOUND"
        assert does(scoring, root, "").versioning.scorer_version == "1.0.0"
        (folder / "mine.py").unlink()
        assert does(scoring, root, "").versioning.scorer_version == "2.0.0"


# --- what a scorer raises --------------------------------------------------------------------------------

RAISED = ["SystemExit(0)", "SystemExit('no')", "KeyboardInterrupt", "GeneratorExit", "Odd('x')", "StopIteration"]


@pytest.mark.parametrize("raised", RAISED)
def test_whatever_a_scorer_raises_is_a_scorer_error_with_a_result(
    shared: GuardedScoring, root: Path, raised: str
) -> None:
    code, message = error_of(does(shared, root, f"raise {raised}"))
    assert code == "SCORER_ERROR" and raised.partition("(")[0] in message
    assert result_of(root)["error"]["code"] == "SCORER_ERROR"


@pytest.mark.parametrize("what", ["raise SystemExit(0)", "os._exit(0)", "os.kill(os.getppid(), 9); time.sleep(600)"])
def test_no_scorer_ends_a_command_without_a_result(folder: Path, root: Path, what: str) -> None:
    code, answer, _ = command("score", root, "--scorer", "mine", "--param", f"does={what}")
    assert (code, answer["error"]["code"], result_of(root)["error"]["code"]) == (3, "SCORER_ERROR", "SCORER_ERROR")


@pytest.mark.parametrize("raised", [one for one in RAISED if one != "KeyboardInterrupt"])
def test_in_a_program_s_own_process_too(folder: Path, root: Path, settings: Settings, raised: str) -> None:
    get_registry().load_file(folder / "mine.py")
    try:
        result = score_workspace(root, settings=settings, scorer="mine", params={"does": f"raise {raised}"})
    finally:
        get_registry().unload_file(folder / "mine.py")
    assert error_of(result)[0] == "SCORER_ERROR"


def test_ctrl_c_still_cancels_and_leaves_no_process(folder: Path, root: Path) -> None:
    says = "pathlib.Path(workspace, 'pid').write_text(str(os.getpid())); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-m", "autoscorer", "score", str(root), "--scorer", "mine", "--param", f"does={says}"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        pid = eventually(lambda: (root / "pid").read_text() if (root / "pid").exists() else "")
        process.send_signal(signal.SIGINT)
        answer = json.loads(process.communicate(timeout=300)[0])
    assert answer["error"]["code"] == "CANCELLED" and result_of(root)["error"]["code"] == "CANCELLED"
    assert not Path("/proc", pid).exists()


def test_an_exception_of_100_mb_makes_a_small_answer(folder: Path, root: Path) -> None:
    code, answer, output = command("score", root, "--scorer", "mine", "--param", "does=raise ValueError('x' * 10**8)")
    assert (code, answer["error"]["code"]) == (3, "SCORER_ERROR")
    assert len(answer["error"]["message"]) == 2000 and len(output) < 10_000
    assert (root / "output" / "result.json").stat().st_size < 10_000
    assert (root / "output" / "artifacts" / "report.html").stat().st_size < 100_000


@pytest.mark.parametrize(
    "what",
    [
        "raise Error('MISMATCH', 'x' * 10**7, details={'a': 'y' * 10**7})",
        "raise Error('MISMATCH', 'm', details={'a': ['y'] * 10**6})",
        "notes += ['x' * 10**6] * 50",
        "notes += ['x'] * 10**5",
        "metrics.update({f'm{i}': 1.0 for i in range(10**5)})",
        "metrics['x' * 10**7] = 1.0",
    ],
)
def test_no_text_of_a_scorer_makes_a_large_result(shared: GuardedScoring, root: Path, what: str) -> None:
    result = does(shared, root, what)
    assert len(json.dumps(result.to_dict())) < 1_000_000
    assert (root / "output" / "result.json").stat().st_size < 1_000_000
    assert result.error is None or result.error.code in ("MISMATCH", "SCORER_ERROR")
    if "notes" in what:
        assert result.error is None and len(result.notes) <= 202


# --- what a scorer does ----------------------------------------------------------------------------------

ENDS = {
    "os._exit(0)": "ended with exit code 0",
    "os.kill(os.getpid(), 11)": "SIGSEGV",
    "os.kill(os.getppid(), 9); time.sleep(600)": "SIGKILL",
    "os.killpg(0, 9)": "SIGKILL",
    "os.closerange(3, 256); os._exit(1)": "exit code 1",
    "sys.stdout.close(); os.close(1); raise ValueError('closed')": "closed",
}


@pytest.mark.parametrize("what", ENDS)
def test_a_scorer_that_ends_its_process_its_parent_or_its_group_costs_its_own_run(
    shared: GuardedScoring, root: Path, what: str
) -> None:
    code, message = error_of(does(shared, root, what))
    assert code == "SCORER_ERROR" and ENDS[what] in message
    assert result_of(root)["error"]["code"] == "SCORER_ERROR"


@pytest.mark.parametrize("ends", ["", "; os.kill(os.getppid(), 9); time.sleep(600)", "; os._exit(3)"])
def test_nothing_that_a_scorer_has_started_is_left(shared: GuardedScoring, root: Path, ends: str) -> None:
    child = "import os, subprocess, pathlib; p = subprocess.Popen(['sleep', '600']); "
    does(shared, root, child + "pathlib.Path(workspace, 'pid').write_text(str(p.pid))" + ends)
    pid = (root / "pid").read_text()
    eventually(
        lambda: "gone" if not Path("/proc", pid).exists() or " Z " in Path("/proc", pid, "stat").read_text() else ""
    )
    assert does(shared, root, "").error is None


# --- memory ----------------------------------------------------------------------------------------------

TAKES = {
    "a Python object": "x = bytearray(10**9)",
    "an array": "import numpy; x = numpy.ones(10**9)",
    "many small objects": "x = [str(i) for i in range(10**8)]",
    "shared memory, which no limit of the kernel's counts": "x = mmap.mmap(-1, 10**9)\n"
    "for i in range(0, 10**9, 4096): x[i] = 1\ntime.sleep(60)",
    "several processes": "for _ in range(4): pid = os.fork() and 0 or 1\nx = b'x' * (200 * 2**20); time.sleep(60)",
}


@pytest.mark.parametrize("what", TAKES)
def test_memory_beyond_the_limit_is_the_submission_s_fault(shared: GuardedScoring, root: Path, what: str) -> None:
    error = does(shared, root, TAKES[what]).error
    assert error is not None and (error.code, error.stage) == ("RESOURCE_ERROR", "scoring"), error
    where = {"workspace": root.name, "logs_path": None}
    assert error.details == {"resource": "memory", "limit": 256 * MiB, **where}
    assert result_of(root)["error"]["code"] == "RESOURCE_ERROR"
    assert does(shared, root, "x = bytearray(100 * 2**20)").error is None


def test_a_command_with_a_built_in_scorer_has_the_limit_as_well(
    make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_SECURITY__LIMITS__SCORING_MEMORY", "64Mi")
    table = "id,label\n" + "".join(f"{number},label {number}\n" for number in range(400_000))
    root = make_workspace("large", truth=table, pred=table)
    code, answer, _ = command("score", root)
    assert (code, answer["error"]["code"]) == (1, "RESOURCE_ERROR")
    assert result_of(root)["error"]["details"]["resource"] == "memory"


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group of the kernel's for processes that share so much memory."""
    base, name = Path("/sys/fs/cgroup"), f"autoscorer-test-{os.getpid()}"
    folder = (base / "memory" if (base / "memory").is_dir() else base) / name
    folder.mkdir()
    try:
        for file in ("memory.limit_in_bytes", "memory.max"):
            if (folder / file).exists():
                (folder / file).write_text(str(limit))
                yield folder
                return
        raise OSError("no memory controller")
    finally:
        folder.rmdir()


def _groups_can_be_made() -> bool:
    with contextlib.suppress(OSError), memory_group(512 * MiB):
        return True
    return False


if _groups_can_be_made():

    def test_a_scoring_that_the_kernel_kills_for_want_of_memory_is_the_submission_s_fault(
        folder: Path, root: Path
    ) -> None:
        program = (
            "import os, sys, pathlib; pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()));"
            "os.execv(sys.executable, [sys.executable, '-m', 'autoscorer', *sys.argv[2:]])"
        )
        arguments = ["score", str(root), "--scorer", "mine", "--param", "does=x = bytearray(b'x' * 10**9)"]
        with memory_group(512 * MiB) as group:
            done = subprocess.run(
                [sys.executable, "-c", program, str(group), *arguments], capture_output=True, text=True, check=False
            )
        assert json.loads(done.stdout)["error"]["code"] == "RESOURCE_ERROR", done
        assert result_of(root)["error"]["details"]["resource"] == "memory"


# --- the rest of the promise -----------------------------------------------------------------------------


def test_validating_with_a_scorer_that_crashes_tells_of_it(folder: Path, root: Path) -> None:
    (folder / "mine.py").write_text(
        text_of("mine") + "\n    def validate(self, workspace, params):\n        os._exit(5)\n"
    )
    code, answer, _ = command("validate", root, "--scorer", "mine", "--backend", "process")
    assert (code, answer["error"]["code"]) == (3, "SCORER_ERROR") and "exit code 5" in answer["error"]["message"]


def test_a_scorer_that_the_program_itself_registered_runs_in_the_program(
    folder: Path, root: Path, settings: Settings
) -> None:
    get_registry().load_file(folder / "mine.py")
    try:
        with GuardedScoring(settings) as scoring:
            result = does(scoring, root, "notes.append(str(os.getpid()))")
    finally:
        get_registry().unload_file(folder / "mine.py")
    assert str(os.getpid()) in result.notes


def test_an_error_holds_no_more_than_it_may() -> None:
    error = AutoScorerError("MISMATCH", "x" * 10**6, details={"rows": ["y" * 1000] * 1000, "deep": [[[["z"]]]]})
    assert len(error.message) == 2000 and error.message.endswith("…")
    assert len(json.dumps(error.to_dict())) < 200_000
    small = {"a": [1, None, {"b": "c"}], "d": 1.5}
    assert AutoScorerError("MISMATCH", "m", details=small).details == small


# --- how far it is ---------------------------------------------------------------------------------------


class Hearing(SilentObserver):
    """Keeps what it is told of how far a scoring is."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def progress(self, told: str) -> None:
        self.told.append(told)


def test_a_scorer_tells_how_far_it_is(shared: GuardedScoring, root: Path) -> None:
    """Once a second at most, in one line of bounded length, whatever it says."""
    heard = Hearing()
    what = (
        "for number in range(240):\n"
        "    self.progress(f'row {number}\\n\\x1b[31mstage run: ' + 'x' * 1000)\n"
        "    time.sleep(0.01)"
    )
    assert shared.score(root, scorer="mine", params={"does": what}, observer=heard).error is None
    assert 1 <= len(heard.told) <= 3
    for line in heard.told:
        assert line.startswith("row ") and line.isprintable() and len(line) <= 200


def test_a_scorer_that_tells_without_end_is_still_ended(root: Path, folder: Path) -> None:
    """Not by way of what it is given, but on the channel itself, which is open to it."""
    heard = Hearing()
    what = (
        "import gc, multiprocessing.connection as c\n"
        "channel = next(each for each in gc.get_objects() if isinstance(each, c.Connection) and not each.closed)\n"
        "while True: channel.send_bytes(b'progress \\xff')"
    )
    began = time.monotonic()
    with GuardedScoring(load_settings(), timeout=2) as scoring:
        result = scoring.score(root, scorer="mine", params={"does": what}, observer=heard)
    assert error_of(result)[0] == "SCORER_ERROR" and time.monotonic() - began < 30
    assert len(heard.told) < 100
