"""Vectors of texts: in batches, each text once, the same whether they were kept or asked for."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.scorers.judge.runtime import JudgeRuntime
from autoscorer.scorers.judge.usage import Usage

from ...support.judges import run, settings_of
from ...support.stub_judge import Faults, StubJudge
from ...support.stub_judge import stub as stub

TEXTS = ["one", "two", "三", "one", ""]


def embedded(settings: Settings, texts: list[str], usage: Usage | None = None) -> Any:
    async def story(runtime: JudgeRuntime) -> Any:
        embedder = runtime.session().embedder
        assert embedder is not None
        try:
            return await embedder.embed(texts, usage=usage or Usage())
        except AutoScorerError as error:
            return error

    return run(settings, story)


def test_vectors_come_in_the_order_of_the_texts_and_equal_texts_are_asked_for_once(home: Path, stub: StubJudge) -> None:
    usage = Usage()
    settings = settings_of(home, stub.url, embeddings={"price": {"prompt": 1_000_000}})
    vectors = embedded(settings, TEXTS, usage)
    assert [body["input"] for body in stub.bodies] == [["one", "two", "三", ""]]
    assert stub.bodies[0]["model"] == "large"
    assert vectors[0] == vectors[3] != vectors[1] and len({len(vector) for vector in vectors}) == 1
    assert all(math.isclose(sum(x * x for x in vector), 1) for vector in vectors)
    assert usage == Usage(calls=1, prompt_tokens=1, cost=1.0)
    again = Usage()
    assert embedded(settings, TEXTS[::-1], again) == vectors[::-1]
    assert stub.calls == 1 and again == Usage(cached=4)


def test_many_texts_go_in_batches_and_only_those_that_are_missing(home: Path, stub: StubJudge) -> None:
    settings = settings_of(home, stub.url, embeddings={"batch": 3})
    texts = [f"text {number}" for number in range(7)]
    vectors = embedded(settings, texts)
    assert sorted(len(body["input"]) for body in stub.bodies) == [1, 3, 3]
    assert embedded(settings, [*texts, "new"])[:7] == vectors
    assert stub.bodies[-1]["input"] == ["new"]


def test_vectors_in_base64_are_the_same(home: Path, stub: StubJudge) -> None:
    plain = embedded(settings_of(home, stub.url, cache=0), TEXTS)
    stub.base64_vectors = True
    packed = embedded(settings_of(home, stub.url, cache=0), TEXTS)
    for one, other in zip(plain, packed, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_no_texts_need_no_call(home: Path, stub: StubJudge) -> None:
    assert embedded(settings_of(home, stub.url), []) == [] and stub.calls == 0


def test_equal_batches_at_the_same_time_are_one_call(home: Path, stub: StubJudge) -> None:
    stub.latency = 0.1

    async def two(runtime: JudgeRuntime) -> list[Any]:
        embedder = runtime.session().embedder
        assert embedder is not None
        return await asyncio.gather(*(embedder.embed(["a", "b"], usage=Usage()) for _ in range(3)))

    one, other, third = run(settings_of(home, stub.url, cache=0), two)
    assert one == other == third and stub.calls == 1


def test_half_of_a_surrogate_pair_is_no_reason_to_fail(home: Path, stub: StubJudge) -> None:
    assert len(embedded(settings_of(home, stub.url), ["\ud800 x"])) == 1


def vectors(stub: StubJudge, *vectors: Any, **others: Any) -> None:
    """Have the stub answer with these."""
    data = [{"index": index, "embedding": vector, **others} for index, vector in enumerate(vectors)]
    stub.data = lambda texts: data


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (([1.0], [1.0, 2.0]), "differ in their lengths"),
        (([1.0],), "expected 2 vectors"),
        (([1.0], []), "empty or not finite"),
        (([1.0], "AADAfw=="), "empty or not finite"),
        (([1.0], ["x"]), "no list of numbers"),
        (([1.0], None), "no list of numbers"),
        (([1.0], "!!!"), "no list of numbers"),
        (([1.0], "AAAA"), "no list of numbers"),
    ],
)
def test_vectors_that_can_not_be_used_are_a_bad_answer(
    home: Path, stub: StubJudge, answer: tuple[Any, ...], words: str
) -> None:
    vectors(stub, *answer)
    error = embedded(settings_of(home, stub.url), ["a", "b"])
    assert isinstance(error, AutoScorerError) and error.details["reason"] == "bad_answer" and words in error.message


def test_vectors_with_wrong_numbers_are_a_bad_answer(home: Path, stub: StubJudge) -> None:
    vectors(stub, [1.0], [2.0], index=0)
    assert "not numbered" in str(embedded(settings_of(home, stub.url), ["a", "b"]))


def test_one_batch_that_fails_does_not_lose_the_others(home: Path, stub: StubJudge) -> None:
    settings = settings_of(home, stub.url, embeddings={"batch": 1, "max_attempts": 1})
    stub.faults = Faults(server_error=0.5)
    texts = [f"text {number}" for number in range(12)]
    error = embedded(settings, texts)
    assert isinstance(error, AutoScorerError) and error.details["reason"] == "server_error"
    good = stub.statuses.count(200)
    stub.faults = Faults()
    assert 0 < good < 12 and len(embedded(settings, texts)) == 12
    assert stub.calls == 12 + 12 - good
