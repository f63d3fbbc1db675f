"""The withheld part: each part's score is the one that the scorer gives on that part's rows, and nothing leaks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer import score
from autoscorer.core.benchmark import BenchmarkFolder
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.result import Result
from autoscorer.tasks.benchmarks.check import validate_benchmark
from autoscorer.tasks.benchmarks.leaderboard import board_of
from autoscorer.tasks.benchmarks.release import is_released, release
from autoscorer.tasks.submissions.parts import usage_of
from autoscorer.tasks.validate import validate_workspace
from hypothesis import given, settings
from hypothesis import strategies as st

from ...support.benchmarks import change_spec, rows, submit, write_benchmark

USAGE = {"a": "Public", "b": "Public", "c": "Private", "d": "Private", "e": "Ignored"}
TRUTH = "id,label,Usage\n" + "".join(
    f"{ident},{label},{USAGE[ident]}\n" for ident, label in zip("abcde", "xyxyx", strict=True)
)
BY_COLUMN = {"column": "Usage"}


def private_of(folder: BenchmarkFolder, team: str = "team-a", number: int = 1) -> Result:
    text = (folder.state / "withheld" / team / f"{number:04d}.json").read_text()
    return Result.model_validate_json(text)


def test_each_part_is_scored_by_itself_and_ignored_rows_by_nobody(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, truth=TRUTH, withheld=BY_COLUMN)
    # One right of the public rows, two of the private ones, the ignored one wrong.
    root, result = submit(folder, rows("xxxyy", ids="abcde"))
    private = private_of(folder)
    assert result.summary.score == 0.5 and private.summary.score == 1.0
    assert result.versioning.benchmark is not None and private.versioning.benchmark is not None
    assert (result.versioning.benchmark.part, private.versioning.benchmark.part) == ("public", "private")
    assert json.loads((root / "output" / "result.json").read_text())["summary"]["score"] == 0.5


def test_an_ignored_row_need_not_be_predicted(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, truth=TRUTH, withheld=BY_COLUMN)
    root, result = submit(folder, rows("xyxy"))
    assert result.summary.score == 1.0
    assert validate_workspace(root)["valid_for"] == ["score"]
    (root / "output" / "pred.csv").write_text(rows("xyz", ids="abz"))
    with pytest.raises(AutoScorerError, match="MISMATCH") as caught:
        validate_workspace(root)
    assert caught.value.details["missing"]["first"] == ["c", "d"]


def test_a_mismatch_is_told_of_the_whole_and_not_of_a_part(tmp_path: Path) -> None:
    """Which ids are missing in which part would tell whose rows are private."""
    folder = write_benchmark(tmp_path, truth=TRUTH, withheld=BY_COLUMN)
    _, result = submit(folder, rows("xyx", ids="abz"))
    assert result.error is not None and result.error.code == "MISMATCH"
    assert {key: result.error.details[key]["count"] for key in ("missing", "extra")} == {"missing": 2, "extra": 1}
    assert not (folder.state / "withheld" / "team-a").exists()


def everything_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                yield str(path.relative_to(folder)), path.read_bytes()


def test_nothing_of_the_private_part_lies_where_a_team_can_read(tmp_path: Path) -> None:
    truth = "id,label,Usage\n" + "".join(
        f"row{n:03d},{'secret-label' if n % 2 and n >= 10 else 'xy'[n % 2]},{'Private' if n >= 10 else 'Public'}\n"
        for n in range(20)
    )
    folder = write_benchmark(tmp_path, truth=truth, withheld=BY_COLUMN)
    root, result = submit(folder, "id,label\n" + "".join(f"row{n:03d},x\n" for n in range(20)))
    assert result.error is None and result.artifacts
    for name, content in everything_below(root):
        if name != "output/pred.csv":
            assert b"secret-label" not in content and b"row015" not in content, name
    assert "row001" in (root / "output" / "artifacts" / "errors.csv").read_text()
    withheld = folder.state / "withheld"
    assert withheld.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in withheld.rglob("*.json*"))
    # What was divided for the time of the scoring is gone.
    assert list((folder.state / "scoring").iterdir()) == []


def test_the_private_leaderboard_is_another_one_and_is_released_by_hand_or_by_date(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, truth=TRUTH, withheld=BY_COLUMN)
    submit(folder, rows("xyyx"), team="team-a")
    submit(folder, rows("yxxy"), team="team-b")
    spec = folder.read()
    assert [row["team"] for row in board_of(folder, spec)] == ["team-a", "team-b"]
    assert [row["team"] for row in board_of(folder, spec, private=True)] == ["team-b", "team-a"]
    assert not is_released(folder, spec)
    change_spec(folder, withheld={**BY_COLUMN, "release": "2001-01-01T00:00:00Z"})
    assert is_released(folder, folder.read())
    change_spec(folder, withheld={**BY_COLUMN, "release": "2999-01-01T00:00:00Z"})
    assert not is_released(folder, folder.read())
    release(folder)
    assert is_released(folder, folder.read())
    # When it is released decides no score.
    assert validate_benchmark(folder, load_settings())["version"] == 1


def test_a_benchmark_that_withholds_nothing_has_nothing_to_release(tmp_path: Path) -> None:
    with pytest.raises(AutoScorerError, match="INVALID_REQUEST"):
        release(write_benchmark(tmp_path))


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ("id,label,Usage\na,x,Public\nb,y,Secret\n", "Secret"),
        ("id,label,Usage\na,x,Public\nb,y,\n", "''"),
        ("id,label,Usage\na,x,Public\nb,y,Public\n", "no row is private"),
        ("id,label,Usage\na,x,Private\nb,y,Ignored\n", "no row is public"),
        ("id,label\na,x\nb,y\n", "''"),
    ],
)
def test_what_is_not_said_of_a_row_is_the_organisers_to_mend(tmp_path: Path, truth: str, said: str) -> None:
    folder = write_benchmark(tmp_path, truth=truth, withheld=BY_COLUMN)
    with pytest.raises(AutoScorerError) as caught:
        validate_benchmark(folder, load_settings())
    assert caught.value.code == "INVALID_BENCHMARK" and said in caught.value.message
    _, result = submit(folder, rows("xy", ids="ab"))
    assert result.error is not None and result.error.code == "INVALID_BENCHMARK"


# --- a file of its own, and other formats --------------------------------------------------------------------------


def with_usage_file(folder: BenchmarkFolder, content: str) -> BenchmarkFolder:
    (folder.input / "gt_usage.csv").write_text(content)
    return folder


def test_a_file_beside_the_truth_may_say_it_and_models_do_not_see_it(tmp_path: Path) -> None:
    from autoscorer.core.exposure import visible_inputs

    folder = with_usage_file(
        write_benchmark(tmp_path, withheld={"file": "gt_usage.csv"}),
        "id,usage\na,public\nb,public\nc,private\nd,private\n",
    )
    assert usage_of(folder, folder.read()) == {"a": "public", "b": "public", "c": "private", "d": "private"}
    assert [path.name for path in visible_inputs(folder.as_workspace())] == ["data"]
    _, result = submit(folder, rows("xxxy"))
    assert (result.summary.score, private_of(folder).summary.score) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,usage\na,public\nb,private\n", "2 rows, such as 'c'"),
        ("id,usage\na,public\na,private\nb,public\nc,public\nd,private\n", "two parts"),
        ("name,usage\na,public\n", "a column of ids"),
        ("id,part\na,public\n", "named Usage"),
    ],
)
def test_a_file_that_does_not_say_it_is_refused(tmp_path: Path, content: str, said: str) -> None:
    folder = with_usage_file(write_benchmark(tmp_path, withheld={"file": "gt_usage.csv"}), content)
    with pytest.raises(AutoScorerError) as caught:
        validate_benchmark(folder, load_settings())
    assert said in caught.value.message


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, withheld={"file": "gt_usage.csv"})
    with pytest.raises(AutoScorerError) as caught:
        validate_benchmark(folder, load_settings())
    assert "gt_usage.csv" in caught.value.message


RECORDS = [{"id": n, "label": "xy"[n % 2], "Usage": ["Public", "Private"][n // 4]} for n in range(8)]


@pytest.mark.parametrize("name", ["gt.json", "gt.jsonl"])
@pytest.mark.parametrize("pred", ["pred.json", "pred.jsonl", "pred.csv"])
def test_json_is_divided_by_its_records(tmp_path: Path, name: str, pred: str) -> None:
    lines = "\n".join(json.dumps(each) for each in RECORDS)
    folder = write_benchmark(
        tmp_path, truth=lines if name.endswith("l") else json.dumps(RECORDS), truth_name=name, withheld=BY_COLUMN
    )
    said = [{"id": each["id"], "label": "x"} for each in RECORDS[:6]] + RECORDS[6:]
    as_lines = "\n".join(json.dumps({key: each[key] for key in ("id", "label")}) for each in said)
    content = {
        "pred.json": "[" + as_lines.replace("\n", " ,\n ") + " ]",
        "pred.jsonl": as_lines + "\n\n",
        "pred.csv": "id,label\n" + "".join(f"{each['id']},{each['label']}\n" for each in said),
    }[pred]
    _, result = submit(folder, content, name=pred)
    assert result.error is None, result.error
    assert (result.summary.score, private_of(folder).summary.score) == (0.5, 0.75)


def test_boxes_are_divided_by_their_images(tmp_path: Path) -> None:
    images = [{"id": n, "width": 100, "height": 100} for n in range(1, 5)]
    boxes = [
        {"id": 10 + n, "image_id": n, "category_id": 1, "bbox": [10.5, 10, 20.25, 20], "area": 405, "iscrowd": 0}
        for n in range(1, 5)
    ]
    truth = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "coin"}]}
    folder = with_usage_file(
        write_benchmark(
            tmp_path,
            truth=json.dumps(truth),
            truth_name="gt.json",
            scorer="detection_map",
            withheld={"file": "gt_usage.csv"},
        ),
        "image_id,Usage\n1,Public\n2,Public\n3,Private\n4,Private\n",
    )
    found = [
        # A box may have an id of its own, which is no image's.
        {"id": 3, "image_id": n, "category_id": 1, "bbox": [10.5, 10, 20.25, 20], "score": 0.9}
        for n in (1, 3, 4)
    ]
    _, result = submit(folder, json.dumps(found), name="pred.json")
    assert result.error is None, result.error
    assert result.summary.score is not None and 0.3 < result.summary.score < 0.7
    assert private_of(folder).summary.score == pytest.approx(1.0)


def test_parquet_and_another_encoding(tmp_path: Path) -> None:
    import pandas as pd

    folder = write_benchmark(
        tmp_path, truth=TRUTH.replace("x", "猫"), withheld=BY_COLUMN, data={"input_encoding": "gbk"}
    )
    (folder.input / "gt.csv").write_bytes(TRUTH.replace("x", "猫").encode("gbk"))
    pd.DataFrame({"id": list("abcd"), "label": ["猫", "y", "y", "y"]}).to_parquet(tmp_path / "pred.parquet")
    from autoscorer.tasks.benchmarks.adding import Source
    from autoscorer.tasks.benchmarks.evaluate import evaluate

    _, result = evaluate(folder.root, Source("predictions", tmp_path / "pred.parquet"), team="team-a")
    assert result.error is None, result.error
    assert (result.summary.score, private_of(folder).summary.score) == (1.0, 0.5)


IDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@pytest.mark.slow
@settings(deadline=None)  # each example scores four times
@given(
    st.dictionaries(
        IDS,
        st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz"), st.sampled_from(["Public", "Private", "Ignored"])),
        min_size=2,
        max_size=25,
    ),
    st.randoms(use_true_random=False),
)
def test_a_parts_score_is_the_scorers_on_its_rows(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, tuple[str, str, str]], order: Any
) -> None:
    """The oracle: the same rows by pandas, scored with no benchmark around them."""
    import pandas as pd

    at = tmp_path_factory.mktemp("parts")
    frame = pd.DataFrame(
        [(ident, truth, said, use) for ident, (truth, said, use) in table.items()],
        columns=["id", "label", "prediction", "Usage"],
    )
    if not {"Public", "Private"} <= {*frame["Usage"]}:
        return
    folder = write_benchmark(at, truth=frame[["id", "label", "Usage"]].to_csv(index=False), withheld=BY_COLUMN)
    shuffled = frame.sample(frac=1, random_state=order.randrange(1000))
    said = shuffled[["id", "prediction"]].rename(columns={"prediction": "label"})
    _, result = submit(folder, said.to_csv(index=False))
    for use, got in (("Public", result), ("Private", private_of(folder))):
        part = frame[frame["Usage"] == use]
        expected = score(
            part[["id", "label"]],
            part[["id", "prediction"]].rename(columns={"prediction": "label"}),
            scorer="classification_accuracy",
        )
        assert got.error is None and got.summary.score == expected.summary.score
        assert got.metrics == expected.metrics and got.intervals == expected.intervals
