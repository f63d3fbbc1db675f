"""What submitters wrote stands in CSV files that people open in a spreadsheet: no cell of them is a formula."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from autoscorer.core.spreadsheet import safe_cell
from autoscorer.scorers.registry import get_registry
from hypothesis import given
from hypothesis import strategies as st

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "\xa0=1"]


def score(root: Path, scorer: str, suffix: str, truth: str, predictions: str) -> dict[str, list[list[str]]]:
    (root / "input").mkdir()
    (root / "output").mkdir()
    (root / f"input/gt.{suffix}").write_text(truth, encoding="utf-8")
    (root / f"output/pred.{suffix}").write_text(predictions, encoding="utf-8")
    result = get_registry().get(scorer).create().score(root, {})
    return {
        name: list(csv.reader(io.StringIO((root / artifact.path).read_bytes().decode(), newline="")))
        for name, artifact in result.artifacts.items()
        if artifact.path.endswith(".csv")
    }


def rows(*fields: tuple[str, object]) -> str:
    return "".join(json.dumps({"id": key, "label": label}) + "\n" for key, label in fields)


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_label_and_no_id_of_a_submission_is_a_formula(tmp_path: Path, formula: str) -> None:
    tables = score(
        tmp_path, "classification_f1", "jsonl", rows((formula, "a"), ("2", "b")), rows((formula, formula), ("2", "b"))
    )
    assert tables["errors"][1:] == [["'" + formula, "a", "'" + formula]]
    assert sorted(row[0] for row in tables["per_class"][1:]) == sorted(["a", "b", "'" + formula])


def test_numbers_of_errors_stay_numbers(tmp_path: Path) -> None:
    tables = score(tmp_path, "regression_rmse", "jsonl", rows(("=1", -1.5), ("b", 2)), rows(("=1", 1), ("b", -2.25)))
    assert tables["errors"][1:] == [["b", "2.0", "-2.25", "4.25"], ["'=1", "-1.5", "1.0", "-2.5"]]


def test_no_category_and_no_image_of_boxes_is_a_formula(tmp_path: Path) -> None:
    truth = [{"image_id": "=i", "category_id": "@c", "bbox": [-1.5, -2, 30, 30]}]
    found = [{"image_id": "=i", "category_id": "@c", "bbox": [-90.5, 1, 3, 3], "score": -0.5}]
    tables = score(tmp_path, "detection_map", "json", json.dumps(truth), json.dumps(found))
    assert tables["per_class"][1][:2] == ["'@c", "'@c"]
    false, missed = tables["errors"][1:]
    assert false[2:10] == ["'=i", "'@c", "-0.5", "0.0000", "-90.5", "1.0", "3.0", "3.0"]
    assert missed[2:10] == ["'=i", "'@c", "", "", "-1.5", "-2.0", "30.0", "30.0"]


@given(st.text())
def test_a_safe_cell_is_the_text_or_the_text_behind_an_apostrophe(text: str) -> None:
    cell = safe_cell(text)
    assert cell.removeprefix("'") == text.removeprefix("'")
    assert cell == text or cell == "'" + text
    assert cell.lstrip()[:1] not in tuple("=+-@＝＋－＠") and cell[:1] not in tuple("\t\r\n")
