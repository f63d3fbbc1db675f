"""Volumes of an image: made in memory, given way to mounts, or refused as the image's fault."""

from __future__ import annotations

import posixpath

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode, Fault
from autoscorer.executors.volumes import memory_volumes
from hypothesis import given
from hypothesis import strategies as st

MOUNTS = ("/workspace/input", "/workspace/input/data", "/workspace/meta.json", "/workspace/output")


@pytest.mark.parametrize(
    ("volumes", "made"),
    [
        ([], []),
        (["/data", "/data/", "//data", "/x/../data"], ["/data"]),
        (["/workspace", "/workspace/extra"], ["/workspace", "/workspace/extra"]),
        (["/workspace/input", "/workspace/input/data/", "/workspace/output", "/workspace/meta.json"], []),
        (["/workspace/inputs", "/workspace/output2"], ["/workspace/inputs", "/workspace/output2"]),
        (["/dev/shm", "/process", "/system"], ["/dev/shm", "/process", "/system"]),
    ],
)
def test_what_is_made_in_memory(volumes: list[str], made: list[str]) -> None:
    assert memory_volumes(volumes, MOUNTS) == made


@pytest.mark.parametrize(
    "volume",
    [
        "", "data", "./data", "../data", "/", "//", "/..", "/x/..", "/workspace/input/gt.csv", "/workspace/output/x",
        "/workspace/x/../input/gt.csv", "/workspace/meta.json/x", "/proc", "/proc/1", "/sys", "/sys/fs/cgroup", "/dev",
        "/dev/null", "/dev/shm/x", "/x/../proc", "/a\nb", "/a\0b", "/a\u202eb", "/" + "x" * 600,
    ],
)  # fmt: skip
def test_what_is_the_images_fault(volume: str) -> None:
    with pytest.raises(AutoScorerError) as caught:
        memory_volumes([volume], MOUNTS)
    assert caught.value.code is ErrorCode.CONTAINER_FAILED and caught.value.spec.fault is Fault.SUBMISSION
    assert caught.value.message.isprintable() and len(caught.value.message) < 1500


def test_thousands_of_volumes_are_the_images_fault() -> None:
    with pytest.raises(AutoScorerError, match="at most 32"):
        memory_volumes([f"/v{number}" for number in range(5000)], MOUNTS)


@given(st.lists(st.text(alphabet="/./ab\n", max_size=12).map("/{}".format), max_size=5))
def test_nothing_is_made_inside_of_a_mount_or_the_system(volumes: list[str]) -> None:
    try:
        made = memory_volumes(volumes, ("/a",))
    except AutoScorerError:
        return
    for path in made:
        assert posixpath.normpath(path) == path != "/" and path.isprintable()
        assert path != "/a" and not path.startswith("/a/")
