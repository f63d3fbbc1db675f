"""How far a judge agrees with people: against scikit-learn, SciPy and Krippendorff's own examples."""

from __future__ import annotations

import random

import numpy as np
import pytest
from autoscorer.schemas.calibration import Pair
from autoscorer.scorers.metrics.intervals import wilson
from autoscorer.scorers.rag.agreement import (
    agreement_of,
    cohen_kappa,
    krippendorff_alpha,
    pearson,
    spearman,
    stability_of,
)
from scipy import stats
from sklearn.metrics import cohen_kappa_score


def columns(*coders: str) -> list[list[str]]:
    """The values of each unit; a dot is none."""
    rows = [coder.split() for coder in coders]
    return [[value for value in unit if value != "."] for unit in zip(*rows, strict=True)]


# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): sections A to D.
BINARY = columns("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")
TWO_CODERS = columns("a a b b d c c c e d d a", "b a b b b c c c e d d d")
FOUR_CODERS = columns(
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def test_alpha_is_that_of_krippendorffs_worked_examples() -> None:
    assert krippendorff_alpha(BINARY, "nominal") == pytest.approx(0.095, abs=5e-4)
    assert krippendorff_alpha(TWO_CODERS, "nominal") == pytest.approx(0.692, abs=5e-4)
    assert krippendorff_alpha(FOUR_CODERS, "nominal") == pytest.approx(0.743, abs=5e-4)
    numbers = [[float(value) for value in unit] for unit in FOUR_CODERS]
    assert krippendorff_alpha(numbers, "interval") == pytest.approx(0.849, abs=5e-4)


def test_agreement_that_has_no_value_is_none_and_not_perfect() -> None:
    assert cohen_kappa([(True, True)] * 5) is None and cohen_kappa([]) is None
    assert krippendorff_alpha([[1, 1], [1, 1]], "nominal") is None
    # Of tenths the mean is rounded.
    assert krippendorff_alpha([[0.1, 0.1, 0.1]], "interval") is None
    assert krippendorff_alpha([[1], [2]], "nominal") is None and krippendorff_alpha([], "interval") is None
    same, other = np.array([0.3, 0.3, 0.3]), np.array([0.1, 0.2, 0.3])
    assert pearson(same, other) is None and spearman(other, same) is None and pearson(other[:1], other[:1]) is None


@pytest.mark.parametrize("seed", range(5))
def test_kappa_and_correlations_are_those_of_their_references(seed: int) -> None:
    rng = random.Random(seed)
    verdicts = [(rng.random() < 0.7, rng.random() < 0.4) for _ in range(40)]
    expected = cohen_kappa_score(*zip(*verdicts, strict=True))
    assert cohen_kappa(verdicts) == pytest.approx(expected, abs=1e-12)
    # Rounded, so that there are ties.
    first = np.array([round(rng.random(), 1) for _ in range(40)])
    second = np.array([round(rng.random() * 0.5 + value / 2, 1) for value in first])
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first, second).statistic, abs=1e-12)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def test_yes_and_no_are_held_against_scores_at_the_threshold() -> None:
    # Accepted by people and judge 3, by people alone 1; refused by both 2, by people alone 2.
    rows = [(0.9, True), (0.5, True), (1.0, True), (0.4, True), (0.0, False), (0.49, False), (0.5, False), (1.0, False)]
    found = agreement_of([Pair(score=score, label=label) for score, label in rows], 0.5)
    assert (found.kind, found.n, found.percent) == ("yes_no", 8, 5 / 8)
    assert found.sensitivity is not None and found.specificity is not None
    assert (found.sensitivity.value, found.sensitivity.hits, found.sensitivity.of) == (3 / 4, 3, 4)
    assert (found.specificity.value, found.specificity.hits, found.specificity.of) == (2 / 4, 2, 4)
    assert found.sensitivity.interval == wilson(3, 4, 0.95) and found.specificity.interval == wilson(2, 4, 0.95)
    # p_o = 5/8, p_e = (5 × 4 + 3 × 4) / 64 = 1/2.
    assert found.cohen_kappa == pytest.approx(1 / 4)
    # Of 16 values nine are yes: D_o = 2 × 3 / 16, D_e = 2 × 9 × 7 / (16 × 15).
    assert found.krippendorff_alpha == pytest.approx(1 - (6 / 16) / (126 / 240))
    assert found.pearson is None and found.mean_absolute_error is None
    # Another threshold, another verdict.
    assert agreement_of([Pair(score=0.4, label=True)], 0.4).percent == 1
    alone = agreement_of([Pair(score=0.4, label=True)], 0.5)
    assert alone.specificity is not None and (alone.specificity.value, alone.specificity.interval) == (None, None)


def test_numbers_are_correlated_and_their_distance_is_measured() -> None:
    rows = [(0.2, 0.1), (0.4, 0.6), (0.9, 1.0), (0.6, 0.4)]
    found = agreement_of([Pair(score=score, label=label) for score, label in rows], 0.5)
    assert (found.kind, found.percent) == ("number", 1 / 2)
    assert found.mean_absolute_error == pytest.approx((0.1 + 0.2 + 0.1 + 0.2) / 4)
    scores, labels = zip(*rows, strict=True)
    assert found.pearson == pytest.approx(stats.pearsonr(scores, labels).statistic)
    assert found.spearman == pytest.approx(0.8)
    assert found.krippendorff_alpha == pytest.approx(krippendorff_alpha([list(row) for row in rows], "interval"))
    assert found.sensitivity is None and found.specificity is None
    # 0 and 1 that are written as numbers are numbers.
    assert agreement_of([Pair(score=1.0, label=1), Pair(score=0.0, label=0)], 0.5).kind == "number"


def test_a_verdict_that_changes_when_it_is_asked_again_is_not_stable() -> None:
    repeats = [[0.9, 0.1, 0.6, None], [0.8, 0.2, 0.4, 1.0], [1.0, 0.0, 0.7, 1.0]]
    found = stability_of(repeats, 0.5, "yes_no")
    # The last one was not judged every time.
    assert (found.repeats, found.n, found.unchanged) == (3, 3, 2 / 3)
    expected = krippendorff_alpha([[1, 1, 1], [0, 0, 0], [1, 0, 1]], "nominal")
    assert found.krippendorff_alpha == pytest.approx(expected)
    numbers = stability_of(repeats, 0.5, "number")
    expected = krippendorff_alpha([[0.9, 0.8, 1.0], [0.1, 0.2, 0.0], [0.6, 0.4, 0.7]], "interval")
    assert numbers.krippendorff_alpha == pytest.approx(expected) and numbers.unchanged == 2 / 3
    none = stability_of([[None], [1.0]], 0.5, "yes_no")
    assert (none.n, none.unchanged, none.krippendorff_alpha) == (0, None, None)
