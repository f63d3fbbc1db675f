"""Ten pictures of the page and of a report: whoever changes how they look is shown what has changed.

They lie in ``golden/``. ``scripts/test tests/page/test_golden.py --write-golden`` writes them anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.monday import CLOCK, monday
from ..support.pictures import compare, keep

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
MOST_BYTES = 120 * 1024


@dataclass(frozen=True)
class View:
    """What is looked at: an address, or a report where there is none; and what is there once all of it is."""

    address: str
    there: str
    height: int = 900
    width: int = 1300
    scheme: Literal["dark", "light"] = "light"


LIST = "document.querySelectorAll('#rows tr').length === 7"
# A report has each of its plots in both languages.
PLOTS = "document.querySelectorAll('figure img').length === {} && [...document.images].every(each => each.naturalWidth)"
VIEWS = {
    "records": View("/ui/records?lang=en", LIST),
    "records-dark": View("/ui/records?lang=zh", LIST, scheme="dark"),
    "records-telephone": View("/ui/records?lang=en", LIST, 844, 390),
    "record": View("/ui/record/{spring/cherry}?lang=en", PLOTS.format(2), 1600),
    "job": View("/ui/job/{job}?lang=zh", "document.querySelector('#about dl')", 1400),
    "compare": View(
        "/ui/compare?a={spring/apple}&b={spring/cherry}&lang=en", "document.querySelector('#samples')", 1400
    ),
    "benchmark": View(
        "/ui/benchmark/flowers?team=red&lang=en", "document.querySelectorAll('#submissions circle').length === 3", 1200
    ),
    "workspace": View(
        "/ui/workspace/spring%2Flime?lang=en", "document.querySelectorAll('#history circle').length === 7", 1400
    ),
    "submit": View(
        "/ui/submit?kind=workspace&workspace=spring/cherry&lang=en",
        "document.querySelector('#submit') && document.querySelector('.facts')",
    ),
    "report": View("", PLOTS.format(4), 2160, 1000),
}
# What another version of a browser or of its fonts does, and more than that.
ALIKE = {
    "wider letters": "body { letter-spacing: .1px }",
    "narrower letters": "body { letter-spacing: -.1px }",
    "heavier letters": "* { -webkit-text-stroke: .2px }",
    "letters placed otherwise": "* { text-rendering: geometricPrecision }",
}
# What a wrong rule of a style sheet does, in the view where it does least.
DEFECTS = {
    "a column is not there": ("compare", "td:nth-child(4), th:nth-child(4) { display: none }"),
    "the last column is cut off": ("workspace", "td:last-child, thead th:last-child { visibility: hidden }"),
    "the table is too narrow": ("job", "table { width: 70% !important }"),
    "numbers are not under each other": ("record", ".num { text-align: left !important }"),
    "the plots are not there": ("record", "figure img { visibility: hidden }"),
    "the plots of a report are not there": ("report", "figure { display: none }"),
    "the course is not there": ("workspace", ".history { display: none }"),
    "the interval of a course is not there": ("benchmark", ".history .band { fill: none }"),
    "bars are not there": ("compare", ".bar { visibility: hidden }"),
    "a state has lost its colour": ("records", ".state { background: none !important }"),
    "a state has lost its colour in the dark": ("records-dark", ".state { background: none !important }"),
    "links have no colour": ("submit", "a { color: inherit !important }"),
    "the first button is as the others": ("submit", "button[type=submit] { background: none !important }"),
    "facts stand below each other": ("submit", ".facts { display: block }"),
    "filters stand below each other": ("records", "#filters { display: block }"),
    "the header is a column": ("job", "header, header nav a { display: block }"),
    "cards have no ground": ("records-telephone", ".card { background: none !important; border: 0 !important }"),
    "nothing has a margin inside": ("benchmark", "* { padding: 0 !important }"),
    "the page is light in the dark": ("records-dark", ":root { --page: #f4f5f7 !important; --card: #fff !important }"),
}


class Camera:
    """Takes pictures of views, as they are or with further rules of style."""

    def __init__(self, browser: Browser, url: str, ids: dict[str, str], root: Path) -> None:
        self._browser, self._url, self._ids, self._root = browser, url, ids, root

    def open(self, name: str) -> None:
        view = VIEWS[name]
        address: Path | str = self._root / "spring/cherry/output/artifacts/report.html"
        if view.address:
            path = view.address
            for task, ident in self._ids.items():
                path = path.replace(f"{{{task}}}", ident)
            address = self._url + path
        page = self._browser
        page.open(address, width=view.width, height=view.height, scheme=view.scheme, script=CLOCK)
        page.wait_for(view.there)
        # What it says of the service comes late, and so do letters that no font had yet.
        page.wait_for("!document.querySelector('#service') || document.querySelector('#service').innerText.trim()")
        page.value("document.fonts.ready.then(() => 0)")
        page.wait_for(
            "performance.now() - Math.max(0, ...performance.getEntriesByType('resource').map(r => r.responseEnd)) > 400"
        )

    def take(self, file: Path, style: str = "") -> Path:
        self._browser.value(
            f"(() => {{ const more = new CSSStyleSheet(); more.replaceSync({json.dumps(style)});"
            " document.adoptedStyleSheets = [more]; })()"
        )
        self._browser.value("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
        self._browser.picture(file)
        return file


@pytest.fixture(scope="module")
def camera(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Camera]:
    root = tmp_path_factory.mktemp("golden") / "root"
    root.mkdir()
    with monday(root) as (url, ids):
        yield Camera(browser, url, ids, root)


@pytest.mark.parametrize("view", VIEWS)
def test_it_looks_as_it_did(camera: Camera, view: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    camera.open(view)
    found, golden = camera.take(tmp_path / f"{view}.png"), GOLDEN / f"{view}.png"
    if request.config.getoption("--write-golden"):
        keep(found, golden)
        return
    difference = compare(found, golden)
    shown = found.with_name(f"{view}.difference.png")
    if difference.is_seen:
        difference.draw(found, shown)
    assert not difference.is_seen, (
        f"{view} does not look as it did ({difference}). It is {found}; what has changed is red in {shown}. "
        "Where it is meant: scripts/test tests/page/test_golden.py --write-golden, and look at what it wrote."
    )
    assert golden.stat().st_size <= MOST_BYTES


@pytest.mark.parametrize("view", VIEWS)
def test_letters_that_are_drawn_otherwise_are_no_difference(camera: Camera, view: str, tmp_path: Path) -> None:
    camera.open(view)
    for what, style in ALIKE.items():
        difference = compare(camera.take(tmp_path / f"{what}.png", style), GOLDEN / f"{view}.png")
        assert not difference.is_seen, (what, str(difference))


@pytest.mark.parametrize("what", DEFECTS)
def test_a_defect_is_a_difference_and_is_drawn(camera: Camera, what: str, tmp_path: Path) -> None:
    view, style = DEFECTS[what]
    camera.open(view)
    found = camera.take(tmp_path / "found.png", style)
    difference = compare(found, GOLDEN / f"{view}.png")
    assert difference.is_seen, (what, str(difference))
    difference.draw(found, tmp_path / "difference.png")
    assert (tmp_path / "difference.png").stat().st_size > 0


def test_there_is_no_picture_that_nothing_is_compared_with() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(VIEWS)
