"""Uploading a workspace: a good one is in its place in one step, and of anything else nothing is left."""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.archives import ArchiveLimits, read_archive
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.service.workspaces.uploads import UploadedWorkspace, Uploads, remove_leftovers
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ..support.examples import examples

META = json.dumps({"task_type": "classification", "scorer": "classification_f1"}).encode()
GOOD: dict[str, bytes] = {
    "meta.json": META,
    "input/gt.csv": b"id,label\na,1\n",
    "input/data/x.csv": b"id,x\na,1\n",
    "output/pred.csv": b"id,label\na,1\n",
}


def a_zip(files: dict[str, bytes], **changes: Any) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
        for name, mode in changes.get("modes", {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, changes.get("content", b"x"))
    return data.getvalue()


def a_tar(files: dict[str, bytes], *members: tarfile.TarInfo, **options: Any) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", **options) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return data.getvalue()


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, mode
    return info


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def configured(settings: Settings, root: Path) -> Callable[..., Settings]:
    def make(**api: Any) -> Settings:
        return settings.model_copy(update={"workspace_roots": (root,), "api": settings.api.model_copy(update=api)})

    return make


def upload(
    settings: Settings,
    archive: bytes,
    *,
    name: str | None = None,
    filename: str | None = "team-a.zip",
    step: int = 1000,
) -> UploadedWorkspace:
    async def send() -> UploadedWorkspace:
        async with Uploads(settings, WorkspaceRoots(settings)).begin() as under_way:
            for start in range(0, len(archive), step):
                await under_way.write(archive[start : start + step])
            return await under_way.place(name=name, filename=filename)

    return asyncio.run(send())


def refused(settings: Settings, archive: bytes, **options: Any) -> AutoScorerError:
    """The error; and nothing may be left, inside the root or beside it."""
    root = settings.workspace_roots[0]
    before = everything(root.parent)
    with pytest.raises(AutoScorerError) as caught:
        upload(settings, archive, **options)
    assert everything(root.parent) == before
    assert str(root) not in caught.value.message
    return caught.value


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PACKINGS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": a_zip,
    "tar": a_tar,
    "tar.gz": lambda files: gzip.compress(a_tar(files)),
    "tar.bz2": lambda files: bz2.compress(a_tar(files)),
    "tar.xz": lambda files: lzma.compress(a_tar(files)),
    "two gzip streams": lambda files: gzip.compress(a_tar(files)[:700]) + gzip.compress(a_tar(files)[700:]),
    "two xz streams": lambda files: lzma.compress(a_tar(files)[:700]) + lzma.compress(a_tar(files)[700:]),
    "pax": lambda files: a_tar(files, format=tarfile.PAX_FORMAT, pax_headers={"comment": "of a commit"}),
    "gnu": lambda files: a_tar(files, format=tarfile.GNU_FORMAT),
    "with ./": lambda files: a_tar(
        {f"./{name}": content for name, content in files.items()}, entry("./", tarfile.DIRTYPE)
    ),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("folder", [None, "of-its-own"])
def test_a_workspace_is_put_in_place(configured: Any, root: Path, packing: str, folder: str | None) -> None:
    files = below(folder, GOOD) if folder else GOOD
    done = upload(configured(), PACKINGS[packing](files), filename="team-a.tar.gz")
    name = folder or "team-a"
    assert os.listdir(root) == [name]
    assert files_of(root / name) == GOOD
    assert done.workspace.name == done.workspace.job_id == name
    assert done.workspace.has_predictions and done.workspace.has_ground_truth
    assert (done.files, done.size, done.left_out) == (4, sum(map(len, GOOD.values())), [])


def test_what_the_tools_of_a_system_make_is_taken(configured: Any, root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source" / "team-b"
    for name, content in {**GOOD, "input/data/" + "long-" * 30 + "名.bin": os.urandom(100_000)}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    packed = subprocess.run(["tar", "-cz", "team-b"], cwd=source.parent, stdout=subprocess.PIPE, check=True).stdout
    upload(configured(), packed)
    assert files_of(root / "team-b") == files_of(source)


def test_a_name_given_wins_and_modes_are_usual(configured: Any, root: Path) -> None:
    odd = [
        entry("t/run.sh", mode=0o6755, size=1),
        entry("t/secret", mode=0o000, size=1),
        entry("t/input/locked", tarfile.DIRTYPE, mode=0o000),
    ]
    upload(configured(), a_tar(below("t", GOOD), *odd), name="组 7")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root / "组 7").rglob("*")}
    assert modes["run.sh"] == modes["locked"] == modes["input"] == 0o755
    assert modes["secret"] == modes["meta.json"] == 0o644
    assert stat.S_IMODE((root / "组 7").stat().st_mode) == 0o755


