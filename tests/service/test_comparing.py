"""Two tasks side by side: what differs, what compares, and in which samples they say something else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.comparison import Comparison
from autoscorer.schemas.result import BenchmarkRef, Disclosed, Interval, Result, Summary
from autoscorer.schemas.samples import Measure, Sample, SampleCounts
from autoscorer.schemas.task import TaskState, TaskView
from autoscorer.service.comparing import compare, has_result
from autoscorer.service.comparing_samples import changes_between
from autoscorer.service.disclosure import Disclosure
from autoscorer.service.task_samples import KeptSamples, page_of
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ..support.examples import examples

SHA = "a" * 64


def task(
    ident: str = "one",
    *,
    metrics: dict[str, float | None] | None = None,
    metric: str = "f1",
    higher_is_better: bool = True,
    **versioning: Any,
) -> TaskView:
    """A task that ended in a Result with these metrics."""
    metrics = {"f1": 0.5} if metrics is None else metrics
    score = metrics.get(metric)
    result = Result(
        summary=Summary.model_validate({"score": score, metric: score, "higher_is_better": higher_is_better}),
        metrics=metrics,
        intervals={
            name: Interval(low=value - 0.1, high=value + 0.1, method="wilson")
            for name, value in metrics.items()
            if value is not None and abs(value) < 1e300
        },
        disclosed=Disclosed(metrics={name: value for name, value in metrics.items() if name != "hidden"}),
    )
    result.versioning.scorer, result.versioning.ground_truth_sha256 = "classification_f1", SHA
    for name, value in versioning.items():
        setattr(result.versioning, name, value)
    return TaskView(
        id=ident, action="score", workspace="w", state=TaskState.COMPLETED, created_at="now", result=result.to_dict()
    )


def codes(found: Comparison) -> list[str]:
    return [note.code for note in found.notes]


def test_two_results_stand_side_by_side() -> None:
    a = task("one", metrics={"f1": 0.5, "recall": 0.25, "only_a": 1.0}, params={"average": "macro", "seed": 1})
    b = task("two", metrics={"recall": 0.75, "f1": 0.6, "only_b": None}, params={"average": "micro", "seed": 1})
    b.result["versioning"]["image"] = "model:2"  # type: ignore[index]
    found = compare(a, b)
    assert (found.a.task_id, found.a.score, found.b.task_id, found.b.score) == ("one", 0.5, "two", 0.6)
    assert found.a.metric == found.b.metric == "f1" and found.a.interval is not None
    assert (found.comparable, found.better) == (True, "b")
    assert [each.name for each in found.metrics] == ["f1", "recall", "only_a", "only_b"]
    assert found.metrics[0].difference == 0.1 and found.metrics[1].difference == 0.5
    assert (found.metrics[0].interval_a.low, found.metrics[0].interval_b.high) == (0.4, 0.7)  # type: ignore[union-attr]
    assert (found.metrics[2].a, found.metrics[2].b, found.metrics[2].difference) == (1.0, None, None)
    assert [(each.name, each.a, each.b) for each in found.params] == [("average", "macro", "micro")]
    assert [(each.name, each.a, each.b) for each in found.provenance] == [("image", None, "model:2")]
    assert codes(found) == ["other_params"]
    assert found.samples is None


def test_of_errors_the_lower_one_is_better() -> None:
    a, b = (task(metrics={"rmse": value}, metric="rmse", higher_is_better=False) for value in (2.0, 1.0))
    assert compare(a, b).better == "b" and compare(b, a).better == "a" and compare(a, a).better == "equal"


@pytest.mark.parametrize(
    ("changed", "code", "comparable"),
    [
        ({"metrics": {"accuracy": 0.5}, "metric": "accuracy"}, "other_metric", False),
        ({"higher_is_better": False}, "other_direction", False),
        ({"ground_truth_sha256": "b" * 64}, "other_ground_truth", False),
        ({"ground_truth_sha256": None}, "unknown_ground_truth", None),
        ({"metrics": {"f1": None}}, "no_score", False),
        ({"benchmark": BenchmarkRef(name="flowers", version=1, part="private")}, "other_part", False),
        ({"benchmark": BenchmarkRef(name="flowers", version=1)}, "other_benchmark", True),
        ({"scorer_version": "2.0.0"}, "other_scorer", True),
        ({"params": {"average": "micro"}}, "other_params", True),
    ],
)
def test_why_numbers_do_not_compare_is_said(changed: dict[str, Any], code: str, comparable: bool | None) -> None:
    found = compare(task(), task(**changed))
    assert code in codes(found) and found.comparable is comparable
    assert (found.better is None) is (comparable is not True)


def test_params_that_decide_nothing_are_listed_and_nothing_is_said_of_them() -> None:
    found = compare(task(params={"pass_threshold": 0.5}), task(params={"pass_threshold": True}))
    assert codes(found) == [] and [each.name for each in found.params] == ["pass_threshold"]
    # 1 and true are not the same to whoever reads them.
    assert [each.name for each in compare(task(params={"x": 1}), task(params={"x": True})).params] == ["x"]


def test_a_team_compares_what_it_is_told(settings: Settings) -> None:
    """Digits, metrics and digests are those of its own view of each task."""
    told = Disclosure(settings, "submit", "a")
    version = BenchmarkRef(name="flowers", version=1, digest="c" * 64)
    pair = [
        told.task(task(metrics={"f1": 0.123456 + each, "hidden": 0.5}, benchmark=version, ground_truth_sha256=digest))
        for each, digest in ((0.0, SHA), (0.1, "b" * 64))
    ]
    found = compare(*pair)
    text = found.model_dump_json()
    assert "hidden" not in text and SHA not in text and "b" * 64 not in text and "c" * 64 not in text
    assert (found.metrics[0].a, found.metrics[0].b, found.metrics[0].difference) == (0.1235, 0.2235, 0.1)
    # One version of one benchmark has one truth.
    assert found.comparable is True
    assert "unknown_ground_truth" in codes(compare(*(told.task(task()) for _ in range(2))))


def test_of_a_benchmark_that_tells_by_its_board_alone_a_team_is_told_no_score(settings: Settings) -> None:
    told = Disclosure(settings, "submit", "a")
    version = BenchmarkRef(name="flowers", version=1, board_only=True)
    pair = [task(metrics={"f1": score}, benchmark=version) for score in (0.25, 0.75)]
    for each in pair:
        each.result["disclosed"] = {}  # type: ignore[index] - as scoring leaves it then
    found = compare(*map(told.task, pair))
    assert found.a.score is found.b.score is found.better is None and codes(found) == ["no_score"]
    assert "0.25" not in found.model_dump_json() and "0.75" not in found.model_dump_json()


def test_what_has_no_result_is_not_compared() -> None:
    assert has_result(task())
    for changed in ({"action": "run"}, {"result": None}, {"result": {"error": {}}}):
        assert not has_result(task().model_copy(update=changed))


names = st.sampled_from(["f1", "recall", "p/ä", "<b>"])
scores = st.none() | st.floats(allow_nan=False, allow_infinity=False)
params = st.dictionaries(names, st.sampled_from([0, 1, True, "x", None, [1], {"a": 1}]), max_size=3)
tasks = st.builds(
    lambda metrics, params, sha, image: task(metrics=metrics, params=params, ground_truth_sha256=sha, image=image),
    st.dictionaries(names, scores, max_size=4),
    params,
    st.sampled_from([SHA, "b" * 64, None]),
    st.sampled_from([None, "x:1", "x:2"]),
)


@hypothesis_settings(max_examples=examples(100), deadline=None)
@given(a=tasks, b=tasks)
def test_a_task_does_not_differ_from_itself_and_swapping_negates(a: TaskView, b: TaskView) -> None:
    same = compare(a, a)
    assert same.params == same.provenance == [] and same.better in (None, "equal")
    assert all(each.difference in (None, 0.0) for each in same.metrics)
    there, back = compare(a, b), compare(b, a)
    json.dumps(there.model_dump(by_alias=True, mode="json"), allow_nan=False)
    assert {each.name: each.difference for each in there.metrics} == {
        each.name: None if each.difference is None else -each.difference for each in back.metrics
    }
    for mine, theirs in ((there.params, back.params), (there.provenance, back.provenance)):
        assert {each.name: (each.a, each.b) for each in mine} == {each.name: (each.b, each.a) for each in theirs}
    assert sorted(codes(there)) == sorted(codes(back)) and there.comparable is back.comparable
    assert {"a": "b", "b": "a"}.get(str(there.better), there.better) == back.better


# --- samples --------------------------------------------------------------------------------------------------------


def kept(*samples: Sample, total: int | None = None, measure: Measure | None = None) -> KeptSamples:
    right = sum(each.verdict == "right" for each in samples)
    total = len(samples) if total is None else total
    counts = SampleCounts(right=right, wrong=total - right) if any(each.verdict for each in samples) else None
    return KeptSamples(total, list(samples), counts, measure)


def sample(ident: str, predicted: str, expected: str = "x") -> Sample:
    return Sample(
        id=ident, predicted=predicted, expected=expected, verdict="right" if predicted == expected else "wrong"
    )


def test_samples_are_lost_gained_or_otherwise_wrong() -> None:
    a = kept(sample("w", "x"), sample("g", "y"), sample("o", "y"), sample("s", "y"), sample("only-a", "x"), total=9)
    b = kept(sample("s", "y"), sample("o", "z"), sample("g", "x"), sample("w", "z"))
    found = changes_between(a, b, limit=10)
    assert [(each.id, each.change) for each in found.samples] == [("w", "lost"), ("g", "gained"), ("o", "other")]
    assert (found.kept_a, found.total_a, found.kept_b, found.total_b, found.compared) == (5, 9, 4, 4, 4)
    assert (found.lost, found.gained, found.other, found.found) == (1, 1, 1, 3)
    only = changes_between(a, b, change="gained", limit=10)
    assert [each.id for each in only.samples] == ["g"] and only.found == 1 and only.lost == 1


def test_what_values_mean_must_be_the_same_for_them_to_differ() -> None:
    one, two = (Sample(id="a", predicted=1.0, expected=2.0, value=value) for value in (1.0, 0.5))
    error, share = Measure(name="error", higher_is_better=False), Measure(name="share", higher_is_better=True)
    alike = changes_between(kept(one, measure=error), kept(two, measure=error), limit=5)
    assert (alike.other, alike.measure) == (1, error)
    unlike = changes_between(kept(one, measure=error), kept(two, measure=share), limit=5)
    assert (unlike.other, unlike.measure) == (0, None)


labels = st.sampled_from("xyz")
lists = st.dictionaries(st.text("abc😀", max_size=2), st.tuples(labels, labels), max_size=8).map(
    lambda found: kept(*(sample(ident, *pair) for ident, pair in found.items()))
)


@hypothesis_settings(max_examples=examples(100), deadline=None)
@given(a=lists, b=lists, limit=st.integers(1, 4))
def test_pages_of_changes_hold_each_once_and_swapping_turns_lost_into_gained(
    a: KeptSamples, b: KeptSamples, limit: int
) -> None:
    assert changes_between(a, a, limit=5).found == 0
    whole, back = changes_between(a, b, limit=500), changes_between(b, a, limit=500)
    assert (whole.lost, whole.gained, whole.other) == (back.gained, back.lost, back.other)
    assert {each.id: (each.a, each.b) for each in whole.samples} == {each.id: (each.b, each.a) for each in back.samples}
    paged, cursor = [], None
    while True:
        page = changes_between(a, b, limit=limit, cursor=cursor)
        assert len(page.samples) <= limit and page.found == whole.found
        paged += page.samples
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == whole.samples and len(paged) == whole.found


@hypothesis_settings(max_examples=examples(100), deadline=None)
@given(found=lists, limit=st.integers(1, 4), verdict=st.sampled_from([None, "right", "wrong"]), text=st.none() | labels)
def test_pages_of_samples_hold_each_once(found: KeptSamples, limit: int, verdict: Any, text: str | None) -> None:
    wanted = [
        each
        for each in found.samples
        if verdict in (None, each.verdict) and (text is None or text in f"{each.id}|{each.predicted}|{each.expected}")
    ]
    paged, cursor = [], None
    while True:
        page = page_of(task(), found, verdict=verdict, text=text, limit=limit, cursor=cursor)
        assert page.found == len(wanted) and page.kept == len(found.samples) and page.counts == found.counts
        paged += page.samples
        cursor = page.next_cursor
        if cursor is None:
            break
    assert paged == wanted


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1.5", "１", "9" * 12, "1 "])
def test_a_cursor_that_no_page_gave_is_refused(cursor: str) -> None:
    with pytest.raises(AutoScorerError) as caught:
        page_of(task(), kept(), limit=5, cursor=cursor)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_long_answers_are_cut_and_searched_whole() -> None:
    answer = Sample(id="a", predicted="x" * 5000 + "NEEDLE", question="Q" * 3000)
    (shown,) = page_of(task(), kept(answer), text="needle", limit=5).samples
    assert shown.predicted == "x" * 2000 + "…" and len(shown.question or "") == 2001
