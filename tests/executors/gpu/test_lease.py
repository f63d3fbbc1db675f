"""A device is one run's alone, whatever becomes of the run; who waits gets all that it asks for, or nothing yet."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.base import SilentObserver
from autoscorer.executors.gpu import lease
from autoscorer.executors.gpu.lease import Leased, lease_folder, leased_gpus
from autoscorer.executors.limits import effective_limits
from autoscorer.schemas.job import Job
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from ...support.gpus import A100, T4, GiB, Host, gpu, mig

# Leases again and again, and leaves a file for each device while it has it: whoever finds one there whose maker lives
# has been given what another one has.
WORKER = """
import os, sys, time, random
from pathlib import Path
from autoscorer.core.config import load_settings
from autoscorer.executors.base import SilentObserver
from autoscorer.executors.gpu.lease import leased_gpus
from autoscorer.executors.limits import effective_limits
from autoscorer.schemas.job import Job

marks, number, times = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
settings = load_settings()
limits = effective_limits(Job.model_validate({"resources": {"gpu": number}}), settings)

def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

for _ in range(times):
    with leased_gpus(settings, "process", limits, lambda: False, SilentObserver()) as leased:
        assert len({gpu.uuid for gpu in leased.gpus}) == number
        for gpu in leased.gpus:
            mark = marks / gpu.uuid
            if mark.exists() and (maker := mark.read_text()) and lives(maker):
                print("CLASH", gpu.uuid, flush=True)
            mark.write_text(str(os.getpid()))
        print("held", *(gpu.uuid for gpu in leased.gpus), flush=True)
        if times == 1:
            sys.stdin.read()
        time.sleep(random.uniform(0, 0.02))
        for gpu in leased.gpus:
            (marks / gpu.uuid).unlink()
"""


class Stages(SilentObserver):
    """Remembers what was waited for, and says when the waiting began."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.waits = threading.Event()

    def stage(self, name: str, detail: str = "") -> None:
        assert name == "wait"
        self.told.append(detail)
        self.waits.set()


@contextlib.contextmanager
def leasing(
    number: int = 1,
    *,
    cancelled: Callable[[], bool] = lambda: True,
    observer: SilentObserver | None = None,
    held: Callable[[], frozenset[str]] = frozenset,
    executor: str = "process",
    **asked: Any,
) -> Iterator[Leased]:
    """What a run is given at once; ``CANCELLED`` where it would have to wait."""
    settings = load_settings()
    limits = effective_limits(Job.model_validate({"resources": {"gpu": number, **asked}}), settings)
    with leased_gpus(settings, executor, limits, cancelled, observer or SilentObserver(), held) as leased:
        yield leased


def uuids(leased: Leased) -> list[str]:
    return [each.uuid for each in leased.gpus]


def code_of(number: int = 1, **more: Any) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught, leasing(number, **more):
        pass
    return caught.value


