"""Mount points are made inside of an image's root, and no link of it leads them anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.images.mounts import mount_points

from ..support.harmless import tmp_path as tmp_path
from ..support.images import snapshot

FOLDERS = ["/proc", "/dev", "/tmp", "/workspace/input", "/workspace/output", "/data/of/a/volume", "/"]
FILES = ["/workspace/meta.json", "/etc/passwd"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_what_is_missing_is_made_and_the_rest_stays(root: Path) -> None:
    (root / "dev").mkdir(mode=0o700)
    (root / "dev" / "kept").write_text("k")
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("root")
    (root / "etc" / "passwd").chmod(0o600)
    before = os.umask(0o077)
    try:
        for _ in range(2):
            mount_points(root, FOLDERS, FILES)
    finally:
        os.umask(before)
    found = snapshot(root)
    assert found["dev"] == ("folder", 0o700) and found["dev/kept"][2] == b"k"
    assert found["etc/passwd"] == ("file", 0o600, b"root")
    assert found["workspace/meta.json"] == ("file", 0o644, b"")
    for path in ("proc", "tmp", "workspace", "workspace/input", "workspace/output", "data", "data/of/a/volume"):
        assert found[path] == ("folder", 0o755)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: place.symlink_to("/etc"),
        lambda place: place.symlink_to("../outside"),
        lambda place: place.symlink_to("."),
        lambda place: place.symlink_to("nowhere"),
        lambda place: place.write_text("a file"),
        os.mkfifo,
    ],
    ids=["absolute link", "link to outside", "link to itself", "dangling link", "file", "FIFO"],
)
@pytest.mark.parametrize("path", ["/workspace", "/workspace/input/deeper", "/workspace/input"])
def test_a_link_or_a_file_where_a_folder_must_be(root: Path, spoil: Callable[[Path], None], path: str) -> None:
    spoil(root / "workspace")
    before = snapshot(root)
    for folders, files in (([path], []), ([], [path + "/meta.json"])):
        with pytest.raises(AutoScorerError, match="'workspace' is not a folder") as caught:
            mount_points(root, folders, files)
        assert caught.value.code is ErrorCode.CONTAINER_FAILED
        assert caught.value.details == {"exit_code": 127, "log": []} and f"'{path}" in caught.value.message
    assert snapshot(root) == before and os.listdir(root.parent / "outside") == []


@pytest.mark.parametrize("target", ["../outside/new", "/etc/passwd", "nowhere"])
def test_a_link_or_a_folder_where_a_file_must_be(root: Path, target: str) -> None:
    (root / "meta.json").symlink_to(target)
    (root / "folder").mkdir()
    for path in ("/meta.json", "/folder", "/"):
        with pytest.raises(AutoScorerError, match="mounted") as caught:
            mount_points(root, [], [path])
        assert caught.value.code is ErrorCode.CONTAINER_FAILED
    assert os.listdir(root.parent / "outside") == [] and os.readlink(root / "meta.json") == target


@pytest.mark.parametrize(
    "path", ["../outside/new", "/../outside/new", "/a/../b", "relative", "", "/a\0b", "/" + "n" * 300]
)
def test_paths_that_are_none(root: Path, path: str) -> None:
    for folders, files in (([path], []), ([], [path])):
        with pytest.raises(AutoScorerError) as caught:
            mount_points(root, folders, files)
        assert caught.value.code is ErrorCode.CONTAINER_FAILED and caught.value.message.isprintable()
    assert os.listdir(root.parent / "outside") == [] and os.listdir(root) == []


def test_several_runs_at_once(root: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: mount_points(root, FOLDERS, FILES), range(64)):
            pass
    assert (root / "workspace" / "meta.json").is_file() and (root / "data/of/a/volume").is_dir()


def test_no_descriptor_stays_open(root: Path) -> None:
    (root / "file").touch()
    before = len(os.listdir("/proc/self/fd"))
    mount_points(root, FOLDERS, FILES)
    for path in ("/file", "/file/below", "/a/b\0"):
        with pytest.raises(AutoScorerError):
            mount_points(root, [path])
    assert len(os.listdir("/proc/self/fd")) == before
