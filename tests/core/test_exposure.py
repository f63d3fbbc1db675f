"""What the model may see never leads to the ground truth, and the input's digest is of names and bytes alone."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.exposure import build_context, exposures, ground_truths, input_digest, visible_inputs
from autoscorer.core.workspace import Workspace
from autoscorer.executors.files import remove_tree
from autoscorer.executors.stage import refuse_exposure
from hypothesis import given, settings
from hypothesis import strategies as st

settings.register_profile("autoscorer", deadline=None)
settings.load_profile("autoscorer")

TRUTH = b"id,label\n1,SECRET\n2,OTHER!\n"


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    root = tmp_path / "ws"
    (root / "input" / "data" / "deep" / "er").mkdir(parents=True)
    (root / "src").mkdir()
    (root / "input" / "gt.csv").write_bytes(TRUTH)
    (root / "input" / "data" / "x.csv").write_text("id\n1\n2\n")
    (root / "Dockerfile").write_text("FROM scratch\n")
    (root / "src" / "predict.py").write_text("print()\n")
    return Workspace(root)


def found(space: Workspace) -> list[str]:
    return exposures(space, space.ground_truth())


def test_a_clean_workspace_exposes_nothing(space: Workspace) -> None:
    assert found(space) == []
    refuse_exposure(space)


@pytest.mark.parametrize(
    "place",
    [
        "input/data/x2.csv",
        "input/data/deep/er/.hidden",
        "input/copy.csv",
        "input/labels",
        "input/my_gt.csv",
        "src/answers.py",
        "gt.csv",
        "Dockerfile.bak",
        ".dockerignore",
        "models/weights.bin",
    ],
)
def test_a_copy_is_found_wherever_the_model_could_read_it(space: Workspace, place: str) -> None:
    path = space.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(TRUTH)
    assert found(space) == [place]
    with pytest.raises(AutoScorerError) as caught:
        refuse_exposure(space)
    assert caught.value.code is ErrorCode.GROUND_TRUTH_EXPOSED
    assert caught.value.details["files"] == [place] and place in caught.value.message


@pytest.mark.parametrize(
    "place",
    ["output/pred.csv", "logs/gt.csv", ".autoscorer/gt.csv", ".git/gt.csv", "input/gt.csv.bak", "input/gt_old.csv"],
)
def test_a_copy_the_model_never_sees_is_none(space: Workspace, place: str) -> None:
    path = space.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(TRUTH)
    assert found(space) == []


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("input/data/x", "../gt.csv"),
        ("input/data/deep/er/x", "../../../gt.csv"),
        ("input/data/folder", ".."),
        ("input/data/folder", "../../../ws/input"),
        ("input/data/root", "/"),
        ("src/x", "../input/gt.csv"),
        ("link", "input/gt.csv"),
    ],
)
def test_a_link_that_leads_to_it_is_found(space: Workspace, place: str, target: str) -> None:
    (space.root / place).symlink_to(target)
    assert found(space) == [place]


def test_a_link_to_a_link_and_an_absolute_one_are_found(space: Workspace) -> None:
    (space.root / "input" / "data" / "a").symlink_to(space.root / "input" / "gt.csv")
    (space.root / "input" / "data" / "b").symlink_to("a")
    assert found(space) == ["input/data/a", "input/data/b"]


def test_a_hard_link_is_found(space: Workspace) -> None:
    os.link(space.input / "gt.csv", space.input / "data" / "same.csv")
    assert found(space) == ["input/data/same.csv"]


@pytest.mark.parametrize(
    ("place", "target"),
    [("input/alias.csv", "gt.csv"), ("input/data2", "."), ("input/data2", "data"), ("input/data2", "/etc")],
)
def test_a_link_directly_under_input_is_refused_wherever_it_leads(space: Workspace, place: str, target: str) -> None:
    (space.root / place).symlink_to(target)
    for check in (visible_inputs, input_digest, refuse_exposure):
        with pytest.raises(AutoScorerError) as caught:
            check(space)
        assert caught.value.code is ErrorCode.MISSING_FILE
        assert place in caught.value.message and "link" in caught.value.message


def test_input_itself_as_a_link_is_refused(space: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "private"
    shutil.move(space.input, outside)
    space.input.symlink_to(outside)
    with pytest.raises(AutoScorerError) as caught:
        visible_inputs(space)
    assert caught.value.code is ErrorCode.MISSING_FILE


@pytest.mark.parametrize("target", [".", "deep", "x.csv", "nowhere", "self", "/dev/zero", "../../src"])
def test_other_links_in_the_data_do_no_harm(space: Workspace, target: str) -> None:
    (space.input / "data" / "self").symlink_to("self")
    (space.input / "data" / "link").symlink_to(target)
    assert found(space) == []
    assert input_digest(space)


def test_the_same_size_with_other_bytes_is_fine(space: Workspace) -> None:
    (space.input / "data" / "same_size.csv").write_bytes(TRUTH[:-2] + b"?\n")
    assert found(space) == []


def test_an_empty_ground_truth_is_in_no_file(space: Workspace) -> None:
    (space.input / "gt.csv").write_bytes(b"")
    (space.input / "data" / "empty").write_bytes(b"")
    assert found(space) == []


def test_every_copy_is_named_in_order_and_printably(space: Workspace) -> None:
    names = ["b.csv", "a.csv", "x\n\x1b[31m.csv", os.fsdecode(b"\xff.csv")]
    for name in names:
        (space.input / "data" / name).write_bytes(TRUTH)
    listed = found(space)
    assert {"input/data/a.csv", "input/data/b.csv"} < set(listed) and len(listed) == 4
    assert listed == sorted(listed)
    assert all(c.isprintable() for name in listed for c in name)
    with pytest.raises(AutoScorerError) as caught:
        refuse_exposure(space)
    assert caught.value.message.isprintable()


def test_special_files_neither_hang_nor_count(space: Workspace) -> None:
    os.mkfifo(space.input / "data" / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(space.input / "data")
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    assert found(space) == []
    assert input_digest(space)


def test_a_copy_is_found_below_a_thousand_folders(space: Workspace) -> None:
    folder = space.input / "data"
    try:
        for _ in range(1200):
            folder = folder / "d"
            folder.mkdir()
        (folder / "copy").write_bytes(TRUTH)
        assert found(space) == [str((folder / "copy").relative_to(space.root))]
        assert input_digest(space)
    finally:
        remove_tree(space.input)  # pytest's own clearing recurses


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "fifo"])
def test_a_ground_truth_that_is_no_plain_file_is_refused_and_nothing_hangs(space: Workspace, kind: str) -> None:
    truth = space.input / "gt.csv"
    truth.rename(space.root / "input" / "gt_kept")
    make: dict[str, Callable[[], None]] = {
        "link": lambda: truth.symlink_to("gt_kept"),
        "dangling": lambda: truth.symlink_to("nowhere"),
        "folder": truth.mkdir,
        "fifo": lambda: os.mkfifo(truth),
    }
    make[kind]()
    with pytest.raises(AutoScorerError) as caught:
        exposures(space, truth)
    assert caught.value.code is ErrorCode.OUTPUT_REJECTED


def test_several_ground_truths_are_each_looked_for(space: Workspace) -> None:
    # Validation refuses two of them; a run must not go on unchecked because of that.
    (space.input / "gt.json").write_bytes(b'{"other": "truth"}')
    (space.input / "gt.csv.bak").write_bytes(b"older truth")
    assert [path.name for path in ground_truths(space)] == ["gt.csv", "gt.csv.bak", "gt.json"]
    for content in (b'{"other": "truth"}', b"older truth", TRUTH):
        (space.input / "data" / "copy").write_bytes(content)
        with pytest.raises(AutoScorerError) as caught:
            refuse_exposure(space)
        assert caught.value.code is ErrorCode.GROUND_TRUTH_EXPOSED


def test_a_run_without_a_ground_truth_exposes_none(space: Workspace) -> None:
    (space.input / "gt.csv").unlink()
    refuse_exposure(space)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("gt.csv", True), ("gt.parquet", True), ("gt", True), ("gt.csv.bak", True), ("gt.csv~", True),
        ("gt_v2.csv", True), ("gt-old", True), ("gt copy.csv", True), (".gt.csv.swp", True),
        ("gtx.csv", False), ("target.csv", False), ("GT", False), ("agt.csv", False),
    ],
)  # fmt: skip
def test_the_ground_truth_and_its_backups_are_not_among_the_inputs(space: Workspace, name: str, hidden: bool) -> None:
    (space.input / name).write_bytes(b"other")
    assert (space.input / name in visible_inputs(space)) is not hidden


def test_the_build_context_holds_code_and_nothing_else(space: Workspace) -> None:
    for place in ("output/pred.csv", "logs/container.log", "meta.json", ".git/config", "image.tar", ".autoscorer/lock"):
        path = space.root / place
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (space.root / "link").symlink_to("input")
    names = [str(path.relative_to(space.root)) for path in build_context(space)]
    assert names == ["Dockerfile", "link", "src/predict.py"]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_no_input_folder_is_an_error_of_the_catalogue(space: Workspace, kind: str) -> None:
    shutil.rmtree(space.input)
    if kind == "file":
        space.input.write_text("")
    for check in (visible_inputs, input_digest):
        with pytest.raises(AutoScorerError) as caught:
            check(space)
        assert caught.value.code is ErrorCode.MISSING_FILE


# --- the digest -------------------------------------------------------------------------------------------------

NAME = st.sampled_from(["a", "b", "ab", "a.csv", "ü", "x\ny", " "])
TREES = st.recursive(
    st.binary(max_size=3), lambda inner: st.dictionaries(NAME, inner, max_size=3), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


def write_tree(folder: Path, tree: dict[str, object], order: random.Random) -> None:
    folder.mkdir(exist_ok=True)
    names = sorted(tree)
    order.shuffle(names)
    for name in names:
        inner = tree[name]
        if isinstance(inner, dict):
            write_tree(folder / name, inner, order)
        else:
            (folder / name).write_bytes(inner)
            os.utime(folder / name, (order.randrange(10**9),) * 2)
            (folder / name).chmod(order.choice([0o600, 0o644, 0o755]))


def digest_of(base: Path, tree: dict[str, object], seed: int) -> str:
    root = base / f"w{seed}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    write_tree(root / "input", tree, random.Random(seed))
    return input_digest(Workspace(root))


@given(one=TREES, two=TREES)
def test_two_inputs_have_one_digest_exactly_when_names_and_bytes_agree(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, object], two: dict[str, object]
) -> None:
    base = tmp_path_factory.getbasetemp()
    assert (digest_of(base, one, 1) == digest_of(base, two, 2)) == (one == two)
    assert digest_of(base, one, 1) == digest_of(base, one, 3)


def test_the_digest_follows_every_byte_and_name_and_no_time_or_order(space: Workspace) -> None:
    rng = random.Random(0)
    tree: dict[str, object] = {
        f"d{i}": {f"f{j}": bytes([rng.randrange(256) for _ in range(20)]) for j in range(10)} for i in range(20)
    }
    (base := space.root / "trees").mkdir()
    digest = digest_of(base, tree, 1)
    assert all(digest_of(base, tree, seed) == digest for seed in (2, 3))
    changed = {**tree, "d7": {**tree["d7"], "f3": b"x" * 20}}  # type: ignore[dict-item]
    renamed = {**tree, "d7": {("g3" if k == "f3" else k): v for k, v in tree["d7"].items()}}  # type: ignore[attr-defined]
    assert len({digest, digest_of(base, changed, 1), digest_of(base, renamed, 1)}) == 3


def test_the_digest_leaves_the_ground_truth_out_and_follows_a_links_name(space: Workspace) -> None:
    before = input_digest(space)
    (space.input / "gt.csv").write_bytes(b"other")
    assert input_digest(space) == before
    link = space.input / "data" / "link"
    link.symlink_to("x.csv")
    one = input_digest(space)
    link.unlink()
    link.symlink_to("nowhere")
    assert len({before, one, input_digest(space)}) == 3


def test_a_folder_without_files_counts_too(space: Workspace) -> None:
    before = input_digest(space)
    (space.input / "data" / "empty").mkdir()
    one = input_digest(space)
    (space.input / "data" / "empty").rmdir()
    (space.input / "data" / "empty").write_bytes(b"")
    assert len({before, one, input_digest(space)}) == 3
