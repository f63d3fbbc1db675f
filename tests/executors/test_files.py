"""Folders that a stranger filled are measured, audited and removed, whatever is in them and nothing outside."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors import files as module
from autoscorer.executors.base import KillReason, RunLimits
from autoscorer.executors.files import MAX_DEPTH, audit, exchange, measure, remove_tree
from hypothesis import given, settings
from hypothesis import strategies as st

settings.register_profile("autoscorer", deadline=None)
settings.load_profile("autoscorer")

LIMITS = RunLimits(
    cpu=1, memory=1024**3, gpu=0, disk=1024**2, shm_size=1, timeout=60, pids=10, nofile=64, tmp=1, output_files=100,
    log=1,
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder that is cleared by the function under test, because pytest's own clearing is no match for it."""
    folder = tmp_path / "output"
    folder.mkdir()
    yield folder
    remove_tree(folder)
    assert not folder.exists()


def nest(folder: Path, depth: int) -> None:
    """Folders in each other, deeper than any path is long."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    with open(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "w") as file:
        file.write("x")
    os.close(fd)


def plant_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def plant_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


def plant_link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to a file outside": (plant_link("/etc/passwd"), "a symbolic link"),
    "a link to the ground truth": (plant_link("../input/gt.csv"), "a symbolic link"),
    "a link to a folder": (plant_link("/etc"), "a symbolic link"),
    "a link to itself": (plant_link("pred.csv"), "a symbolic link"),
    "a dangling link": (plant_link("nowhere"), "a symbolic link"),
    "a link up": (plant_link(".."), "a symbolic link"),
    "a FIFO": (os.mkfifo, "a FIFO"),
    "a socket": (plant_socket, "a socket"),
    "a device": (plant_device, "a character device"),
}


def rejected(root: Path, limits: RunLimits = LIMITS) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        audit(root, limits)
    return caught.value


# --- audit ------------------------------------------------------------------------------------------------------


def test_plain_files_pass_and_are_counted(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "pred.csv").write_bytes(b"x" * 10)
    (root / "a" / "b" / "deep.bin").write_bytes(b"y" * 20)
    (root / "empty").write_bytes(b"")
    found = audit(root, LIMITS)
    assert (found.files, found.size, found.notes) == (3, 30, ())


@pytest.mark.parametrize("below", ["", "sub/folder"])
@pytest.mark.parametrize("case", SPECIAL)
def test_what_is_no_plain_file_is_rejected_by_its_kind(root: Path, case: str, below: str) -> None:
    plant, kind = SPECIAL[case]
    (root / below).mkdir(parents=True, exist_ok=True)
    plant(root / below / "pred.csv")
    error = rejected(root)
    assert error.code is ErrorCode.OUTPUT_REJECTED
    assert error.details == {"file": "pred.csv", "kind": kind}
    assert measure(root, LIMITS) is None  # the live look neither follows nor hangs


def test_the_files_lose_their_modes_and_their_owner(root: Path) -> None:
    for name, mode in (("setuid", 0o6755), ("none", 0o000), ("world", 0o777), ("sticky", 0o1644)):
        (root / name).write_bytes(b"x")
        (root / name).chmod(mode)
    (root / "folder").mkdir()
    (root / "folder" / "f").write_bytes(b"x")
    (root / "folder").chmod(0o000)
    if os.geteuid() == 0:
        for path in (root / "setuid", root / "folder", root / "folder" / "f"):
            os.chown(path, 65534, 65534)
    audit(root, LIMITS)
    for path in root.rglob("*"):
        status = path.lstat()
        assert stat.S_IMODE(status.st_mode) == (0o755 if path.is_dir() else 0o644), path
        assert status.st_uid == os.geteuid()


def test_names_that_are_ours_are_ignored_and_noted(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    (root / "result.json").write_text('{"summary": {"score": 1.0}}')
    (root / "artifacts").symlink_to(outside)
    (root / "history" / "deep").mkdir(parents=True)
    (root / "sub").mkdir()
    (root / "sub" / "result.json").write_text("theirs")  # only the top is ours
    found = audit(root, LIMITS)
    assert sorted(os.listdir(root)) == ["sub"] and found.files == 1
    assert len(found.notes) == 3 and all("ignored" in note for note in found.notes)
    assert (outside / "keep").read_text() == "x"


@pytest.mark.parametrize(
    ("count", "ok"), [(LIMITS.output_files, True), (LIMITS.output_files + 1, False)], ids=["just enough", "one more"]
)
@pytest.mark.parametrize("kind", ["files", "folders"])
def test_the_number_of_files_and_folders_is_held(root: Path, kind: str, count: int, ok: bool) -> None:
    for number in range(count):
        (root / f"{number}").mkdir() if kind == "folders" else (root / f"{number}").touch()
    assert measure(root, LIMITS) is (None if ok else KillReason.FILES)
    if ok:
        assert audit(root, LIMITS).files == (count if kind == "files" else 0)
    else:
        error = rejected(root)
        assert error.code is ErrorCode.RESOURCE_ERROR and error.details == {"resource": "files"}


@pytest.mark.parametrize("sizes", [[1024**2 + 1], [2**40], [600_000, 600_000]], ids=["one more", "sparse", "together"])
def test_the_bytes_are_held_and_a_sparse_file_counts_in_full(root: Path, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        with (root / f"{number}").open("wb") as file:
            file.truncate(size)
    assert measure(root, LIMITS) is KillReason.DISK
    error = rejected(root)
    assert error.code is ErrorCode.RESOURCE_ERROR and error.details == {"resource": "disk"}


def test_exactly_the_bytes_allowed_pass(root: Path) -> None:
    (root / "a").write_bytes(b"x" * LIMITS.disk)
    assert measure(root, LIMITS) is None
    assert audit(root, LIMITS).size == LIMITS.disk
    assert audit(root, replace(LIMITS, disk=LIMITS.disk)).files == 1


def test_a_small_file_counts_for_its_bytes_and_not_for_its_block(root: Path) -> None:
    (root / "a").write_bytes(b"x" * 10)
    assert measure(root, replace(LIMITS, disk=10)) is None
    assert audit(root, replace(LIMITS, disk=10)).size == 10


def test_blocks_reserved_beyond_a_files_size_count(root: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with (root / "empty").open("wb") as file:
        keep_size = 1
        if libc.fallocate(file.fileno(), keep_size, ctypes.c_int64(0), ctypes.c_int64(2 * LIMITS.disk)) != 0:
            pytest.skip("this file system reserves nothing")
    assert (root / "empty").stat().st_size == 0
    assert measure(root, LIMITS) is KillReason.DISK
    assert rejected(root).details == {"resource": "disk"}


def test_hard_links_count_each(root: Path) -> None:
    (root / "a").write_bytes(b"x" * 600_000)
    os.link(root / "a", root / "b")
    assert measure(root, LIMITS) is KillReason.DISK
    assert rejected(root).code is ErrorCode.RESOURCE_ERROR


def test_folders_are_held_in_depth(root: Path) -> None:
    nest(root, MAX_DEPTH - 1)
    assert measure(root, LIMITS) is None
    assert audit(root, LIMITS).files == 1
    remove_tree(root / "d")
    nest(root, MAX_DEPTH + 1)
    assert measure(root, LIMITS) is KillReason.FILES
    assert rejected(root).details == {"resource": "files"}


NAMES = [
    b"new\nline", b"\x1b[31mred", b"\xff\xfe", b"\xe2\x80\xae evil", b"tab\t", b"x" * 255, b" ", b"-rf", b"~", b"a\\b",
    "ü".encode(),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_of_any_bytes_is_told_printably(root: Path, name: bytes) -> None:
    (root / os.fsdecode(name)).write_bytes(b"x")
    assert audit(root, LIMITS).files == 1
    (root / os.fsdecode(name)).unlink()
    os.mkfifo(root / os.fsdecode(name))
    error = rejected(root)
    shown = str(error.details["file"])
    assert error.message.isprintable() and shown.isprintable() and 0 < len(shown) <= 200


def test_the_verdict_on_one_tree_is_always_the_same(tmp_path: Path) -> None:
    told = set()
    for seed in range(6):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        names = [f"{number}" for number in range(50)]
        random.Random(seed).shuffle(names)
        for name in names:
            (folder / name).symlink_to("x") if int(name) % 7 == 3 else (folder / name).touch()
        told.add(rejected(folder).message)
    assert len(told) == 1 and "'10'" in told.pop()


# --- remove -----------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
    remove_tree(tmp_path / "no" / "thing")


@pytest.mark.parametrize("case", SPECIAL)
def test_a_special_file_itself_is_removed_and_not_what_it_leads_to(tmp_path: Path, case: str) -> None:
    victim = tmp_path / "input"
    victim.mkdir()
    (victim / "gt.csv").write_text("truth")
    folder = tmp_path / "output"
    folder.mkdir()
    SPECIAL[case][0](folder / "pred.csv")
    remove_tree(folder / "pred.csv")
    assert os.listdir(folder) == [] and (victim / "gt.csv").read_text() == "truth"
    assert Path("/etc/passwd").exists()


def force_slow_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(module.shutil, "rmtree", no)


@pytest.mark.parametrize("slow", [False, True], ids=["the quick way", "the sure way"])
def test_a_folder_with_everything_in_it_is_removed_and_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "keep").write_text("x")
    folder = tmp_path / "output"
    (folder / "a" / "b").mkdir(parents=True)
    for place in (folder, folder / "a" / "b"):
        for number, (plant, _) in enumerate(case for name, case in SPECIAL.items() if "device" not in name):
            plant(place / f"special{number}")
        (place / "out").symlink_to(outside)
        (place / "out2").symlink_to(outside / "deep")
        os.link(outside / "deep" / "keep", place / "hard")
        for name in NAMES:
            (place / os.fsdecode(name)).mkdir()
            (place / os.fsdecode(name) / "f").touch()
    (folder / "a").chmod(0o000)
    if slow:
        force_slow_path(monkeypatch)
    remove_tree(folder)
    assert os.listdir(tmp_path) == ["outside"]
    assert (outside / "deep" / "keep").read_text() == "x" and os.listdir(outside) == ["deep"]


@pytest.mark.slow
def test_ten_thousand_folders_in_each_other_are_handled(root: Path) -> None:
    nest(root, 10_000)
    assert measure(root, replace(LIMITS, output_files=10**9)) is KillReason.FILES
    assert rejected(root, replace(LIMITS, output_files=10**9)).details == {"resource": "files"}
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(root)
    assert not root.exists() and len(os.listdir("/proc/self/fd")) == before


@pytest.mark.slow
def test_a_hundred_thousand_folders_in_each_other_are_removed() -> None:
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    nest(base, 100_000)
    remove_tree(base)
    assert not base.exists()


def test_wide_and_deep_folders_together_are_removed(root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir()
        nest(root / name, 1500)
        for number in range(500):
            (root / name / f"f{number}").touch()
    remove_tree(root)
    assert not root.exists()


TREES = st.recursive(
    st.sampled_from(["file", "link out", "link up", "dangling", "fifo", "hard"]),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c\n", "\x1b"]), inner, max_size=4),
    max_leaves=12,
)


def plant_tree(path: Path, tree: object, outside: Path, modes: Iterator[int]) -> None:
    if isinstance(tree, dict):
        path.mkdir()
        for name, inner in tree.items():
            plant_tree(path / name, inner, outside, modes)
        path.chmod(next(modes))
    elif tree == "file":
        path.write_text("x")
        path.chmod(next(modes))
    elif tree == "fifo":
        os.mkfifo(path)
    elif tree == "hard":
        os.link(outside / "keep", path)
    else:
        path.symlink_to({"link out": outside, "link up": "..", "dangling": "nowhere"}[str(tree)])


@given(tree=TREES, seed=st.integers(0, 2**16), slow=st.booleans())
def test_any_tree_is_removed_and_nothing_outside_changes(tree: object, seed: int, slow: bool) -> None:
    rng = random.Random(seed)
    base = Path(tempfile.mkdtemp())
    rmtree = shutil.rmtree
    try:
        outside = base / "outside"
        outside.mkdir()
        (outside / "keep").write_text("x")
        before = (outside / "keep").stat().st_mode
        plant_tree(base / "tree", tree, outside, iter(lambda: rng.choice([0o755, 0o000, 0o500, 0o4755]), None))
        with pytest.MonkeyPatch.context() as patch:
            if slow:
                force_slow_path(patch)
            remove_tree(base / "tree")
        assert os.listdir(base) == ["outside"] and os.listdir(outside) == ["keep"]
        assert (outside / "keep").read_text() == "x" and (outside / "keep").stat().st_nlink == 1
        assert (outside / "keep").stat().st_mode == before
    finally:
        rmtree(base, ignore_errors=True)


@given(tree=TREES, seed=st.integers(0, 2**16))
def test_any_tree_is_audited_to_plain_files_or_refused(tree: object, seed: int) -> None:
    rng = random.Random(seed)
    base = Path(tempfile.mkdtemp())
    try:
        outside = base / "outside"
        outside.mkdir()
        (outside / "keep").write_text("x")
        (base / "out").mkdir()
        plant_tree(base / "out" / "tree", tree, outside, iter(lambda: rng.choice([0o755, 0o000, 0o500, 0o4755]), None))
        kinds = str(tree)
        plain = not any(kind in kinds for kind in ("link", "dangling", "fifo"))
        assert measure(base / "out", LIMITS) is None
        try:
            found = audit(base / "out", LIMITS)
        except AutoScorerError as error:
            assert error.code is ErrorCode.OUTPUT_REJECTED and not plain
        else:
            assert plain and found.files == kinds.count("'file'") + kinds.count("'hard'") + (tree in ("file", "hard"))
    finally:
        remove_tree(base)


# --- measure while it changes -----------------------------------------------------------------------------------


def test_a_folder_that_is_gone_is_no_excess(tmp_path: Path) -> None:
    assert measure(tmp_path / "gone", LIMITS) is None


def test_a_link_in_the_folders_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr")
    assert measure(tmp_path / "link", replace(LIMITS, output_files=1)) is None


def test_no_descriptor_is_left_open(root: Path) -> None:
    for number in range(LIMITS.output_files + 1):
        (root / f"{number}").touch()
    nest(root, 40)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        measure(root, LIMITS)
        rejected(root)
    assert len(os.listdir("/proc/self/fd")) == before


# --- exchange ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [True, False], ids=["in one step", "without RENAME_EXCHANGE"])
@pytest.mark.parametrize("place", ["folder", "missing", "dangling", "link", "file"])
def test_new_and_old_change_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kernel: bool) -> None:
    new, old, outside = tmp_path / "staged" / "output", tmp_path / "output", tmp_path / "outside"
    new.mkdir(parents=True)
    outside.mkdir()
    (outside / "keep").write_text("x")
    (new / "f").write_text("new")
    if place == "folder":
        old.mkdir()
        (old / "f").write_text("old")
    elif place == "file":
        old.write_text("old")
    elif place != "missing":
        old.symlink_to(outside if place == "link" else "nowhere")
    if not kernel:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    exchange(new, old)
    assert (old / "f").read_text() == "new" and not old.is_symlink()
    assert os.path.lexists(new)
    if place == "folder":
        assert (new / "f").read_text() == "old"
    remove_tree(new)
    assert sorted(os.listdir(tmp_path / "staged")) == []
    assert (outside / "keep").read_text() == "x" and os.listdir(outside) == ["keep"]
