"""An image archive of a stranger: its names never reach the engine, and it can neither hang, fill nor crash us."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.images.archive import untagged
from hypothesis import given, settings
from hypothesis import strategies as st

settings.register_profile("autoscorer", deadline=None)
settings.load_profile("autoscorer")

TAG = "autoscorer-loaded:abc"
LIMIT = 10 * 1024**2
EVIL = "python:3.12-slim"
MANIFEST = [{"Config": "blobs/sha256/c", "RepoTags": [EVIL, "other:latest"], "Layers": ["blobs/sha256/l"]}]
INDEX = {
    "schemaVersion": 2,
    "manifests": [
        {
            "digest": "sha256:d",
            "annotations": {
                "io.containerd.image.name": f"docker.io/library/{EVIL}",
                "org.opencontainers.image.ref.name": "3.12-slim",
                "org.opencontainers.image.created": "2024",
            },
        }
    ],
}
Part = tuple[str, bytes | tarfile.TarInfo]


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


GOOD: list[Part] = [
    ("blobs/sha256/c", b"{}"),
    ("blobs/sha256/l", b"layer" * 1000),
    ("index.json", as_bytes(INDEX)),
    ("manifest.json", as_bytes(MANIFEST)),
    ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
    ("repositories", as_bytes({"python": {"3.12-slim": "x"}})),
]


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def tar(parts: list[Part], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as out:
        for name, content in parts:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                out.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def load(folder: Path, data: bytes, name: str = "image.tar", limit: int = LIMIT) -> dict[str, bytes | None]:
    """What an engine would unpack: the last content of each name, as `tar` reads it."""
    (folder / name).write_bytes(data)
    with untagged(folder / name, TAG, limit) as file, tarfile.open(fileobj=file, mode="r:") as copy:
        found = {}
        for member in copy:
            content = copy.extractfile(member) if member.isreg() else None
            found[os.path.normpath(member.name)] = content.read() if content else None
        return found


def refused(folder: Path, data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(AutoScorerError) as caught:
        load(folder, data, limit=limit)
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND
    assert caught.value.message.startswith("image.tar is not an image archive")
    assert len(caught.value.message) < 700
    return caught.value.message


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_the_names_are_replaced_and_the_rest_is_kept(tmp_path: Path, form: int, pack: Callable[[bytes], bytes]) -> None:
    found = load(tmp_path, pack(tar(GOOD, form)))
    assert json.loads(found["manifest.json"] or b"") == [{**MANIFEST[0], "RepoTags": [TAG]}]
    assert json.loads(found["index.json"] or b"")["manifests"] == [
        {"digest": "sha256:d", "annotations": {"org.opencontainers.image.created": "2024"}}
    ]
    assert "repositories" not in found
    assert EVIL.encode() not in b"".join(value or b"" for value in found.values())
    for name in ("blobs/sha256/c", "blobs/sha256/l", "oci-layout"):
        assert found[name] == dict(GOOD)[name]


def test_the_result_is_gone_afterwards_and_begins_at_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(tar(GOOD))
    with untagged(tmp_path / "image.tar", TAG, LIMIT) as file:
        assert file.tell() == 0
    assert file.closed
    assert os.listdir(tmp_path) == ["image.tar"]


def test_one_archive_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    copies = []
    for mtime in (0, 1_000_000):
        parts: list[Part] = []
        for name, content in GOOD:
            info = tarfile.TarInfo(name)
            info.mtime, info.uname = mtime, f"user{mtime}"
            parts.append((name, content))
        (tmp_path / "image.tar").write_bytes(tar(parts))
        with untagged(tmp_path / "image.tar", TAG, LIMIT) as file:
            copies.append(file.read())
    assert copies[0] == copies[1]


def test_what_older_engines_and_plain_tar_write_is_read(tmp_path: Path) -> None:
    folder, base = tarfile.TarInfo(), tarfile.TarInfo()
    folder.type = base.type = tarfile.DIRTYPE
    long_name = "a" * 64 + "/" + "b" * 120 + "/layer.tar"
    found = load(
        tmp_path,
        tar(
            [
                ("./", base),
                ("./" + "a" * 64, folder),
                ("./" + long_name, b"layer"),
                ("./" + "c" * 64 + "/layer.tar", link(tarfile.SYMTYPE, f"../{long_name}")),
                ("./manifest.json", as_bytes(MANIFEST)),
                ("./repositories", b"{}"),
            ],
            tarfile.GNU_FORMAT,
        ),
    )
    assert json.loads(found["manifest.json"] or b"")[0]["RepoTags"] == [TAG]
    assert found[long_name] == b"layer" and "repositories" not in found


@pytest.mark.parametrize(
    "path",
    ["x/../manifest.json", ".//manifest.json", "././manifest.json", "/manifest.json", "x/./../manifest.json",
     "manifest.json"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["before", "after"])
def test_no_second_manifest_gets_in_under_another_spelling(tmp_path: Path, path: str, where: str) -> None:
    second: list[Part] = [(path, as_bytes(MANIFEST))]
    refused(tmp_path, tar(second + GOOD if where == "before" else GOOD + second))


@pytest.mark.parametrize("path", ["x/../repositories", ".//repositories", "/repositories", "././index.json"])
def test_nor_the_other_files_that_hold_names(tmp_path: Path, path: str) -> None:
    refused(tmp_path, tar([part for part in GOOD if part[0] not in ("repositories", "index.json")] + [(path, b"{}")]))


@pytest.mark.parametrize(
    "extra",
    [
        [("manifest.json", link(tarfile.SYMTYPE, "blobs/sha256/evil"))],
        [("manifest.json", link(tarfile.LNKTYPE, "blobs/sha256/evil"))],
        [("d", link(tarfile.SYMTYPE, ".")), ("d/manifest.json", as_bytes(MANIFEST))],
        [("d/layer.tar", link(tarfile.SYMTYPE, "../x.tar")), ("d/layer.tar/manifest.json", as_bytes(MANIFEST))],
        [("d/layer.tar", link(tarfile.SYMTYPE, ".."))],
        [("d/layer.tar", link(tarfile.SYMTYPE, "../../etc/x.tar"))],
        [("d/layer.tar", link(tarfile.SYMTYPE, "/etc/x.tar"))],
        [("hard", link(tarfile.LNKTYPE, "manifest.json"))],
        [("blobs/sha256/l", b"again")],
        [("blobs/sha256/l/below", b"x")],
        [("fifo", link(tarfile.FIFOTYPE, ""))],
        [("device", link(tarfile.CHRTYPE, ""))],
        [("disk", link(tarfile.BLKTYPE, ""))],
        [("sparse", link(tarfile.GNUTYPE_SPARSE, ""))],
        [("odd", link(b"Z", ""))],
        [("../escape", b"x")],
        [("..", link(tarfile.DIRTYPE, ""))],
        [("a/../../escape", b"x")],
        [("/etc/passwd", b"x")],
        [("a//b", b"x")],
    ],
    ids=lambda extra: f"{extra[-1][0]}-{getattr(extra[-1][1], 'type', b'file').decode()}",
)
@pytest.mark.parametrize("first", [True, False])
def test_links_devices_and_paths_that_leave_are_refused(tmp_path: Path, extra: list[Part], first: bool) -> None:
    refused(tmp_path, tar(extra + GOOD if first else GOOD + extra))


def test_a_name_hidden_in_a_record_is_seen(tmp_path: Path) -> None:
    info = tarfile.TarInfo("innocent")
    info.pax_headers = {"path": "x/../manifest.json"}
    refused(tmp_path, tar([*GOOD, ("innocent", info)]))
    info = tarfile.TarInfo("innocent")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    assert "sparse" in refused(tmp_path, tar([*GOOD, ("innocent", info)]))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (MANIFEST * 2, "expected one image, found 2"),
        ([], "expected one image, found 0"),
        ({}, "expected one image"),
        ([5], "expected one image"),
        (None, "expected one image"),
    ],
)
def test_anything_but_one_image_is_refused(tmp_path: Path, manifest: Any, words: str) -> None:
    assert words in refused(tmp_path, tar([("manifest.json", as_bytes(manifest))]))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b" " * 5_000_000])
@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path, name: str, text: bytes) -> None:
    refused(tmp_path, tar([part for part in GOOD if part[0] != name] + [(name, text)]))


@pytest.mark.parametrize("index", [[], None, 5, {}, {"manifests": None}, {"manifests": {}}, {"manifests": ["a"]}])
def test_an_index_of_another_shape_is_refused(tmp_path: Path, index: Any) -> None:
    refused(tmp_path, tar([part for part in GOOD if part[0] != "index.json"] + [("index.json", as_bytes(index))]))


@pytest.mark.parametrize("annotations", [None, [], "x", {}])
def test_annotations_of_another_shape_do_no_harm(tmp_path: Path, annotations: Any) -> None:
    index = as_bytes({"manifests": [{"annotations": annotations}]})
    assert load(tmp_path, tar([part for part in GOOD if part[0] != "index.json"] + [("index.json", index)]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 10_240,
        b"text " * 1000,
        b"\x1f\x8b" + b"x" * 100,
        gzip.compress(b"text " * 1000),
        tar(GOOD)[:700],
        tar(GOOD)[: tar(GOOD).index(b"layerlayer") + 100],
        gzip.compress(tar(GOOD))[:-20],
        tar([("blobs/x", b"y")]),
        b"BZh9" + b"x" * 1000,
    ],
    ids=[
        "empty",
        "zeros",
        "text",
        "gz of nothing",
        "gz of text",
        "cut",
        "cut in a file",
        "gz cut",
        "no manifest",
        "bz2",
    ],
)
def test_what_is_no_image_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data)


@given(data=st.data())
def test_no_broken_archive_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    broken = bytearray(tar(GOOD, data.draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))))
    for _ in range(data.draw(st.integers(1, 4))):
        # Mostly in a header, with its checksum put right again, so that the field itself is read.
        header = data.draw(st.sampled_from(range(0, len(broken) - 1024, 512)))
        at = header + data.draw(st.integers(0, 500))
        broken[at] = data.draw(st.integers(0, 255))
        block = broken[header : header + 512]
        block[148:156] = b" " * 8
        broken[header + 148 : header + 156] = b"%06o\0 " % sum(block)
    try:
        found = load(folder, bytes(broken))
    except AutoScorerError as error:
        assert error.code is ErrorCode.IMAGE_NOT_FOUND
    else:
        assert json.loads(found["manifest.json"] or b"")[0]["RepoTags"] == [TAG]


def test_one_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    assert "more than the allowed" in refused(tmp_path, tar([*GOOD, ("big", b"x" * 2_000_000)]), limit=1_000_000)
    assert "more than the allowed" in refused(
        tmp_path, gzip.compress(tar([("big", bytes(2_000_000))])), limit=1_000_000
    )
    # It is the headers' sizes that count, and they are believed before a byte is copied.
    info = tarfile.TarInfo("big")
    info.size = 8**11 - 1
    assert "more than the allowed" in refused(tmp_path, info.tobuf(tarfile.USTAR_FORMAT))
    info.size = -5
    refused(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def many_files(write: Callable[[bytes], object]) -> None:
    for number in range(30_000):
        write(tarfile.TarInfo(f"f{number}").tobuf(tarfile.USTAR_FORMAT))


def long_name(write: Callable[[bytes], object], kind: bytes = tarfile.GNUTYPE_LONGNAME) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 2**31
    write(info.tobuf(tarfile.GNU_FORMAT))
    for _ in range(400):
        write(bytes(1024**2))


def long_records(write: Callable[[bytes], object]) -> None:
    long_name(write, tarfile.XHDTYPE)


def endless_headers(write: Callable[[bytes], object]) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XGLTYPE, 1024
    for _ in range(30_000):
        write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))


BOMB = """
import resource, sys
from pathlib import Path
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.images.archive import untagged
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with untagged(Path(sys.argv[1]), "tag:1", 20 * 1024**3): pass
except AutoScorerError as error:
    print(error.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fill", [many_files, long_name, long_records, endless_headers])
def test_a_gzip_bomb_costs_little_memory(tmp_path: Path, fill: Callable[[Callable[[bytes], object]], None]) -> None:
    with gzip.open(tmp_path / "image.tar.gz", "wb", compresslevel=1) as file:
        fill(file.write)
    done = subprocess.run(
        [sys.executable, "-c", BOMB, tmp_path / "image.tar.gz"], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.startswith("IMAGE_NOT_FOUND "), done.stderr
    assert int(done.stdout.split()[1]) < 64 * 1024  # KiB


def test_no_link_is_followed_and_no_fifo_waited_for(tmp_path: Path) -> None:
    (tmp_path / "real.tar").write_bytes(tar(GOOD))
    for place, make in (
        ("link.tar", lambda path: path.symlink_to("real.tar")),
        ("zero.tar", lambda path: path.symlink_to("/dev/zero")),
        ("fifo.tar", os.mkfifo),
        ("folder.tar", Path.mkdir),
        ("missing.tar", lambda path: None),
    ):
        make(tmp_path / place)
        with pytest.raises(AutoScorerError) as caught, untagged(tmp_path / place, TAG, LIMIT):
            pass
        assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND


def test_an_error_of_the_engine_is_not_taken_for_one_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(tar(GOOD))
    with pytest.raises(OSError, match="engine"), untagged(tmp_path / "image.tar", TAG, LIMIT):
        raise OSError("engine")
