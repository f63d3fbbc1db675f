"""The metrics that need no judge: cases worked out by hand, in English and in Chinese, and what always holds."""

from __future__ import annotations

import random
from itertools import permutations
from unicodedata import normalize

import pytest
from autoscorer.scorers.rag.catalogue import METRICS
from autoscorer.scorers.rag.sample import Sample, Undefined
from hypothesis import given, settings
from hypothesis import strategies as st

from ...support.examples import examples

FREE_METRICS = {name: info for name, info in METRICS.items() if info.is_free}

# metric, answer, ground truth, expected
BY_TRUTH = [
    ("exact_match", "The Eiffel Tower!", "eiffel tower", 1),
    ("exact_match", "Eiffel", "Eiffel Tower", 0),
    ("exact_match", "3.14", "314", 0),
    ("exact_match", "-5", "5", 0),
    ("exact_match", "1,000", "1000", 1),
    ("exact_match", "A.", "A", 1),  # a choice, not an article
    ("exact_match", "", "A", 0),
    ("exact_match", "北京 大学。", "北京大学", 1),
    ("exact_match", "北京", "东京", 0),
    # Of 5 and 5 tokens without the article, all 5 are common: 2·5 / (5 + 5).
    ("token_f1", "The capital of France is Paris.", "Paris is the capital of France", 1),
    # two, red: 2·2 / (3 + 6)
    ("token_f1", "two red apples", "one red apple and two pears", 4 / 9),
    # One "no" of three has a partner: 2·1 / (3 + 1).
    ("token_f1", "no no no", "no", 1 / 2),
    # 是, 首, 都: 2·3 / (5 + 5)
    ("token_f1", "北京是首都", "首都是上海", 3 / 5),
    # 苹, 果 and python: 2·3 / (4 + 4)
    ("token_f1", "苹果，Python 3", "苹果 python ２", 3 / 4),
    ("token_f1", "", "北京", 0),
    # "the capital of france", 4 of 6 and of 6
    ("rouge_l", "The capital of France is Paris.", "Paris is the capital of France", 4 / 6),
    # "a c", P = 2/2, R = 2/3: 2·(2/3) / (5/3)
    ("rouge_l", "a c", "a b c", 4 / 5),
    # 首都 (or 是), P = 2/5, R = 2/5
    ("rouge_l", "北京是首都", "首都是上海", 2 / 5),
    # 北京是首都, P = 5/5, R = 5/8: 2·(5/8) / (13/8)
    ("rouge_l", "北京是首都。", "北京是中国的首都", 10 / 13),
    ("rouge_l", "…", "北京", 0),
    # n = 1: a, b, 2/3; n = 2: ab, 1/2; n = 3: 0. P = R = (2/3 + 1/2 + 0) / 3.
    ("chrf", "abc", "abd", 7 / 18),
    # n = 1: P = 2/2, R = 2/3; n = 2: P = 1/1, R = 1/2; no n = 3. P = 1, R = 7/12: 5·(7/12) / (4 + 7/12).
    ("chrf", "北京", "北京市", 7 / 11),
    ("chrf", "a b", "ab", 1),
    ("chrf", "A", "a", 0),
    ("chrf", "", "北京", 0),
    ("string_presence", "It is in the city of Paris, I think.", "Paris", 1),
    ("string_presence", "It was the Eiffel Tower.", "Eiffel tower", 1),
    ("string_presence", "We had a party", "art", 0),
    ("string_presence", "about 3.14 or so", "3", 0),
    ("string_presence", "about 3.14 or so", "3.14", 1),
    ("string_presence", "中国的首都是北京。", "北京", 1),
    ("string_presence", "中国的首都是北京。", "东京", 0),
    ("string_presence", "", "Paris", 0),
]

PARIS = "Paris is the capital of France. It lies on the Seine."
BEIJING = "北京是中国的首都。人口两千万。"
# Of the units {paris capital france} and {lies seine} they have 0 and 1; 1 and 0; 2 and 0.
OF_PARIS = ("The Seine is a river.", "The capital of Spain", "Paris, France")
# Of the units {北京 中国 首都} and {人口 口两 两千 千万} they have 1 and 0; 2 and 0.
OF_BEIJING = ("上海是中国的城市", "首都北京")

