"""How a task ended is told by what its own flow run left, in words that can be sent, and never by another's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.schemas.result import ErrorInfo
from autoscorer.service.ledger.records import TaskEnd, TaskRow
from autoscorer.service.sync.outcomes import task_end_of, task_end_without_run
from autoscorer.service.workspaces.roots import WorkspaceRoots
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

RUN = "624d071c-e527-4b4a-888f-b462d1fa1d03"


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkspaceRoots:
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(tmp_path))
    (tmp_path / "a" / "output").mkdir(parents=True)
    (tmp_path / "a" / "logs").mkdir()
    return WorkspaceRoots(load_settings())


def task(roots: WorkspaceRoots, action: str = "score") -> TaskRow:
    values: dict[str, Any] = dict.fromkeys(TaskRow.__dataclass_fields__)
    values.update(id="t", action=action, workspace=str(roots.paths[0] / "a"), flow_run_id=RUN)
    return TaskRow(**values)


def ended(home: Path, roots: WorkspaceRoots, state: str, message: str | None = None, action: str = "score") -> TaskEnd:
    return task_end_of(saved_in(home), roots, task(roots, action), final_run(state, message))


def saved_in(home: Path) -> dict[str, Any] | None:
    return FlowRunFiles(home, RUN).read_outcome()


def final_run(state: str, message: str | None = None) -> dict[str, Any]:
    times = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:01.5+00:00"}
    return {"id": RUN, "state": {"type": state, "message": message}, "run_count": 1, **times}


def leave(roots: WorkspaceRoots, value: Any, name: str = "output/result.json") -> None:
    (roots.paths[0] / "a" / name).write_text(value if isinstance(value, str) else json.dumps(value))


def test_the_saved_ending_comes_first(home: Path, roots: WorkspaceRoots) -> None:
    leave(roots, {"versioning": {"flow_run_id": RUN}, "error": None, "summary": 1})
    FlowRunFiles(home, RUN).save_outcome({"state": "COMPLETED", "message": "", "data": {"x": 1}, "error": None})
    ending = ended(home, roots, "COMPLETED")
    assert (ending.state, ending.result, ending.error) == ("completed", {"x": 1}, None)
    assert ending.started_at is not None and ending.ended_at == ending.started_at + 1.5


def test_an_ending_of_an_earlier_attempt_does_not_count(home: Path, roots: WorkspaceRoots) -> None:
    FlowRunFiles(home, RUN).save_outcome({"state": "COMPLETED", "message": "", "data": {"x": 1}, "error": None})
    ending = ended(home, roots, "CANCELLED")
    assert ending.result is None and ending.error is not None and ending.error["code"] == "CANCELLED"


@pytest.mark.parametrize(
    ("result", "state"),
    [
        ({"versioning": {"flow_run_id": "another"}, "error": None}, "COMPLETED"),
        ({"versioning": {"flow_run_id": RUN}, "error": {"code": "MISMATCH"}}, "COMPLETED"),
        ({"versioning": {"flow_run_id": RUN}, "error": None}, "FAILED"),
        (json.dumps({"versioning": {"flow_run_id": RUN}, "error": None, "x": float("nan")}), "COMPLETED"),
        ("[" * 100_000, "COMPLETED"),
        ("no json", "FAILED"),
        ("[]", "FAILED"),
    ],
)
def test_what_another_run_left_or_says_otherwise_is_not_taken(
    home: Path, roots: WorkspaceRoots, result: Any, state: str
) -> None:
    leave(roots, result)
    assert ended(home, roots, state).result is None


def test_a_failed_result_is_taken_with_its_error(home: Path, roots: WorkspaceRoots) -> None:
    error = {"code": "MISMATCH", "message": "2 ids are missing", "stage": "scoring", "details": {"missing": 2}}
    leave(roots, {"versioning": {"flow_run_id": RUN, "scorer": "s"}, "error": error})
    ending = ended(home, roots, "FAILED", "something else")
    # Named as the API names it, whatever the file says.
    error["details"] |= {"workspace": "a", "logs_path": None}  # type: ignore[index]
    assert ending.error == error and ending.result is not None and ending.scorer == "s"


def test_a_run_leaves_its_report(home: Path, roots: WorkspaceRoots) -> None:
    leave(roots, {"flow_run_id": RUN, "run_seconds": 1.0}, "logs/run_info.json")
    assert ended(home, roots, "COMPLETED", action="run").result == {"flow_run_id": RUN, "run_seconds": 1.0}
    leave(roots, {"flow_run_id": "another"}, "logs/run_info.json")
    assert ended(home, roots, "COMPLETED", action="run").result is None


def test_links_and_pipes_are_not_read(home: Path, roots: WorkspaceRoots, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(json.dumps({"versioning": {"flow_run_id": RUN}, "error": None}))
    (roots.paths[0] / "a" / "output" / "result.json").symlink_to(tmp_path / "secret")
    assert ended(home, roots, "COMPLETED").result is None


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["FAILED", "CANCELLED"]),
    st.none() | st.text() | st.sampled_from(["MISMATCH: a", "NO_CODE: a", "CANCELLED: x\ny", ": "]),
    st.none()
    | st.text()
    | st.dictionaries(st.sampled_from(["code", "message", "stage", "details"]), st.text() | st.none()),
)
def test_every_failure_has_an_error_that_can_be_shown(
    home: Path, roots: WorkspaceRoots, state: str, message: str | None, error: Any
) -> None:
    FlowRunFiles(home, RUN).save_outcome({"state": state, "message": message, "data": None, "error": error})
    found = ended(home, roots, state, message).error
    assert found is not None
    assert ErrorInfo(**found).message


def test_an_ending_is_known_without_prefect(home: Path, roots: WorkspaceRoots) -> None:
    assert task_end_without_run(saved_in(home), roots, task(roots)) is None
    FlowRunFiles(home, RUN).save_outcome({"state": "FAILED", "message": "MISMATCH: x", "data": None, "error": None})
    ending = task_end_without_run(saved_in(home), roots, task(roots))
    assert ending is not None and ending.error is not None and ending.error["code"] == "MISMATCH"


def test_an_outcome_that_an_earlier_autoscorer_saved_is_not_lost(home: Path, roots: WorkspaceRoots) -> None:
    files = FlowRunFiles(home, RUN)
    saved = {"state": "COMPLETED", "message": "", "data": {"x": 1}, "error": None}
    files.save_outcome(saved)
    (files.folder / "outcome.json").rename(files.folder / "ending.json")
    assert files.has_outcome() and files.read_outcome() == saved and files.outcome_saved_at() is not None
    end = task_end_without_run(saved_in(home), roots, task(roots))
    assert end is not None and end.result == {"x": 1}
    # The newer of two counts, whichever version wrote it.
    files.save_outcome({**saved, "data": {"x": 2}})
    os.utime(files.folder / "ending.json", (1, 1))
    assert task_end_of(saved_in(home), roots, task(roots), final_run("COMPLETED")).result == {"x": 2}
    os.utime(files.folder / "outcome.json", (0, 0))
    assert task_end_of(saved_in(home), roots, task(roots), final_run("COMPLETED")).result == {"x": 1}
    files.forget_outcome()
    assert not files.has_outcome() and files.read_outcome() is None and files.outcome_saved_at() is None