def waits(number: int = 1, **more: Any) -> bool:
    return code_of(number, **more).code is ErrorCode.CANCELLED


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that leases devices; with ``times`` 1 it keeps them until its standard input ends."""
    marks = tmp_path / "marks"
    marks.mkdir()
    started: list[subprocess.Popen[str]] = []

    def one(number: int = 1, times: int = 1) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(marks), str(number), str(times)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def held_by(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    word, *uuids = process.stdout.readline().split()
    assert word == "held"
    return uuids


# --- one run a device -------------------------------------------------------------------------------------------


def test_a_run_without_gpus_asks_nobody_and_a_cluster_gives_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with leasing(0) as none, leasing(2, executor="kubernetes") as clusters:
        assert none == clusters == Leased()


def test_two_runs_get_two_devices_and_a_third_waits(host: Host) -> None:
    host.has(gpu(0), gpu(1))
    with leasing() as first, leasing() as second:
        assert {*uuids(first), *uuids(second)} == {"GPU-0", "GPU-1"}
        assert first.waited is not None
        assert waits()
    with leasing(2) as both:
        assert uuids(both) == ["GPU-0", "GPU-1"]


@pytest.mark.slow
def test_homes_of_one_host_share_the_devices(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., subprocess.Popen[str]]
) -> None:
    host.has(gpu(0), gpu(1))
    mine = start()
    assert held_by(mine) == ["GPU-0"]
    monkeypatch.setenv("AUTOSCORER_HOME", str(tmp_path / "another"))
    assert held_by(start()) == ["GPU-1"]
    assert waits()


@pytest.mark.slow
def test_who_waits_is_told_so_once_and_goes_on_when_the_other_one_ends(
    host: Host, start: Callable[..., subprocess.Popen[str]]
) -> None:
    host.has(gpu(0))
    other, stages, entered = start(), Stages(), threading.Event()
    held_by(other)

    def work() -> None:
        with leasing(cancelled=lambda: False, observer=stages, gpu_types=[A100], gpu_memory="40Gi") as leased:
            assert leased.waited
            entered.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert stages.waits.wait(300) and not entered.is_set()
    other.communicate()  # it lets go and ends
    thread.join(300)
    assert entered.is_set()
    assert stages.told == [f"for a GPU of type {A100} with 40 GiB"]


@pytest.mark.slow
def test_kill_9_of_the_holder_frees_its_devices(host: Host, start: Callable[..., subprocess.Popen[str]]) -> None:
    host.has(gpu(0), gpu(1))
    other = start(2)
    held_by(other)
    assert waits()
    other.kill()
    other.wait()
    with leasing(2) as leased:
        assert len(leased.gpus) == 2


def test_a_process_that_was_forked_meanwhile_does_not_keep_a_device(host: Host) -> None:
    host.has(gpu(0))
    with leasing():
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
    try:
        with leasing() as again:
            assert uuids(again) == ["GPU-0"]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_an_error_inside_gives_the_devices_back(host: Host) -> None:
    host.has(gpu(0))
    with pytest.raises(ZeroDivisionError), leasing():
        raise ZeroDivisionError
    with leasing():
        pass
    assert not [name for name in os.listdir("/proc/self/fd") if "autoscorer-gpu" in _target(name)]


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


# --- all of them, or none ---------------------------------------------------------------------------------------


def test_what_is_free_goes_to_who_can_use_it_now(host: Host) -> None:
    host.has(gpu(0), gpu(1), gpu(2))
    with leasing(2):
        assert waits(2)
        with leasing(1) as one:  # who waits for two holds nothing
            assert uuids(one) == ["GPU-2"]


@pytest.mark.slow
def test_processes_that_want_two_of_three_all_come_to_their_end(start: Callable[..., Any], host: Host) -> None:
    host.has(gpu(0), gpu(1), gpu(2))
    processes = [start(number, 15) for number in (2, 2, 2, 3, 1)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 5
    assert "CLASH" not in "".join(outputs)
    assert [output.count("held") for output in outputs] == [15] * 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_device_has_two_holders_while_holders_are_killed(start: Callable[..., Any], host: Host, seed: int) -> None:
    host.has(gpu(0), gpu(1), mig(2, 1, 2))
    chance = random.Random(seed)
    processes = [start(chance.choice([1, 1, 2]), 1000) for _ in range(4)]
    outputs = []
    for _ in range(8):
        victim = processes.pop(0)
        held_by(victim)  # it is at work, and so is whoever waits for its devices
        time.sleep(chance.uniform(0, 0.1))
        victim.kill()
        outputs.append(victim.communicate()[0])
        processes.append(start(chance.choice([1, 1, 2]), 1000))
    for process in processes:
        process.kill()
        outputs.append(process.communicate()[0])
    assert "CLASH" not in "".join(outputs)
    with leasing(2) as leased:
        assert len(leased.gpus) == 2, "nothing is held by the dead"


OPERATIONS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([None, A100, T4, "A100-SXM4-80GB-MIG-1g.10gb"])) | st.integers(0, 5),
    max_size=14,
)


@pytest.mark.slow
@given(operations=OPERATIONS)
@profile(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_gets_devices_exactly_where_enough_of_one_type_are_free(host: Host, operations: list[Any]) -> None:
    """A pair asks for so many of a type, a number ends one of the runs that go on."""
    devices = {"GPU-0": A100, "GPU-1": A100, "GPU-2": T4, "MIG-3-1": "slice", "MIG-3-2": "slice"}
    host.has(gpu(0), gpu(1), gpu(2, name="Tesla T4", memory=16 * GiB), mig(3, 1, 2))
    runs: list[tuple[contextlib.ExitStack, list[str]]] = []
    free = set(devices)
    try:
        for operation in operations:
            if isinstance(operation, int):
                if operation < len(runs):
                    stack, had = runs.pop(operation)
                    stack.close()
                    free |= {*had}
                continue
            number, kind = operation
            wanted = "slice" if kind and "MIG" in kind else kind
            kinds = {wanted} if wanted else {A100, T4, "slice"} if number == 1 else {A100, T4}
            counts = {each: sum(devices[uuid] == each for uuid in devices) for each in kinds}
            possible = any(count >= number for count in counts.values())
            now = any(sum(devices[uuid] == each for uuid in free) >= number for each in kinds)
            stack = contextlib.ExitStack()
            try:
                asked = {} if kind is None else {"gpu_types": [kind]}
                got = uuids(stack.enter_context(leasing(number, **asked)))
            except AutoScorerError as error:
                assert not now
                expected = ErrorCode.CANCELLED if possible else ErrorCode.BACKEND_UNAVAILABLE
                assert error.code is expected
                continue
            runs.append((stack, got))
            assert len(set(got)) == number and {*got} <= free
            assert {devices[uuid] for uuid in got} <= kinds and len({devices[uuid] for uuid in got}) == 1
            free -= {*got}
    finally:
        for stack, _ in runs:
            stack.close()


# --- which ones -------------------------------------------------------------------------------------------------


def test_a_slice_and_its_gpu_exclude_each_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.has(mig(0, 1, 2))
    whole = {"gpu_types": [A100]}
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__DEVICES", '["GPU-0", "MIG-0-1", "MIG-0-2"]')
    with leasing(**whole) as gpu_itself:
        assert uuids(gpu_itself) == ["GPU-0"]
        assert waits(gpu_types=["A100-SXM4-80GB-MIG-1g.10gb"])
    with leasing() as first:
        with leasing() as second:
            assert {*uuids(first), *uuids(second)} == {"MIG-0-1", "MIG-0-2"}
            assert waits(**whole)
        assert waits(**whole), "one slice is enough"
    with leasing(**whole):
        pass


def test_the_smallest_that_will_do_and_all_of_one_type(host: Host) -> None:
    host.has(gpu(0), gpu(1, name="Tesla T4", memory=16 * GiB), gpu(2))
    with leasing() as small, leasing(gpu_memory="17Gi") as large:
        assert (uuids(small), uuids(large)) == (["GPU-1"], ["GPU-0"])
    with leasing(gpu_types=["H100", A100]) as named:
        assert uuids(named) == ["GPU-0"]
    with leasing(2) as two:
        assert uuids(two) == ["GPU-0", "GPU-2"], "and not one of each type"


@pytest.mark.parametrize(
    ("number", "asked", "told"),
    [
        (4, {}, "4 GPUs, and this host has never so many to give (GPUs: 2 × A100-SXM4-80GB, 1 × Tesla-T4)"),
        (3, {}, "3 GPUs"),
        (1, {"gpu_types": ["A100-SXM4-40GB"]}, "did you mean 'A100-SXM4-80GB'?"),
        (1, {"gpu_memory": "81Gi"}, "a GPU with 81 GiB"),
        (2, {"gpu_types": [T4]}, "2 GPUs of type Tesla-T4"),
    ],
)
def test_what_this_host_will_never_have_is_told_at_once(
    host: Host, number: int, asked: dict[str, Any], told: str
) -> None:
    host.has(gpu(0), gpu(1), gpu(2, name="Tesla T4", memory=16 * GiB))
    error = code_of(number, **asked)
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE and told in error.message


def test_the_reason_why_a_device_is_not_given_is_told(host: Host) -> None:
    host.has(gpu(0, mode=2))
    assert "Not given: GPU-0: its compute mode is Prohibited" in code_of().message


def test_type_and_memory_need_nvml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__DEVICES", '["GPU-1", "GPU-2"]')
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__LEASE_DIR", str(tmp_path))
    assert "pip install 'autoscorer[gpu]'" in code_of(gpu_types=[A100]).message
    assert "pip install 'autoscorer[gpu]'" in code_of(gpu_memory="1Gi").message
    with leasing() as first, leasing() as second:
        assert {*uuids(first), *uuids(second)} == {"GPU-1", "GPU-2"}
        assert waits()


# --- maxima -----------------------------------------------------------------------------------------------------


def test_the_most_of_a_type_that_a_home_has_at_a_time(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.has(gpu(0), gpu(1), gpu(2), gpu(3, name="Tesla T4", memory=16 * GiB))
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__MAX_PER_TYPE", f'{{"NVIDIA {A100}": 2, "H100": 9}}')
    with leasing(gpu_types=[A100]):
        assert waits(2, gpu_types=[A100])
        with leasing(gpu_types=[A100]):
            assert waits(gpu_types=[A100])
            with leasing() as other_type:
                assert uuids(other_type) == ["GPU-3"]
            monkeypatch.setenv("AUTOSCORER_HOME", str(tmp_path / "another"))
            with leasing(gpu_types=[A100]) as of_another_home:
                assert len(of_another_home.gpus) == 1
    with leasing(2) as two:
        assert len(two.gpus) == 2


def test_a_job_that_asks_for_more_than_the_most_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.has(gpu(0), gpu(1), gpu(2))
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__MAX_PER_TYPE", f'{{"{A100}": 2}}')
    error = code_of(3, gpu_types=[A100])
    assert error.code is ErrorCode.INVALID_META
    assert error.details == {"key": "resources.gpu", "value": 3, "maximum": 2}
    # Where it names no type, what there is decides.
    error = code_of(3)
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE and f"executors.gpu.max_per_type: {A100}: 2" in error.message
    with leasing(gpu_types=[A100, "H100"]):
        pass


# --- strangers --------------------------------------------------------------------------------------------------


def test_a_device_that_somebody_else_computes_on_is_not_given_out(host: Host) -> None:
    host.has(gpu(0, pids=[4711]), gpu(1, mps=[4712]), gpu(2))
    with leasing() as leased:
        assert uuids(leased) == ["GPU-2"]
        assert waits()
    host.has(gpu(0), gpu(1), gpu(2))
    with leasing() as leased:
        assert uuids(leased) == ["GPU-0"]


@pytest.mark.slow
def test_strangers_are_waited_for_a_while_and_then_the_operator_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STRANGERS_PATIENCE", 0.2)
    host.has(gpu(0, pids=[4711, 4712]))
    error = code_of(cancelled=lambda: False)
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert "GPU-0 has processes of others (4711, 4712)" in error.message
    # A run that has another device will end, so it is waited for.
    host.has(gpu(0, pids=[4711]), gpu(1))
    started = time.monotonic()
    with leasing():
        assert waits(cancelled=lambda: time.monotonic() > started + 1)


def test_where_gpus_may_be_shared_a_stranger_is_no_reason(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOW_SHARED_GPU", "true")
    host.has(gpu(0, pids=[4711]))
    with leasing() as leased:
        assert [(each.uuid, each.shared) for each in leased.gpus] == [("GPU-0", "processes of others")]
        assert waits(), "two runs of ours do not share one all the same"


def test_a_container_that_outlived_its_run_keeps_its_device(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.has(gpu(0), gpu(1))
    left = {"GPU-0"}
    with leasing(cancelled=lambda: False, held=lambda: frozenset(left)) as leased:
        assert uuids(leased) == ["GPU-1"]
    monkeypatch.setattr(lease, "STRANGERS_PATIENCE", 0.2)
    error = code_of(2, cancelled=lambda: False, held=lambda: frozenset(left))
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE and "autoscorer reap" in error.message
    calls = iter(range(100))

    def reaped_meanwhile() -> frozenset[str]:
        return frozenset(left) if next(calls) < 3 else frozenset()

    with leasing(2, cancelled=lambda: False, held=reaped_meanwhile) as both:
        assert len(both.gpus) == 2


def test_cancelled_while_it_waits(host: Host) -> None:
    host.has(gpu(0))
    stages = Stages()
    with leasing():
        error = code_of(cancelled=stages.waits.is_set, observer=stages)
    assert error.code is ErrorCode.CANCELLED and "waited for a GPU" in error.message


def test_a_device_that_comes_while_a_run_waits_is_seen(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LOOK_AGAIN", 0.0)
    host.has(gpu(0))

    class Adds(SilentObserver):
        def stage(self, name: str, detail: str = "") -> None:
            host.has(gpu(0), gpu(1))

    with leasing(), leasing(cancelled=lambda: False, observer=Adds()) as second:
        assert uuids(second) == ["GPU-1"]


# --- where the leases lie ---------------------------------------------------------------------------------------


def test_the_folder_of_the_leases_is_the_same_for_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    monkeypatch.setattr(lease, "is_in_container", lambda: False)
    everybodys = Path("/run/lock").stat().st_mode & 0o1002 == 0o1002
    assert lease_folder(load_settings()) == Path("/run/lock" if everybodys else "/dev/shm")
    monkeypatch.setattr(lease, "is_in_container", lambda: True)
    assert lease_folder(load_settings()) == home / "slots", "another container has another /run/lock"
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__LEASE_DIR", str(tmp_path))
    assert lease_folder(load_settings()) == tmp_path


def test_leases_in_the_home_hold_too(host: Host, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOSCORER_EXECUTORS__GPU__LEASE_DIR")
    monkeypatch.setattr(lease, "is_in_container", lambda: True)
    host.has(gpu(0))
    with leasing():
        assert waits() and (home / "slots" / "autoscorer-gpu.GPU-0").is_file()


def test_a_folder_that_is_not_there_is_told(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.has(gpu(0))
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__LEASE_DIR", str(tmp_path / "missing"))
    error = code_of()
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE and "executors.gpu.lease_dir" in error.message
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "autoscorer-gpu.GPU-0").symlink_to("/etc/passwd")
    assert "executors.gpu.lease_dir" in code_of().message, "a link is not followed"
