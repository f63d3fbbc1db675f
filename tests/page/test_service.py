"""The service on the page: whether it can work, what waits and runs, and how it went."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.records import TaskEnd

from ..support.benchmarks import write_benchmark
from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.page_forms import click_on, open_as, shown
from ..support.teams import TOKENS, serving
from ..support.workspaces import write_workspace


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Facade]:
    for name in ("one", "two", "three"):
        write_workspace(tmp_path / "root", name)
    with facade(facade_settings(tmp_path / "root")) as served:
        yield served


def submit(api: Facade, **asked: Any) -> str:
    return str(api.call("POST", "/submit", asked, token=ADMIN).data["id"])


def end(api: Facade, task_id: str) -> None:
    """A task of which a worker says that it is done."""

    async def finish() -> None:
        now = time.time()
        ending = TaskEnd(task_id, TaskState.COMPLETED, attempts=1, started_at=now - 2, ended_at=now)
        tasks = api.state.tasks
        await tasks.ledger.finish([ending])
        await tasks._follower.tell([task_id])

    asyncio.run_coroutine_threadsafe(finish(), api.state.loop).result(300)


def cells(page: Browser, selector: str) -> list[list[str]]:
    rows = (
        f"[...document.querySelectorAll('{selector} tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
    )
    found: list[list[str]] = page.value(rows)
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_check_is_shown_with_its_reason(browser: Browser, api: Facade, language: str) -> None:
    open_as(browser, api.url, f"/ui/service?lang={language}", SUBMIT)
    browser.wait_for("document.querySelector('#checks')")
    checks = api.call("GET", "/readyz").error["details"]
    many = [check for kind in ("pools", "workers", "executors") for check in checks[kind].values()]
    expected = [checks["ledger"], checks["server"], checks["scheduler"], *many]
    shown_ = cells(browser, "#checks")
    assert len(shown_) == len(expected)
    assert all(row[2].startswith(check["detail"]) for row, check in zip(shown_, expected, strict=True))
    words = {"en": ("Not ready", "unavailable"), "zh": ("未就绪", "不可用")}[language]
    assert words[0] in shown(browser) and sum(row[1] == words[1] for row in shown_) == sum(
        check["state"] == "unavailable" for check in expected
    )
    assert browser.value(CONTRAST) == []


def test_what_waits_is_counted_by_action_and_priority_and_leads_to_the_tasks(browser: Browser, api: Facade) -> None:
    open_as(browser, api.url, "/ui/service?lang=en", ADMIN)
    browser.wait_for("document.querySelector('#queues').innerText.includes('Nothing waits')")
    submit(api, workspace="one", action="score", priority="high")
    submit(api, workspace="two", action="score")
    submit(api, workspace="three", action="validate", priority="low")
    browser.wait_for("document.querySelectorAll('#queues tbody tr').length === 2")
    assert cells(browser, "#queues") == [["score", "1", "1", "0", "0"], ["validate", "0", "0", "1", "0"]]
    click_on(browser, "#queues tbody a")
    browser.wait_for("document.querySelectorAll('#rows tr').length === 2")
    assert {"action=score", "state=queued"} <= set(browser.value("location.search").lstrip("?").split("&"))


def test_numbers_are_those_of_the_metrics_and_follow_them(browser: Browser, api: Facade) -> None:
    task = submit(api, workspace="one", action="score")
    submit(api, workspace="two", action="score")
    open_as(browser, api.url, "/ui/service?lang=en", SUBMIT)
    now = "[...document.querySelectorAll('.trend')].map(each => each.querySelector('strong').innerText)"
    browser.wait_for(f"({now})[0] === '2'")
    end(api, task)
    browser.wait_for(f"({now})[0] === '1'")
    browser.wait_for("document.querySelectorAll('#stages tbody tr').length === 2")
    # The order is that of the stages in the metrics.
    waited, in_all = cells(browser, "#stages")
    assert waited[:3] == ["score", "waited", "1"] and in_all == ["score", "in all", "1", "2.0 s"]
    # Each drawing says in words what it shows.
    labels = browser.value("[...document.querySelectorAll('.trend svg')].map(each => each.getAttribute('aria-label'))")
    assert len(labels) == 6 and labels[0].startswith("Tasks that wait: 1 now, from 1 to 2")
    version = api.call("GET", "/healthz").json["meta"]["version"]
    assert version in browser.value("document.querySelector('#versions').innerText")


def test_a_token_that_may_not_read_metrics_is_told_so_and_sees_the_rest(browser: Browser, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "root")
    with serving(tmp_path / "root") as benches:
        benches.hand_in("team-a", "id,label\na,x\nb,y\nc,x\nd,y\n")
        benches.hand_in("team-b", "id,label\na,x\nb,y\nc,x\nd,y\n")
        open_as(browser, benches.api.url, "/ui/service?lang=en", TOKENS["team-a"])
        browser.wait_for("document.querySelector('#no-metrics')")
        browser.wait_for("document.querySelector('#queues tbody tr')")
        assert cells(browser, "#queues") == [["score", "0", "1", "0", "0"]], "a team sees its own alone"
        browser.wait_for("document.querySelector('#checks')")
        assert not browser.value("document.querySelector('.trend')")


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (2560, "light")])
def test_everything_fits_and_can_be_read(browser: Browser, api: Facade, width: int, scheme: str) -> None:
    submit(api, workspace="one", action="score")
    open_as(browser, api.url, "/ui/service?lang=zh", ADMIN, width=width, scheme=scheme)
    browser.wait_for("document.querySelector('.trend') && document.querySelector('#checks')")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(CONTRAST) == []


TEXT = """# HELP one What it is.
# TYPE one gauge
one 3.0
one_total{method="GET",route="/a,b{c}"} 2
one_total{method="PUT",route="say \\"hi\\" \\\\ \\n"} 0.5 1790000000
unknown NaN
bucket{le="+Inf"} +Inf
no sample at all
"""


def test_the_text_format_is_read_as_prometheus_writes_it(browser: Browser, api: Facade) -> None:
    browser.open(f"{api.url}/ui/service", width=800)
    code = f"""import('/static/core/prometheus.js').then(({{ samples, total }}) => {{
      const found = samples({json.dumps(TEXT)});
      const sums = [['one'], ['one_total'], ['one_total', {{ method: 'PUT' }}], ['unknown'], ['absent'], ['bucket']];
      const routes = found.get('one_total').map(each => each.labels.route);
      return JSON.stringify([sums.map(each => total(found, ...each)), routes]);
    }})"""
    sums, routes = json.loads(browser.value(code))
    assert sums == [3, 2.5, 0.5, None, None, None] and routes == ["/a,b{c}", 'say "hi" \\ \n']
