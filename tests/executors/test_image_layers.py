"""Layers of a stranger become the tree that the OCI specification says, and nothing outside of it."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from autoscorer.core.tar_stream import TooMuch
from autoscorer.executors.images import tree
from autoscorer.executors.images.layers import LayerBudget, LayerDigests, apply_layer
from autoscorer.executors.images.tree import MAX_LEVELS, Tree
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support.harmless import tmp_path as tmp_path
from ..support.images import Entry, digest, entry, file, folder, hard_link, layer, link, snapshot

LIMIT = 64 * 1024**2


@contextlib.contextmanager
def tree_at(root: Path) -> Iterator[Tree]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.closing(Tree(fd)) as opened:
            yield opened
    finally:
        os.close(fd)


def put(root: Path, *tars: bytes, budget: LayerBudget | None = None, blobs: list[bytes] | None = None) -> LayerBudget:
    """Apply the tars of layers, stored as ``blobs`` where these differ."""
    budget = budget or LayerBudget(LIMIT)
    with tree_at(root) as into:
        for tar, stored in zip(tars, blobs or tars, strict=True):
            digests = LayerDigests(digest(tar), digest(stored))
            apply_layer(into, io.BufferedReader(io.BytesIO(stored)), digests, budget)  # type: ignore[arg-type]
        into.finish()
    return budget


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root, beside a folder that nothing may reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("untouched")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path: Path) -> Iterator[None]:
    """Whatever a test unpacks, the folder beside the root stays as it was."""
    yield
    if (tmp_path / "outside").exists():
        assert os.listdir(tmp_path / "outside") == ["file"]
        assert (tmp_path / "outside" / "file").read_text() == "untouched"
        assert os.stat(tmp_path / "outside" / "file").st_nlink == 1
        assert sorted(os.listdir(tmp_path)) == ["outside", "root"]


def refused(root: Path, *layers: list[Entry], words: str = ".") -> str:
    with pytest.raises(ValueError, match=words) as caught:
        put(root, *(layer(entries) for entries in layers))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    return str(caught.value)


# --- what is kept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_files_folders_and_links_with_their_modes_and_times(root: Path, form: int) -> None:
    long = "long/" + "d" * 120 + "/" + "n" * 200
    big = bytes(range(256)) * 20_000
    put(
        root,
        layer(
            [
                folder("./"),
                folder("bin", 0o751, mtime=77),
                file("bin/tool", b"run", 0o755, mtime=1_600_000_000),
                file("./secret", b"s", 0o600),
                file("empty"),
                file("big", big, 0o444),
                file(long, b"deep"),
                file("名前", b"unicode"),
                link("sh", "bin/tool"),
                link("absolute", "/bin/tool"),
                link("dangling", "../../../../nowhere"),
                hard_link("bin/second", "bin/tool"),
                hard_link("bin/third", "./sh"),
                hard_link("bin/fourth", "/secret"),
            ],
            form,
        ),
    )
    assert snapshot(root) == {
        "bin": ("folder", 0o751),
        "bin/tool": ("file", 0o755, b"run"),
        "bin/second": ("file", 0o755, b"run"),
        "bin/third": ("link", "bin/tool"),
        "bin/fourth": ("file", 0o600, b"s"),
        "secret": ("file", 0o600, b"s"),
        "empty": ("file", 0o644, b""),
        "big": ("file", 0o444, big),
        "long": ("folder", 0o755),
        os.path.dirname(long): ("folder", 0o755),
        long: ("file", 0o644, b"deep"),
        "名前": ("file", 0o644, b"unicode"),
        "sh": ("link", "bin/tool"),
        "absolute": ("link", "/bin/tool"),
        "dangling": ("link", "../../../../nowhere"),
    }
    assert os.stat(root / "bin/tool").st_mtime == 1_600_000_000
    assert os.stat(root / "bin").st_mtime == 77
    assert os.path.samefile(root / "bin/tool", root / "bin/second")


def test_modes_do_not_depend_on_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        put(root, layer([folder("a", 0o775), file("a/b", b"", 0o666), file("c/d", b"")]))
    finally:
        os.umask(before)
    assert snapshot(root) == {
        "a": ("folder", 0o775),
        "a/b": ("file", 0o666, b""),
        "c": ("folder", 0o755),
        "c/d": ("file", 0o644, b""),
    }


def test_no_setuid_no_owner_no_attributes(root: Path) -> None:
    tool, data = file("su", b"x", 0o6755)
    tool.uid, tool.gid = 0, 4321
    tool.pax_headers = {"SCHILY.xattr.security.capability": "\x01\x02", "SCHILY.xattr.user.note": "n"}
    put(root, layer([folder("tmp", 0o7777), (tool, data), folder("closed", 0o000), file("closed/in", b"y", 0o000)]))
    assert stat.S_IMODE(os.stat(root / "su").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(root / "tmp").st_mode) == 0o777
    put(root, layer([folder("closed", 0o000)]))
    # A folder can always be removed again.
    assert stat.S_IMODE(os.stat(root / "closed").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(root / "closed/in").st_mode) == 0
    for path in ("su", "tmp", "closed", "closed/in"):
        assert (os.stat(root / path).st_uid, os.stat(root / path).st_gid) == (os.geteuid(), os.getegid())
        assert os.listxattr(root / path) == []


def test_devices_and_fifos_are_left_out_and_said(root: Path) -> None:
    kinds = {
        "dev/null": tarfile.CHRTYPE,
        "dev/sda": tarfile.BLKTYPE,
        "pipe": tarfile.FIFOTYPE,
        "x\x1b": tarfile.CHRTYPE,
    }
    first = layer([file("pipe", b"earlier"), folder("dev"), file("dev/kept", b"k")])
    budget = put(root, first, layer([entry(name, kind) for name, kind in kinds.items()]))
    assert snapshot(root) == {"dev": ("folder", 0o755), "dev/kept": ("file", 0o644, b"k")}
    assert budget.notes() == ("Devices and FIFOs of the image were left out: dev/null, dev/sda, pipe and 1 more.",)
    assert LayerBudget(1).notes() == ()


# --- layers over layers -----------------------------------------------------------------------------------------


def test_a_layer_replaces_and_merges(root: Path) -> None:
    lower = [
        folder("etc", 0o700), file("etc/a", b"1"), file("etc/b", b"1"), file("f", b"1"), folder("d"), file("d/x", b"1"),
        link("l", "etc"), link("m", "etc"),
    ]  # fmt: skip
    upper = [
        folder("etc", 0o755), file("etc/a", b"2", 0o600), folder("f"), file("f/in", b"2"), file("d", b"2"),
        folder("l"), file("l/own", b"2"), file("m", b"2"),
    ]  # fmt: skip
    put(root, layer(lower), layer(upper))
    assert snapshot(root) == {
        "etc": ("folder", 0o755), "etc/a": ("file", 0o600, b"2"), "etc/b": ("file", 0o644, b"1"),
        "f": ("folder", 0o755), "f/in": ("file", 0o644, b"2"), "d": ("file", 0o644, b"2"),
        "l": ("folder", 0o755), "l/own": ("file", 0o644, b"2"), "m": ("file", 0o644, b"2"),
    }  # fmt: skip


def test_a_file_replaced_does_not_change_its_other_names(root: Path) -> None:
    put(root, layer([file("a", b"1"), hard_link("b", "a")]), layer([file("a", b"2")]))
    assert (root / "a").read_bytes() == b"2" and (root / "b").read_bytes() == b"1"


LOWER = [folder("d"), file("d/old", b"1"), folder("d/sub"), file("d/sub/old", b"1"), file("top", b"1")]


@pytest.mark.parametrize("first", [True, False], ids=["whiteout first", "whiteout last"])
@pytest.mark.parametrize(
    ("whiteouts", "entries", "left"),
    [
        (["d/.wh.old"], [], {"d", "d/sub", "d/sub/old", "top"}),
        ([".wh.d"], [], {"top"}),
        ([".wh.d", ".wh.top"], [], set()),
        ([".wh.none", "d/.wh.none"], [], {"d", "d/old", "d/sub", "d/sub/old", "top"}),
        (["d/.wh..wh..opq"], [], {"d", "top"}),
        ([".wh..wh..opq"], [], set()),
        (["new/.wh..wh..opq"], [], {"new", "d", "d/old", "d/sub", "d/sub/old", "top"}),
        # What the layer itself brings is never hidden, whatever the order.
        (["d/.wh..wh..opq"], [file("d/new", b"2")], {"d", "d/new", "top"}),
        (["d/.wh..wh..opq"], [folder("d"), folder("d/sub"), file("d/sub/new")], {"d", "d/sub", "d/sub/new", "top"}),
        ([".wh.d"], [folder("d"), file("d/new", b"2")], {"d", "d/new", "top"}),
        ([".wh.d"], [file("d/sub/new")], {"d", "d/sub", "d/sub/new", "top"}),
        ([".wh.d"], [file("d/n"), file("d/sub/deep/n")], {"d", "d/n", "d/sub", "d/sub/deep", "d/sub/deep/n", "top"}),
        ([".wh.top"], [file("top", b"2")], {"d", "d/old", "d/sub", "d/sub/old", "top"}),
        (["d/.wh.old"], [hard_link("d/old", "top")], {"d", "d/old", "d/sub", "d/sub/old", "top"}),
        (["d/.wh.sub"], [link("d/sub", "old")], {"d", "d/old", "d/sub", "top"}),
    ],
)
def test_whiteouts(root: Path, first: bool, whiteouts: list[str], entries: list[Entry], left: set[str]) -> None:
    hidden = [file(name) for name in whiteouts]
    put(root, layer(LOWER), layer([*hidden, *entries] if first else [*entries, *hidden]))
    assert set(snapshot(root)) == left
    for info, data in entries:
        if info.isreg():
            assert (root / info.name).read_bytes() == data


def test_a_whiteout_hides_a_link_and_not_what_it_leads_to(root: Path) -> None:
    put(root, layer([folder("d"), file("d/x"), link("l", "d")]), layer([file(".wh.l")]))
    assert set(snapshot(root)) == {"d", "d/x"}


def test_a_layer_that_goes_on_in_the_folder_where_the_one_before_ended(root: Path) -> None:
    put(root, layer([file("d/sub/old")]), layer([file("d/sub/new"), file(".wh.d")]))
    assert set(snapshot(root)) == {"d", "d/sub", "d/sub/new"}


def test_folders_on_the_way_to_a_hard_links_target_are_not_what_the_layer_has(root: Path) -> None:
    """And those that it then writes to are, though they were entered before."""
    second = [hard_link("h", "d/sub/old"), hard_link("i", "e/old"), file("d/sub/n"), file(".wh.d"), file(".wh.e")]
    put(root, layer([*LOWER, file("e/old")]), layer(second))
    assert set(snapshot(root)) == {"d", "d/sub", "d/sub/n", "h", "i", "top"}


def test_a_whiteout_of_the_layer_before_does_not_hide_what_comes_later(root: Path) -> None:
    put(root, layer(LOWER), layer([file(".wh.d")]), layer([file("d/again", b"3")]))
    assert set(snapshot(root)) == {"d", "d/again", "top"}


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..", ".wh.x/file", "d/.wh.x/file"])
def test_whiteouts_that_are_none(root: Path, name: str) -> None:
    refused(root, LOWER, [file(name)])


def test_what_aufs_kept_is_left_out(root: Path) -> None:
    put(root, layer([folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", b"x" * 600), file(".wh..wh.aufs"), file("a")]))
    assert set(snapshot(root)) == {"a"}


NAMES = ("a", "b", "c")
Node = tuple[str, Any]
Layer = tuple[dict[str, Node], set[str], bool]


@st.composite
def layers_of_trees(draw: st.DrawFn) -> list[Layer]:
    """One to four layers: nodes by their paths, whiteouts, and whether these stand first."""
    drawn: list[Layer] = []
    for _ in range(draw(st.integers(1, 4))):
        nodes: dict[str, Node] = {}
        hidden: set[str] = set()
        folders = [""]
        for _ in range(draw(st.integers(0, 6))):
            path = draw(st.sampled_from(folders)) + draw(st.sampled_from(NAMES))
            if path in nodes or path.count("/") > 3:
                continue
            kind = draw(st.sampled_from(["folder", "folder", "file", "link"]))
            if kind == "folder":
                nodes[path] = ("folder", draw(st.sampled_from([0o755, 0o700, 0o777])))
                folders.append(path + "/")
            elif kind == "file":
                nodes[path] = ("file", draw(st.binary(max_size=3)))
            else:
                nodes[path] = ("link", draw(st.sampled_from(["a", "/b", "../c", ".", "/"])))
        for _ in range(draw(st.integers(0, 3))):
            hidden.add(draw(st.sampled_from(folders)) + draw(st.sampled_from([*NAMES, ".wh..opq"])))
        drawn.append((nodes, hidden, draw(st.booleans())))
    return drawn


def overlay(layers: list[Layer]) -> dict[str, Node]:
    """The same, of dictionaries: what is hidden goes from the layers below, then what there is comes."""
    tree: dict[str, Node] = {}

    def drop(path: str, *, itself: bool = True) -> None:
        for key in [key for key in tree if key.startswith(path + "/" if path else "") or (itself and key == path)]:
            del tree[key]

    for nodes, hidden, _ in layers:
        for path in hidden:
            if path.endswith(".wh..opq"):
                drop(path.removesuffix(".wh..opq").rstrip("/"), itself=False)
            else:
                drop(path)
        for path, node in nodes.items():
            if not (node[0] == "folder" and tree.get(path, ("",))[0] == "folder"):
                drop(path)
            tree[path] = node
    return tree


@pytest.mark.slow
@settings(deadline=None)
@given(layers_of_trees())
def test_any_layers_become_what_an_overlay_of_them_is(layers: list[Layer]) -> None:
    tars = []
    for nodes, hidden, first in layers:
        entries = []
        for path, (kind, value) in nodes.items():
            made: Any = {"folder": folder, "file": file, "link": link}[kind]
            entries.append(made(path, value))
        whiteouts = []
        for path in sorted(hidden):
            parent, _, name = path.rpartition("/")
            whiteouts.append(file(f"{parent}/.wh.{name}" if parent else f".wh.{name}"))
        # Folders that a whiteout lies in are there already, as whoever writes a layer goes.
        entries = [*whiteouts, *entries] if first and not any("/" in it for it in hidden) else [*entries, *whiteouts]
        tars.append(layer(entries))
    with tempfile.TemporaryDirectory() as root:
        put(Path(root), *tars)
        merged = snapshot(Path(root))
    found = {path: (what[0], what[1] if what[0] != "file" else what[2]) for path, what in merged.items()}
    assert found == overlay(layers)


# --- nothing escapes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../outside/new", "a/../../outside/new", "..", "a/..", "a/../b", "/../outside/new"])
@pytest.mark.parametrize("make", [file, folder, lambda name: link(name, "x"), lambda name: hard_link(name, "ok")])
def test_a_path_with_two_dots_is_refused(root: Path, name: str, make: Callable[[str], Entry]) -> None:
    refused(root, [file("ok"), make(name)], words="'..'")


@pytest.mark.parametrize("target", ["../outside", "../../../../../..", "{outside}", "/", "l2", "."])
@pytest.mark.parametrize("same_layer", [True, False])
def test_what_is_written_through_a_link_stays_inside(root: Path, target: str, same_layer: bool) -> None:
    outside = str(root.parent / "outside")
    target = target.replace("{outside}", outside)
    links = [link("l2", "../../" + outside), folder("d"), file("d/x"), link("d/l", target), link("l", target)]
    through = [
        file("l/file", b"evil"), file("d/l/file", b"evil"), folder("l/new"), link("l/link", "/etc/passwd"),
        hard_link("l/hard", "l/file"), file("l/.wh.file"),
    ]  # fmt: skip
    put(root, *([layer(links + through)] if same_layer else [layer(links), layer(through)]))
    # The root plays the part of '/': there, and only there, it arrives.
    for path, what in snapshot(root).items():
        assert what[0] in ("file", "folder", "link"), path


def test_a_link_leads_to_where_it_does_in_the_image(root: Path) -> None:
    lower = [folder("usr"), folder("usr/lib"), link("lib", "usr/lib"), link("run", "/var/run"), link("up", "../../usr")]
    lower.append(link("usr/lib/abs", "/opt"))
    put(
        root,
        layer(lower),
        layer([file("usr/lib/abs/o", b"4"), file("lib/new", b"1"), file("run/app/pid", b"2"), file("up/x", b"3")]),
    )
    found = snapshot(root)
    assert found["lib"] == ("link", "usr/lib") and found["usr/lib/new"] == ("file", 0o644, b"1")
    assert found["var/run/app/pid"] == ("file", 0o644, b"2") and found["usr/x"] == ("file", 0o644, b"3")
    assert found["opt/o"] == ("file", 0o644, b"4")


def test_a_folder_replaced_by_a_link_and_then_written_through(root: Path) -> None:
    outside = str(root.parent / "outside")
    put(root, layer([folder("etc"), file("etc/a")]), layer([link("etc", outside), file("etc/file", b"evil")]))
    assert os.readlink(root / "etc") == outside
    assert (root / outside.lstrip("/") / "file").read_bytes() == b"evil"


@pytest.mark.parametrize("target", ["../outside/file", "a/../../outside/file"])
def test_a_hard_link_to_outside_is_refused(root: Path, target: str) -> None:
    refused(root, [folder("a"), hard_link("h", target)], words="'..'")


def test_a_hard_link_through_a_link_stays_inside(root: Path) -> None:
    outside = str(root.parent / "outside")
    refused(root, [link("l", outside), hard_link("h", "l/file")], words="not there")
    refused(root, [link("m", "../outside"), hard_link("h", "m/file")], words="not there")
    refused(root, [hard_link("h", outside + "/file")], words="not there")


def test_a_hard_link_that_is_there_already_stays(root: Path) -> None:
    put(root, layer([file("a", b"1"), hard_link("h", "a")]), layer([hard_link("h", "a"), hard_link("a", "a")]))
    assert snapshot(root) == {"a": ("file", 0o644, b"1"), "h": ("file", 0o644, b"1")}


def test_a_hard_link_to_a_link_is_that_link(root: Path) -> None:
    """And what is then written under the name replaces it, and goes nowhere."""
    outside = str(root.parent / "outside" / "file")
    put(root, layer([link("l", outside), hard_link("h", "l"), file("h", b"evil"), file("l", b"evil")]))
    assert snapshot(root) == {"l": ("file", 0o644, b"evil"), "h": ("file", 0o644, b"evil")}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([file("f"), file("f/below")], "not a folder"),
        ([link("l", "l"), file("l/x")], "too many links"),
        ([link("a", "b/x"), link("b", "a/x"), file("a/y")], "too many links"),
        ([folder("d"), hard_link("h", "d")], "leads to a folder"),
        ([hard_link("h", "/")], "leads to a folder"),
        ([hard_link("h", "nothing")], "not there"),
        ([file("x/" * (MAX_LEVELS + 1) + "y")], "folders deep"),
        ([folder("a" * 256)], "255 bytes"),
        ([folder("é" * 128)], "255 bytes"),
        ([file("/".join(["n" * 200] * 25))], "255 bytes, a path 4,000"),
        ([link("l", "x" * 5000)], "a link leads to"),
        ([link("l", "")], "a link leads to"),
        ([entry("odd", b"Z")], "unknown type"),
        ([entry("sparse", tarfile.GNUTYPE_SPARSE)], "sparse"),
    ],
)
def test_what_can_not_be_is_refused(root: Path, entries: list[Entry], words: str) -> None:
    refused(root, entries, words=words)


def test_a_name_hidden_in_a_record_is_seen(root: Path) -> None:
    for headers, words in (
        ({"path": "../outside/new"}, r"'\.\.'"),
        ({"path": "a\0b"}, "NUL"),
        ({"GNU.sparse.major": "1", "GNU.sparse.realsize": "9"}, "sparse"),
    ):
        info, data = file("innocent", b"")
        info.pax_headers = headers
        with pytest.raises(ValueError, match=words):
            put(root, layer([(info, data)]))


@pytest.mark.slow
def test_no_layer_costs_more_than_its_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand whiteouts of one folder, at every depth, that would each look through thousands of files."""
    files = [file(f"d/{number % 50}/{number}") for number in range(5000)]
    hide = [file(name) for _ in range(5000) for name in ("d/.wh..wh..opq", ".wh.d")]
    began = time.process_time()
    put(root, layer(files))
    once = time.process_time() - began
    began = time.process_time()
    put(root, layer([*files, *hide]))
    assert time.process_time() - began < 10 * once
    monkeypatch.setattr(tree, "_MAX_STEPS", 1000)
    links = [link("l", "./" * 900 + "d"), file("l/a"), file("m"), file("l/b")]
    refused(root, links, words="too long to follow")


