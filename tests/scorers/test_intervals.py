"""Intervals: the right gradient, the right coverage, the same bytes each time."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.classification import ClassificationF1
from autoscorer.scorers.metrics.confusion import ConfusionMatrix, count_matrix, metrics_of
from autoscorer.scorers.metrics.delta_method import _GRADIENTS, Cells, gradient, standard_error
from autoscorer.scorers.metrics.intervals import bootstrap, classification_interval, mean_interval, wilson, z_value
from autoscorer.scorers.regression import regression_metrics

# Truth by prediction: unbalanced, every cell likely enough to be seen.
CELLS = np.array([[0.30, 0.05, 0.03], [0.06, 0.20, 0.04], [0.02, 0.08, 0.22]])


def matrix_of(counts: np.ndarray) -> ConfusionMatrix:
    size = len(counts)
    rows, columns = np.divmod(np.repeat(np.arange(size * size), counts.ravel()), size)
    return count_matrix(rows, columns, [str(i) for i in range(size)])


def value(cells: np.ndarray, name: str) -> float:
    """The metric of cell probabilities (its definitions are the same for whole counts of a large n)."""
    n = 10**9
    counts = np.rint(cells / cells.sum() * n).astype(np.int64)
    return float(metrics_of(np.diagonal(counts), counts.sum(1), counts.sum(0))[name])


@pytest.mark.parametrize("name", list(_GRADIENTS))
def test_the_gradient_is_the_metrics_own(name):
    counts = np.rint(CELLS * 1000).astype(int)
    matrix = matrix_of(counts)
    g = gradient(Cells.of(matrix), name)
    ours = g.row[:, None] + g.column[None, :] + np.diag(g.diagonal)
    step = 1e-4
    theirs = np.zeros_like(CELLS)
    for cell in np.ndindex(CELLS.shape):
        moved = {}
        for sign in (-1, 1):
            shifted = CELLS.copy()
            shifted[cell] += sign * step
            moved[sign] = value(shifted, name)
        theirs[cell] = (moved[1] - moved[-1]) / (2 * step)
    # Only differences from the mean count: adding a constant moves along probabilities that no longer sum to one.
    ours -= (ours * CELLS).sum()
    theirs -= (theirs * CELLS).sum()
    assert ours == pytest.approx(theirs, abs=2e-4)
    variance = (CELLS * theirs**2).sum() / 1000
    assert standard_error(Cells.of(matrix), g) == pytest.approx(math.sqrt(variance), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(_GRADIENTS))
def test_nominal_95_percent_covers_94_to_96(name):
    rng = np.random.default_rng(7)
    n, trials = 1500, 3000
    truth = value(CELLS, name)
    draws = rng.multinomial(n, CELLS.ravel(), size=trials).reshape(trials, 3, 3)
    covered = 0
    labels = ["a", "b", "c"]
    rows, columns = np.divmod(np.arange(9), 3)
    for counts in draws:
        hits, true, predicted = np.diagonal(counts), counts.sum(1), counts.sum(0)
        matrix = ConfusionMatrix(labels, rows, columns, counts.ravel(), hits, true, predicted, n)
        interval = classification_interval(matrix, name, float(metrics_of(hits, true, predicted)[name]), 0.95)
        covered += interval.low <= truth <= interval.high
    assert 0.94 <= covered / trials <= 0.96


# --- small samples, and scores near 1 --------------------------------------------------------------------------


def population(size: int, accuracy: float) -> np.ndarray:
    """Cell probabilities: labels equally frequent, each wrong as often, and equally often with every other."""
    cells = np.full((size, size), (1 - accuracy) / (size - 1) / size)
    np.fill_diagonal(cells, accuracy / size)
    return cells


def present(counts: np.ndarray) -> ConfusionMatrix:
    """The matrix of a sample: labels that neither side has are not in it."""
    there = np.flatnonzero(counts.sum(0) + counts.sum(1))
    return matrix_of(counts[np.ix_(there, there)])


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("n", [3, 10, 30])
@pytest.mark.parametrize("name", list(_GRADIENTS))
def test_a_perfect_sample_is_not_certain(name, n, size):
    matrix = present(np.diag(np.bincount(np.arange(n) % size, minlength=size)))
    score = float(metrics_of(matrix.hits, matrix.truth, matrix.predicted)[name])
    interval = classification_interval(matrix, name, score, 0.95)
    assert score == pytest.approx(1.0) and interval.high == pytest.approx(1.0)
    # No surer than Wilson's bound for a share of all rows, n / (n + z^2), which is near the exact 0.025 ** (1 / n).
    assert interval.low <= n / (n + z_value(0.95) ** 2) + 0.03
    assert interval.low >= (-0.15 if name in ("cohen_kappa", "matthews_corrcoef") else 0.4)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "accuracy"), [(2, 0.95), (2, 0.99), (3, 0.95), (3, 0.99)])
@pytest.mark.parametrize("n", [3, 10, 30])
def test_small_samples_near_one_are_covered(n, size, accuracy):
    """Nominal 95 %. The delta method alone covers 1 to 25 % of these populations at n = 3, and 8 to 40 % at n = 10."""
    rng = np.random.default_rng(5)
    trials = 1500
    cells = population(size, accuracy)
    draws = rng.multinomial(n, cells.ravel(), size=trials).reshape(trials, size, size)
    kinds, index, repeats = np.unique(draws.reshape(trials, -1), axis=0, return_index=True, return_counts=True)
    for name in _GRADIENTS:
        truth = value(cells, name)
        covered = given = 0
        for at, times in zip(index, repeats, strict=True):
            matrix = present(draws[at])
            score = float(metrics_of(matrix.hits, matrix.truth, matrix.predicted)[name])
            interval = classification_interval(matrix, name, score, 0.95) if math.isfinite(score) else None
            if interval is not None:
                given += times
                covered += times * (interval.low - 1e-9 <= truth <= interval.high + 1e-9)
        assert covered / given >= {3: 0.8, 10: 0.88, 30: 0.92}[n], name
    assert len(kinds) > 1


def test_an_average_with_a_class_of_one_row_says_how_little_it_knows():
    matrix = matrix_of(np.array([[29, 0], [0, 1]]))
    assert classification_interval(matrix, "recall_macro", 1.0, 0.95).low < 0.65
    assert classification_interval(matrix, "accuracy", 1.0, 0.95).low > 0.85
    wrong = matrix_of(np.array([[29, 0], [1, 0]]))
    interval = classification_interval(wrong, "recall_macro", 0.5, 0.95)
    assert interval.high > 0.85, "the delta method says exactly 0.5"


def test_the_smoothed_matrix_is_the_one_with_rows_added():
    counts = np.array([[30, 5, 0], [6, 20, 4], [0, 8, 2]])
    matrix, rows = matrix_of(counts), 3.84
    n = counts.sum()
    truth, predicted = counts.sum(1) / n, counts.sum(0) / n
    common = (truth + predicted) / 2
    added = truth[:, None] / 2 * common[None, :] / (1 - common)[:, None]
    np.fill_diagonal(added, truth / 2)
    dense = (counts + rows * added) / (n + rows)
    assert dense.sum() == pytest.approx(1)
    cells = Cells.smoothed(matrix, rows)
    assert cells.truth == pytest.approx(dense.sum(1))
    assert cells.predicted == pytest.approx(dense.sum(0))
    assert cells.hits == pytest.approx(np.diagonal(dense))
    row, column = np.array([0.3, -1.0, 2.0]), np.array([1.5, 0.2, -0.7])
    assert cells.cross(row, column) == pytest.approx(float(row @ dense @ column))


def test_where_no_resample_differs_the_closed_form_counts(tmp_path):
    for folder, name in (("input", "gt"), ("output", "pred")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.csv").write_text("id,label\n1,a\n2,b\n3,a\n")
    result = ClassificationF1().score(tmp_path, {"interval_method": "bootstrap", "artifacts": False})
    assert result.intervals["accuracy"] == wilson(3, 3, 0.95)
    assert all(interval.low < interval.high for interval in result.intervals.values())


def test_the_mean_of_rows_has_an_interval_where_rows_differ():
    assert mean_interval(np.array([1.0, 1.0, 1.0]), 0.95) == wilson(3, 3, 0.95)
    assert mean_interval(np.array([0.5, 0.5]), 0.95) is None
    assert mean_interval(np.array([0.5]), 0.95) is None
    interval = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]), 0.95)
    half = 1.959963984540054 * math.sqrt(5 / 3 / 4)
    assert (interval.low, interval.high) == (pytest.approx(2.5 - half), pytest.approx(2.5 + half))


@pytest.mark.parametrize("noise", ["normal", "uniform"])
def test_regression_intervals_cover_as_they_say(noise):
    rng = np.random.default_rng(11)
    n, trials = 2000, 2500
    covered = {"rmse": 0, "mse": 0, "mae": 0}
    square, absolute = (1.0, math.sqrt(2 / math.pi)) if noise == "normal" else (1 / 3, 0.5)
    expected = {"rmse": math.sqrt(square), "mse": square, "mae": absolute}
    truth = rng.normal(size=n)
    for _ in range(trials):
        error = rng.normal(size=n) if noise == "normal" else rng.uniform(-1, 1, n)
        _, intervals, _ = regression_metrics(truth, truth + error)
        for name, interval in intervals.items():
            covered[name] += interval.low <= expected[name] <= interval.high
    for name, count in covered.items():
        assert 0.94 <= count / trials <= 0.96, name


def test_the_bootstrap_agrees_with_the_closed_forms_and_with_itself():
    matrix = matrix_of(np.rint(CELLS * 2000).astype(int))
    names = ["f1_macro", "accuracy", "cohen_kappa", "matthews_corrcoef"]
    one, two = (bootstrap(matrix, names, 0.95, n_resamples=4000, seed=3) for _ in range(2))
    assert one == two
    for name in names:
        centre = float(metrics_of(matrix.hits, matrix.truth, matrix.predicted)[name])
        closed = classification_interval(matrix, name, centre, 0.95)
        assert one[name].low == pytest.approx(closed.low, abs=0.003)
        assert one[name].high == pytest.approx(closed.high, abs=0.003)
        assert (one[name].method, one[name].n_resamples) == ("bootstrap-multinomial", 4000)


def test_the_bootstrap_is_for_up_to_ten_classes(tmp_path):
    for folder, name in (("input", "gt"), ("output", "pred")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.csv").write_text("id,label\n" + "".join(f"{i},{i}\n" for i in range(11)))
    with pytest.raises(AutoScorerError, match="up to 10 classes") as caught:
        ClassificationF1().score(tmp_path, {"interval_method": "bootstrap"})
    assert caught.value.code is ErrorCode.BAD_PARAMS
    for folder, name in (("input", "gt"), ("output", "pred")):
        (tmp_path / folder / f"{name}.csv").write_text("id,label\n" + "".join(f"{i},{i % 10}\n" for i in range(50)))
    result = ClassificationF1().score(tmp_path, {"interval_method": "bootstrap", "artifacts": False})
    assert result.intervals["f1_macro"].method == "bootstrap-multinomial"


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_is_the_published_one(successes, n, low, high):
    interval = wilson(successes, n, 0.95)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize("level", [0.501, 0.6, 0.8, 0.9, 0.95, 0.99, 0.9999, 1 - 1e-12])
def test_the_quantile_is_the_normal_distributions(level):
    assert z_value(level) == pytest.approx(NormalDist().inv_cdf((1 + level) / 2), rel=1e-4 if level > 0.9999 else 1e-12)
    assert 0.5 * math.erfc(z_value(level) / math.sqrt(2)) == pytest.approx((1 - level) / 2, rel=1e-9)
