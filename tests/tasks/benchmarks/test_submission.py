"""Handing something in: a workspace of its own, whole or not at all, that copies nothing of the benchmark."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.benchmark import BenchmarkFolder
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.exposure import visible_inputs
from autoscorer.core.workspace import Workspace
from autoscorer.tasks.benchmarks.adding import Source, add_submission, open_phase

from ...support.benchmarks import rows, submit, write_benchmark

NOW = datetime(2026, 6, 15, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> BenchmarkFolder:
    return write_benchmark(tmp_path)


def predictions(tmp_path: Path, name: str = "mine.csv", content: str = rows("xyxy")) -> Source:
    (tmp_path / name).write_text(content)
    return Source("predictions", tmp_path / name)


def test_it_holds_no_copy_of_data_or_truth(folder: BenchmarkFolder, tmp_path: Path) -> None:
    (folder.input / "data" / "large").write_bytes(b"0" * 5_000_000)
    roots = [add_submission(folder, "team-a", predictions(tmp_path)) for _ in range(20)]
    disk = sum(
        os.lstat(os.path.join(parent, name)).st_blocks * 512
        for root in roots
        for parent, folders, files in os.walk(root)
        for name in (*folders, *files)
    )
    assert disk < 20 * 64 * 1024
    space = Workspace(roots[0])
    assert space.ground_truth() == folder.input / "gt.csv"
    assert visible_inputs(space) == [folder.input / "data"]
    # For scorers that open input/ by its path.
    assert (roots[0] / "input" / "gt.csv").samefile(folder.input / "gt.csv")


def test_numbers_are_each_teams_own(folder: BenchmarkFolder, tmp_path: Path) -> None:
    source = predictions(tmp_path)
    names = [add_submission(folder, team, source).name for team in ("team-a", "team-a", "team-b", "team-a")]
    assert names == ["0001", "0002", "0001", "0003"]
    assert [path.parent.name + path.name for path in folder.submissions()] == [
        "team-a0001", "team-a0002", "team-a0003", "team-b0001",
    ]  # fmt: skip
    assert [path.name for path in folder.submissions("team-b")] == ["0001"]


def test_many_at_once_get_numbers_of_their_own(folder: BenchmarkFolder, tmp_path: Path) -> None:
    source = predictions(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: add_submission(folder, "team-a", source).name, range(64)))
    assert sorted(found) == [f"{number:04d}" for number in range(1, 65)]


@pytest.mark.parametrize("team", ["", "Team", "../team-b", "a/b", "-a", "a" * 65, "团队", "a b"])
def test_a_name_that_is_none_is_refused(folder: BenchmarkFolder, tmp_path: Path, team: str) -> None:
    with pytest.raises(AutoScorerError, match="INVALID_REQUEST"):
        add_submission(folder, team, predictions(tmp_path))
    assert not (folder.root / "submissions").exists()


@pytest.mark.parametrize("label", ["x" * 201, "two\nlines", "\x1b[31m"])
def test_a_label_that_is_none_is_refused(folder: BenchmarkFolder, tmp_path: Path, label: str) -> None:
    with pytest.raises(AutoScorerError, match=r"INVALID_REQUEST.*label"):
        add_submission(folder, "team-a", predictions(tmp_path), label=label)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (lambda at: Source("predictions", at / "none.csv"), "MISSING_FILE"),
        (lambda at: Source("predictions", at), "MISSING_FILE"),
        (lambda at: predictions(at, "pred.xlsx"), "INVALID_REQUEST"),
        (lambda at: Source("archive", at / "none.tar"), "MISSING_FILE"),
        (lambda at: Source("image", container={"image": "a b"}), "INVALID_REQUEST"),
        (lambda at: Source("dockerfile", at / "none"), "MISSING_FILE"),
        (lambda at: Source("dockerfile", at), "MISSING_FILE"),
    ],
)
def test_what_can_not_be_taken_leaves_nothing(folder: BenchmarkFolder, tmp_path: Path, source: Any, code: str) -> None:
    given = tmp_path / "given"
    given.mkdir()
    with pytest.raises(AutoScorerError) as caught:
        add_submission(folder, "team-a", source(given))
    assert caught.value.code == code
    assert list(folder.submissions()) == [] and os.listdir(folder.root / "submissions" / "team-a") == []


# --- a folder with a Dockerfile -----------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    (path / "src").mkdir(parents=True)
    (path / "Dockerfile").write_text("FROM scratch\n")
    (path / "src" / "run.sh").write_text("true\n")
    (path / "src" / "run.sh").chmod(0o755)
    return path


def test_a_folder_is_taken_without_what_only_we_may_write(folder: BenchmarkFolder, model: Path) -> None:
    for name in ("input", "output", "logs", ".autoscorer"):
        (model / name).mkdir()
        (model / name / "planted").write_text("x")
    (model / "submission.json").write_text('{"team": "team-b"}')
    asked = {"scorer": "mine", "params": {"a": 1}, "container": {"image": "x:1", "cmd": ["sh"]}, "timeout": 5}
    (model / "meta.json").write_text(json.dumps(asked))
    root = add_submission(folder, "team-a", Source("dockerfile", model))
    assert json.loads((root / "meta.json").read_text()) == {"container": {"cmd": ["sh"]}, "timeout": 5}
    assert json.loads((root / "submission.json").read_text())["team"] == "team-a"
    assert os.access(root / "src" / "run.sh", os.X_OK)
    assert not list(root.rglob("planted"))
    assert sorted(os.listdir(root)) == ["Dockerfile", "input", "meta.json", "src", "submission.json"]


@pytest.mark.parametrize("kind", ["link", "link-to-folder", "fifo", "link-in-a-folder"])
def test_a_folder_with_something_that_is_no_file_is_refused(folder: BenchmarkFolder, model: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(model / "x")
    elif kind == "link-to-folder":
        (model / "x").symlink_to(folder.input)
    else:
        (model / ("src/x" if kind == "link-in-a-folder" else "x")).symlink_to(folder.input / "gt.csv")
    with pytest.raises(AutoScorerError, match="OUTPUT_REJECTED"):
        add_submission(folder, "team-a", Source("dockerfile", model))
    assert list(folder.submissions()) == []


def test_an_archive_is_told_by_its_first_bytes(folder: BenchmarkFolder, tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a").write_bytes(gzip.compress(b"tar"))
    (tmp_path / "b.tar.gz").write_bytes(b"tar")
    roots = [add_submission(folder, "team-a", Source("archive", tmp_path / name)) for name in ("a", "b.tar.gz")]
    assert [(root / "image.tar.gz").exists() for root in roots] == [True, False]
    assert (roots[1] / "image.tar").read_bytes() == b"tar"


# --- phases --------------------------------------------------------------------------------------------------------


def spec_with(tmp_path: Path, *phases: dict[str, Any]) -> Any:
    return write_benchmark(tmp_path, phases=list(phases)).read()


def test_a_phase_takes_what_comes_from_its_opening_to_its_close(tmp_path: Path) -> None:
    spec = spec_with(
        tmp_path,
        {"name": "dev", "open": "2026-06-01T00:00:00Z", "close": "2026-06-10T00:00:00Z"},
        {"name": "test", "open": "2026-06-20T00:00:00+08:00", "close": "2026-06-30T00:00:00Z"},
    )

    def of(text: str) -> str | None:
        phase, late = open_phase(spec, datetime.fromisoformat(text))
        assert not late
        return phase.name if phase else None

    assert of("2026-06-01T00:00:00+00:00") == "dev" and of("2026-06-09T23:59:59+00:00") == "dev"
    # Eight hours before midnight UTC.
    assert of("2026-06-19T16:00:00+00:00") == "test"
    for closed in ("2026-05-31T23:59:59+00:00", "2026-06-10T00:00:00+00:00", "2026-06-19T15:59:59+00:00"):
        with pytest.raises(AutoScorerError, match=r"PHASE_CLOSED.*opens at"):
            open_phase(spec, datetime.fromisoformat(closed))
    with pytest.raises(AutoScorerError, match="No further phase"):
        open_phase(spec, datetime.fromisoformat("2026-07-01T00:00:00+00:00"))


def test_what_is_late_is_scored_and_not_on_the_leaderboard(tmp_path: Path) -> None:
    from autoscorer.tasks.benchmarks.leaderboard import board_of

    folder = write_benchmark(tmp_path, phases=[{"name": "dev", "close": "2026-01-01T00:00:00Z", "late": "accept"}])
    root, result = submit(folder, rows("xyxy"))
    assert result.summary.score == 1.0
    assert json.loads((root / "submission.json").read_text())["late"] is True
    assert board_of(folder, folder.read()) == []


def test_without_phases_it_is_always_open(tmp_path: Path) -> None:
    assert open_phase(spec_with(tmp_path), NOW) == (None, False)
