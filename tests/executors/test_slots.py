"""``executors.<backend>.concurrency`` holds for all processes of an installation together, whatever becomes of them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.base import SilentObserver
from autoscorer.executors.slots import slot
from autoscorer.tasks.pipeline import run_pipeline
from autoscorer.tasks.run import run_workspace

from ..support.workspaces import result_of

HOLDER = """
import sys
from autoscorer.core.config import load_settings
from autoscorer.executors.base import SilentObserver
from autoscorer.executors.slots import slot
with slot(load_settings(), "process", lambda: False, SilentObserver()):
    print("held", flush=True)
    sys.stdin.read()
"""


class Stages(SilentObserver):
    """Remembers the stages, and says when the waiting began."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.waits = threading.Event()

    def stage(self, name: str, detail: str = "") -> None:
        self.names.append(name)
        if name == "wait":
            self.waits.set()


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """One model at a time with the process backend, here and in the processes that this test starts."""
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__PROCESS__CONCURRENCY", "1")
    return load_settings()


@pytest.fixture
def hold() -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that takes a slot and keeps it until its standard input ends."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _held(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "held\n"


def _model(make_workspace: Callable[..., Path], name: str, script: str) -> Path:
    return make_workspace(name, container={"cmd": ["sh", "-c", script]}, timeout=30)


def test_without_a_limit_nobody_waits_and_nothing_is_written(settings: Settings) -> None:
    stages = Stages()
    with slot(settings, "docker", lambda: False, stages) as first, slot(settings, "docker", lambda: False, stages):
        assert first is None
    assert stages.names == []
    assert not (settings.home / "slots").exists()


def test_a_process_waits_for_another_and_goes_on_when_it_ends(
    one: Settings, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    first, stages, entered = hold(), Stages(), threading.Event()
    assert _held(first)

    def work() -> None:
        with slot(one, "process", lambda: False, stages):
            entered.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert stages.waits.wait(300)
    assert not entered.is_set()
    first.communicate()  # it lets go and ends
    thread.join(300)
    assert entered.is_set()
    assert stages.names == ["wait"], "told once, however long it waits"


def test_kill_9_of_the_holder_frees_the_slot(one: Settings, hold: Callable[[], subprocess.Popen[str]]) -> None:
    first = hold()
    assert _held(first)
    first.kill()
    first.wait()
    with slot(one, "process", lambda: False, SilentObserver()) as waited:
        assert waited is not None


def test_a_limit_of_two_lets_two_in_and_no_third(
    monkeypatch: pytest.MonkeyPatch, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__PROCESS__CONCURRENCY", "2")
    two, stages = load_settings(), Stages()
    assert all(_held(process) for process in [hold(), hold()])
    with pytest.raises(AutoScorerError) as caught, slot(two, "process", stages.waits.is_set, stages):
        pass
    assert caught.value.code is ErrorCode.CANCELLED
    with slot(two, "docker", lambda: False, stages) as waited:
        assert waited is None, "each executor has its own limit"


def test_cancelled_while_it_waits_leaves_a_result_and_runs_no_model(
    one: Settings, hold: Callable[[], subprocess.Popen[str]], make_workspace: Callable[..., Path]
) -> None:
    first, stages = hold(), Stages()
    assert _held(first)
    root = _model(make_workspace, "waits", "touch ran")
    result = run_pipeline(root, settings=one, backend="process", observer=stages, cancelled=stages.waits.is_set)
    assert result.error is not None and result.error.code == "CANCELLED"
    assert result_of(root)["error"]["code"] == "CANCELLED"
    assert "run" not in stages.names
    assert not (root / "logs" / "container.log").exists()


@pytest.mark.slow
def test_models_of_two_threads_take_turns_and_the_waiting_is_no_time_of_the_model(
    one: Settings, tmp_path: Path, make_workspace: Callable[..., Path]
) -> None:
    # Each model fails if another one is there: mkdir makes the folder or does not.
    alone = f"mkdir {tmp_path}/alone && sleep 0.5 && rmdir {tmp_path}/alone"
    script = f"{alone} && echo id,label > $AUTOSCORER_WORKSPACE/output/pred.csv"
    roots = [_model(make_workspace, f"turn-{number}", script) for number in range(3)]
    reports = []

    def work(root: Path) -> None:
        reports.append(run_workspace(root, settings=one, backend="process"))

    threads = [threading.Thread(target=work, args=(root,)) for root in roots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert [report.error for report in reports] == [None] * 3
    waits = sorted(report.queue_seconds or 0 for report in reports)
    assert waits[0] < waits[1] < waits[2], "each waited for those before it"
    infos = [json.loads((root / "logs" / "run_info.json").read_text()) for root in roots]
    assert sorted(info["queue_seconds"] for info in infos) == waits
