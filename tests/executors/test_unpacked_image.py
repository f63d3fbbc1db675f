"""The store of unpacked images: each is unpacked once, what is in use stays, and nothing half is ever there."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.files import remove_tree
from autoscorer.executors.images import store_folder, unpacked
from autoscorer.executors.images.image_config import ImageConfig, machine
from autoscorer.executors.images.unpacked import ImageStore

from ..support.images import digest, docker_files, file, folder, layer, link, oci_files, pack, snapshot, write_layout
from ..support.small_disk import filled, small_disk

LIMIT = 64 * 1024**2
LAYERS = [
    layer([folder("bin"), file("bin/sh", b"#!", 0o755), file("old")]),
    layer([file(".wh.old"), file("etc/name", b"model"), link("sh", "bin/sh")]),
]
TREE = {
    "bin": ("folder", 0o755),
    "bin/sh": ("file", 0o755, b"#!"),
    "etc": ("folder", 0o755),
    "etc/name": ("file", 0o644, b"model"),
    "sh": ("link", "bin/sh"),
}
CONFIG = {
    "Env": ["PATH=/bin", "EMPTY=", "A=b=c"],
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["run"],
    "WorkingDir": "/srv",
    "Volumes": {"/data": {}},
    "User": "1000:1000",
}
READ = ImageConfig(("PATH=/bin", "EMPTY=", "A=b=c"), ("/bin/sh", "-c"), ("run",), "/srv", ("/data",), "1000:1000")


@pytest.fixture
def store(home: Path) -> ImageStore:
    return ImageStore(home, LIMIT)


def sized(number: int, size: int = 1024**2) -> dict[str, bytes]:
    """An image of its own for each number."""
    return docker_files([layer([file("data", bytes([number]) * size)])])


def keys(home: Path) -> set[str]:
    """The images that a store holds."""
    return {name for name in os.listdir(home / "images") if len(name) == 64}


def leftovers(home: Path) -> list[str]:
    """What lies in a store besides images and their locks."""
    images = home / "images"
    locks = set(os.listdir(images / "locks")) - keys(home)
    others = set(os.listdir(images)) - keys(home) - {"work", "locks", "known"}
    return [*os.listdir(images / "work"), *locks, *others]


def refused(store: ImageStore, path: Path, words: str, *, most: int = LIMIT) -> AutoScorerError:
    with pytest.raises(AutoScorerError, match=words) as caught, store.archive(path, most):
        pass
    error = caught.value
    assert error.code is ErrorCode.IMAGE_NOT_FOUND
    assert error.message.startswith(f"{path.name} is not an image archive as `docker save` writes it: ")
    assert error.message.isprintable() and len(error.message) < 1000
    return error


# --- layouts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True], ids=["tar", "tar.gz"])
@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain layers", "gzip layers"])
@pytest.mark.parametrize(
    "files",
    [
        docker_files,
        lambda *given: docker_files(*given, old=True),
        oci_files,
        lambda *given: docker_files(*given) | oci_files(*given),
    ],
    ids=["docker", "old docker", "OCI", "both"],
)
def test_archives_of_every_kind(
    store: ImageStore, home: Path, tmp_path: Path, files: Any, packed: Callable[[bytes], bytes], zipped: bool
) -> None:
    content = files(LAYERS, CONFIG, packed)
    path = pack(tmp_path / ("image.tar.gz" if zipped else "image.tar"), content, zipped=zipped)
    with store.archive(path, LIMIT) as image:
        assert snapshot(image.rootfs) == TREE
        assert image.config == READ and image.notes == ()
        assert image.id in {digest(data) for data in content.values()}
        assert image.rootfs.is_relative_to(home / "images" / image.id.removeprefix("sha256:"))
        first = os.stat(image.rootfs).st_ino
    with ImageStore(home, LIMIT).archive(path, LIMIT) as again:
        assert dataclasses.replace(again) == image and os.stat(again.rootfs).st_ino == first
    assert leftovers(home) == []


def test_an_oci_layout_in_a_folder(store: ImageStore, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "layout", oci_files(LAYERS, CONFIG, gzip.compress))
    with store.layout(path, LIMIT) as image:
        assert snapshot(image.rootfs) == TREE and image.config == READ


def test_a_folder_is_read_as_an_oci_layout_alone(store: ImageStore, tmp_path: Path) -> None:
    """The names in a manifest.json could lead anywhere."""
    path = write_layout(tmp_path / "layout", docker_files(LAYERS))
    with pytest.raises(AutoScorerError, match="neither") as caught, store.layout(path, LIMIT):
        pass
    assert caught.value.code is ErrorCode.IMAGE_NOT_FOUND


def test_a_layer_that_old_engines_wrote_as_a_link(store: ImageStore, tmp_path: Path) -> None:
    tar = layer([file("a", b"1")])
    files = docker_files([tar, tar], old=True)
    second = f"{1:064x}/layer.tar"
    entries = [file(name, data) for name, data in files.items() if name != second]
    (tmp_path / "image.tar").write_bytes(layer([*entries, link(second, f"../{0:064x}/layer.tar")]))
    with store.archive(tmp_path / "image.tar", LIMIT) as image:
        assert snapshot(image.rootfs) == {"a": ("file", 0o644, b"1")}


def test_the_manifest_of_this_machine_is_chosen(store: ImageStore, tmp_path: Path) -> None:
    foreign = {"digest": digest(b"foreign"), "platform": {"os": "linux", "architecture": "mips"}}
    unknown = {"digest": digest(b"proof"), "platform": {"os": "unknown", "architecture": "unknown"}}
    files = oci_files(LAYERS, others=[foreign, unknown])
    with store.archive(pack(tmp_path / "image.tar", files), LIMIT) as image:
        assert snapshot(image.rootfs) == TREE
    two = {**foreign, "platform": {"os": "linux", "architecture": machine()}}
    files = oci_files(LAYERS, others=[two])
    refused(store, pack(tmp_path / "image.tar", files), f"expected one image for linux/{machine()}, found 2")
    index = json.loads(files["index.json"])
    index["manifests"] = [foreign, unknown]
    files["index.json"] = json.dumps(index).encode()
    refused(store, pack(tmp_path / "image.tar", files), "found 0")


def test_an_index_within_an_index(store: ImageStore, tmp_path: Path) -> None:
    files = oci_files(LAYERS)
    for _ in range(2):
        inner = files["index.json"]
        files[f"blobs/sha256/{digest(inner).removeprefix('sha256:')}"] = inner
        files["index.json"] = json.dumps({"manifests": [{"digest": digest(inner)}]}).encode()
    with store.archive(pack(tmp_path / "image.tar", files), LIMIT) as image:
        assert snapshot(image.rootfs) == TREE
    for _ in range(2):
        inner = files["index.json"]
        files[f"blobs/sha256/{digest(inner).removeprefix('sha256:')}"] = inner
        files["index.json"] = json.dumps({"manifests": [{"digest": digest(inner)}]}).encode()
    refused(store, pack(tmp_path / "image.tar", files), "lead from one to another")


def test_an_image_for_another_machine_is_noted(store: ImageStore, tmp_path: Path) -> None:
    files = docker_files(LAYERS, architecture="s390\x1bx")
    with store.archive(pack(tmp_path / "image.tar", files), LIMIT) as image:
        assert image.notes == (f"The image is for s390\\x1bx, and this machine is {machine()}.",)
    with store.archive(tmp_path / "image.tar", LIMIT) as again:
        assert again.notes == image.notes


# --- what is no image -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [docker_files, oci_files])
def test_every_blob_must_have_its_digest(store: ImageStore, home: Path, tmp_path: Path, make: Any) -> None:
    files = make(LAYERS, CONFIG, gzip.compress)
    for name in [name for name in files if name.startswith("blobs/")]:
        broken = bytearray(files[name])
        broken[-1] ^= 1
        wrong = pack(tmp_path / "image.tar", {**files, name: bytes(broken)})
        refused(store, wrong, "digest|broken|JSON|Expecting|delimiter")
        refused(store, pack(tmp_path / "image.tar", {key: files[key] for key in files if key != name}), "it has no")
        # Valid as it is, and not what was described.
        other = layer([file("evil")]) if files[name][:1] != b"{" else files[name] + b" "
        refused(store, pack(tmp_path / "image.tar", {**files, name: other}), "digest sha256:[0-9a-f]{64}, where sha256")
    assert keys(home) == set() and leftovers(home) == []


def test_layers_in_another_order_are_refused(store: ImageStore, tmp_path: Path) -> None:
    files = docker_files(LAYERS)
    manifest = json.loads(files["manifest.json"])
    manifest[0]["Layers"].reverse()
    files["manifest.json"] = json.dumps(manifest).encode()
    error = refused(store, pack(tmp_path / "image.tar", files), "digest")
    assert digest(LAYERS[0]) in error.message and digest(LAYERS[1]) in error.message
    manifest[0]["Layers"].pop()
    files["manifest.json"] = json.dumps(manifest).encode()
    refused(store, pack(tmp_path / "image.tar", files), "1 layers, and its configuration lists 2")


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{", b"[]", b"{}", b"[1]", b"[{}]", b"null", b'[{"Config": 1, "Layers": []}]', b"[" * 100_000, b"\xff",
     b'[{"Config": "c", "Layers": [1]}]', b'[{"Config": "../../etc/passwd", "Layers": ["x"]}]', b"9" * 5000,
     b'[{"Config": "blobs/sha256/zz", "Layers": []}]', b'[{"Config": "c"}, {"Config": "d"}]', b" " * 5_000_000],
)  # fmt: skip
@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_manifests_of_another_shape(store: ImageStore, tmp_path: Path, name: str, manifest: bytes) -> None:
    refused(store, pack(tmp_path / "image.tar", {name: manifest, "c": b"{}"}), ".")


@pytest.mark.parametrize(
    "config",
    [
        {"Env": ["NO_VALUE"]}, {"Env": ["=x"]}, {"Env": [1]}, {"Env": {}}, {"Env": ["A=\0"]}, {"Env": ["A=\ud800"]},
        {"Env": ["A=" + "x" * 70_000]}, {"Env": [f"A{number}=" for number in range(1001)]}, {"Entrypoint": [None]},
        {"Cmd": 5}, {"WorkingDir": []}, {"WorkingDir": "/a\0b"}, {"Volumes": ["/data"]}, {"Volumes": {"/a\0": {}}},
        {"User": 0.5}, {"Entrypoint": ["x" * 60_000] * 20},
    ],
)  # fmt: skip
def test_configurations_that_no_program_could_be_started_with(
    store: ImageStore, home: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    refused(store, pack(tmp_path / "image.tar", docker_files(LAYERS, config)), ".")
    assert keys(home) == set()


@pytest.mark.parametrize(
    "more",
    [
        {"os": "windows"}, {"os": 5}, {"rootfs": None}, {"rootfs": {"diff_ids": []}}, {"rootfs": {"diff_ids": "x"}},
        {"rootfs": {"diff_ids": ["sha256:x", "y"]}}, {"rootfs": {"diff_ids": [digest(b"")] * 501}}, {"config": [1]},
        {"architecture": 7},
    ],
)  # fmt: skip
def test_configurations_of_another_shape(store: ImageStore, tmp_path: Path, more: dict[str, Any]) -> None:
    refused(store, pack(tmp_path / "image.tar", docker_files(LAYERS, **more)), ".")


def test_a_command_as_one_text_and_missing_keys(store: ImageStore, tmp_path: Path) -> None:
    files = docker_files(LAYERS, {"Cmd": "run", "Entrypoint": None, "Env": None, "Volumes": None})
    with store.archive(pack(tmp_path / "image.tar", files), LIMIT) as image:
        assert image.config == ImageConfig(cmd=("run",))


@pytest.mark.parametrize(
    "data",
    [
        b"", bytes(10_240), b"text " * 1000, b"\x1f\x8b" + b"x" * 100, gzip.compress(b"text " * 1000), b"\x1f\x8b",
        gzip.compress(layer([file("manifest.json", b"[]" * 500)]))[:-30], layer([file("other")]), b"BZh9" + b"x" * 900,
        layer([file("../manifest.json", b"[]")]), layer([file("manifest.json", b"[]"), file("manifest.json", b"[]")]),
        layer([link("manifest.json", "/etc/passwd")]), layer([file("a", b"x" * 5000)])[:3000],
    ],
    ids=lambda data: f"{len(data)} bytes",
)  # fmt: skip
@pytest.mark.parametrize("name", ["image.tar", "image.tar.gz"])
def test_what_is_no_archive(store: ImageStore, home: Path, tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    refused(store, tmp_path / name, ".")
    assert leftovers(home) == []


def test_no_link_is_followed_and_no_fifo_waited_for(store: ImageStore, tmp_path: Path) -> None:
    pack(tmp_path / "real.tar", docker_files(LAYERS))
    for name, make in (
        ("link.tar", lambda path: path.symlink_to("real.tar")),
        ("fifo.tar", os.mkfifo),
        ("folder.tar", Path.mkdir),
        ("missing.tar", lambda path: None),
    ):
        make(tmp_path / name)
        refused(store, tmp_path / name, ".")


def test_an_archive_of_too_much(store: ImageStore, home: Path, tmp_path: Path) -> None:
    path = pack(tmp_path / "image.tar", sized(1))
    refused(store, path, r"more than the allowed 1,000,000 bytes \(images.max_archive\)", most=1_000_000)
    packed = pack(
        tmp_path / "packed.tar", docker_files([layer([file("zeros", bytes(5_000_000))])], None, gzip.compress)
    )
    refused(store, packed, r"images.max_archive", most=1_000_000)
    zipped = pack(tmp_path / "image.tar.gz", docker_files([layer([file("zeros", bytes(5_000_000))])]), zipped=True)
    refused(store, zipped, "more than the allowed 1,000,000 bytes", most=1_000_000)
    small = ImageStore(home, 1_000_000)
    refused(small, path, r"more than the allowed 1,000,000 bytes \(images.store_size\)")
    refused(small, packed, r"more than the allowed 1,000,000 bytes \(images.store_size\)")
    # Thousands of empty files are not nothing.
    many = docker_files([layer([file(f"f{number}") for number in range(1500)])])
    refused(ImageStore(home, 2_000_000), pack(tmp_path / "image.tar", many), "images.store_size")
    assert keys(home) == set() and leftovers(home) == []


def test_an_error_in_the_block_is_not_taken_for_one_of_the_image(store: ImageStore, tmp_path: Path) -> None:
    path = pack(tmp_path / "image.tar", docker_files(LAYERS))
    for error in (ValueError("mine"), OSError(28, "mine")):
        with pytest.raises(type(error), match="mine"), store.archive(path, LIMIT):
            raise error


# --- unpacked once ----------------------------------------------------------------------------------------------


def test_the_same_image_in_two_archives_is_one(store: ImageStore, home: Path, tmp_path: Path) -> None:
    one = pack(tmp_path / "a.tar", docker_files(LAYERS, CONFIG))
    other = pack(tmp_path / "b.tar", docker_files(LAYERS, CONFIG), zipped=True)
    with store.archive(one, LIMIT) as first, store.archive(other, LIMIT) as second:
        assert first == second
    assert len(keys(home)) == 1


@pytest.mark.slow
def test_an_archive_packed_by_gzip_is_remembered_until_it_changes(store: ImageStore, tmp_path: Path) -> None:
    path = pack(tmp_path / "image.tar.gz", sized(1), zipped=True)
    told: list[str] = []

    def opened() -> str:
        told.clear()
        with store.archive(path, LIMIT, told.append) as image:
            return image.id

    first = opened()
    assert told == ["unpacking the archive"]
    # It could change within the same tick of the clock, as far as its times tell.
    opened()
    assert told == ["unpacking the archive"]
    time.sleep(2.1)
    opened()
    assert opened() == first and told == []
    # The same place, size and time of writing; what the kernel says of the last change is another.
    before = os.stat(path)
    other = pack(tmp_path / "other.tar.gz", sized(2), zipped=True).read_bytes()
    size = max(before.st_size, len(other))
    for data in (path.read_bytes(), other):
        path.write_bytes(data.ljust(size, b"\0"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        time.sleep(2.1)
        found = opened()
        assert told == ["unpacking the archive"] and opened() == found and told == []
        assert (found == first) is (data != other)
    after = os.stat(path)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("in_place", [True, False])
def test_an_archive_replaced_with_the_same_size_and_time_is_another(
    store: ImageStore, tmp_path: Path, in_place: bool
) -> None:
    path, other = pack(tmp_path / "image.tar", sized(1)), pack(tmp_path / "other.tar", sized(2))
    before = os.stat(path)
    with store.archive(path, LIMIT) as first:
        pass
    if in_place:
        path.write_bytes(other.read_bytes())
    else:
        os.replace(other, path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with store.archive(path, LIMIT) as second:
        assert second.id != first.id and (second.rootfs / "data").read_bytes()[0] == 2


def test_an_archive_that_changes_while_it_is_read_becomes_no_image(
    store: ImageStore, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = pack(tmp_path / "image.tar", sized(1)), pack(tmp_path / "other.tar", sized(2))
    found = unpacked.find_image

    def find_and_change(layout: Any) -> Any:
        source = found(layout)
        data = other.read_bytes()
        at = data.index(b"\2" * 1000)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data[at:])
        return source

    monkeypatch.setattr(unpacked, "find_image", find_and_change)
    refused(store, path, "digest")
    assert keys(home) == set()


def test_after_a_reboot_an_image_is_unpacked_anew(
    store: ImageStore, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not written to the disk before a crash would be missing, and nobody would see it."""
    path = pack(tmp_path / "image.tar", docker_files(LAYERS))
    with store.archive(path, LIMIT) as image:
        (image.rootfs / "bin/sh").write_bytes(b"")
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(unpacked, "_BOOT", boot)
    with store.archive(path, LIMIT) as image:
        assert snapshot(image.rootfs) == TREE
    assert len(keys(home)) == 1


