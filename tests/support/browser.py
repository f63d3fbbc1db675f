"""A real browser, headless: what a page loads, says and looks like. Tests import the fixture ``browser``."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from playwright.async_api import Browser as Launched
from playwright.async_api import BrowserContext, Error, ViewportSize, async_playwright

from .shared import until_unneeded

__all__ = ["CONTRAST", "Browser", "Chromium", "browser", "chromium"]

T = TypeVar("T")
Scheme = Literal["dark", "light"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Every element that holds text of its own: its contrast with the background behind it (WCAG 2.2, 1.4.3).
CONTRAST = """
(() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const lum = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const a = lum(parse(getComputedStyle(e).color)), b = lum(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) bad.push(`${e.tagName} ${e.className} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
})()
"""

_OPTIONS = (
    *("--disable-gpu", "--disable-quic", "--disable-sync", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Seconds for what comes at once, and may take long on a machine that is busy.
_LONGEST = 300
# Playwright itself would call what comes out where that is a function.
_VALUE = "async given => { const it = await (0, eval)(given); return typeof it === 'function' ? undefined : it; }"
_HEARD = ("Network.requestWillBeSent", "Network.responseReceived", "Network.dataReceived")


class Chromium:
    """A headless Chromium, which Playwright drives; it and its driver are processes, until ``close``.

    Playwright's own API for callers that do not await keeps its event loop running in their thread, where no test could
    start another one. So the loop has a thread of its own, and what a page tells is heard whatever the test does.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="browser", daemon=True)
        self._thread.start()
        self._playwright = self.do(async_playwright().start())
        self._browser = self.do(self._launch())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of a coroutine in the loop of Playwright."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_LONGEST)

    async def _launch(self) -> Launched:
        return await self._playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS, timeout=_LONGEST * 1e3)

    async def profile(self, zoom: float) -> BrowserContext:
        """A profile of its own, as nobody has used it before."""
        try:
            return await self._new(zoom)
        except Error:  # it died in a test before
            await self._browser.close()
            self._browser = await self._launch()
            return await self._new(zoom)

    async def _new(self, zoom: float) -> BrowserContext:
        return await self._browser.new_context(device_scale_factor=zoom, locale="en-US", timezone_id="UTC")

    def close(self) -> None:
        """End the processes; a second time there is nothing to do."""
        if self._loop.is_closed():
            return
        self.do(self._browser.close())
        self.do(self._playwright.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Browser:
    """One page, in a profile of its own."""

    def __init__(self, chromium: Chromium) -> None:
        self._do = chromium.do
        self._chromium = chromium
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._complaints: list[str] = []
        self._zoom: float = 1
        self._profile = self._do(self._begin())

    async def _begin(self) -> BrowserContext:
        profile = await self._chromium.profile(self._zoom)
        self._page = await profile.new_page()
        self._page.set_default_timeout(_LONGEST * 1e3)
        self._page.on("console", lambda said: self._complaints.append(f"{said.text} ({said.location['url']})"))
        self._page.on("pageerror", lambda error: self._complaints.append(str(error)))
        # Playwright itself tells of no favicon, and not of the bytes of a stream.
        self._session = await profile.new_cdp_session(self._page)
        for event in _HEARD:
            self._session.on(event, lambda params, event=event: self._events.append((event, params)))
        await self._session.send("Network.enable")
        return profile

    async def _begin_anew(self) -> BrowserContext:
        await self._profile.close()
        return await self._begin()

    def open(
        self,
        page: Path | str,
        *,
        width: int = 1200,
        height: int = 900,
        zoom: float = 1,
        scheme: Scheme = "light",
        media: Literal["print", "screen"] = "screen",
        script: str | None = None,
    ) -> None:
        """Open a page, whatever was open before.

        Args:
            page: A file, or an address.
            width: Of the window, in pixels of the screen.
            height: Of the window.
            zoom: How much larger everything is than usual. Another one than before begins a new profile.
            scheme: Which colours the reader prefers.
            media: Whether it is shown or printed.
            script: What runs in the page before its own scripts.
        """
        if zoom != self._zoom:
            self._zoom = zoom
            self._profile = self._do(self._begin_anew())
        # In this session, which else takes the print away from Playwright's own when a page is loaded.
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.resize(width, height)
        # From nowhere: another fragment of the page that is open would load nothing.
        self.go("about:blank")
        before = self._do(self._page.add_init_script(script)) if script is not None else None
        self.go(page.as_uri() if isinstance(page, Path) else page)
        if before is not None:
            self._do(before.close())
        # A round trip through the page, so that what the load set off has been reported.
        self.value("new Promise(r => setTimeout(r, 100))")

    def go(self, address: str) -> None:
        """Go where a link leads: to a page that may run nothing, too. What was told of the page before is forgotten."""
        self.forget()
        self._do(self._page.goto(address))

    def reload(self) -> None:
        self._do(self._page.reload())

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window so large, in pixels of the screen."""
        size = ViewportSize(width=round(width / self._zoom), height=round(height / self._zoom))
        self._do(self._page.set_viewport_size(size))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of Chromium's debugging protocol, for what Playwright has no word for."""
        return dict(self._do(self._session.send(method, params)))

    def forget(self) -> None:
        """Forget what has been asked for and complained of."""
        self._events.clear()
        self._complaints.clear()

    def events(self, method: str) -> list[dict[str, Any]]:
        """What the protocol has told of the network by this name, since the page was opened."""
        return [params for name, params in self._events if name == method]

    def requests(self) -> list[str]:
        """Addresses that were asked for, without what the page carries itself."""
        urls = [params["request"]["url"] for params in self.events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """What the console says, with the address that it is about."""
        return [*self._complaints]

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, or what it promises."""
        return self._do(self._page.evaluate(_VALUE, expression))

    def wait_for(self, expression: str, seconds: float = _LONGEST) -> None:
        """Wait until an expression is true, or what it promises is; one that raises is not, yet."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.value(f"(async () => Boolean(await ({expression})))()"):
                    return
                why = "false"
            except Error as error:
                if self._page.is_closed():
                    raise
                why = error.message
            shown = (self.value("document.body.innerText"), self._complaints) if time.monotonic() > deadline else None
            assert shown is None, (expression, why, *shown)
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press a key and let go of it."""
        self._do(self._page.keyboard.press(key))

    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files, or a folder where the field takes one."""
        self._do(self._page.set_input_files(selector, [*paths]))

    def picture(self, path: Path) -> None:
        """What it shows, as a PNG."""
        self._do(self._page.screenshot(path=path, animations="disabled"))

    def close(self) -> None:
        self._do(self._profile.close())


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """One for all tests that share it: to start it takes longer than most of them."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    one = Chromium()
    until_unneeded("chromium", one.close)
    yield one
    one.close()


@pytest.fixture(scope="module")
def browser(chromium: Chromium) -> Iterator[Browser]:
    """A page for a module."""
    one = Browser(chromium)
    yield one
    one.close()
