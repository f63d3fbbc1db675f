"""An owner is dead only when that is certain."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from autoscorer.core.provenance import Owner, hostname, sha256_file, utc_now


def parts() -> list[str]:
    return Owner.current().text.split("|")


def changed(index: int, value: str) -> Owner:
    fields = parts()
    fields[index] = value
    return Owner("|".join(fields))


HOST, BOOT, NAMESPACE, PID, STARTED = range(5)


def of(pid: int) -> Owner:
    fields = parts()
    fields[PID] = str(pid)
    fields[STARTED] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return Owner("|".join(fields))


def test_this_process_lives() -> None:
    owner = Owner.current()
    assert not owner.is_dead() and not Owner(owner.text).is_dead()
    fields = parts()
    assert fields[HOST] == hostname() and fields[PID] == str(os.getpid()) and all(fields)


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


def test_another_boot_of_this_host_is_the_end_of_every_process() -> None:
    assert changed(BOOT, "00000000-0000-0000-0000-000000000000").is_dead()


@pytest.mark.parametrize("pid", ["1", "999999999", pytest.param(parts()[PID], id="own")])
def test_another_host_or_namespace_can_not_be_judged_from_here(pid: str) -> None:
    for index in (HOST, NAMESPACE):
        fields = parts()
        fields[index], fields[PID] = "elsewhere", pid
        assert not Owner("|".join(fields)).is_dead()


@pytest.mark.parametrize("pid", ["", "-1", "x", "²", "٣", "1.0", "9" * 5000, "1/../1"])
def test_a_pid_that_is_none_is_never_certainly_dead(pid: str) -> None:
    assert not changed(PID, pid).is_dead()


@pytest.mark.parametrize("text", ["", "|", "||||", "a|b|c", "a|b|c|d|e|f", "\0", hostname()])
def test_a_text_that_names_no_owner_is_never_certainly_dead(text: str) -> None:
    assert not Owner(text).is_dead()


def test_digest_and_time_have_their_forms(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).digest()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", utc_now())
