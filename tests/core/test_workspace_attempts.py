"""A workspace is one attempt's at a time: an earlier one, that was taken for dead and goes on, writes nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.provenance import current_attempt, current_flow_run
from autoscorer.core.workspace import Workspace
from autoscorer.tasks.score import score_workspace

from ..support.workspaces import TRUTH

RUN = "11111111-1111-4111-8111-111111111111"


@contextmanager
def attempt(number: int | None) -> Iterator[None]:
    tokens = current_flow_run.set(RUN), current_attempt.set(number)
    try:
        yield
    finally:
        current_flow_run.reset(tokens[0])
        current_attempt.reset(tokens[1])


def test_a_result_says_which_attempt_made_it(make_workspace: Callable[..., Path]) -> None:
    folder = make_workspace(truth=TRUTH, pred=TRUTH)
    with attempt(2):
        assert score_workspace(folder).versioning.attempt == 2
    assert json.loads((folder / "output" / "result.json").read_text())["versioning"]["attempt"] == 2


def test_an_attempt_that_has_lost_its_workspace_writes_no_result(make_workspace: Callable[..., Path]) -> None:
    folder = make_workspace(truth=TRUTH, pred=TRUTH)
    late, space = Workspace(folder), Workspace(folder)
    with attempt(1), late.lock():
        late.ensure_ours()
        # Another run's workspace is not taken by it.
        space.break_lock("22222222-2222-4222-8222-222222222222")
        late.ensure_ours()
        space.break_lock(RUN)
        with pytest.raises(AutoScorerError) as caught:
            late.ensure_ours()
        assert caught.value.code is ErrorCode.CONFLICT
        with attempt(2):
            result = score_workspace(folder)  # it has the lock although the earlier one never let go
        assert result.error is None
        with pytest.raises(AutoScorerError, match="taken from this attempt"):
            score_workspace(folder, lock=False)
    found = Workspace(folder).read_result()
    assert found is not None and found.versioning.attempt == 2 and found.error is None
    assert not (folder / "output" / "history").exists()


def test_where_attempts_are_not_told_apart_nothing_is_asked(make_workspace: Callable[..., Path]) -> None:
    folder = make_workspace(truth=TRUTH, pred=TRUTH)
    with attempt(None), Workspace(folder).lock():
        Workspace(folder).break_lock(RUN)
        assert score_workspace(folder, lock=False).error is None
