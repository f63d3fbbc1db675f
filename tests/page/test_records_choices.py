"""What somebody chooses in the list of records: an order, columns, filters that are kept, several records at once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskState

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.local_api import LocalApi, serve_locally
from ..support.records_page import Done, click, put, scored, served, text
from .test_frame import a_task

pytestmark = pytest.mark.slow
NAMES = "[...document.querySelectorAll('#rows td[data-key=name]')].map(c => c.innerText)"


def shows(page: Browser, *names: str) -> None:
    page.wait_for(f"JSON.stringify({NAMES}) === {json.dumps(json.dumps(names, separators=(',', ':')))}")


def saved(page: Browser, selector: str) -> str:
    """What the browser is given to save by a click."""
    page.value(
        "window.given = null; window.realURL ??= URL.createObjectURL;"
        "URL.createObjectURL = blob => { blob.arrayBuffer().then(all => {"
        " given = new TextDecoder('utf-8', {ignoreBOM: true}).decode(all); }); return realURL(blob); };"
    )
    click(page, selector)
    page.wait_for("given !== null")
    return str(page.value("given"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalApi]:
    (tmp_path / "root").mkdir()
    with serve_locally(Settings(workspace_roots=(tmp_path / "root",), home=tmp_path / "home"), monkeypatch) as api:
        for name, state in (("one", "failed"), ("two", "cancelled"), ("three", "running"), ("four", "queued")):
            api.tasks.tasks[f"t-{name}"] = a_task(f"t-{name}", state)
        yield api


def test_a_click_on_a_head_sorts_and_the_address_keeps_it(browser: Browser, root: Path) -> None:
    good, better = scored(root, "b", right=0.6), scored(root, "a", right=0.95)
    with served(root, [Done("b", result=good), Done("a", result=better), Done("c", None)]) as (url, _):
        browser.open(f"{url}/?lang=en", width=1300)
        shows(browser, "c", "a", "b")
        click(browser, "th[data-key=score] button")
        shows(browser, "b", "a", "c")
        assert browser.value("document.querySelector('th[data-key=score]').getAttribute('aria-sort')") == "ascending"
        click(browser, "th[data-key=score] button")
        # What has no score comes last, whichever way.
        shows(browser, "a", "b", "c")
        assert browser.value("new URLSearchParams(location.search).get('sort')") == "-score"
        browser.reload()
        shows(browser, "a", "b", "c")
        browser.value("history.back()")
        shows(browser, "b", "a", "c")
        click(browser, "th[data-key=name] button")
        shows(browser, "a", "b", "c")


def test_a_csv_holds_what_is_shown_and_no_formula(browser: Browser, root: Path) -> None:
    result = scored(root, "team,a", pass_threshold=0.5)
    with served(root, [Done("=1+1", None), Done("team,a", result=result)]) as (url, ids):
        browser.open(f"{url}/?lang=en", width=1300)
        shows(browser, "team,a", "=1+1")
        click(browser, ".menu summary")
        browser.value("[...document.querySelectorAll('.menu label')].find(l => l.innerText.includes('Stage')).click()")
        browser.wait_for("document.querySelector('th[data-key=stage]') === null")
        written = saved(browser, "#csv")
        assert written.startswith("\ufeff")
        rows = list(csv.DictReader(io.StringIO(written.removeprefix("\ufeff"))))
        assert rows[0]["name"] == "team,a" and "stage" not in rows[0]
        interval = result["intervals"]["f1_macro"]
        for key, value in (("score", result["summary"]["score"]), ("low", interval["low"]), ("high", interval["high"])):
            assert float(rows[0][key]) == value
        assert rows[0]["state"] == "passed" and rows[0]["id"] == ids["team,a"]
        assert rows[1]["name"] == "'=1+1" and rows[1]["score"] == ""
        # The columns are remembered in this browser.
        browser.reload()
        browser.wait_for("document.querySelectorAll('#rows tr').length === 2")
        assert browser.value("document.querySelector('th[data-key=stage]')") is None
        browser.value("localStorage.clear()")


def test_a_filter_is_saved_found_again_and_forgotten(browser: Browser, root: Path) -> None:
    with served(root, [Done("red-1"), Done("red-2", TaskState.FAILED, error=None), Done("green")]) as (url, _):
        browser.open(f"{url}/?lang=en", width=1300)
        shows(browser, "green", "red-2", "red-1")
        put(browser, "#q", "red")
        shows(browser, "red-2", "red-1")
        saved_filters = ".narrowing .menu"
        click(browser, f"{saved_filters} summary")
        click(browser, f"{saved_filters} div > button")
        browser.open(f"{url}/?lang=en", width=1300)
        shows(browser, "green", "red-2", "red-1")
        browser.wait_for(f"document.querySelector('{saved_filters} li a')?.textContent === 'red'")
        click(browser, f"{saved_filters} li a")
        shows(browser, "red-2", "red-1")
        click(browser, f"{saved_filters} li button")
        browser.wait_for(f"document.querySelector('{saved_filters} li') === null")
        browser.value("localStorage.clear()")


def test_several_are_run_again_or_cancelled_at_once_after_a_question(browser: Browser, api: LocalApi) -> None:
    browser.open(api.url + "/?lang=en", width=1300)
    browser.wait_for("document.querySelectorAll('#rows tr').length === 4")
    assert browser.value("document.querySelector('#selected')") is None
    click(browser, "th.pick input")
    browser.wait_for("document.querySelector('#selected')?.innerText.includes('4 chosen')")
    assert text(browser, "#again") == "Run again (2)" and text(browser, "#cancel-all") == "Cancel (2)"
    click(browser, "#cancel-all")
    browser.wait_for("document.activeElement.id === 'confirm-no'")
    assert "Cancel 2 tasks?" in text(browser, "dialog")
    click(browser, "#confirm-no")
    assert api.tasks.calls == []
    click(browser, "#cancel-all")
    browser.wait_for("document.querySelector('#confirm-yes')")
    click(browser, "#confirm-yes")
    browser.wait_for("document.querySelectorAll('#rows .state.cancelled').length === 3")
    assert sorted(api.tasks.calls) == [("cancel", "t-four"), ("cancel", "t-three")]
    browser.wait_for("document.querySelector('#list').innerText.includes('Done for 2.')")
    click(browser, "[data-id=t-one] .pick input")
    browser.wait_for("document.querySelector('#again')")
    click(browser, "#again")
    browser.wait_for("document.querySelector('[data-id=t-one-2]')")
    assert ("retry", "t-one") in api.tasks.calls


def test_two_scored_records_are_compared(browser: Browser, root: Path) -> None:
    tasks = [Done(name, result=scored(root, name)) for name in ("a", "b", "c")]
    with served(root, tasks) as (url, ids):
        browser.open(f"{url}/?lang=en", width=1300)
        shows(browser, "c", "b", "a")
        click(browser, f"[data-id='{ids['a']}'] .pick input")
        browser.wait_for("document.querySelector('#selected')")
        assert browser.value("document.querySelector('#compare')") is None
        click(browser, f"[data-id='{ids['c']}'] .pick input")
        browser.wait_for("document.querySelector('#compare')")
        address = browser.value("document.querySelector('#compare').getAttribute('href')")
        assert address == f"/ui/compare?lang=en&a={ids['c']}&b={ids['a']}"
