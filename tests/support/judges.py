"""Judges for tests: a runtime with one profile, and a question that any answer follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.scorers.judge.prompt import Prompt
from autoscorer.scorers.judge.runtime import JudgeRuntime, open_judges
from autoscorer.scorers.judge.usage import Usage

__all__ = ["KEY", "SCHEMA", "ask", "prompt", "run", "settings_of"]

T = TypeVar("T")

KEY = "sk-SECRET-0123456789"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"verdict": {"type": "boolean"}, "reason": {"type": "string", "maxLength": 100}},
    "required": ["verdict", "reason"],
    "additionalProperties": False,
}


def settings_of(
    home: Path,
    url: str,
    *,
    judge: dict[str, Any] | None = None,
    embeddings: dict[str, Any] | None = None,
    **section: Any,
) -> Settings:
    """A configuration with a default profile ``main`` of both kinds.

    Args:
        home: The installation's folder.
        url: Of the endpoint.
        judge: What the judge's profile has beside the usual.
        embeddings: The same of the profile that embeds.
        section: What stands in ``judge`` beside the profile.
    """
    usual = {"base_url": url, "model": "large", "models": ["small"], "api_key": KEY, "timeout": 20}
    return Settings(
        home=home,
        judge={"default": "main", "profiles": {"main": {**usual, **(judge or {})}}, **section},
        embeddings={"default": "main", "profiles": {"main": {**usual, **(embeddings or {})}}},
    )


def run(settings: Settings, story: Callable[[JudgeRuntime], Awaitable[T]]) -> T:
    """What a story with a runtime of its own gives."""

    async def told() -> T:
        async with open_judges(settings) as runtime:
            return await story(runtime)

    return asyncio.run(told())


def prompt(text: str = "Is it so?", version: str = "1") -> Prompt:
    return Prompt("You judge.", text, version)


async def ask(
    runtime: JudgeRuntime, text: str = "Is it so?", *, usage: Usage | None = None, vote: int = 0, **session: Any
) -> Any:
    """The answer of a session of its own, or the error."""
    judge = runtime.session(**session).judge
    assert judge is not None
    try:
        return await judge.ask(prompt(text), SCHEMA, usage=usage or Usage(), vote=vote)
    except AutoScorerError as error:
        return error
