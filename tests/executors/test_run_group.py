"""The control group of a run: its files under version 2, which a kernel with version 1 can't show, and its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from autoscorer.executors.base import Usage
from autoscorer.executors.bubblewrap.group import RunGroup, group_name

from .test_process_executor import LIMITS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As the kernel's, but that what is made in a folder does not appear there by itself."""
    folder = tmp_path / "cgroup"
    (folder / "autoscorer").mkdir(parents=True)
    (folder / "cgroup.controllers").write_text("cpu io memory pids\n")
    for each in (folder, folder / "autoscorer"):
        (each / "cgroup.subtree_control").write_text("")
    return folder


def test_version_2_is_told_the_limits_and_asked_what_was_used(root: Path) -> None:
    group = RunGroup.make("abc", LIMITS, root)
    assert group is not None and group.is_unified
    one = root / "autoscorer" / group_name("abc")
    assert (one / "memory.max").read_text() == str(LIMITS.memory)
    assert (one / "memory.swap.max").read_text() == "0"
    assert (one / "pids.max").read_text() == str(LIMITS.pids)
    assert (one / "cpu.max").read_text() == "100000 100000"
    for each in (root, root / "autoscorer"):
        assert (each / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert group.joins == [one / "cgroup.procs"]
    (one / "memory.peak").write_text("123\n")
    (one / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (one / "pids.events").write_text("max 7\n")
    assert group.reader.read(Usage()) == Usage(peak_memory=123, cpu_seconds=2.5, forks_denied=7)
    for text, killed in (("low 0\noom 3\noom_kill 0\n", False), ("low 0\noom 3\noom_kill 1\n", True)):
        (one / "memory.events").write_text(text)
        assert group.was_out_of_memory() is killed


def test_where_none_can_be_made_there_is_none_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu\n")  # and no way to hand them on
    assert RunGroup.make("abc", LIMITS, tmp_path) is None
    assert RunGroup.can_be_made(tmp_path) is False
    assert not list(tmp_path.glob("**/autoscorer-*"))


def test_version_1_without_a_controller_for_memory_is_none(tmp_path: Path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("3:pids:/\n2:cpu,cpuacct:/\n")
    for name in ("pids", "cpu"):
        (tmp_path / name).mkdir()
    assert RunGroup.make("abc", LIMITS, tmp_path, tmp_path / "proc") is None
    assert not list(tmp_path.glob("**/autoscorer-*"))
