"""The corrected estimates: by hand, and whether they cover the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from autoscorer.scorers.metrics.intervals import wilson
from autoscorer.scorers.rag.agreement import rate
from autoscorer.scorers.rag.corrected import Corrected, prediction_powered, rogan_gladen
from numpy.typing import NDArray

# Of the answers .714 are right. The judge accepts 19 of 20 of them, and so many of the others that it says .838.
TRUE, SAID, SENSITIVITY = 0.714, 0.838, 0.95
FALSE_ALARM = (SAID - TRUE * SENSITIVITY) / (1 - TRUE)
ANSWERS, LABELLED, RUNS = 1000, 200, 600
# Within three standard errors of a share of .95 in so many runs.
LOWEST, HIGHEST = 0.95 - 3 * (0.95 * 0.05 / RUNS) ** 0.5, 0.95 + 3 * (0.95 * 0.05 / RUNS) ** 0.5

Bools = NDArray[np.bool_]


def drawn(rng: np.random.Generator, n: int) -> tuple[Bools, Bools]:
    """What people say of n answers, and what the judge says."""
    labels = rng.random(n) < TRUE
    return labels, rng.random(n) < np.where(labels, SENSITIVITY, FALSE_ALARM)


def of_labels(labels: Bools, said: Bools, positive: int, n: int) -> Corrected:
    sensitivity = rate(int((labels & said).sum()), int(labels.sum()), 0.95)
    specificity = rate(int((~labels & ~said).sum()), int((~labels).sum()), 0.95)
    return rogan_gladen(positive, n, sensitivity, specificity, 0.95)


def covers(found: Corrected) -> bool:
    assert found.interval is not None
    return found.interval.low <= TRUE <= found.interval.high


def test_both_corrected_intervals_cover_the_truth_as_often_as_they_say_and_the_raw_one_never() -> None:
    rng = np.random.default_rng(714)
    raw, by_rates, by_differences, means = 0, 0, 0, []
    for _ in range(RUNS):
        _, scores = drawn(rng, ANSWERS)
        labels, judged = drawn(rng, LABELLED)
        positive = int(scores.sum())
        around = wilson(positive, ANSWERS, 0.95)
        raw += around.low <= TRUE <= around.high
        first = of_labels(labels, judged, positive, ANSWERS)
        second = prediction_powered(scores.tolist(), judged.tolist(), labels.tolist(), 0.95)
        by_rates += covers(first)
        by_differences += covers(second)
        means.append((positive / ANSWERS, first.value, second.value))
    assert raw == 0
    assert LOWEST <= by_rates / RUNS <= HIGHEST and LOWEST <= by_differences / RUNS <= HIGHEST
    said, *corrected = np.mean(np.array(means, np.float64), axis=0).tolist()
    assert said == pytest.approx(SAID, abs=0.003) and corrected == pytest.approx([TRUE, TRUE], abs=0.01)


def test_the_interval_of_a_judge_that_gives_shares_covers_too() -> None:
    rng = np.random.default_rng(7)

    def shares(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        labels = rng.beta(2, 1, n)
        return labels, np.clip(labels + rng.normal(0.1, 0.1, n), 0, 1)

    covered = 0
    for _ in range(RUNS):
        labels, judged = shares(100)
        found = prediction_powered(shares(ANSWERS)[1].tolist(), judged.tolist(), labels.tolist(), 0.95)
        assert found.interval is not None
        covered += found.interval.low <= 2 / 3 <= found.interval.high
    assert LOWEST <= covered / RUNS <= HIGHEST


def test_where_more_answers_are_right_than_where_they_were_labelled_sens_and_spec_still_hold() -> None:
    rng = np.random.default_rng(11)
    covered = [0, 0]
    for _ in range(200):
        labels, judged = drawn(rng, LABELLED)
        truth = rng.random(ANSWERS) < 0.95
        scores = rng.random(ANSWERS) < np.where(truth, SENSITIVITY, FALSE_ALARM)
        found = of_labels(labels, judged, int(scores.sum()), ANSWERS)
        other = prediction_powered(scores.tolist(), judged.tolist(), labels.tolist(), 0.95)
        assert found.interval is not None and other.interval is not None
        covered[0] += found.interval.low <= 0.95 <= found.interval.high
        covered[1] += other.interval.low <= 0.95 <= other.interval.high
    # The other one wants labels that are drawn as the answers are, and the documentation says so.
    assert covered[0] >= 180 and covered[1] < 100


def test_rogan_gladen_by_hand() -> None:
    found = rogan_gladen(23, 150, rate(48, 50, 0.95), rate(89, 100, 0.95), 0.95)
    assert found.value == pytest.approx((23 / 150 + 0.89 - 1) / 0.85)
    # Worked out apart from the code, by the formulas of the paper.
    assert found.interval is not None and found.interval.method == "lang-reiczigel"
    assert (found.interval.low, found.interval.high) == pytest.approx((0.0, 0.1475440), abs=1e-6)
    other = rogan_gladen(60, 100, rate(45, 50, 0.95), rate(40, 50, 0.95), 0.95)
    assert other.value == pytest.approx(0.4 / 0.7) and other.interval is not None
    assert (other.interval.low, other.interval.high) == pytest.approx((0.3962570, 0.7431664), abs=1e-6)
    # A perfect judge, known by many labels, adds nothing but what the answers vary by.
    many = rate(10**7, 10**7, 0.95)
    sure = rogan_gladen(714, 1000, many, many, 0.95)
    around = wilson(714, 1000, 0.95)
    assert sure.value == pytest.approx(0.714) and sure.interval is not None
    assert (sure.interval.low, sure.interval.high) == pytest.approx((around.low, around.high), abs=1e-3)


def test_what_can_not_be_corrected_says_why() -> None:
    blind = rogan_gladen(5, 10, rate(6, 10, 0.95), rate(4, 10, 0.95), 0.95)
    assert (blind.value, blind.interval) == (None, None) and "tells nothing" in str(blind.why_not)
    worse = rogan_gladen(5, 10, rate(1, 10, 0.95), rate(1, 10, 0.95), 0.95)
    assert worse.value is None
    for hits, others, word in ((rate(0, 0, 0.95), rate(5, 5, 0.95), "yes"), (rate(5, 5, 0.95), rate(0, 0, 0.95), "no")):
        assert f"no label says {word}" in str(rogan_gladen(5, 10, hits, others, 0.95).why_not)
    assert "one label" in str(prediction_powered([0.5, 0.6], [0.5], [1.0], 0.95).why_not)
    assert prediction_powered([0.5], [0.5, 0.6], [1.0, 0.0], 0.95).value is None


def test_few_labels_leave_a_wide_interval_within_the_scale() -> None:
    few = rogan_gladen(9, 10, rate(1, 1, 0.95), rate(2, 10, 0.95), 0.95)
    assert few.interval is not None and (few.interval.low, few.interval.high) == (0.0, 1.0)
    # Right about ten answers is not right about all.
    perfect = prediction_powered([0.0, 1.0] * 500, [1.0] * 10, [1.0] * 10, 0.95)
    assert perfect.value == 0.5 and perfect.interval is not None
    assert perfect.interval.low < 0.3 and perfect.interval.high > 0.7
    far = prediction_powered([0.9, 1.0], [0.1, 0.3], [0.9, 1.0], 0.95)
    assert far.value == 1 and far.interval is not None and 0 <= far.interval.low <= far.interval.high == 1
