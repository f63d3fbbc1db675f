"""Notes are kept with their task, shown to whom they may be shown, and leave with it; in both databases."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.notes import NewNote, NoteReader
from autoscorer.service.ledger.records import TaskEnd

from ..support.ledger import new, opened
from ..support.postgres import postgres as postgres

ALL, NAMED = NoteReader("admin-1", sees_truth=True), NoteReader("submit-1", sees_truth=False)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, home: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A ledger in a file, or in PostgreSQL."""
    if request.param == "postgresql":
        monkeypatch.setenv("AUTOSCORER_LEDGER_URL", request.getfixturevalue("postgres").ledger_url())
    settings = load_settings()
    asyncio.run(upgrade_ledger(settings))
    return settings


def note(task_id: str, text: str = "Looks wrong.", **other: Any) -> NewNote:
    given: dict[str, Any] = {
        "author": "submit-1", "role": "submit", "team": None, "of_truth": False, "sample": None, "metric": None,
        "verdict": None, **other,
    }  # fmt: skip
    return NewNote(task_id=task_id, text=text, **given)


async def texts(ledger: Ledger, task_id: str, reader: NoteReader = ALL, **asked: Any) -> list[str]:
    options = {"sample": None, "after": None, "limit": 500, **asked}
    found, total = await ledger.notes_page(task_id, reader, **options)
    assert asked or total == len(found)
    return [each.text for each in found]


def test_they_come_in_their_order_and_page_by_page(either: Settings) -> None:
    async def work() -> None:
        async with opened(either) as ledger:
            one, _ = await ledger.add(new("/data/one"))
            two, _ = await ledger.add(new("/data/two"))
            hostile = ["'; DROP TABLE notes; --", "<script>", "\u202e\x1b[31m\n", "😀" * 500]
            written = [await ledger.add_note(note(one.id, text), 100) for text in hostile]
            await ledger.add_note(note(two.id, "of another task", sample="r1"), 100)
            await ledger.add_note(note(one.id, "of a row", sample="r1"), 100)
            assert await texts(ledger, one.id) == [*hostile, "of a row"]
            assert await texts(ledger, one.id, sample="r1") == ["of a row"]
            paged: list[str] = []
            after: str | None = None
            while page := (await ledger.notes_page(one.id, ALL, sample=None, after=after, limit=2))[0]:
                paged += [each.text for each in page]
                after = page[-1].id
            assert paged == [*hostile, "of a row"]
            assert abs(written[0].created_at - time.time()) < 300

    asyncio.run(work())


def test_what_was_said_by_those_who_see_the_truth_is_shown_to_those_alone(either: Settings) -> None:
    async def work() -> None:
        async with opened(either) as ledger:
            row, _ = await ledger.add(new())
            await ledger.add_note(note(row.id, "a team's", author="submit-2", team="a"), 100)
            secret = await ledger.add_note(
                note(row.id, "it is a cat", author="organiser-1", role="organiser", of_truth=True), 100
            )
            # Its own author reads it, whatever that one may see by now.
            once = NoteReader("organiser-1", sees_truth=False)
            assert await texts(ledger, row.id) == await texts(ledger, row.id, once) == ["a team's", "it is a cat"]
            assert await texts(ledger, row.id, NAMED) == ["a team's"]
            assert await ledger.find_note(row.id, secret.id, NAMED) is None
            assert await ledger.find_note(row.id, secret.id, ALL) == secret
            assert await ledger.find_note("another", secret.id, ALL) is None
            await ledger.delete_note("another", secret.id)
            assert len(await texts(ledger, row.id)) == 2
            await ledger.delete_note(row.id, secret.id)
            await ledger.delete_note(row.id, secret.id)
            assert await texts(ledger, row.id) == ["a team's"]

    asyncio.run(work())


def test_the_same_note_again_is_the_one_that_is_there_and_too_many_are_refused(either: Settings) -> None:
    async def work() -> None:
        async with opened(either) as ledger:
            row, _ = await ledger.add(new())
            first = await ledger.add_note(note(row.id, "", sample="r1", verdict="agree"), 3)
            assert await ledger.add_note(note(row.id, "", sample="r1", verdict="agree"), 3) == first
            # Many at the same time: no more than there may be.
            asked = [ledger.add_note(note(row.id, str(number)), 3) for number in range(8)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            refused = [each for each in answers if isinstance(each, AutoScorerError)]
            assert len(refused) == 6 and {each.code for each in refused} == {ErrorCode.CONFLICT}
            assert len(await texts(ledger, row.id)) == 3
            assert await ledger.add_note(note(row.id, "", sample="r1", verdict="agree"), 3) == first
            await ledger.add_note(note(row.id, "another's", author="submit-2"), 3)
            with pytest.raises(AutoScorerError) as caught:
                await ledger.add_note(note("no-such-task"), 3)
            assert caught.value.code is ErrorCode.NOT_FOUND

    asyncio.run(work())


def test_they_leave_with_their_task(either: Settings) -> None:
    async def work() -> None:
        async with opened(either) as ledger:
            rows = [(await ledger.add(new(f"/data/{name}")))[0] for name in ("old", "kept", "forgotten")]
            for row in rows:
                await ledger.add_note(note(row.id), 100)
            await ledger.finish([TaskEnd(rows[0].id, TaskState.COMPLETED, ended_at=1.0)])
            await ledger.finish([TaskEnd(rows[2].id, TaskState.COMPLETED)])
            await ledger.prune(time.time())
            await ledger.forget(rows[2].id)
            assert [len(await texts(ledger, row.id)) for row in rows] == [0, 1, 0]

    asyncio.run(work())


def test_verdicts_are_those_on_samples_by_who_sees_the_truth(either: Settings) -> None:
    async def work() -> None:
        async with opened(either) as ledger:
            row, _ = await ledger.add(new())
            of_truth: dict[str, Any] = {"of_truth": True, "role": "admin", "author": "admin-1"}
            await ledger.add_note(note(row.id, "on the task", verdict="agree", **of_truth), 100)
            await ledger.add_note(note(row.id, "no verdict", sample="q1", **of_truth), 100)
            await ledger.add_note(note(row.id, "a team's", sample="q1", verdict="agree"), 100)
            await ledger.add_note(note(row.id, "one", sample="q1", verdict="agree", **of_truth), 100)
            await ledger.add_note(note(row.id, "two", sample="q1", metric="f", verdict="disagree", **of_truth), 100)
            assert [each.text for each in await ledger.verdicts(row.id)] == ["one", "two"]

    asyncio.run(work())
