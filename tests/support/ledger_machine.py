"""A ledger beside a model in memory, driven by Hypothesis: what every such machine does alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from autoscorer.core.config import Settings
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

__all__ = ["LedgerMachine", "check"]

T = TypeVar("T")


class LedgerMachine(RuleBasedStateMachine):
    """Opens a ledger, which any step may find closed and opened again."""

    open_settings: Callable[[], Settings]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.settings = type(self).open_settings()
        self.do(lambda: upgrade_ledger(self.settings))
        self.ledger = self.do(lambda: Ledger.open(self.settings))

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        async def awaited() -> T:
            return await work()

        return self.loop.run(awaited())

    def teardown(self) -> None:
        self.do(lambda: self.ledger.close())
        self.loop.close()

    @rule()
    def crash(self) -> None:
        self.do(lambda: self.ledger.close())
        self.ledger = self.do(lambda: Ledger.open(self.settings))


def check(machine: type[LedgerMachine], open_settings: Callable[[], Settings], count: int) -> None:
    """Try ``count`` runs of a machine on ledgers of these settings."""
    # How a state machine is given what only a fixture has.
    of_one_database = type("OfOneDatabase", (machine,), {"open_settings": staticmethod(open_settings)})
    bounds = hypothesis_settings(
        max_examples=count,
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.generate],  # each step is a transaction; the steps that fell are few enough to read
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(of_one_database, settings=bounds)
