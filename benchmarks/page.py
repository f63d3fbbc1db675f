"""How soon the page is there, in a real browser, and how soon it shows a change.

    python benchmarks/page.py [--records N ...]

It fills a ledger with records that were scored, serves them with a real API (`autoscorer serve`), and opens the page in
Chromium, with nothing in its cache. Prefect is away, so nothing happens but what is done here. Limits:

- first view: from the request for the page to a hundred rows that are drawn, with 5,000 records at most 0.5 s, with
  100,000 at most 1 s: the median of seven. Beside it the same with an empty ledger.
- answer: bytes of the first list on the wire, at most 50 KiB; and of all that the first view loads.
- change: from `POST /submit` to its row on the screen, at most 1 s: the largest of ten.
- idle: bytes a minute that an open page asks for, at most 20,000.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))

from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import TaskEnd
from replicas import NEVER, Api, free_port

from tests.support.browser import Browser, Chromium
from tests.support.ledger import new

LIMITS = {5_000: 0.5, 100_000: 1.0}
MOST_ANSWER, MOST_CHANGE, MOST_IDLE = 50 * 1024, 1.0, 20_000
ROUNDS, CHANGES, IDLE = 7, 10, 30.0
DRAWN = "document.querySelectorAll('#rows tr').length === {}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="*", default=[0, *LIMITS])
    args = parser.parse_args()
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        chromium = Chromium()
        try:
            browser = Browser(chromium)
            for number in args.records:
                missed += _with(browser, Path(folder), number)
        finally:
            chromium.close()
    if missed:
        print(f"beyond the limit: {', '.join(dict.fromkeys(missed))}")
    return 1 if missed else 0


def _with(browser: Browser, folder: Path, number: int) -> list[str]:
    home, root = folder / f"home-{number}", folder / "workspaces"
    root.mkdir(exist_ok=True)
    asyncio.run(_fill(home, number))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOSCORER_", "PREFECT_"))}
    environment = {
        **kept,
        "AUTOSCORER_HOME": str(home),
        "AUTOSCORER_WORKSPACE_ROOTS": str(root),
        "PREFECT_API_URL": NEVER,
    }
    api, missed = Api(free_port(), environment, folder), []
    try:
        api.wait()
        rows = min(number, 100)
        times, sizes = [], {}
        for _ in range(ROUNDS):
            seconds, sizes = _first_view(browser, api.port, rows)
            times.append(seconds)
        middle, limit = statistics.median(times), LIMITS.get(number)
        told = f"    limit {limit * 1e3:.0f} ms" if limit else ""
        print(f"{f'first view, {number:,} records':34} {middle * 1e3:.0f} ms (slowest {max(times) * 1e3:.0f} ms){told}")
        missed += ["first view"] if limit and middle > limit else []
        listed = next(size for address, size in sizes.items() if "/tasks?" in address)
        print(
            f"{'  its first list, all it loads':34} {listed / 1024:.1f} KiB, {sum(sizes.values()) / 1024:.1f} KiB in "
            f"{len(sizes)} answers    limit {MOST_ANSWER / 1024:.0f} KiB for the list"
        )
        missed += ["answer"] if listed > MOST_ANSWER else []
        if number:
            changes = [_change(browser, api.port, root, each) for each in range(CHANGES)]
            print(
                f"{'  a change is seen':34} after {statistics.median(changes) * 1e3:.0f} ms (slowest "
                f"{max(changes) * 1e3:.0f} ms)    limit {MOST_CHANGE * 1e3:.0f} ms"
            )
            missed += ["change"] if max(changes) > MOST_CHANGE else []
            idle = _idle(browser)
            print(f"{'  idle':34} {idle:,.0f} bytes a minute    limit {MOST_IDLE:,}")
            missed += ["idle"] if idle > MOST_IDLE else []
    finally:
        api.process.terminate()
        api.process.wait(60)
    return missed


async def _fill(home: Path, number: int) -> None:
    """Make a ledger of so many scored records."""
    ledger, chance = await Ledger.open(Settings(home=home)), random.Random(1)
    try:
        for start in range(0, number, 500):
            made = [
                new(f"/data/round-{n % 7}/team-{n:06}", scorer="classification_f1") for n in range(start, start + 500)
            ]
            rows = await asyncio.gather(*(ledger.add(task) for task in made))
            now = time.time()
            await ledger.finish(
                [
                    TaskEnd(row.id, TaskState.COMPLETED, _result(chance.random()), None, started_at=now, ended_at=now)
                    for row, _ in rows
                ]
            )
    finally:
        await ledger.close()


def _result(score: float) -> dict[str, Any]:
    interval = {"low": max(0.0, score - 0.03), "high": min(1.0, score + 0.03), "level": 0.95, "method": "wilson"}
    return {
        "summary": {"score": score, "f1_macro": score, "pass": score > 0.5, "rank": "A", "higher_is_better": True},
        "metrics": {"f1_macro": score},
        "intervals": {"f1_macro": interval},
    }


def _first_view(browser: Browser, port: int, rows: int) -> tuple[float, dict[str, int]]:
    """Seconds until the rows are drawn, and the bytes of each answer on the wire."""
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    drawn = DRAWN.format(rows) if rows else "document.querySelector('#empty')"
    # Told by the page itself: asking it from here again and again would take a part of its time.
    watch = (
        "new MutationObserver((_, self) => { if (!window.drawnAt && ("
        + drawn
        + ")) { window.drawnAt = performance.now(); self.disconnect(); } })"
        ".observe(document, {childList: true, subtree: true})"
    )
    browser.open(f"http://127.0.0.1:{port}/?lang=en", width=1300, script=watch)
    browser.wait_for("window.drawnAt")
    seconds = browser.value("drawnAt") / 1e3
    sizes = browser.value(
        "performance.getEntriesByType('resource').filter(e => !e.name.endsWith('/events') && e.responseEnd <= drawnAt)"
        ".concat(performance.getEntriesByType('navigation')).map(e => [e.name, e.transferSize])"
    )
    return seconds, dict(sizes)


def _change(browser: Browser, port: int, root: Path, number: int) -> float:
    """Seconds from a submission to its row."""
    name = f"new-{port}-{number}"
    subprocess.run(["mkdir", "-p", str(root / name)], check=True)
    (root / name / "meta.json").write_text('{"task_type": "classification", "scorer": "classification_f1"}')
    time.sleep(1.3)  # not as part of the change before
    browser.value(
        f"window.seenAt = 0; new MutationObserver((_, self) => {{ if (document.querySelector('#rows').innerText"
        f".includes({json.dumps(name)})) {{ window.seenAt = Date.now(); self.disconnect(); }} }})"
        ".observe(document.querySelector('#rows'), {childList: true, subtree: true})"
    )
    asked = json.dumps({"action": "score", "workspace": name}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/submit", asked, {"Content-Type": "application/json"}, method="POST"
    )
    began = time.time()
    urllib.request.urlopen(request, timeout=30).close()
    browser.wait_for("window.seenAt")
    return float(browser.value("seenAt")) / 1e3 - began


def _idle(browser: Browser) -> float:
    """Bytes a minute that an open page receives while nothing happens."""
    browser.value("new Promise(r => setTimeout(r, 2000))")
    browser.forget()
    time.sleep(IDLE)
    received = sum(each["encodedDataLength"] for each in browser.events("Network.dataReceived"))
    return received * 60 / IDLE


if __name__ == "__main__":
    sys.exit(main())
