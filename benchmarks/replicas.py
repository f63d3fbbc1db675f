"""What several APIs on one ledger in PostgreSQL cost and carry, beside one API on its file.

    python benchmarks/replicas.py [submit] [queued] [ended] [--scale F]

It starts a PostgreSQL of its own (Debian: apt-get install postgresql), which syncs each commit, and real APIs on it
(`autoscorer serve`). Prefect is away: what is accepted stays in the ledger, and accepting is what is measured. Without
names all parts run. Each prints what was measured beside its limit; what is compared is asked in turns, in one run:

- submit: POST /submit to three APIs by 21 clients in closed loops; p95 at most 50 ms. Beside it one API on a file, with
  as many clients.
- queued: POST /submit and GET /tasks with 5,000 tasks in the queue, against an empty ledger; at most 1.2 times.
- ended: the same with 1,000,000 tasks that have ended, and the p95 of GET /tasks at most 60 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from service import ask_all, free_port, submit_all, tree

PARTS = ("submit", "queued", "ended")
REPLICAS, CLIENTS = 3, 21
# How often a ledger and an empty one are asked in turns; the clients that submit then, and the requests of each kind.
ROUNDS, FEW, ASKED = 30, 7, 14
NEVER = "http://127.0.0.1:1/api"
LISTS = ("limit=50", "limit=50&state=failed", "limit=50&workspace=old/7")
# Reads every name there is, and what it takes grows with them.
SEARCH = "limit=50&q=old/77"
# One task a second until now; the triggers that count would take an hour over a million in one transaction.
FILLED = """
    SET search_path TO {schema};
    ALTER TABLE tasks DISABLE TRIGGER USER;
    INSERT INTO tasks (id, origin, caller, action, subject, workspace, scorer, priority, request, parameters, state,
            created_at, started_at, ended_at, flow_run_id)
        SELECT substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-7000-8000-' || lpad(to_hex(n), 12, '0'), 'api',
            'somebody', 'score', '{root}/' || name, '{root}/' || name, 'classification_f1', 'normal',
            '{{"action": "score", "workspace": "' || name || '"}}', '{{"workspace": "{root}/' || name || '"}}', {state},
            at, at, {ended}, 'run-' || n
        FROM generate_series(1, {count}) AS n,
            LATERAL (SELECT extract(epoch FROM now()) - {count} + n AS at, 'old/' || {of} AS name) AS task,
            LATERAL (SELECT lpad(to_hex((at * 1000)::bigint), 12, '0') AS hex) AS id;
    INSERT INTO names SELECT id, request::json ->> 'workspace' FROM tasks;
    INSERT INTO outcomes (task_id, outcome) SELECT id, '{{"score": 0.5, "metric": "f1", "higher_is_better": true}}'
        FROM tasks WHERE ended_at IS NOT NULL;
    INSERT INTO counts SELECT state, 0, count(*) FROM tasks GROUP BY state;
    ALTER TABLE tasks ENABLE TRIGGER USER;
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--scale", type=float, default=1.0, help="of all counts but the clients', for a quick look")
    args = parser.parse_args()
    wanted = args.parts or PARTS
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as database:
        bench = Bench(Path(folder), database, args.scale)
        failed = [part for part in PARTS if part in wanted and not getattr(bench, part)()]
    if failed:
        print(f"beyond the limit: {', '.join(failed)}")
    return 1 if failed else 0