def test_records_that_were_not_made_here_are_left_out(configured: Any, root: Path) -> None:
    forged = {
        "output/result.json": b'{"summary": {"score": 1.0}}',
        "output/artifacts/report.html": b"<b>1.0</b>",
        "output/history/result-1.json": b"{}",
        "logs/run_info.json": b"{}",
        ".autoscorer/lock": b"",
    }
    done = upload(configured(), a_zip(below("w", {**GOOD, **forged}) | {"__MACOSX/w/._meta.json": b"x"}))
    assert files_of(root / "w") == GOOD
    assert done.left_out == [
        ".autoscorer",
        "__MACOSX",
        "logs",
        "output/artifacts",
        "output/history",
        "output/result.json",
    ]
    assert done.workspace.score is None


def test_a_file_of_two_names_that_tar_packed_comes_out_as_two_files(
    configured: Any, root: Path, tmp_path: Path
) -> None:
    """As in a workspace that was scored: its kept artifacts are the same files as those it shows."""
    source = tmp_path / "packed" / "w"
    for name, content in GOOD.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    os.link(source / "input/data/x.csv", source / "input/data/y.csv")
    kept = source / ".autoscorer/artifacts"
    kept.mkdir(parents=True)
    os.link(source / "output/pred.csv", kept / "pred.csv")
    packed = tmp_path / "w.tar.gz"
    subprocess.run(["tar", "czf", packed, "w"], cwd=source.parent, check=True)
    with tarfile.open(packed) as archive:
        assert sum(member.islnk() for member in archive) == 2
    upload(configured(), packed.read_bytes())
    assert files_of(root / "w") == {**GOOD, "input/data/y.csv": GOOD["input/data/x.csv"]}
    assert all(path.stat().st_nlink == 1 for path in (root / "w").rglob("*.csv"))


def test_the_bytes_of_hard_links_count_each(configured: Any) -> None:
    links = [entry(f"input/data/{number}", tarfile.LNKTYPE, "input/big") for number in range(10)]
    archive = a_tar({**GOOD, "input/big": os.urandom(50_000)}, *links)
    error = refused(configured(max_unpacked=300_000), archive)
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE and "api.max_unpacked" in error.message


# --- what is refused -------------------------------------------------------------------------------------------------

ESCAPES = ["../evil", "a/../../evil", "/etc/evil", "a//b", "a/b/../c", "C:/evil", "..", "a\\..\\evil", "new\nline"]
SPECIAL = {
    "a symbolic link": entry("input/data/l", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link out of it": entry("input/data/l", tarfile.LNKTYPE, "../gt.csv"),
    "a hard link to an absolute path": entry("input/data/l", tarfile.LNKTYPE, "/etc/passwd"),
    "a hard link to nothing": entry("input/data/l", tarfile.LNKTYPE, "input/data/later"),
    "a hard link to itself": entry("input/data/l", tarfile.LNKTYPE, "input/data/l"),
    "a hard link to a folder": entry("input/data/l", tarfile.LNKTYPE, "input"),
    "a hard link where a file is": entry("meta.json", tarfile.LNKTYPE, "input/gt.csv"),
    "a FIFO": entry("input/data/f", tarfile.FIFOTYPE),
    "a character device": entry("input/data/d", tarfile.CHRTYPE),
    "a block device": entry("input/data/d", tarfile.BLKTYPE),
    "a sparse file": entry("input/data/s", tarfile.GNUTYPE_SPARSE),
    "an unknown kind": entry("input/data/u", b"Q"),
    "a file twice": entry("meta.json", size=3),
    "a folder where a file is": entry("meta.json", tarfile.DIRTYPE),
    "a file where a folder is": entry("input", size=1),
    "a file below a file": entry("meta.json/x", size=1),
}


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("pack", [a_zip, a_tar], ids=["zip", "tar"])
def test_a_path_that_is_not_plain_is_refused(configured: Any, pack: Any, name: str) -> None:
    assert refused(configured(), pack({**GOOD, name: b"x"})).code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_no_plain_file_is_refused(configured: Any, what: str) -> None:
    assert refused(configured(), a_tar(GOOD, SPECIAL[what])).code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFDIR])
