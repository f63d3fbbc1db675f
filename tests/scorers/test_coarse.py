"""Counts in steps: what is left of a confusion matrix for those who may not see the ground truth."""

from __future__ import annotations

import numpy as np
import pytest
from autoscorer.scorers.metrics.coarse import coarse_matrix, protected
from autoscorer.scorers.metrics.confusion import count_matrix
from autoscorer.scorers.plots.curves_and_bars import coarse_residual_svg, per_class_svg
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.lists(st.integers(0, 60), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(2, 12))
def test_of_every_group_as_many_rows_as_the_minimum_stay_open(counts: list[list[int]], k: int) -> None:
    whole = np.array(counts)
    group = whole.sum(axis=0)
    shown = protected(whole, group, k)
    assert (shown % k == 0).all() and (shown >= 0).all() and (shown <= whole).all()
    # At least k rows of a group could have any truth, as far as this tells: none is known to be all alike.
    assert (shown.sum(axis=0) <= np.maximum(group - k, 0)).all()
    # And no more is held back than it takes.
    assert (whole - shown < 2 * k).all()


@pytest.mark.parametrize(
    ("counts", "k", "expected"),
    [
        ([9], 10, [0]),
        ([10], 10, [0]),  # all of the group alike
        ([20], 10, [10]),
        ([10, 13], 10, [0, 10]),  # the rest of 23 would be told to within 3
        ([985, 15], 10, [980, 10]),
        ([1000, 0], 10, [990, 0]),
        ([9, 9, 9], 10, [0, 0, 0]),
        ([3, 1], 1, [3, 1]),
    ],
)
def test_counts_are_shown_in_steps(counts: list[int], k: int, expected: list[int]) -> None:
    shown = protected(np.array(counts)[:, None], np.array([sum(counts)]), k)
    assert shown[:, 0].tolist() == expected


def test_labels_of_few_rows_and_those_that_are_only_predicted_stand_together() -> None:
    labels = ["big", "own", "rare"]
    truth = np.array([0] * 500 + [2] * 9)
    predicted = np.array([0] * 480 + [1] * 20 + [2] * 9)
    coarse = coarse_matrix(count_matrix(truth, predicted, labels), 10)
    assert coarse.labels == ["big"]
    assert coarse.counts.tolist() == [[470, 10], [0, 0]]
    assert coarse.metrics() == {
        "precision/big": 1.0,
        "recall/big": pytest.approx(470 / 490),
        "f1/big": pytest.approx(2 * 470 / (490 + 470)),
        "support/big": 500.0,
    }


def test_metrics_of_a_label_come_near_the_true_ones() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 30_000)
    predicted = np.where(rng.random(len(truth)) < 0.8, truth, rng.integers(0, 3, len(truth)))
    matrix = count_matrix(truth, predicted, ["a", "b", "c"])
    coarse = coarse_matrix(matrix, 10)
    np.testing.assert_allclose(coarse.recall, matrix.hits / matrix.truth, atol=0.002)
    np.testing.assert_allclose(coarse.precision, matrix.hits / matrix.predicted, atol=0.002)
    exact = coarse_matrix(matrix, 1)
    np.testing.assert_array_equal(exact.counts[:3, :3], matrix.dense())
    np.testing.assert_array_equal(exact.recall, matrix.hits / matrix.truth)


def test_plots_of_too_few_rows_say_so_and_call_nothing_undefined() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=60)
    svg = coarse_residual_svg(truth, truth + rng.normal(size=60), 10)
    assert "too few rows for a plot" in svg and "rows in a cell" not in svg
    many = rng.normal(size=20_000)
    svg = coarse_residual_svg(many, many + rng.normal(size=20_000), 10)
    assert "in steps of 10" in svg and "rows in a cell" in svg and "too few" not in svg
    svg = per_class_svg(["a", "b"], [0.5, float("nan")], title="F1", absent="not shown: too few rows")
    assert "1 not shown: too few rows." in svg and "undefined" not in svg
