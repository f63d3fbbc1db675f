"""What a batch costs over a plain loop ``for workspace in …: score_workspace(workspace)`` in one process.

    python benchmarks/batch.py [--workspaces N] [--concurrency N] [--turns N]

The batch is a flow run of Prefect's engine in a process forked from one that has imported everything, as the worker
does it, against a real Prefect server; counted is all of it, from the fork to the last record handed over. Loop and
batch work in turn on equal workspaces. Printed are the medians; the batch must reach 0.8 of the loop's rate. Without
the API, ledger and worker around it, which benchmarks/service.py measures too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from uuid import UUID

LIMIT = 0.8
ROWS = 50
LABELS = ("cat", "dog", "bird")
LOOP = """
import sys, time
from pathlib import Path
from autoscorer.core.config import load_settings
from autoscorer.tasks.score import score_workspace
settings, found = load_settings(), sorted(Path(sys.argv[1]).iterdir())
started = time.perf_counter()
for workspace in found:
    assert score_workspace(workspace, settings=settings).error is None
print(time.perf_counter() - started)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspaces", type=int, default=500)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(AUTOSCORER_HOME=str(folder / "home"), PREFECT_HOME=str(folder / "prefect"), DO_NOT_TRACK="1")
        os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        with (folder / "server.log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            _until_healthy()
            ratio = _measure(folder, args.workspaces, args.concurrency, args.turns)
        finally:
            server.terminate()
            server.wait(30)
    return 0 if ratio >= LIMIT else 1


def _measure(folder: Path, count: int, concurrency: int, turns: int) -> float:
    # As the worker's fork server has them.
    for module in (
        "autoscorer.flows.batch",
        "prefect.flow_engine",
        "prefect.events.worker",
        "prefect.logging.handlers",
    ):
        importlib.import_module(module)
    loops, batches = [], []
    for turn in range(turns):
        for kind in ("loop", "batch"):
            _workspaces(folder / f"{kind}-{turn}", count)
        done = subprocess.run(
            [sys.executable, "-c", LOOP, str(folder / f"loop-{turn}")], check=True, capture_output=True, text=True
        )
        loops.append(float(done.stdout))
        batches.append(_batch(folder / f"batch-{turn}", folder / "home", count, concurrency))
    loop, batch = statistics.median(loops), statistics.median(batches)
    ratio = loop / batch
    print(f"plain loop over {count:<6} {loop:.2f} s   {count / loop:.0f} a second")
    print(f"batch of {count:<13} {batch:.2f} s   {count / batch:.0f} a second, {concurrency} at a time")
    print(f"ratio                  {ratio:.2f} x   limit {LIMIT} x   {'ok' if ratio >= LIMIT else 'TOO SLOW'}")
    return ratio


def _batch(workspaces: Path, home: Path, count: int, concurrency: int) -> float:
    flow = _call("POST", "/flows/", {"name": "batch"})["id"]
    parameters = {"workspaces": [str(workspaces)], "action": "score", "concurrency": concurrency}
    body = {"flow_id": flow, "parameters": parameters, "state": {"type": "PENDING"}}
    run = _call("POST", "/flow_runs/", body)["id"]
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            _work(UUID(run))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    seconds = time.perf_counter() - started
    outcome = json.loads((home / "flow-runs" / run / "outcome.json").read_bytes())
    assert outcome["data"]["completed"] == count, outcome["message"]
    return seconds


def _work(run: UUID) -> None:
    from autoscorer.flows.batch import batch
    from prefect.events.worker import EventsWorker
    from prefect.flow_engine import load_flow_run, run_flow
    from prefect.logging.handlers import APILogWorker

    with open(os.devnull, "w") as quiet:
        os.dup2(quiet.fileno(), 2)
    run_flow(batch, flow_run=load_flow_run(run), return_type="state")
    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)


def _workspaces(folder: Path, count: int) -> None:
    chance = random.Random(count)
    for number in range(count):
        root = folder / f"team-{number:05}"
        (root / "input" / "data").mkdir(parents=True)
        (root / "output").mkdir()
        truth = [chance.choice(LABELS) for _ in range(ROWS)]
        guesses = [label if chance.random() < 0.8 else chance.choice(LABELS) for label in truth]
        for file, labels in (("input/gt.csv", truth), ("output/pred.csv", guesses)):
            rows = "".join(f"s{row:04},{label}\n" for row, label in enumerate(labels))
            (root / file).write_text("id,label\n" + rows)
        (root / "meta.json").write_text('{"task_type": "classification", "scorer": "classification_f1"}')


def _until_healthy() -> None:
    for _ in range(600):
        try:
            _call("GET", "/health")
            return
        except OSError:
            time.sleep(0.2)
    sys.exit("The Prefect server did not start.")


def _call(method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        os.environ["PREFECT_API_URL"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


if __name__ == "__main__":
    sys.exit(main())