def test_what_is_no_plain_file_in_a_zip_is_refused(configured: Any, kind: int) -> None:
    archive = a_zip(GOOD, modes={"input/data/l": kind | 0o777}, content=b"/etc/passwd")
    assert refused(configured(), archive).code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("name", ["x" * 256, "名" * 86, "/".join(["d" * 100] * 11), "/".join("d" * 65)])
def test_a_name_that_is_too_long_is_refused(configured: Any, name: str) -> None:
    for pack in (a_zip, a_tar):
        error = refused(configured(), pack({**GOOD, name: b"x"}))
        assert error.code is ErrorCode.INVALID_REQUEST and len(error.message) < 600


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_appears_twice_in_a_zip_is_refused(configured: Any) -> None:
    assert "twice" in refused(configured(), a_zip(GOOD, modes={"meta.json": stat.S_IFREG})).message


def test_a_name_with_nul_is_refused(configured: Any) -> None:
    archive = a_zip({**GOOD, "input/data/aXb": b""}).replace(b"aXb", b"a\0b")
    assert refused(configured(), archive).code is ErrorCode.INVALID_REQUEST


def test_names_that_differ_only_in_case_are_two(configured: Any, root: Path) -> None:
    upload(configured(), a_zip({**GOOD, "input/data/X.csv": b"2"}))
    assert (root / "team-a/input/data/X.csv").read_bytes() == b"2"


def test_an_encrypted_zip_is_refused(configured: Any) -> None:
    archive = bytearray(a_zip(GOOD))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(signature) + offset] |= 1
    assert "encrypted" in refused(configured(), bytes(archive)).message


@pytest.mark.parametrize("files", [{}, {"input/gt.csv": b""}, {"a/meta.json": META, "b/meta.json": META}])
def test_what_holds_no_workspace_is_refused(configured: Any, files: dict[str, bytes]) -> None:
    expected = ErrorCode.INVALID_META
    assert refused(configured(), a_zip(files)).code is expected
    assert refused(configured(), a_tar(files)).code in (expected, ErrorCode.INVALID_REQUEST)


@pytest.mark.parametrize("meta", [b"", b"{", b"[]", b'{"scorrer": "x"}', b'{"timeout": "never"}'])
def test_a_meta_json_nobody_can_use_is_refused(configured: Any, meta: bytes) -> None:
    assert refused(configured(), a_zip({**GOOD, "meta.json": meta})).code is ErrorCode.INVALID_META


@pytest.mark.parametrize(
    "name", [".hidden", "-rf", "a/b", "..", "", "*", "a?", "x" * 101, "a\0", "a\n", " a", "a;b", "$HOME", "\ud800"]
)
def test_a_name_that_is_none_is_refused(configured: Any, name: str) -> None:
    assert refused(configured(), a_zip(GOOD), name=name).code is ErrorCode.INVALID_REQUEST


HIDDEN = [
    *("\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069", "\u200e", "\u200f"),
    *("\u061c", "\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\U000e0041", "\u2028", "\u2029", "\x7f", "\x85"),
]


@pytest.mark.parametrize("hidden", HIDDEN, ids=lambda char: f"U+{ord(char):04X}")
def test_a_character_that_is_not_seen_stands_in_no_name(configured: Any, hidden: str) -> None:
    for files in (
        {**GOOD, f"input/data/exe{hidden}gpj.csv": b"x"},
        {**GOOD, f"input/fol{hidden}der/x.csv": b"x"},
        below(f"team{hidden}", GOOD),
    ):
        for pack in (a_zip, a_tar):
            error = refused(configured(), pack(files), name="team-a")
            assert error.code is ErrorCode.INVALID_REQUEST
            # Nor in what is said of it.
            assert hidden not in error.message and "not seen" in error.message
    for options in ({"name": f"team{hidden}a"}, {"filename": f"team{hidden}a.zip"}):
        error = refused(configured(), a_zip(GOOD), **options)
        assert error.code is ErrorCode.INVALID_REQUEST and hidden not in error.message


def test_names_of_every_language_are_taken(configured: Any, root: Path) -> None:
    # Among them spaces that macOS puts into the names of its pictures.
    names = [
        "数据.csv",
        "données.csv",
        "Δεδομένα",
        "بيانات.csv",
        "נתונים",
        "データ　一.csv",
        "3.04\u202fPM.png",
        "a\u00a0b",
    ]
    upload(configured(), a_zip({**GOOD, **{f"input/data/{name}": b"x" for name in names}}), name="Équipe-1")
    assert set(names) <= set(os.listdir(root / "Équipe-1" / "input" / "data"))


