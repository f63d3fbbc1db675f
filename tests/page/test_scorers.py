"""The scorers on the page: what there is and from where, what does not load, a trial, and changes by admins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.scorers.registry import registry as registry_module

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.page_forms import click_on, open_as, shown, write
from ..support.workspaces import write_workspace

HOSTILE = "<img src=x onerror=alert(1)>"
SOURCE = '''
from typing import Literal

from pydantic import Field

from autoscorer.schemas.result import Result
from autoscorer.scorers.base import BaseScorer, ScorerParams
from autoscorer.scorers.registry import register


class Params(ScorerParams):
    factor: float = Field(2.0, ge=0, le=10, description="{help}")
    mode: Literal["plain", "{help}"] = "plain"


@register("mine")
class Mine(BaseScorer):
    """{help}"""

    name = "mine"
    version = "{version}"
    metric = "one"
    Params = Params

    def score(self, workspace, params):
        value = 0.25 * self.parse_params(params).factor
        return Result(summary={{"score": value, "one": value}}, metrics={{"one": value}})
'''


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Facade]:
    # A registry of its own: that of the process has what other tests have registered.
    monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
    write_workspace(tmp_path / "root", "ws")
    with facade(facade_settings(tmp_path / "root")) as served:
        yield served


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scorers" / "mine.py"
    path.parent.mkdir()
    path.write_text(SOURCE.format(version="1.0.0", help=HOSTILE))
    return path


def test_the_list_says_what_the_api_says_and_each_leads_to_its_own(browser: Browser, api: Facade) -> None:
    known = api.call("GET", "/scorers", token=SUBMIT).data["scorers"]
    open_as(browser, api.url, "/ui/scorers?lang=en", SUBMIT)
    browser.wait_for(f"document.querySelectorAll('#all tbody tr').length === {len(known)}")
    listed = browser.value("[...document.querySelectorAll('#all tbody tr')].map(row => row.innerText)")
    for scorer, row in zip(known, listed, strict=True):
        assert scorer["id"] in row and scorer["version"] in row and scorer["metric"] in row
    # Who is no admin is told so, and not that nothing is watched.
    browser.wait_for("document.querySelector('#watched').innerText.includes('told to admins')")
    click_on(browser, "#all a[href^='/ui/scorers/classification_accuracy']")
    browser.wait_for("document.querySelector('#params')")
    one = next(scorer for scorer in known if scorer["id"] == "classification_accuracy")
    said = shown(browser)
    assert one["sha256"] in said and "classification_acc " in said
    names = browser.value("[...document.querySelectorAll('#params tbody th')].map(cell => cell.innerText)")
    assert names == [*one["params_schema"]["properties"]]
    assert "0.5 to 1" in said and "delta, bootstrap" in said
    # What is built in comes from no file that could be unloaded.
    assert not browser.value("document.querySelector('#unload')")


def test_a_trial_shows_its_numbers_and_leaves_the_workspace_alone(
    browser: Browser, api: Facade, file: Path, tmp_path: Path
) -> None:
    api.call("POST", "/scorers/load", {"path": str(file)}, token=ADMIN)
    before = sorted(path.name for path in (tmp_path / "root" / "ws" / "output").iterdir())
    open_as(browser, api.url, "/ui/scorers/mine?lang=en", ADMIN)
    click_on(browser, "#found button")
    click_on(browser, "#try details summary")
    write(browser, "#param-factor", "11")
    click_on(browser, "#try-it")
    browser.wait_for("document.querySelector('#param-factor-problem')")
    write(browser, "#param-factor", "3")
    click_on(browser, "#try-it")
    browser.wait_for("document.querySelector('#tried')")
    assert "0.7500" in shown(browser)
    assert sorted(path.name for path in (tmp_path / "root" / "ws" / "output").iterdir()) == before
    # The address leads back to it. A workspace that is not there is told of, and who may not try this scorer on it.
    assert browser.value("location.pathname + location.search") == "/ui/scorers/mine?lang=en&workspace=ws"
    for workspace, token, code in (("nonesuch", ADMIN, "WORKSPACE_NOT_FOUND"), ("ws", SUBMIT, "FORBIDDEN")):
        open_as(browser, api.url, f"/ui/scorers/mine?lang=en&workspace={workspace}", token)
        click_on(browser, "#try-it")
        browser.wait_for("document.querySelector('#try .failure')")
        assert code in shown(browser)


def test_an_admin_loads_watches_reloads_and_unloads_a_file(browser: Browser, api: Facade, file: Path) -> None:
    open_as(browser, api.url, "/ui/scorers?lang=en", ADMIN)
    click_on(browser, "#load-file")
    browser.wait_for("document.querySelector('#path-problem')")
    write(browser, "#path", str(file))
    click_on(browser, "#load-file")
    browser.wait_for("document.querySelector(\"#all a[href^='/ui/scorers/mine']\")")
    browser.wait_for("document.querySelector('#watched li')")
    assert "Loaded: mine" in shown(browser)
    # It is followed until somebody stops that; the answer no leaves it.
    click_on(browser, "#watched .unwatch")
    click_on(browser, "#confirm-no")
    assert len(api.call("GET", "/scorers/watch", token=ADMIN).data["watched"]) == 1
    click_on(browser, "#watched .unwatch")
    click_on(browser, "#confirm-yes")
    browser.wait_for("!document.querySelector('#watched li')")
    file.write_text(SOURCE.format(version="2.0.0", help="plain"))
    click_on(browser, "#all a[href^='/ui/scorers/mine']")
    click_on(browser, "#reload")
    browser.wait_for("document.querySelector('main').innerText.includes('2.0.0')")
    assert "new version" in shown(browser)
    click_on(browser, "#unload")
    click_on(browser, "#confirm-yes")
    browser.wait_for("document.querySelector('#all')")
    assert "mine" not in [each["id"] for each in api.call("GET", "/scorers", token=ADMIN).data["scorers"]]
    # A folder is watched, with all that is in it.
    write(browser, "#path", str(file.parent))
    click_on(browser, "#watch-path")
    browser.wait_for("document.querySelector('#watched li')")
    assert [each["kind"] for each in api.call("GET", "/scorers/watch", token=ADMIN).data["watched"]] == ["folder"]


def test_who_is_no_admin_is_refused_by_the_api_and_told_why(browser: Browser, api: Facade, file: Path) -> None:
    open_as(browser, api.url, "/ui/scorers?lang=zh", SUBMIT)
    write(browser, "#path", str(file))
    for button in ("#load-file", "#watch-path", "#reload-all"):
        click_on(browser, button)
        browser.wait_for("document.querySelector('main .failure')")
        assert "FORBIDDEN" in shown(browser)
    assert browser.value("document.querySelector('#path').value") == str(file)
    assert "mine" not in [each["id"] for each in api.call("GET", "/scorers", token=ADMIN).data["scorers"]]


def test_a_file_that_does_not_load_any_more_says_why_and_what_is_in_use(
    browser: Browser, api: Facade, file: Path
) -> None:
    api.call("POST", "/scorers/load", {"path": str(file)}, token=ADMIN)
    open_as(browser, api.url, "/ui/scorers?lang=en", ADMIN)
    browser.wait_for("document.querySelector(\"#all a[href^='/ui/scorers/mine']\")")
    file.write_text("def (:")
    os.utime(file, (1, 1))
    click_on(browser, "#reload-all")
    browser.wait_for("document.querySelector('#broken')")
    assert "SCORER_LOAD_ERROR" in shown(browser) and "last good version" in shown(browser)
    click_on(browser, "#all a[href^='/ui/scorers/mine']")
    browser.wait_for("document.querySelector('#scorer-one .problem')")
    assert api.call("GET", "/scorers/mine", token=ADMIN).data["error"].split()[0] in shown(browser)


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1300, "light")])
def test_what_a_stranger_wrote_is_text_and_everything_fits(
    browser: Browser, api: Facade, file: Path, width: int, scheme: str
) -> None:
    api.call("POST", "/scorers/load", {"path": str(file)}, token=ADMIN)
    for address, there in (
        ("/ui/scorers?lang=en", "#watched li"),
        ("/ui/scorers/mine?lang=en&workspace=ws", "#params"),
    ):
        open_as(browser, api.url, address, ADMIN, width=width, scheme=scheme)
        browser.wait_for(f"document.querySelector('{there}')")
        browser.wait_for("document.querySelector('main').innerText.includes('<img src=x')")
        assert HOSTILE in shown(browser) and not browser.value("document.querySelector('main img')")
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(CONTRAST) == []
    open_as(browser, api.url, "/ui/scorers/nonesuch?lang=zh", SUBMIT, width=width)
    browser.wait_for("document.querySelector('main .problem')")
    assert "nonesuch" in shown(browser)
