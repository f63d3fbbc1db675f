"""Forms of the page, filled in as a person does: files that are chosen, fields that are written into, roles."""

from __future__ import annotations

import json
from pathlib import Path

from .browser import Browser

__all__ = ["SHOWN", "choose_files", "click_on", "open_as", "shown", "write"]

# What stands in the page's content, on one line.
SHOWN = "document.querySelector('main').innerText.replace(/\\s+/g, ' ')"


def open_as(page: Browser, url: str, path: str, token: str = "", *, width: int = 1300, scheme: str = "light") -> None:
    """Open a view, with a token where one is given: by a link that signs in, as the API's first start prints it."""
    page.open(f"{url}{path}" + (f"#token={token}" if token else ""), width=width, scheme=scheme)
    page.wait_for("document.querySelector('main h1')")


def shown(page: Browser) -> str:
    """What the page shows."""
    return str(page.value(SHOWN))


def write(page: Browser, selector: str, value: str) -> None:
    """Write into a field, or choose an option, once it is there."""
    found = f"document.querySelector({json.dumps(selector)})"
    page.wait_for(found)
    page.value(
        f"(() => {{ const f = {found}; f.value = {json.dumps(value)};"
        " for (const kind of ['input', 'change']) f.dispatchEvent(new Event(kind, {bubbles: true})); })()"
    )
    assert page.value(f"{found}.value") == value, (selector, value)


def click_on(page: Browser, selector: str) -> None:
    """Click on what is there, or comes, and may be clicked on."""
    found = f"document.querySelector({json.dumps(selector)})"
    page.wait_for(f"{found} && !{found}.disabled")
    page.value(f"{found}.click()")


def choose_files(page: Browser, selector: str, *paths: Path) -> None:
    """Choose files, or a folder where the field takes one."""
    found = f"document.querySelector({json.dumps(selector)})"
    page.wait_for(found)
    page.choose(selector, *paths)
    # A folder is read before the page is told.
    page.wait_for(f"{found}.files.length")
