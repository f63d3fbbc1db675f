"""The page shows what happens as it happens: by one stream, and without it by asking now and then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.facade import Facade, facade, facade_settings
from ..support.workspaces import write_workspace

pytestmark = pytest.mark.slow

ROWS = "document.querySelectorAll('#rows tr').length === {}"
# No look that is due later than this comes: what is seen was told.
NEVER_LATER = "window.later = setTimeout; setTimeout = (work, wait) => wait > 900 ? 0 : later(work, wait);"
# Each address that is asked for, by its beginning.
COUNTED = (
    "window.asked = []; window.real = fetch;"
    "fetch = (path, options) => { asked.push(String(path).split('?')[0]); return real(path, options); };"
)
CUT = (
    "window.real = fetch;"
    "fetch = (path, how) => path === '/events' ? Promise.reject(new TypeError('cut')) : real(path, how);"
)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Facade]:
    root = tmp_path / "root"
    for name in ("one", "two", "three"):
        write_workspace(root, name)
    with facade(facade_settings(root, tokens=False)) as running:
        yield running


def submit(api: Facade, name: str) -> str:
    return str(api.call("POST", "/submit", {"action": "score", "workspace": name}).data["id"])


def live(page: Browser) -> None:
    page.wait_for("import('/static/core/stream.js').then(m => m.isLive.value)")


def test_a_new_record_is_told_and_so_is_its_end(browser: Browser, api: Facade) -> None:
    browser.open(api.url + "/?lang=en", width=1300, script=NEVER_LATER)
    live(browser)
    task = submit(api, "one")
    browser.wait_for(ROWS.format(1))
    submit(api, "two")
    browser.wait_for(ROWS.format(2))
    api.call("POST", f"/tasks/{task}/cancel")
    browser.wait_for(f"document.querySelector('[data-id=\"{task}\"] .state').innerText === 'cancelled'")


def test_where_a_script_does_not_arrive_it_is_told_and_the_page_comes_by_itself(browser: Browser, api: Facade) -> None:
    submit(api, "one")
    tries = "sessionStorage.getItem('autoscorer-begun')"
    browser.call("Network.setBlockedURLs", urls=["*/static/core/live.js"])
    browser.open(api.url + "/ui/records?lang=en")
    browser.wait_for(f"{tries} >= 2 && getComputedStyle(document.querySelector('#loading')).visibility === 'visible'")
    said = browser.value("document.querySelector('#loading').innerText")
    assert "reload it" in said and "刷新" in said
    browser.call("Network.setBlockedURLs", urls=[])
    browser.wait_for(ROWS.format(1))
    assert browser.value(f"[document.querySelector('#loading'), {tries}]") == [None, None]


def test_an_open_record_asks_only_for_what_is_its_own(browser: Browser, api: Facade) -> None:
    task = submit(api, "one")
    browser.open(api.url + f"/ui/record/{task}?lang=en", width=1300, script=NEVER_LATER + COUNTED)
    live(browser)
    browser.wait_for("document.querySelector('#cancel')")
    other = submit(api, "two")
    api.call("POST", f"/tasks/{other}/cancel")
    # What was told of the other one has come when this one's own end has.
    browser.value("asked.length = 0")
    api.call("POST", f"/tasks/{task}/cancel")
    browser.wait_for("document.querySelector('#retry')")
    own = {f"/tasks/{task}", f"/tasks/{task}/logs", f"/tasks/{task}/notes", "/readyz"}
    assert set(browser.value("asked")) <= own


def test_where_no_stream_gets_through_it_asks_now_and_then(browser: Browser, api: Facade) -> None:
    browser.open(api.url + "/?lang=en", width=1300, script=CUT)
    browser.wait_for("document.querySelector('#empty')")
    submit(api, "one")
    browser.wait_for(ROWS.format(1))
    assert browser.value("import('/static/core/stream.js').then(m => m.isLive.value)") is False


def test_what_has_not_changed_is_not_sent_again(browser: Browser, api: Facade) -> None:
    submit(api, "one")
    browser.open(api.url + "/?lang=en", width=1300, script=CUT)
    browser.wait_for(ROWS.format(1))
    browser.value(
        "window.answers = []; window.plain = fetch; fetch = async (path, options) => {"
        " const answer = await plain(path, options);"
        " if (String(path).startsWith('/tasks?')) answers.push(answer.status); return answer; }"
    )
    browser.wait_for("answers.length >= 2")
    assert browser.value("answers") == [304] * len(browser.value("answers"))
    assert browser.value(ROWS.format(1))


def test_a_stream_is_not_kept_for_a_page_that_nobody_sees(browser: Browser, api: Facade) -> None:
    browser.open(api.url + "/?lang=en", width=1300, script=COUNTED)
    live(browser)
    hide = "Object.defineProperty(document, 'hidden', {{configurable: true, get: () => {}}});"
    browser.value(hide.format("true") + "document.dispatchEvent(new Event('visibilitychange'))")
    browser.wait_for("import('/static/core/stream.js').then(m => !m.isLive.value)")
    submit(api, "one")
    browser.value("asked.length = 0; new Promise(r => setTimeout(r, 1500))")
    assert browser.value("asked") == []
    browser.value(hide.format("false") + "document.dispatchEvent(new Event('visibilitychange'))")
    browser.wait_for(ROWS.format(1))
    live(browser)
    assert json.loads(browser.value("JSON.stringify(asked)")).count("/events") == 1