# answer, contexts, expected
GROUNDED = [
    # paris, 3.5, million, people: all but 3.5, although a 3 and a 5 are there
    ("Paris has 3.5 million people", ("Paris: 3 million people, 5 parts",), 3 / 4),
    # rome, capital, france: one context has the first, another one the others
    ("Rome is the capital of France", ("Rome fell", "the capital of France"), 1),
    # Madrid and Spain are in none, and "is in" counts for nothing.
    ("Madrid is in Spain", ("It is in the south",), 0),
    # paris, paris, rome
    ("Paris! Paris or Rome?", ("Paris",), 2 / 3),
    # 北京 京人 人口 2189 万: all but 京人
    ("北京人口2189万", ("北京的人口有2189万。",), 4 / 5),
    ("南京", ("京南，南方，北京",), 0),
    ("It is.", ("Yes, it is so",), 1),
    ("Paris", ("",), 0),
]

# contexts, ground truth, precision, recall
HELD = [
    # v = 1 0 1: (1/1 + 2/3) / 2; both units are held.
    (OF_PARIS, PARIS, 5 / 6, 1),
    # v = 0 1: (1/2) / 1; the second unit is in none.
    (OF_PARIS[1:], PARIS, 1 / 2, 1 / 2),
    (OF_PARIS[:0:-1], PARIS, 1, 1 / 2),
    (("", "Rome"), PARIS, 0, 0),
    # v = 0 1
    (OF_BEIJING, BEIJING, 1 / 2, 1 / 2),
    # v = 0 1 1: (1/2 + 2/3) / 2
    ((*OF_BEIJING, "有两千万人口"), BEIJING, 7 / 12, 1),
    # The characters of a unit are there, but none of its pairs.
    (("京北国中都首",), "北京是中国的首都", 0, 0),
]


def score(name: str, sample: Sample) -> float:
    return FREE_METRICS[name].function()(sample)


@pytest.mark.parametrize(("name", "answer", "truth", "expected"), BY_TRUTH)
def test_an_answer_is_compared_with_the_ground_truth(name, answer, truth, expected):
    assert score(name, Sample(answer=answer, ground_truth=truth)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("answer", "contexts", "expected"), GROUNDED)
def test_an_answer_is_looked_for_in_its_contexts(answer, contexts, expected):
    sample = Sample(answer=answer, contexts=contexts)
    assert score("grounded_token_ratio", sample) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("contexts", "truth", "precision", "recall"), HELD)
def test_the_ground_truth_is_looked_for_in_the_contexts(contexts, truth, precision, recall):
    sample = Sample(contexts=contexts, ground_truth=truth)
    assert score("nonllm_context_precision", sample) == pytest.approx(precision, abs=1e-12)
    assert score("nonllm_context_recall", sample) == pytest.approx(recall, abs=1e-12)


@pytest.mark.parametrize("nothing", ["", " \n", "\u3000"])
@pytest.mark.parametrize("name", FREE_METRICS)
def test_without_anything_to_count_a_metric_is_undefined_and_never_nought(name, nothing):
    needs = FREE_METRICS[name].needs
    counted = "ground_truth" if "ground_truth" in needs else "answer"
    sample = Sample(**{"answer": "Paris", "contexts": ("Paris",), "ground_truth": "Paris", counted: nothing})
    with pytest.raises(Undefined, match="has n"):
        score(name, sample)


@pytest.mark.parametrize("name", [name for name in FREE_METRICS if name != "chrf"])
def test_signs_are_nothing_to_count_but_for_chrf(name):
    assert value("chrf", Sample(answer="?!", ground_truth="!?")) == pytest.approx(1 / 2)
    assert value(name, Sample(answer="?!", contexts=("?!",), ground_truth="!?")) is None


