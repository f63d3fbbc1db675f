"""Why a run failed: the table of cases is the promise, and what names the cause wins over what names the symptom."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from autoscorer.core.errors import ErrorCode, Fault, Stage
from autoscorer.core.text import strip
from autoscorer.executors.base import Ending, Interruption, KillReason, RunLimits
from autoscorer.executors.verdict import verdict
from hypothesis import settings

settings.register_profile("autoscorer", deadline=None)
settings.load_profile("autoscorer")

LIMITS = RunLimits(
    cpu=1, memory=2 * 1024**3, gpu=0, disk=1024**3, shm_size=64 * 1024**2, timeout=60, pids=256, nofile=1024,
    tmp=256 * 1024**2, output_files=100, log=1024,
)  # fmt: skip
K = KillReason
AWAY, STOPPED = Interruption.ENGINE_AWAY, Interruption.STOPPED
OURS = "BACKEND_UNAVAILABLE"
OUT = "RESOURCE_ERROR"
FULL_DISK = "OSError: [Errno 28] No space left on device\n"
NO_MEMORY = 'Traceback (most recent call last):\n  File "p.py", line 1\nMemoryError\n'
NO_FORK = "bash: fork: retry: Resource temporarily unavailable\n"

# (id, ending, code, resource)
CASES: list[tuple[str, Ending, str | None, str | None]] = [
    ("success", Ending(exit_code=0), None, None),
    ("success whatever the log says", Ending(exit_code=0, log_tail=FULL_DISK + NO_MEMORY + NO_FORK), None, None),
    ("success though forks were denied", Ending(exit_code=0, forks_denied=50), None, None),
    ("success though a worker was killed for memory", Ending(exit_code=0, oom_killed=True), None, None),
    ("exit 1", Ending(exit_code=1), "CONTAINER_FAILED", None),
    ("exit 255", Ending(exit_code=255), "CONTAINER_FAILED", None),
    ("not executable", Ending(exit_code=126), "CONTAINER_FAILED", None),
    ("no such command", Ending(exit_code=127), "CONTAINER_FAILED", None),
    ("segmentation fault", Ending(exit_code=139), "CONTAINER_FAILED", None),
    ("killed by nobody we know", Ending(exit_code=137), "CONTAINER_FAILED", None),
    ("nobody saw the end", Ending(exit_code=None), "CONTAINER_FAILED", None),
    # What the kernel or the supervisor saw.
    ("out of memory", Ending(exit_code=137, oom_killed=True), OUT, "memory"),
    ("out of memory, exit 1 from the parent", Ending(exit_code=1, oom_killed=True), OUT, "memory"),
    ("out of memory, nobody saw the end", Ending(exit_code=None, oom_killed=True), OUT, "memory"),
    ("deadline", Ending(exit_code=137, killed_for=K.DEADLINE), "TIMEOUT_ERROR", None),
    ("deadline, and nobody saw the end", Ending(exit_code=None, killed_for=K.DEADLINE), "TIMEOUT_ERROR", None),
    # SIGKILL leaves 137 and nothing else: these had ended before it came, and the news of it were late.
    ("it had ended well before the kill", Ending(exit_code=0, killed_for=K.DEADLINE), None, None),
    ("it had failed before the kill", Ending(exit_code=3, killed_for=K.DEADLINE), "CONTAINER_FAILED", None),
    ("the engine had gone before the kill", Ending(exit_code=143, killed_for=K.DEADLINE, interrupted=AWAY), OURS, None),
    ("too much output", Ending(exit_code=137, killed_for=K.DISK), OUT, "disk"),
    ("too many files", Ending(exit_code=137, killed_for=K.FILES), OUT, "files"),
    ("fork bomb", Ending(exit_code=137, killed_for=K.PROCESSES), OUT, "processes"),
    ("cancelled", Ending(exit_code=137, killed_for=K.CANCELLED), "CANCELLED", None),
    ("file size limit, by its signal", Ending(exit_code=153), OUT, "disk"),
    ("forks denied", Ending(exit_code=1, forks_denied=1), OUT, "processes"),
    ("hidden open files", Ending(exit_code=137, killed_for=K.HIDING), OUT, "disk"),
    # What came from outside is ours, whatever exit code it left and whatever the log says.
    ("the engine was killed", Ending(exit_code=143, interrupted=AWAY), OURS, None),
    ("the engine and all of its containers were killed", Ending(exit_code=255, interrupted=AWAY), OURS, None),
    ("the engine came back without the container", Ending(exit_code=None, interrupted=AWAY), OURS, None),
    ("the engine was shut down", Ending(exit_code=1, interrupted=STOPPED, log_tail=NO_MEMORY), OURS, None),
    ("docker kill", Ending(exit_code=137, interrupted=STOPPED, forks_denied=3), OURS, None),
    ("it succeeded while the engine was away", Ending(exit_code=0, interrupted=AWAY), None, None),
    ("the kernel killed it for memory, and then the engine went",
     Ending(exit_code=137, oom_killed=True, interrupted=AWAY), OUT, "memory"),
    ("its deadline had passed, and then the engine went",
     Ending(exit_code=137, killed_for=K.DEADLINE, interrupted=AWAY), "TIMEOUT_ERROR", None),
    ("cancelled, and the engine went", Ending(exit_code=143, killed_for=K.CANCELLED, interrupted=AWAY), "CANCELLED",
     None),
    # What only the log tells.
    ("ENOSPC in the log", Ending(exit_code=1, log_tail=FULL_DISK), OUT, "disk"),
    ("EFBIG in the log", Ending(exit_code=1, log_tail="OSError: [Errno 27] File too large"), OUT, "disk"),
    ("EDQUOT in the log", Ending(exit_code=1, log_tail="Disk quota exceeded"), OUT, "disk"),
    ("MemoryError in the log", Ending(exit_code=1, log_tail=NO_MEMORY), OUT, "memory"),
    ("numpy's own", Ending(exit_code=1, log_tail="numpy._core._exceptions.MemoryError: Unable to"), OUT, "memory"),
    ("bad_alloc in the log", Ending(exit_code=134, log_tail="what():  std::bad_alloc"), OUT, "memory"),
    ("fork refused in the log", Ending(exit_code=254, log_tail=NO_FORK), OUT, "processes"),
    ("thread refused in the log", Ending(exit_code=1, log_tail="can't start new thread"), OUT, "processes"),
    ("a word alone is nothing", Ending(exit_code=1, log_tail="no MemoryError here"), "CONTAINER_FAILED", None),
    ("errno 2 is not errno 28", Ending(exit_code=1, log_tail="[Errno 2] No such file"), "CONTAINER_FAILED", None),
    ("the word far up in the log", Ending(exit_code=1, log_tail=FULL_DISK + "ok\n" * 30), "CONTAINER_FAILED", None),
    # Several at once: the cause wins.
    ("killed for memory, parent waits till the deadline",
     Ending(exit_code=137, oom_killed=True, killed_for=K.DEADLINE), OUT, "memory"),
    ("fork bomb ends by the deadline", Ending(exit_code=137, killed_for=K.DEADLINE, forks_denied=9), OUT, "processes"),
    ("memory before forks at the deadline",
     Ending(exit_code=137, killed_for=K.DEADLINE, oom_killed=True, forks_denied=9), OUT, "memory"),
    ("cancelled whatever else", Ending(exit_code=137, oom_killed=True, killed_for=K.CANCELLED, forks_denied=9,
     log_tail=FULL_DISK), "CANCELLED", None),
    ("disk kill whatever the kernel saw", Ending(exit_code=137, oom_killed=True, killed_for=K.DISK), OUT, "disk"),
    ("the deadline is no matter of the log",
     Ending(exit_code=137, killed_for=K.DEADLINE, log_tail=FULL_DISK), "TIMEOUT_ERROR", None),
    ("the kernel knows better than the log", Ending(exit_code=1, oom_killed=True, log_tail=FULL_DISK), OUT, "memory"),
    ("disk before memory in the log", Ending(exit_code=1, log_tail=NO_MEMORY + FULL_DISK), OUT, "disk"),
    ("memory before denied forks", Ending(exit_code=1, log_tail=NO_MEMORY, forks_denied=1), OUT, "memory"),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "code", "resource"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_table(ending: Ending, code: str | None, resource: str | None) -> None:
    error = verdict(ending, LIMITS)
    if code is None:
        assert error is None
        return
    assert error is not None and error.code == code
    assert error.stage is Stage.EXECUTION
    assert error.spec.fault is (Fault.SYSTEM if code == OURS else Fault.SUBMISSION)
    assert error.details.get("resource") == resource
    assert error.details["exit_code"] == ending.exit_code


def test_the_ids_of_the_table_are_different() -> None:
    assert len({case[0] for case in CASES}) == len(CASES)


def every_ending() -> list[Ending]:
    return [
        Ending(exit_code=code, oom_killed=oom, killed_for=reason, interrupted=other, forks_denied=denied, log_tail=log)
        for code, oom, reason, other, denied, log in itertools.product(
            (None, 0, 1, 126, 127, 137, 153, 192),
            (False, True),
            (None, *K),
            (None, *Interruption),
            (0, 3),
            ("", FULL_DISK, NO_MEMORY, NO_FORK),
        )
    ]


def test_only_an_exit_code_of_0_that_nobody_forced_is_a_success() -> None:
    for ending in every_ending():
        forced = ending.killed_for not in (None, K.DEADLINE)  # at the deadline it would not be 0
        assert (verdict(ending, LIMITS) is None) == (ending.exit_code == 0 and not forced), ending


def test_the_log_only_names_a_failure_and_never_makes_or_hides_one() -> None:
    for ending in every_ending():
        silent = verdict(replace(ending, log_tail=""), LIMITS)
        spoken = verdict(ending, LIMITS)
        assert (silent is None) == (spoken is None)
        if silent is not None and spoken is not None and silent.code is not ErrorCode.CONTAINER_FAILED:
            # What was seen from outside stands, whatever the model writes; but for a cause the log names more exactly.
            assert spoken.code is silent.code, ending


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (126, "not executable"), (127, "does not exist"), (137, "SIGKILL"), (139, "SIGSEGV"), (143, "SIGTERM"),
        (200, "code 200"), (255, "code 255"), (3, "code 3"), (None, "nobody saw"), (10**6, "code 1000000"),
    ],
)  # fmt: skip
def test_an_exit_code_is_told_in_words(code: int | None, words: str) -> None:
    error = verdict(Ending(exit_code=code), LIMITS)
    assert error is not None and words in error.message


def test_the_numbers_of_the_limits_are_told() -> None:
    def message(**seen: object) -> str:
        error = verdict(Ending(exit_code=137, **seen), LIMITS)  # type: ignore[arg-type]
        assert error is not None
        return error.message

    assert "2 GiB" in message(oom_killed=True)
    assert "1 GiB" in message(killed_for=K.DISK) and "256 MiB" in message(killed_for=K.DISK)
    assert "256 processes" in message(killed_for=K.PROCESSES)
    assert "60 s" in message(killed_for=K.DEADLINE)
    assert "100 files" in message(killed_for=K.FILES)


def test_the_last_lines_of_the_log_come_clean_in_the_details() -> None:
    log = "".join(f"line {number}\r\n" for number in range(100)) + "\x1b[31mred\x1b[0m\x07\n"
    error = verdict(Ending(exit_code=1, log_tail=log), LIMITS)
    assert error is not None
    assert error.details["log"] == [*(f"line {number}" for number in range(81, 100)), "red"]


def test_a_hostile_line_costs_no_time_that_grows_with_its_square() -> None:
    for text in ("\x1b[" * 200_000, "\x1b]" + "a" * 400_000, "\x1b[" + "0;" * 200_000, "\x1b]\x1b" * 100_000):
        strip(text)
    log = ("a." * 8192 + "fork" * 8192)[-8192:]  # as much as is ever looked at
    assert verdict(Ending(exit_code=1, log_tail=log), LIMITS) is not None
