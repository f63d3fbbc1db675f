"""A workspace on disk: whole files or none, one holder at a time, and nothing a stranger left is followed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from autoscorer.core import workspace as module
from autoscorer.core.errors import AutoScorerError, ErrorCode, Stage
from autoscorer.core.workspace import ArtifactWriter, Workspace, open_regular, write_atomic
from autoscorer.schemas.result import Result


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@contextlib.contextmanager
def child(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python program of its own that says "ready" first; killed at the end whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# --- write_atomic -----------------------------------------------------------------------------------------------


def test_a_file_is_written_with_its_folders_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "f.txt"
    write_atomic(path, b"one")
    write_atomic(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two" and path.stat().st_mode & 0o777 == 0o600
    assert listing(tmp_path) == {"a/b/f.txt"}


@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["ENOSPC", "^C"])
@pytest.mark.parametrize("existed", [True, False], ids=["over an old file", "new"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException, existed: bool
) -> None:
    path = tmp_path / "f.txt"
    if existed:
        path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module.os, call, fail)
    with pytest.raises(type(error)):
        write_atomic(path, b"new")
    monkeypatch.undo()
    assert listing(tmp_path) == ({"f.txt"} if existed else set())
    assert not existed or path.read_bytes() == b"old"


def test_a_folder_in_the_way_is_an_error_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "f.txt").mkdir()
    with pytest.raises(OSError):
        write_atomic(tmp_path / "f.txt", b"new")
    assert os.listdir(tmp_path) == ["f.txt"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"mine")
    (tmp_path / "f.txt").symlink_to("other")
    write_atomic(tmp_path / "f.txt", b"new")
    assert (tmp_path / "other").read_bytes() == b"mine"
    assert not (tmp_path / "f.txt").is_symlink() and (tmp_path / "f.txt").read_bytes() == b"new"


def test_a_reader_sees_one_whole_version_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "f"
    versions = [bytes([65 + n]) * 50_000 for n in range(4)]
    write_atomic(path, versions[0])
    done = threading.Event()
    torn: list[bytes] = []

    def read() -> None:
        while not done.is_set():
            data = path.read_bytes()
            if data not in versions:
                torn.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(200):
            write_atomic(path, versions[number % 4])
    finally:
        done.set()
        reader.join()
    assert not torn


# --- results and history ----------------------------------------------------------------------------------------


def test_the_history_keeps_every_result_that_was_there(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    for number in range(20):  # far faster than a file system's clock ticks
        space.save_result(Result(metrics={"n": number}))
    current = space.read_result()
    assert current is not None and current.metrics == {"n": 19}
    kept = [json.loads(path.read_bytes())["metrics"]["n"] for path in (tmp_path / "output" / "history").iterdir()]
    assert sorted(kept) == list(range(19))
    assert listing(tmp_path / "output") - {"result.json"} == {
        f"history/{name}" for name in os.listdir(tmp_path / "output" / "history")
    }


def test_archiving_one_result_twice_keeps_it_once(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.save_result(Result(metrics={"n": 1}))
    before = space.result_file.read_bytes()
    space.archive_result()
    space.archive_result()
    (kept,) = (tmp_path / "output" / "history").iterdir()
    assert kept.read_bytes() == before == space.result_file.read_bytes()


@pytest.mark.parametrize("moment", [-1, 0, 1.5, 253_402_300_800, 2**40])
def test_a_result_of_any_age_is_archived(tmp_path: Path, moment: float) -> None:
    space = Workspace(tmp_path)
    space.save_result(Result())
    with contextlib.suppress(OSError, OverflowError):  # not every file system holds every time
        os.utime(space.result_file, (moment, moment))
    space.archive_result()
    assert len(os.listdir(tmp_path / "output" / "history")) == 1


def test_no_result_is_none(tmp_path: Path) -> None:
    assert Workspace(tmp_path).read_result() is None
    Workspace(tmp_path).archive_result()
    (tmp_path / "output").write_text("a file")
    assert Workspace(tmp_path).read_result() is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"metrics": 5}', b'{"unknown": 1}', b"\xff", b"[" * 100_000, b"NaN"]
)
def test_a_result_json_that_is_none_reads_as_none(tmp_path: Path, content: bytes) -> None:
    space = Workspace(tmp_path)
    write_atomic(space.result_file, content)
    assert space.read_result() is None
    space.save_result(Result(metrics={"n": 1}))
    assert space.read_result() is not None
    (kept,) = (tmp_path / "output" / "history").iterdir()
    assert kept.read_bytes() == content


def plant_folder(path: Path) -> None:
    path.mkdir()


def plant_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("plant", [plant_folder, plant_link, os.mkfifo])
def test_a_result_json_that_is_no_file_neither_hangs_nor_raises(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    space = Workspace(tmp_path)
    space.output.mkdir()
    plant(space.result_file)
    assert space.read_result() is None
    space.archive_result()
    assert not (space.output / "history").exists()


@pytest.mark.parametrize("name", ["history", "artifacts"])
@pytest.mark.parametrize("plant", ["link", "dangling", "file"])
def test_what_we_write_never_goes_through_a_strangers_link(tmp_path: Path, name: str, plant: str) -> None:
    root, outside = tmp_path / "ws", tmp_path / "outside"
    (root / "output").mkdir(parents=True)
    outside.mkdir()
    place = root / "output" / name
    if plant == "file":
        place.write_text("x")
    else:
        place.symlink_to(outside if plant == "link" else tmp_path / "nowhere")
    space = Workspace(root)
    space.save_result(Result(metrics={"n": 1}))
    space.save_result(Result(metrics={"n": 2}))
    ArtifactWriter(root).write("plot", "plot.svg", "<svg/>")
    assert os.listdir(outside) == [] and not (tmp_path / "nowhere").exists()
    assert place.is_dir() and not place.is_symlink() and len(os.listdir(place)) == 1


@pytest.mark.slow
def test_kill_9_in_the_middle_of_saving_leaves_a_whole_result(tmp_path: Path) -> None:
    program = (
        "import sys, itertools\n"
        "from autoscorer.core.workspace import Workspace\n"
        "from autoscorer.schemas.result import Result\n"
        "space = Workspace(sys.argv[1])\n"
        "notes = ['x' * 1000] * 200\n"
        "space.save_result(Result(metrics={'n': 0}, notes=notes))\n"
        "print('ready', flush=True)\n"
        "for n in itertools.count(1): space.save_result(Result(metrics={'n': n}, notes=notes))\n"
    )
    rng = random.Random(7)
    for _ in range(5):
        with child(program, tmp_path) as process:
            time.sleep(rng.uniform(0.005, 0.15))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        result = Workspace(tmp_path).read_result()
        assert result is not None and len(result.notes) == 200
        for kept in (tmp_path / "output" / "history").glob("result-*.json"):
            assert len(Result.model_validate_json(kept.read_bytes()).notes) == 200


# --- the lock ---------------------------------------------------------------------------------------------------

HOLD = (
    "import sys, time\n"
    "from autoscorer.core.workspace import Workspace\n"
    "with Workspace(sys.argv[1]).lock():\n"
    "    print('ready', flush=True)\n"
    "    time.sleep(60)\n"
)


def conflict(space: Workspace) -> bool:
    try:
        with space.lock():
            return False
    except AutoScorerError as error:
        assert error.code is ErrorCode.CONFLICT
        return True


def test_the_lock_keeps_another_process_out_and_kill_9_releases_it(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    with child(HOLD, tmp_path) as process:
        assert conflict(space)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not conflict(space)


def test_the_lock_keeps_the_same_process_out_too_and_is_released_by_an_exception(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    with pytest.raises(ZeroDivisionError), space.lock():
        assert conflict(Workspace(tmp_path))
        raise ZeroDivisionError
    assert not conflict(space)


def test_a_program_started_under_the_lock_does_not_keep_it(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    with space.lock():
        sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert not conflict(space)
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize("plant", ["file", "link"])
def test_a_workspace_that_can_not_be_locked_is_an_error_of_the_catalogue(tmp_path: Path, plant: str) -> None:
    root = tmp_path / "ws"
    root.mkdir()
    if plant == "file":
        (root / ".autoscorer").write_text("")
    else:
        (root / ".autoscorer").mkdir()
        (root / ".autoscorer" / "lock").symlink_to(tmp_path / "made")
    with pytest.raises(AutoScorerError) as caught, Workspace(root).lock():
        pass
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert not (tmp_path / "made").exists()


# --- finding things ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "x" * 300, "x\0y", "file", "file/below", "loop"])
def test_what_is_no_folder_is_no_workspace(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(AutoScorerError) as caught:
        Workspace(tmp_path / name)
    assert caught.value.code is ErrorCode.WORKSPACE_NOT_FOUND
    assert caught.value.message.isprintable()


def test_a_workspace_may_be_named_by_a_link_and_by_text(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Workspace(str(tmp_path / "link")).root == (tmp_path / "real").resolve()


@pytest.mark.parametrize("which", ["ground_truth", "predictions"])
def test_exactly_one_table_is_found(tmp_path: Path, which: str) -> None:
    space = Workspace(tmp_path)
    folder, stem = (space.input, "gt") if which == "ground_truth" else (space.output, "pred")
    find = getattr(space, which)

    def code() -> ErrorCode:
        with pytest.raises(AutoScorerError) as caught:
            find()
        return caught.value.code

    assert code() is ErrorCode.MISSING_FILE
    folder.mkdir()
    (folder / f"{stem}.txt").write_text("")
    assert code() is ErrorCode.MISSING_FILE
    for suffix in (".csv", ".json", ".jsonl", ".parquet"):
        (folder / (stem + suffix)).write_text("")
        assert find().name == stem + suffix
        (folder / (stem + suffix)).unlink()
    (folder / f"{stem}.csv").write_text("")
    (folder / f"{stem}.json").symlink_to("nowhere")  # a dangling link is there as well
    with pytest.raises(AutoScorerError) as caught:
        find()
    assert caught.value.code is ErrorCode.BAD_FORMAT
    assert f"{stem}.csv" in caught.value.message and f"{stem}.json" in caught.value.message


# --- open_regular -----------------------------------------------------------------------------------------------


def refused(path: Path) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        open_regular(path)
    return caught.value


def test_a_plain_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"data")
    with open_regular(tmp_path / "f") as file:
        assert file.read() == b"data"


def test_a_missing_file_is_missing_at_the_stage_that_asked(tmp_path: Path) -> None:
    assert refused(tmp_path / "f").code is ErrorCode.MISSING_FILE
    with pytest.raises(AutoScorerError) as caught:
        open_regular(tmp_path / "f", stage=Stage.VALIDATION)
    assert caught.value.stage is Stage.VALIDATION


def test_links_of_every_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"data")
    for target in ("f", "nowhere", "link", "/dev/zero", "."):
        (tmp_path / "link").symlink_to(target)
        assert refused(tmp_path / "link").code is ErrorCode.OUTPUT_REJECTED
        (tmp_path / "link").unlink()


def test_what_is_no_file_is_refused_and_nothing_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path / "fifo", tmp_path / "folder", tmp_path / "socket", Path("/dev/zero"), Path("/dev/tty")):
        error = refused(path)
        assert error.code is ErrorCode.OUTPUT_REJECTED and error.details == {"file": path.name}
    (tmp_path / "plain").write_text("")
    assert refused(tmp_path / "plain" / "below").code is ErrorCode.OUTPUT_REJECTED
    assert len(os.listdir("/proc/self/fd")) == len(before)


# --- artifacts --------------------------------------------------------------------------------------------------


def test_artifacts_are_written_and_remembered(tmp_path: Path) -> None:
    writer = ArtifactWriter(tmp_path)
    writer.write("plot", "plot.svg", "<svg>ü</svg>")
    writer.write_json("table", "table.json", {"a": [1, None, "ü"]})
    writer.write("blob", "blob", b"\0")
    assert {name: artifact.media_type for name, artifact in writer.artifacts.items()} == {
        "plot": "image/svg+xml",
        "table": "application/json",
        "blob": "application/octet-stream",
    }
    assert listing(tmp_path) == {f"output/artifacts/{name}" for name in ("plot.svg", "table.json", "blob")}
    assert (tmp_path / writer.artifacts["plot"].path).read_text() == "<svg>ü</svg>"
    with pytest.raises(ValueError):
        writer.write_json("bad", "bad.json", float("nan"))


@pytest.mark.parametrize("name", ["../x.svg", "/tmp/x.svg", "a/b.svg", "", ".", "..", "x\0.svg"])
def test_an_artifact_made_of_a_label_can_not_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        ArtifactWriter(tmp_path).write("a", name, "x")
    assert listing(tmp_path) == set()


@pytest.mark.parametrize("name", ["output", "logs", ".autoscorer"])
def test_folders_that_are_written_to_may_not_be_links(tmp_path: Path, name: str) -> None:
    """A stranger's workspace must not make us write, or remove, somewhere else."""
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "ws"
    root.mkdir()
    (root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AutoScorerError) as caught:
        Workspace(root)
    assert caught.value.code is ErrorCode.INVALID_REQUEST and name in caught.value.message
