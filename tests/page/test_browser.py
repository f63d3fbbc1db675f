"""What tests of the page stand on: a browser that waits for what it is told, disturbs no test and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from uuid import uuid4

import pytest

from ..support.browser import CHROMIUM, Browser, Chromium
from ..support.browser import browser as browser
from ..support.prefect_server import eventually
from ..support.processes import processes_with

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.html"
    file.write_text("<!doctype html><title>a</title><script>setTimeout(() => { document.title = 'b' }, 300)</script>")
    return file


def test_what_a_promise_promises_is_waited_for(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.wait_for("Promise.resolve(document.title === 'b')")
    with pytest.raises(AssertionError, match="'false'"):
        browser.wait_for("Promise.resolve(false)", seconds=0.2)
    with pytest.raises(AssertionError, match="nowhere is not defined"):
        browser.wait_for("nowhere.there", seconds=0.2)


def test_a_function_that_comes_out_is_not_called(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value("window.act = () => { document.title = 'called' }") is None
    assert browser.value("document.title") != "called"


def test_a_zoomed_window_is_as_large_on_the_screen_and_goes_back(browser: Browser, page: Path) -> None:
    for zoom, size in ((4, [320, 256, 4]), (1, [1280, 1024, 1])):
        browser.open(page, width=1280, height=1024, zoom=zoom)
        assert browser.value("[innerWidth, innerHeight, devicePixelRatio]") == size


def test_print_and_scheme_stay_when_a_page_is_loaded_again(browser: Browser, page: Path) -> None:
    asked = "['print', '(prefers-color-scheme: dark)'].map(each => matchMedia(each).matches)"
    browser.open(page, media="print", scheme="dark")
    browser.reload()
    assert browser.value(asked) == [True, True]
    browser.open(page)
    assert browser.value(asked) == [False, False]


def test_a_test_may_have_an_event_loop_of_its_own(browser: Browser, page: Path) -> None:
    async def look() -> str:
        browser.open(page)
        return str(browser.value("document.readyState"))

    assert asyncio.run(look()) == "complete"


def test_one_that_died_is_followed_by_another_and_none_is_left(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    monkeypatch.setenv("WHOSE_BROWSER", mine := uuid4().hex)
    chromium = Chromium()
    try:
        started = processes_with(WHOSE_BROWSER=mine)
        (first,) = [
            pid for pid, command in started.items() if "--remote-debugging" in command and "--type=" not in command
        ]
        os.kill(first, signal.SIGKILL)
        eventually(lambda: first not in processes_with(WHOSE_BROWSER=mine), within=300)
        later = Browser(chromium)
        later.open(page)
        later.wait_for("document.title === 'b'")
        later.close()
    finally:
        chromium.close()
    chromium.close()
    eventually(lambda: not processes_with(WHOSE_BROWSER=mine), within=300)
