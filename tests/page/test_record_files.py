"""Files of a task on the records page: its own run's, opened with or without tokens, or said to be gone."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from autoscorer.tasks.score import score_workspace

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.facade import ADMIN, SUBMIT
from ..support.records_page import Done, click, scored, served, sign_in, text, visit

pytestmark = pytest.mark.slow
READY = "document.querySelector('#detail .part dl')"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def scored_twice(root: Path) -> list[dict[str, Any]]:
    """A workspace that was scored, got worse predictions, and was scored again."""
    first = scored(root, "team", pass_threshold=0.5)
    predictions = root / "team/output/pred.csv"
    lines = predictions.read_text().splitlines()
    predictions.write_text("\n".join([lines[0], *(f"{line.split(',')[0]},k0000" for line in lines[1:])]) + "\n")
    second = score_workspace(root / "team").to_dict()
    assert second["summary"]["score"] < 0.5 < first["summary"]["score"]
    return [first, second]


@pytest.mark.parametrize("tokens", [False, True])
def test_an_old_record_opens_its_own_runs_report(browser: Browser, root: Path, tokens: bool) -> None:
    first, second = scored_twice(root)
    tasks = [Done("team", result=first), Done("team", result=second)]
    with served(root, tasks, tokens=tokens) as (url, _):
        browser.open(f"{url}/?lang=en", width=1300)
        if tokens:
            sign_in(browser, ADMIN)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 2")
        ids = browser.value("[...document.querySelectorAll('#rows tr')].map(r => r.dataset.id)")
        for task, result in zip(reversed(ids), (first, second), strict=True):
            browser.open(f"{url}/?lang=en#{task}", width=1300)
            if tokens:
                # A tab of its own would ask again; this one was left.
                browser.wait_for(READY)
            browser.wait_for("document.querySelector('a.button')")
            opened = browser.value("document.querySelector('a.button').href")
            assert (ADMIN in opened, "/signed/" in opened) == (False, tokens)
            browser.wait_for("document.querySelectorAll('#detail figure img').length === 2")
            # As a click does, in a tab that knows no token.
            shown = visit(browser, opened)
            assert f"{result['summary']['score']:.4f}" in shown
            assert ("✓ Pass" in shown, "✗ Fail" in shown) == (result is first, result is second)
            table = browser.value("[...document.querySelectorAll('a')].find(a => a.href.endsWith('errors.csv')).href")
            assert httpx.get(table, trust_env=False).text.startswith("id,")


def test_a_submit_token_opens_what_it_may_see(browser: Browser, root: Path) -> None:
    result = scored(root, "team", rows=600)
    with served(root, [Done("team", result=result)], tokens=True) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['team']}", width=1300)
        sign_in(browser, SUBMIT)
        browser.wait_for("document.querySelector('#detail a[data-file]')")
        links = browser.value(
            "[...document.querySelectorAll('#detail a[data-file]')].map(a => [a.dataset.file, a.href])"
        )
        assert links and "errors.csv" not in dict(links)
        assert [httpx.get(address, trust_env=False).status_code for _, address in links] == [200] * len(links)
        # What takes the role admin is refused behind the same signature.
        plot = dict(links)["confusion_matrix.svg"]
        assert "FORBIDDEN" in visit(browser, plot.replace("confusion_matrix.svg", "errors.csv"))


def test_what_is_gone_is_said_and_leads_nowhere(browser: Browser, root: Path) -> None:
    first, _ = scored_twice(root)
    shutil.rmtree(root / "team/.autoscorer", ignore_errors=True)
    (root / "team/output/artifacts/errors.csv").unlink()
    for path in root.glob("team/**/" + "*"):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() in {
            each["sha256"] for name, each in first["artifacts"].items() if name == "report"
        }:
            path.unlink()
    with served(root, [Done("team", result=first)]) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['team']}", width=1300)
        browser.wait_for("document.querySelector('#detail')?.innerText.includes('no longer kept')")
        assert text(browser, "#detail").count("no longer kept") >= 2
        assert "has made room for newer runs" in text(browser, "#detail")
        assert browser.value("document.querySelector('a.button')") is None
        assert f"{first['summary']['score']:.4f}" in text(browser, ".hero")


def test_links_are_signed_anew_before_they_end(browser: Browser, root: Path) -> None:
    with served(root, [Done("team", result=scored(root, "team"))], tokens=True) as (url, ids):
        # Minutes are moments here.
        sooner = "window.later = setTimeout; setTimeout = (work, wait) => later(work, wait > 60000 ? 3000 : wait);"
        browser.open(f"{url}/?lang=en#{ids['team']}", width=1300, script=sooner)
        sign_in(browser, ADMIN)
        browser.wait_for("document.querySelector('a.button')")
        browser.value("window.link = document.querySelector('a.button'); window.before = link.href; link.focus()")
        # The link is the same one, and keeps the focus.
        browser.wait_for("link.isConnected && link.href !== before && document.activeElement === link")
        assert "AutoScorer report" in visit(browser, browser.value("link.href"))


def test_who_signs_out_takes_the_pictures_along(browser: Browser, root: Path) -> None:
    with served(root, [Done("team", result=scored(root, "team"))], tokens=True) as (url, ids):
        browser.open(f"{url}/?lang=en#{ids['team']}", width=1300)
        sign_in(browser, ADMIN)
        browser.wait_for("document.querySelectorAll('#detail figure img').length === 2")
        picture = browser.value("document.querySelector('#detail figure img').src")
        assert picture.startswith("blob:")
        click(browser, "#sign-out")
        browser.wait_for("document.querySelector('#sign-in')")
        browser.wait_for("document.querySelectorAll('#detail img, #rows tr').length === 0")
        # Its address leads nowhere any more.
        browser.value(
            "window.seen = ''; i = new Image(); i.onload = () => seen = 'shown'; i.onerror = () => seen = 'gone';"
            f" i.src = '{picture}'"
        )
        browser.wait_for("window.seen")
        assert browser.value("seen") == "gone"
