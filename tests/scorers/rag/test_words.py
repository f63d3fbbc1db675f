"""Tokens, terms and sentences: what counts as one, in scripts with spaces and without."""

from __future__ import annotations

import pytest
from autoscorer.scorers.rag.words import joined_tokens, occurring, runs, terms, tokens, units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat; the DOG!", "the cat the dog"),
        ("Paris's well-known café", "paris s well known café"),
        ("Paris’s well‑known cafe\u0301", "paris s well known café"),
        ("北京是首都。", "北 京 是 首 都"),
        ("支持Python、Java和Go１．２", "支 持 python java 和 go1 2"),
        ("apple，pear", "apple pear"),
        ("ﬁne STRASSE Straße Ⅳ", "fine strasse strasse iv"),
        ("カタカナ ひらがな 한국어 ไทย", "カ タ カ ナ ひ ら が な 한국어 ไ ท ย"),
        ("हिन्दी में", "हिन्दी में"),
        ("co\u00adoperate ❤️ ✔ 1️⃣ ´", "cooperate 1"),
        ("…—!?。，《》“”", ""),
        ("", ""),
    ],
)
def test_a_token_is_a_run_of_letters_or_one_character_of_an_unspaced_script(text, expected):
    assert tokens(text) == expected.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.14", "3.14"),
        ("1,000 and 1,234,567.5", "1000 and 1234567.5"),
        ("1,2345 or 1,2", "1 2345 or 1 2"),
        ("x=-5, −5 °C, (–5)", "x -5 -5 c -5"),
        ("10-20, 2024-01-02, 12:30, 12/25", "10 20 2024 01 02 12 30 12 25"),
        ("It is 3. .5 is half ...5", "it is 3 .5 is half 5"),
        ("COVID-19 v1.2 3d 5km", "covid 19 v1 2 3d 5km"),
        ("温度是-5度，第3.2节，３．１４亿，3-5度", "温 度 是 -5 度 第 3.2 节 3.14 亿 3 5 度"),
        ("1．5%", "1.5"),
    ],
)
def test_a_number_is_one_token_with_its_point_and_its_minus(text, expected):
    assert tokens(text) == expected.split()


def test_joined_tokens_lose_signs_as_squad_does_but_for_those_of_numbers():
    expected = "the us dont email 1000 3.14 10 20 苹 果 梨"
    assert joined_tokens("The U.S. don't e-mail 1,000; 3.14 10-20 苹果，梨") == expected.split()


def test_runs_part_numbers_as_rouge_does():
    assert runs("3.14 don't -5 北京") == ["3", "14", "don", "t", "5", "北", "京"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The capital of France is not Rome", "capital france not rome"),
        ("It's 3.5 million", "3.5 million"),
        ("北京是中国的首都", "北京 中国 首都"),
        ("北京大学", "北京 京大 大学"),
        ("北京。大学 生", "北京 大学 生"),
        ("用Python写", "用 python 写"),
        ("It is the", "it is the"),
        ("是的", "是 的"),
        ("!", ""),
    ],
)
def test_a_term_is_a_word_that_says_something_or_a_pair_of_characters(text, expected):
    assert terms(text) == expected.split()


def test_a_single_character_is_found_in_a_text_that_has_it_among_others():
    assert set(terms("水")) <= occurring("喝水")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pi is 3.14. Is it? Yes! ok; v1.2", ["Pi is 3.14", "Is it", "Yes", "ok", "v1.2"]),
        ("Fruit, e.g. pears. Dr. J. Smith ate some.", ["Fruit, e.g. pears", "Dr. J. Smith ate some"]),
        ('He said "no." (Really!) Then he went', ['He said "no', "(Really", "Then he went"]),
        ("1. Foo\n2. Bar\n\n\n", ["1. Foo", "2. Bar"]),
        ("北京是首都。上海呢？对；3.14！好", ["北京是首都", "上海呢", "对", "3.14", "好"]),
        ("他说：“好。”我走了.她来了", ["他说：“好", "我走了", "她来了"]),
        ("https://a.b/c?d=1;e", ["https://a.b/c?d=1;e"]),
        ("No end", ["No end"]),
        (" \n。 !", []),
        ("", []),
    ],
)
def test_a_unit_is_a_sentence(text, expected):
    assert units(text) == expected


@pytest.mark.parametrize("hostile", [".", "1,111", '."', "a.", "1.1", ". ", "-", "\u0301", "。”", "1.\n", " e.g. "])
def test_no_text_takes_long(hostile):
    """What tries each start anew would not end here."""
    text = hostile * (200_000 // len(hostile)) + "x"
    assert len(units(text)) + len(tokens(text)) + len(terms(text)) > 0
