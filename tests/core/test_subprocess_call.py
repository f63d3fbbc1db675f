"""Whatever code does in a process of its own, there is an answer or a reason, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from autoscorer.core.subprocess_call import SubprocessFailed, call_in_subprocess

MODULE = """
import os, signal, subprocess, sys, threading, time
from autoscorer.core.subprocess_call import answer_call

def work(question):
    if "note" in question:
        open(question["note"], "w").write(f"{os.getpid()} {os.getppid()}\\n")
    exec(question["do"])
    return {"heard": question["do"]}

if __name__ == "__main__":
    answer_call(work)
"""


@pytest.fixture
def module(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "called_apart.py").write_text(MODULE)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}


def call(
    env: dict[str, str], do: str, *, seconds: float = 300, stop: threading.Event | None = None, **more: str
) -> object:
    return call_in_subprocess("called_apart", {"do": do, **more}, seconds=seconds, env=env, stop=stop)


def is_gone(pid: int) -> bool:
    for _ in range(3000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_the_answer_comes_back_and_what_is_printed_does_not(
    module: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(module, "print('noise'); sys.stderr.write('noise')") == {
        "heard": "print('noise'); sys.stderr.write('noise')"
    }
    assert "noise" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("do", "why"),
    [
        ("os._exit(3)", "ended its process (exit code 3)"),
        ("sys.exit(4)", "ended its process (exit code 4)"),
        ("os.kill(os.getpid(), 11)", "ended its process (SIGSEGV)"),
        ("os.kill(os.getppid(), 9); time.sleep(300)", "ended its process (SIGKILL)"),
        ("os.killpg(0, 9)", "ended its process (SIGKILL)"),
    ],
)
def test_who_ends_the_process_is_told_of(module: dict[str, str], do: str, why: str) -> None:
    with pytest.raises(SubprocessFailed) as caught:
        call(module, do)
    assert str(caught.value).startswith(why) and not caught.value.took_too_long


@pytest.mark.slow
def test_who_hangs_is_killed_with_all_it_has_started(module: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SubprocessFailed, match=r"did not end within 3 s and was killed") as caught:
        call(
            module,
            "child = subprocess.Popen(['sleep', '300'])\n"
            "open(question['note'], 'a').write(str(child.pid))\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)",
            seconds=3,
            note=str(tmp_path / "pids"),
        )
    assert caught.value.took_too_long
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3 and all(is_gone(pid) for pid in pids)


def test_it_is_given_up_when_told_to_stop(module: dict[str, str]) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    with pytest.raises(SubprocessFailed, match="because this process ends"):
        call(module, "time.sleep(300)", stop=stop)
    timer.join()


def test_threads_that_it_leaves_do_not_keep_it(module: dict[str, str]) -> None:
    assert call(module, "threading.Thread(target=time.sleep, args=(300,)).start()")


@pytest.mark.slow
def test_it_does_not_outlive_the_one_who_asked(module: dict[str, str], tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from autoscorer.core.subprocess_call import call_in_subprocess\n"
            "question = {'do': 'time.sleep(300)', 'note': sys.argv[1]}\n"
            "call_in_subprocess('called_apart', question, seconds=1)",
            str(note),
        ],
        env={**os.environ, **module},
    ) as asker:
        for _ in range(3000):
            if note.exists() and note.read_text().endswith("\n"):
                break
            time.sleep(0.01)
        os.kill(asker.pid, signal.SIGKILL)
    # Within its time and five seconds more, by an alarm of its own.
    assert all(is_gone(int(pid)) for pid in note.read_text().split())
