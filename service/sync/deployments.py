"""Which deployment of Prefect does which action, and under which id Prefect knows it."""

from __future__ import annotations

import time

from ...schemas.task import Action
from ..prefect.client import PrefectApi
from ..prefect.model import DEPLOYMENTS, Deployment

__all__ = ["DeploymentIds", "deployment_for"]

# Seconds that an answer is believed, where nothing speaks against it.
_BELIEVED = 30.0


def deployment_for(action: Action) -> Deployment:
    """The deployment that a task of that action is handed to."""
    return next(each for each in DEPLOYMENTS if each.action == action)


class DeploymentIds:
    """Looks the ids up, and remembers them: they change when somebody deletes a deployment, or Prefect's database."""

    def __init__(self, prefect: PrefectApi) -> None:
        self._prefect = prefect
        self._ids: dict[Deployment, str] = {}
        self._asked = float("-inf")

    async def of(self, action: Action) -> str | None:
        """The deployment for an action; None when Prefect has none.

        Raises:
            PrefectAway: The server does not answer.
        """
        wanted = deployment_for(action)
        return self._ids.get(wanted) or await self._look_up(wanted)

    def forget(self, action: Action) -> None:
        """Prefect does not know it by that id any more."""
        self._ids.pop(deployment_for(action), None)

    async def all(self) -> dict[str, Action]:
        """Every deployment of ours, by id, with its action.

        Raises:
            PrefectAway: The server does not answer.
        """
        if time.monotonic() - self._asked > _BELIEVED:
            for each in DEPLOYMENTS:
                await self._look_up(each)
            self._asked = time.monotonic()
        return {found: each.action for each, found in self._ids.items()}

    async def _look_up(self, wanted: Deployment) -> str | None:
        found = await self._prefect.deployment(wanted.flow, wanted.name)
        self._ids.pop(wanted, None)
        if found is not None:
            self._ids[wanted] = found["id"]
        return self._ids.get(wanted)
