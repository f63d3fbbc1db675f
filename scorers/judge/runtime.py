"""What the judges of one process have in common, and what one job gets of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from ...core.bounds import shortened
from ...core.config import Settings
from ...core.config_judge import EmbeddingsProfile, JudgeProfile, Profile
from ...core.errors import AutoScorerError, ErrorCode
from ...core.text import escape
from .budget import Account, Budget, Spend
from .cache import Cache
from .client import Judge
from .embedder import Embedder
from .limits import Limits
from .once import Once
from .structured import Dialect
from .transport import Endpoint

__all__ = ["JudgeRuntime", "JudgeSession", "check_models", "open_judges"]

Kind = Literal["judge", "embeddings"]
AnyProfile = TypeVar("AnyProfile", bound=Profile)
_PRICES = {"judge": "judge.profiles.{}.price", "embeddings": "embeddings.profiles.{}.price"}


@dataclass(frozen=True)
class JudgeSession:
    """What one job asks.

    Args:
        judge: The model that judges; None where none is configured and none was asked for.
        embedder: The model that embeds; None likewise.
        budget: What the job may spend, and has spent.
    """

    judge: Judge | None
    embedder: Embedder | None
    budget: Budget


class JudgeRuntime:
    """Connections, limits, cache and spending of one process, for many jobs at a time. ``open_judges`` makes one.

    It belongs to one event loop, and its process may not fork while it is open: a child would hold its places.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = Limits(settings)
        self._endpoints: dict[tuple[Kind, str], Endpoint] = {}
        self._dialects: dict[tuple[str, str], Dialect] = {}
        self._once: Once | None = None
        self._spend: Spend | None = None

    @property
    def home(self) -> Path:
        """The installation's folder, where calibrations lie."""
        return self._settings.home

    def session(
        self,
        *,
        judge: str | None = None,
        embeddings: str | None = None,
        caller: str = "",
        budget: Budget | None = None,
        deadline: float | None = None,
    ) -> JudgeSession:
        """What one job asks.

        Args:
            judge: A profile, or a model of one; the default profile when None.
            embeddings: The same for the model that embeds.
            caller: Whose day's budget it counts for.
            budget: What the job may spend; as configured when None.
            deadline: Seconds from now on that its calls may take; as configured when None.

        Raises:
            AutoScorerError: ``BAD_PARAMS`` for an unknown profile or model; ``INVALID_REQUEST`` at stage ``config``
                where money is limited and a price is unknown.
        """
        settings = self._settings.judge
        judging = _chosen("judge", judge, settings.default, settings.profiles)
        embedding = _chosen(
            "embeddings", embeddings, self._settings.embeddings.default, self._settings.embeddings.profiles
        )
        budget = budget or Budget.of(settings.budget)
        if judging is None and embedding is None:
            return JudgeSession(None, None, budget)
        until = asyncio.get_running_loop().time() + (settings.deadline if deadline is None else deadline)
        account = Account(caller, budget, settings.budget, self._spending())
        return JudgeSession(
            None if judging is None else self._judge(*judging, account, until),
            None if embedding is None else self._embedder(*embedding, account, until),
            budget,
        )

    async def close(self) -> None:
        """End what is under way, and close everything."""
        if self._once is not None:
            await self._once.close()
        for endpoint in self._endpoints.values():
            await endpoint.close()
        if self._spend is not None:
            await self._spend.close()
        await self._limits.close()

    def _judge(self, name: str, profile: JudgeProfile, model: str, account: Account, until: float) -> Judge:
        account.require_price(profile.price is not None, _PRICES["judge"].format(name))
        dialect = self._dialects.get((name, model))
        if dialect is None:
            dialect = self._dialects[(name, model)] = Dialect(profile.structured)
        return Judge(
            name=name,
            profile=profile,
            model=model,
            endpoint=self._endpoint("judge", name, profile),
            dialect=dialect,
            once=self._shared(),
            account=account,
            deadline=until,
        )

    def _embedder(self, name: str, profile: EmbeddingsProfile, model: str, account: Account, until: float) -> Embedder:
        account.require_price(profile.price is not None, _PRICES["embeddings"].format(name))
        return Embedder(
            name=name,
            profile=profile,
            model=model,
            endpoint=self._endpoint("embeddings", name, profile),
            once=self._shared(),
            account=account,
            deadline=until,
        )

    def _endpoint(self, kind: Kind, name: str, profile: Profile) -> Endpoint:
        endpoint = self._endpoints.get((kind, name))
        if endpoint is None:
            endpoint = self._endpoints[(kind, name)] = Endpoint(kind, name, profile, self._limits)
        return endpoint

    def _shared(self) -> Once:
        if self._once is None:
            limit = self._settings.judge.cache
            self._once = Once(Cache(self._settings.home / "judge-cache.sqlite3", limit) if limit else None)
        return self._once

    def _spending(self) -> Spend:
        if self._spend is None:
            self._spend = Spend(self._settings.home / "judge-spend.sqlite3")
        return self._spend


@contextlib.asynccontextmanager
async def open_judges(settings: Settings) -> AsyncIterator[JudgeRuntime]:
    """A runtime for as long as the block lasts; nothing is opened before a job needs it.

    Args:
        settings: The configuration.
    """
    runtime = JudgeRuntime(settings)
    try:
        yield runtime
    finally:
        await runtime.close()


def check_models(settings: Settings, *, judge: str | None, embeddings: str | None) -> tuple[bool, bool]:
    """Whether there is a judge, and whether there are embeddings; opens nothing.

    Args:
        settings: The configuration.
        judge: A profile, or a model of one; the default profile when None.
        embeddings: The same for the model that embeds.

    Raises:
        AutoScorerError: ``BAD_PARAMS`` for an unknown profile or model.
    """
    judging = _chosen("judge", judge, settings.judge.default, settings.judge.profiles)
    embedding = _chosen("embeddings", embeddings, settings.embeddings.default, settings.embeddings.profiles)
    return judging is not None, embedding is not None


def _chosen(
    kind: Kind, asked: str | None, default: str | None, profiles: Mapping[str, AnyProfile]
) -> tuple[str, AnyProfile, str] | None:
    """A profile with its name, and the model that is asked; None where nothing was asked for and nothing is default."""
    name = default if asked is None else asked
    if name is None:
        return None
    if name in profiles:
        return name, profiles[name], profiles[name].model
    # The default one first: two may have the same model.
    for each in sorted(profiles, key=lambda other: other != default):
        if name in profiles[each].all_models:
            return each, profiles[each], name
    there = "; ".join(f"{each} ({', '.join(profile.all_models)})" for each, profile in profiles.items())
    raise AutoScorerError(
        ErrorCode.BAD_PARAMS,
        f"{kind}: {escape(shortened(name, 100))!r} is no profile here and no model of one. There are: "
        f"{there or 'none'}.",
        details={"params": [kind]},
    )
