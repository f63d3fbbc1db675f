"""A PostgreSQL from the system's packages. Tests import the fixture ``postgres``."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from .ports import free_port
from .prefect_server import eventually

__all__ = ["Postgres", "own_postgres", "postgres"]


class Postgres:
    """One server on a port of its own; it keeps what it has when it is stopped and started again."""

    def __init__(self) -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not binaries:
            pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        self._binaries = binaries[-1]
        # Not under pytest's own folder, which PostgreSQL's user may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="autoscorer-postgres-"))
        self.folder.chmod(0o755)
        self._data, self.port = self.folder / "data", free_port()
        self._data.mkdir(mode=0o700)
        self._as_user: list[str] = []
        if os.getuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(self._data, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        made = ["--pgdata", str(self._data), "--username=autoscorer", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        subprocess.run(
            [*self._as_user, str(self._binaries / "initdb"), *made], check=True, capture_output=True, cwd=self.folder
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "200",
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._as_user,
                    str(self._binaries / "postgres"),
                    "-D",
                    str(self._data),
                    *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self._answers, within=300)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        # Its port answers before it takes anybody in.
        asked = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, cwd=self.folder).returncode == 0

    def query(self, asked: str) -> list[tuple[Any, ...]]:
        """The rows that a SELECT finds, each value as text."""
        command = [*self._as_user, str(self._binaries / "psql"), "-h", "127.0.0.1", "-p", str(self.port)]
        command += ["-U", "autoscorer", "-d", "postgres", "-AtF", "\t", "-c", asked]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.folder, timeout=300)
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT is the quick way."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def remove(self) -> None:
        """Stop it, with everything that it has."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """The database that every cluster has."""
        return f"postgresql+asyncpg://autoscorer@127.0.0.1:{self.port}/postgres"

    def ledger_url(self) -> str:
        """One with a schema that nobody else has."""
        return f"{self.url}?schema=ledger_{uuid4().hex}"


@contextmanager
def _running() -> Iterator[Postgres]:
    one = Postgres()
    try:
        one.start()
        yield one
    finally:
        one.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with _running() as one:
        yield one


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """One that the test may stop, or fill."""
    with _running() as one:
        yield one
