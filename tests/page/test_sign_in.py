"""Signing in to the page: what a token is; a wrong one says so; nothing stays for who is not signed in."""

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
OUTSIDE = "document.querySelector('#sign-in')"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "root").mkdir()
    with served(tmp_path / "root", [Done("secret-team")], tokens=True) as (address, _):
        yield address


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [390, 1300])
def test_what_a_token_is_and_where_to_get_it_is_told(browser: Browser, url: str, width: int, language: str) -> None:
    browser.open(f"{url}/?lang={language}", width=width)
    browser.wait_for(OUTSIDE)
    click(browser, "#sign-in summary")
    said = text(browser, "#sign-in")
    for part in {
        "en": ("a long password", "Ask your operator", "AUTOSCORER_API_TOKENS", "until you close the tab"),
        "zh": ("一段长密码", "向管理员索取", "AUTOSCORER_API_TOKENS", "关闭标签页"),
    }[language]:
        assert part in said
    assert browser.value(CONTRAST) == []
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_a_wrong_token_says_so_and_is_not_kept(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?lang=en", width=1300)
    browser.wait_for("document.activeElement.id === 'token'")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#token-problem')?.innerText.includes('Type or paste')")
    sign_in(browser, "admin:" + ADMIN)
    browser.wait_for("document.querySelector('#token-problem')?.innerText.includes('does not know that token')")
    browser.wait_for("document.activeElement.id === 'token'")
    assert browser.value("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]
    sign_in(browser, ADMIN)
    browser.wait_for(LISTED)
    assert browser.value(OUTSIDE) is None
    assert text(browser, "#sign-out") == "Sign out"


@pytest.mark.parametrize(
    "address", ["/", "/ui/record/x", "/ui/jobs", "/ui/benchmarks", "/ui/workspaces", "/ui/scorers"]
)
def test_every_view_asks_for_a_token_and_shows_nothing_before(browser: Browser, url: str, address: str) -> None:
    browser.open(f"{url}{address}?lang=en", width=1300)
    browser.wait_for(OUTSIDE)
    assert "You are not signed in" in text(browser, "#sign-in")
    assert browser.value("document.querySelectorAll('main .card').length") == 1


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
    browser.wait_for("document.querySelector('#detail .part dl')")
    # As after the operator's change: the API knows it no longer.
    browser.value(
        "window.real = fetch; fetch = (path, options) => real(path, {...options, headers: {...options.headers,"
        " ...(options.headers.Authorization ? {Authorization: 'Bearer withdrawn'} : {})}})"
    )
    browser.wait_for("document.querySelector('#token-problem')?.innerText.includes('may also have been changed')")
    assert "secret-team" not in text(browser, "body")
    assert browser.value("[sessionStorage.length, document.querySelector('#detail')]") == [0, None]
    assert "secret-team" not in browser.value("document.title")


def test_an_answer_that_comes_after_signing_out_is_not_shown(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?lang=en#token={ADMIN}", width=1300)
    browser.wait_for(LISTED)
    # Answers arrive late from now on, and the page asks just before somebody signs out.
    browser.value(
        "window.late = []; window.real = fetch;"
        "fetch = async (path, options) => { const answer = await real(path, {...options, signal: undefined});"
        " if (options?.headers?.Authorization) await new Promise(r => late.push(r)); return answer; }"
    )
    browser.wait_for("late.length")
    # Not even for a moment.
    browser.value(
        "window.shown = false; document.querySelector('#sign-out').click();"
        "setTimeout(() => new MutationObserver(() => { shown ||= document.querySelector('#rows tr') !== null; })"
        ".observe(document.body, {childList: true, subtree: true}), 100)"
    )
    browser.wait_for(OUTSIDE)
    browser.value("new Promise(r => setTimeout(() => { late.forEach(each => each()); setTimeout(r, 500); }, 200))")
    assert browser.value("shown") is False
    assert "secret-team" not in text(browser, "body")
