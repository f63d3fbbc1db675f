"""The page of the API in a real browser: it works without a network, under its own policy, and with a token."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.markdown import ROOT, rows_of
from ..support.workspaces import write_workspace

VENDOR = ROOT / "api" / "vendor" / "swagger-ui"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Facade]:
    root = tmp_path / "root"
    write_workspace(root, "team-a")
    with facade(facade_settings(root)) as running:
        yield running


def opened(browser: Browser, api: Facade) -> None:
    browser.open(api.url + "/docs", width=1300)
    browser.wait_for("document.querySelectorAll('.opblock').length > 20", 60)


def click(browser: Browser, selector: str) -> None:
    browser.wait_for(f"document.querySelector({json.dumps(selector)})")
    browser.value(f"document.querySelector({json.dumps(selector)}).click()")


def write(browser: Browser, selector: str, text: str) -> None:
    """Type into a field of React's, which listens to the event and not to the value."""
    browser.wait_for(f"document.querySelector({json.dumps(selector)})")
    browser.value(
        f"""(() => {{ const field = document.querySelector({json.dumps(selector)});
        const kind = field.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;
        Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(field, {json.dumps(text)});
        field.dispatchEvent(new Event('input', {{bubbles: true}}));
        field.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"""
    )


def sign_in(browser: Browser, token: str) -> None:
    click(browser, ".btn.authorize")
    write(browser, ".modal-ux input", token)
    click(browser, ".modal-ux .btn.authorize[type=submit]")
    click(browser, ".modal-ux .btn-done")


def tried(browser: Browser, path: str, *, body: str | None = None) -> str:
    """The answer to an operation that is tried, once it stands there."""
    block = f"[data-tried='{path}']"
    browser.wait_for(f"document.querySelector('.opblock [data-path={json.dumps(path)}]')")
    method = "POST" if body is not None else "GET"
    browser.value(
        f"""[...document.querySelectorAll('.opblock')].find(b => b.querySelector('[data-path={json.dumps(path)}]')
        && b.querySelector('.opblock-summary-method').textContent === '{method}').dataset.tried = {json.dumps(path)}"""
    )
    click(browser, f"{block} .opblock-summary-control")
    click(browser, f"{block} .try-out__btn")
    if body is not None:
        write(browser, f"{block} textarea.body-param__text", body)
    click(browser, f"{block} .execute")
    browser.wait_for(f'document.querySelector("{block} .live-responses-table .response-col_status")')
    return str(browser.value(f'document.querySelector("{block} .live-responses-table").innerText'))


def test_the_page_shows_every_operation_and_asks_nobody_else(api: Facade, browser: Browser, tmp_path: Path) -> None:
    opened(browser, api)
    document = api.call("GET", "/openapi.json").json
    shown = browser.value(
        "[...document.querySelectorAll('.opblock')].map(b => b.querySelector('.opblock-summary-method').textContent"
        " + ' ' + b.querySelector('.opblock-summary-path').dataset.path)"
    )
    wanted = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    assert {re.sub("\u200b", "", text) for text in shown} == wanted
    browser.picture(tmp_path / "docs.png")
    assert browser.requests() and all(url.startswith(api.url + "/") for url in browser.requests())
    assert browser.complaints() == []


def test_what_is_tried_there_is_asked_with_the_token(api: Facade, browser: Browser) -> None:
    opened(browser, api)
    assert "401" in tried(browser, "/scorers")
    opened(browser, api)
    sign_in(browser, SUBMIT)
    assert "classification_f1" in tried(browser, "/scorers")
    body = json.dumps({"scorer": "classification_f1", "workspace": "team-a"})
    answer = tried(browser, "/scorers/test", body=body)
    assert "200" in answer and '"score": 1' in answer
    # What takes an admin takes one here as well.
    load = json.dumps({"path": "/nonesuch.py"})
    assert "403" in tried(browser, "/scorers/load", body=load)
    opened(browser, api)
    sign_in(browser, ADMIN)
    assert "is not a file there" in tried(browser, "/scorers/load", body=load)
    assert all(url.startswith(api.url + "/") for url in browser.requests())


def test_who_signed_in_on_the_records_page_is_signed_in_there(api: Facade, browser: Browser) -> None:
    browser.open(f"{api.url}/#token={SUBMIT}")
    browser.wait_for("sessionStorage.length === 1")
    opened(browser, api)
    assert "classification_f1" in tried(browser, "/scorers")
    browser.value("sessionStorage.clear()")


def test_the_page_is_closed_by_its_headers(api: Facade) -> None:
    for path in ("/docs", "/static/docs.js", "/static/swagger-ui.css", "/static/swagger-ui-bundle.js"):
        answer = api.call("GET", path)
        policy = answer.headers["content-security-policy"]
        assert answer.status == 200 and policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert "script-src 'self';" in policy and "connect-src 'self';" in policy
    html = (ROOT / "api/static/docs.html").read_text()
    assert not re.search(r"<style|\son\w+=|https?:|style=|<script(?![^>]*\bsrc=)", html)


def test_what_is_served_is_what_was_published() -> None:
    noted = {row[0].strip("`"): row[1].strip("`") for row in rows_of((VENDOR / "README.md").read_text())[1:]}
    found = {path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".css")}
    assert set(noted) == found
    for name, sha256 in noted.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == sha256
    assert "Apache License" in (VENDOR / "LICENSE").read_text()
