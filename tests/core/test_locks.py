"""A lock is one process's at a time, and nobody's once its holder is dead."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from autoscorer.core.locks import (
    acquire,
    held,
    is_at,
    is_locked,
    lock_byte,
    open_lock,
    open_shared_lock,
    try_lock,
    unlock,
    unlock_byte,
    wait_lock,
)

Hold = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def hold(path: Path) -> Iterator[Hold]:
    """Start a process that does something with the lock, says so, and holds it until its standard input ends."""
    started: list[subprocess.Popen[str]] = []

    def start(do: str) -> subprocess.Popen[str]:
        code = (
            "import sys\nfrom pathlib import Path\nfrom autoscorer.core.locks import *\n"
            f"path = Path(sys.argv[1])\n{do}\nprint('held', flush=True); sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_lock_is_one_holders_and_free_when_that_is_killed(hold: Hold, path: Path) -> None:
    other = hold("assert acquire(path) is not None")
    assert said(other) == "held"
    assert acquire(path) is None and is_locked(path)
    kill(other)
    assert not is_locked(path)
    fd = acquire(path)
    assert fd is not None and acquire(path) is None  # another open file of the same process counts as another holder
    os.close(fd)
    assert not is_locked(path)


def test_who_waits_has_it_when_the_holder_is_gone(hold: Hold, path: Path) -> None:
    first = hold("fd = acquire(path)")
    assert said(first) == "held"
    second = hold("block = held(path); block.__enter__()")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.5)
    kill(first)
    assert said(second) == "held" and is_locked(path)


def test_a_block_lets_go_when_it_raises(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with pytest.raises(ZeroDivisionError), held(path):
        assert is_locked(path)
        raise ZeroDivisionError
    assert not is_locked(path)


def test_asking_makes_no_file_and_keeps_nobody_out(path: Path) -> None:
    assert not is_locked(path) and not path.exists()
    fd = open_lock(path)
    assert not is_locked(path) and try_lock(fd)
    os.close(fd)


def test_a_lock_is_never_a_file_that_a_link_leads_to(tmp_path: Path, path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    with pytest.raises(OSError):
        acquire(path)
    assert not is_locked(path) and target.read_text() == "precious"


def test_a_lock_that_was_removed_meanwhile_is_told(path: Path) -> None:
    fd = open_lock(path)
    assert is_at(fd, path)
    path.unlink()
    assert not is_at(fd, path)
    path.touch()
    assert not is_at(fd, path)
    os.close(fd)


def test_bytes_are_locked_one_by_one_and_free_when_the_holder_is_killed(hold: Hold, path: Path) -> None:
    far = 2_147_483_647
    other = hold(f"fd = open_lock(path); assert lock_byte(fd, 7) and lock_byte(fd, {far})")
    assert said(other) == "held"
    fd = open_lock(path)
    assert not lock_byte(fd, 7) and not lock_byte(fd, far) and lock_byte(fd, 8)
    kill(other)
    assert lock_byte(fd, 7) and lock_byte(fd, far)
    assert path.stat().st_size == 0
    os.close(fd)


def test_a_byte_is_free_once_it_is_let_go_of_though_a_fork_has_the_file_open(path: Path) -> None:
    fd, other = open_lock(path), open_lock(path)
    assert lock_byte(fd, 3)
    child = subprocess.Popen(["sleep", "300"], pass_fds=[fd])
    assert not lock_byte(other, 3)
    unlock_byte(fd, 3)
    assert lock_byte(other, 3)
    child.kill()
    child.wait()
    os.close(fd)
    os.close(other)


def test_a_lock_that_every_user_may_have_whoever_made_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    before = os.umask(0o077)
    try:
        first = open_shared_lock(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["lock"]
    path.chmod(0o444)  # as somebody sees it who may not write to it
    second = open_shared_lock(path)
    assert try_lock(first) and not try_lock(second)
    unlock(first)
    assert try_lock(second, shared=True) and try_lock(first, shared=True)
    unlock(first)
    third = open_shared_lock(path)
    assert not try_lock(third), "one that is shared is held all the same"
    for fd in (first, second, third):
        os.close(fd)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        open_shared_lock(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("maker", [0, 65534])
def test_users_share_a_lock_in_a_folder_of_everybody(maker: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders are for their user alone
        folder = Path(name)
        folder.chmod(0o1777)
        other = 65534 - maker
        assert _as_user(maker, lambda: open_shared_lock(folder / "lock") and True)
        assert (folder / "lock").stat().st_uid == maker
        mine = open_shared_lock(folder / "lock")
        assert _as_user(other, lambda: try_lock(open_shared_lock(folder / "lock")))
        assert try_lock(mine)
        for user in (maker, other):
            assert not _as_user(user, lambda: try_lock(open_shared_lock(folder / "lock")))
        os.close(mine)


def _as_user(uid: int, ask: Callable[[], bool]) -> bool:
    """What a process of another user is answered."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(0o077)
            code = 0 if ask() else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1), "it failed"
    return code == 0


def test_a_shared_lock_is_many_ones_and_shuts_out_who_wants_it_alone(path: Path, hold: Hold) -> None:
    sharing = hold("fd = open_lock(path); wait_lock(fd, shared=True)")
    assert sharing.stdout and sharing.stdout.readline() == "held\n"
    fd, other = open_lock(path), open_lock(path)
    wait_lock(fd, shared=True)
    assert not try_lock(other) and is_locked(path) is False, "who only looks would share it, too"
    os.close(fd)
    assert not try_lock(other)
    waiting = hold("fd = open_lock(path); wait_lock(fd)")
    sharing.communicate(timeout=60)
    assert waiting.stdout and waiting.stdout.readline() == "held\n"
    assert not try_lock(other) and is_locked(path)
    os.close(other)
