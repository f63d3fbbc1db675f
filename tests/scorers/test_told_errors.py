"""How many rows are wrong is told, however few of them are shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from autoscorer.cli.main import main
from autoscorer.core.workspace import ArtifactWriter
from autoscorer.schemas.result import Artifact, Result
from autoscorer.scorers.report.report import render_report

from ..support.workspaces import result_of


def plain(page: str) -> str:
    found = re.search(r"<h2>Errors</h2><p[^>]*>(.*?)</p>", page, re.DOTALL)
    assert found is not None
    return re.sub(r"<[^>]+>", "", found[1])


def scored(workspace: Path, truth: str, predictions: str) -> tuple[Artifact, str]:
    (workspace / "input" / "gt.csv").write_text(truth)
    (workspace / "output").mkdir(exist_ok=True)
    (workspace / "output" / "pred.csv").write_text(predictions)
    assert main(["score", str(workspace)]) == 0
    result = result_of(workspace)
    page = (workspace / "output" / "artifacts" / "report.html").read_text()
    return Artifact.model_validate(result["artifacts"]["errors"]), plain(page)


def test_a_scoring_says_how_many_labels_are_wrong(make_workspace: Callable[..., Path]) -> None:
    rows = range(14_000)
    truth = "id,label\n" + "".join(f"r{row:05d},a\n" for row in rows)
    wrong = "id,label\n" + "".join(f"r{row:05d},{'b' if row < 13_123 else 'a'}\n" for row in rows)
    errors, lead = scored(make_workspace("many", scorer="classification_f1"), truth, wrong)
    assert (errors.rows, errors.rows_total) == (1000, 13_123)
    assert lead == "The first 20 rows of 13,123. errors.csv holds the first 1,000 of 13,123."
    few = "id,label\n" + "".join(f"r{row:05d},{'b' if row < 400 else 'a'}\n" for row in rows)
    errors, lead = scored(make_workspace("some", scorer="classification_f1"), truth, few)
    assert (errors.rows, errors.rows_total) == (400, 400)
    assert lead == "The first 20 rows of 400. All of them."
    three = "id,label\n" + "".join(f"r{row:05d},{'b' if row < 3 else 'a'}\n" for row in rows)
    errors, lead = scored(make_workspace("three", scorer="classification_f1"), truth, three)
    assert (errors.rows, errors.rows_total) == (3, 3) and lead == "3 rows, from errors.csv."


def test_the_largest_residuals_are_so_many_of_all_rows(make_workspace: Callable[..., Path]) -> None:
    rows = range(1_500)
    truth = "id,value\n" + "".join(f"r{row},{row}\n" for row in rows)
    guess = "id,value\n" + "".join(f"r{row},{row * 1.01}\n" for row in rows)
    errors, lead = scored(make_workspace("values", scorer="regression_rmse", task_type="regression"), truth, guess)
    assert (errors.rows, errors.rows_total) == (1000, 1500)
    assert lead == "The first 20 rows of 1,500. errors.csv holds the first 1,000 of 1,500."


def test_a_table_of_somebody_elses_claims_no_total(tmp_path: Path) -> None:
    writer = ArtifactWriter(tmp_path)
    writer.write("errors", "errors.csv", "id\n" + "".join(f"{row}\n" for row in range(30)))
    page = render_report(Result(artifacts=writer.artifacts), tmp_path)
    assert plain(page) == "The first 20 rows of errors.csv. All of them."
