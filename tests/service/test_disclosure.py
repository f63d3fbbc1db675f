"""What those are told who may not see the ground truth: the policy, case by case."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pytest
from autoscorer.api.app import _ROUTERS
from autoscorer.api.outgoing import HARMLESS, POLICY, Outgoing
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.envelope import Envelope
from autoscorer.schemas.task import Role, TaskView
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.classification import ClassificationF1
from autoscorer.scorers.detection.scorer import DetectionMAP
from autoscorer.scorers.regression import RegressionRMSE
from autoscorer.service.disclosure import Disclosure, check_request
from fastapi.routing import APIRoute
from pydantic import BaseModel

COCO = (
    '{"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], '
    '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}]}'
)
ONLY_ADMINS = "What was found may tell of the ground truth; it is told to tokens of the role admin."


@pytest.fixture
def submit(tmp_path: Path) -> Disclosure:
    return Disclosure(Settings(home=tmp_path), "submit")


def error(code: str, message: str = "SECRET", **details: Any) -> dict[str, Any]:
    return {"code": code, "message": message, "stage": "scoring", "details": details}


RESULT: dict[str, Any] = {
    "job_id": "j",
    "task_type": "t",
    "summary": {
        "score": 0.123456, "f1": 0.123456, "pass": False, "rank": "D", "higher_is_better": True, "SECRET": 0.5,
    },
    "metrics": {"f1": 0.123456, "row/SECRET": 1.0, "mean": 2.0},
    "intervals": {
        "f1": {"low": 0.1111111, "high": 0.2222222, "level": 0.95, "method": "delta", "n_resamples": None},
        "row/SECRET": {"low": 0.0, "high": 1.0, "level": 0.95, "method": "delta", "n_resamples": None},
    },
    "artifacts": {
        "errors": {"path": "output/artifacts/errors.csv", "size": 5, "sha256": "SECRET", "media_type": "text/csv"},
        "plot": {"path": "output/artifacts/plot.svg", "size": 7, "sha256": "SECRET", "media_type": "image/svg+xml"},
    },
    "timing": {"compute": 0.5},
    "resources": {"exit_code": 0},
    "versioning": {"ground_truth_sha256": "SECRET", "predictions_sha256": "p", "scorer": "s"},
    "notes": ["SECRET"],
    "metric_aliases": {"mu": "mean", "precision_SECRET": "precision/SECRET"},
    "disclosed": {
        "metrics": {"mean": 2.000001},
        "notes": ["harmless"],
        "artifacts": {
            "plot": {
                "path": "output/artifacts/shared/plot.svg", "size": 3, "sha256": "h", "media_type": "image/svg+xml",
            }
        },
    },
    "error": None,
}  # fmt: skip
TOLD: dict[str, Any] = {
    "job_id": "j",
    "task_type": "t",
    "summary": {"score": 0.1235, "f1": 0.1235, "pass": False, "rank": "D", "higher_is_better": True},
    "metrics": {"mean": 2.0, "f1": 0.1235},
    "metric_aliases": {"mu": "mean"},
    "intervals": {"f1": {"low": 0.1111, "high": 0.2222, "level": 0.95, "method": "delta", "n_resamples": None}},
    "artifacts": {
        "plot": {"path": "output/artifacts/plot.svg", "size": 3, "sha256": "h", "media_type": "image/svg+xml"}
    },
    "timing": {"compute": 0.5},
    "resources": {"exit_code": 0},
    "versioning": {"ground_truth_sha256": None, "predictions_sha256": "p", "scorer": "s"},
}


def test_of_a_result_goes_the_score_and_what_was_declared(submit: Disclosure) -> None:
    told = submit.result(RESULT)
    assert told.pop("notes")[:-1] == ["harmless"]
    assert told.pop("error") is None
    assert told == TOLD
    assert "SECRET" not in str(
        submit.result({**RESULT, "summary": "SECRET", "disclosed": ["SECRET"], "more": "SECRET"})
    )


def test_a_result_of_an_earlier_autoscorer_tells_its_score_alone(submit: Disclosure) -> None:
    told = submit.result({key: value for key, value in RESULT.items() if key != "disclosed"})
    assert (told["metrics"], told["artifacts"], len(told["notes"])) == ({"f1": 0.1235}, {}, 1)


@pytest.mark.parametrize(("role", "show"), [("admin", False), ("admin", True), ("submit", True), (None, True)])
def test_whoever_may_see_the_ground_truth_sees_everything(tmp_path: Path, role: Role | None, show: bool) -> None:
    whole = Disclosure(Settings(home=tmp_path, api={"show_errors": show}), role)
    assert whole.result(RESULT) == RESULT
    assert whole.error(error("SCORER_ERROR"))["message"] == "SECRET"
    assert whole.number(0.123456) == 0.123456
    assert whole.log("flow", "SECRET") == whole.reason("SECRET") == "SECRET"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (error("BAD_FORMAT", file="gt.csv", columns=["SECRET"]),
         f"The ground truth (gt.csv) is not valid, which is not the submission's fault. {ONLY_ADMINS}"),
        (error("PARSE_ERROR", file="gt.parquet", where="line 3"),
         f"The ground truth (gt.parquet) is not valid, which is not the submission's fault. {ONLY_ADMINS}"),
        (error("BAD_FORMAT", file="SECRET"), f"A file's content breaks its format. {ONLY_ADMINS}"),
        (error("BAD_FORMAT"), f"A file's content breaks its format. {ONLY_ADMINS}"),
        (error("BAD_FORMAT", "pred.csv, line 3: one field", file="pred.csv", line=3), "pred.csv, line 3: one field"),
        (error("PARSE_ERROR", "pred.json: got 'x'", file="pred.json"), "pred.json: got 'x'"),
        (error("MISMATCH", "ids", ground_truth_rows=1, prediction_rows=1, missing={}, extra={},
               duplicates_in_ground_truth={}, duplicates_in_predictions={}), "ids"),
        (error("MISMATCH", "images", file="pred.json", unknown_images=1, records=2, first=[7], task_id="t"), "images"),
        (error("MISMATCH", file="pred.json", index=0, field="category_id"),
         f"Ground truth and predictions do not cover the same ids. {ONLY_ADMINS}"),
        (error("MISMATCH", truth="SECRET"), f"Ground truth and predictions do not cover the same ids. {ONLY_ADMINS}"),
        (error("BAD_PARAMS", "k: wrong", params=["k"]), "k: wrong"),
        (error("BAD_PARAMS"), f"A scorer parameter is unknown or out of range. {ONLY_ADMINS}"),
        (error("SCORER_ERROR", scorer="s", exception="KeyError"), f"The scorer itself failed. {ONLY_ADMINS}"),
        (error("JUDGE_ERROR"), f"The judge model could not be asked. {ONLY_ADMINS}"),
        (error("INTERNAL_ERROR", exception="KeyError", where="x.py:3"), f"A fault of AutoScorer itself. {ONLY_ADMINS}"),
        (error("INTERNAL_ERROR", "look there", request_id="r"), "look there"),
        (error("INTERNAL_ERROR", "tried 3 times", attempts=3, reason="it died"), "tried 3 times"),
        (error("CONTAINER_FAILED", "it ended with 3", log=["model's"]), "it ended with 3"),
        (error("TIMEOUT_ERROR", "too long"), "too long"),
        (error("INVALID_META", "meta.json: x"), "meta.json: x"),
        ({**error("BAD_FORMAT", "2 problems. SECRET"),
          "details": {"problems": [error("BAD_FORMAT", file="gt.csv"), error("INVALID_META", "meta")]}},
         f"2 problems. BAD_FORMAT: The ground truth (gt.csv) is not valid, which is not the submission's "
         f"fault. {ONLY_ADMINS} | INVALID_META: meta"),
    ],
)  # fmt: skip
def test_an_error_is_told_as_far_as_it_can_not_quote_the_ground_truth(
    submit: Disclosure, given: dict[str, Any], message: str
) -> None:
    told = submit.error(given)
    assert (told["code"], told["stage"], told["message"]) == (given["code"], given["stage"], message)
    assert "SECRET" not in str(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, None),
        ("Waiting for task 1, which has the workspace.", "Waiting for task 1, which has the workspace."),
        ("MISMATCH: SECRET\nSECRET", "MISMATCH"),
        ("It failed with SCORER_ERROR: SECRET. Attempt 2 of 3 follows.", "It failed with SCORER_ERROR"),
    ],
)
def test_a_reason_ends_where_an_error_is_quoted(submit: Disclosure, text: str | None, told: str | None) -> None:
    assert submit.reason(text) == told


@pytest.mark.parametrize(
    ("source", "message", "is_told"),
    [
        ("model", "whatever it wrote", True),
        ("flow", "stage score: classification_f1", True),
        ("flow", "stage score\nSECRET", False),
        ("flow", "Finished in state Failed('MISMATCH: SECRET')", False),
        ("flow", "w: 0.123456", False),
    ],
)
def test_of_a_log_goes_what_the_model_wrote_and_the_stages(
    submit: Disclosure, source: str, message: str, is_told: bool
) -> None:
    assert submit.log(source, message) == (message if is_told else None)
    event = {"type": "log", "source": source, "message": message}
    assert submit.event(event) == (event if is_told else None)
    assert submit.event({"type": "end", "reason": "MISMATCH: SECRET"}) == {"type": "end", "reason": "MISMATCH"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.123456, 0.1235),
        (123456, 123500.0),
        (1e-7 / 3, 3.333e-08),
        (-2.0, -2.0),
        (None, None),
        ("SECRET", None),
        (True, None),
    ],
)
def test_numbers_are_rounded(submit: Disclosure, value: Any, told: Any) -> None:
    assert submit.number(value) == told


@pytest.mark.parametrize(
    ("action", "result", "told"),
    [
        ("validate", {"image": "local"}, {"image": "local"}),
        ("run", {"exit_code": 1, "error": error("OUTPUT_REJECTED", "m")},
         {"exit_code": 1, "error": error("OUTPUT_REJECTED", "m")}),
        ("batch", {"total": 1, "outcomes": [{"workspace": "w", "state": "completed", "score": 0.123456, "SECRET": 1}]},
         {"total": 1, "outcomes": [
             {"workspace": "w", "state": "completed", "score": 0.1235, "interval": None, "error": None}]}),
    ],
)  # fmt: skip
def test_of_what_a_task_left_goes_by_its_action(
    submit: Disclosure, action: Any, result: dict[str, Any], told: dict[str, Any]
) -> None:
    task = TaskView(id="t", action=action, state="completed", created_at="now", result=result)
    assert submit.task(task).result == told


@pytest.mark.parametrize(
    ("role", "scorer", "of_workspace", "params", "batch", "is_allowed"),
    [
        ("submit", None, "f1", None, False, True),
        ("submit", "f1", "f1", {"pass_threshold": 1, "rank_thresholds": [1, 2, 3]}, False, True),
        ("submit", "f1", "f1", {"confidence_level": 0.9, "artifacts": False}, False, True),
        ("submit", "other", "f1", None, False, False),
        ("submit", "f1", None, None, False, False),
        ("submit", None, None, None, False, True),
        ("submit", "f1", None, None, True, False),
        ("submit", None, None, {"pass_threshold": 1}, True, True),
        ("submit", None, "f1", {"truth_column": "x"}, False, False),
        ("submit", None, "f1", {"anything_else": 1}, False, False),
        ("admin", "other", "f1", {"truth_column": "x"}, False, True),
        ("admin", "other", None, {"k": 1}, True, True),
    ],
)
def test_who_may_ask_for_what(
    role: Role, scorer: str | None, of_workspace: str | None, params: Any, batch: bool, is_allowed: bool
) -> None:
    if is_allowed:
        check_request(role, scorer=scorer, of_workspace=of_workspace, params=params, batch=batch)
    else:
        with pytest.raises(AutoScorerError) as caught:
            check_request(role, scorer=scorer, of_workspace=of_workspace, params=params, batch=batch)
        assert caught.value.code is ErrorCode.FORBIDDEN


def test_somebody_has_decided_for_every_answer_who_may_see_it() -> None:
    answered = set()
    routers = [importlib.import_module(f"autoscorer.api.routes.{name}").router for name in _ROUTERS]
    for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
        for answer in route.responses.values():
            model = answer.get("model")
            if isinstance(model, type) and issubclass(model, Envelope):
                (data,) = model.__pydantic_generic_metadata__["args"]
                answered |= set(get_args(data)) if isinstance(data, UnionType) else {data}
    # Rows of a leaderboard are made of a batch that was disclosed.
    assert answered - {list[dict[str, Any]]} <= set(POLICY) | HARMLESS
    assert len(answered) > 10 and not set(POLICY) & HARMLESS


def test_what_nobody_has_decided_on_is_not_answered(submit: Disclosure) -> None:
    class New(BaseModel):
        truth: str = "SECRET"

    with pytest.raises(RuntimeError):
        Outgoing(submit, lambda value: value).answer(New())


def test_an_answer_is_redacted_once_as_a_whole(submit: Disclosure) -> None:
    seen = []

    def redact(value: Any) -> Any:
        seen.append(value)
        return "redacted"

    leaving = Outgoing(submit, redact)
    task = TaskView(id="t", action="run", state="completed", created_at="now", result={"exit_code": 1})
    told = [
        leaving.answer(task),
        leaving.error(AutoScorerError(ErrorCode.NOT_FOUND, "at /srv/team-a")),
        leaving.result(task.result or {}),
        leaving.event({"type": "heartbeat"}),
    ]
    assert told == ["redacted"] * 4 and len(seen) == 4
    assert seen[0] == task.model_dump(by_alias=True) and seen[1]["message"] == "at /srv/team-a"


def test_every_role_that_there_is_has_a_policy(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    sees = {role: Disclosure(settings, role).sees_truth for role in get_args(Role)}
    # An organiser is answered of its own benchmarks alone.
    assert sees == {"submit": False, "organiser": True, "admin": True}
    shown = settings.model_copy(update={"api": settings.api.model_copy(update={"show_errors": True})})
    assert Disclosure(shown, "submit").sees_truth and not Disclosure(shown, "submit", "team-a").sees_truth


@pytest.mark.parametrize("rows", [2, 4, 30_000])
def test_what_is_wrong_with_the_ids_of_predictions_is_told_as_the_scorer_says_it(
    rows: int, submit: Disclosure, tmp_path: Path
) -> None:
    """Too few, a few too many, and so many that they are not read to their end."""
    for folder, name, count in (("input", "gt", 3), ("output", "pred", rows)):
        (tmp_path / folder).mkdir()
        lines = "".join(f"row-{index},kind\n" for index in range(count))
        (tmp_path / folder / f"{name}.csv").write_text("id,label\n" + lines)
    with pytest.raises(AutoScorerError) as caught:
        ClassificationF1().score(tmp_path, {})
    assert caught.value.code is ErrorCode.MISMATCH
    assert submit.error(caught.value.to_dict()) == caught.value.to_dict()


@pytest.mark.parametrize(
    ("scorer", "truth", "predictions"),
    [
        (ClassificationF1, ("gt.csv", "id,label\na,x\n"), ("pred.csv", 'id,label\na,"x\n')),
        (ClassificationF1, ("gt.csv", "id,label\na,x\n"), ("pred.json", "[1,1,1]")),
        (ClassificationF1, ("gt.csv", "id,label\na,x\n"), ("pred.jsonl", '{"id": "a"}\n')),
        (RegressionRMSE, ("gt.csv", "id,value\na,1\n"), ("pred.csv", "id,value\na,many\n")),
        (DetectionMAP, ("gt.json", COCO), ("pred.json", "[1,1,1]")),
        (DetectionMAP, ("gt.json", COCO), ("pred.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2]}]')),
        (DetectionMAP, ("gt.json", COCO), ("pred.json", "no json")),
    ],
)
def test_what_is_wrong_with_predictions_is_told_as_the_scorer_says_it(
    scorer: type[BaseScorer],
    truth: tuple[str, str],
    predictions: tuple[str, str],
    submit: Disclosure,
    tmp_path: Path,
) -> None:
    for folder, (name, text) in (("input", truth), ("output", predictions)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    with pytest.raises(AutoScorerError) as caught:
        scorer().score(tmp_path, {})
    assert caught.value.code in (ErrorCode.BAD_FORMAT, ErrorCode.PARSE_ERROR)
    assert submit.error(caught.value.to_dict()) == caught.value.to_dict()


def test_what_all_callers_have_spent_together_is_told_to_admins_alone(tmp_path: Path, submit: Disclosure) -> None:
    data = error("BUDGET_EXCEEDED", "used up", budget="cost_per_day", spent=19.99, limit=20.0, task_id="t")
    assert submit.error(data)["details"] == {"task_id": "t", "budget": "cost_per_day"}
    assert Disclosure(Settings(home=tmp_path), "organiser").error(data)["details"] == {
        "task_id": "t",
        "budget": "cost_per_day",
    }
    assert Disclosure(Settings(home=tmp_path), "admin").error(data) == data
