"""A process is known again for certain, and ends with all that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from autoscorer.core import processes
from autoscorer.core.processes import ProcessIdentity
from autoscorer.core.provenance import hostname


def parts() -> list[str]:
    return ProcessIdentity.current().text.split("|")


def changed(index: int, value: str) -> ProcessIdentity:
    fields = parts()
    fields[index] = value
    return ProcessIdentity("|".join(fields))


HOST, BOOT, NAMESPACE, MACHINE, PID, STARTED = range(6)


def of(pid: int) -> ProcessIdentity:
    fields = parts()
    fields[PID] = str(pid)
    fields[STARTED] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ProcessIdentity("|".join(fields))


def test_this_process_lives() -> None:
    owner = ProcessIdentity.current()
    assert not owner.is_dead() and not ProcessIdentity(owner.text).is_dead()
    fields = parts()
    assert fields[HOST] == hostname() and fields[PID] == str(os.getpid())
    assert len(fields) == 6 and all(fields[:MACHINE] + fields[PID:])


def test_a_process_is_alive_until_it_was_killed_a_zombie_counts_as_dead() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        owner = of(process.pid)
        assert not owner.is_dead()
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owner.is_dead()
    finally:
        process.kill()
        process.wait()
    assert owner.is_dead()


def test_a_reused_pid_is_told_by_its_start_time() -> None:
    assert changed(STARTED, str(int(parts()[STARTED]) - 1)).is_dead()
    assert changed(STARTED, "0").is_dead()


def test_a_process_with_a_confusing_name_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    try:
        assert not of(process.pid).is_dead()
    finally:
        process.kill()
        process.wait()


ANOTHER_BOOT = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives this machine an id; an empty one takes it away."""

    def be(text: str) -> None:
        file = tmp_path / "machine-id"
        file.write_text(text)
        monkeypatch.setattr(processes, "_MACHINE_IDS", (file,))
        # Wherever these tests run.
        monkeypatch.setattr(processes, "_FIRST_PID_NAMESPACE", parts()[NAMESPACE])

    return be


def test_another_boot_of_this_machine_is_the_end_of_every_process(machine: Callable[[str], None]) -> None:
    machine("a" * 32)
    assert changed(BOOT, ANOTHER_BOOT).is_dead()
    assert changed(BOOT, ANOTHER_BOOT).is_in_sight


@pytest.mark.parametrize("ids", [("a" * 32, "b" * 32), ("a" * 32, ""), ("", "b" * 32), ("", ""), ("same", "same")])
def test_another_machine_of_the_same_name_is_no_earlier_boot_of_this_one(
    machine: Callable[[str], None], ids: tuple[str, str]
) -> None:
    machine(ids[0])
    owners = [changed(BOOT, ANOTHER_BOOT), changed(STARTED, "1")]
    machine(ids[1])
    # Without ids of their own, two machines and two boots of one look the same.
    assert not owners[0].is_dead() and not owners[0].is_in_sight
    assert owners[1].is_dead() == (not (ids[0] and ids[1]) or ids[0] == ids[1])


