"""A folder of the same files by hard links: what a model sees of its input, under a path that tells nothing."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

from autoscorer.executors.files import link_tree, remove_tree


def _tree(root: Path) -> dict[str, tuple[int, str]]:
    """Path: inode and kind of everything that is no folder."""
    return {
        str(path.relative_to(root)): (path.lstat().st_ino, oct(path.lstat().st_mode))
        for path in root.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def test_a_linked_tree_is_the_same_files_and_no_link_in_it_is_followed(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    (source / "a" / "b").mkdir(parents=True, mode=0o700)
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("x")
    (source / "a" / "f").write_text("x")
    (source / "a" / "b" / os.fsdecode(b"\xff\n")).write_text("y")
    (source / "a" / "out").symlink_to(elsewhere)
    (source / "a" / "file").symlink_to(elsewhere / "secret")
    os.mkfifo(source / "a" / "pipe")
    assert link_tree(source, tmp_path / "target")
    assert _tree(tmp_path / "target") == _tree(source)
    assert len(_tree(source)) == 5
    assert os.readlink(tmp_path / "target" / "a" / "out") == str(elsewhere)
    assert (tmp_path / "target" / "a" / "b").stat().st_mode & 0o777 == 0o755, "the model could not enter it"
    remove_tree(tmp_path / "target")
    assert (source / "a" / "f").read_text() == "x" and (elsewhere / "secret").exists()


def test_one_file_is_linked_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert link_tree(tmp_path / "file", tmp_path / "a") and (tmp_path / "a").samefile(tmp_path / "file")
    assert link_tree(tmp_path / "link", tmp_path / "b") and (tmp_path / "b").is_symlink()


def test_what_can_not_be_linked_leaves_nothing(tmp_path: Path) -> None:
    shm = Path(tempfile.mkdtemp(dir="/dev/shm"))  # another file system
    try:
        (shm / "a" / "b").mkdir(parents=True)
        (shm / "a" / "b" / "f").touch()
        assert not link_tree(shm / "a", tmp_path / "target")
        assert not link_tree(shm / "a" / "b" / "f", tmp_path / "target")
        assert not link_tree(shm / "nothing", tmp_path / "target")
        assert os.listdir(tmp_path) == []
    finally:
        remove_tree(shm)


def test_linking_holds_no_more_folders_open_than_they_are_deep(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / "wide" / str(number)).mkdir(parents=True)
        (tmp_path / "wide" / str(number) / "f").touch()
    deep = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    before, limits = len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    try:
        assert link_tree(tmp_path / "wide", tmp_path / "linked")
        assert not link_tree(tmp_path / "d", tmp_path / "too-deep"), "it can't be held open"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(list((tmp_path / "linked").iterdir())) == 600
    assert not (tmp_path / "too-deep").exists()
    assert len(os.listdir("/proc/self/fd")) == before
    remove_tree(tmp_path / "d")
