"""What holds for root must hold for a plain user too: modes that keep the owner out hide nothing and raise nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.exposure import exposures, input_digest, visible_inputs
from autoscorer.core.meta import load_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import KillReason, RunLimits
from autoscorer.executors.files import audit, measure, remove_tree
from autoscorer.executors.images.mounts import mount_points
from autoscorer.executors.images.unpacked import ImageStore

from ..support.images import docker_files, file, layer, pack
from ..support.images import folder as folder_entry

LIMITS = RunLimits(
    cpu=1, memory=1024**3, gpu=0, disk=1000, shm_size=1, timeout=60, pids=10, nofile=64, tmp=1, output_files=100, log=1
)
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that belongs to the plain user; pytest's own may not be entered by one."""
    path = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    path.chmod(0o755)
    yield path
    remove_tree(path)


def as_a_user(function: Callable[[], object]) -> str:
    """What the function returns when a plain user runs it, as text; a catalogue code where it raises one."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            try:
                answer = str(function())
            except AutoScorerError as error:
                answer = error.code.value
        except BaseException:
            answer = traceback.format_exc()
        with contextlib.suppress(BaseException):
            os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read().decode()
    os.waitpid(pid, 0)
    return answer


def test_the_user_of_these_tests_is_kept_out_by_modes(folder: Path) -> None:
    def enter() -> list[str]:
        (folder / "closed").mkdir(mode=0)
        return os.listdir(folder / "closed")

    assert "PermissionError" in as_a_user(enter)


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600], ids=oct)
@pytest.mark.parametrize("where", ["out", "out/sub", "out/sub/sub"])
def test_a_running_model_hides_no_bytes_behind_a_mode(folder: Path, where: str, mode: int) -> None:
    def run() -> KillReason | None:
        (folder / "out" / "sub" / "sub").mkdir(parents=True)
        (folder / where / "big").write_bytes(b"x" * 2000)
        (folder / where).chmod(mode)
        return measure(folder / "out", LIMITS)

    assert as_a_user(run) == "disk"


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600], ids=oct)
@pytest.mark.parametrize("where", ["out", "out/sub", "out/sub/sub", "out/sub/sub/f", "out/artifacts"])
def test_output_of_any_modes_is_audited_and_removed(folder: Path, where: str, mode: int) -> None:
    def run() -> object:
        (folder / "out" / "sub" / "sub").mkdir(parents=True)
        (folder / "out" / "sub" / "sub" / "f").write_bytes(b"x")
        (folder / "out" / "artifacts" / "deep").mkdir(parents=True)
        (folder / "out" / "result.json").write_bytes(b"x")
        (folder / where).chmod(mode)
        found = audit(folder / "out", LIMITS)
        content = (folder / "out" / "sub" / "sub" / "f").read_bytes()
        (folder / where).chmod(mode) if os.path.lexists(folder / where) else None
        remove_tree(folder / "out")
        return found.files, found.size, len(found.notes), content, os.listdir(folder)

    assert as_a_user(run) == "(1, 1, 2, b'x', [])"


def test_a_link_put_in_a_folders_place_never_changes_what_it_leads_to(folder: Path) -> None:
    def run() -> object:
        (folder / "mine").mkdir(mode=0o750)
        (folder / "out").mkdir()
        (folder / "out" / "link").symlink_to(folder / "mine")
        kept = measure(folder / "out", replace(LIMITS, disk=10**6))
        remove_tree(folder / "out")
        return kept, oct((folder / "mine").stat().st_mode & 0o777)

    assert as_a_user(run) == "(None, '0o750')"


def test_input_that_can_not_be_read_is_an_error_of_the_catalogue(folder: Path) -> None:
    def run(check: Callable[[Workspace], object]) -> Callable[[], object]:
        def inside() -> object:
            root = folder / check.__name__
            (root / "input" / "data").mkdir(parents=True)
            (root / "input" / "gt.csv").write_bytes(b"truth")
            (root / "input" / "data" / "x").write_bytes(b"other")
            (root / "input" / "data" / "x").chmod(0)
            return check(Workspace(root))

        return inside

    def look_for_copies(space: Workspace) -> object:
        return exposures(space, space.ground_truth())

    def closed_input(space: Workspace) -> object:
        space.input.chmod(0)
        return visible_inputs(space)

    def closed_meta(space: Workspace) -> object:
        space.meta.touch(mode=0)
        return load_job(space)

    assert as_a_user(run(input_digest)) == "MISSING_FILE"
    assert as_a_user(run(look_for_copies)) == "MISSING_FILE"
    assert as_a_user(run(closed_input)) == "MISSING_FILE"
    assert as_a_user(run(closed_meta)) == "INVALID_META"


def test_a_workspace_that_may_not_be_opened_or_written_is_an_error_of_the_catalogue(folder: Path) -> None:
    def closed() -> object:
        (folder / "closed" / "ws").mkdir(parents=True)
        (folder / "closed").chmod(0)
        try:
            return Workspace(folder / "closed" / "ws")
        finally:
            (folder / "closed").chmod(0o700)

    def read_only() -> object:
        (folder / "ro").mkdir(mode=0o500)
        with Workspace(folder / "ro").lock():
            return "locked"

    assert as_a_user(closed) == "WORKSPACE_NOT_FOUND"
    assert as_a_user(read_only) == "INVALID_REQUEST"


def test_clearing_up_needs_no_root(folder: Path) -> None:
    def run() -> object:
        deep = folder / "tree"
        for name in ("a", "b", "c"):
            deep = deep / name
            deep.mkdir(parents=True)
            (deep / "f").touch()
        for path in (deep, deep.parent, deep.parent.parent):
            path.chmod(0o000)
        remove_tree(folder / "tree")
        return os.listdir(folder)

    assert as_a_user(run) == "[]"
    assert shutil.rmtree.avoids_symlink_attacks


def test_an_image_of_closed_folders_is_unpacked_changed_and_removed(folder: Path) -> None:
    lower = [
        folder_entry("closed", 0), file("closed/secret", b"x", 0), folder_entry("closed/in", 0o500),
        file("closed/in/f", b"1", 0), folder_entry("gone", 0), file("gone/f", b"", 0),
    ]  # fmt: skip
    upper = [file("closed/in/f", b"2", 0o400), file("closed/.wh.secret"), file(".wh.gone")]
    pack(folder / "image.tar", docker_files([layer(lower), layer(upper)]))
    pack(folder / "other.tar", docker_files([layer([file("data", bytes(60_000))])]))

    def unpack() -> tuple[list[str], bytes, int]:
        store = ImageStore(folder / "home", 100_000)
        with store.archive(folder / "image.tar", 10**6) as image:
            mount_points(image.rootfs, ["/closed/in/proc"])
            names = sorted(path.relative_to(image.rootfs).as_posix() for path in image.rootfs.rglob("*"))
            content = (image.rootfs / "closed/in/f").read_bytes()
        with store.archive(folder / "other.tar", 10**6):
            return names, content, sum(len(name) == 64 for name in os.listdir(folder / "home" / "images"))

    assert as_a_user(unpack) == str((["closed", "closed/in", "closed/in/f", "closed/in/proc"], b"2", 1))
