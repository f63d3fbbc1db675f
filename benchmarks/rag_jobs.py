"""What jobs that score one answer cost and carry over HTTP, on a live installation of its own.

    python benchmarks/rag_jobs.py [--jobs N]

A stub judge answers each call after 0.2 s, in a process of its own; each job asks it twice (faithfulness). 20 clients
post answers in closed loops. Limits: the p95 of ``POST /api/score/async`` at most 50 ms, over the first fifth of them,
which are all queued; every accepted job is completed; what the installation takes in memory after all (5,000)
is at most 1.1 times what it took after half of them. Jobs a second are told beside what the judge's latency allows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rag import stub_judge

from service import CLIENTS, Installation, ask_all

LATENCY, CONCURRENCY, CALLS = 0.2, 64, 2
MOST_P95, MOST_GROWTH = 0.050, 1.1
FINAL = ("completed", "failed")
PATIENCE = 1800.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=5000)
    args = parser.parse_args()
    first, half = max(CLIENTS, args.jobs // 5), max(CLIENTS, args.jobs // 2)
    with stub_judge(latency=LATENCY) as judge, tempfile.TemporaryDirectory() as folder:
        profile = {"base_url": judge.url, "model": "large", "concurrency": CONCURRENCY}
        environment = {
            "AUTOSCORER_JUDGE__DEFAULT": "stub",
            "AUTOSCORER_JUDGE__PROFILES": json.dumps({"stub": profile}),
            "AUTOSCORER_JUDGE__CONCURRENCY": str(CONCURRENCY),
        }
        with Installation(Path(folder), environment) as live:
            missed = _measured(live, first, half, args.jobs)
    if missed:
        print(f"beyond the limit: {', '.join(missed)}")
    return 1 if missed else 0


def _measured(live: Installation, first: int, half: int, jobs: int) -> list[str]:
    idle = sum(live.memory().values())
    started = time.perf_counter()
    times = _post(live, 0, first)
    p50, p95 = (statistics.quantiles(times, n=100)[k - 1] for k in (50, 95))
    print(
        f"{f'POST /api/score/async, {CLIENTS} clients':38} p50 {p50 * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms, "
        f"max {max(times) * 1e3:.0f} ms    limit p95 {MOST_P95 * 1e3:.0f} ms"
    )
    ended = _ended(live, first)
    rate = first / (time.perf_counter() - started)
    print(
        f"{f'{first:,} jobs queued':38} {ended['completed']:,} completed, {ended['failed']:,} failed, "
        f"{first - sum(ended.values()):,} lost    limit 0 failed, 0 lost"
    )
    print(
        f"{'jobs a second':38} {rate:.1f}; the judge alone would allow {CONCURRENCY / LATENCY / CALLS:.0f}    no limit"
    )
    _post(live, first, half)
    _ended(live, half)
    time.sleep(5)
    between = sum(live.memory().values())
    _post(live, half, jobs)
    ended = _ended(live, jobs)
    time.sleep(5)
    after = live.memory()
    growth = sum(after.values()) / between
    for kind in sorted(after):
        print(f"{f'memory of {kind}':38} {after[kind]:.0f} MiB")
    print(
        f"{'memory in all':38} idle {idle:.0f} MiB, after {half:,} jobs {between:.0f}, after {jobs:,} "
        f"{sum(after.values()):.0f}: {growth:.2f} x    limit {MOST_GROWTH} x"
    )
    missed = {
        "submit": p95 > MOST_P95,
        "jobs": ended != {"completed": jobs, "failed": 0},
        "memory": growth > MOST_GROWTH,
    }
    return [name for name, is_missed in missed.items() if is_missed]


def _post(live: Installation, begin: int, end: int) -> list[float]:
    bodies = [
        json.dumps(
            {
                "question": f"What is the number {number}?",
                "answer": f"The number {number} is a number. It comes after {number - 1}.",
                "contexts": [f"Passage of question {number}."],
                "metrics": ["faithfulness"],
            }
        ).encode()
        for number in range(begin, end)
    ]
    requests = [("POST /api/score/async", 202, body) for body in bodies]
    times, answers = asyncio.run(ask_all([live.api_port], requests, CLIENTS))
    assert len({json.loads(answer)["job_id"] for answer in answers}) == end - begin
    return times


def _ended(live: Installation, count: int) -> dict[str, int]:
    """Wait until as many jobs have ended since the start; how many ended how."""
    deadline = time.monotonic() + PATIENCE
    while True:
        totals = {state: live.call("GET", f"/api/score/jobs?status={state}&limit=1")["total"] for state in FINAL}
        if sum(totals.values()) >= count or time.monotonic() > deadline:
            return totals
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
