"""Calibrations: labels read, judged over real HTTP by a stub of a server, kept, and found for the very judge alone."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.calibration import Calibration, Pair
from autoscorer.scorers.judge.runtime import open_judges
from autoscorer.scorers.rag import calibration as module
from autoscorer.scorers.rag.calibration import Calibrations, calibrate, calibration_key
from autoscorer.scorers.rag.catalogue import METRICS
from autoscorer.scorers.rag.dataset import Dataset, Item
from autoscorer.scorers.rag.labels import Labels, read_labels
from autoscorer.scorers.rag.run import models_of
from autoscorer.scorers.rag.sample import Sample
from autoscorer.scorers.rag.templates import Template, prompt_digests

from ...support.stub_judge import Faults, StubJudge
from ...support.stub_judge import stub as stub
from .test_judged_metrics import configured, judging

# Answers of one claim each: the judge is right about the first two, too kind to the third, too strict with the fourth.
ANSWERS = {"A is one.": True, "B is two.": False, "C is three.": False, "D is four.": True}
ACCEPTED = {"A is one.", "C is three."}


def line(answer: str, label: Any, metric: str = "faithfulness", **more: Any) -> str:
    sample = {"question": "What?", "answer": answer, "contexts": ["one"], **more}
    return json.dumps({"sample": sample, "metric": metric, "label": label})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(line(answer, label) for answer, label in ANSWERS.items()))
    return path


def calibrated(settings: Settings, labels: Labels, **more: Any) -> list[Calibration]:
    return asyncio.run(calibrate(labels, settings, **more))


def key_of(settings: Settings, metric: str = "faithfulness", votes: int | None = None, judge: Any = None) -> Any:
    async def found() -> Any:
        async with open_judges(settings) as runtime:
            return calibration_key(metric, models_of(runtime, judge, None, votes, None))

    return asyncio.run(found())


def test_a_judge_is_held_against_labels_and_what_came_of_it_is_kept_whole(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, file: Path
) -> None:
    settings = configured(home, monkeypatch, stub)
    stub.answer = judging(ACCEPTED)
    [found] = calibrated(settings, read_labels(file))
    assert [(pair.score, pair.label) for pair in found.pairs] == [(1, True), (0, False), (1, False), (0, True)]
    agreement = found.agreement
    assert (agreement.n, agreement.percent, agreement.cohen_kappa) == (4, 0.5, 0.0)
    assert agreement.sensitivity is not None and agreement.sensitivity.value == 0.5
    assert (found.threshold, found.stability, found.failed, found.undefined) == (0.5, None, 0, 0)
    assert found.holds_for == key_of(settings)
    kept = Calibrations(settings.home)
    path = kept.save(found)
    assert path.parent == home / "calibrations" and path.stem == found.holds_for.digest
    assert kept.find(key_of(settings)) == found and kept.all() == ([found], [])
    # Of the answers themselves it holds nothing, nor of the key.
    assert "A is one" not in path.read_text() and "api_key" not in path.read_text()


def test_another_model_prompt_or_number_of_votes_has_no_calibration(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, file: Path
) -> None:
    settings = configured(home, monkeypatch, stub)
    stub.answer = judging(ACCEPTED)
    [found] = calibrated(settings, read_labels(file))
    kept = Calibrations(home)
    kept.save(found)
    assert kept.find(key_of(settings)) is not None
    for other in (
        key_of(settings, votes=3),
        key_of(settings, judge="small"),
        key_of(settings, judge=["large", "small"]),
        key_of(settings, "context_utilization"),
        key_of(configured(home, monkeypatch, stub, temperature=1)),
    ):
        assert kept.find(other) is None
    # Of another metric's question it does not depend, of its own it does.
    changed = {name: "0" * 64 if name == "context_recall" else digest for name, digest in prompt_digests().items()}
    monkeypatch.setattr(module, "prompt_digests", lambda: changed)
    settings = configured(home, monkeypatch, stub)
    assert kept.find(key_of(settings)) is not None
    for name in ("claims", "faithfulness"):
        monkeypatch.setattr(module, "prompt_digests", lambda name=name: {**changed, name: "0" * 64})
        assert kept.find(key_of(settings)) is None
    # What depends on embeddings depends on which.
    assert key_of(settings, "answer_relevancy").embeddings == "one: small" and key_of(settings).embeddings is None


def test_each_metric_names_all_the_questions_that_it_asks(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, file: Path
) -> None:
    settings = configured(home, monkeypatch, stub)
    stub.answer = judging(ACCEPTED)
    texts = {Template(name).fill({"a": "b"}, chinese=False).system: name for name in prompt_digests()}
    for name, info in METRICS.items():
        if not info.judge:
            assert info.prompts == ()
            continue
        before = stub.calls
        file.write_text(line("A is one.", True, name, ground_truth=f"Of {name}."))
        calibrated(settings, read_labels(file), repeats=2)
        systems = [body["messages"][0]["content"] for body in stub.bodies[before:] if "messages" in body]
        assert {texts[system] for system in systems} == set(info.prompts), name


def test_repeats_ask_anew_and_say_whether_the_verdict_holds(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, file: Path
) -> None:
    settings = configured(home, monkeypatch, stub, temperature=0.7, votes=2)
    asked = itertools.count()

    def moody(prompt: str, schema: Mapping[str, Any]) -> Any:
        # Every other time, of two votes each, the last answer is right.
        is_last = "D is four." in prompt and "claims" not in schema["properties"]
        right = {"D is four."} if is_last and next(asked) // 2 % 2 else ACCEPTED
        return judging(right)(prompt, schema)

    stub.answer = moody
    labels = read_labels(file)
    [found] = calibrated(settings, labels, repeats=4)
    # Per repeat and answer: the claims once, and two votes.
    assert stub.calls == 4 * 4 * 3 and len({body["seed"] for body in stub.bodies}) == 8
    assert found.stability is not None and found.stability.repeats == 4 and found.stability.n == 4
    assert found.stability.unchanged == 3 / 4 and 0 < (found.stability.krippendorff_alpha or 0) < 1
    # The first time is what a scoring would ask as well, and the others are known, too.
    assert calibrated(settings, labels)[0].pairs == found.pairs and stub.calls == 48


def test_what_could_not_be_judged_is_counted_and_no_zero(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, file: Path
) -> None:
    settings = configured(home, monkeypatch, stub, max_attempts=1)

    def answer(prompt: str, schema: Mapping[str, Any]) -> Any:
        if "B is two." in prompt:
            return "nothing"
        return judging(ACCEPTED, silent="C is three." in prompt)(prompt, schema)

    stub.answer = answer
    [found] = calibrated(settings, read_labels(file))
    assert (found.agreement.n, found.failed, found.undefined) == (2, 1, 1)
    stub.faults = Faults(server_error=1)
    file.write_text(line("E is five.", True))
    with pytest.raises(AutoScorerError, match="No labelled answer has a value of faithfulness") as caught:
        calibrated(settings, read_labels(file))
    assert caught.value.code == "JUDGE_ERROR"
    monkeypatch.delenv("AUTOSCORER_JUDGE__DEFAULT")
    with pytest.raises(AutoScorerError, match="No judge is configured"):
        calibrated(load_settings(), read_labels(file))
    # Without embeddings it can't be had, and that is why.
    file.write_text(line("E is five.", 0.5, "answer_relevancy"))
    monkeypatch.delenv("AUTOSCORER_EMBEDDINGS__DEFAULT")
    with pytest.raises(AutoScorerError, match="needs embeddings"):
        calibrated(load_settings(), read_labels(file), judge="one")


def test_labels_may_name_answers_by_id_and_be_numbers(tmp_path: Path) -> None:
    samples = {"2": Sample("What?", "Two.", ("c",), "Two."), "q": Sample("What?", "Q.", ("c",), None)}
    dataset = Dataset([Item(ident, sample) for ident, sample in samples.items()], "", "", 0)
    path = tmp_path / "labels.jsonl"
    rows = [({"id": 2}, 0.25), ({"id": "q"}, 1), ({"question": "W?", "answer": "", "contexts": ["c"]}, 0)]
    lines = [json.dumps({"sample": s, "metric": "faithfulness", "label": label}) for s, label in rows]
    path.write_text("\ufeff" + "\r\n\r\n".join(lines), encoding="utf-8")
    found = read_labels(path, dataset)
    assert [(item.sample, item.label) for item in found.items] == [
        (samples["2"], 0.25),
        (samples["q"], 1),
        (Sample("W?", "", ("c",), None), 0),
    ]
    assert not any(isinstance(item.label, bool) for item in found.items)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it holds no labels"),
        ("{", "labels.jsonl, line 1: the line: Invalid JSON"),
        ("[]", "line 1: the line: Input should be an object"),
        ('{"sample": {}, "metric": "faithfulness"}', "label: expected true, false or a number from 0 to 1"),
        (line("A.", "yes"), "label: expected true, false or a number"),
        (line("A.", 1.5), "label: expected true, false or a number"),
        (line("A.", float("nan")), "label: expected true, false or a number"),
        (line("A.", True, "faithfullness"), "did you mean 'faithfulness'?"),
        (line("A.", True, "token_f1"), "no judge is asked for token_f1"),
        (line("A.", True, contexts=None), "faithfulness needs contexts, which the sample does not have"),
        (line("A.", True, contexts="c"), "sample.contexts: Input should be a valid"),
        (line("A.", True, contexts=[1]), "sample.contexts.0: Input should be a valid string"),
        (line("A.", True, id=1), "expected an id alone"),
        (line("A.", True, comment="x"), "sample.comment: Extra inputs are not permitted"),
        ('{"sample": {"id": 1.0}, "metric": "faithfulness", "label": true}', "sample.id"),
        ('{"sample": {"id": "1"}, "metric": "faithfulness", "label": true}', "say whose it is with --workspace"),
        (line("A.", True) + "\n" + line("B.", 0.5), "line 2: the labels of one metric are all true or false"),
        (line("A.", True) + "\n" + line("A.", False), "line 2: line 1 has a label for the same answer"),
        ('\udcff{"a": 1}', "line 1"),
    ],
)
def test_labels_that_are_wrong_are_refused_with_their_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AutoScorerError) as caught:
        read_labels(path)
    assert expected in caught.value.message, caught.value.message


def test_labels_that_are_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AutoScorerError, match="can't be read: No such file"):
        read_labels(tmp_path / "none.jsonl")
    path = tmp_path / "labels.jsonl"
    path.write_text('{"sample": {"id": "x"}, "metric": "faithfulness", "label": true}')
    with pytest.raises(AutoScorerError, match="no answer with the id 'x'"):
        read_labels(path, Dataset([], "", "", 0))


def test_a_calibration_that_can_not_be_read_counts_as_none_and_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = configured(home, monkeypatch, stub)
    stub.answer = judging(ACCEPTED)
    [found] = calibrated(settings, read_labels(file))
    kept = Calibrations(home)
    assert kept.all() == ([], [])
    path = kept.save(found)
    other = path.with_name("copied.json")
    other.write_text(path.read_text())
    # Under the name of another judge it is no calibration of that one.
    strange = key_of(settings, votes=3)
    (path.parent / f"{strange.digest}.json").write_text(path.read_text())
    assert kept.find(strange) is None
    path.write_text(path.read_text()[:100])
    assert kept.find(found.holds_for) is None and "counts as none" in caplog.text
    assert kept.all()[1] == [path.name]


def test_a_label_that_is_true_stays_true_when_it_was_kept() -> None:
    for label in (True, False, 1.0, 0.0, 0.5):
        again = Pair.model_validate_json(Pair(score=0.5, label=label).model_dump_json())
        assert again.label == label and isinstance(again.label, bool) is isinstance(label, bool)
