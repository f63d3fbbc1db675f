"""The page through a gateway with two APIs behind it: which of them answers is seen nowhere, nor that one is away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.calls import Answer, call
from ..support.facade import ADMIN, SUBMIT
from ..support.gateway import start_gateway
from ..support.ports import free_port
from ..support.postgres import Postgres
from ..support.postgres import postgres as postgres
from ..support.prefect_server import eventually
from ..support.processes import Processes, clean_environment
from ..support.records_page import click
from ..support.workspaces import write_workspace
from .test_live import NEVER_LATER, ROWS, live

pytestmark = pytest.mark.slow

AUTOSCORER = (sys.executable, "-m", "autoscorer")
STATIC = Path(__file__).parents[2] / "api" / "static"
STATE = "document.querySelector('[data-id=\"{}\"] .state')?.innerText === '{}'"


class Behind:
    """Two APIs of one installation, on one ledger in PostgreSQL, and the gateway in front of them."""

    def __init__(self, processes: Processes, ledger_url: str) -> None:
        self._processes = processes
        self.root = processes.folder / "workspaces"
        self.root.mkdir()
        self._environment = {
            **clean_environment(),
            "AUTOSCORER_WORKSPACE_ROOTS": str(self.root),
            "AUTOSCORER_LEDGER_URL": ledger_url,
            "AUTOSCORER_API_TOKENS": f"submit:{SUBMIT},admin:{ADMIN}",
            # Prefect is away: nothing happens but what the tests do.
            "AUTOSCORER_PREFECT__API_URL": "http://127.0.0.1:9/api",
        }
        processes.run(*AUTOSCORER, "ledger", "upgrade", environment=self._on("upgrading"))
        self.ports = [free_port(), free_port()]
        self._apis = [self._serve(port) for port in self.ports]
        for port in self.ports:
            self._wait(port)
        self.url = start_gateway(processes, self.ports)

    def _serve(self, port: int) -> subprocess.Popen[bytes]:
        return self._processes.start(
            f"api-{port}",
            *(*AUTOSCORER, "serve", "--port", str(port), "--json"),
            environment=self._on(f"api-{port}"),
        )

    def _on(self, host: str) -> dict[str, str]:
        return {**self._environment, "AUTOSCORER_HOME": str(self._processes.folder / f"home-{host}")}

    def _wait(self, port: int) -> None:
        api = self._apis[self.ports.index(port)]

        def answers() -> bool:
            assert api.poll() is None, self._processes.log(f"api-{port}")[-3000:]
            try:
                return call(f"http://127.0.0.1:{port}/healthz").status == 200
            except OSError:
                return False

        eventually(answers, within=300)

    def ask(self, number: int, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Ask one of them, past the gateway."""
        return call(f"http://127.0.0.1:{self.ports[number]}{path}", method, body, token=ADMIN, headers=headers)

    def submit(self, number: int, name: str) -> str:
        write_workspace(self.root, name)
        return str(self.ask(number, "POST", "/submit", {"action": "score", "workspace": name}).data["id"])

    def stop(self, number: int) -> None:
        self._apis[number].terminate()
        assert self._apis[number].wait(300) == 0

    def start(self, number: int) -> None:
        self._apis[number] = self._serve(self.ports[number])
        self._wait(self.ports[number])


@pytest.fixture(scope="module")
def behind(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    processes = Processes(tmp_path_factory.mktemp("gateway"))
    try:
        yield Behind(processes, postgres.ledger_url())
    finally:
        processes.stop()


def test_what_either_of_them_does_is_followed_as_it_happens(browser: Browser, behind: Behind) -> None:
    # One of the two holds the page's stream, and one of the two does not.
    for number, token in ((0, SUBMIT), (1, ADMIN)):
        browser.open(f"{behind.url}/?lang=en#token={token}", width=1300, script=NEVER_LATER)
        live(browser)
        mine = behind.submit(number, f"of-{number}")
        browser.wait_for(STATE.format(mine, "queued"))
        behind.ask(1 - number, "POST", f"/tasks/{mine}/cancel")
        browser.wait_for(STATE.format(mine, "cancelled"))
        assert all(address.startswith(behind.url + "/") for address in browser.requests())
        refused = ("/readyz", "/logs", "/queues")
        assert [each for each in browser.complaints() if not any(one in each for one in refused)] == []


def test_the_page_goes_on_while_one_of_them_is_away_and_when_it_is_back(browser: Browser, behind: Behind) -> None:
    browser.open(f"{behind.url}/?lang=en#token={ADMIN}", width=1300)
    live(browser)
    count = behind.ask(0, "GET", "/tasks").data["total"]
    browser.value("window.same = true")
    for number, other in ((0, 1), (1, 0)):
        behind.stop(number)
        live(browser)
        task = behind.submit(other, f"without-{number}")
        browser.wait_for(STATE.format(task, "queued"))
        # What is asked for anew comes as well: a view with its modules, and the record.
        click(browser, f'[data-id="{task}"] a')
        browser.wait_for("document.querySelector('#cancel')")
        click(browser, "#cancel")
        browser.wait_for("document.querySelector('#confirm-yes, #retry')")
        browser.value("document.querySelector('#confirm-yes')?.click()")
        browser.wait_for("document.querySelector('#retry')")
        assert behind.ask(other, "GET", f"/tasks/{task}").data["state"] == "cancelled"
        browser.value("history.back()")
        browser.wait_for(STATE.format(task, "cancelled"))
        behind.start(number)
        back = behind.submit(number, f"with-{number}")
        browser.wait_for(STATE.format(back, "queued"))
    # Nobody has loaded the page anew, nor signed in again.
    assert browser.value("window.same")
    browser.reload()
    browser.wait_for(ROWS.format(count + 4))


def test_both_of_them_serve_one_page_so_that_its_parts_may_come_from_either(behind: Behind) -> None:
    paths = ["/", "/ui/records"]
    paths += [f"/static/{file.relative_to(STATIC).as_posix()}" for file in STATIC.rglob("*.js")]
    paths += ["/static/page.css", "/static/icon.svg", "/static/preact.js"]
    for path in paths:
        first, second = (behind.ask(number, "GET", path) for number in (0, 1))
        assert first.status == second.status == 200, path
        assert (first.body, first.headers["etag"]) == (second.body, second.headers["etag"]), path
        # Asked for each time, so that nobody has a part of an older one; what one has sent, the other does not again.
        assert first.headers["cache-control"] == second.headers["cache-control"] == "no-cache", path
        again = behind.ask(1, "GET", path, **{"If-None-Match": first.headers["etag"]})
        assert (again.status, again.body) == (304, b""), path