@pytest.mark.parametrize("name", FREE_METRICS)
def test_an_input_that_is_not_there_makes_a_metric_undefined_and_never_nought(name):
    whole = {"answer": "Paris", "contexts": ("Paris",), "ground_truth": "Paris"}
    score(name, Sample(**whole))
    for missing in FREE_METRICS[name].needs:
        with pytest.raises(Undefined, match=r"given\.$"):
            score(name, Sample(**{**whole, missing: None}))
    # And it looks at no others.
    score(name, Sample(**{needed: whole[needed] for needed in FREE_METRICS[name].needs}))


@pytest.mark.slow
def test_rouge_l_of_texts_of_100_000_characters():
    """A table of their tokens would have 10^10 cells."""
    rng = random.Random(5)
    truth = [chr(rng.randrange(0x4E00, 0x4E00 + 3000)) for _ in range(100_000)]
    answer = [character for place, character in enumerate(truth) if place % 10]
    # P = 1, R = 0.9
    assert score("rouge_l", Sample(answer="".join(answer), ground_truth="".join(truth))) == pytest.approx(1.8 / 1.9)


def test_rouge_l_of_many_different_tokens():
    characters = [chr(code) for code in range(0x4E00, 0x4E00 + 20_000)]
    sample = Sample(answer="".join(characters), ground_truth="".join(reversed(characters)))
    assert score("rouge_l", sample) == pytest.approx(1 / 20_000)


# Words that occur again, so that texts have something in common, among any characters at all.
WORDS = st.sampled_from(
    ["Paris", "the", "is", "3.14", "-5", "北京", "的", "首都", "U.S.", "。", ". ", "\n", " ", "é", "，"]
)
TEXTS = st.lists(WORDS | st.text(max_size=4), max_size=12).map("".join) | st.lists(WORDS, max_size=12).map(" ".join)
CONTEXTS = st.lists(TEXTS, min_size=1, max_size=4).map(tuple)


def value(name: str, sample: Sample) -> float | None:
    try:
        return score(name, sample)
    except Undefined:
        return None


@settings(max_examples=examples(200))
@given(TEXTS, CONTEXTS, TEXTS)
def test_every_value_is_from_0_to_1(answer, contexts, truth):
    sample = Sample(answer=answer, contexts=contexts, ground_truth=truth)
    for name in FREE_METRICS:
        found = value(name, sample)
        assert found is None or 0 <= found <= 1, name


@settings(max_examples=examples(200))
@given(TEXTS)
def test_equal_texts_have_1(text):
    sample = Sample(answer=text, contexts=(text,), ground_truth=text)
    assert {value(name, sample) for name in FREE_METRICS} <= {1.0, None}


@settings(max_examples=examples(200))
@given(TEXTS, TEXTS)
def test_answer_and_ground_truth_may_be_exchanged_where_order_and_length_count_alike(one, other):
    for name in ("exact_match", "token_f1", "rouge_l"):
        forth = value(name, Sample(answer=one, ground_truth=other))
        back = value(name, Sample(answer=other, ground_truth=one))
        # A text without tokens is 0 as an answer, and undefined as the ground truth.
        assert forth is None or (back or 0.0) == pytest.approx(forth)


@settings(max_examples=examples(200))
@given(TEXTS, TEXTS)
def test_a_match_is_present_and_has_all_tokens(answer, truth):
    sample = Sample(answer=answer, ground_truth=truth)
    if value("exact_match", sample):
        assert (value("string_presence", sample), value("token_f1", sample)) == (1, 1)


@settings(max_examples=examples(100))
@given(TEXTS, CONTEXTS, TEXTS)
def test_the_order_of_contexts_matters_for_precision_alone(answer, contexts, truth):
    for name in ("grounded_token_ratio", "nonllm_context_recall"):
        orders = permutations(contexts)
        assert len({value(name, Sample(answer=answer, contexts=order, ground_truth=truth)) for order in orders}) == 1


@settings(max_examples=examples(100))
@given(TEXTS, TEXTS)
def test_the_way_that_a_text_is_encoded_changes_nothing(answer, truth):
    for name in ("exact_match", "token_f1", "rouge_l", "string_presence"):
        values = {value(name, Sample(answer=normalize(form, answer), ground_truth=truth)) for form in ("NFC", "NFD")}
        assert len(values) == 1
