"""What a job gets: the models that it names, and nothing where nothing is configured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.judge.runtime import JudgeRuntime

from ...support.judges import KEY, ask, run
from ...support.stub_judge import StubJudge
from ...support.stub_judge import stub as stub


def settings(home: Path, url: str = "http://judge.example/v1") -> Settings:
    profile = {"base_url": url, "api_key": KEY}
    return Settings(
        home=home,
        judge={
            "default": "second",
            "profiles": {
                "first": {**profile, "model": "large", "models": ["both"]},
                "second": {**profile, "model": "small", "models": ["both", "first"]},
            },
        },
        embeddings={"profiles": {"vectors": {**profile, "model": "v"}}},
    )


def chosen(home: Path, **session: Any) -> Any:
    async def story(runtime: JudgeRuntime) -> Any:
        found = runtime.session(**session)
        return [(each.name, each.model) for each in (found.judge, found.embedder) if each is not None]

    return run(settings(home), story)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, ("second", "small")),
        ("first", ("first", "large")),  # a profile before a model
        ("large", ("first", "large")),
        ("both", ("second", "both")),  # the default one first
    ],
)
def test_a_profile_or_a_model_of_one_is_named(home: Path, name: str | None, expected: tuple[str, str]) -> None:
    assert chosen(home, judge=name) == [expected]


def test_what_is_not_the_default_is_there_when_it_is_asked_for(home: Path) -> None:
    assert chosen(home, embeddings="vectors") == [("second", "small"), ("vectors", "v")]


@pytest.mark.parametrize("name", ["other", "", "http://evil.example/v1", KEY])
def test_an_unknown_name_is_told_the_names_that_there_are_and_nothing_else(home: Path, name: str) -> None:
    for kind, there in (("judge", "first (large, both); second (small, both, first)"), ("embeddings", "vectors (v)")):
        with pytest.raises(AutoScorerError) as caught:
            chosen(home, **{kind: name})
        error = caught.value
        assert (error.code, error.details) == (ErrorCode.BAD_PARAMS, {"params": [kind]})
        assert error.message == f"{kind}: {name!r} is no profile here and no model of one. There are: {there}."


def test_without_configuration_there_is_no_judge_and_nothing_is_written(home: Path) -> None:
    async def story(runtime: JudgeRuntime) -> Any:
        session = runtime.session()
        return session.judge, session.embedder

    assert run(Settings(home=home), story) == (None, None)
    assert list(home.iterdir()) == []


def test_many_jobs_share_one_runtime(home: Path, stub: StubJudge) -> None:
    async def story(runtime: JudgeRuntime) -> list[Any]:
        return [await ask(runtime, f"{number}?", judge=name) for number in range(3) for name in ("first", "second")]

    assert all(isinstance(answer, dict) for answer in run(settings(home, stub.url), story))
    assert [body["model"] for body in stub.bodies] == ["large", "small"] * 3


def test_importing_it_imports_no_client_of_http() -> None:
    code = (
        "import sys, autoscorer.scorers.judge.runtime; "
        "print([name for name in ('aiohttp', 'httpx', 'numpy', 'pandas') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