def test_a_container_takes_no_machine_id_from_its_image(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("a" * 32)
    assert parts()[MACHINE] and "a" * 32 not in ProcessIdentity.current().text
    monkeypatch.setattr(processes, "_FIRST_PID_NAMESPACE", "1")
    assert parts()[MACHINE] == ""


def test_an_owner_of_an_earlier_autoscorer_is_judged_as_before() -> None:
    fields = parts()
    del fields[MACHINE]
    assert not ProcessIdentity("|".join(fields)).is_dead() and ProcessIdentity("|".join(fields)).is_in_sight
    assert ProcessIdentity("|".join([*fields[:-1], "1"])).is_dead()
    assert ProcessIdentity("|".join([fields[0], ANOTHER_BOOT, *fields[2:]])).is_dead()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes and sees every PID namespace")
def test_a_container_is_gone_when_no_process_of_it_is_left() -> None:
    code = (
        "from autoscorer.core.processes import ProcessIdentity\n"
        "print(ProcessIdentity.current().text, flush=True); input()"
    )
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    inside = ProcessIdentity(process.stdout.readline().strip())
    assert not inside.is_dead() and not inside.is_in_sight and not inside.is_of_gone_container()
    process.communicate("\n", timeout=300)
    assert inside.is_of_gone_container() and not ProcessIdentity.current().is_of_gone_container()
    assert not ProcessIdentity("other-host|b|1||1|1").is_of_gone_container()


@pytest.mark.parametrize("pid", ["1", "999999999", pytest.param(parts()[PID], id="own")])
def test_another_host_or_namespace_can_not_be_judged_from_here(pid: str) -> None:
    for index in (HOST, NAMESPACE):
        fields = parts()
        fields[index], fields[PID] = "elsewhere", pid
        assert not ProcessIdentity("|".join(fields)).is_dead()


@pytest.mark.parametrize("pid", ["", "-1", "x", "²", "٣", "1.0", "9" * 5000, "1/../1"])
def test_a_pid_that_is_none_is_never_certainly_dead(pid: str) -> None:
    assert not changed(PID, pid).is_dead()


@pytest.mark.parametrize("text", ["", "|", "||||", "|||||", "a|b|c", "a|b|c|d|e|f", "a|b|c|d|e|f|g", "\0", hostname()])
def test_a_text_that_names_no_owner_is_never_certainly_dead(text: str) -> None:
    assert not ProcessIdentity(text).is_dead()


# --- ending processes ------------------------------------------------------------------------------------


def run(code: str, **options: object) -> subprocess.Popen[str]:
    """A Python process that says something on its standard output."""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def gone(pid: int) -> bool:
    """Whether a process has ended, within a generous time."""
    for _ in range(3000):
        if not Path(f"/proc/{pid}").exists() or processes._stat(Path(f"/proc/{pid}"))[0] in "ZX":
            return True
        time.sleep(0.01)
    return False


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_child_dies_with_its_parent_however_that_dies() -> None:
    parent = run(
        "import os, time\n"
        "from autoscorer.core.processes import die_with_parent\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    die_with_parent(parent)\n"
        "    print(os.getpid(), flush=True)\n"
        "time.sleep(300)\n"
    )
    child = int(said(parent))
    end(parent)
    assert gone(child)


def test_a_child_whose_parent_has_died_already_ends_at_once() -> None:
    process = run(
        "import os, time\n"
        "from autoscorer.core.processes import die_with_parent\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    while os.getppid() == parent: time.sleep(0.01)\n"
        "    print(os.getpid(), flush=True)\n"
        "    die_with_parent(parent)\n"
        "    print('it lives', flush=True)\n"
    )
    assert process.stdout is not None
    assert process.stdout.read().split()[1:] == []
    end(process)


def test_orphans_of_children_are_adopted() -> None:
    process = run(
        "import os, time\n"
        "from autoscorer.core.processes import adopt_orphans\n"
        "adopt_orphans()\n"
        "ours, theirs = os.pipe()\n"
        "if (child := os.fork()) == 0:\n"
        "    if os.fork() == 0:\n"
        "        os.read(ours, 1)\n"
        "        os.write(1, f'{os.getppid()}\\n'.encode())\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "os.write(theirs, b'.')\n"
        "os.waitpid(-1, 0)\n"
    )
    assert int(said(process)) == process.pid
    end(process)


def test_an_exit_is_noticed_and_keeps_its_number() -> None:
    process = run("input()", stdin=subprocess.PIPE)
    assert not processes.has_exited(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert gone(process.pid)
    assert processes.has_exited(process.pid) and processes.has_exited(process.pid)
    assert Path(f"/proc/{process.pid}").exists()
    assert process.stdin is not None
    process.stdin.close()
    end(process)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        processes.has_exited(process.pid)


def test_a_session_is_killed_whole_with_those_that_left_the_group_and_no_other() -> None:
    code = (
        "import os, time\n"
        "pids = [os.getpid()]\n"
        "for _ in range(2):\n"
        "    ours, theirs = os.pipe()\n"
        "    if (pid := os.fork()) == 0:\n"
        "        os.setpgid(0, 0); os.write(theirs, b'.'); time.sleep(300)\n"
        "    os.read(ours, 1); pids.append(pid)\n"
        "print(*pids, flush=True); time.sleep(300)\n"
    )
    first, other = run(code, start_new_session=True), run(code, start_new_session=True)
    killed, kept = ([int(pid) for pid in said(process).split()] for process in (first, other))
    processes.kill_session(first.pid)
    assert all(gone(pid) for pid in killed)
    assert all(processes._stat(Path(f"/proc/{pid}"))[0] in "SR" for pid in kept)
    processes.kill_session(other.pid)
    end(first)
    end(other)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (255, "exit code 255"), (-9, "SIGKILL"), (-15, "SIGTERM"),
     (-40, "signal 40"), (-64, "SIGRTMAX"), (-1000, "signal 1000")],
)  # fmt: skip
def test_an_exit_is_described(code: int, words: str) -> None:
    assert processes.describe_exit(code) == words
