"""What holds for every view of the page, in both languages: who can't see, point or read English can use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.rag import ClaimVerdict, MetricScore
from autoscorer.schemas.task import TaskState
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.scorers.registry import registry as registry_module

from ..support.benchmarks import rows, submit, write_benchmark
from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.records_page import Done, scored, served
from .test_jobs import job

pytestmark = pytest.mark.slow

AXE = (Path(__file__).parents[1] / "support" / "axe" / "axe.min.js").read_text()
# A name that would be markup, one that is read from right to left, and one without a place to break it.
EVIL = '<img src=x onerror="document.title=1">\u202eevil'
LONG = "a-very-long-name-without-any-end-" * 4
UNBROKEN = "no_place_to_break_it_" * 4
SCORER_ID = UNBROKEN[:64].rstrip("_")
SCORER = f'''
from autoscorer.scorers.base import BaseScorer
from autoscorer.scorers.registry import register


@register("{SCORER_ID}")
class Long(BaseScorer):
    """Long."""

    name = "long"
    version = "1.0.0"
    metric = "one"

    def score(self, workspace, params):
        raise NotImplementedError
'''
ERROR: dict[str, Any] = {
    "code": "CONTAINER_FAILED",
    "message": f"The model exited with code 1. {EVIL}",
    "stage": "execution",
    "details": {"exit_code": 1, "log": [EVIL, "ValueError: 'é'\t\"x\""]},
}
CLAIM = ClaimVerdict(text="Paris is the capital.", verdict=False, reason=f"No passage tells. {EVIL}")
FAITHFUL = MetricScore(status="ok", score=0.5, claims=[CLAIM], calls=1)
VIEWS = {
    "records": "/ui/records",
    "records, nothing found": "/ui/records?q=nobody",
    "record": "/ui/record/{good}",
    "record of a failure": "/ui/record/{bad}",
    "record of a batch": "/ui/record/{night}",
    "record that waits": "/ui/record/{waiting}",
    "record that is not there": "/ui/record/nothing",
    "jobs": "/ui/jobs",
    "job": "/ui/job/{job}",
    "compare": "/ui/compare?a={good}&b={low}",
    "benchmarks": "/ui/benchmarks",
    "benchmark": "/ui/benchmark/flowers",
    "workspaces": "/ui/workspaces",
    "workspace": "/ui/workspace/good",
    "submit a workspace": "/ui/submit?kind=workspace&workspace=good",
    "submit to a benchmark": "/ui/submit?kind=benchmark&benchmark=flowers",
    "submit a batch": "/ui/submit?kind=batch",
    "submit an answer": "/ui/submit?kind=answer",
    "scorers, one of which does not load": "/ui/scorers",
    "scorer": "/ui/scorers/classification_f1",
    "scorer that does not load": f"/ui/scorers/{SCORER_ID}",
    "service": "/ui/service",
    "flow run that nobody knows": "/ui/flow-run/nobody",
    "nothing": "/ui/nothing",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    root = tmp_path_factory.mktemp("page") / "root"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        # Before any test has a home of its own.
        patched.setenv("AUTOSCORER_HOME", str(root.parent / "home"))
        # A registry of its own: that of the process has what other tests have registered.
        patched.setattr(registry_module, "_registry", ScorerRegistry())
        _broken_scorer(root.parent / f"{UNBROKEN}.py")
        yield from _placed(root)


def _broken_scorer(file: Path) -> None:
    """A scorer whose file does not load any more."""
    registry = registry_module.get_registry()
    file.write_text(SCORER)
    registry.load_file(file)
    file.write_text(f"raise ValueError({UNBROKEN!r})")
    with pytest.raises(AutoScorerError):
        registry.reload_file(file)


def _placed(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    benchmark = write_benchmark(root, description=f"Which flower? {EVIL}", params={"pass_threshold": 0.5})
    for team, labels in (("red", "xyxy"), ("blue", "xxxy"), ("a" * 60, "yyyy")):
        assert submit(benchmark, rows(labels), team=team)[1].error is None
    outcomes = [
        {"workspace": str(root / f"n/{n}"), "state": "completed", "metric": "f1", "score": n / 9, "pass": n > 4,
         "interval": {"low": 0.1, "high": 0.9, "level": 0.95}, "higher_is_better": True, "seconds": 1.0, "error": None}
        for n in range(9)
    ]  # fmt: skip
    tasks = [
        Done("good", result=scored(root, "good", classes=20, rows=400, pass_threshold=0.5)),
        Done("low", result=scored(root, "low", right=0.4, pass_threshold=0.9)),
        Done("bad", TaskState.FAILED, error=ERROR),
        Done("night", action="batch", result={"total": 9, "seconds": 3.0, "outcomes": outcomes}),
        Done(EVIL, TaskState.CANCELLED),
        Done(LONG, None, more={"scorer": LONG[:100]}),
        Done("waiting", None, action="pipeline"),
        job("job", f"What is the capital of France? {EVIL}", faithfulness=FAITHFUL),
    ]
    with served(root, tasks) as found:
        yield found


def opened(page: Browser, place: tuple[str, dict[str, str]], view: str, language: str, **how: Any) -> None:
    url, ids = place
    address = VIEWS[view].format(**{name: ids[name] for name in ("good", "low", "bad", "night", "waiting", "job")})
    page.open(f"{url}{address}{'&' if '?' in address else '?'}lang={language}", **how)
    page.wait_for("document.querySelector('main > *') && document.title")
    # Until nothing is asked for any more: what comes in late is looked at, too.
    page.wait_for(
        "document.querySelector('h1, .empty') && !document.querySelector('h1')?.textContent.startsWith('…')"
        " && performance.now() - Math.max(0, ...performance.getEntriesByType('resource').map(r => r.responseEnd)) > 400"
    )


@pytest.mark.parametrize("view", VIEWS)
def test_it_can_be_used_by_everybody_and_asks_nobody_else(
    browser: Browser, place: tuple[str, dict[str, str]], view: str
) -> None:
    for language in ("en", "zh"):
        opened(browser, place, view, language, width=1300)
        browser.value(AXE)
        found = browser.value(
            "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(each =>"
            " [each.id, each.impact, each.nodes.map(node => node.html.slice(0, 160)).slice(0, 3)]))"
        )
        assert found == [], (view, language, json.dumps(found, indent=1))
        assert browser.value("[document.title === '1', document.querySelectorAll('main img[onerror]').length]") == [
            False, 0,
        ]  # fmt: skip
        assert all(address.startswith((place[0] + "/", "blob:")) for address in browser.requests())
        # Prefect is away here, so what it alone can say is refused.
        complaints = [str(each) for each in browser.complaints()]
        refused = ("/readyz", "/logs", "/ui/", "/tasks/nothing", "/samples", "/queues", "/metrics")
        assert [each for each in complaints if not any(one in each for one in refused)] == []


@pytest.mark.parametrize("view", VIEWS)
def test_it_fits_and_reads_well_at_every_width_light_and_dark(
    browser: Browser, place: tuple[str, dict[str, str]], view: str
) -> None:
    for scheme, language in (("light", "zh"), ("dark", "en")):
        opened(browser, place, view, language, width=320, scheme=scheme)
        for width in (320, 390, 720, 1440, 2560):
            browser.resize(width)
            browser.value("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
            assert browser.value("document.documentElement.scrollWidth") <= width, (view, width)
        assert browser.value(CONTRAST) == [], (view, scheme)


# What may have the focus, and of which nothing is seen when it has.
COVERED = """
[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
  .filter(e => !e.disabled && e.checkVisibility({visibilityProperty: true})).filter(e => {
    e.focus();
    // A tick is drawn in its label, and the line of a link may be broken.
    return ![...e.getClientRects()].some(r => {
      const x = (Math.max(r.left, 0) + Math.min(r.right, innerWidth)) / 2;
      const y = (Math.max(r.top, 0) + Math.min(r.bottom, innerHeight)) / 2;
      const there = document.elementFromPoint(x, y);
      return there && (e.contains(there) || there.contains(e) || e.labels?.[0]?.contains(there));
    });
  }).map(e => e.outerHTML.slice(0, 120))
"""


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("zoom", [2, 4], ids=["200 %", "400 %"])
def test_zoomed_in_nothing_is_too_wide_and_what_has_the_focus_is_seen(
    browser: Browser, place: tuple[str, dict[str, str]], zoom: int, view: str
) -> None:
    for language in ("en", "zh"):
        opened(browser, place, view, language, width=1280, height=1024, zoom=zoom)
        assert browser.value("[innerWidth, devicePixelRatio]") == [1280 / zoom, zoom]
        assert browser.value("document.documentElement.scrollWidth") <= 1280 / zoom, (view, language)
        assert browser.value(COVERED) == [], (view, language)


@pytest.mark.parametrize("view", VIEWS)
def test_everything_is_reached_by_keyboard_in_order_and_is_seen_to_be(
    browser: Browser, place: tuple[str, dict[str, str]], view: str
) -> None:
    opened(browser, place, view, "en", width=1300)
    # From the first one on; a form's field or a title may have the focus already.
    browser.value("document.querySelector('.skip').focus()")
    reachable = (
        "[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex=\"0\"]')]"
        ".filter(e => !e.disabled && e.checkVisibility({visibilityProperty: true}) && e.type !== 'radio')"
    )
    browser.value(f"window.left = new Set({reachable})")
    for _ in range(150):
        now = browser.value(
            "(e => { left.delete(e); return e === document.body ? null : [e.outerHTML.slice(0, 120),"
            " e.matches(':focus-visible') && getComputedStyle(e).outlineStyle !== 'none']; })(document.activeElement)"
        )
        if now is None or browser.value("left.size") == 0:
            break
        # A date has fields of its own inside, which the browser marks.
        assert now[1] or 'type="date"' in now[0], (view, now)
        browser.press("Tab")
    assert browser.value("[...left].filter(e => e.isConnected).map(e => e.outerHTML.slice(0, 120))") == [], view


@pytest.mark.parametrize("view", ["records", "record", "benchmark", "job"])
def test_it_prints_without_the_frame_and_whole(browser: Browser, place: tuple[str, dict[str, str]], view: str) -> None:
    opened(browser, place, view, "en", width=760, media="print")
    assert browser.value("document.querySelector('header').checkVisibility()") is False
    assert browser.value("document.documentElement.scrollWidth") <= 760
    assert browser.value(
        "[...document.querySelectorAll('main .scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    ) == 0  # fmt: skip
