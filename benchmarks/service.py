"""What the service costs and carries, on a live installation of its own (`autoscorer up` in a temporary folder).

    python benchmarks/service.py [submit] [latency] [throughput] [batch] [memory] [--tasks N] [--scale F]

Without names all parts run. Each prints what was measured beside its limit; ratios are against a peer in the same run:

- submit: POST /submit by 20 clients in closed loops, 1,000 in all; p95 at most 50 ms, and every task accepted ends.
- latency: from POST /submit to the Result for one score task at a time, nothing else going on; median below 1 s.
- throughput: score tasks a second, against one Prefect flow-run process per task (the same flow, the same server, a
  plain ``prefect worker`` on a process pool); at least 10 times.
- batch: 500 small workspaces as one batch, against a plain loop over ``score_workspace`` in one process; at least 0.8
  times its rate.
- memory: of the API, the Prefect server and the worker when idle, and after 2,000 tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PARTS = ("memory", "latency", "submit", "throughput", "batch")
ROWS = 100
CLIENTS = 20
PATIENCE = 1200.0
FINAL = ("completed", "failed", "cancelled")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks after which memory is looked at again")
    parser.add_argument("--scale", type=float, default=1.0, help="of all other counts, for a quick look")
    args = parser.parse_args()
    wanted = args.parts or PARTS
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    failed = []
    with tempfile.TemporaryDirectory() as folder, Installation(Path(folder)) as live:
        print(f"{'ready after':34} {live.ready_after:8.1f} s    limit 120 s")
        before = live.memory() if "memory" in wanted else {}
        for part in PARTS:
            if part in wanted and part != "memory":
                ok = globals()[f"_{part}"](live, args.scale)
                failed += [] if ok else [part]
        if "memory" in wanted and not _memory(live, before, args.tasks):
            failed.append("memory")
    if failed:
        print(f"beyond the limit: {', '.join(failed)}")
    return 1 if failed else 0


class Installation:
    """A live installation, and the plain HTTP client that its measures are taken with."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.root = folder / "workspaces"
        self.root.mkdir()
        self.api_port, self.prefect_port = free_port(), free_port()
        self.prefect_url = f"http://127.0.0.1:{self.prefect_port}/api"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOSCORER_", "PREFECT_"))}
        self.environment = {
            **kept,
            "AUTOSCORER_HOME": str(folder / "home"),
            "PREFECT_HOME": str(folder / "prefect"),
            "AUTOSCORER_WORKSPACE_ROOTS": str(self.root),
            "DO_NOT_TRACK": "1",
            **(environment or {}),
        }
        self._made = 0
        self._template = self._first_workspace()

    def __enter__(self) -> Installation:
        started = time.monotonic()
        ports = ["--api-port", str(self.api_port), "--prefect-port", str(self.prefect_port)]
        with (self.folder / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "autoscorer", "up", *ports], env=self.environment, stdout=log, stderr=log
            )
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() - started > 300:
                sys.exit((self.folder / "up.log").read_text(errors="replace")[-4000:])
            time.sleep(0.2)
        self.ready_after = time.monotonic() - started
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.HTTPError):
            return bool(self.call("GET", "/readyz")["ok"])
        return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def prefect(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.prefect_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    content = response.read()
                return json.loads(content) if content else None
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite was locked at that moment; Prefect's own client asks again, too
                    raise
                time.sleep(0.1)

    def _first_workspace(self) -> Path:
        root = self.folder / "template"
        (root / "input").mkdir(parents=True)
        (root / "output").mkdir()
        labels = ["cat", "dog", "bird"]
        truth = "".join(f"{i},{labels[i % 3]}\n" for i in range(ROWS))
        guess = "".join(f"{i},{labels[(i + (i % 7 == 0)) % 3]}\n" for i in range(ROWS))
        (root / "input" / "gt.csv").write_text(f"id,label\n{truth}")
        (root / "output" / "pred.csv").write_text(f"id,label\n{guess}")
        (root / "meta.json").write_text(json.dumps({"task_type": "classification", "scorer": "classification_f1"}))
        return root

    def workspaces(self, count: int, name: str) -> list[str]:
        """Make that many workspaces in a folder of the root; their names for the API."""
        made = []
        for number in range(count):
            target = self.root / name / f"{number:05}"
            shutil.copytree(self._template, target)
            made.append(f"{name}/{number:05}")
        return made

    def ended(self, count: int, *, within: float = PATIENCE) -> dict[str, int]:
        """Wait until as many tasks have ended since the start; how many ended how."""
        deadline = time.monotonic() + within
        while True:
            totals = {state: self.call("GET", f"/tasks?state={state}&limit=1")["data"]["total"] for state in FINAL}
            if sum(totals.values()) >= count or time.monotonic() > deadline:
                return totals
            time.sleep(0.2)

    def memory(self) -> dict[str, float]:
        """MiB of each of the installation's processes: PSS, which counts shared pages once."""
        found: dict[str, float] = {}
        for pid in tree(self.process.pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                kind = next((k for k in ("serve", "worker", "server", "up") if k in words), "worker's forkserver")
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                found[kind] = found.get(kind, 0.0) + pss / 1024
        return found


def _submit(live: Installation, scale: float) -> bool:
    count = max(CLIENTS, int(1000 * scale))
    before = sum(live.ended(0).values())
    names = live.workspaces(count, "submit")
    times, ids = asyncio.run(submit_all([live.api_port], names, CLIENTS))
    p50, p95 = (statistics.quantiles(times, n=100)[k - 1] for k in (50, 95))
    ended = live.ended(before + count)
    lost = before + count - sum(ended.values())
    ok = p95 <= 0.050 and lost == 0 and len(ids) == count
    print(
        f"{f'POST /submit, {CLIENTS} clients':34} p50 {p50 * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms, "
        f"max {max(times) * 1e3:.0f} ms    limit p95 50 ms"
    )
    print(
        f"{f'{count} submits in a row':34} {len(ids)} accepted, {lost} lost, {ended['failed']} failed    limit 0 lost"
    )
    return ok


async def submit_all(ports: Sequence[int], names: list[str], clients: int) -> tuple[list[float], set[str]]:
    """Submit a score task for each workspace; the seconds that each took, and the tasks' ids."""
    bodies = [json.dumps({"action": "score", "workspace": name}).encode() for name in names]
    times, answers = await ask_all(ports, [("POST /submit", 202, body) for body in bodies], clients)
    return times, {json.loads(answer)["data"]["id"] for answer in answers}


async def ask_all(
    ports: Sequence[int], requests: Sequence[tuple[str, int, bytes]], clients: int
) -> tuple[list[float], list[bytes]]:
    """Ask by closed loops over plain sockets, so that the clients' own cost hardly counts.

    Args:
        ports: Of the APIs; each client has one of them, in turn.
        requests: Method and path, the status that is expected, and the body.
        clients: How many ask at the same time.

    Returns:
        The seconds that each request took, and the answers' bodies.
    """
    waiting, times, answers = [*reversed(requests)], [], []

    async def client(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while waiting:
            what, status, body = waiting.pop()
            head = (
                f"{what} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            started = time.perf_counter()
            writer.write(head.encode() + body)
            headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(headers.split("content-length:")[1].split("\r\n")[0])
            answer = await reader.readexactly(length)
            times.append(time.perf_counter() - started)
            assert f" {status} " in headers.split("\r\n")[0], answer
            answers.append(answer)
        writer.close()

    await asyncio.gather(*(client(ports[number % len(ports)]) for number in range(clients)))
    return times, answers


def _latency(live: Installation, scale: float) -> bool:
    times = []
    for name in live.workspaces(max(5, int(20 * scale)), "latency"):
        time.sleep(0.5)
        started = time.perf_counter()
        task = live.call("POST", "/submit", {"action": "score", "workspace": name})["data"]["id"]
        while (view := live.call("GET", f"/tasks/{task}")["data"])["state"] not in FINAL:
            time.sleep(0.01)
        times.append(time.perf_counter() - started)
        assert view["result"]["summary"]["score"] is not None, view
    median = statistics.median(times)
    print(f"{'submit to Result, idle':34} p50 {median:.2f} s, max {max(times):.2f} s    limit p50 1 s")
    return median < 1


def _throughput(live: Installation, scale: float) -> bool:
    peers = max(4, int(16 * scale))
    rate_peer = _plain_prefect(live, live.workspaces(peers, "plain"))
    count = max(50, int(300 * scale))
    names = live.workspaces(count, "throughput")
    before = sum(live.ended(0).values())
    started = time.perf_counter()
    asyncio.run(submit_all([live.api_port], names, CLIENTS))
    live.ended(before + count)
    rate = count / (time.perf_counter() - started)
    ratio = rate / rate_peer
    print(
        f"{'score tasks':34} {rate:.1f} a second, a Prefect process each: {rate_peer:.2f}: {ratio:.0f} x    limit 10 x"
    )
    return ratio >= 10


def _plain_prefect(live: Installation, names: list[str]) -> float:
    """Rate of a plain Prefect worker: a pool of its own, one process a flow run, as many at a time as cores."""
    ours = live.prefect("GET", "/deployments/name/score-only/score")
    pool = {"name": "plain", "type": "process", "base_job_template": {}}
    live.prefect("POST", "/work_pools/", pool)
    copied = {key: ours[key] for key in ("flow_id", "entrypoint", "parameter_openapi_schema", "pull_steps")}
    deployment = live.prefect("POST", "/deployments/", {**copied, "name": "plain", "work_pool_name": "plain"})["id"]
    environment = {
        **live.environment,
        "PREFECT_API_URL": live.prefect_url,
        "PREFECT_HOME": str(live.folder / "prefect-client"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    with _running(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "plain", "--limit", str(os.cpu_count())],
        environment,
        live.folder / "plain.log",
    ):
        until = time.monotonic() + 120
        while not live.prefect("POST", "/work_pools/plain/workers/filter", {}) and time.monotonic() < until:
            time.sleep(0.2)
        started = time.perf_counter()
        runs = [
            live.prefect(
                "POST",
                f"/deployments/{deployment}/create_flow_run",
                {"parameters": {"workspace": str(live.root / name)}, "state": {"type": "SCHEDULED"}},
            )["id"]
            for name in names
        ]
        until = time.monotonic() + 600
        while time.monotonic() < until:
            found = live.prefect("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": runs}}})
            if all(run["state_type"] == "COMPLETED" for run in found):
                return len(runs) / (time.perf_counter() - started)
            time.sleep(0.5)
    sys.exit("The plain Prefect worker did not complete its runs: " + (live.folder / "plain.log").read_text()[-2000:])


def _batch(live: Installation, scale: float) -> bool:
    count = max(50, int(500 * scale))
    live.workspaces(count, "loop")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom autoscorer.core.config import load_settings\n"
        "from autoscorer.tasks.score import score_workspace\nsettings = load_settings()\n"
        "found = sorted(Path(sys.argv[1]).iterdir())\nstarted = time.perf_counter()\n"
        "for workspace in found:\n    assert score_workspace(workspace, settings=settings).error is None\n"
        "print(time.perf_counter() - started)\n"
    )
    loop = subprocess.run(
        [sys.executable, "-c", code, str(live.root / "loop")],
        env=live.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    loop_rate = count / float(loop.stdout)
    live.workspaces(count, "batch")
    started = time.perf_counter()
    task = live.call("POST", "/batch", {"workspaces": ["batch"], "action": "score"})["data"]["id"]
    while (view := live.call("GET", f"/tasks/{task}")["data"])["state"] not in FINAL:
        time.sleep(0.1)
    rate = count / (time.perf_counter() - started)
    assert view["result"]["completed"] == count, view
    ratio = rate / loop_rate
    print(f"{f'batch of {count}':34} {rate:.1f} a second, plain loop {loop_rate:.1f}: {ratio:.2f} x    limit 0.8 x")
    return ratio >= 0.8


def _memory(live: Installation, before: dict[str, float], tasks: int) -> bool:
    done = sum(live.ended(0).values())
    # The first thousand fill caches that stay; what grows after them is a leak.
    names = live.workspaces(max(tasks - done, tasks // 2), "memory")
    half = len(names) // 2
    asyncio.run(submit_all([live.api_port], names[:half], CLIENTS))
    live.ended(done + half)
    time.sleep(5)
    between = live.memory()
    asyncio.run(submit_all([live.api_port], names[half:], CLIENTS))
    live.ended(done + len(names))
    time.sleep(5)
    after = live.memory()
    for kind in sorted(after):
        line = f"idle {before.get(kind, 0):.0f} MiB, {between.get(kind, 0):.0f}, after {done + len(names)} tasks"
        print(f"{f'memory of {kind}':34} {line} {after[kind]:.0f} MiB")
    total, first = sum(after.values()), sum(between.values())
    print(f"{'memory in all':34} idle {sum(before.values()):.0f} MiB, {first:.0f}, at last {total:.0f} MiB")
    return total <= 1.1 * first


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=log.parent)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
