"""The public way to write a scorer: the design's template as it stands there, and what ``scorers new`` writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from autoscorer.cli.scorer_templates import write_scorer
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.result import Result
from autoscorer.scorers.registry import ScorerRegistry

# Word for word, but for the two lines that the design leaves open: the import of Path and the body of score.
TEMPLATE = """\
from pathlib import Path

from autoscorer.scorers.registry import register
from autoscorer.scorers.base_csv import BaseCSVScorer
from autoscorer.schemas.result import Result

@register("custom_scorer")
class CustomScorer(BaseCSVScorer):
    name = "custom_scorer"
    version = "1.0.0"
    def score(self, workspace: Path, params: dict) -> Result:
        return Result(summary={"score": 0.5}, metrics={"score": 0.5})
"""

TEN_LINES = """\
from autoscorer.scorers.registry import register
from autoscorer.scorers.base_csv import BaseCSVScorer

@register("agreement")
class Agreement(BaseCSVScorer):
    name = "agreement"
    version = "1.0.0"
    metric = "agreement"
    def compute(self, table, params):
        return {"agreement": sum(t == p for t, p in zip(table.truth, table.prediction)) / len(table.ids)}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, text in (("input/gt.csv", "id,label\n1,a\n01,b\n"), ("output/pred.csv", "id,label\n01,b\n1,b\n")):
        path = tmp_path / "ws" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "ws"


def test_the_designs_template_loads_and_scores(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "custom.py"
    path.write_text(TEMPLATE)
    (entry,) = ScorerRegistry().load_file(path)
    assert (entry.id, entry.version, entry.scorer_class.__name__) == ("custom_scorer", "1.0.0", "CustomScorer")
    scorer = entry.create()
    scorer.validate(place, {"pass_threshold": 0.4})
    result = scorer.score(place, {})
    assert isinstance(result, Result)
    assert result.summary.score == 0.5
    with pytest.raises(AutoScorerError) as caught:
        scorer.validate(place, {"pass_treshold": 0.4})
    assert caught.value.code is ErrorCode.BAD_PARAMS


def test_ten_lines_that_compute_from_aligned_tables_are_a_scorer(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "agreement.py"
    path.write_text(TEN_LINES)
    assert len(TEN_LINES.splitlines()) == 10
    scorer = ScorerRegistry().load_file(path)[0].create()
    scorer.validate(place, {})
    assert scorer.score(place, {}).metrics == {"agreement": 0.5}


def test_the_scorers_of_the_documentation_load(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scorers.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "@register" in block]
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        path = tmp_path / f"block{number}.py"
        path.write_text(block)
        assert ScorerRegistry().load_file(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my_scorer", "X", "a1"])
def test_what_new_writes_loads_and_its_test_passes_as_written(tmp_path: Path, name: str) -> None:
    written = write_scorer(name, tmp_path / "new")
    assert [Path(p).name for p in written["files"]] == [f"{name}.py", f"test_{name}.py"]
    assert ScorerRegistry().load_directory(tmp_path / "new")[0].id == name
    if name != "my_scorer":
        return
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", written["test"]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 passed" in run.stdout


def test_what_new_writes_is_clean_code(tmp_path: Path) -> None:
    written = write_scorer("my_scorer", tmp_path)
    ruff, how = [sys.executable, "-m", "ruff"], ["--isolated", "--no-cache", "--line-length=120", *written["files"]]
    check = subprocess.run([*ruff, "check", "--select=E,F,W,I,B,UP,SIM,RUF", *how], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    formatted = subprocess.run([*ruff, "format", "--check", *how], capture_output=True, text=True)
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "identifier"), ("9lives", "identifier"), ("a-b", "identifier"), ("a.b", "identifier"),
        ("../x", "identifier"), ("class", "identifier"), ("é", "identifier"), ("_x", "identifier"),
        ("x" * 200, "identifier"),
        ("test_x", "taken for a test"), ("x_test", "taken for a test"),
        ("regression_rmse", "built-in"), ("json", "installed Python module"), ("numpy", "installed Python module"),
    ],
)  # fmt: skip
def test_names_that_cant_be_used_are_refused_and_nothing_is_written(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(AutoScorerError, match=reason) as caught:
        write_scorer(name, tmp_path / "new")
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("existing", ["my_scorer.py", "test_my_scorer.py"])
def test_new_overwrites_nothing(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).symlink_to("nowhere")
    with pytest.raises(AutoScorerError, match="is there already"):
        write_scorer("my_scorer", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [existing]


MEAN_OF_ROWS = """\
from autoscorer.scorers.registry import register
from autoscorer.scorers.base_csv import BaseCSVScorer

@register("same")
class Same(BaseCSVScorer):
    name = "same"
    version = "1.0.0"
    metric = "same"
    def per_row(self, table, params):
        return {}
"""


def score_rows(tmp_path: Path, place: Path, body: str, **params: object) -> Result:
    path = tmp_path / "rows.py"
    path.write_text(MEAN_OF_ROWS.replace("{}", body))
    (entry,) = ScorerRegistry().load_file(path)
    result = entry.create().score(place, {"artifacts": False, **params})
    assert isinstance(result, Result)
    return result


def test_a_metric_that_is_a_mean_over_rows_has_an_interval_by_itself(tmp_path: Path, place: Path) -> None:
    result = score_rows(tmp_path, place, "table.truth_codes == table.prediction_codes", confidence_level=0.9)
    assert result.summary.score == result.metrics["same"] == 0.5
    interval = result.intervals["same"]
    assert (interval.method, interval.level) == ("wilson", 0.9)
    assert interval.low < 0.2 and interval.high > 0.8


def test_rows_that_do_not_vary_give_no_interval_and_a_note(tmp_path: Path, place: Path) -> None:
    result = score_rows(tmp_path, place, "[0.25] * len(table.ids)")
    assert (result.summary.score, result.intervals) == (0.25, {})
    assert "does not vary" in result.notes[0]


@pytest.mark.parametrize("body", ["[1.0]", "1.0", "['a', 'b']", "[float('nan'), 1.0]", "None"])
def test_what_is_no_number_a_row_is_refused(tmp_path: Path, place: Path, body: str) -> None:
    with pytest.raises(AutoScorerError, match="one finite number for each of the 2 rows") as caught:
        score_rows(tmp_path, place, body)
    assert caught.value.code is ErrorCode.SCORER_ERROR
