"""Requests to score an answer as Dify's HTTP node sends them: a filled template, read as JSON, written as bytes.

How a value becomes text is what langgenius/dify does: an array of texts is JSON, an array of objects is what Python's
``str`` makes of it, an empty array and what is not set are nothing at all. The node reads the filled template leniently
(``strict=False``) and lets httpx write the bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from autoscorer.schemas.rag import ScoreRequest
from pydantic import ValidationError

ASKED = '"question": "What is it?", "answer": "It is."'
# What a node of Dify that retrieves knowledge gives.
FOUND = [
    {"title": "a.md", "content": 'It "is" — 这是\n它。', "metadata": {"score": 0.91, "position": 1}},
    {"title": "b.md", "content": "Another.", "metadata": {"score": 0.4, "position": 2}},
]


def filled(template: str, values: dict[str, Any]) -> bytes:
    """The bytes that the node sends for a template such as ``{"question": "{{question}}"}``."""

    def text(found: re.Match[str]) -> str:
        value = values[found[1]]
        if value is None or value == []:
            return ""
        if isinstance(value, dict) or (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            return json.dumps(value, ensure_ascii=False)
        return str(value)

    body = json.loads(re.sub(r"\{\{(\w+)\}\}", text, template), strict=False)
    return httpx.Request("POST", "http://127.0.0.1/api/score", json=body).content


def sent(template: str, **values: Any) -> ScoreRequest:
    return ScoreRequest.model_validate(json.loads(filled(template, values)))


def by_a_code_node(**values: Any) -> ScoreRequest:
    """As docs/dify.md says: a Code node writes the whole body, and the template holds nothing else."""
    return sent("{{body}}", body=json.dumps(values))


@pytest.mark.parametrize(
    ("written", "value", "expected"),
    [
        ("{{it}}", ["one", '"two"\n二'], ["one", '"two"\n二']),
        ('"{{it}}"', [], None),
        ('"{{it}}"', None, None),
        ("null", None, None),
        ('"{{it}}"', "Only one.", ["Only one."]),
        # A line break is no JSON in a text, and the node lets it pass.
        ('"{{it}}"', "Two\nlines\tof text.", ["Two\nlines\tof text."]),
        ('"{{it}}"', "[1] A passage may begin with a bracket.", ["[1] A passage may begin with a bracket."]),
        ('"{{it}}"', "[unclosed", ["[unclosed"]),
        ('["{{it}}"]', "One of one.", ["One of one."]),
        ("[]", None, []),
        ("{{it}}", {"content": "One object."}, ["One object."]),
        ("[{{it}}]", {"text": "One object."}, ["One object."]),
    ],
)
def test_contexts_come_through_a_template(written: str, value: Any, expected: list[str] | None) -> None:
    assert sent(f'{{{ASKED}, "contexts": {written}}}', it=value).contexts == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (FOUND, [FOUND[0]["content"], FOUND[1]["content"]]),
        (json.dumps(FOUND), [FOUND[0]["content"], FOUND[1]["content"]]),
        (json.dumps(FOUND, ensure_ascii=False, indent=2), [FOUND[0]["content"], FOUND[1]["content"]]),
        (json.dumps(["one", "two"]), ["one", "two"]),
        (json.dumps("one"), ["one"]),
        (json.dumps({"page_content": "one"}), ["one"]),
        ([{"page_content": "a"}, {"text": "b"}, "c"], ["a", "b", "c"]),
    ],
)
def test_contexts_come_from_a_code_node(value: Any, expected: list[str]) -> None:
    assert by_a_code_node(question="Q?", answer="A", contexts=value).contexts == expected


@pytest.mark.parametrize("value", [FOUND[1:], [FOUND[1]["content"], 7]])
def test_a_list_that_a_template_has_made_python_of_is_refused_and_not_scored_as_one_passage(value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        sent(f'{{{ASKED}, "contexts": "{{{{it}}}}"}}', it=value)
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("contexts",) and "json.dumps" in problem["msg"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("contexts", 7),
        ("contexts", True),
        ("contexts", [1]),
        ("contexts", [None]),
        ("contexts", ["a", {"title": "no text"}]),
        ("contexts", '[{"title": "no text"}]'),
        ("contexts", "[1, 2]"),
        ("contexts", ["\0"]),
        ("metrics", [1]),
        ("metrics", 7),
        ("weights", "heavy"),
        ("weights", {"token_f1": -1}),
        ("weights", {"token_f1": 0}),
        ("answer", None),
        ("answer", ["a"]),
        ("answer", "\0"),
        ("question", ""),
        ("ground_truth", 7),
        ("judge_url", "http://example.com"),
    ],
)
def test_what_is_wrong_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        by_a_code_node(**{"question": "Q?", "answer": "A", field: value})
    assert {problem["loc"][0] for problem in caught.value.errors()} == {field}


def test_what_is_not_set_in_a_workflow_is_absent_and_not_an_empty_text() -> None:
    names = ("ground_truth", "judge_model", "embedding_model", "callback_url", "metrics", "weights", "contexts")
    template = ", ".join(f'"{name}": "{{{{{name}}}}}"' for name in names)
    request = sent(f"{{{ASKED}, {template}}}", **dict.fromkeys(names))
    assert {getattr(request, name) for name in names} == {None}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"{{it}}"', "faithfulness, token_f1"),
        ("{{it}}", ["faithfulness", "token_f1"]),
        ('"faithfulness,token_f1,"', None),
    ],
)
def test_metrics_may_be_named_in_one_text(written: str, value: Any) -> None:
    assert sent(f'{{{ASKED}, "metrics": {written}}}', it=value).metrics == ["faithfulness", "token_f1"]


def test_metrics_and_weights_may_be_json_in_a_text() -> None:
    request = by_a_code_node(question="Q?", answer="A", metrics='["token_f1"]', weights='{"token_f1": 2}')
    assert (request.metrics, request.weights) == (["token_f1"], {"token_f1": 2.0})


def test_an_answer_keeps_its_quotes_its_lines_and_its_signs() -> None:
    answer = 'He said "no".\r\n\t{"json": ["in", "it"]} \\ 中文 😀 {{it}} \u2028'
    assert by_a_code_node(question="Q?", answer=answer).answer == answer
