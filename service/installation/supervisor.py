"""One whole installation on one machine: a Prefect server, the deployments, workers and the API, kept alive together.

The processes are children of this one. They die when it is killed; what should survive that all the same is ended by
the next start, which finds it in ``<home>/up.lock``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from pydantic import SecretStr

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.processes import describe_exit
from ...core.provenance import hostname, utc_now
from ...tasks.prefect_version import require_patched_version
from ..ledger.maintenance import upgrade_if_there
from .lock import leftovers, locked, note
from .port_owner import find_listener, user_name
from .process import SupervisedProcess, end_leftover, rotate

__all__ = ["Options", "up"]

log = logging.getLogger("autoscorer.up")

Json = dict[str, Any]

PREFECT_HOST = "127.0.0.1"
DATABASE_VARIABLE = "PREFECT_API_DATABASE_CONNECTION_URL"
_LATE_RUNS = "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED"
# A fresh database on a machine that is busy otherwise takes a minute.
PATIENCE = 300.0
# Before it was ready once, a process that ends so often will not come up.
_HOPELESS = 4
_TAIL = 20
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True)
class Options:
    """What is started, and where.

    Args:
        host: Address of the API; Prefect's server stays on loopback, because it knows no users.
        api_port: Port of the API; 0 for any free one.
        prefect_port: Port of Prefect's server; 0 for any free one.
        workers: Worker processes.
        database: Of Prefect's server, such as postgresql+asyncpg://…; SQLite when None.
        arguments: Further arguments of every ``autoscorer`` child, such as --config.
    """

    host: str
    api_port: int
    prefect_port: int
    workers: int
    database: SecretStr | None = None
    arguments: tuple[str, ...] = ()


async def up(settings: Settings, options: Options, announce: Callable[[Json], None]) -> None:
    """Start everything, keep it alive until SIGINT, SIGTERM or SIGHUP, stop everything.

    Args:
        options: What is started, and where.
        announce: Called once, when all of it is ready, with the addresses.

    Raises:
        AutoScorerError: ``CONFLICT`` when this home is up already or a port is taken; ``BACKEND_UNAVAILABLE`` when it
            does not become ready, or Prefect is not the version that is patched; what a child said when its
            configuration is wrong. Nothing is left running.
    """
    require_patched_version()
    _check(settings, options)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(locked(settings.home / "up.lock"))
        for name, child in leftovers(lock).items():
            if end_leftover(*child):
                log.warning("%s of a former `autoscorer up` was still running and has been ended", name)
        prefect_home = Path(os.environ.get("PREFECT_HOME") or settings.home / "prefect").absolute()
        if options.database is None:
            # Two servers on one SQLite file would both schedule.
            stack.enter_context(locked(prefect_home / "autoscorer.lock"))
        api_port, prefect_port = _ports(options)
        await upgrade_if_there(settings)  # before an API has it
        await _Installation(settings, options, lock, prefect_home, api_port, prefect_port).run(announce)


class _Installation:
    """The processes of one installation."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        lock: IO[str],
        prefect_home: Path,
        api_port: int,
        prefect_port: int,
    ) -> None:
        self._settings = settings
        self._lock = lock
        self._logs = settings.home / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        host = _LOOPBACK.get(options.host, options.host)
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{api_port}"
        self._prefect_url = f"http://{PREFECT_HOST}:{prefect_port}"
        self._secret = options.database
        environment = {
            **{key: value for key, value in os.environ.items() if key != DATABASE_VARIABLE},
            "AUTOSCORER_HOME": str(settings.home),
            "PREFECT_HOME": str(prefect_home),
            "PREFECT_API_URL": self._prefect_url + "/api",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1",
        }
        if settings.api_url is None:
            # Where the flows' links lead.
            environment["AUTOSCORER_API_URL"] = self._url
        if auth := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
            environment.setdefault("PREFECT_API_AUTH_STRING", auth)
        server_environment = {
            **environment,
            "PREFECT_SERVER_UI_API_URL": self._prefect_url + "/api",
            # A queue is not late. Marking each run that waits for 15 s is a write more for every run, and gets in the
            # way of all others in SQLite: score runs at 3 a second with it, at 6 without.
            _LATE_RUNS: os.environ.get(_LATE_RUNS, "false"),
        }
        if options.database is not None:
            server_environment[DATABASE_VARIABLE] = options.database.get_secret_value()

        # -P: the current folder may be a submission's, and is no place to import from.
        python, start = (sys.executable, "-P", "-m"), ("server", "start")

        def autoscorer(name: str, *arguments: str, nice: int = 0, grace: float) -> SupervisedProcess:
            return SupervisedProcess(
                name,
                [*python, "autoscorer", *arguments, "--json", *options.arguments],
                environment=environment,
                cwd=Path.cwd(),
                log_file=self._logs / f"{name}.log",
                nice=nice,
                grace=grace,
                started=self._note,
            )

        self.server = SupervisedProcess(
            "server",
            [*python, "autoscorer.service.prefect.server", *start, "--host", PREFECT_HOST, "--port", str(prefect_port)],
            environment=server_environment,
            cwd=settings.home,
            log_file=self._logs / "server.log",
            # Before the workers, so that runs go on; after the API, so that submitting stays quick.
            nice=3,
            grace=10,
            started=self._note,
        )
        self.deploy = autoscorer("deploy", "deploy", "--wait", str(PATIENCE), grace=1)
        # Models and scorers may keep every core busy; who asks the API should not feel it.
        self.workers = [
            # A name that stays: Prefect lists every name that there ever was.
            autoscorer(f"worker-{number}", "worker", "--name", f"{hostname()}-{number}", nice=10, grace=20)
            for number in range(1, options.workers + 1)
        ]
        self.api = autoscorer("api", "serve", "--host", options.host, "--port", str(api_port), grace=15)
        self._kept = [self.server, *self.workers, self.api]
        self._ready = False
        self._since = utc_now()

    async def run(self, announce: Callable[[Json], None]) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        stop = loop.create_future()

        def on_signal(number: signal.Signals) -> None:
            # Once: impatience must not leave anything running.
            if not stop.done():
                log.info("%s: stopping", number.name)
                stop.set_result(None)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, on_signal, number)
        works = [child.keep_alive() for child in self._kept]
        works += [self._become_ready(announce, started), self._rotate_logs()]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            # keep_alive and _rotate_logs end by a fault only; _become_ready ends, or raises why not.
            pending: set[asyncio.Future[Any]] = {stop, *tasks}
            while not stop.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def _become_ready(self, announce: Callable[[Json], None], started: float) -> None:
        deploying = asyncio.create_task(self._deploy())
        try:
            await self._wait_until_ready(deploying, started + PATIENCE)
        finally:
            deploying.cancel()
            await asyncio.gather(deploying, return_exceptions=True)
        self._ready = True
        self._note()
        where = {**self._addresses(), "home": str(self._settings.home), "logs": str(self._logs)}
        announce({**where, "seconds": round(time.monotonic() - started, 1)})

    async def _deploy(self) -> None:
        while True:
            await self.deploy.start()
            code = await self.deploy.wait()
            if code == 0:
                return
            if code != 3:  # it will not go better the next time
                raise self._failure(self.deploy)
            self.deploy.endings += 1
            log.warning("deploy ended with %s; trying again", describe_exit(code))
            await asyncio.sleep(2)

    async def _wait_until_ready(self, deploying: asyncio.Task[None], deadline: float) -> None:
        found: Any = "no answer"
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            while time.monotonic() < deadline:
                if deploying.done():
                    deploying.result()
                for child in (*self._kept, self.deploy):
                    wrong = child.last_code == 2 and child is not self.server
                    if child.endings and (wrong or child.endings >= _HOPELESS):
                        raise self._failure(child)
                try:
                    response = await client.get(self._url + "/readyz")
                    if response.status_code == 200 and deploying.done():
                        return
                    found = response.json()
                except (httpx.HTTPError, ValueError):
                    pass  # not yet
                await asyncio.sleep(0.5)
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"The installation did not become ready within {PATIENCE:.0f} s; details hold what /readyz said last, and "
            f"the logs are in {self._logs}.",
            details={"readyz": found},
        )

    def _failure(self, child: SupervisedProcess) -> AutoScorerError:
        """Why a child will not come up: its own error, or the end of what it wrote."""
        output = child.output()
        if self._secret is not None:
            output = _without(output, self._secret.get_secret_value())
        position = output.rfind('{\n  "status": "error"')
        if position >= 0:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return AutoScorerError.from_dict(json.JSONDecoder().raw_decode(output[position:])[0]["error"])
        lines = [line for line in output.splitlines() if line.strip()]
        code = "no exit code" if child.last_code is None else describe_exit(child.last_code)
        return AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"{child.name} does not start ({code}); its last lines are in details, and all of them in "
            f"{child.log_file}.",
            details={"log": lines[-_TAIL:]},
        )

    async def _stop(self) -> None:
        """The API first, so that nothing new is accepted; the server last, so that the workers can tell it."""
        await self.deploy.stop()
        await self.api.stop()
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        await self.server.stop()
        with contextlib.suppress(OSError):
            self._lock.truncate(0)

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(60)
            for child in self._kept:
                rotate(child.log_file)

    def _addresses(self) -> Json:
        return {"api": self._url, "records": self._url + "/", "prefect": self._prefect_url}

    def _note(self) -> None:
        children = {
            child.name: {"pid": child.pid, "owner": child.owner.text}
            for child in (*self._kept, self.deploy)
            if child.pid is not None and child.owner is not None
        }
        content = {
            "pid": os.getpid(),
            "user": user_name(os.geteuid()),
            "since": self._since,
            "ready": self._ready,
            **self._addresses(),
            "children": children,
        }
        note(self._lock, content)


