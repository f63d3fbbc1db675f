"""The metrics that others define give what the others' own programs give."""

from __future__ import annotations

import random
import re
import string
from collections import Counter

import pytest
from autoscorer.scorers.rag.chrf import chrf
from autoscorer.scorers.rag.overlap import exact_match, token_f1
from autoscorer.scorers.rag.rouge import rouge_l
from autoscorer.scorers.rag.sample import Sample, Undefined
from autoscorer.scorers.rag.words import runs
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics import CHRF

PAIRS = 2000
ENGLISH = "the a an Paris is Capital of France well-known it's U.S. 3.14 don't e-mail (sic) river Seine's? no! to lies"
CHINESE = "北京 是 中国 的 首都 ， 。 、 人口 2189 万 ３．５ 《长城》 不 上海 位于 “东部” 京"
OTHER = "ﬁne Ⅳ naïve STRASSE straße हिन्दी Київ コンピューター ひらがな 한국어 ไทย ☃ ❤️ ½ co\u00adop \u200b"
MIXED = f"{ENGLISH} {CHINESE} {OTHER}"
ASCII = ((ENGLISH, " "),)
ANY = ((ENGLISH, " "), (CHINESE, ""), (MIXED, " "), (MIXED, ""))
SIGNS = [*string.punctuation, " ", "\t", "\n", "。", "，", "！", "…", "—", "\u3000"]


def a_text(rng: random.Random, words: str, between: str) -> str:
    return between.join(rng.choices(words.split(), k=rng.randrange(1, 25)))


def a_pair(rng: random.Random, kinds: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """Two texts of one kind; half the time the second is the first with words lost, and some of those moved."""
    words, between = rng.choice(kinds)
    one, other = a_text(rng, words, between), a_text(rng, words, between)
    if rng.random() < 0.1:
        signs = [sign for sign in SIGNS if sign.isascii() or kinds is ANY]
        one = rng.choice(("", " ", "".join(rng.choices(signs, k=5))))
    if rng.random() < 0.5:
        kept = [piece for piece in re.split(r"(\W+)", one) if rng.random() < 0.8]
        if rng.random() < 0.3:
            rng.shuffle(kept)
        other = "".join(kept)
    return (one, other) if rng.random() < 0.5 else (other, one)


def pairs(kinds: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    rng = random.Random(11)
    return [a_pair(rng, kinds) for _ in range(PAIRS)]


class OurTokens(Tokenizer):
    def tokenize(self, text: str) -> list[str]:
        return runs(text)


def ours(metric, answer: str, truth: str) -> float | None:
    try:
        return metric(Sample(answer=answer, ground_truth=truth))
    except Undefined:
        return None


@pytest.mark.parametrize(
    ("reference", "kinds"),
    [
        pytest.param(RougeScorer(["rougeL"], use_stemmer=False), ASCII, id="its own tokens of ASCII"),
        pytest.param(RougeScorer(["rougeL"], tokenizer=OurTokens()), ANY, id="our tokens of any text"),
    ],
)
def test_rouge_l_is_that_of_rouge_score(reference, kinds):
    defined = 0
    for answer, truth in pairs(kinds):
        value = ours(rouge_l, answer, truth)
        expected = reference.score(truth, answer)["rougeL"].fmeasure
        if value is None:
            assert (runs(truth), expected) == ([], 0)
        else:
            assert value == expected, (answer, truth)
            defined += 1
    assert defined > PAIRS * 0.8


def test_chrf_is_that_of_sacrebleu():
    reference = CHRF()
    defined = 0
    for answer, truth in pairs(ANY):
        value = ours(chrf, answer, truth)
        expected = reference.sentence_score(answer, [truth]).score / 100
        if value is None:
            assert (truth.split(), expected) == ([], 0)
        else:
            assert value == pytest.approx(expected, rel=1e-12, abs=0), (answer, truth)
            defined += 1
    assert defined > PAIRS * 0.8


def squad_normalised(text: str) -> str:
    """As SQuAD's evaluation of version 1.1 has it."""
    without_signs = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", without_signs).split())


def squad_f1(answer: str, truth: str) -> float:
    one, other = squad_normalised(answer).split(), squad_normalised(truth).split()
    same = sum((Counter(one) & Counter(other)).values())
    if not same:
        return 0.0
    precision, recall = same / len(one), same / len(other)
    return 2 * precision * recall / (precision + recall)


def test_of_ascii_text_exact_match_and_token_f1_are_those_of_squad_but_for_numbers_and_lone_articles():
    compared = 0
    for answer, truth in pairs(ASCII):
        # A sign beside a digit may belong to a number, and a text of articles alone keeps them.
        if any(re.search(r"\d[!-/:-@[-`{-~]|[!-/:-@[-`{-~]\d", text) for text in (answer, truth)):
            continue
        if not squad_normalised(answer) or not squad_normalised(truth):
            continue
        assert ours(token_f1, answer, truth) == pytest.approx(squad_f1(answer, truth), rel=1e-12), (answer, truth)
        assert ours(exact_match, answer, truth) == (squad_normalised(answer) == squad_normalised(truth)), (
            answer,
            truth,
        )
        compared += 1
    assert compared > PAIRS * 0.3
