"""A ledger that is moved to another database has everything in it, and one that can't be moved stays as it is."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main
from autoscorer.core.config import Settings, load_settings
from autoscorer.schemas.benchmark import Quota
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.changes import WORD
from autoscorer.service.ledger.ledger import in_ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.notes import NewNote
from autoscorer.service.ledger.records import TaskEnd, TaskFilter
from autoscorer.service.ledger.revisions import HEAD
from autoscorer.service.ledger.tables import idempotency, names, notes, outcomes, submissions, tasks
from sqlalchemy import Connection, select

from ..support.ledger import new, opened
from ..support.postgres import postgres as postgres
from ..support.terminal import in_terminal


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["ledger", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def everything(settings: Settings) -> dict[str, Any]:
    def read(db: Connection) -> dict[str, Any]:
        return {
            table.name: sorted((tuple(row) for row in db.execute(select(table))), key=repr)
            for table in (tasks, outcomes, names, notes, idempotency, submissions)
        }

    return asyncio.run(in_ledger(settings, read))


@pytest.fixture
def filled(settings: Settings) -> Settings:
    async def fill() -> None:
        async with opened(settings) as ledger:
            await ledger.secret(WORD, "of this ledger alone")
            for n in range(1200):
                keyed: Any = {"key": f"k{n}" if n % 3 else None, "request_hash": "h"}
                if n % 100:
                    row, _ = await ledger.add(new(f"/data/ü{n}"), **keyed)
                else:
                    task = new(f"/data/ü{n}", benchmark="flowers", team="a")
                    row, _, _ = await ledger.add_submission(task, Quota(), **keyed)
                if n % 400 == 0:
                    said: Any = {"of_truth": bool(n), "text": "é\n", "sample": "r1", "metric": None, "verdict": "agree"}
                    await ledger.add_note(NewNote(row.id, "admin-1", "admin", None, **said), 1)
                if n % 2:
                    left = {"summary": {"score": n / 7, "f1": n / 7}, "job_id": f"Job {n}", "text": "é\x00\ud800"}
                    await ledger.finish([TaskEnd(row.id, TaskState.COMPLETED, result=left)])

    asyncio.run(fill())
    return settings


@pytest.mark.slow
def test_it_is_moved_to_postgresql_and_back(
    filled: Settings, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = everything(filled)
    file = tmp_path / "ledger.jsonl"
    rows = {"tasks": 1200, "outcomes": 600, "names": 1200, "notes": 3, "idempotency": 800, "submissions": 12}
    code, told = command(capsys, "export", str(file))
    assert (code, told["data"]) == (0, rows)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and not list(tmp_path.glob("*.part"))
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", request.getfixturevalue("postgres").ledger_url())
    code, told = command(capsys, "import", str(file))
    assert (code, told["data"]) == (0, rows)
    shared = load_settings()
    assert everything(shared) == before

    async def look() -> None:
        async with opened(shared) as ledger:
            assert (await ledger.counts())["completed"] == 600
            _, total, *_ = await ledger.page(TaskFilter(name="job 7"), None, 1)
            assert total == sum(1 for n in range(1, 1200, 2) if str(n).startswith("7"))

    asyncio.run(look())
    # A second time would mix them.
    code, told = command(capsys, "import", str(file))
    assert (code, told["error"]["code"]) == (2, "CONFLICT")
    assert everything(shared) == before
    back = tmp_path / "back.jsonl"
    assert command(capsys, "export", str(back))[0] == 0
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", f"sqlite+aiosqlite:///{tmp_path}/other.sqlite3")
    assert command(capsys, "import", str(back))[0] == 0
    assert everything(load_settings()) == before


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda lines: lines[:-1], "ends before its last line"),
        (lambda lines: [*lines[:3], *lines[4:]], "do not belong together"),
        (lambda lines: [*lines[:-2], lines[-1]], "it counts"),
        (lambda lines: [*lines[:3], "{", *lines[4:]], "line 4 is not one"),
        (lambda lines: ["[]"], "line 1 is not one"),
        (lambda lines: ['{"ledger": "0000"}', *lines[1:]], "of revision"),
        (lambda lines: [lines[0], '{"tasks": {"id": "x"}}', *lines[2:]], "line 2 is not a row"),
        (lambda lines: [lines[0], '{"pg_user": {}}', *lines[2:]], "line 2 is not a row"),
        (lambda lines: [], "line 1 is not one"),
    ],
)
def test_what_is_no_whole_export_changes_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    damage: Any, why: str,
) -> None:  # fmt: skip
    async def fill() -> None:
        async with opened(settings) as ledger:
            for n in range(5):
                await ledger.add(new(f"/data/{n}"))

    asyncio.run(fill())
    file = tmp_path / "ledger.jsonl"
    assert command(capsys, "export", str(file))[0] == 0
    file.write_text("\n".join(damage(file.read_text().splitlines())) + "\n")
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", f"sqlite+aiosqlite:///{tmp_path}/other.sqlite3")
    code, told = command(capsys, "import", str(file))
    assert (code, told["error"]["code"]) == (2, "INVALID_REQUEST") and why in told["error"]["message"], told
    other = load_settings()
    asyncio.run(upgrade_ledger(other))
    assert not any(everything(other).values())


def test_a_ledger_that_an_api_has_open_is_not_exported(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        async with opened(settings):
            code, told = await asyncio.to_thread(command, capsys, "export", str(tmp_path / "x"))
            assert (code, told["error"]["code"]) == (2, "CONFLICT")
            assert not (tmp_path / "x").exists()

    asyncio.run(work())


@pytest.mark.slow
def test_upgrade_says_what_it_did() -> None:
    assert in_terminal("ledger", "upgrade") == (0, f"The ledger is of revision {HEAD} now; it was of none.\r\n")
    assert in_terminal("ledger", "upgrade") == (0, f"The ledger is of revision {HEAD} already.\r\n")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:pw-7h1s@h/x", "postgresql+asyncpg://u:pw-7h1s@h", "sqlite+aiosqlite:///relative.db",
        "sqlite://host/pw-7h1s", "pw-7h1s",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_told_without_its_password(
    home: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", url)
    code, told = command(capsys, "upgrade")
    assert (code, told["error"]["code"]) == (2, "INVALID_REQUEST")
    assert "postgresql+asyncpg://" in json.dumps(told) or "four slashes" in json.dumps(told)
    assert "pw-7h1s" not in json.dumps(told)