class Bench:
    """APIs on ledgers of one PostgreSQL, and what they are asked."""

    def __init__(self, folder: Path, database: Postgres, scale: float) -> None:
        self.folder, self.database, self.scale = folder, database, scale
        self.root = folder / "workspaces"
        self._made = 0

    def submit(self) -> bool:
        """POST /submit to three APIs, and to one on a file."""
        count = max(CLIENTS, int(2100 * self.scale) // ROUNDS)
        with ExitStack() as stack:
            url = self.ledger("submit")
            shared = [stack.enter_context(self.api("shared", url)) for _ in range(REPLICAS)]
            file = [stack.enter_context(self.api("file", None))]
            for apis in (shared, file):
                self._submitted(apis, 5 * CLIENTS, CLIENTS)
            # Of each round the seconds of each request, of the round, and of CPU.
            rounds = [[self._submitted(apis, count, CLIENTS) for apis in (shared, file)] for _ in range(ROUNDS)]
        for name, found in zip(("three APIs, PostgreSQL", "one API, a file"), zip(*rounds, strict=True), strict=True):
            times = [seconds for each in found for seconds in each[0]]
            rate = len(times) / sum(each[1] for each in found)
            api, database = (sum(each[kind] for each in found) / len(times) for kind in (2, 3))
            print(
                f"{f'POST /submit, {name}':38} p50 {statistics.median(times) * 1e3:.1f} ms, "
                f"p95 {quantile(times, 95) * 1e3:.1f} ms, {rate:.0f} a second; CPU {api * 1e3:.2f} ms of the API and "
                f"{database * 1e3:.2f} of the database each, so 500 a second take {500 * (api + database):.1f} cores"
            )
        p95 = quantile([seconds for ours, _ in rounds for seconds in ours[0]], 95)
        ratio = statistics.median(statistics.median(a[0]) / statistics.median(b[0]) for a, b in rounds)
        print(f"{'PostgreSQL to file':38} p50 {ratio:.2f} x    limit p95 50 ms")
        return p95 <= 0.050

    def queued(self) -> bool:
        """With a long queue."""
        count = int(5000 * self.scale)
        self._fill("queued", count, state="'queued'", ended="NULL", of="n")
        return self._beside_empty("queued", f"{count} queued")

    def ended(self) -> bool:
        """With a long past."""
        count = int(1_000_000 * self.scale)
        states = "CASE n % 10 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END"
        self._fill("ended", count, state=states, ended="at + 5", of="n % 10000")
        return self._beside_empty("ended", f"{count} ended", limit=0.060)

    def _beside_empty(self, schema: str, name: str, limit: float | None = None) -> bool:
        """Ask an API with this ledger and one with an empty one in turns, and compare the medians."""
        submit, *lists = "POST /submit", *(f"GET /tasks?{query}" for query in (*LISTS, SEARCH))
        # Of each kind and each of the two, the seconds that each request of a round took.
        times: dict[str, tuple[list[list[float]], list[list[float]]]] = {what: ([], []) for what in (submit, *lists)}
        with self.api("full", self._url(schema)) as full, self.api("empty", self.ledger(f"no_{schema}")) as empty:
            for api in (full, empty):  # a whole page, so that both lists are as long
                self._submitted([api], 4 * ASKED, FEW)
                api.settle()
            for turn in range(ROUNDS):
                for what, (ours, theirs) in times.items():
                    for api, rounds in ((full, ours), (empty, theirs))[:: (-1) ** turn]:  # neither is always the first
                        rounds.append(self._asked(api, what))
        ok = True
        for what, (ours, theirs) in times.items():
            ratio = statistics.median(
                statistics.median(one) / statistics.median(other) for one, other in zip(ours, theirs, strict=True)
            )
            took = [seconds for some in ours for seconds in some]
            p95, limits = quantile(took, 95), []
            if what in (submit, lists[0]):  # what is filtered finds less in an empty one
                limits.append("limit 1.2 x")
                ok = ok and ratio <= 1.2
            if what in lists[:-1] and limit is not None:
                limits.append(f"limit p95 {limit * 1e3:.0f} ms")
                ok = ok and p95 <= limit
            print(
                f"{f'{name}, {what}':58} p50 {statistics.median(took) * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms, "
                f"{ratio:.2f} x an empty ledger    {', '.join(limits)}"
            )
        return ok

    def _asked(self, api: Api, what: str) -> list[float]:
        if what.startswith("POST"):
            return self._submitted([api], ASKED, FEW)[0]
        return asyncio.run(ask_all([api.port], [(what, 200, b"")] * ASKED, 1))[0]

    def _submitted(self, apis: Sequence[Api], count: int, clients: int) -> tuple[list[float], float, float, float]:
        """Submit so many; the seconds of each, of all, and of CPU: the APIs' and PostgreSQL's."""
        names = self.workspaces(count)
        pids = [[api.process.pid for api in apis], [self.database.process.pid]]
        before, started = [cpu(each) for each in pids], time.perf_counter()
        times, ids = asyncio.run(submit_all([api.port for api in apis], names, clients))
        took = time.perf_counter() - started
        assert len(ids) == count
        apis_cpu, database_cpu = (cpu(each) - past for each, past in zip(pids, before, strict=True))
        return times, took, apis_cpu, database_cpu

    def workspaces(self, count: int) -> list[str]:
        """Names of workspaces that nobody has submitted."""
        names = [f"new/{self._made + number:06}" for number in range(count)]
        self._made += count
        for name in names:
            workspace = self.root / name
            (workspace / "input").mkdir(parents=True)
            (workspace / "output").mkdir()
            (workspace / "meta.json").write_text('{"task_type": "classification", "scorer": "classification_f1"}')
        return names

    def _fill(self, schema: str, count: int, **how: str) -> None:
        self.ledger(schema)
        (self.root / "old" / "7").mkdir(parents=True, exist_ok=True)  # the one that is asked for
        started = time.perf_counter()
        self.database.run(FILLED.format(schema=schema, count=count, root=self.root, **how))
        self.database.run("VACUUM ANALYZE")  # as autovacuum does in time
        print(f"{f'{count} tasks made':38} {time.perf_counter() - started:.0f} s")

    def _url(self, schema: str) -> str:
        return f"postgresql+asyncpg://autoscorer@127.0.0.1:{self.database.port}/postgres?schema={schema}"

    def ledger(self, schema: str) -> str:
        """An empty one."""
        url = self._url(schema)
        command = [sys.executable, "-m", "autoscorer", "ledger", "upgrade"]
        subprocess.run(command, env=self._environment("upgrade", url), check=True, stdout=subprocess.DEVNULL)
        return url

    def _environment(self, home: str, url: str | None) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOSCORER_", "PREFECT_"))}
        self.root.mkdir(exist_ok=True)
        return {
            **kept,
            "AUTOSCORER_HOME": str(self.folder / home),
            "AUTOSCORER_WORKSPACE_ROOTS": str(self.root),
            "PREFECT_API_URL": NEVER,
            "DO_NOT_TRACK": "1",
            **({} if url is None else {"AUTOSCORER_LEDGER_URL": url}),
        }

    @contextmanager
    def api(self, home: str, url: str | None) -> Iterator[Api]:
        api = Api(free_port(), self._environment(home, url), self.folder)
        try:
            api.wait()
            yield api
        finally:
            api.process.send_signal(signal.SIGINT)
            api.process.wait(60)


class Api:
    """One `autoscorer serve`."""

    def __init__(self, port: int, environment: dict[str, str], folder: Path) -> None:
        self.port, self._log = port, folder / f"api-{port}.log"
        command = [sys.executable, "-m", "autoscorer", "serve", "--port", str(port)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=10).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    sys.exit(self._log.read_text(errors="replace")[-4000:])
                time.sleep(0.1)

    def settle(self) -> None:
        """Until it has taken in what its ledger has."""
        until = time.monotonic() + 60
        before, now = 0.0, cpu([self.process.pid])
        while now - before > 0.1 and time.monotonic() < until:
            time.sleep(1)
            before, now = now, cpu([self.process.pid])


class Postgres:
    """A server of its own, as it is installed: what is committed is synced."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self._binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path())
        if not self._binaries.name:
            sys.exit("This needs PostgreSQL; Debian: apt-get install postgresql.")
        self._as: list[str] = []
        folder.chmod(0o755)
        data = folder / "postgres"
        data.mkdir(mode=0o700)
        if os.getuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(data, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self._call("initdb", "--pgdata", str(data), "--username=autoscorer", "--auth=trust", "--encoding=UTF8")
        options = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        command = [str(self._binaries / "postgres"), "-D", str(data)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (folder / "postgres.log").open("wb") as log:
            self.process = subprocess.Popen([*self._as, *command], cwd=folder, stdout=log, stderr=log)
        while subprocess.run([self._binaries / "pg_isready", "-q", "-h127.0.0.1", f"-p{self.port}"]).returncode:
            if self.process.poll() is not None:
                sys.exit((folder / "postgres.log").read_text())
            time.sleep(0.1)

    def run(self, statements: str) -> str:
        """What psql prints of them."""
        where = ["--host=127.0.0.1", f"--port={self.port}", "--username=autoscorer", "--dbname=postgres"]
        return self._call("psql", *where, "--quiet", "--set=ON_ERROR_STOP=1", "--command", statements)

    def _call(self, program: str, *arguments: str) -> str:
        command = [*self._as, str(self._binaries / program), *arguments]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    database = Postgres(folder)
    try:
        yield database
    finally:
        database.process.send_signal(signal.SIGINT)
        database.process.wait(60)


def cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU that these processes have taken, with those below them."""
    ticks = 0
    for pid in (each for top in pids for each in tree(top)):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(word) for word in words[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def quantile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1]


if __name__ == "__main__":
    sys.exit(main())
