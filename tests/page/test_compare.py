"""Two records side by side on the page, a record's samples, and what people say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.schemas.task import TaskState
from autoscorer.tasks.score import score_workspace

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.calls import call
from ..support.facade import ADMIN, SUBMIT
from ..support.records_page import Done, click, put, scored, served, sign_in, text
from ..support.workspaces import write_workspace

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)>"
COMPARED = "document.querySelector('#samples')"
IDS = "[...document.querySelectorAll('#sample-rows tbody tr')].map(row => row.dataset.id)"


def hostile(root: Path) -> dict[str, Any]:
    """A Result whose ids and labels are written by somebody who means harm."""
    truth = "id,label\n" + f"{EVIL},{EVIL}\n" + f"{'long' * 100},x\n"
    pred = "id,label\n" + f"{EVIL},\u202eabc\n" + f"{'long' * 100},{EVIL}\n"
    result = score_workspace(write_workspace(root, "hostile", truth=truth, pred=pred)).to_dict()
    assert result["error"] is None
    return result


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A service that asks for tokens, with records that were really scored; tests write notes alone."""
    root = tmp_path_factory.mktemp("compared") / "root"
    root.mkdir()
    tasks = [
        Done("good", result=scored(root, "good", right=0.9, pass_threshold=0.8)),
        Done("better", result=scored(root, "better", right=0.97, pass_threshold=0.9)),
        Done("other", result=scored(root, "other", classes=5)),
        Done("hostile", result=hostile(root)),
        Done(
            "broken",
            TaskState.FAILED,
            error={"code": "SCORER_ERROR", "message": "It broke.", "stage": "scoring", "details": {}},
        ),
    ]
    with served(root, tasks, tokens=True, home=root.with_name("home")) as found:
        yield found


def opened(browser: Browser, address: str, token: str = ADMIN, **how: Any) -> None:
    """Open an address as somebody who has signed in."""
    browser.open(address, **{"width": 1300, **how})
    if browser.value("sessionStorage.getItem('autoscorer-token')") != token:
        browser.value("sessionStorage.clear()")
        browser.open(address, **{"width": 1300, **how})
        sign_in(browser, token)


def told(url: str, path: str, token: str = ADMIN) -> Any:
    return call(f"{url}{path}", "GET", token=token).data


def test_two_records_show_both_scores_on_one_scale_and_what_the_api_says_of_each_metric(
    browser: Browser, records: tuple[str, dict[str, str]]
) -> None:
    url, ids = records
    compared = told(url, f"/compare?a={ids['good']}&b={ids['better']}")
    opened(browser, f"{url}/ui/compare?lang=en&a={ids['good']}&b={ids['better']}")
    browser.wait_for(COMPARED)
    assert not browser.value("document.querySelector('#incomparable')")
    said = browser.value("[...document.querySelectorAll('.side')].map(each => each.innerText)")
    for side, words in zip((compared["a"], compared["b"]), said, strict=True):
        assert f"{side['score']:.4f}" in words and f"{side['interval']['low']:.4f} to" in words
    assert text(browser, "#better") == f"B is better by {compared['b']['score'] - compared['a']['score']:.4f}."
    assert browser.value("document.querySelectorAll('.scale svg').length") == 2
    differences = browser.value(
        "[...document.querySelectorAll('#metrics tbody tr')]"
        ".map(row => Number(row.children[3].querySelector('data').value))"
    )
    assert differences == [each["difference"] for each in compared["metrics"] if "/" not in each["name"]]
    assert "pass_threshold" in text(browser, "#params") and "Predictions, sha256" in text(browser, "#provenance")
    assert browser.value(IDS) == [each["id"] for each in compared["samples"]["samples"]]
    click(browser, "#swap")
    browser.wait_for("document.querySelector('#side-A').innerText.includes('better')")
    assert text(browser, "#better").startswith("A is better by")
    assert browser.value(CONTRAST) == []


