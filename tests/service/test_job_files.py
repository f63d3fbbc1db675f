"""The records of jobs in a home go when their jobs do; nothing else there does."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from autoscorer.core.config import Settings
from autoscorer.service.ledger.task_ids import new_task_id
from autoscorer.service.score_jobs import ScoreJobs, job_file, remove_old_records

from ..support.prefect_server import eventually

DAY = 86400.0


def record(home: Path, name: str, days: float) -> Path:
    path = job_file(home, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def test_a_record_goes_when_its_job_is_not_listed_any_more(home: Path) -> None:
    old, new = record(home, new_task_id(), 91), record(home, new_task_id(), 89)
    remove_old_records(home, 90 * DAY)
    assert not old.exists() and new.exists()


def test_what_the_first_system_left_there_stays(home: Path) -> None:
    kept = [record(home, "3f2a77c0-6f0e-4f5e-9d0f-2b1f7a1c9e55", 900), record(home, "notes", 900)]
    folder = job_file(home, new_task_id())
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    remove_old_records(home, 90 * DAY)
    assert all(path.exists() for path in (*kept, folder))


def test_a_home_without_jobs_is_no_fault(home: Path) -> None:
    remove_old_records(home, 90 * DAY)


def test_it_is_done_for_as_long_as_the_api_runs(home: Path) -> None:
    old = record(home, new_task_id(), 3)
    tasks: Any = SimpleNamespace(settings=Settings(home=home, api={"keep_days": 2}))

    async def story() -> None:
        async with ScoreJobs(tasks).pruning():
            await asyncio.to_thread(eventually, lambda: not old.exists(), within=300)

    asyncio.run(story())
