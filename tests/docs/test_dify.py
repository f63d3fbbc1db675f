"""What docs/dify.md says holds: the workflow is whole, its body is accepted, and a callback can be checked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from autoscorer.schemas.rag import JobRecord, MetricScore, RequestSummary, ScoreRequest
from autoscorer.service.webhooks.signatures import sign

from ..schemas.test_score_request import FOUND, filled
from ..support.markdown import ROOT, read

WORKFLOW = yaml.safe_load((ROOT / "examples/rag/dify-workflow.yml").read_text(encoding="utf-8"))
NODES: dict[str, Any] = {node["id"]: node["data"] for node in WORKFLOW["workflow"]["graph"]["nodes"]}


def main_of(code: str) -> Callable[..., dict[str, Any]]:
    """The function of a Code node."""
    names: dict[str, Any] = {}
    exec(code, names)
    found: Callable[..., dict[str, Any]] = names["main"]
    return found


def of_the_page(name: str) -> str:
    found = re.search(rf"<!-- code: {name} -->\n\n```python\n(.*?)```", read("docs/dify.md"), re.DOTALL)
    assert found is not None
    return found[1]


def node(title: str) -> tuple[str, dict[str, Any]]:
    ((ident, data),) = [(ident, data) for ident, data in NODES.items() if data["title"] == title]
    return ident, data


def test_the_workflow_is_one_line_of_nodes_whose_variables_are_there() -> None:
    assert (WORKFLOW["kind"], WORKFLOW["app"]["mode"]) == ("app", "workflow")
    # Dify takes a version that is no text for none.
    assert isinstance(WORKFLOW["version"], str)
    edges = WORKFLOW["workflow"]["graph"]["edges"]
    assert [edge["source"] for edge in edges] + [edges[-1]["target"]] == list(NODES)
    for edge in edges:
        assert edge["target"] == list(NODES)[list(NODES).index(edge["source"]) + 1]
        assert (edge["data"]["sourceType"], edge["data"]["targetType"]) == (
            NODES[edge["source"]]["type"],
            NODES[edge["target"]]["type"],
        )
    given = {"sys": {"workflow_run_id"}}
    given["env"] = {each["name"] for each in WORKFLOW["workflow"]["environment_variables"]}
    for ident, data in NODES.items():
        used = [tuple(each["value_selector"]) for each in [*data.get("variables", ()), *_list(data.get("outputs"))]
                if "value_selector" in each]  # fmt: skip
        used += [tuple(name.split(".")) for name in re.findall(r"\{\{#([\w.]+)#\}\}", json.dumps(data))]
        for of, name in used:
            assert name in given[of], (ident, of, name)
        given[ident] = {each["variable"] for each in data["variables"]} if data["type"] == "start" else set()
        given[ident] |= set(data["outputs"]) if isinstance(data.get("outputs"), dict) else set()
        given[ident] |= {"body", "status_code", "headers"} if data["type"] == "http-request" else set()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def test_no_token_stands_in_the_workflow() -> None:
    (token,) = [each for each in WORKFLOW["workflow"]["environment_variables"] if each["value_type"] == "secret"]
    assert token["value"] == "" and "env.AUTOSCORER_TOKEN" in node("Score")[1]["authorization"]["config"]["api_key"]


@pytest.mark.parametrize("contexts", [FOUND, ["one", "two"], json.dumps(["one", "two"]), 'one "text"', "", None, []])
def test_the_body_that_the_workflow_sends_is_accepted_as_it_was_meant(contexts: Any) -> None:
    built, code = node("Body")
    assert code["code"] == of_the_page("body")
    answer = 'He said "no".\n\t\\ 中文 {{x}}'
    made = main_of(code["code"])(question="Q?", answer=answer, contexts=contexts, ground_truth="")
    assert list(made) == list(code["outputs"])
    (written,) = node("Score")[1]["body"]["data"]
    template = re.sub(r"\{\{#(\w+)\.(\w+)#\}\}", r"{{\2}}", written["value"])
    assert written["value"] == f"{{{{#{built}.body#}}}}"
    request = ScoreRequest.model_validate(json.loads(filled(template, made)))
    assert (request.question, request.answer, request.ground_truth) == ("Q?", answer, None)
    expected = {str(FOUND): [each["content"] for each in FOUND], 'one "text"': ['one "text"'], "": None, "None": None,
                "[]": None}  # fmt: skip
    assert request.contexts == expected.get(str(contexts), ["one", "two"])


def test_the_job_is_read_and_an_error_is_told_in_our_words() -> None:
    main = main_of(node("Job")[1]["code"])
    assert main(202, '{"job_id": "j", "status": "queued"}') == {"job_id": "j", "status": "queued"}
    with pytest.raises(ValueError, match="contexts: no"):
        main(422, json.dumps({"ok": False, "error": {"code": "INVALID_REQUEST", "message": "contexts: no"}}))


def test_a_callback_is_checked_by_the_code_of_the_page() -> None:
    main = main_of(of_the_page("signature"))
    record = JobRecord(
        job_id="0190f2d4-9c0e-7d11-8a6b-5c4d3e2f1a0b",
        status="completed",
        created_at="2026-11-29T00:00:00.000Z",
        request_summary=RequestSummary(question="法国？ 😀\u2028", answer='"Paris"\n'),
        scores={"token_f1": 2 / 3, "rouge_l": 1e-7, "chrf": 1.0, "exact_match": None},
        weighted_score=0.5,
        latency_ms=12.0,
        metrics={"token_f1": MetricScore(score=2 / 3, ms=0.001)},
    )
    # As service/webhooks/delivery.py writes it, and as Dify's trigger hands it on.
    body = json.dumps(record.model_dump(mode="json"), allow_nan=False).encode()
    now = int(time.time())
    raw = {"method": "POST", "headers": {}, "query_params": {}, "body": json.loads(body), "files": {}}
    told = main(raw, sign("s3cret", body, now), "s3cret")
    assert told == {"job_id": record.job_id, "status": "completed", "weighted_score": 0.5}
    forged = {**raw, "body": {**raw["body"], "weighted_score": 1.0}}
    for wrong in (
        lambda: main(raw, sign("other", body, now), "s3cret"),
        lambda: main(raw, sign("s3cret", body, now - 1000), "s3cret"),
        lambda: main(forged, sign("s3cret", body, now), "s3cret"),
    ):
        with pytest.raises(ValueError, match="not AutoScorer's"):
            wrong()