def test_paths_have_an_end_altogether(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept in memory, and a link of one letter stands for a path of thousands."""
    deep = "/".join(["n" * 200] * 15)
    entries = [folder(deep), link("l", deep), *(file(f"l/{number}") for number in range(100))]
    put(root, layer(entries))
    monkeypatch.setattr(tree, "_MAX_CHARACTERS", 100_000)
    refused(root, entries, words="too long together")


def test_links_within_links_count_against_the_depth(root: Path) -> None:
    entries = [file("d/" * 60 + "f"), link("l", "d/" * 60)]
    refused(root, [*entries, file("l/" + "e/" * 60 + "f")], words="folders deep")


# --- digests, packing and caps ----------------------------------------------------------------------------------


@pytest.fixture
def zstd() -> Callable[[bytes], bytes]:

    def packed(data: bytes) -> bytes:
        out: bytes = pyarrow.compress(data, codec="zstd", asbytes=True)
        return out

    return packed


def test_layers_packed_by_gzip_and_zstd(root: Path, zstd: Callable[[bytes], bytes]) -> None:
    first, second = layer([file("a", b"1" * 3_000_000)]), layer([file("b", b"2")])
    put(root, first, second, blobs=[gzip.compress(first), zstd(second)])
    assert snapshot(root) == {"a": ("file", 0o644, b"1" * 3_000_000), "b": ("file", 0o644, b"2")}


def test_zstd_without_what_reads_it_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    tar = layer([file("a")])
    with pytest.raises(ValueError, match=r"packed by zstd.*parquet"):
        put(root, tar, blobs=[b"\x28\xb5\x2f\xfd" + tar])


@pytest.mark.parametrize("start", [b"BZh91AY", b"\xfd7zXZ\x00"])
def test_other_packings_are_named(root: Path, start: bytes) -> None:
    with pytest.raises(ValueError, match="bzip2 or xz"):
        put(root, layer([file("a")]), blobs=[start + bytes(2000)])


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage after"])
def test_broken_packed_data(root: Path, damage: str, zstd: Callable[[bytes], bytes]) -> None:
    tar = layer([file("a", os.urandom(100_000))])
    for packed in (gzip.compress(tar), zstd(tar)):
        broken = bytearray(packed)
        if damage == "cut":
            del broken[-len(broken) // 3 :]
        elif damage == "flipped":
            broken[len(broken) // 2] ^= 255
        else:
            broken += b"garbage"
        with pytest.raises((ValueError, EOFError)):
            put(root, tar, blobs=[bytes(broken)])


def test_a_layer_of_another_digest_is_refused(root: Path) -> None:
    tar, other = layer([file("a", b"1")]), layer([file("a", b"2")])
    with tree_at(root) as into:
        for digests, words in (
            (LayerDigests(digest(other)), f"{digest(tar)}.*{digest(other)}"),
            (LayerDigests(digest(tar), digest(other)), "expected"),
        ):
            with pytest.raises(ValueError, match=words):
                apply_layer(into, io.BufferedReader(io.BytesIO(tar)), digests, LayerBudget(LIMIT))  # type: ignore[arg-type]
    # What stands after the end of the tar counts, too.
    with pytest.raises(ValueError, match="digest"), tree_at(root) as into:
        longer = io.BufferedReader(io.BytesIO(tar + b"more"))  # type: ignore[arg-type]
        apply_layer(into, longer, LayerDigests(digest(tar)), LayerBudget(LIMIT))


def test_caps_on_bytes_and_entries_hold_for_all_layers_together(root: Path) -> None:
    tar = layer([file("a", bytes(300_000))])
    put(root, tar, tar, budget=LayerBudget(2 * len(tar)))
    for most in (2 * len(tar) - 1, len(tar) + 5, len(tar), 1000, 0):
        with pytest.raises(TooMuch):
            put(root, tar, tar, budget=LayerBudget(most))
    bomb = gzip.compress(layer([file("a", bytes(5_000_000))]))
    with pytest.raises(TooMuch):
        put(root, layer([file("a", bytes(5_000_000))]), blobs=[bomb], budget=LayerBudget(1_000_000))
    many = layer([file(f"f{number}") for number in range(10)])
    put(root, many, many, budget=LayerBudget(LIMIT, entries=20))
    with pytest.raises(ValueError, match="files and folders"):
        put(root, many, many, budget=LayerBudget(LIMIT, entries=19))


def test_a_size_that_is_not_there_is_not_believed(root: Path) -> None:
    info, _ = file("big")
    info.size = 8**11 - 1
    with pytest.raises(TooMuch):
        put(root, info.tobuf(tarfile.USTAR_FORMAT))
    info.size = 100_000
    with pytest.raises(EOFError):
        put(root, info.tobuf(tarfile.USTAR_FORMAT) + b"few")


@pytest.mark.slow
@settings(deadline=None)
@given(data=st.data())
def test_no_broken_layer_raises_anything_else(data: st.DataObject) -> None:
    tar = bytearray(layer([*LOWER, link("l", "d"), hard_link("h", "top"), file("d/.wh.old"), file("l/x", b"y")]))
    for _ in range(data.draw(st.integers(1, 4))):
        header = data.draw(st.sampled_from(range(0, len(tar) - 1024, 512)))
        tar[header + data.draw(st.integers(0, 500))] = data.draw(st.integers(0, 255))
        block = tar[header : header + 512]
        block[148:156] = b" " * 8
        tar[header + 148 : header + 156] = b"%06o\0 " % sum(block)
    with tempfile.TemporaryDirectory() as root:
        with contextlib.suppress(ValueError, EOFError, tarfile.TarError):
            put(Path(root), bytes(tar))
        for path, what in snapshot(Path(root)).items():
            assert what[0] != "other", path
