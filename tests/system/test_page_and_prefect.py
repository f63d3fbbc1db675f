"""From the page into Prefect and back, in an installation as `autoscorer up` starts it."""

from __future__ import annotations

from typing import Any

import pytest

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.installation import Installation
from ..support.page_forms import click_on, open_as, shown
from ..support.prefect_server import eventually
from ..support.workspaces import TRUTH, write_workspace

pytestmark = [pytest.mark.prefect, pytest.mark.browser]

GOOD = "id,label\na,cat\nb,dog\nc,dog\n"


def artifacts(installation: Installation, flow_run_id: str) -> dict[str, Any]:
    wanted = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
    return {
        each["key"].rsplit("-", 1)[1]: each["data"]
        for each in installation.prefect("POST", "/artifacts/filter", wanted)
    }


def test_what_is_submitted_on_the_page_is_scored_and_leads_to_prefect_and_back(
    browser: Browser, installation: Installation
) -> None:
    write_workspace(installation.root, "from-the-page", truth=TRUTH, pred=GOOD)
    admin = installation.token("admin")
    open_as(browser, installation.url, "/ui/submit?kind=workspace&workspace=from-the-page&action=score&lang=en", admin)
    click_on(browser, "#submit-work")
    # Its record, which follows it to the end.
    browser.wait_for("location.pathname.startsWith('/ui/record/') && document.querySelector('.score strong')")
    assert browser.value("document.querySelector('.score strong').textContent") == "0.6667"
    task_id = browser.value("location.pathname.split('/').pop()")
    task = installation.finished(task_id)
    assert (task["state"], task["workspace"]) == ("completed", "from-the-page")
    browser.wait_for("document.querySelector('#flow-run')")
    # Into Prefect's own page, which knows the run by its name.
    there = browser.value("document.querySelector('#flow-run').href")
    assert there == f"{installation.prefect_url.removesuffix('/api')}/runs/flow-run/{task['flow_run_id']}"
    browser.open(there)
    name = installation.prefect("GET", f"/flow_runs/{task['flow_run_id']}")["name"]
    browser.wait_for(f"document.body.innerText.includes({name!r})")
    # And back, by the artifact that the run has left there.
    links = eventually(
        lambda: {"record", "report"} <= (found := artifacts(installation, task["flow_run_id"])).keys() and found
    )
    back = f"{installation.url}/ui/flow-run/{task['flow_run_id']}"
    assert back in links["record"] and f"{installation.url}/ui/workspace/from-the-page" in links["report"]
    browser.open(f"{back}?lang=en#token={admin}")
    browser.wait_for("document.querySelector('.score strong')")
    assert browser.value("location.pathname") == f"/ui/record/{task_id}"


def test_prefects_page_is_told_to_admins_alone(browser: Browser, installation: Installation) -> None:
    write_workspace(installation.root, "told-to-whom", truth=TRUTH, pred=GOOD)
    status, answer = installation.call("POST", "/submit", {"action": "score", "workspace": "told-to-whom"})
    assert status == 202
    task = installation.finished(answer["data"]["id"])
    path = f"/tasks/{task['id']}"
    assert task["flow_run_id"] in installation.call("GET", path, role="admin")[1]["data"]["flow_run_url"]
    assert "flow_run_url" not in installation.call("GET", path)[1]["data"]
    found = installation.call("GET", f"/tasks?flow_run={task['flow_run_id']}")[1]["data"]
    assert [each["id"] for each in found["tasks"]] == [task["id"]] and found["total"] == 1
    open_as(browser, installation.url, f"/ui/record/{task['id']}?lang=en", installation.token("submit"))
    browser.wait_for(f"document.querySelector('main').innerText.includes({task['flow_run_id']!r})")
    assert not browser.value("document.querySelector('#flow-run')")


def test_a_flow_run_that_nobody_knows_is_told_so_and_is_still_looked_for(
    browser: Browser, installation: Installation
) -> None:
    open_as(browser, installation.url, "/ui/flow-run/0000?lang=en", installation.token("submit"))
    browser.wait_for("document.querySelector('main [role=status]')")
    assert "0000" in shown(browser) and "appears within seconds" in shown(browser)
    assert installation.call("GET", "/tasks?flow_run=0000")[1]["data"]["total"] == 0