@pytest.mark.parametrize("filename", [None, "", ".zip", "../../.tar.gz"])
def test_an_archive_without_a_name_needs_one(configured: Any, filename: str | None) -> None:
    assert "`name`" in refused(configured(), a_zip(GOOD), filename=filename).message


@pytest.mark.parametrize("taken", ["folder", "file", "link", "dangling link", "empty folder"])
def test_a_name_that_is_taken_is_a_conflict(configured: Any, root: Path, taken: str) -> None:
    place = root / "team-a"
    if "folder" in taken:
        place.mkdir()
    if taken == "folder":
        (place / "precious").write_text("x")
    elif taken == "file":
        place.write_text("x")
    elif "link" in taken:
        place.symlink_to(root.parent if taken == "link" else "nowhere")
    for name in (None, "team-a"):
        assert refused(configured(), a_zip(GOOD), name=name).code is ErrorCode.CONFLICT


def test_of_two_uploads_of_one_name_one_is_placed(configured: Any, root: Path) -> None:
    settings = configured()
    uploads = Uploads(settings, WorkspaceRoots(settings))

    async def send(marker: bytes) -> object:
        try:
            async with uploads.begin() as under_way:
                await under_way.write(a_zip({**GOOD, "input/data/x.csv": marker}))
                return await under_way.place(name="same", filename=None)
        except AutoScorerError as error:
            return error.code

    async def both() -> list[object]:
        return list(await asyncio.gather(*(send(b"%d" % number) for number in range(6))))

    outcomes = asyncio.run(both())
    assert outcomes.count(ErrorCode.CONFLICT) == 5
    assert os.listdir(root) == ["same"]


RACING = """
import asyncio, sys
from pathlib import Path
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.service.workspaces.uploads import Uploads

root, archive = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
settings = Settings(workspace_roots=(root,))

async def race():
    roots = WorkspaceRoots(settings)
    async with Uploads.running(settings, roots) as uploads:
        print("ready", flush=True)
        for line in sys.stdin:
            what, name = line.split()
            try:
                if what == "delete":
                    await uploads.delete(root / name)
                else:
                    async with uploads.begin(root / name if what == "replace" else None) as under_way:
                        await under_way.write(archive)
                        await under_way.place(name=name if what == "new" else None, filename="x.zip")
                print("done", flush=True)
            except AutoScorerError as error:
                print(error.code.value, flush=True)

asyncio.run(race())
"""