@pytest.mark.parametrize("name", ["facts.json", "config.json", "rootfs"])
def test_an_image_that_somebody_has_damaged_is_unpacked_anew(
    store: ImageStore, home: Path, tmp_path: Path, name: str
) -> None:
    path = pack(tmp_path / "image.tar", docker_files(LAYERS, CONFIG))
    with store.archive(path, LIMIT) as image:
        remove_tree(image.rootfs.parent / name)
    with store.archive(path, LIMIT) as image:
        assert snapshot(image.rootfs) == TREE and image.config == READ


USER = """
import sys, time
from pathlib import Path
from autoscorer.executors.images.unpacked import ImageStore
with ImageStore(Path(sys.argv[1]), 10**9).archive(Path(sys.argv[2]), 10**9) as image:
    print((image.rootfs).stat().st_ino, len(list((image.rootfs / "d").iterdir())), flush=True)
    sys.stdin.read()
"""


def user(home: Path, path: Path) -> subprocess.Popen[str]:
    """Another process that uses an archive until its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", USER, home, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """An archive that takes a while."""
    return pack(tmp_path / "many.tar", docker_files([layer([file(f"d/{number}", b"x") for number in range(4000)])]))


@pytest.mark.slow
def test_two_processes_at_once_unpack_once(home: Path, many: Path) -> None:
    users = [user(home, many) for _ in range(3)]
    try:
        told = {process.stdout.readline() for process in users if process.stdout}
    finally:
        for process in users:
            process.communicate(timeout=60)
    assert len(told) == 1 and told.pop().split()[1] == "4000"
    assert len(keys(home)) == 1 and leftovers(home) == []


@pytest.mark.slow
def test_what_a_killed_process_leaves_goes_with_the_next_call(store: ImageStore, home: Path, many: Path) -> None:
    work = home / "images" / "work"
    process = user(home, many)
    try:
        deadline = time.monotonic() + 60
        while not (work.is_dir() and any((path / "rootfs" / "d").is_dir() for path in work.iterdir())):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert len(os.listdir(work)) == 1 and keys(home) == set(), "it was too quick to be killed in the middle"
    # Another image's call, which is all that may come.
    with store.archive(pack(many.with_name("other.tar"), docker_files(LAYERS)), LIMIT):
        pass
    assert leftovers(home) == []
    with store.archive(many, LIMIT) as image:
        assert len(os.listdir(image.rootfs / "d")) == 4000


def test_what_another_process_is_making_stays(store: ImageStore, home: Path, tmp_path: Path) -> None:
    path = pack(tmp_path / "image.tar", docker_files(LAYERS))
    with store.workplace("mine") as place:
        (place / "half").touch()
        with store.archive(path, LIMIT):
            assert (place / "half").exists()
    assert leftovers(home) == []


# --- room -------------------------------------------------------------------------------------------------------


def test_the_image_used_longest_ago_goes_first(home: Path, tmp_path: Path) -> None:
    store = ImageStore(home, int(2.5 * 1024**2))
    paths = [pack(tmp_path / f"{number}.tar", sized(number)) for number in range(4)]
    names = []

    def use(number: int) -> None:
        with store.archive(paths[number], LIMIT) as image:
            names.append(image.id.removeprefix("sha256:"))

    use(0)
    use(1)
    zero, one = names
    use(0)  # now 1 is the older one
    use(2)
    assert keys(home) == {zero, names[-1]}
    use(3)
    assert zero not in keys(home) and len(keys(home)) == 2 and one not in keys(home)
    use(0)
    assert zero in keys(home) and leftovers(home) == []


@pytest.mark.slow
def test_an_image_in_use_is_never_removed(home: Path, tmp_path: Path) -> None:
    store = ImageStore(home, int(1.5 * 1024**2))
    held = pack(tmp_path / "held.tar", docker_files([layer([file("d/x"), file("data", b"h" * 1024**2)])]))
    process = user(home, held)
    try:
        assert process.stdout and process.stdout.readline()
        before = keys(home)
        paths = [pack(tmp_path / f"{number}.tar", sized(number)) for number in (1, 2)]
        with store.archive(paths[0], LIMIT) as first, store.archive(paths[1], LIMIT) as second:
            assert len(keys(home)) == 3
            assert (first.rootfs / "data").exists() and (second.rootfs / "data").exists()
        assert before < keys(home)
    finally:
        process.communicate(timeout=60)
    with store.archive(pack(tmp_path / "3.tar", sized(3)), LIMIT) as third:
        assert keys(home) == {third.id.removeprefix("sha256:")}
    assert leftovers(home) == []


def test_too_large_an_image_drives_out_no_other(home: Path, tmp_path: Path) -> None:
    store = ImageStore(home, int(1.5 * 1024**2))
    with store.archive(pack(tmp_path / "1.tar", sized(1)), LIMIT):
        pass
    refused(store, pack(tmp_path / "2.tar", sized(2, 3 * 1024**2)), "store_size")
    assert len(keys(home)) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk that can be filled")
def test_a_full_disk_is_told_and_nothing_half_stays(tmp_path: Path) -> None:
    path = pack(tmp_path / "image.tar", sized(1, 60 * 1024**2))
    zipped = pack(tmp_path / "image.tar.gz", sized(2, 60 * 1024**2), zipped=True)
    with small_disk(tmp_path / "home") as home:
        store = ImageStore(home, 10**9)
        for archive in (path, zipped):
            with pytest.raises(AutoScorerError) as caught, store.archive(archive, 10**9):
                pass
            assert caught.value.code is ErrorCode.STORAGE_FULL and caught.value.details["disk"] == "home"
            assert keys(home) == set() and leftovers(home) == []
            assert os.statvfs(home).f_bfree > 40 * 1024**2 // 4096
        small = pack(tmp_path / "small.tar", docker_files(LAYERS))
        with filled(home), pytest.raises(AutoScorerError) as caught, store.archive(small, LIMIT):
            pass
        assert caught.value.code is ErrorCode.STORAGE_FULL
        with store.archive(small, LIMIT) as image:
            assert snapshot(image.rootfs) == TREE


def test_what_is_remembered_has_an_end(store: ImageStore, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_folder, "_MOST_KNOWN", 10)
    for number in range(40):
        store.remember(f"key {number}", str(number))
        assert store.recall(f"key {number}") == str(number)
    assert len(os.listdir(home / "images" / "known")) <= 10
    assert store.recall("key 0") is None


def test_the_folder_of_an_image_can_be_passed_by_a_models_user(store: ImageStore, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with store.archive(pack(tmp_path / "image.tar", docker_files(LAYERS)), LIMIT) as image:
            modes = [oct(os.stat(path).st_mode & 0o777) for path in [image.rootfs, *image.rootfs.parents][:3]]
    finally:
        os.umask(before)
    assert modes == ["0o755", "0o711", "0o711"]


def test_the_image_that_docker_really_saves(
    docker_client: Any, busybox: str, store: ImageStore, tmp_path: Path
) -> None:
    path = tmp_path / "image.tar"
    with path.open("wb") as out:
        for chunk in docker_client.get_image(busybox):
            out.write(chunk)
    engines = docker_client.inspect_image(busybox)
    with store.archive(path, LIMIT) as image:
        assert image.config.cmd == ("sh",) and "PATH=/bin" in image.config.env and image.notes == ()
        assert (image.rootfs / "bin/sh").is_symlink() and os.access(image.rootfs / "bin/busybox", os.X_OK)
        done = subprocess.run(
            [image.rootfs / "bin/busybox", "echo", "unpacked"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "unpacked\n"
        with tarfile.open(path) as archive:
            named = json.loads(archive.extractfile("manifest.json").read())[0]["Config"]  # type: ignore[union-attr]
        assert image.id.removeprefix("sha256:") in named
        assert {tuple(engines["Config"]["Cmd"])} == {image.config.cmd}
        # What the engine itself has in the image's root.
        container = docker_client.create_container(busybox, ["true"])["Id"]
        try:
            exported = b"".join(docker_client.export(container))
        finally:
            docker_client.remove_container(container, force=True, v=True)
    expected: dict[str, tuple[Any, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(exported)) as root:
        for member in root:
            kind = "folder" if member.isdir() else "link" if member.issym() else "file"
            expected[member.name.rstrip("/")] = (kind, member.linkname or member.mode & 0o777)
    ours = {name: what[:2] for name, what in snapshot(image.rootfs).items()}
    # The engine adds mount points of its own.
    assert {name: expected.get(name) for name in ours} == ours
    assert set(expected) - set(ours) <= {
        "dev/console", "dev/pts", "dev/shm", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", ".dockerenv",
        "proc", "sys", "dev", "etc",
    }  # fmt: skip


def test_locks_are_free_again(store: ImageStore, home: Path, tmp_path: Path) -> None:
    path = pack(tmp_path / "image.tar", docker_files(LAYERS))
    with contextlib.suppress(KeyboardInterrupt), store.archive(path, LIMIT) as image:
        lock = home / "images" / "locks" / image.id.removeprefix("sha256:")
        with lock.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise KeyboardInterrupt
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
