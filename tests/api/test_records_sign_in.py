"""Signing in to the records page: what a token is, in plain words; a wrong one says so; nobody is pressed twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.facade import ADMIN
from ..support.records_page import Done, click, served, sign_in, text

pytestmark = pytest.mark.slow
LISTED = "document.querySelectorAll('#rows tr').length === 1"
OUTSIDE = "!document.querySelector('#outside').hidden"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "root").mkdir()
    with served(tmp_path / "root", [Done("secret-team")], tokens=True) as (address, _):
        yield address


def refreshed(page: Browser) -> None:
    """Let the page ask again, and get its answer."""
    page.value("performance.clearResourceTimings(); document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for("performance.getEntriesByType('resource').some(r => r.name.includes('/tasks?'))")
    page.value("new Promise(r => setTimeout(r, 100))")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [390, 1300])
def test_what_a_token_is_and_where_to_get_it_is_told(browser: Browser, url: str, width: int, language: str) -> None:
    browser.open(f"{url}/?lang={language}", width=width)
    browser.wait_for("document.querySelector('#token-dialog').open")
    said = text(browser, "#token-dialog")
    for part in {
        "en": ("a long password", "Ask your operator", "AUTOSCORER_API_TOKENS", "until you close the tab"),
        "zh": ("一段长密码", "向管理员索取", "AUTOSCORER_API_TOKENS", "关闭标签页"),
    }[language]:
        assert part in said
    assert browser.value(CONTRAST) == []
    assert browser.value("(d => d.scrollWidth <= d.clientWidth)(document.querySelector('#token-dialog'))")


def test_a_wrong_token_says_so_and_is_not_kept(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?lang=en", width=1300)
    browser.wait_for("document.querySelector('#token-dialog').open")
    browser.press("Enter", code=13, text="\r")
    browser.wait_for("document.querySelector('#token-problem').innerText.includes('Type or paste')")
    sign_in(browser, "admin:" + ADMIN)
    browser.wait_for("document.querySelector('#token-problem').innerText.includes('does not know that token')")
    browser.wait_for("document.activeElement.id === 'token'")
    assert browser.value("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]
    sign_in(browser, ADMIN)
    browser.wait_for(LISTED)
    assert browser.value("document.querySelector('#token-dialog').open") is False
    assert text(browser, "#sign-out") == "Sign out"


def test_who_does_not_sign_in_is_asked_once(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?lang=en", width=1300)
    browser.wait_for("document.querySelector('#token-dialog').open")
    sign_in(browser, "wrong")
    browser.wait_for("document.querySelector('#token-problem').innerText.includes('does not know')")
    browser.press("Escape", code=27)
    browser.wait_for("!document.querySelector('#token-dialog').open")
    refreshed(browser)
    refreshed(browser)
    assert browser.value("document.querySelector('#token-dialog').open") is False
    assert "You are not signed in" in text(browser, "#outside") and "secret-team" not in text(browser, "body")
    click(browser, "#outside-in")
    sign_in(browser, ADMIN)
    browser.wait_for(LISTED)


def test_a_link_with_a_token_signs_in_and_loses_it_from_the_address(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?lang=en&q=secret#token={ADMIN}", width=1300)
    browser.wait_for(LISTED)
    assert browser.value("location.href") == f"{url}/?lang=en&q=secret"
    assert not any(ADMIN in address for address in browser.requests())
    # Where somebody has signed in already, too.
    click(browser, "#sign-out")
    browser.wait_for(OUTSIDE)
    browser.value(f"location.hash = {json.dumps(f'#token={ADMIN}')}")
    browser.wait_for(LISTED)
    assert browser.value("location.hash") == ""


def test_a_token_that_is_withdrawn_takes_everything_off_the_screen(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?lang=en#token={ADMIN}", width=1300)
    browser.wait_for(LISTED)
    click(browser, "#rows a")
    browser.wait_for("document.querySelector('#detail-below dl')")
    # As after the operator's change: the API knows it no longer.
    browser.value("sessionStorage.setItem('autoscorer-token', 'withdrawn')")
    refreshed(browser)
    browser.wait_for("document.querySelector('#token-dialog').open")
    assert "secret-team" not in text(browser, "body")
    assert browser.value("document.querySelectorAll('#rows tr, #detail-body *, #detail-below *').length") == 0


def test_an_answer_that_comes_after_signing_out_is_not_shown(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?lang=en#token={ADMIN}", width=1300)
    browser.wait_for(LISTED)
    # Answers to questions about tasks arrive late from now on, and the page asks just before somebody signs out.
    browser.value(
        "window.late = []; window.real = fetch;"
        "fetch = async (path, options) => { const answer = await real(path, options);"
        " if (options?.headers?.Authorization) await new Promise(r => late.push(r)); return answer; };"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    browser.wait_for("late.length")
    click(browser, "#sign-out")
    # Not even for a moment.
    browser.value(
        "window.shown = false; new MutationObserver(() => { shown ||= document.querySelector('#rows tr') !== null; })"
        ".observe(document.querySelector('#rows'), {childList: true});"
        "late.forEach(r => r()); new Promise(r => setTimeout(r, 300))"
    )
    assert browser.value("shown") is False
    browser.wait_for(OUTSIDE)
    assert "secret-team" not in text(browser, "body")
    assert browser.value("document.querySelector('#token-dialog').open") is False
