"""A container's control group is found by its id, wherever and in whichever version it lies, and never another's."""

from __future__ import annotations

from pathlib import Path

import pytest
from autoscorer.executors.base import Usage
from autoscorer.executors.cgroup import CgroupReader

ID = "4f" * 32
OTHER = "e0" * 32


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _version_2(root: Path, folder: str) -> None:
    _write(
        root / folder,
        {
            "memory.peak": "4096\n",
            "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
            "pids.events": "max 7\n",
            "cgroup.procs": "0\n",
        },
    )


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        pytest.param(f"/docker/{ID}", f"docker/{ID}", id="cgroupfs"),
        pytest.param(f"/system.slice/docker-{ID}.scope", f"system.slice/docker-{ID}.scope", id="systemd"),
        pytest.param(f"/../{ID}", f"docker/{ID}", id="a-neighbour's-view"),
        pytest.param(f"/../docker-{ID}.scope", f"system.slice/docker-{ID}.scope", id="a-neighbour's-view-with-systemd"),
    ],
)
def test_version_2(tmp_path: Path, path: str, folder: str) -> None:
    _write(tmp_path / "proc", {"42/cgroup": f"0::{path}\n"})
    _version_2(tmp_path / "cgroup", f"docker/{OTHER}")
    _version_2(tmp_path / "cgroup", folder)
    reader = CgroupReader.of(42, ID, tmp_path / "proc", (tmp_path / "nothing", tmp_path / "cgroup"))
    assert reader is not None and reader.members == tmp_path / "cgroup" / folder / "cgroup.procs"
    assert reader.read(Usage()) == Usage(peak_memory=4096, cpu_seconds=1.5, forks_denied=7)
    assert reader.counts_refused_forks()


def test_version_1(tmp_path: Path) -> None:
    controllers = "4:memory:/docker/{0}\n8:pids:/docker/{0}\n1:cpu,cpuacct:/docker/{0}\n0::/\n"
    _write(tmp_path / "proc", {"42/cgroup": controllers.format(ID)})
    _write(
        tmp_path / "cgroup",
        {
            f"memory/docker/{ID}/memory.max_usage_in_bytes": "4096\n",
            f"cpuacct/docker/{ID}/cpuacct.usage": "1500000000\n",
            f"pids/docker/{ID}/pids.events": "max 7\n",
        },
    )
    reader = CgroupReader.of(42, ID, tmp_path / "proc", (tmp_path / "cgroup",))
    assert reader is not None
    assert reader.read(Usage()) == Usage(peak_memory=4096, cpu_seconds=1.5, forks_denied=7)


@pytest.mark.parametrize(
    "text", [f"0::/docker/{OTHER}\n", "0::/\n", "4:memory:/\n8:pids:/\n", "", None], ids=lambda text: repr(text)[:20]
)
def test_a_process_that_is_not_the_containers(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        _write(tmp_path / "proc", {"42/cgroup": text})
    _version_2(tmp_path / "cgroup", f"docker/{ID}")
    _version_2(tmp_path / "cgroup", f"docker/{OTHER}")
    assert CgroupReader.of(42, ID, tmp_path / "proc", (tmp_path / "cgroup",)) is None


def test_a_group_that_is_not_mounted_here(tmp_path: Path) -> None:
    _write(tmp_path / "proc", {"42/cgroup": f"0::/docker/{ID}\n"})
    assert CgroupReader.of(42, ID, tmp_path / "proc", (tmp_path / "cgroup",)) is None


def test_what_can_no_longer_be_read_stays_as_it_was(tmp_path: Path) -> None:
    _write(tmp_path / "proc", {"42/cgroup": f"0::/docker/{ID}\n"})
    (tmp_path / "cgroup" / "docker" / ID).mkdir(parents=True)
    reader = CgroupReader.of(42, ID, tmp_path / "proc", (tmp_path / "cgroup",))
    last = Usage(peak_memory=1, cpu_seconds=2.0, forks_denied=3)
    assert reader is not None and reader.read(last) == last
    assert not reader.counts_refused_forks()
