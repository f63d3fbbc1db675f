"""Classification: scikit-learn's numbers, whatever the labels and whatever the order of the files."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.result import Result
from autoscorer.scorers.base_csv import BaseCSVScorer, CSVParams
from autoscorer.scorers.classification import ClassificationAccuracy, ClassificationF1
from autoscorer.scorers.metrics import confusion
from autoscorer.scorers.metrics.confusion import count_matrix, metrics_of, per_class
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ..support.examples import examples

FAST = settings(max_examples=examples(150), deadline=None)


def reference(truth: list[str], predicted: list[str]) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            f"{name}_{average}": function(truth, predicted, average=average, zero_division=0)
            for name, function in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score))
            for average in ("macro", "micro", "weighted")
        }
        found["accuracy"] = sk.accuracy_score(truth, predicted)
        found["balanced_accuracy"] = sk.balanced_accuracy_score(truth, predicted)
        found["matthews_corrcoef"] = sk.matthews_corrcoef(truth, predicted)
        found["cohen_kappa"] = sk.cohen_kappa_score(truth, predicted)
    return found


def counted(truth: list[str], predicted: list[str]) -> confusion.ConfusionMatrix:
    labels, codes = np.unique([*truth, *predicted], return_inverse=True)
    return count_matrix(codes[: len(truth)], codes[len(truth) :], labels.tolist())


@pytest.fixture
def workspace(tmp_path: Path):
    """Write two tables of (id, label) rows."""

    def write(truth, predicted, header="id,label") -> Path:
        for folder, name, rows in (("input", "gt", truth), ("output", "pred", predicted)):
            (tmp_path / folder).mkdir(exist_ok=True)
            with (tmp_path / folder / f"{name}.csv").open("w", newline="") as file:
                file.write(header + "\n")
                csv.writer(file).writerows(rows)
        return tmp_path

    return write


@pytest.mark.slow
@FAST
@given(
    pairs=st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("bcdef")), min_size=1, max_size=40),
    dense=st.booleans(),
)
def test_every_metric_is_scikit_learns(pairs, dense):
    truth, predicted = map(list, zip(*pairs, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confusion, "_FEW_CELLS", 1 << 16 if dense else 0)
        matrix = counted(truth, predicted)
    ours = metrics_of(matrix.hits, matrix.truth, matrix.predicted)
    theirs = reference(truth, predicted)
    assert {name: float(value) for name, value in ours.items()} == pytest.approx(theirs, abs=1e-9, nan_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(matrix.dense(), sk.confusion_matrix(truth, predicted))
    precision, recall, f1, support = sk.precision_recall_fscore_support(truth, predicted, zero_division=0)
    found = per_class(matrix.hits, matrix.truth, matrix.predicted)
    for mine, other in zip(found, (precision, recall, f1), strict=True):
        assert mine == pytest.approx(other, abs=1e-9)
    assert np.array_equal(matrix.truth, support)


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [("a", "a"), ("a", "b"), ("aaaa", "aaaa"), ("abab", "aaaa"), ("aaaa", "abab"), ("ab", "ba"), ("abc", "ddd")],
)
def test_awkward_cases_are_scikit_learns(workspace, truth, predicted):
    root = workspace(list(enumerate(truth)), list(enumerate(predicted)))
    theirs = reference(list(truth), list(predicted))
    for scorer in (ClassificationF1(), ClassificationAccuracy()):
        result = scorer.score(root, {"artifacts": False})
        for name in scorer.metrics:
            if np.isnan(theirs[name]):
                assert result.metrics[name] is None
                assert any(name in note for note in result.notes)
            else:
                assert result.metrics[name] == pytest.approx(theirs[name], abs=1e-9)
        for name, interval in result.intervals.items():
            assert interval.low <= result.metrics[name] <= interval.high


def test_the_result_says_what_a_reader_needs(workspace):
    root = workspace([("1", "cat"), ("2", "dog"), ("3", "owl")], [("3", "cat"), ("1", "cat"), ("2", "NA")])
    result = ClassificationF1().score(root, {})
    assert result.summary.score == result.metrics["f1_macro"] == pytest.approx(1 / 6)
    assert result.to_dict()["summary"]["f1_macro"] == result.summary.score
    assert result.summary.higher_is_better
    assert result.metrics["f1/cat"] == pytest.approx(2 / 3)
    assert result.metrics["support/owl"] == 1
    assert "2 labels never predicted: their precision is 0/0 and counts as 0 ('dog', 'owl')." in result.notes
    assert any(
        note.startswith("1 label predicted but not in the ground truth") and "'NA'" in note for note in result.notes
    )
    assert result.timing.load is not None
    assert result.timing.compute is not None
    assert result.versioning.ground_truth_sha256 != result.versioning.predictions_sha256


def test_the_order_of_the_files_changes_no_byte(workspace, tmp_path):
    rng = np.random.default_rng(0)
    truth = [(f"id-{i}", "abc"[c]) for i, c in enumerate(rng.integers(0, 3, 3000).tolist())]
    predicted = [(f"id-{i}", "abcd"[c]) for i, c in enumerate(rng.integers(0, 4, 3000).tolist())]
    seen = []
    for _ in range(2):
        root = workspace(truth, predicted)
        result = ClassificationF1().score(root, {})
        data = result.to_dict()
        del data["timing"], data["versioning"]
        artifacts = root / "output/artifacts"
        files = {str(p.relative_to(artifacts)): p.read_bytes() for p in sorted(artifacts.rglob("*.*"))}
        seen.append((data, files))
        rng.shuffle(truth)
        rng.shuffle(predicted)
    assert seen[0] == seen[1]
    assert set(seen[0][1]) == {
        "confusion_matrix.json", "confusion_matrix.svg", "errors.csv", "per_class.csv", "per_class.svg",
        "samples.json.gz",
        "shared/confusion_matrix.json", "shared/confusion_matrix.svg", "shared/per_class.csv", "shared/per_class.svg",
    }  # fmt: skip


def test_artifacts_hold_the_matrix_the_classes_and_the_errors(workspace):
    truth = [(f"{i:04d}", "a,b" if i % 2 else 'q"') for i in range(3000)]
    root = workspace(truth, [(one, "a,b") for one, _ in truth])
    result = ClassificationF1().score(root, {})
    folder = root / "output/artifacts"
    matrix = json.loads((folder / "confusion_matrix.json").read_text())
    assert matrix == {"labels": ["a,b", 'q"'], "format": "dense", "matrix": [[1500, 0], [1500, 0]]}
    with (folder / "errors.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "truth", "prediction"]
    assert rows[1:] == [[f"{i:04d}", 'q"', "a,b"] for i in range(0, 2000, 2)]
    with (folder / "per_class.csv").open(newline="") as file:
        classes = list(csv.DictReader(file))
    assert [(row["label"], float(row["recall"]), row["support"]) for row in classes] == [
        ("a,b", 1.0, "1500"), ('q"', 0.0, "1500"),
    ]  # fmt: skip
    assert set(result.artifacts) == {
        "confusion_matrix",
        "per_class",
        "errors",
        "confusion_matrix_plot",
        "per_class_plot",
        "samples",
    }
    assert result.artifacts["errors"].path == "output/artifacts/errors.csv"


def test_artifacts_false_writes_nothing(workspace):
    root = workspace([("a", "x")], [("a", "x")])
    assert ClassificationF1().score(root, {"artifacts": False}).artifacts == {}
    assert not (root / "output/artifacts").exists()


def test_many_classes_stay_sparse_and_capped(workspace):
    rows = [(i, f"class {i}") for i in range(3000)]
    root = workspace(rows, [(i, f"class {(i + i % 2) % 3000}") for i in range(3000)])
    result = ClassificationF1().score(root, {})
    assert result.metrics["accuracy"] == 0.5
    assert len(result.metrics) < 20
    assert all(len(note) < 1000 for note in result.notes)
    matrix = json.loads((root / "output/artifacts/confusion_matrix.json").read_text())
    assert matrix["format"] == "cells"
    assert len(matrix["cells"]) == 3000


def test_params_choose_average_columns_and_level(workspace):
    root = workspace([("a", "x"), ("b", "y"), ("c", "y")], [("a", "x"), ("b", "x"), ("c", "y")], "key,kind")
    params = {"id_column": "key", "label_column": "kind", "artifacts": False}
    narrow = ClassificationF1().score(root, {**params, "average": "weighted", "confidence_level": 0.8})
    wide = ClassificationF1().score(root, {**params, "average": "weighted", "confidence_level": 0.99})
    assert narrow.summary.score == narrow.metrics["f1_weighted"]
    assert narrow.intervals["accuracy"].level == 0.8
    assert wide.intervals["accuracy"].low < narrow.intervals["accuracy"].low


@pytest.mark.parametrize(
    ("params", "named"),
    [({"average": "mean"}, "average"), ({"labels": 3}, "labels"), ({"confidence_level": 95}, "confidence_level")],
)
def test_wrong_params_are_refused_by_name(workspace, params, named):
    root = workspace([("a", "x")], [("a", "x")])
    for call in (ClassificationF1().validate, ClassificationF1().score):
        with pytest.raises(AutoScorerError) as caught:
            call(root, params)
        assert caught.value.code is ErrorCode.BAD_PARAMS
        assert named in caught.value.message


def test_validate_reads_the_ground_truth_and_the_predictions_if_there(workspace):
    root = workspace([("a", "x"), ("a", "y")], [("a", "x")])
    with pytest.raises(AutoScorerError, match="more than once") as caught:
        ClassificationF1().validate(root, {})
    assert caught.value.code is ErrorCode.MISMATCH
    (root / "output/pred.csv").unlink()
    with pytest.raises(AutoScorerError, match="more than once"):
        ClassificationF1().validate(root, {})
    root = workspace([("a", "x"), ("b", "y")], [("a", "x")])
    with pytest.raises(AutoScorerError, match=r"1 missing from pred\.csv"):
        ClassificationF1().validate(root, {})
    (root / "output/pred.csv").unlink()
    ClassificationF1().validate(root, {})


def test_score_sees_what_changed_after_validate(workspace):
    root = workspace([("a", "x")], [("a", "x")])
    scorer = ClassificationF1()
    scorer.validate(root, {})
    workspace([("a", "x")], [("a", "yy")])
    assert scorer.score(root, {"artifacts": False}).metrics["accuracy"] == 0


# -- the base class -----------------------------------------------------------------------------------------


class WithinOne(BaseCSVScorer):
    name = "within_one"
    version = "1.0.0"
    metric = "within_one"
    values = "number"

    def compute(self, table, params):
        return {"within_one": np.mean(abs(table.prediction - table.truth) <= 1)}


def test_ten_lines_make_a_scorer(workspace):
    root = workspace([("b", 1), ("a", 5)], [("a", 5.5), ("b", 3)])
    result = WithinOne().score(root, {})
    assert result.summary.score == result.metrics["within_one"] == 0.5
    assert set(result.artifacts) == {"errors", "residuals", "samples"}
    assert (
        root / "output/artifacts/errors.csv"
    ).read_text() == "id,truth,prediction,residual\nb,1.0,3.0,-2.0\na,5.0,5.5,-0.5\n"
    assert result.versioning.ground_truth_sha256


def test_a_text_scorer_gets_texts_params_and_a_frame(workspace):
    class Params(CSVParams):
        ignore: str

    class Prefix(BaseCSVScorer):
        name = "prefix"
        metric = "prefix"
        Params = CSVParams

        def compute(self, table, params):
            frame = table.frame()
            assert frame["note"].tolist() == ["n1", "n0"]
            kept = [(t, p) for t, p in zip(table.truth, table.prediction, strict=True) if t != params.ignore]
            return {"prefix": sum(p.startswith(t) for t, p in kept) / len(kept), "kept": len(kept)}

    Prefix.Params = Params
    root = workspace([("b", "no", "n0"), ("a", "x", "n1")], [], "id,label,note")
    (root / "output/pred.csv").write_text("id,prediction\na,xyz\nb,?\n")
    result = Prefix().score(root, {"ignore": "no"})
    assert result.metrics == {"prefix": 1.0, "kept": 1.0}
    with pytest.raises(AutoScorerError, match="ignore"):
        Prefix().score(root, {})


@pytest.mark.parametrize("value", [{}, None, {"x": "one"}, {"a": 1.0, "b": 2.0}])
def test_a_compute_that_returns_nonsense_is_the_scorers_fault(workspace, value):
    class Odd(BaseCSVScorer):
        name = "odd"

        def compute(self, table, params):
            return value

    with pytest.raises(AutoScorerError) as caught:
        Odd().score(workspace([("a", "x")], [("a", "x")]), {})
    assert caught.value.code is ErrorCode.SCORER_ERROR


def test_an_undefined_metric_is_null_with_a_note(workspace):
    class Undefined(BaseCSVScorer):
        name = "undefined"

        def compute(self, table, params):
            return {"score": float("nan")}

    result = Undefined().score(workspace([("a", "x")], [("a", "x")]), {})
    assert result.summary.score is None
    assert result.metrics == {"score": None}
    assert result.notes


def test_the_template_of_the_design_works_as_it_stands(workspace):
    class Custom(BaseCSVScorer):
        name = "custom_scorer"
        version = "1.0.0"

        def score(self, workspace: Path, params: dict) -> Result:
            return Result(summary={"score": 1.0}, metrics={"score": 1.0})

    root = workspace([("a", "x")], [("b", "x")])
    scorer = Custom()
    scorer.validate(root, {})
    assert scorer.score(root, {}).summary.score == 1.0
