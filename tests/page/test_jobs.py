"""评分记录 on the page: jobs that score one answer as a list, and one of them with the reasons of its verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.schemas.rag import ClaimVerdict, MetricScore
from autoscorer.schemas.task import TaskState
from autoscorer.scorers.rag.catalogue import METRICS

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.calls import call
from ..support.facade import ADMIN, SUBMIT
from ..support.records_page import click, put, served, sign_in, text
from ..support.score_jobs import FAITHFUL, JUDGED_BY, job, scores

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)>"
PASSAGES = ["Paris is the capital of France, on the Seine.", "The tower was built from 1887 to 1889.", EVIL]
ROWS = "[...document.querySelectorAll('#rows tr')].map(row => row.innerText)"
READY = "document.querySelector('#about dl')"


def verdicts(*of: tuple[str, bool | None, str]) -> list[ClaimVerdict]:
    return [ClaimVerdict(text=text, verdict=verdict, reason=reason) for text, verdict, reason in of]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A service with some jobs, for tests that change none of them."""
    root = tmp_path_factory.mktemp("jobs") / "root"
    root.mkdir()
    asked = {"answer": "Paris is the capital. " * 20, "contexts": PASSAGES, "ground_truth": "Paris."}
    useful = verdicts(*zip(PASSAGES, (True, False, False), ("It helps.", "It is of a tower.", EVIL), strict=True))
    failed = MetricScore(status="failed", reason="The judge is away.", error_code="JUDGE_ERROR")
    refused = {
        "code": "JUDGE_ERROR",
        "message": "Every metric failed.",
        "stage": "scoring",
        "details": {"failed": 1, "log": ["the last line of the log"]},
    }
    many = [job(f"many{number}", f"Number {number}?", **scores(token_f1=number / 100)) for number in range(51)]
    tasks = [
        *many,
        job("hostile", EVIL + "\u202e", request={"answer": EVIL, "contexts": [EVIL], "judge_model": EVIL}, caller=EVIL,
            faithfulness=MetricScore(score=0, reason=EVIL, claims=verdicts((EVIL, False, EVIL)))),
        job("failed", "Why?", state=TaskState.FAILED, error=refused, faithfulness=failed),
        job("waits", "法国的首都是哪里？", state=None),
        job("rich", "What is the capital of France?", request=asked, judged_by=JUDGED_BY, faithfulness=FAITHFUL,
            context_utilization=MetricScore(score=1.0, claims=useful),
            answer_correctness=MetricScore(status="undefined", reason="The ground truth makes no claim."),
            answer_relevancy=MetricScore(status="skipped", reason="It needs embeddings."), **scores(token_f1=0.25)),
    ]  # fmt: skip
    with served(root, tasks, home=root.with_name("home")) as found:
        yield found


def test_the_list_shows_what_the_api_answers_newest_first_with_a_column_for_each_metric(
    browser: Browser, jobs: tuple[str, dict[str, str]]
) -> None:
    url, _ = jobs
    page = call(f"{url}/api/score/jobs?limit=50", "GET").json
    browser.open(f"{url}/ui/jobs?lang=en", width=1300)
    browser.wait_for("document.querySelectorAll('#rows tr').length === 50")
    assert browser.value("[...document.querySelectorAll('#rows tr')].map(row => row.dataset.id)") == [
        each["job_id"] for each in page["jobs"]
    ]
    first = browser.value(ROWS)[0]
    assert "What is the capital of France?" in first and "0.5000" in first and "0.2500" in first and "someone" in first
    assert text(browser, "#count") == f"{page['total']} jobs"
    heads = browser.value("[...document.querySelectorAll('thead th')].map(each => each.dataset.key)")
    told = {metric for each in page["jobs"] for metric in each["scores"]}
    assert [each for each in heads if each.startswith("metric-")] == [
        f"metric-{metric}" for metric in METRICS if metric in told
    ]
    assert browser.value(CONTRAST) == []


def test_turning_the_page_and_back_is_in_the_address(browser: Browser, jobs: tuple[str, dict[str, str]]) -> None:
    url, _ = jobs
    browser.open(f"{url}/ui/jobs?lang=en", width=1300)
    browser.wait_for("document.querySelectorAll('#rows tr').length === 50")
    click(browser, "#next")
    browser.wait_for("document.querySelectorAll('#rows tr').length === 5 && location.search.includes('cursor=')")
    assert "Number 0?" in browser.value(ROWS)[-1]
    assert browser.value("document.activeElement.id") == "title"
    browser.value("history.back()")
    browser.wait_for("document.querySelectorAll('#rows tr').length === 50")