def test_only_where_they_differ_and_which_samples_stand_in_the_address(
    browser: Browser, records: tuple[str, dict[str, str]]
) -> None:
    url, ids = records
    same = f"a={ids['good']}&b={ids['good']}"
    opened(browser, f"{url}/ui/compare?lang=zh&only=different&{same}")
    browser.wait_for(COMPARED)
    assert "所有指标都相同" in text(browser, "#metrics") and "没有结果不同的样本" in text(browser, "#samples")
    opened(browser, f"{url}/ui/compare?lang=en&a={ids['good']}&b={ids['better']}")
    browser.wait_for("document.querySelector('#change')")
    put(browser, "#change", "gained")
    browser.wait_for(
        "[...document.querySelectorAll('#sample-rows tbody tr')].every(row => row.dataset.change === 'gained')"
    )
    asked = told(url, f"/compare?a={ids['good']}&b={ids['better']}&change=gained")
    assert browser.value(IDS) == [each["id"] for each in asked["samples"]["samples"]] != []
    assert "change=gained" in browser.value("location.search")


def test_records_that_do_not_compare_are_shown_with_a_warning_and_without_a_winner(
    browser: Browser, records: tuple[str, dict[str, str]]
) -> None:
    url, ids = records
    opened(browser, f"{url}/ui/compare?lang=zh&a={ids['good']}&b={ids['other']}", scheme="dark")
    browser.wait_for(COMPARED)
    assert "不可比" in text(browser, "#incomparable") and "标准答案" in text(browser, "#incomparable")
    assert not browser.value("document.querySelector('#better') || document.querySelector('.scale')")
    assert browser.value(CONTRAST) == []
    opened(browser, f"{url}/ui/compare?lang=en&a={ids['good']}&b={ids['broken']}")
    browser.wait_for("document.querySelector('#compared .problem')")
    assert "has no Result" in text(browser, "#compared .problem")
    put(browser, "#b", ids["better"])
    click(browser, "#choose button")
    browser.wait_for("document.querySelector('#better')")


def test_whoever_may_not_see_the_ground_truth_is_told_so_in_place_of_samples(
    browser: Browser, records: tuple[str, dict[str, str]]
) -> None:
    url, ids = records
    opened(browser, f"{url}/ui/compare?lang=en&a={ids['good']}&b={ids['better']}", SUBMIT)
    browser.wait_for(COMPARED)
    assert "which your token may not see" in text(browser, "#samples")
    assert not browser.value("document.querySelector('#sample-rows')")
    browser.open(f"{url}/ui/record/{ids['good']}?lang=en", width=1300)
    browser.wait_for("document.querySelector('#samples')")
    assert "Samples are not shown to you." in text(browser, "#samples") and "role admin" in text(browser, "#samples")
    assert not browser.value("document.querySelector('.problem')")


def test_a_records_samples_are_found_by_verdict_and_by_a_part_of_them(
    browser: Browser, records: tuple[str, dict[str, str]]
) -> None:
    url, ids = records
    path = f"/tasks/{ids['good']}/samples"
    opened(browser, f"{url}/ui/record/{ids['good']}?lang=en")
    browser.wait_for("document.querySelectorAll('#sample-rows tbody tr').length === 20")
    counts = told(url, path)["counts"]
    assert f"200 samples were scored. {counts['right']} right, {counts['wrong']} wrong." in text(browser, "#samples")
    assert browser.value(IDS) == [each["id"] for each in told(url, f"{path}?limit=20")["samples"]]
    put(browser, "#sample-verdict", "wrong")
    wrong = told(url, f"{path}?verdict=wrong&q=k0001")
    browser.wait_for("location.search.includes('verdict=wrong')")
    put(browser, "#sample-find", "k0001")
    browser.wait_for(f"document.querySelectorAll('#sample-rows tbody tr').length === {min(20, wrong['found'])}")
    assert browser.value(IDS) == [each["id"] for each in wrong["samples"]][:20]
    put(browser, "#sample-verdict", "right")
    right = told(url, f"{path}?verdict=right&q=k0001&limit=20")
    browser.wait_for(f"{IDS}[0] === {json.dumps(right['samples'][0]['id'])}")
    click(browser, "#next")
    browser.wait_for(f"{IDS}[0] !== {json.dumps(right['samples'][0]['id'])}")
    put(browser, "#sample-find", "nothing of it")
    browser.wait_for("document.querySelector('#samples .empty')")


