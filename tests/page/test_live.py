"""The page shows what happens as it happens: by one stream, and without it by asking now and then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.flowruns import FlowRunFiles
from autoscorer.flows.batches.outcome import failed_outcome
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.records import Observed
from autoscorer.service.sync.members import members_of

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
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def api(root: Path) -> Iterator[Facade]:
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


def test_a_batchs_members_come_into_its_list_as_they_are_recorded(browser: Browser, api: Facade, root: Path) -> None:
    batch = str(api.call("POST", "/batch", {"workspaces": ["one", "two"], "action": "score"}).data["id"])
    begin(api, batch)
    files = FlowRunFiles(api.settings.home, RUN)
    files.set_total(2)
    browser.open(f"{api.url}/ui/record/{batch}?lang=en&sort=name", width=1300)
    browser.wait_for("document.querySelector('#detail').innerText.includes('0')")
    assert browser.value("document.querySelector('#members')") is None
    for number, name in enumerate(("one", "two"), 1):
        outcome = failed_outcome(root / name, AutoScorerError(ErrorCode.MISMATCH, "why"))
        files.add_member_outcome(outcome)
        # The batch may be told of before its members are there.
        browser.wait_for(f"document.querySelector('#detail').innerText.includes('{number} of 2')")
        record(api, batch, outcome)
        browser.wait_for(f"document.querySelectorAll('#members #rows tr').length === {number}")


RUN = "5f0c1a9e-0000-4000-8000-00000000000b"


def begin(api: Facade, batch: str) -> None:
    """Have a worker take a batch, as Prefect would tell of it."""

    async def work() -> None:
        ledger = api.state.tasks.ledger
        await ledger.dispatched([(await ledger.row(batch), RUN)])
        await ledger.observe([Observed(batch, TaskState.RUNNING, "RUNNING", 1, 1.0, None)])

    asyncio.run_coroutine_threadsafe(work(), api.state.loop).result(300)


def record(api: Facade, batch: str, outcome: dict[str, Any]) -> None:
    """Put down what became of a workspace, as whoever follows the batch does."""

    async def work() -> None:
        tasks = api.state.tasks
        members = members_of(await tasks.ledger.row(batch), [outcome], tasks.roots)
        assert await tasks.ledger.record_members(batch, members)

    asyncio.run_coroutine_threadsafe(work(), api.state.loop).result(300)
