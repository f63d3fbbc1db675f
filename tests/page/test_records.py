"""The list of the records page: all tasks can be reached, the address keeps what is looked for, scores are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from autoscorer.schemas.task import TaskState

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.records_page import Done, click, put, scored, served, text

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def names(page: Browser) -> list[str]:
    return list(page.value("[...document.querySelectorAll('#rows td[data-key=name]')].map(c => c.innerText)"))


def cell(page: Browser, task: str, key: str) -> str:
    return str(page.value(f"document.querySelector('[data-id=\"{task}\"] [data-key={key}]').innerText"))


def shows(page: Browser, *expected: str) -> None:
    page.wait_for(
        "JSON.stringify([...document.querySelectorAll('#rows td[data-key=name]')].map(c => c.innerText)) === "
        + json.dumps(json.dumps(list(expected), separators=(",", ":")))
    )


def a_batch(root: Path, members: int) -> dict[str, Any]:
    return {
        "total": members,
        "seconds": 3.0,
        "outcomes": [
            {
                "workspace": str(root / f"round/member-{number:04}"),
                "state": "completed" if number else "failed",
                "metric": "f1",
                "score": number / members if number else None,
                "interval": {"low": 0.1, "high": 0.9, "level": 0.95, "method": "wilson"} if number else None,
                "higher_is_better": True,
                "pass": number > members / 2 if number else None,
                "seconds": 1.0,
                "error": None
                if number
                else {"code": "TIMEOUT_ERROR", "message": "late", "stage": "execution", "details": {}},
            }
            for number in range(members)
        ],
    }


@pytest.mark.parametrize("width", [390, 1300])
def test_the_list_shows_score_interval_metric_scorer_and_whether_it_passed(
    browser: Browser, root: Path, width: int
) -> None:
    results = {
        "good": scored(root, "good", pass_threshold=0.5),
        "low": scored(root, "low", pass_threshold=0.99),
        "plain": scored(root, "plain"),
    }
    with served(root, [Done(name, result=result) for name, result in results.items()]) as (url, ids):
        browser.open(f"{url}/?lang=en", width=width)
        shows(browser, "plain", "low", "good")
        for name, word in (("good", "passed"), ("low", "not passed"), ("plain", "completed")):
            assert cell(browser, ids[name], "state") == word
            score = cell(browser, ids[name], "score")
            interval = results[name]["intervals"]["f1_macro"]
            assert f"{results[name]['summary']['score']:.4f}" in score
            assert f"{interval['low']:.4f} – {interval['high']:.4f}" in score
            assert "f1_macro" in cell(browser, ids[name], "metric")
            assert cell(browser, ids[name], "scorer") == "classification_f1"
        # A submission below its threshold is not green.
        colour = "getComputedStyle(document.querySelector('[data-id=\"{}\"] .state')).color"
        assert browser.value(colour.format(ids["low"])) != browser.value(colour.format(ids["good"]))
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(CONTRAST) == []


def test_all_of_5000_tasks_can_be_reached(browser: Browser, root: Path) -> None:
    with served(root, [Done(f"team-{number:04}") for number in range(1, 5001)]) as (url, _):
        browser.open(f"{url}/?lang=en", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 100")
        assert text(browser, "#count") == "1–100 of 5,000"
        assert names(browser)[0] == "team-5000"
        assert browser.value("document.querySelector('#previous').disabled")
        click(browser, "#next")
        browser.wait_for("document.querySelector('#count').innerText === '101–200 of 5,000'")
        assert (names(browser)[0], names(browser)[-1]) == ("team-4900", "team-4801")
        click(browser, "#next")
        browser.wait_for("document.querySelector('#count').innerText === '201–300 of 5,000'")
        # Reloading shows the same page, going back the one before, and so does the button.
        browser.reload()
        browser.wait_for("document.querySelector('#count').innerText === '201–300 of 5,000'")
        click(browser, "#previous")
        browser.wait_for("document.querySelector('#count').innerText === '101–200 of 5,000'")
        browser.value("history.back()")
        browser.wait_for("document.querySelector('#count').innerText === '201–300 of 5,000'")
        click(browser, "#first")
        browser.wait_for("document.querySelector('#count').innerText === '1–100 of 5,000'")
        put(browser, "#q", "team-00")
        browser.wait_for("document.querySelector('#count').innerText === '99 tasks'")
        assert browser.value("document.querySelector('#pages')") is None


def test_tasks_are_found_by_part_of_a_name_and_the_address_keeps_what_is_looked_for(
    browser: Browser, root: Path
) -> None:
    error = {"code": "TIMEOUT_ERROR", "message": "late", "stage": "execution", "details": {}}
    tasks = [
        Done("spring/red-apples"),
        Done("spring/green-pears", TaskState.FAILED, error=error),
        Done("summer/red-cherries", None),
        Done("night", action="batch", result=a_batch(root, 3)),
        Done("100%", None),
    ]
    with served(root, tasks) as (url, ids):
        browser.open(f"{url}/?lang=en", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 5")
        put(browser, "#q", "RED-")
        shows(browser, "summer/red-cherries", "spring/red-apples")
        assert browser.value("new URLSearchParams(location.search).get('q')") == "RED-"
        put(browser, "#q", "spring")
        shows(browser, "spring/green-pears", "spring/red-apples")
        browser.value(
            "(s => { s.value = 'failed'; s.dispatchEvent(new Event('change')); })(document.querySelector('#state'))"
        )
        shows(browser, "spring/green-pears")
        assert cell(browser, ids["spring/green-pears"], "stage") == "The model took too long"
        # Opened and closed again, reloaded, back and forward: the filter stays.
        click(browser, "#rows a")
        browser.wait_for("document.querySelector('#detail .failure')")
        browser.value("history.back()")
        browser.wait_for("document.querySelector('#list')")
        assert browser.value("location.search.includes('q=spring') && location.search.includes('state=failed')")
        browser.reload()
        browser.wait_for(
            "document.querySelector('#q')?.value === 'spring' && document.querySelector('#state').value === 'failed'"
        )
        shows(browser, "spring/green-pears")
        browser.value("history.back()")
        browser.wait_for(
            "document.querySelector('#state').value === '' && document.querySelector('#q').value === 'spring'"
        )
        shows(browser, "spring/green-pears", "spring/red-apples")
        browser.value("history.back()")
        browser.wait_for("document.querySelector('#q').value === 'RED-'")
        browser.value("history.forward()")
        browser.wait_for("document.querySelector('#q').value === 'spring'")
        # A batch by one of its members, and that member's own record; or the batch alone.
        put(browser, "#q", "Member-0002")
        actions = "[...document.querySelectorAll('#rows [data-key=action]')].map(c => c.innerText).sort().join()"
        browser.wait_for(f"{actions} === 'batch,pipeline'")
        assert browser.value("document.querySelector('#with-members').checked")
        assert text(browser, "#rows .small a") == "member of a batch"
        click(browser, "#with-members")
        browser.wait_for(f"{actions} === 'batch'")
        assert browser.value("new URLSearchParams(location.search).get('members')") == "false"
        click(browser, "#with-members")
        browser.wait_for(f"{actions} === 'batch,pipeline'")
        assert browser.value("new URLSearchParams(location.search).has('members')") is False
        # A name that is not there; and back to all of them.
        put(browser, "#q", "<b>nobody")
        browser.wait_for("document.querySelector('#empty')")
        assert "“<b>nobody”" in text(browser, "#empty")
        click(browser, "#empty a")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 5")
        assert browser.value("location.search") == "?lang=en"
        # What no list has is left out, and does no harm.
        browser.open(f"{url}/?lang=en&state=nonsense&cursor=&first=x", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 5")


def test_a_batch_shows_all_of_its_members_and_finds_one(browser: Browser, root: Path) -> None:
    with served(root, [Done("night", action="batch", result=a_batch(root, 450))]) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['night']}", width=1300)
        browser.wait_for("document.querySelector('#members-on')")
        assert "1–100 of 450" in text(browser, "#detail")
        for _ in range(4):
            click(browser, "#members-on")
        assert "401–450 of 450" in text(browser, "#detail")
        assert browser.value("document.querySelector('#members-on').disabled")
        assert browser.value("document.activeElement.id") == "members-back"
        assert "The model took too long" in text(browser, "#detail")
        browser.reload()
        browser.wait_for("document.querySelector('#members-on')")
        assert "401–450 of 450" in text(browser, "#detail")
        browser.value("document.querySelector('#member').focus()")
        for letter in "R-0123":
            browser.press(letter)
        browser.wait_for("document.querySelector('#detail').innerText.includes('1–1 of 1')")
        assert browser.value("document.activeElement.id") == "member"
        assert browser.value("new URLSearchParams(location.search).get('member')") == "R-0123"
        assert "round/member-0123" in text(browser, "#detail")
        browser.reload()
        browser.wait_for("document.querySelector('#member')?.value === 'R-0123'")
        assert "1–1 of 1" in text(browser, "#detail")


def test_the_names_of_members_do_not_follow_to_another_task(browser: Browser, root: Path) -> None:
    tasks = [Done("night", action="batch", result=a_batch(root, 5)), Done("other")]
    with served(root, tasks) as (url, ids):
        browser.open(f"{url}/ui/record/{ids['night']}?lang=en&member=0001", width=1300)
        browser.wait_for("document.querySelector('#member')?.value === '0001'")
        click(browser, ".crumb a")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 2")
        click(browser, f"[data-id='{ids['other']}'] a")
        browser.wait_for(f"location.pathname === '/ui/record/{ids['other']}' && document.querySelector('#retry')")
        assert browser.value("location.search") == "?lang=en"
        browser.value("history.back()")
        browser.value("history.back()")
        browser.wait_for("document.querySelector('#member')?.value === '0001'")


# --- the members of a batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1300])
def test_a_batchs_members_are_sorted_narrowed_and_turned_page_by_page(browser: Browser, root: Path, width: int) -> None:
    with served(root, [Done("night", action="batch", result=a_batch(root, 120))]) as (url, ids):
        browser.open(f"{url}/ui/record/{ids['night']}?lang=en", width=width)
        browser.wait_for("document.querySelectorAll('#members #rows tr').length === 50")
        assert text(browser, "#member-count") == "1–50 of 120"
        # The best first; then the other way round, and by their names.
        assert names(browser)[:2] == ["round/member-0119", "round/member-0118"]
        click(browser, "#members th[data-key=name] button")
        browser.wait_for(f"{FIRST} === 'round/member-0000'")
        assert browser.value("new URLSearchParams(location.search).get('sort')") == "name"
        click(browser, "#members #next")
        browser.wait_for(f"{FIRST} === 'round/member-0050'")
        assert text(browser, "#member-count") == "51–100 of 120"
        assert browser.value("document.activeElement.id") == "members-title"
        choose(browser, "#member-state", "failed")
        browser.wait_for(f"{FIRST} === 'round/member-0000' && document.querySelectorAll('#rows tr').length === 1")
        assert "The model took too long" in text(browser, "#rows [data-key=stage]")
        browser.call("Page.reload")
        browser.wait_for(f"{FIRST} === 'round/member-0000' && document.querySelectorAll('#rows tr').length === 1")
        choose(browser, "#member-state", "cancelled")
        browser.wait_for("document.querySelector('#member-count').innerText === 'No member is like that.'")
        choose(browser, "#member-state", "")
        put(browser, "#member-name", "R-0123")
        put(browser, "#member-name", "R-0111")
        browser.wait_for("document.querySelector('#member-count').innerText === '1–1 of 1'")
        # Its places stand below, as ever.
        assert browser.value("document.querySelectorAll('table.board tbody tr').length") == 100
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(CONTRAST) == []


FIRST = "document.querySelector('#rows [data-key=name]')?.innerText"


def choose(page: Browser, selector: str, value: str) -> None:
    page.value(
        f"(s => {{ s.value = {json.dumps(value)}; s.dispatchEvent(new Event('change')); }})"
        f"(document.querySelector({json.dumps(selector)}))"
    )


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ("Records", "Batch", "The log is that of the batch.", "Member of")),
        ("zh", ("记录", "批次", "日志见所属批次。", "所属批次")),
    ],
)
def test_a_members_record_leads_to_its_batch_and_back(
    browser: Browser, root: Path, lang: str, words: tuple[str, ...]
) -> None:
    with served(root, [Done("night", action="batch", result=a_batch(root, 4))]) as (url, ids):
        browser.open(f"{url}/ui/record/{ids['night']}?lang={lang}&sort=name", width=1300)
        browser.wait_for(f"{FIRST} === 'round/member-0000'")
        click(browser, "#members #rows tr:nth-child(3) a")
        browser.wait_for("document.querySelector('#batch-of')")
        assert text(browser, "#title") == "round/member-0002"
        records, batch, log, of = words
        assert text(browser, ".crumb") == f"{records} › {batch}"
        assert log in text(browser, "#detail") and of in text(browser, "#detail")
        # What the batch says of it is there, though its workspace is not.
        assert "0.5" in text(browser, "#detail") and "This is what the batch tells" in text(browser, "#detail")
        assert browser.value("document.querySelector('#retry') !== null && !document.querySelector('#cancel')")
        assert browser.value(CONTRAST) == []
        click(browser, "#batch-of")
        browser.wait_for(f"location.pathname === '/ui/record/{ids['night']}' && document.querySelector('#members')")
        browser.value("history.back()")
        browser.wait_for("document.querySelector('#batch-of')")


def test_a_batch_from_before_members_had_records_shows_its_places(browser: Browser, root: Path) -> None:
    with served(root, [Done("old", action="batch", result=a_batch(root, 4), has_members=False)]) as (url, ids):
        browser.open(f"{url}/ui/record/{ids['old']}?lang=en", width=1300)
        browser.wait_for("document.querySelectorAll('table.board tbody tr').length === 4")
        browser.value("new Promise(done => setTimeout(done, 1000))")
        assert browser.value("document.querySelector('#members')") is None


def test_failed_members_are_repeated_from_the_batchs_list(browser: Browser, root: Path) -> None:
    from ..support.workspaces import write_workspace

    for number in range(3):
        write_workspace(root, f"round/member-{number:04}")
    with served(root, [Done("night", action="batch", result=a_batch(root, 3))]) as (url, ids):
        browser.open(f"{url}/ui/record/{ids['night']}?lang=en&state=failed", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 1")
        click(browser, "#rows input")
        browser.wait_for("document.querySelector('#again')")
        click(browser, "#again")
        browser.wait_for("document.querySelector('#members').innerText.includes('Done for 1.')")
        click(browser, ".crumb a")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 2")
        assert names(browser)[0] == "round/member-0000"
