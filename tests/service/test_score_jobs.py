"""Jobs that score one answer, in a live installation: as the first system's clients use them, and while things die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.scorers.rag.templates import Template

from ..scorers.rag.test_judged_metrics import FOUR, RIGHT, judging
from ..support.installation import Installation
from ..support.prefect_server import eventually
from ..support.stub_judge import StubJudge

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

KEY = "a-secret-key-of-the-judge"
QUESTION = {"question": "What?", "answer": FOUR, "contexts": ["one", "two"], "ground_truth": "T1."}


@pytest.fixture(scope="module")
def judge() -> Iterator[StubJudge]:
    with contextlib.ExitStack() as ending:
        stub = StubJudge(answer=judging(RIGHT | {"T1.", "one"})).start()
        ending.callback(stub.stop)
        yield stub


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, judge: StubJudge) -> Iterator[Installation]:
    profiles = {"one": {"base_url": judge.url, "model": "large", "api_key": KEY, "max_attempts": 2}}
    environment = {
        "AUTOSCORER_JUDGE__DEFAULT": "one",
        "AUTOSCORER_JUDGE__PROFILES": json.dumps(profiles),
        "AUTOSCORER_API__DEDUP_SECONDS": "5",
    }
    installation = Installation(tmp_path_factory.mktemp("score-jobs"), environment=environment)
    installation.start()
    try:
        yield installation
    finally:
        installation.stop()


def ended(live: Installation, job_id: str, within: float = 300) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        with contextlib.suppress(OSError):  # some tests kill the API
            status, record = live.call("GET", f"/api/score/jobs/{job_id}", role="admin")
            if status == 200 and record["status"] in ("completed", "failed"):
                return record
        return None

    found = eventually(look, within=within)
    assert found is not None
    return found


def posted(live: Installation, path: str = "/api/score/async", **more: Any) -> dict[str, Any]:
    status, told = live.call("POST", path, {**QUESTION, **more})
    assert status in (200, 202), told
    return told


def test_an_answer_is_scored_in_the_request(live: Installation) -> None:
    record = posted(live, "/api/score", question="Scored at once?")
    assert set(record) >= {
        "job_id",
        "status",
        "created_at",
        "finished_at",
        "request_summary",
        "scores",
        "weighted_score",
        "latency_ms",
        "skipped_metrics",
        "error",
    }
    assert record["status"] == "completed" and record["error"] is None and "ok" not in record
    assert record["scores"]["faithfulness"] == 3 / 4 and record["scores"]["context_precision"] == 1.0
    assert record["request_summary"]["metrics"] == [
        "faithfulness",
        "context_precision",
        "context_recall",
        "answer_correctness",
    ]
    # No embeddings: answer_relevancy is not among what is taken by default. The weights of the others add up to 0.8.
    scores = record["scores"]
    weights = {"faithfulness": 0.25, "context_precision": 0.15, "context_recall": 0.15, "answer_correctness": 0.25}
    assert record["weighted_score"] == round(sum(weights[name] * scores[name] for name in weights) / 0.8, 4)
    assert [claim["verdict"] for claim in record["metrics"]["faithfulness"]["claims"]] == [True, True, True, False]
    # It is a task and a flow run as any other, with what people look for in Prefect.
    task = live.finished(record["job_id"])
    assert (task["action"], task["state"], task["attempts"]) == ("rag-score", "completed", 1)
    run = live.prefect("GET", f"/flow_runs/{task['flow_run_id']}")
    told = (run["state"]["message"], run["work_pool_name"])
    assert told == (f"score {record['weighted_score']:g}", "autoscorer-rag")
    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    eventually(
        lambda: (
            {each["key"].rsplit("-", 1)[1] for each in live.prefect("POST", "/artifacts/filter", wanted)}
            == {"scores", "reasons", "record"}
        ),
        within=300,
    )
    # And it lies in the home, for who has scripts.
    kept = json.loads(eventually(lambda: (live.home / "score-jobs" / f"{record['job_id']}.json").read_text()))
    eventually(lambda: json.loads((live.home / "score-jobs" / f"{record['job_id']}.json").read_text()) == record)
    assert kept["job_id"] == record["job_id"]


def test_a_record_says_who_judged_by_which_words_and_who_asked(live: Installation) -> None:
    record = posted(live, "/api/score", question="Who judged?", metrics=["faithfulness", "token_f1"])
    assert record["judged_by"] == {
        "models": {"judge": "one: large"},
        "prompts": {name: Template(name).sha256 for name in ("claims", "faithfulness")},
        "calibrated": {},
    }
    assert record["caller"].startswith("submit-")
    free = posted(live, "/api/score", question="Did anybody judge?", metrics=["token_f1"])
    assert free["judged_by"] is None


def test_what_a_job_was_asked_for_is_told_in_full(live: Installation) -> None:
    asked = {"question": "Long? " * 100, "contexts": [{"text": "one"}, "two"], "metrics": ["token_f1"]}
    job = posted(live, **asked)["job_id"]
    status, told = live.call("GET", f"/api/score/jobs/{job}/request")
    assert status == 200
    assert told == {
        "question": asked["question"],
        "answer": FOUR,
        "contexts": ["one", "two"],
        "ground_truth": "T1.",
        "metrics": ["token_f1"],
        "judge_model": None,
        "embedding_model": None,
        "weights": None,
    }
    assert live.call("GET", "/api/score/jobs/0190f2d4-9c0e-7d11-8a6b-5c4d3e2f1a0b/request")[0] == 404


def test_the_key_of_a_judge_is_nowhere(live: Installation) -> None:
    record = posted(live, "/api/score", question="Where is the key?")
    task = live.finished(record["job_id"])
    told = [
        live.prefect("GET", f"/flow_runs/{task['flow_run_id']}"),
        live.prefect("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [task["flow_run_id"]]}}}),
        record,
    ]
    assert KEY not in json.dumps(told)
    for path in live.home.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "contexts",
    [
        None,
        "",
        "one",
        ["one"],
        [{"content": "one"}],
        [{"text": "one"}],
        [{"page_content": "one", "metadata": {}}],
        '["one"]',
        '[{"content": "one"}]',
        "[1] according to one",
    ],
    ids=str,
)
def test_contexts_come_as_workflow_tools_send_them(live: Installation, contexts: Any) -> None:
    record = posted(live, "/api/score", contexts=contexts, metrics=["grounded_token_ratio", "token_f1"])
    assert record["status"] == "completed"
    assert record["request_summary"]["has_contexts"] is bool(contexts)
    assert ("grounded_token_ratio" in record["skipped_metrics"]) is not bool(contexts)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"contexts": [5]}, "contexts"),
        ({"contexts": [{"body": "x"}]}, "contexts"),
        ({"question": ""}, "question"),
        ({"answer": None}, "answer"),
        ({"metrics": ["faithfullness"]}, "faithfulness"),
        ({"judge_model": "nobody"}, "nobody"),
        ({"weights": {"chrf": -1}}, "weights"),
        ({"ground_thruth": "x"}, "ground_thruth"),
    ],
    ids=str,
)
def test_a_wrong_request_is_refused_by_name(live: Installation, body: dict[str, Any], named: str) -> None:
    status, told = live.call("POST", "/api/score/async", {**QUESTION, **body})
    assert status == 422 and named in json.dumps(told["error"]), told


def test_tokens_are_asked_for_and_jobs_are_their_callers_own(live: Installation) -> None:
    for method, path in (("POST", "/api/score"), ("POST", "/api/score/async"), ("GET", "/api/score/jobs")):
        assert live.call(method, path, QUESTION if method == "POST" else None, role=None)[0] == 401
    status, told = live.call("POST", "/api/score/async", {**QUESTION, "question": "Of an admin?"}, role="admin")
    assert status == 202
    ended(live, told["job_id"])
    assert live.call("GET", f"/api/score/jobs/{told['job_id']}")[0] == 404
    assert live.call("DELETE", f"/api/score/jobs/{told['job_id']}")[0] == 404
    own = live.call("GET", "/api/score/jobs?q=of+an+admin")[1]
    everything = live.call("GET", "/api/score/jobs?q=of+an+admin", role="admin")[1]
    assert (own["total"], everything["total"]) == (0, 1)
    assert live.call("GET", "/tasks?q=of+an+admin")[1]["data"]["total"] == 0
    for path in (f"/tasks/{told['job_id']}", f"/tasks/{told['job_id']}/logs"):
        assert live.call("GET", path)[0] == 404 and live.call("GET", path, role="admin")[0] == 200
    assert live.call("POST", f"/tasks/{told['job_id']}/cancel")[0] == 404
    assert live.call("GET", "/api/score/jobs/unknown")[0] == 404


def test_jobs_are_listed_newest_first_and_filtered(live: Installation) -> None:
    ids = [posted(live, question=f"Listed {number}?", metrics=["chrf"])["job_id"] for number in range(5)]
    ids.append(posted(live, question="Listed 5?", metrics=["token_f1"])["job_id"])
    for job_id in ids:
        ended(live, job_id)
    first = live.call("GET", "/api/score/jobs?q=listed&limit=4")[1]
    assert [job["job_id"] for job in first["jobs"]] == ids[:1:-1] and first["total"] == 6
    rest = live.call("GET", f"/api/score/jobs?q=LISTED&limit=4&cursor={first['next_cursor']}")[1]
    assert [job["job_id"] for job in rest["jobs"]] == ids[1::-1] and rest["next_cursor"] is None
    assert first["jobs"][0]["scores"] == {"token_f1": 0.0} and first["jobs"][0]["metrics"] == {}
    assert live.call("GET", "/api/score/jobs?q=listed&metric=token_f1")[1]["total"] == 1
    assert live.call("GET", "/api/score/jobs?q=listed&status=failed")[1]["total"] == 0
    assert live.call("GET", "/api/score/jobs?q=listed&status=completed")[1]["total"] == 6
    assert live.call("GET", "/api/score/jobs?q=listed&until=2020-01-01")[1]["total"] == 0
    assert live.call("GET", "/api/score/jobs?metric=nothing")[0] == 422


def test_the_same_request_again_is_the_same_job(live: Installation) -> None:
    first = posted(live, question="Twice?")["job_id"]
    assert posted(live, question="Twice?")["job_id"] == first
    assert posted(live, question="Twice!")["job_id"] != first
    keyed = {"headers": {"Idempotency-Key": "one-key"}}
    answers = [live.call("POST", "/api/score/async", {**QUESTION, "question": "Keyed?"}, **keyed) for _ in range(2)]
    assert answers[0][1]["job_id"] == answers[1][1]["job_id"]
    assert live.call("POST", "/api/score/async", {**QUESTION, "question": "Other?"}, **keyed)[0] == 409
    time.sleep(5)
    assert posted(live, question="Twice?")["job_id"] != first


def test_what_failed_is_scored_again_and_only_that(live: Installation, judge: StubJudge) -> None:
    right = judge.answer
    judge.answer = lambda prompt, schema: "nothing"
    try:
        record = posted(live, "/api/score", question="Will it fail?", metrics=["faithfulness", "token_f1"])
        assert record["status"] == "completed" and record["scores"] == {"faithfulness": None, "token_f1": 0.0}
        assert record["metrics"]["faithfulness"]["error_code"] == "JUDGE_ERROR"
        whole = posted(live, "/api/score", question="Will all of it fail?", metrics=["faithfulness"])
        assert whole["status"] == "failed" and whole["error"].startswith("JUDGE_ERROR: Every metric failed.")
    finally:
        judge.answer = right
    status, told = live.call("POST", f"/api/score/jobs/{record['job_id']}/retry")
    assert status == 202 and told["job_id"] != record["job_id"]
    again = ended(live, told["job_id"])
    assert again["scores"] == {"faithfulness": 3 / 4, "token_f1": 0.0} and again["retry_of"] == record["job_id"]
    assert again["metrics"]["token_f1"] == record["metrics"]["token_f1"]


def test_a_job_is_cancelled_and_one_that_has_ended_is_removed(live: Installation, judge: StubJudge) -> None:
    judge.latency = 600
    try:
        job_id = posted(live, question="Cancelled?")["job_id"]
        eventually(lambda: live.call("GET", f"/api/score/jobs/{job_id}")[1]["status"] == "running", within=300)
        assert live.call("DELETE", f"/api/score/jobs/{job_id}")[0] == 200
        record = ended(live, job_id, within=300)
        assert record["status"] == "failed" and record["error"].startswith("CANCELLED")
        assert live.call("POST", f"/api/score/jobs/{job_id}/retry")[0] == 202
    finally:
        judge.latency = 0
    path = live.home / "score-jobs" / f"{job_id}.json"
    eventually(path.exists)
    assert live.call("DELETE", f"/api/score/jobs/{job_id}")[0] == 200
    assert live.call("GET", f"/api/score/jobs/{job_id}")[0] == 404 and not path.exists()


@pytest.mark.parametrize("victim", ["workers", "api", "server"])
def test_no_job_is_lost_whatever_dies(live: Installation, judge: StubJudge, victim: str) -> None:
    before = Counter(_prompt(body) for body in judge.bodies)
    judge.latency = 0.5
    try:
        jobs = [posted(live, question=f"Does it survive the death of {victim}, {number}?") for number in range(50)]
        asked = len(judge.bodies)
        eventually(lambda: len(judge.bodies) > asked + 20, within=300)
        for pid in live.pids()[victim]:
            os.kill(pid, signal.SIGKILL)
        judge.latency = 0.05
        records = [ended(live, job["job_id"], within=300) for job in jobs]
    finally:
        judge.latency = 0
    assert {record["status"] for record in records} == {"completed"}
    assert {record["scores"]["faithfulness"] for record in records} == {3 / 4}
    after = Counter(_prompt(body) for body in judge.bodies) - before
    # What was answered is known: of each job no more is asked again than was under way.
    twice = [prompt for prompt, number in after.items() if number > 1]
    assert max(after.values()) <= 2 and len(twice) <= 64, len(twice)


def _prompt(body: dict[str, Any]) -> str:
    return json.dumps(body.get("messages") or body.get("input"))


def test_one_process_asks_for_all(live: Installation, judge: StubJudge) -> None:
    judge.latency = 1
    try:
        jobs = [posted(live, question=f"At a time, {number}?", metrics=["faithfulness"]) for number in range(20)]
        eventually(lambda: judge.most >= 10, within=300)
        for job in jobs:
            ended(live, job["job_id"])
    finally:
        judge.latency = 0
    assert judge.most <= 16  # judge.profiles.one.concurrency
    assert Path(live.home / "judge-slots").is_dir()
