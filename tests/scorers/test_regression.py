"""Regression: scikit-learn's numbers, the same to the bit whatever the order of the files."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.regression import METRICS, RegressionRMSE, regression_metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ..support.examples import examples
from ..support.markdown import read

FAST = settings(max_examples=examples(200), deadline=None)
NUMBER = st.one_of(
    st.floats(-1e6, 1e6), st.integers(-3, 3).map(float), st.floats(1e90, 1e100), st.floats(-1e-90, 1e-90)
)
REFERENCE = {
    "rmse": sk.root_mean_squared_error,
    "mse": sk.mean_squared_error,
    "mae": sk.mean_absolute_error,
    "mape": sk.mean_absolute_percentage_error,
    "median_absolute_error": sk.median_absolute_error,
    "max_error": sk.max_error,
}
EXPLAINED = {"r2": sk.r2_score, "explained_variance": sk.explained_variance_score}


@pytest.fixture
def workspace(tmp_path: Path):
    """Write two tables of values, given as they shall stand in the files."""

    def write(truth: dict[str, str], predicted: dict[str, str]) -> Path:
        for folder, name, values in (("input", "gt", truth), ("output", "pred", predicted)):
            (tmp_path / folder).mkdir(exist_ok=True)
            rows = "".join(f"{key},{value}\n" for key, value in values.items())
            (tmp_path / folder / f"{name}.csv").write_text("id,label\n" + rows)
        return tmp_path

    return write


@FAST
@given(pairs=st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=30))
def test_every_metric_is_scikit_learns(pairs):
    truth, predicted = np.array(pairs).T.copy()
    ours, _, _ = regression_metrics(truth, predicted)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name, function in REFERENCE.items():
            assert ours[name] == pytest.approx(function(truth, predicted), rel=1e-9, abs=1e-9), name
        for name, function in EXPLAINED.items():
            if truth.min() == truth.max():
                assert ours[name] is None
            elif ours[name] is not None and np.square(truth - truth.mean()).sum() > 0:
                assert ours[name] == pytest.approx(function(truth, predicted), rel=1e-9, abs=1e-9), name


def test_the_order_of_the_files_changes_no_bit(workspace):
    rng = np.random.default_rng(0)
    keys = [f"{i:x}" for i in range(5000)]
    truth = dict(zip(keys, (rng.normal(size=5000) * 10.0 ** rng.integers(-8, 8, 5000)).tolist(), strict=True))
    predicted = {key: value + rng.normal() for key, value in truth.items()}
    seen = []
    for _ in range(2):
        result = RegressionRMSE().score(workspace(truth, predicted), {"artifacts": False}).to_dict()
        seen.append((result["metrics"], result["intervals"], result["summary"]))
        rng.shuffle(keys)
        truth = {key: truth[key] for key in keys}
        predicted = {key: predicted[key] for key in reversed(keys)}
    assert seen[0] == seen[1]


def test_the_summary_shows_an_error_where_lower_is_better(workspace):
    result = RegressionRMSE().score(workspace({"a": "1", "b": "2"}, {"b": "2", "a": "3"}), {})
    assert result.summary.score == result.metrics["rmse"] == pytest.approx(math.sqrt(2))
    assert result.to_dict()["summary"]["rmse"] == result.summary.score
    assert result.summary.higher_is_better is False
    assert RegressionRMSE.rank_thresholds is None
    assert set(result.artifacts) == {"errors", "residuals", "samples"}
    assert result.intervals["rmse"].method == "delta"


@pytest.mark.parametrize(
    ("truth", "predicted", "why"), [(["1"], ["2"], "only one row"), (["0.1"] * 3, ["0.1", "0.2", "0.3"], "constant")]
)
def test_r2_without_variation_is_null_with_a_note(workspace, truth, predicted, why):
    root = workspace(*({str(i): v for i, v in enumerate(values)} for values in (truth, predicted)))
    result = RegressionRMSE().score(root, {"artifacts": False})
    assert result.metrics["r2"] is None
    assert result.metrics["explained_variance"] is None
    assert any("r2" in note and why in note for note in result.notes)


def test_squares_neither_overflow_nor_vanish():
    big, _, notes = regression_metrics(np.array([1e200, -1e200]), np.array([0.0, 0.0]))
    assert big["rmse"] == pytest.approx(1e200)
    assert big["mse"] is None
    assert any("mse" in note for note in notes)
    small, _, _ = regression_metrics(np.array([1e-200, -1e-200]), np.array([0.0, 0.0]))
    assert small["rmse"] == pytest.approx(1e-200, rel=1e-12)
    none, intervals, notes = regression_metrics(np.array([1.7e308, 0.0]), np.array([-1.7e308, 0.0]))
    assert set(none.values()) == {None}
    assert not intervals
    assert notes


def test_zeros_in_the_truth_follow_scikit_learn_with_a_note():
    truth, predicted = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    metrics, _, notes = regression_metrics(truth, predicted)
    assert metrics["mape"] == pytest.approx(sk.mean_absolute_percentage_error(truth, predicted))
    assert any("mape" in note for note in notes)


@pytest.mark.parametrize("value", ["nan", "inf", "", "1_000", "1e400"])
def test_what_is_no_number_is_refused_with_its_line(workspace, value):
    with pytest.raises(AutoScorerError) as caught:
        RegressionRMSE().score(workspace({"a": "1", "b": "2"}, {"a": "1", "b": value}), {})
    assert caught.value.code is ErrorCode.PARSE_ERROR
    assert "pred.csv, line 3" in caught.value.message


@pytest.mark.parametrize("value", ["SECRET", "SECRET" * 20])
def test_an_error_quotes_predictions_and_never_the_truth(workspace, value):
    with pytest.raises(AutoScorerError) as of_predictions:
        RegressionRMSE().score(workspace({"a": "1"}, {"a": value}), {})
    assert "SECRET" in of_predictions.value.message
    folder = workspace({"a": value}, {"a": "1"})

    def check(work):
        with pytest.raises(AutoScorerError) as of_truth:
            work(folder, {})
        assert of_truth.value.code is ErrorCode.PARSE_ERROR and "gt.csv, line 2" in of_truth.value.message
        assert "SECRET" not in str(of_truth.value.to_dict())

    check(RegressionRMSE().score)
    (folder / "output" / "pred.csv").unlink()  # then the truth is read on its own
    check(RegressionRMSE().validate)


def test_a_metric_is_listed_documented_and_told_to_submitters_only_where_it_may(workspace):
    """A metric that is not in ``METRICS`` has no answer to whether submitters may see it."""
    result = RegressionRMSE().score(workspace({"a": "1", "b": "2"}, {"b": "2", "a": "3"}), {"artifacts": False})
    assert list(result.metrics) == list(METRICS)
    assert set(result.disclosed.metrics) == {name for name, may_be_seen in METRICS.items() if may_be_seen}
    section = read("docs/built-in-scorers.md").partition("## regression_rmse\n")[2].partition("\n#")[0]
    assert set(METRICS) <= set(re.findall(r"`(\w+)`", section))


def test_errors_beyond_float64_leave_every_metric_undefined():
    found, intervals, _ = regression_metrics(np.array([-1e308, 0.0]), np.array([1e308, 0.0]))
    assert found == dict.fromkeys(METRICS)
    assert not intervals
