"""Schemas of answers: bounded, of few keywords, and checked strictly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from autoscorer.scorers.judge.schema import Schema, compiled, parsed

WHOLE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "claims": {
            "type": "array",
            "maxItems": 2,
            "items": {"type": "string", "maxLength": 5, "description": "A claim."},
        },
        "kind": {"type": "string", "enum": ["yes", "no"]},
        "sure": {"type": "boolean"},
    },
    "required": ["claims", "kind", "sure"],
    "additionalProperties": False,
}
GOOD = {"claims": ["a"], "kind": "yes", "sure": True}


def test_an_answer_that_follows_the_schema_has_no_problem() -> None:
    assert Schema(WHOLE).problem(GOOD) is None
    assert Schema(WHOLE).problem({**GOOD, "claims": []}) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "must be an object"),
        (None, "must be an object"),
        ({}, "lacks claims, kind, sure"),
        ({**GOOD, "more": 1}, "may hold nothing but claims, kind, sure"),
        ({**GOOD, "claims": "a"}, "claims must be a list"),
        ({**GOOD, "claims": ["a", "b", "c"]}, "must hold 0 to 2 items, not 3"),
        ({**GOOD, "claims": ["a", 1]}, "claims[1] must be text"),
        ({**GOOD, "claims": ["abcdef"]}, "at most 5 characters, not 6"),
        ({**GOOD, "claims": ["\ud800"]}, "half of a surrogate pair"),
        ({**GOOD, "kind": "maybe"}, "must be one of yes, no"),
        ({**GOOD, "sure": 1}, "sure must be true or false"),
        ({**GOOD, "sure": "true"}, "sure must be true or false"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(value: Any, words: str) -> None:
    assert words in str(Schema(WHOLE).problem(value))


@pytest.mark.parametrize(
    ("where", "change", "words"),
    [
        ((), {"additionalProperties": True}, "no others allowed"),
        ((), {"required": ["claims"]}, "all properties are required"),
        ((), {"type": "array", "items": {}, "maxItems": 1}, "no keyword that is known"),
        ((), {"oneOf": []}, "oneOf is no keyword"),
        (("properties", "claims"), {"maxItems": None}, "maxItems is missing"),
        (("properties", "claims"), {"minItems": 3}, "minItems <= maxItems"),
        (("properties", "claims", "items"), {"maxLength": None}, "either maxLength or enum"),
        (("properties", "claims", "items"), {"pattern": "a"}, "pattern is no keyword"),
        (("properties", "kind"), {"enum": []}, "enum is a list of texts"),
        (("properties", "kind"), {"maxLength": 3}, "either maxLength or enum"),
        (("properties", "sure"), {"type": "number"}, "a type of object, string, boolean, array is needed"),
        (("properties", "sure"), {"type": ["boolean", "null"]}, "a type of"),
    ],
)
def test_a_schema_without_bounds_or_with_other_keywords_is_refused(
    where: tuple[str, ...], change: dict[str, Any], words: str
) -> None:
    schema = copy.deepcopy(WHOLE)
    part = schema
    for name in where:
        part = part[name]
    for name, value in change.items():
        if value is None:
            del part[name]
        else:
            part[name] = value
    with pytest.raises(ValueError, match=words):
        Schema(schema)


def test_an_answer_is_an_object() -> None:
    with pytest.raises(ValueError, match="an answer is an object"):
        Schema({"type": "boolean"})


def test_the_schema_without_lengths_is_the_same_but_for_them() -> None:
    plain = Schema(WHOLE).without_lengths
    assert "maxLength" not in str(plain) and plain["properties"]["claims"]["maxItems"] == 2


def test_a_property_may_be_called_as_a_keyword_is() -> None:
    schema = {
        "type": "object",
        "properties": {"maxLength": {"type": "string", "maxLength": 3}},
        "required": ["maxLength"],
        "additionalProperties": False,
    }
    assert Schema(schema).without_lengths["properties"] == {"maxLength": {"type": "string"}}


def test_equal_schemas_are_compiled_once() -> None:
    assert compiled(WHOLE) is compiled(copy.deepcopy(WHOLE))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": NaN}', "NaN is no JSON value"),
        ('{"a": Infinity}', "Infinity"),
        ('{"a": 1, "a": 2}', "a key appears twice"),
        ('{"a": {"b": 1, "b": 1}}', "a key appears twice"),
        ('{"a": 1} {"a": 2}', "not one JSON value"),
        ('```json\n{"a": 1}\n```', "not one JSON value"),
        ("{", "not one JSON value"),
        ("", "not one JSON value"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_is_read_strictly(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed(text, loose=False)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"b": 1}}',
        '```json\n{"a": {"b": 1}}\n```',
        '```\n{"a": {"b": 1}}\n```',
        'Here {as asked} it is: {"a": {"b": 1}} I hope so.',
        '<think>{"a": 2} or so</think>\n{"a": {"b": 1}}',
    ],
)
def test_one_object_may_stand_in_text(text: str) -> None:
    assert parsed(text, loose=True) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1} or {"a": 2}', "more than one"),
        ("yes", "no JSON object"),
        ('It is {"a": NaN}', "NaN"),
        ('It is {"a": 1, "a": 2}', "twice"),
        ("x" + '{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_but_one_alone_and_a_strict_one(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed(text, loose=True)