@pytest.mark.slow
def test_of_two_replicas_that_take_one_name_at_once_one_has_it(root: Path, tmp_path: Path) -> None:
    """Each has a home of its own; they have the root in common, and no lock but those that lie there."""
    replicas = []
    for number in range(2):
        packed = tmp_path / f"{number}.zip"
        packed.write_bytes(
            a_zip({**GOOD, "output/pred.csv": b"id,label\na,%d\n" % number, "input/data/only": b"x" * 99})
        )
        replicas.append(
            subprocess.Popen(
                [sys.executable, "-c", RACING, str(root), str(packed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "AUTOSCORER_HOME": str(tmp_path / f"home-{number}")},
            )
        )

    def told(number: int) -> str:
        stdout = replicas[number].stdout
        assert stdout is not None
        return stdout.readline().strip()

    def both(*orders: str) -> list[str]:
        for replica, order in zip(replicas, orders, strict=True):
            assert replica.stdin is not None
            replica.stdin.write(order + "\n")
            replica.stdin.flush()
        return [told(0), told(1)]

    try:
        assert [told(0), told(1)] == ["ready", "ready"]
        for turn in range(20):
            name = f"ws-{turn}"
            answers = both(f"new {name}", f"new {name}")
            assert sorted(answers) == ["CONFLICT", "done"], answers
            winner = answers.index("done")
            assert (root / name / "output" / "pred.csv").read_bytes() == b"id,label\na,%d\n" % winner
            # One replaces it while the other deletes it: it is a whole one, or gone.
            answers = both(f"replace {name}", f"delete {name}")
            assert "done" in answers and set(answers) <= {"done", "CONFLICT", "WORKSPACE_NOT_FOUND"}, answers
            if (root / name).exists():
                assert (root / name / "output" / "pred.csv").read_bytes() == b"id,label\na,0\n"
        assert not [left for left in os.listdir(root) if left.startswith(".")]
    finally:
        for replica in replicas:
            replica.communicate()


# --- bombs -----------------------------------------------------------------------------------------------------------


def zeros(size: int) -> bytes:
    return bytes(size)


@pytest.mark.parametrize("packing", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_what_unpacks_to_more_than_allowed_is_refused(configured: Any, packing: str) -> None:
    archive = PACKINGS[packing]({**GOOD, "input/data/big": zeros(3_000_000)})
    error = refused(configured(max_unpacked=2_000_000), archive, step=1 << 20)
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE and "api.max_unpacked" in error.message


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["zip", "tar.gz", "tar.xz"])
def test_what_unpacks_to_hundreds_of_times_its_size_is_refused(configured: Any, packing: str) -> None:
    archive = PACKINGS[packing]({**GOOD, "input/data/big": zeros(80 * 1024**2)})
    assert "bomb" in refused(configured(), archive, step=1 << 20).message


def test_more_files_than_allowed_are_refused(configured: Any) -> None:
    many = {**GOOD, **{f"input/data/{number}": b"" for number in range(100)}}
    deep = {**GOOD, "/".join(["d"] * 60): b"", "/".join(["e"] * 60): b""}
    for pack in (a_zip, a_tar):
        for files in (many, deep):
            error = refused(configured(max_files=50), pack(files))
            assert error.code is ErrorCode.PAYLOAD_TOO_LARGE and "api.max_files" in error.message


def test_an_archive_larger_than_allowed_is_refused_while_it_comes(configured: Any) -> None:
    archive = a_zip({**GOOD, "input/data/r": os.urandom(50_000)})
    error = refused(configured(max_upload=20_000), archive)
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE and "api.max_upload" in error.message


def test_members_that_overlap_do_not_multiply(configured: Any) -> None:
    """Many lines of the list that mean the same bytes: as many times the content, and hardly any archive."""
    archive = a_zip({"meta.json": META, "input/big": os.urandom(200_000)})
    start, end = archive.rindex(b"PK\x01\x02"), archive.index(b"PK\x05\x06")
    line = archive[start:end]
    lines = b"".join(line.replace(b"input/big", b"input/%03d" % number) for number in range(100))
    count = (len(lines) // len(line) + 1).to_bytes(2, "little")
    directory = archive[archive.index(b"PK\x01\x02") : start] + lines
    tail = bytearray(archive[end:])
    tail[8:10] = tail[10:12] = count
    tail[12:16] = len(directory).to_bytes(4, "little")
    refused(configured(max_unpacked=2_000_000), archive[: archive.index(b"PK\x01\x02")] + directory + bytes(tail))


def test_a_list_of_a_million_members_fills_no_memory() -> None:
    central = b"PK\x01\x02" + bytes(24) + (1).to_bytes(2, "little") + bytes(16) + b"x"
    directory = central * 300_000
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + len(directory).to_bytes(4, "little") + bytes(6)
    file = io.BytesIO(b"PK\x03\x04" + directory + end)
    tracemalloc.start()
    try:
        with pytest.raises(AutoScorerError):
            list(read_archive(file, ArchiveLimits(files=10_000, unpacked=1 << 30)))
        assert tracemalloc.get_traced_memory()[1] < 20 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_dictionary_of_a_gigabyte_is_refused(configured: Any) -> None:
    archive = bytearray(lzma.compress(a_tar(GOOD), lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    # The block header's dictionary size, and the header's checksum.
    size = (archive[12] + 1) * 4
    header = bytearray(archive[12 : 12 + size - 4])
    assert header[2:4] == b"\x21\x01"  # LZMA2, with one byte of properties
    header[4] = 36  # 1 GiB
    archive[12 : 12 + size] = bytes(header) + zlib.crc32(bytes(header)).to_bytes(4, "little")
    assert refused(configured(), bytes(archive)).code is ErrorCode.INVALID_REQUEST


def test_a_full_disk_refuses_uploads(configured: Any) -> None:
    settings = configured()
    limits = settings.security.limits.model_copy(update={"free_disk": 1 << 60})
    full = settings.model_copy(update={"security": settings.security.model_copy(update={"limits": limits})})
    assert refused(full, a_zip(GOOD)).code is ErrorCode.STORAGE_FULL


# --- what ends half-way ----------------------------------------------------------------------------------------------


def test_an_upload_that_is_given_up_leaves_nothing(configured: Any, root: Path) -> None:
    async def give_up() -> None:
        settings = configured()
        uploads = Uploads(settings, WorkspaceRoots(settings))

        async def send() -> None:
            async with uploads.begin() as under_way:
                await under_way.write(a_zip({**GOOD, "input/data/r": os.urandom(30_000_000)}))
                await under_way.place(name="w", filename=None)

        task = asyncio.create_task(send())
        while not list(root.glob(".autoscorer-upload-*/unpacked")):
            await asyncio.sleep(0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, AutoScorerError):
            await task
        # Without waiting the thread might still be at work.
        await asyncio.get_running_loop().run_in_executor(None, uploads._threads.shutdown)

    asyncio.run(give_up())
    assert os.listdir(root) in ([], ["w"])


KILLED = """
import asyncio, sys
from pathlib import Path
from autoscorer.core.config import Settings
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.service.workspaces.uploads import Uploads

async def main():
    settings = Settings(workspace_roots=(Path(sys.argv[1]),))
    async with Uploads(settings, WorkspaceRoots(settings)).begin() as upload:
        await upload.write(b"x" * 5_000_000)
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_what_a_killed_process_left_goes_at_the_next_start_and_nothing_else(configured: Any, root: Path) -> None:
    roots = WorkspaceRoots(configured())
    upload(configured(), a_zip(GOOD))
    children = []
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        children.append(child)
    children[0].send_signal(signal.SIGKILL)
    children[0].wait()
    left = set(root.glob(".autoscorer-upload-*"))
    assert len(left) == 2
    assert len(remove_leftovers(roots)) == 1  # the other one is still at work
    assert len(set(root.glob(".autoscorer-upload-*"))) == 1
    children[1].kill()
    children[1].wait()
    for child in children:
        assert child.stdout is not None
        child.stdout.close()
    # One that was killed before it had a lock is told by its age.
    young, old = root / ".autoscorer-upload-young", root / ".autoscorer-upload-old"
    for folder in (young, old):
        folder.mkdir()
    os.utime(old, (time.time() - 3600,) * 2)
    assert len(remove_leftovers(roots)) == 2
    assert sorted(os.listdir(root)) == [young.name, "team-a"]


# --- any bytes at all ------------------------------------------------------------------------------------------------

SAMPLES = [pack(GOOD) for pack in PACKINGS.values()]


@st.composite
def damaged(draw: Any) -> bytes:
    archive = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, len(archive) - 1))
        archive[position] = draw(st.integers(0, 255))
    return bytes(archive[: draw(st.integers(1, len(archive)))] if draw(st.booleans()) else archive)


@given(st.one_of(damaged(), st.binary(max_size=2000), st.binary(max_size=500).map(lambda data: b"PK\x03\x04" + data)))
@hypothesis_settings(max_examples=examples(400), deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    limits = ArchiveLimits(files=20, unpacked=100_000)
    total = 0
    try:
        for number, member in enumerate(read_archive(io.BytesIO(data), limits)):
            assert number < limits.files and 0 < len(member.parts) <= 64
            for part in member.parts:
                assert (
                    part not in ("", ".", "..") and "/" not in part and "\0" not in part and len(part.encode()) <= 255
                )
            total += sum(map(len, member.chunks))
    except AutoScorerError as error:
        assert error.code in (ErrorCode.INVALID_REQUEST, ErrorCode.PAYLOAD_TOO_LARGE)
        error.message.encode()
    assert total <= limits.unpacked


names = st.text(st.sampled_from("ab./\\\0\n é名"), min_size=1, max_size=12)


@given(st.lists(names, max_size=6), st.sampled_from([a_tar, a_zip]))
@hypothesis_settings(max_examples=examples(200), deadline=None)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_names_it_holds_nothing_leaves_the_folder(
    tmp_path_factory: pytest.TempPathFactory, found: list[str], pack: Any
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    root = outer / "root"
    root.mkdir()
    settings = Settings(workspace_roots=(root,))
    with contextlib.suppress(AutoScorerError):
        upload(settings, pack({"meta.json": META, **dict.fromkeys(found, b"x")}), name="w")
    assert os.listdir(outer) == ["root"] and os.listdir(root) in ([], ["w"])
    assert not any(path.is_symlink() for path in root.rglob("*"))
