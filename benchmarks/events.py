"""What listening to events costs, and how soon a change is told.

    python benchmarks/events.py [--streams N] [--seconds S]

It starts a PostgreSQL of its own (Debian: apt-get install postgresql) and real APIs on it, and one API on a file
(`autoscorer serve`). Prefect is away, so nothing happens but what is done here. Limits:

- delay: from `POST /submit` at one API to the event at another, 100 times; p95 at most 1 s. Beside it the same at one
  API on a file.
- idle: with 50 streams to one API, the API's share of a core, at most 10 %; and bytes a minute that each stream
  carries, at most 20,000. Beside it the same API without a stream.
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

from replicas import Api, Bench, cpu, postgres, quantile

from service import submit_all

MOST_DELAY, MOST_SHARE, MOST_BYTES = 1.0, 0.10, 20_000
TIMES = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which idle streams are looked at")
    args = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as database:
        bench = Bench(Path(folder), database, 1.0)
        url = bench.ledger("events")
        with bench.api("one", url) as one, bench.api("other", url) as other, bench.api("file", None) as file:
            for api in (one, other, file):
                api.settle()
            for name, taker, teller in (("two APIs, PostgreSQL", one, other), ("one API, a file", file, file)):
                delays = asyncio.run(_delays(bench, taker, teller))
                p95 = quantile(delays, 95)
                print(
                    f"{f'delay, {name}':38} p50 {statistics.median(delays) * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms, "
                    f"max {max(delays) * 1e3:.0f} ms    limit p95 {MOST_DELAY * 1e3:.0f} ms"
                )
                missed += ["delay"] if p95 > MOST_DELAY else []
            for name, api in (("PostgreSQL", other), ("a file", file)):
                before, _ = asyncio.run(_idle(api, 0, args.seconds))
                share, size = asyncio.run(_idle(api, args.streams, args.seconds))
                print(
                    f"{f'idle, {args.streams} streams, {name}':38} {share:.1%} of a core (without {before:.1%}), "
                    f"{size:.0f} bytes a minute a stream    limit {MOST_SHARE:.0%}, {MOST_BYTES:,} bytes"
                )
                missed += ["idle"] if share > MOST_SHARE or size > MOST_BYTES else []
    if missed:
        print(f"beyond the limit: {', '.join(dict.fromkeys(missed))}")
    return 1 if missed else 0


async def _listening(api: Api) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that has said hello."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1 << 20)
    writer.write(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.readuntil(b"event: hello")
    return reader, writer


async def _delays(bench: Bench, taker: Api, teller: Api) -> list[float]:
    """Seconds from a submit at one API to its event at another, one after the other."""
    reader, writer = await _listening(teller)
    heard: dict[str, float] = {}

    async def listen() -> None:
        while line := await reader.readline():
            if line.startswith(b'data: {"id":'):
                heard.setdefault(json.loads(line[6:])["id"], time.perf_counter())

    listening, delays = asyncio.create_task(listen()), []
    for name in bench.workspaces(TIMES):
        began = time.perf_counter()
        _, (task,) = await submit_all([taker.port], [name], 1)
        while task not in heard:
            await asyncio.sleep(0.001)
        delays.append(heard[task] - began)
        await asyncio.sleep(0.03)  # not always at the same moment between two looks
    listening.cancel()
    writer.close()
    return delays


async def _idle(api: Api, streams: int, seconds: float) -> tuple[float, float]:
    """The share of a core that an API takes with so many streams, and the bytes a minute of each."""
    opened = [await _listening(api) for _ in range(streams)]
    await asyncio.sleep(2)
    for reader, _ in opened:  # what was told at the beginning
        reader._buffer.clear()  # type: ignore[attr-defined]
    sizes = [0] * streams

    async def count(number: int, reader: asyncio.StreamReader) -> None:
        while part := await reader.read(1 << 16):
            sizes[number] += len(part)

    counting = [asyncio.create_task(count(number, reader)) for number, (reader, _) in enumerate(opened)]
    before = cpu([api.process.pid])
    await asyncio.sleep(seconds)
    share = (cpu([api.process.pid]) - before) / seconds
    for task, (_, writer) in zip(counting, opened, strict=True):
        task.cancel()
        writer.close()
    return share, sum(sizes) / max(streams, 1) * 60 / seconds


if __name__ == "__main__":
    sys.exit(main())
