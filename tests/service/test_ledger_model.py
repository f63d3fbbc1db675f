"""Whatever is done to a ledger, in whatever order, it says what a plain model in memory says: in both databases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.records import Observed, TaskEnd, TaskFilter
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, invariant, multiple, rule
from pydantic import SecretStr

from ..support.examples import examples
from ..support.ledger import new
from ..support.ledger_machine import LedgerMachine, check
from ..support.postgres import Postgres
from ..support.postgres import postgres as postgres

ENDS = st.sampled_from([TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED])
WORKSPACES = st.sampled_from(["/data/a", "/data/b", "/data/c"])
ACTIONS = st.sampled_from(["score", "pipeline", "validate"])
KEYS = st.none() | st.sampled_from(["k", "l"])
HASHES = st.sampled_from(["1", "2"])


@dataclass
class Known:
    """What the model knows of a task."""

    id: str
    workspace: str
    action: str
    state: str = "queued"
    flow_run: str | None = None
    told: bool = False
    cancel: bool = False
    dispatch: int = 1
    callback: bool = False

    @property
    def ended(self) -> bool:
        return self.state in ("completed", "failed", "cancelled")


class Machine(LedgerMachine):
    """A ledger beside its model."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Known] = {}
        self.keys: dict[str, tuple[str, str]] = {}

    def active(self, workspace: str, action: str) -> Known | None:
        found = [t for t in self.known.values() if (t.workspace, t.action, t.ended) == (workspace, action, False)]
        assert len(found) <= 1
        return found[0] if found else None

    @rule(target=tasks, workspace=WORKSPACES, action=ACTIONS, key=KEYS, request=HASHES, callback=st.booleans())
    def submit(self, workspace: str, action: str, key: str | None, request: str, callback: bool) -> Any:
        task = new(workspace, action, callback_url="http://example.org/" if callback else None)
        if key in self.keys and self.keys[key][1] != request:
            with pytest.raises(AutoScorerError) as caught:
                self.do(lambda: self.ledger.add(task, key=key, request_hash=request))
            assert caught.value.code is ErrorCode.CONFLICT
            return multiple()
        row, created = self.do(lambda: self.ledger.add(task, key=key, request_hash=request))
        if key in self.keys:
            expected = self.keys[key][0]
        else:
            there = self.active(workspace, action)
            expected = task.id if there is None else there.id
        assert (row.id, created) == (expected, expected == task.id)
        if key is not None:
            self.keys.setdefault(key, (expected, request))
        if not created:
            return multiple()
        self.known[task.id] = Known(task.id, workspace, action, callback=callback)
        return task.id

    def its_turn(self, task: Known) -> bool:
        others = [
            other
            for other in self.known.values()
            if other.workspace == task.workspace
            and other.action != "validate"
            and not other.ended
            and other is not task
        ]
        return task.action == "validate" or not any(o.flow_run is not None or o.id < task.id for o in others)

    @rule(limit=st.integers(1, 4), answered=st.booleans())
    def hand_over(self, limit: int, answered: bool) -> None:
        due = sorted(t.id for t in self.known.values() if not t.ended and t.flow_run is None and self.its_turn(t))
        claimed = self.do(lambda: self.ledger.claim_undispatched(limit))
        assert [row.id for row in claimed] == due[:limit]
        for row in claimed:
            self.known[row.id].told = True
        if answered:
            made = [(row, str(uuid4())) for row in claimed]
            self.do(lambda: self.ledger.dispatched(made))
            for row, flow_run in made:
                self.known[row.id].flow_run, self.known[row.id].told = flow_run, False

    @rule(task=tasks)
    def take_back(self, task: str) -> None:
        known = self.known[task]
        ends = self.do(lambda: self.ledger.unclaim([task]))
        if known.flow_run is None and not known.ended:
            known.told = False
            assert [end.task_id for end in ends] == ([task] if known.cancel else [])
        for end in ends:
            self.end(end.task_id, TaskState.CANCELLED)

    @rule(task=tasks)
    def lose(self, task: str) -> None:
        known = self.known[task]
        lost = known.flow_run or str(uuid4())
        anew = self.do(lambda: self.ledger.dispatch_anew(task, lost, "lost"))
        assert anew == (known.flow_run is not None and not known.ended)
        if anew:
            known.flow_run, known.told, known.dispatch = None, False, known.dispatch + 1
            known.state = "cancelling" if known.cancel else "queued"

    @rule(task=tasks, seen=st.sampled_from([TaskState.QUEUED, TaskState.RUNNING, TaskState.CANCELLING]))
    def observe(self, task: str, seen: TaskState) -> None:
        known = self.known[task]
        if known.flow_run is None:
            return
        self.do(lambda: self.ledger.observe([Observed(task, seen, "RUNNING", 1, 1.0, None)]))
        if not known.ended:
            known.state = "cancelling" if known.cancel else seen.value

    @rule(task=tasks, state=ENDS)
    def end(self, task: str, state: TaskState) -> None:
        known = self.known[task]
        result = {"summary": {"score": 1.0, "f1": 1.0}} if state is TaskState.COMPLETED else None
        ended = self.do(lambda: self.ledger.finish([TaskEnd(task, state, result=result)]))
        assert ended == ([] if known.ended else [task])
        if ended:
            known.state = state.value

    @rule(task=tasks)
    def cancel(self, task: str) -> None:
        known = self.known[task]
        at_once = not known.ended and known.flow_run is None and not known.told
        row, ended = self.do(lambda: self.ledger.request_cancel(task))
        assert ended == at_once
        if not known.ended:
            known.state, known.cancel = ("cancelled", False) if at_once else ("cancelling", True)
        assert row.state == known.state

    @invariant()
    def says_what_the_model_says(self) -> None:
        states = [t.state for t in self.known.values()]
        assert self.do(lambda: self.ledger.counts()) == {s.value: states.count(s.value) for s in TaskState}
        rows, total, *_ = self.do(lambda: self.ledger.page(TaskFilter(), None, 500))
        assert total == len(states)
        assert [(row.id, row.state, row.flow_run_id, row.dispatch) for row, _ in rows] == [
            (t.id, t.state, t.flow_run, t.dispatch) for t in sorted(self.known.values(), key=lambda t: t.id)[::-1]
        ]
        due = {each.task_id for each in self.do(lambda: self.ledger.due_callbacks(2e9))}
        assert due == {t.id for t in self.known.values() if t.ended and t.callback}


@pytest.mark.slow
def test_in_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    check(Machine, lambda: load_settings().model_copy(update={"home": tmp_path_factory.mktemp("home")}), examples(40))


@pytest.mark.slow
def test_in_postgresql(postgres: Postgres, home: Any) -> None:
    check(
        Machine,
        lambda: load_settings().model_copy(update={"ledger_url": SecretStr(postgres.ledger_url())}),
        examples(40),
    )
