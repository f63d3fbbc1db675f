"""评分记录 on the records page: jobs that score one answer, in the list, and one of them with its reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from autoscorer.schemas.rag import ClaimVerdict, MetricScore, RequestSummary, ScoreRequest
from autoscorer.schemas.task import TaskState
from autoscorer.scorers.rag.evaluate import in_all
from autoscorer.tasks.rag import result_of_scores, sample_of

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.facade import ADMIN, SUBMIT
from ..support.records_page import Done, click, put, scored, served, sign_in, text

pytestmark = pytest.mark.slow

FAITHFUL = MetricScore(
    status="ok",
    score=0.5,
    claims=[
        ClaimVerdict(text="Paris is the capital.", verdict=True, reason="The first passage says so."),
        ClaimVerdict(text="It has <b>nine</b> million.", verdict=False, reason="No passage tells."),
    ],
    calls=3,
)
ROWS = "[...document.querySelectorAll('#rows tr')].map(row => row.innerText)"


def job(
    name: str, question: str, *, state: TaskState | None = TaskState.COMPLETED, caller: str = "someone", **metrics: Any
) -> Done:
    """A job as the worker leaves it."""
    request = ScoreRequest(question=question, answer="Paris.", contexts=["Paris is it."], judge_model="large")
    scores = in_all(sample_of(request), metrics, None)
    error = None
    if state is TaskState.FAILED:
        error = {"code": "JUDGE_ERROR", "message": "Every metric failed.", "stage": "scoring", "details": {}}
    return Done(
        name,
        state,
        "rag-score",
        result_of_scores(scores, 812.5) if metrics else None,
        error,
        {
            "subject": name,
            "caller": caller,
            "request": RequestSummary.of(request, [*metrics] or ["faithfulness"]).model_dump(mode="json"),
            "parameters": {"request": request.model_dump(mode="json", exclude_none=True), "caller": caller},
        },
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("language", "named"), [("en", "answer scored"), ("zh", "评分记录")])
def test_jobs_are_listed_newest_first_beside_all_other_tasks_or_alone(
    browser: Browser, root: Path, language: str, named: str
) -> None:
    tasks = [
        job("first", "What is the capital of France?", faithfulness=FAITHFUL),
        Done("table", result=scored(root, "table")),
        job("second", "法国的首都是哪里？", state=None),
        job("third", "Who broke?", state=TaskState.FAILED, faithfulness=MetricScore(status="failed", reason="away")),
    ]
    with served(root, tasks) as (url, _):
        browser.open(f"{url}/?lang={language}", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 4")
        put(browser, "#action", "rag-score")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 3")
        rows = browser.value(ROWS)
        assert "Who broke?" in rows[0] and "法国的首都" in rows[1] and "capital of France" in rows[2]
        assert "0.5" in rows[2]
        options = browser.value("[...document.querySelector('#action').options].map(o => [o.value, o.innerText])")
        assert dict(options)["rag-score"] == named
        # It is an address that can be sent to somebody.
        browser.open(browser.value("location.href"), width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 3")
        assert browser.value(CONTRAST) == []


def test_one_job_shows_question_scores_and_the_reason_of_each_verdict(browser: Browser, root: Path) -> None:
    undefined = MetricScore(status="undefined", reason="The answer makes no claim.")
    skipped = MetricScore(status="skipped", reason="It needs ground_truth, which the request does not have.")
    done = job("one", "Capital?", faithfulness=FAITHFUL, context_utilization=undefined, answer_correctness=skipped)
    with served(root, [done]) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['one']}", width=1300)
        browser.wait_for("document.querySelector('#detail-body .hero')")
        said = text(browser, "#detail-body")
        assert "0.5" in text(browser, ".hero") and "Capital?" in said and "Paris." in said and "large" in said
        browser.value("document.querySelectorAll('#detail-body details').forEach(each => { each.open = true; })")
        browser.wait_for("document.querySelector('#detail-body').innerText.includes('No passage tells.')")
        said = text(browser, "#detail-body")
        assert "The first passage says so." in said and "The answer makes no claim." in said
        assert "which the request does not have" in said
        # What a judge or an answer says is text, whatever it looks like.
        assert "It has <b>nine</b> million." in said
        assert not browser.value("[...document.querySelectorAll('#detail-body b')].length")
        assert browser.value(CONTRAST) == []


def test_a_job_that_failed_says_why_and_one_that_runs_is_no_score(browser: Browser, root: Path) -> None:
    failed = MetricScore(status="failed", reason="The judge is away.", error_code="JUDGE_ERROR")
    tasks = [job("failed", "Why?", state=TaskState.FAILED, faithfulness=failed), job("queued", "When?", state=None)]
    with served(root, tasks) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['failed']}", width=1300)
        browser.wait_for("document.querySelector('#detail-body .hero')")
        said = text(browser, "#detail")
        assert "Every metric failed." in said
        browser.open(f"{url}/?lang=en#{ids['queued']}", width=1300)
        browser.wait_for("document.querySelector('#detail').innerText.includes('When?')")
        assert "queued" in text(browser, "#detail").lower() and "0.5" not in text(browser, "#detail")


def test_who_may_submit_sees_the_jobs_of_their_own_token_alone(browser: Browser, root: Path) -> None:
    with served(root, [job("others", "Of others?", faithfulness=FAITHFUL)], tokens=True) as (url, _):
        browser.open(f"{url}/?lang=en", width=1300)
        sign_in(browser, SUBMIT)
        browser.wait_for("document.body.innerText.includes('0 tasks')")
        assert "Of others?" not in text(browser, "body")
        click(browser, "#sign-out")
        click(browser, "#sign-in")
        sign_in(browser, ADMIN)
        browser.wait_for("document.body.innerText.includes('Of others?')")
