"""Records that the first system left are jobs like any others: listed with scores, times and status, and only once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from autoscorer.cli.main import main
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.rag import JobRecord, JudgedBy, MetricScore, RequestSummary
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.records import TaskEnd
from autoscorer.service.policy import Caller
from autoscorer.service.score_jobs import JobQuery, ScoreJobs

from ..support.ledger import new, opened
from ..support.postgres import postgres as postgres
from ..support.terminal import in_terminal

CREATED = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
# As the first system wrote it: NaN where a metric had no number, no coverage, no reasons.
FIRST: dict[str, Any] = {
    "job_id": "8f14e45fceea167a5a36dedd4bea2543",
    "status": "completed",
    "created_at": CREATED.isoformat(),
    "finished_at": (CREATED + timedelta(seconds=9)).isoformat(),
    "request_summary": {
        "question": "法国的首都？" * 20,
        "answer": "Paris",
        "metrics": ["faithfulness", "answer_relevancy", "context_recall"],
        "judge_model": "gpt-4o-mini",
        "embedding_model": None,
        "has_contexts": True,
        "has_ground_truth": False,
    },
    "scores": {"faithfulness": 0.75, "answer_relevancy": float("nan")},
    "weighted_score": 0.75,
    "latency_ms": 4321.5,
    "skipped_metrics": ["context_recall"],
    "error": None,
}

Write = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "old"
    made.mkdir()
    return made


@pytest.fixture
def write(folder: Path) -> Write:
    def written(name: str, **other: Any) -> None:
        (folder / f"{name}.json").write_text(json.dumps({**FIRST, "job_id": name, **other}), encoding="utf-8")

    return written


def imported(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, dict[str, Any]]:
    code = main(["jobs", "import", str(folder), "--json"])
    told = json.loads(capsys.readouterr().out)
    return code, told.get("data") or told["error"]


def listed(settings: Settings, **asked: Any) -> list[JobRecord]:
    """What an admin gets of `GET /api/score/jobs`, each as `GET /api/score/jobs/{job_id}` has it."""

    async def read() -> list[JobRecord]:
        async with opened(settings) as ledger:
            jobs = ScoreJobs(SimpleNamespace(ledger=ledger, settings=settings))  # type: ignore[arg-type]
            page = await jobs.list(JobQuery(**asked), caller=Caller("anybody", "admin"))
            assert not (await jobs.list(JobQuery(**asked), caller=Caller("anybody", "submit"))).jobs
            found = [await jobs.get(each.job_id, caller=Caller("anybody", "admin")) for each in page.jobs]
            for short, whole in zip(page.jobs, found, strict=True):
                assert (short.scores, short.weighted_score) == (whole.scores, whole.weighted_score)
                assert short.status == whole.status
            return found

    return asyncio.run(read())


def test_a_record_keeps_its_scores_its_times_and_its_status(
    folder: Path, write: Write, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write("8f14e45fceea167a5a36dedd4bea2543")
    write("older", created_at=(CREATED - timedelta(hours=1)).replace(tzinfo=None).isoformat(), status="failed",
          scores={}, weighted_score=None, skipped_metrics=[], error="judge timed out")  # fmt: skip
    assert imported(capsys, folder) == (0, {"imported": 2, "known": 0, "too_old": 0, "skipped": []})
    newest, older = listed(settings)
    assert newest.status == "completed" and newest.error is None
    assert datetime.fromisoformat(newest.created_at) == CREATED
    assert datetime.fromisoformat(newest.finished_at or "") == CREATED + timedelta(seconds=9)
    assert newest.scores == {"faithfulness": 0.75, "answer_relevancy": None}
    assert (newest.weighted_score, newest.latency_ms) == (0.75, 4321.5)
    # .40 of .40 + .35: faithfulness alone has a score.
    assert newest.coverage == round(0.40 / 0.75, 4)
    assert newest.skipped_metrics == ["context_recall"]
    assert newest.metrics["answer_relevancy"].status == "undefined"
    summary = newest.request_summary
    assert summary.question == ("法国的首都？" * 20)[:80] and summary.judge_model == "gpt-4o-mini"
    assert summary.has_contexts and not summary.has_ground_truth
    assert older.status == "failed" and "judge timed out" in (older.error or "") and older.scores == {}
    # Without a zone it was UTC.
    assert datetime.fromisoformat(older.created_at) == CREATED - timedelta(hours=1)


def test_a_job_is_found_by_its_old_id_its_question_and_its_metrics(
    folder: Path, write: Write, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write("first-id")
    write("second-id", request_summary={**FIRST["request_summary"], "question": "Another?", "metrics": ["token_f1"]})
    imported(capsys, folder)
    for asked in ({"text": "first-id"}, {"text": "another"}, {"metric": "token_f1"}):
        assert len(listed(settings, **asked)) == 1


@pytest.mark.parametrize("status", ["running", "queued"])
def test_one_that_had_not_ended_is_failed_and_says_so(
    status: str, folder: Path, write: Write, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write("died", status=status, finished_at=None, scores={"faithfulness": 0.5}, weighted_score=None, latency_ms=None)
    assert imported(capsys, folder)[0] == 0
    (job,) = listed(settings)
    assert job.status == "failed" and status in (job.error or "") and "imported as failed" in (job.error or "")
    assert job.scores["faithfulness"] == 0.5 and job.finished_at is not None


def test_a_second_time_imports_nothing_and_changes_nothing(
    folder: Path, write: Write, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write("one")
    imported(capsys, folder)
    before = listed(settings)
    write("two", created_at=(CREATED + timedelta(seconds=1)).isoformat())
    assert imported(capsys, folder) == (0, {"imported": 1, "known": 1, "too_old": 0, "skipped": []})
    assert [job.job_id for job in listed(settings)][1:] == [before[0].job_id]


def test_more_than_go_into_one_transaction_are_all_there(
    folder: Path, write: Write, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(501):
        write(f"job-{n}", created_at=(CREATED + timedelta(milliseconds=n // 3)).isoformat())
    assert imported(capsys, folder)[1]["imported"] == 501
    assert imported(capsys, folder)[1] == {"imported": 0, "known": 501, "too_old": 0, "skipped": []}


def test_what_is_no_record_is_named_and_the_others_are_imported(
    folder: Path, write: Write, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write("good")
    (folder / "cut.json").write_text(json.dumps(FIRST)[:100])
    (folder / "bytes.json").write_bytes(b'{"job_id": "\xff"}')
    (folder / "empty.json").write_text("")
    (folder / "list.json").write_text("[]")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "folder.json").mkdir()
    write("status", status="done")
    write("time", created_at="yesterday")
    write("surrogate", error="\ud800")
    (folder / "notes.txt").write_text("not looked at")
    code, data = imported(capsys, folder)
    assert code == 1 and data["imported"] == 1
    wrong = ["bytes", "cut", "deep", "empty", "folder", "list", "status", "surrogate", "time"]
    assert [each["file"] for each in data["skipped"]] == [f"{name}.json" for name in wrong]
    assert all(each["why"] for each in data["skipped"])
    assert len(listed(settings)) == 1
    code, shown = in_terminal("jobs", "import", str(folder))
    assert code == 1 and "1 were there already" in shown and "cut.json was skipped" in shown


def test_what_the_ledger_would_forget_at_once_is_left_out_and_counted(
    folder: Path, write: Write, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("recent")
    monkeypatch.setenv("AUTOSCORER_API__KEEP_DAYS", "1")
    assert imported(capsys, folder) == (0, {"imported": 0, "known": 0, "too_old": 1, "skipped": []})


def test_records_of_ours_keep_their_ids(folder: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """As they lie in the home: they bring back what a ledger has lost, and are known to one that has them."""
    summary = RequestSummary(question="Q?", answer="A", metrics=["token_f1", "rouge_l"], has_ground_truth=True)
    made = (new(action="rag-score") for _ in range(2))
    known, lost = (replace(task, subject=task.id, workspace=None, request=summary.model_dump()) for task in made)
    judged = MetricScore(score=0.5, reason="half of it", calls=2, cost=None)
    failed = MetricScore(status="failed", reason="no answer", error_code="JUDGE_ERROR")

    async def fill() -> None:
        async with opened(settings) as ledger:
            await ledger.add(known)
            await ledger.finish([TaskEnd(known.id, TaskState.COMPLETED)])

    asyncio.run(fill())
    record = JobRecord(
        job_id=lost.id,
        status="failed",
        created_at=datetime.fromtimestamp(lost.created_at, UTC).isoformat(timespec="milliseconds"),
        finished_at=datetime.fromtimestamp(lost.created_at + 1, UTC).isoformat(timespec="milliseconds"),
        request_summary=summary,
        scores={"token_f1": 0.5, "rouge_l": None},
        weighted_score=0.5,
        coverage=0.5,
        error="JUDGE_ERROR: no answer",
        metrics={"token_f1": judged, "rouge_l": failed},
        caller="submit-1f2e3d4c",
        judged_by=JudgedBy(models={"judge": "main: large"}, prompts={"claims": "ab" * 32}),
    )
    for task in (known, lost):
        written = record.model_copy(update={"job_id": task.id})
        (folder / f"{task.id}.json").write_text(written.model_dump_json())
    assert imported(capsys, folder)[1] == {"imported": 1, "known": 1, "too_old": 0, "skipped": []}
    (job,) = [each for each in listed(settings) if each.job_id == lost.id]
    # Who had asked is not known to this ledger: it belongs to nobody in particular.
    assert job.caller == "imported"
    other = {"created_at", "finished_at", "caller"}
    assert job.model_dump(exclude=other) == record.model_dump(exclude=other)


def test_what_an_imported_job_was_asked_for_is_not_known(
    folder: Path, write: Write, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write("one")
    imported(capsys, folder)
    (job,) = listed(settings)

    async def asked() -> None:
        async with opened(settings) as ledger:
            jobs = ScoreJobs(SimpleNamespace(ledger=ledger, settings=settings))  # type: ignore[arg-type]
            await jobs.request(job.job_id, caller=Caller("anybody", "admin"))

    with pytest.raises(AutoScorerError, match="not known what this job was asked for"):
        asyncio.run(asked())


def test_while_an_api_has_the_file_the_command_says_to_stop_it(
    folder: Path, write: Write, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write("one")

    async def held() -> tuple[int, dict[str, Any]]:
        async with opened(settings):
            return await asyncio.to_thread(imported, capsys, folder)

    code, error = asyncio.run(held())
    assert code == 2 and error["code"] == "CONFLICT" and "Stop it" in error["message"]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = imported(capsys, tmp_path / "nowhere")
    assert code == 2 and error["code"] == "INVALID_REQUEST" and "can't be read" in error["message"]


def test_into_postgresql_it_is_done_while_the_api_runs(
    folder: Path,
    write: Write,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", request.getfixturevalue("postgres").ledger_url())
    write("one")
    code, told = imported(capsys, folder)
    assert (code, told["imported"]) == (0, 1)

    async def held() -> tuple[int, dict[str, Any]]:
        async with opened(load_settings()):
            return await asyncio.to_thread(imported, capsys, folder)

    assert asyncio.run(held())[1]["known"] == 1