def _check(settings: Settings, options: Options) -> None:
    if settings.prefect.api_url is not None:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "The configuration names a Prefect server (prefect.api_url), and `autoscorer up` starts its own. Take it "
            "out of the configuration, or use that server with `autoscorer deploy`, `worker` and `serve`.",
        )
    if options.database is not None:
        scheme = options.database.get_secret_value().partition("://")[0]
        if scheme not in ("postgresql+asyncpg", "sqlite+aiosqlite"):
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                "--database expects an address that begins with postgresql+asyncpg:// (or sqlite+aiosqlite://).",
            )


def _ports(options: Options) -> tuple[int, int]:
    """The two ports, found free.

    Raises:
        AutoScorerError: ``CONFLICT`` when one is taken, ``INVALID_REQUEST`` when the address is not this machine's.
    """
    wanted = (("--api-port", options.host, options.api_port), ("--prefect-port", PREFECT_HOST, options.prefect_port))
    found = []
    with contextlib.ExitStack() as probes:  # both held until both are found: two zeros must not be one port
        for option, host, port in wanted:
            try:
                family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]
                probe = probes.enter_context(socket.socket(family, socket.SOCK_STREAM))
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno not in (98, 48):
                    raise AutoScorerError(
                        ErrorCode.INVALID_REQUEST,
                        f"Can't listen on {host} port {port}: {error.strerror}. Give --host an address of this "
                        f"machine, and {option} a port that you may use.",
                    ) from None
                raise _taken(option, host, port) from None
            found.append(int(probe.getsockname()[1]))
    return found[0], found[1]


def _taken(option: str, host: str, port: int) -> AutoScorerError:
    there = find_listener(port)
    if there is not None and there.is_ours:
        message = (
            f"AutoScorer already runs on port {port} of {host}: {there}. Use that one, or stop it; to have another one "
            f"beside it, give {option} another port, or 0 for any that is free."
        )
    else:
        who = "another program" if there is None else str(there)
        message = f"Port {port} on {host} is taken by {who}. Give {option} another one, or 0 for any that is free."
    known = {} if there is None else {"pid": there.pid, "user": there.user, "since": there.since}
    return AutoScorerError(ErrorCode.CONFLICT, message, details={"port": port, **known})


def _without(text: str, secret: str) -> str:
    """The text without a database's address, and without its password alone."""
    password = secret.partition("://")[2].rpartition("@")[0].partition(":")[2]
    for part in (secret, password):
        if part:
            text = text.replace(part, "…")
    return text
