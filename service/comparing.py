"""Two tasks side by side: a function of what whoever asks may see of each, and of the samples that are kept.

Scores and intervals are put beside each other, and nothing is said of chance: a test of significance belongs between
``_metrics`` and the samples of both, which it would need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from ..schemas.comparison import Comparison, ComparisonNote, ComparisonSide, Difference, MetricPair
from ..schemas.result import Interval
from ..schemas.task import TaskView
from .disclosure import HARMLESS_PARAMS

__all__ = ["compare", "has_result"]

Json = dict[str, Any]

# Of ``Versioning``, what decides a score; when and where it was made does not.
_PROVENANCE = (
    "autoscorer",
    "scorer",
    "scorer_version",
    "scorer_sha256",
    "scorer_siblings",
    "models",
    "prompts",
    "image",
    "image_digest",
    "ground_truth_sha256",
    "predictions_sha256",
    "input_sha256",
)
_OF_BENCHMARK = ("name", "version", "digest", "part")
_OF_SCORER = ("scorer", "scorer_version", "scorer_sha256", "scorer_siblings", "models", "prompts")
_MOST_SHOWN = 10


def has_result(task: TaskView) -> bool:
    """Whether a task has left something that can be compared."""
    return task.action in ("score", "pipeline") and "summary" in (task.result or {})


def compare(a: TaskView, b: TaskView) -> Comparison:
    """Hold two tasks against each other.

    Args:
        a: A task that ``has_result``, as much of it as whoever asks may see.
        b: The other one.

    Returns:
        All but the samples.
    """
    sides = _side(a), _side(b)
    differing = _provenance(a, b)
    params = _differing(*(_dict(_versioning(task).get("params")) for task in (a, b)))
    notes, comparable = _comparable(a, b, sides, {each.name for each in differing}, [each.name for each in params])
    return Comparison(
        a=sides[0],
        b=sides[1],
        comparable=comparable,
        better=_better(*sides) if comparable else None,
        notes=notes,
        metrics=_metrics(a, b, sides),
        params=params,
        provenance=differing,
        samples=None,
    )


def _side(task: TaskView) -> ComparisonSide:
    result = _result(task)
    summary, outcome, error = _dict(result.get("summary")), task.outcome, _dict(result.get("error"))
    metric = outcome.metric if outcome is not None else _main_metric(summary)
    interval = _dict(result.get("intervals")).get(metric) if metric is not None else None
    return ComparisonSide(
        task_id=task.id,
        workspace=task.workspace,
        benchmark=task.benchmark,
        team=task.team,
        state=task.state,
        ended_at=task.ended_at,
        scorer=_versioning(task).get("scorer"),
        metric=metric,
        score=summary.get("score"),
        higher_is_better=summary.get("higher_is_better") is not False,
        interval=_interval(interval),
        passed=summary.get("pass"),
        rank=summary.get("rank"),
        error=error.get("code"),
    )


def _main_metric(summary: Json) -> str | None:
    """Its name, by which the score stands there a second time."""
    score = summary.get("score")
    fields = {"score", "pass", "rank", "higher_is_better"}
    return next((name for name, value in summary.items() if name not in fields and value == score), None)


def _better(a: ComparisonSide, b: ComparisonSide) -> Literal["a", "b", "equal"] | None:
    if a.score is None or b.score is None:
        return None
    if a.score == b.score:
        return "equal"
    return "b" if (b.score > a.score) is a.higher_is_better else "a"


def _metrics(a: TaskView, b: TaskView, sides: tuple[ComparisonSide, ComparisonSide]) -> list[MetricPair]:
    of_a, of_b = (_dict(_result(task).get("metrics")) for task in (a, b))
    intervals_a, intervals_b = (_dict(_result(task).get("intervals")) for task in (a, b))
    names = dict.fromkeys([*of_a, *of_b])
    if sides[0].metric in names and sides[0].metric == sides[1].metric:
        names = {sides[0].metric: None, **names}
    return [
        MetricPair(
            name=name,
            a=of_a.get(name),
            b=of_b.get(name),
            difference=_difference(of_a.get(name), of_b.get(name)),
            interval_a=_interval(intervals_a.get(name)),
            interval_b=_interval(intervals_b.get(name)),
        )
        for name in names
    ]


def _difference(a: float | None, b: float | None) -> float | None:
    """b minus a, without the digits that only come of subtracting floats."""
    if a is None or b is None:
        return None
    found = float(f"{b - a:.12g}")
    return found if math.isfinite(found) else None


def _provenance(a: TaskView, b: TaskView) -> list[Difference]:
    def told(task: TaskView) -> Json:
        versioning = _versioning(task)
        benchmark, resources = _dict(versioning.get("benchmark")), _dict(_result(task).get("resources"))
        return {
            **{name: versioning.get(name) for name in _PROVENANCE},
            "backend": resources.get("backend"),
            **{f"benchmark.{name}": benchmark.get(name) for name in _OF_BENCHMARK},
        }

    return _differing(told(a), told(b))


def _differing(a: Json, b: Json) -> list[Difference]:
    names = dict.fromkeys([*a, *b])
    return [
        Difference(name=name, a=a.get(name), b=b.get(name)) for name in names if not _same(a.get(name), b.get(name))
    ]


def _same(a: Any, b: Any) -> bool:
    # To Python True is 1; to whoever reads params it is not.
    return type(a) is type(b) and bool(a == b)


def _comparable(
    a: TaskView,
    b: TaskView,
    sides: tuple[ComparisonSide, ComparisonSide],
    differing: set[str],
    params: list[str],
) -> tuple[list[ComparisonNote], bool | None]:
    """What a reader has to know; and whether the two scores measure the same, None where nobody can tell."""
    one, other = sides
    notes: list[ComparisonNote] = []

    def note(code: Any, text: str) -> None:
        notes.append(ComparisonNote(code=code, text=text))

    missing = [name for name, side in zip("ab", sides, strict=True) if side.score is None]
    if missing:
        note("no_score", f"There is no score of {' and '.join(missing)} to compare, or you may not see it.")
    if one.metric != other.metric and not missing:
        note("other_metric", f"The scores do not compare: a is {one.metric}, b is {other.metric}.")
    elif one.higher_is_better is not other.higher_is_better and not missing:
        note("other_direction", "The scores do not compare: of one the higher is better, of the other the lower.")
    truths = [_versioning(task).get("ground_truth_sha256") for task in (a, b)]
    benchmarks = [_dict(_versioning(task).get("benchmark")) for task in (a, b)]
    is_known = all(truths)
    if is_known and truths[0] != truths[1]:
        note("other_ground_truth", "The scores do not compare: they were made against different ground truths.")
    if benchmarks[0].get("part") != benchmarks[1].get("part"):
        note("other_part", "The scores do not compare: they are of different parts of the ground truth.")
    if {"benchmark.name", "benchmark.version"} & differing:
        note("other_benchmark", "The two are of different benchmarks, or of different versions of one.")
    hard = {each.code for each in notes} & {
        "no_score",
        "other_metric",
        "other_direction",
        "other_ground_truth",
        "other_part",
    }
    # Of one version of one benchmark the truth is the same, whoever is told of it.
    same_version = bool(benchmarks[0]) and not {"benchmark.name", "benchmark.version", "benchmark.part"} & differing
    if not is_known and not same_version:
        note(
            "unknown_ground_truth",
            "Whether both were scored by the same ground truth is not told to you, or not known.",
        )
    if differing & set(_OF_SCORER):
        note("other_scorer", "The scorers, or their versions or models, differ; so may what the scores mean.")
    changed = [name for name in params if name not in HARMLESS_PARAMS]
    if changed:
        shown = ", ".join(name[:100] for name in changed[:_MOST_SHOWN])
        note("other_params", f"Params differ that may change what is compared: {shown}.")
    if hard:
        return notes, False
    return notes, True if is_known or same_version else None


def _interval(data: Any) -> Interval | None:
    return Interval.model_validate(data) if isinstance(data, Mapping) and data.get("low") is not None else None


def _versioning(task: TaskView) -> Json:
    return _dict(_result(task).get("versioning"))


def _result(task: TaskView) -> Json:
    return _dict(task.result)


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