def test_notes_are_written_about_a_sample_or_all_of_it_and_deleted_after_a_question(
    browser: Browser, records: tuple[str, dict[str, str]]
) -> None:
    url, ids = records

    def notes() -> list[Any]:
        return list(told(url, f"/tasks/{ids['better']}/notes")["notes"])

    opened(browser, f"{url}/ui/record/{ids['better']}?lang=en")
    browser.wait_for(
        "document.querySelectorAll('#sample-rows [data-verdict]').length && document.querySelector('#note-form')"
    )
    first = browser.value(f"{IDS}[0]")
    click(browser, "#note-form button[type='submit']")
    browser.wait_for("document.querySelector('#note-empty')")
    assert browser.value("document.activeElement.id") == "note-text"
    click(browser, "#sample-rows tbody tr td > button.quiet")
    browser.wait_for("document.querySelector('#note-form .tag')")
    assert first in text(browser, "#note-form .tag")
    put(browser, "#note-text", f"{EVIL} it is a cat")
    put(browser, "#note-verdict", "disagree")
    click(browser, "#note-form button[type='submit']")
    browser.wait_for("document.querySelectorAll('.note').length === 1")
    assert [(each["sample"], each["verdict"], each["text"]) for each in notes()] == [
        (first, "disagree", f"{EVIL} it is a cat")
    ]
    said = text(browser, ".note")
    assert EVIL in said and "you" in said and "only by those who may see the ground truth" in said
    browser.wait_for("!location.search.includes('note=')")
    click(browser, ".note button")
    browser.wait_for("document.querySelector('#confirm-yes')")
    click(browser, "#confirm-yes")
    browser.wait_for("!document.querySelector('.note')")
    assert notes() == []


def test_what_a_token_may_not_delete_is_refused_in_words_and_stays(
    browser: Browser, records: tuple[str, dict[str, str]]
) -> None:
    url, ids = records
    path = f"/tasks/{ids['other']}/notes"
    # Of somebody who sees no ground truth, so that all may read it; an admin deletes it, and another one may not.
    assert call(f"{url}{path}", "POST", {"text": "Of the submitter."}, token=SUBMIT).status == 201
    opened(browser, f"{url}/ui/record/{ids['other']}?lang=zh", width=390)
    browser.wait_for("document.querySelectorAll('.note').length === 1")
    assert "提交者" in text(browser, ".note")
    assert browser.value("document.documentElement.scrollWidth") == 390
    click(browser, ".note button")
    browser.wait_for("document.querySelector('#confirm-yes')")
    click(browser, "#confirm-yes")
    browser.wait_for("!document.querySelector('.note')")


@pytest.mark.parametrize("view", ["record", "compare"])
def test_hostile_ids_and_labels_stay_text_and_widen_no_page(
    browser: Browser, records: tuple[str, dict[str, str]], view: str
) -> None:
    url, ids = records
    there = {
        "record": f"record/{ids['hostile']}?lang=en",
        "compare": f"compare?lang=en&a={ids['hostile']}&b={ids['good']}",
    }
    opened(browser, f"{url}/ui/{there[view]}", width=320)
    browser.wait_for(COMPARED)
    if view == "record":
        assert EVIL in text(browser, "#samples")
    assert not browser.value("document.querySelector('main img[src=x]')")
    assert browser.value("document.documentElement.scrollWidth") == 320