def test_filters_narrow_the_list_and_a_link_to_it_narrows_it_again(
    browser: Browser, jobs: tuple[str, dict[str, str]]
) -> None:
    url, _ = jobs
    browser.open(f"{url}/ui/jobs?lang=zh", width=1300)
    browser.wait_for("document.querySelectorAll('#rows tr').length === 50")
    put(browser, "#metric", "faithfulness")
    browser.wait_for("document.querySelectorAll('#rows tr').length === 4")
    put(browser, "#status", "failed")
    browser.wait_for("document.querySelectorAll('#rows tr').length === 1")
    browser.open(browser.value("location.href"), width=1300)
    browser.wait_for("document.querySelectorAll('#rows tr').length === 1")
    assert (
        "Why?" in browser.value(ROWS)[0] and browser.value("document.querySelector('#metric').value") == "faithfulness"
    )
    put(browser, "#q", "法国")
    browser.wait_for("document.querySelector('#empty')")
    put(browser, "#status", "")
    browser.wait_for("document.querySelectorAll('#rows tr').length === 1")
    put(browser, "#until", "2020-01-31")
    browser.wait_for("document.querySelector('#empty')")
    click(browser, "#empty a")
    browser.wait_for("document.querySelectorAll('#rows tr').length === 50")


def test_a_metric_that_there_is_not_is_refused_in_words_and_every_one_of_the_catalogue_can_be_chosen(
    browser: Browser, jobs: tuple[str, dict[str, str]]
) -> None:
    url, _ = jobs
    browser.open(f"{url}/ui/jobs?lang=en&metric=faith", width=1300)
    browser.wait_for("document.querySelector('.problem')")
    assert "faithfulness" in text(browser, ".problem")
    options = browser.value("[...document.querySelector('#metric').options].map(each => each.value)")
    assert options == ["", *METRICS, "faith"]
    said = browser.value(
        f"import('/static/parts/metrics.js').then(m => {json.dumps([*METRICS])}.map(each => m.saysOf(each)))"
    )
    assert all(said) and len(set(said)) == len(METRICS)


def test_a_spreadsheet_of_the_page_holds_the_numbers_and_no_formula(
    browser: Browser, jobs: tuple[str, dict[str, str]]
) -> None:
    url, ids = jobs
    browser.open(f"{url}/ui/jobs?lang=en&q=capital", width=1300)
    browser.wait_for("document.querySelectorAll('#rows tr').length === 1")
    browser.value("window.made = []; URL.createObjectURL = (blob) => { window.made.push(blob); return 'blob:none'; }")
    click(browser, "#csv")
    lines = browser.value("window.made[0].text()").split("\r\n")
    head, row = lines[0].lstrip("\ufeff").split(","), lines[1].split(",")
    assert dict(zip(head, row, strict=True))["id"] == ids["rich"]
    assert dict(zip(head, row, strict=True))["faithfulness"] == "0.5"


def test_a_job_shows_its_texts_its_scores_and_the_reason_of_each_verdict(
    browser: Browser, jobs: tuple[str, dict[str, str]]
) -> None:
    url, ids = jobs
    browser.open(f"{url}/ui/job/{ids['rich']}?lang=en", width=1300)
    browser.wait_for(f"{READY} && document.querySelectorAll('.passages li').length === 3")
    said = text(browser, "#detail")
    # In full, not in short as in lists.
    assert ("Paris is the capital. " * 20).strip() in said
    record = call(f"{url}/api/score/jobs/{ids['rich']}", "GET").json
    assert browser.value("document.querySelector('.hero data').value") == str(record["weighted_score"])
    assert "The ground truth makes no claim." in said and "It needs embeddings." in said and "skipped" in said
    assert "Passage [1] says so." in said and "No passage tells." in said
    assert "It has <b>nine</b> million inhabitants." in said and not browser.value(
        "document.querySelectorAll('b').length"
    )
    assert "1 of 2 hold" in said and "main: large" in said and "1,200 in, 240 out" in said and "0.00042" in said
    assert "cd" * 32 in said and "Nov 20, 2026" in said
    # A verdict on a whole passage stands at the passage.
    assert "does not help" in text(browser, "#passage-2") and "does not help" not in text(browser, "#passage-1")
    assert browser.value(CONTRAST) == []


