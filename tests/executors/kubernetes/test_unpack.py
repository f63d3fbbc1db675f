"""A tar out of a model's pod: whatever is in it, it writes plain files into one folder, or is refused."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.base import RunLimits, Staged
from autoscorer.executors.files import audit
from autoscorer.executors.kubernetes.pack import PackedInput
from autoscorer.executors.kubernetes.unpack import TarReader
from hypothesis import given
from hypothesis import strategies as st

LIMITS = RunLimits(
    cpu=1, memory=2**31, gpu=0, disk=1_000_000, shm_size=2**26, timeout=60, pids=256, nofile=1024,
    tmp=2**28, output_files=100, log=1024,
)  # fmt: skip


def info(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, len(data), link
    return found, data


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for entry, data in entries:
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Path]:
    """Read a tar into an empty folder; nothing beside it may be touched."""
    target = tmp_path / "box" / "output"

    def take(content: bytes, *, limits: RunLimits = LIMITS, piece: int = 999) -> Path:
        target.mkdir(parents=True)
        reader = TarReader(target, limits)
        try:
            for at in range(0, len(content), piece):
                reader.feed(content[at : at + piece])
            assert reader.done
        finally:
            reader.close()
            assert [path.name for path in target.parent.iterdir()] == ["output"], "something was written elsewhere"
        return target

    return take


def refused(read: Callable[..., Path], content: bytes, **keywords: RunLimits) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        read(content, **keywords)
    return caught.value


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("piece", [1, 511, 512, 10_000])
def test_plain_files_and_folders_come_as_they_are(read: Callable[..., Path], form: int, piece: int) -> None:
    long = "d" * 90 + "/" + "f" * 90
    content = tar(
        info("./", tarfile.DIRTYPE),
        info("./pred.csv", data=b"id\n1\n"),
        info("./empty", tarfile.DIRTYPE),
        info("./a/b/c", data=b"x" * 1500),
        info(long, data=b"long"),
        form=form,
    )
    output = read(content, piece=piece)
    assert (output / "pred.csv").read_bytes() == b"id\n1\n" and (output / "empty").is_dir()
    assert (output / "a/b/c").read_bytes() == b"x" * 1500 and (output / long).read_bytes() == b"long"
    assert audit(output, LIMITS).files == 3


@pytest.mark.parametrize("program", ["busybox", "tar"])
def test_what_the_tars_of_helpers_write_is_read(read: Callable[..., Path], tmp_path: Path, program: str) -> None:
    source = tmp_path / "source"
    names = ["pred.csv", "new\nline", "back\\slash", "ü" * 100, "n" * 255, "d/" + "x" * 200 + "/" + "y" * 200]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    os.link(source / "pred.csv", source / "linked")
    command = ["busybox", "tar"] if program == "busybox" else ["tar"]
    try:
        made = subprocess.run([*command, "-c", "-f", "-", "."], cwd=source, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {program} here")
    output = read(made.stdout)
    for name in names:
        assert (output / name).read_text() == name
    assert (output / "linked").read_text() == "pred.csv"


@pytest.mark.parametrize(
    ("kind", "link", "word"),
    [
        (tarfile.SYMTYPE, "/etc/shadow", "symbolic link"),
        (tarfile.SYMTYPE, "../../x", "symbolic link"),
        (tarfile.LNKTYPE, "/etc/shadow", "leads elsewhere"),
        (tarfile.LNKTYPE, "../outside", "leads elsewhere"),
        (tarfile.LNKTYPE, "not there", "a link"),
        (tarfile.FIFOTYPE, "", "FIFO"),
        (tarfile.CHRTYPE, "", "character device"),
        (tarfile.BLKTYPE, "", "block device"),
        (b"S", "", "special"),
        (b"Z", "", "special"),
    ],
)
def test_what_is_no_plain_file_is_refused_as_the_audit_would(
    read: Callable[..., Path], kind: bytes, link: str, word: str
) -> None:
    error = refused(read, tar(info("pred.csv", kind, link=link)))
    assert error.code == "OUTPUT_REJECTED" and word in error.message


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a/b/../../../x", "./../x"])
def test_no_name_leads_out(read: Callable[..., Path], name: str) -> None:
    assert refused(read, tar(info(name, data=b"x"))).code == "OUTPUT_REJECTED"


def test_a_link_that_came_first_is_not_followed(read: Callable[..., Path], tmp_path: Path) -> None:
    content = tar(info("d", tarfile.SYMTYPE, link=str(tmp_path)), info("d/x", data=b"x"))
    assert refused(read, content).code == "OUTPUT_REJECTED"
    assert not (tmp_path / "x").exists()


def test_sizes_are_judged_before_a_byte_of_them_comes(read: Callable[..., Path]) -> None:
    huge, _ = info("pred.csv")
    huge.size = 2**60
    error = refused(read, huge.tobuf(tarfile.GNU_FORMAT))
    assert error.code == "RESOURCE_ERROR" and error.details["resource"] == "disk"


def test_many_small_files_count_together(read: Callable[..., Path]) -> None:
    error = refused(read, tar(*(info(f"f{n}", data=bytes(30_000)) for n in range(40))))
    assert error.details["resource"] == "disk"


def test_hard_links_count_as_files_of_that_size(read: Callable[..., Path]) -> None:
    links = [info(f"l{n}", tarfile.LNKTYPE, link="pred.csv") for n in range(5)]
    error = refused(read, tar(info("pred.csv", data=bytes(300_000)), *links))
    assert error.details["resource"] == "disk"


@pytest.mark.parametrize(
    "entries",
    [
        [info(f"f{n}") for n in range(101)],
        [info(f"d{n}", tarfile.DIRTYPE) for n in range(101)],
        [info("/".join("d" * 33), tarfile.DIRTYPE)],
        [info("x" * 20_000)],
    ],
    ids=["files", "folders", "depth", "name"],
)
def test_too_many_are_too_many(read: Callable[..., Path], entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    error = refused(read, tar(*entries))
    assert error.code == "RESOURCE_ERROR" and error.details["resource"] == "files"


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_headers_make_it_hold_no_more_than_a_name(read: Callable[..., Path], kind: bytes) -> None:
    """An extended header may say that gigabytes follow, and would be read into memory by most."""
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 2**33
    error = refused(read, header.tobuf(tarfile.GNU_FORMAT) + bytes(70_000))
    assert error.code == "RESOURCE_ERROR" and error.details["resource"] == "files"


def test_names_of_ours_are_marked_and_dropped_by_the_audit(read: Callable[..., Path]) -> None:
    content = tar(
        info("result.json", data=b"{}"),
        info("artifacts/report.html", data=b"x"),
        info("artifacts/link", tarfile.SYMTYPE, link="/etc/shadow"),
        info("history", tarfile.FIFOTYPE),
        info("pred.csv", data=b"1"),
    )
    output = read(content)
    assert len(audit(output, LIMITS).notes) == 3
    assert [path.name for path in output.iterdir()] == ["pred.csv"]


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 512,
        tar(info("pred.csv", data=b"x"))[:512].replace(b"ustar", b"UsTaR") + bytes(1024),
        tar(info("a", data=b"1"), info("a", data=b"2")),
        tar(info("a", data=b"1"), info("a/b", data=b"2")),
        tar(info("n" * 256, data=b"2")),
    ],
    ids=["noise", "checksum", "twice", "file-and-folder", "name-too-long"],
)
def test_what_no_tar_of_ours_writes_is_no_fault_of_the_submission(read: Callable[..., Path], content: bytes) -> None:
    assert refused(read, content).code == "BACKEND_UNAVAILABLE"


@given(st.binary(max_size=3000), st.integers(0, 2000))
def test_noise_never_does_anything_else_than_being_refused(noise: bytes, at: int) -> None:
    import tempfile

    content = bytearray(tar(info("a", data=b"x" * 700), info("d/e", data=b"y")))
    content[at : at + len(noise)] = noise
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "output")
        target.mkdir()
        reader = TarReader(target, LIMITS)
        try:
            reader.feed(bytes(content))
        except AutoScorerError:
            pass
        finally:
            reader.close()
        assert os.listdir(folder) == ["output"]
        for path in target.rglob("*"):
            assert path.is_file() or path.is_dir()


# --- the other way ---------------------------------------------------------------------------------------------------


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    folder = tmp_path / "staged"
    (folder / "output").mkdir(parents=True)
    (folder / "meta.json").write_text("{}")
    data = tmp_path / "data"
    (data / "deep" / ("n" * 200)).mkdir(parents=True)
    (data / "deep" / ("n" * 200) / "f").write_bytes(b"x" * 1000)
    (data / "new\nline").write_text("1")
    (data / "run.sh").write_text("#!/bin/sh\n")
    (data / "run.sh").chmod(0o700)
    (data / "closed").write_text("2")
    (data / "closed").chmod(0)
    return Staged(folder, {"data": data, "more.csv": data / "new\nline"})


@pytest.mark.parametrize("program", ["busybox", "tar"])
def test_the_input_is_unpacked_by_the_tars_of_helpers(staged: Staged, tmp_path: Path, program: str) -> None:
    packed = PackedInput(staged)
    content = b"".join(packed.chunks())
    assert len(content) == packed.size
    target = tmp_path / "there"
    target.mkdir()
    command = ["busybox", "tar"] if program == "busybox" else ["tar"]
    try:
        subprocess.run([*command, "-x", "-o", "-f", "-", "-C", target], input=content, check=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {program} here")
    found = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert {"input", "output", "meta.json", "input/data/new\nline", "input/more.csv"} <= found
    assert (target / "input/data/deep" / ("n" * 200) / "f").read_bytes() == b"x" * 1000
    assert os.stat(target / "input/data/run.sh").st_mode & 0o111
    assert os.stat(target / "input/data/closed").st_mode & 0o044 == 0o044


def test_a_file_that_changes_while_it_is_sent_is_told(staged: Staged) -> None:
    for change in (b"longer than before", b""):
        packed = PackedInput(staged)
        before = (staged.inputs["data"] / "new\nline").read_bytes()
        (staged.inputs["data"] / "new\nline").write_bytes(change)
        with pytest.raises(AutoScorerError) as caught:
            b"".join(packed.chunks())
        assert caught.value.code == "CONFLICT"
        (staged.inputs["data"] / "new\nline").write_bytes(before)
