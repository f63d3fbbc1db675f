"""What those who may not see the ground truth are told, and what they may ask for.

Whoever submits chooses the predictions. An answer that tells anything of single rows, or of few, lets them read the
ground truth: a label of its own for each row makes a confusion matrix a list of all true labels. So nothing of a
scoring goes to a token of the role ``submit`` but what stands here, whatever a scorer, a task or an error holds
(default deny):

- of a Result its summary, the main metric, and what the scorer declared harmless (``Result.disclosed``), all numbers
  rounded to ``security.disclosure.digits``;
- of an artifact its shared version, which the scorer wrote beside the complete one;
- of an error its code, and its text where that can't quote the ground truth.

Everything in this module is a function of plain values. ``Disclosure`` is applied where an answer leaves: by
``api.outgoing`` to what a route answers, and by ``callbacks`` to what is sent to a submitter.
docs/decisions/0009-disclosure.md says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.config import Settings
from ..core.disclosed import disclosed_result, interval, rounded
from ..core.errors import CATALOGUE, AutoScorerError, ErrorCode
from ..core.workspace import TABLE_SUFFIXES
from ..schemas.result import ErrorInfo
from ..schemas.task import Role, TaskOutcome, TaskView
from .policy import SEES_TRUTH

__all__ = ["HARMLESS_PARAMS", "Disclosure", "check_request"]

Json = dict[str, Any]

# The params that change what is made of a score, and not what is compared, counted or shown.
HARMLESS_PARAMS = frozenset({"pass_threshold", "rank_thresholds", "confidence_level", "artifacts"})

# Errors of these codes come from reading the ground truth or from a scorer, and may quote both.
_MAY_QUOTE = frozenset(
    {
        ErrorCode.BAD_FORMAT,
        ErrorCode.PARSE_ERROR,
        ErrorCode.MISMATCH,
        ErrorCode.BAD_PARAMS,
        ErrorCode.SCORER_ERROR,
        ErrorCode.JUDGE_ERROR,
        ErrorCode.INTERNAL_ERROR,
    }
)
_ITS_CODES = re.compile(r"\b(" + "|".join(sorted(_MAY_QUOTE)) + r")\b.*", re.DOTALL)
# As errors name them: scorers of boxes with their folder.
_TRUTHS = frozenset(folder + "gt" + suffix for folder in ("", "input/") for suffix in TABLE_SUFFIXES)
_PREDICTIONS = frozenset(folder + "pred" + suffix for folder in ("", "output/") for suffix in TABLE_SUFFIXES)
# What the join by id tells: counts, and ids, which every model has to know and to repeat.
_OF_ALL_IDS = frozenset(
    {
        "ground_truth_rows",
        "prediction_rows",
        "missing",
        "extra",
        "duplicates_in_ground_truth",
        "duplicates_in_predictions",
    }
)
_OF_IDS = (
    _OF_ALL_IDS,
    # Of predictions with far too many rows, which are not read to their end.
    _OF_ALL_IDS - {"missing"} | {"read_to_end"},
    frozenset({"file", "unknown_images", "records", "first"}),
)
_OF_RUNS = (frozenset({"request_id"}), frozenset({"attempts", "reason"}))
_ONLY_ADMINS = "What was found may tell of the ground truth; it is told to tokens of the role admin."
# Which task, request and workspace it is about: known to whoever asks.
_OF_NO_ROW = ("task_id", "request_id", "workspace", "logs_path")
_OF_AN_OUTCOME = ("workspace", "state", "metric", "higher_is_better", "pass", "rank", "seconds", "duplicate_of")


def check_request(
    role: Role, *, scorer: str | None, of_workspace: str | None, params: Mapping[str, Any] | None, batch: bool = False
) -> None:
    """Whether a role may ask for a scoring with these: who may not see the ground truth chooses neither scorer nor
    columns.

    Another scorer compares something else, and shows it in its own way: true numbers as labels, for one.

    Args:
        role: Of the token.
        scorer: The one that is asked for.
        of_workspace: The one that meta.json names.
        params: The params that are asked for.
        batch: Whether it is about many workspaces, each with a meta.json of its own.

    Raises:
        AutoScorerError: ``FORBIDDEN``.
    """
    if role in SEES_TRUTH:
        return
    if scorer is not None and (batch or scorer != of_workspace):
        named = f"meta.json names {of_workspace!r}" if of_workspace else "meta.json names none"
        why = "each workspace is scored as its meta.json says" if batch else named
        raise AutoScorerError(
            ErrorCode.FORBIDDEN,
            f"Choosing the scorer {scorer[:100]!r} takes a token of the role admin: {why}. Leave scorer out; "
            "meta.json may hold it.",
        )
    for name in params or {}:
        if name not in HARMLESS_PARAMS:
            raise AutoScorerError(
                ErrorCode.FORBIDDEN,
                f"The param {str(name)[:100]!r} may change what is compared, and so what the score tells of the ground "
                f"truth: it takes a token of the role admin. Leave it out; meta.json may hold it. Yours are "
                f"{', '.join(sorted(HARMLESS_PARAMS))}.",
            )


class Disclosure:
    """What an answer may hold for those who get it.

    Args:
        settings: The configuration.
        role: Of the token that asks, or asked for the task; None for nobody in particular.
        team: Of that token.

    Attributes:
        sees_truth: Whether answers go out as they are: to admins, to organisers, who are answered of their benchmarks
            alone, and where ``api.show_errors`` says so to all but teams.
        digits: How many digits of a score are told; None for all.
    """

    def __init__(self, settings: Settings, role: Role | None, team: str | None = None) -> None:
        self._sees_installation = role == "admin" or (settings.api.show_errors and team is None)
        self.sees_truth = role in SEES_TRUTH or self._sees_installation
        self._digits = settings.security.disclosure.digits
        self.digits = None if self.sees_truth else self._digits

    # --- what a scoring made --------------------------------------------------------------------------------

    def result(self, data: Json) -> Json:
        """A Result, as JSON."""
        if self.sees_truth:
            return data
        error = self.error(data["error"]) if data.get("error") else None
        return {**disclosed_result(data, self._digits), "error": error}

    def trial(self, data: Json) -> Json:
        """What ``POST /scorers/test`` found, as JSON."""
        if self.sees_truth:
            return data
        shown = self.result(data)
        return {
            "scorer": data["scorer"],
            **{key: shown[key] for key in ("summary", "metrics", "intervals", "notes")},
            "artifacts": sorted(shown["artifacts"]),
            "seconds": data["seconds"],
        }

    def report(self, data: Json | None) -> Json | None:
        """A run's report: made before the ground truth was looked at, apart from the error."""
        if self.sees_truth or not data or not isinstance(data.get("error"), dict):
            return data
        return {**data, "error": self.error(data["error"])}

    def outcome(self, data: Json) -> Json:
        """What became of one workspace of a batch."""
        if self.sees_truth:
            return data
        shown = {key: data[key] for key in _OF_AN_OUTCOME if key in data}
        given = _dict(data.get("interval"))
        return {
            **shown,
            "score": self.number(data.get("score")),
            "interval": interval(given, self._digits) if given else None,
            "error": self.error(data["error"]) if isinstance(data.get("error"), dict) else None,
        }

    def number(self, value: Any) -> Any:
        """A score or metric, rounded."""
        return value if self.sees_truth else rounded(value, self._digits)

    # --- tasks ----------------------------------------------------------------------------------------------

    def task(self, task: TaskView) -> TaskView:
        """A task."""
        if self.sees_truth:
            return task
        error = None if task.error is None else ErrorInfo(**self.error(task.error.model_dump()))
        left = self._left(task.action, task.result) if task.result is not None else None
        told = {"result": left, "error": error, "reason": self.reason(task.reason)}
        return task.model_copy(update=told | {"outcome": task.outcome and self._outcome(task.outcome)})

    def _outcome(self, outcome: TaskOutcome) -> TaskOutcome:
        if outcome.board_only:
            return TaskOutcome(metric=outcome.metric, higher_is_better=outcome.higher_is_better, board_only=True)
        interval = outcome.interval
        if interval is not None:
            ends = {"low": self.number(interval.low), "high": self.number(interval.high)}
            interval = interval.model_copy(update=ends)
        scores = outcome.scores and {name: self.number(score) for name, score in outcome.scores.items()}
        told = {"score": self.number(outcome.score), "interval": interval, "scores": scores}
        return outcome.model_copy(update=told)

    def _left(self, action: str, data: Json) -> Json | None:
        match action:
            case "score" | "pipeline":
                return self.result(data)
            case "batch":
                if "outcomes" not in data:
                    return data
                return {**data, "outcomes": [self.outcome(_dict(each)) for each in _list(data["outcomes"])]}
            case "run":
                return self.report(data)
            case "validate":
                return data
        return None

    def reason(self, text: str | None) -> str | None:
        """The last thing that happened to a task; what an error said is cut off behind its code."""
        return text if text is None or self.sees_truth else _ITS_CODES.sub(r"\1", text)

    def log(self, source: str, message: str) -> str | None:
        """A line of a task's log, or None: what the model wrote, and which stage began."""
        if self.sees_truth or source == "model" or (message.startswith("stage ") and "\n" not in message):
            return message
        return None

    def event(self, data: Json) -> Json | None:
        """A line of a log that is followed, as JSON, or None."""
        if data.get("type") == "log":
            return None if self.log(str(data.get("source")), str(data.get("message"))) is None else data
        return {**data, "reason": self.reason(data["reason"])} if "reason" in data else data

    # --- errors ---------------------------------------------------------------------------------------------

    def error(self, data: Mapping[str, Any]) -> Json:
        """An error, as JSON: whole where it can't quote the ground truth, else its code and whose file is wrong."""
        error, details = dict(data), _dict(data.get("details"))
        if self._sees_installation:
            return error
        problems = details.get("problems")
        if isinstance(problems, list):
            return _of_many(error, [self.error(each) for each in problems if isinstance(each, dict)])
        code = error.get("code")
        if code == ErrorCode.BUDGET_EXCEEDED:
            # The numbers are of all callers together where the budget is; its name says whom to ask.
            return {**error, "details": {key: details[key] for key in (*_OF_NO_ROW, "budget") if key in details}}
        if self.sees_truth or code not in _MAY_QUOTE or _quotes_no_truth(str(code), details):
            return error
        file = details.get("file")
        if isinstance(file, str) and file in _TRUTHS:
            message = f"The ground truth ({file}) is not valid, which is not the submission's fault. "
        else:
            meaning = CATALOGUE[ErrorCode(str(code))].meaning if code in CATALOGUE else "it failed"
            message = f"{meaning[:1].upper()}{meaning[1:]}. "
        kept = {key: details[key] for key in _OF_NO_ROW if key in details}
        return {**error, "message": message + _ONLY_ADMINS, "details": kept}


def _quotes_no_truth(code: str, details: Json) -> bool:
    own = frozenset(details) - {"task_id", "workspace", "logs_path"}
    if code in (ErrorCode.BAD_FORMAT, ErrorCode.PARSE_ERROR):
        return details.get("file") in _PREDICTIONS
    if code == ErrorCode.MISMATCH:
        return own in _OF_IDS
    if code == ErrorCode.BAD_PARAMS:
        return own == {"params"}
    # The API's own fault, of which nothing but where to look is told anyway; and runs that died again and again.
    return code == ErrorCode.INTERNAL_ERROR and own in _OF_RUNS


def _of_many(error: Json, problems: list[Json]) -> Json:
    details = _dict(error.get("details"))
    kept = {key: details[key] for key in _OF_NO_ROW if key in details}
    text = " | ".join(f"{each.get('code')}: {each.get('message')}" for each in problems)
    return {**error, "message": f"{len(problems)} problems. {text}", "details": {**kept, "problems": problems}}


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