def test_only_what_does_not_hold_and_the_claim_that_is_marked_stand_in_the_address(
    browser: Browser, jobs: tuple[str, dict[str, str]]
) -> None:
    url, ids = jobs
    browser.open(f"{url}/ui/job/{ids['rich']}?lang=en", width=1300)
    browser.wait_for(f"{READY} && document.querySelectorAll('.claim .show').length === 2")
    click(browser, "[data-claim='faithfulness.1'] .show")
    browser.wait_for("document.querySelector('mark')")
    assert browser.value("[...document.querySelectorAll('#passage-1 mark')].map(each => each.innerText)") == [
        "Paris is the capital of France"
    ]
    assert browser.value("[...document.querySelectorAll('.nearest')].map(each => each.id)") == ["passage-1"]
    click(browser, "#only")
    browser.wait_for("document.querySelectorAll('.claim').length === 3")
    browser.open(browser.value("location.href"), width=1300)
    browser.wait_for("document.querySelectorAll('.claim').length === 3 && document.querySelector('mark')")
    click(browser, "#only")
    browser.wait_for("document.querySelector('[data-claim=\"faithfulness.1\"] .reason button')")
    click(browser, "[data-claim='faithfulness.1'] .reason button")
    assert browser.value("document.activeElement.id") == "passage-1"


@pytest.mark.parametrize(
    ("passage", "claim", "marked"),
    [
        ("Paris is the capital.", "The capital is Paris.", ["Paris", "the capital"]),
        ("Of the two, it is.", "The end of it.", []),
        ("巴黎是法国的首都，也是最大的城市。", "首都是巴黎", ["巴黎", "首都"]),
        ("In 1889 it was built.", "Built in 1900.", ["built"]),
        ("ＰＡＲＩＳ　１２３", "paris 123", ["ＰＡＲＩＳ　１２３"]),
        ("", "claim", []),
    ],
)
def test_what_a_claim_shares_with_a_passage_is_found_word_for_word(
    browser: Browser, jobs: tuple[str, dict[str, str]], passage: str, claim: str, marked: list[str]
) -> None:
    url, _ = jobs
    if not browser.value("location.href").startswith(url):
        browser.open(f"{url}/ui/jobs", width=1300)
    found = browser.value(
        f"import('/static/parts/passages.js').then(m => m.shared({json.dumps(passage)}, {json.dumps(claim)})"
        f".map(([from, to]) => {json.dumps(passage)}.slice(from, to)))"
    )
    assert found == marked


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_texts_stay_text_and_widen_no_page(
    browser: Browser, jobs: tuple[str, dict[str, str]], language: str
) -> None:
    url, ids = jobs
    for address in (
        f"/ui/job/{ids['hostile']}?lang={language}&claim=faithfulness.1",
        f"/ui/jobs?lang={language}&q=img",
    ):
        browser.open(url + address, width=320, scheme="dark")
        browser.wait_for(f"{READY} || document.querySelector('#rows tr')")
        assert EVIL in text(browser, "main") and not browser.value("document.querySelector('main img')")
        assert browser.value("document.documentElement.scrollWidth") == 320
        assert browser.value(CONTRAST) == []


def test_a_job_that_failed_says_why_in_full_and_one_that_waits_has_no_score(
    browser: Browser, jobs: tuple[str, dict[str, str]]
) -> None:
    url, ids = jobs
    browser.open(f"{url}/ui/job/{ids['failed']}?lang=en", width=1300)
    browser.wait_for(f"{READY} && document.querySelector('.failure pre')")
    assert "Every metric failed." in text(browser, ".failure") and "the last line of the log" in text(
        browser, ".failure"
    )
    assert "The judge is away." in text(browser, "#scores") and "Score again what failed" in text(browser, "#retry")
    browser.open(f"{url}/ui/job/{ids['waits']}?lang=zh", width=1300)
    browser.wait_for(READY)
    assert "排队中" in text(browser, ".hero") and "未定义" in text(browser, ".hero")
    assert browser.value("document.title").startswith("法国的首都是哪里？")
    browser.open(f"{url}/ui/job/none?lang=en", width=1300)
    browser.wait_for("document.querySelector('#job .problem')")
    assert "There is no job 'none'" in text(browser, "#job .problem")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A service of a test's own, which asks for tokens."""
    (tmp_path / "root").mkdir()
    free = {"judge_model": None, "metrics": ["token_f1"], "ground_truth": "Paris."}
    tasks = [job("others", "Of others?", faithfulness=FAITHFUL), job("waits", "When?", state=None, request=free)]
    with served(tmp_path / "root", tasks, tokens=True) as found:
        yield found


