"""Workers take, renew, lose and end flow runs in any order: one attempt counts, as a model in memory says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from autoscorer.core.config import load_settings
from autoscorer.service.ledger.tables import flow_runs
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from pydantic import SecretStr
from sqlalchemy import update

from ..support.examples import examples
from ..support.ledger_machine import LedgerMachine, check
from ..support.postgres import Postgres
from ..support.postgres import postgres as postgres

RUNS = st.sampled_from(["a", "b"])
WORKERS = st.sampled_from(["left", "right"])
# How many attempts ago somebody was the run's own.
LATE = st.integers(0, 2)


@dataclass
class Run:
    """What the model knows of a run; ``held`` is over when its worker was silent, or it was taken from it."""

    attempt: int = 0
    worker: str | None = None
    held: Literal["no", "yes", "over"] = "no"
    outcome: str | None = None


class Machine(LedgerMachine):
    """The table beside its model."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, Run] = {}

    @rule(name=RUNS, worker=WORKERS)
    def take(self, name: str, worker: str) -> None:
        run = self.runs.setdefault(name, Run())
        free = run.held != "yes" or run.worker == worker
        taken = self.do(lambda: self.ledger.take_run(name, worker, worker, 60))
        assert taken == (run.attempt + 1 if free else None)
        if free:
            self.runs[name] = Run(run.attempt + 1, worker, "yes")

    @rule(worker=WORKERS)
    def renew(self, worker: str) -> None:
        own = {name: run for name, run in self.runs.items() if run.worker == worker and run.held != "no"}
        assert self.do(lambda: self.ledger.renew_runs(worker, 60)) == {name: run.attempt for name, run in own.items()}
        for run in own.values():
            run.held = "yes"

    @rule()
    def let_time_pass(self) -> None:
        older = update(flow_runs).values(until=flow_runs.c.until - 61)
        self.do(lambda: self.ledger._database.write(lambda db: db.execute(older)))
        for run in self.runs.values():
            run.held = "over" if run.held == "yes" else run.held

    @rule(name=RUNS, late=LATE)
    def take_over(self, name: str, late: int) -> None:
        run = self.runs.get(name, Run())
        lost = run.held == "over" and not late
        attempt = self.do(lambda: self.ledger.take_over_run(name, run.attempt - late))
        assert attempt == (run.attempt + 1 if lost else None)
        if lost:
            run.attempt, run.worker = run.attempt + 1, None

    @rule(name=RUNS, late=LATE)
    def release(self, name: str, late: int) -> None:
        run = self.runs.get(name, Run())
        self.do(lambda: self.ledger.release_run(name, run.attempt - late))
        if not late:
            run.worker, run.held = None, "no"

    @rule(name=RUNS, late=LATE, said=st.sampled_from(["x", "y"]))
    def end(self, name: str, late: int, said: str) -> None:
        run = self.runs.get(name)
        attempt = run.attempt - late if run else 1
        kept = self.do(lambda: self.ledger.keep_outcome(name, attempt, {"state": said}))
        assert kept == (run is not None and not late)
        if run is not None and kept:
            run.outcome = said

    @rule(name=RUNS, said=st.sampled_from(["x", "y"]))
    def end_by_force(self, name: str, said: str) -> None:
        run = self.runs.get(name, Run())
        free = run.held != "yes"
        assert self.do(lambda: self.ledger.end_by_force(name, {"state": said})) == free
        if free:
            self.runs[name] = Run(run.attempt + 1, outcome=said)

    @invariant()
    def says_what_the_model_says(self) -> None:
        found = self.do(lambda: self.ledger.known_runs(["a", "b"]))
        told = {
            name: (
                each.attempt,
                each.worker,
                "no" if each.remaining is None else "yes" if each.remaining > 0 else "over",
            )
            for name, each in found.items()
        }
        assert told == {name: (run.attempt, run.worker, run.held) for name, run in self.runs.items()}
        for name, run in self.runs.items():
            saved: Any = self.do(lambda name=name: self.ledger.run_outcome(name))
            assert saved == (None if run.outcome is None else {"state": run.outcome})


@pytest.mark.slow
def test_in_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    check(Machine, lambda: load_settings().model_copy(update={"home": tmp_path_factory.mktemp("home")}), examples(20))


@pytest.mark.slow
def test_in_postgresql(postgres: Postgres, home: Any) -> None:
    check(
        Machine,
        lambda: load_settings().model_copy(update={"ledger_url": SecretStr(postgres.ledger_url())}),
        examples(20),
    )