def opened(browser: Browser, address: str) -> None:
    browser.open(address, width=1300)
    browser.value("sessionStorage.clear()")
    browser.open(address, width=1300)


def test_who_may_submit_is_shown_the_jobs_of_their_own_token_alone(
    browser: Browser, own: tuple[str, dict[str, str]]
) -> None:
    url, ids = own
    opened(browser, f"{url}/ui/jobs?lang=en")
    sign_in(browser, SUBMIT)
    browser.wait_for("document.querySelector('#empty')")
    browser.open(f"{url}/ui/job/{ids['others']}?lang=en", width=1300)
    browser.wait_for("document.querySelector('#job .problem')")
    assert "There is no job" in text(browser, "#job .problem") and "Of others?" not in text(browser, "body")
    click(browser, "#sign-out")
    sign_in(browser, ADMIN)
    browser.wait_for("document.querySelector('h1').innerText === 'Of others?'")


def test_a_job_is_cancelled_scored_again_and_deleted_after_a_question(
    browser: Browser, own: tuple[str, dict[str, str]]
) -> None:
    url, ids = own

    def asked(path: str) -> Any:
        return call(f"{url}/api/score/jobs/{path}", "GET", token=ADMIN)

    opened(browser, f"{url}/ui/job/{ids['waits']}?lang=en")
    sign_in(browser, ADMIN)
    browser.wait_for("document.querySelector('#cancel')")
    click(browser, "#cancel")
    browser.wait_for("document.querySelector('#confirm-no')")
    click(browser, "#confirm-no")
    assert asked(ids["waits"]).json["status"] == "queued"
    click(browser, "#cancel")
    browser.wait_for("document.querySelector('#confirm-yes')")
    click(browser, "#confirm-yes")
    browser.wait_for("document.querySelector('#retry')")
    assert asked(ids["waits"]).json["status"] == "failed"
    click(browser, "#retry")
    browser.wait_for(f"location.pathname.startsWith('/ui/job/') && !location.pathname.endsWith('{ids['waits']}')")
    again = browser.value("location.pathname").rpartition("/")[2]
    assert asked(again).json["retry_of"] == ids["waits"]
    browser.open(f"{url}/ui/job/{ids['waits']}?lang=en", width=1300)
    browser.wait_for("document.querySelector('#forget')")
    click(browser, "#forget")
    browser.wait_for("document.querySelector('#confirm-yes')")
    click(browser, "#confirm-yes")
    browser.wait_for("location.pathname === '/ui/jobs' && document.querySelectorAll('#rows tr').length === 2")
    assert asked(ids["waits"]).status == 404


def test_people_agree_and_disagree_with_a_claim_and_take_it_back(
    browser: Browser, own: tuple[str, dict[str, str]]
) -> None:
    url, ids = own
    claim = "[data-claim='faithfulness.2']"

    def told() -> list[tuple[str, str, str]]:
        page = call(f"{url}/tasks/{ids['others']}/notes", "GET", token=ADMIN).data
        return [(each["sample"], each["metric"], each["verdict"]) for each in page["notes"]]

    opened(browser, f"{url}/ui/job/{ids['others']}?lang=en")
    sign_in(browser, ADMIN)
    pressed = f"document.querySelector(\"{claim} [data-verdict='{{}}'][aria-pressed='true']\")"
    browser.wait_for(f'document.querySelector("{claim} [data-verdict]")')
    click(browser, f"{claim} [data-verdict='agree']")
    browser.wait_for(pressed.format("agree"))
    assert told() == [("faithfulness.2", "faithfulness", "agree")]
    click(browser, f"{claim} [data-verdict='disagree']")
    browser.wait_for(f"{pressed.format('disagree')} && !{pressed.format('agree')}")
    assert told() == [("faithfulness.2", "faithfulness", "disagree")]
    click(browser, f"{claim} [data-verdict='disagree']")
    browser.wait_for(f"!{pressed.format('disagree')}")
    assert told() == []
