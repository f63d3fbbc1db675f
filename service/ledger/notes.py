"""Notes on tasks: kept, listed, deleted. They leave with their task, as its Result does."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.note import NoteVerdict
from ...schemas.task import Role
from .queries import row
from .tables import notes
from .task_ids import new_task_id

__all__ = ["NewNote", "NoteReader", "NoteRow", "add_note", "delete_note", "find_note", "notes_page", "verdicts"]


@dataclass(frozen=True, slots=True)
class NewNote:
    """A note that is to be kept.

    Args:
        task_id: What it is about.
        author: The name of who wrote it.
        role: Of that one.
        team: Of that one.
        of_truth: Whether that one saw the ground truth.
        text: What is said.
        sample: Of which sample, if of one.
        metric: Of which metric of it.
        verdict: Whether that one agrees.
    """

    task_id: str
    author: str
    role: Role
    team: str | None
    of_truth: bool
    text: str
    sample: str | None
    metric: str | None
    verdict: NoteVerdict | None


@dataclass(frozen=True, slots=True)
class NoteRow:
    """A row of the table ``notes``; its columns are these fields."""

    id: str
    task_id: str
    author: str
    role: Role
    team: str | None
    of_truth: int
    text: str
    sample: str | None
    metric: str | None
    verdict: NoteVerdict | None
    created_at: float


@dataclass(frozen=True, slots=True)
class NoteReader:
    """Who reads notes.

    Args:
        name: Is shown what this one wrote.
        sees_truth: Whether this one is shown what was written by those who saw the ground truth.
    """

    name: str
    sees_truth: bool


_ROW = [notes.c[field.name] for field in fields(NoteRow)]


def add_note(db: Connection, note: NewNote, most: int) -> NoteRow:
    """Keep a note, unless its author has written the very same before: then that one stands for it.

    Args:
        note: The note.
        most: How many one author may write on one task.

    Raises:
        AutoScorerError: ``NOT_FOUND`` without such a task, ``CONFLICT`` where there are as many already.
    """
    # Held, so that nobody writes one too many at the same time, and nobody deletes the task in between.
    row(db, note.task_id, lock=True)
    own = [*_of(note.task_id), notes.c.author == note.author]
    said = [notes.c[name].is_not_distinct_from(getattr(note, name)) for name in ("text", "sample", "metric", "verdict")]
    known = db.execute(select(*_ROW).where(*own, *said)).first()
    if known is not None:
        return NoteRow(*known)
    if (db.scalar(select(func.count()).select_from(notes).where(*own)) or 0) >= most:
        raise AutoScorerError(
            ErrorCode.CONFLICT, f"You have {most} notes on this task already, which is the most; delete one of them."
        )
    values = {**asdict(note), "of_truth": int(note.of_truth)}
    made = NoteRow(id=new_task_id(), created_at=time.time(), **values)
    db.execute(insert(notes).values(**asdict(made)))
    return made


def notes_page(
    db: Connection, task_id: str, reader: NoteReader, *, sample: str | None, after: str | None, limit: int
) -> tuple[list[NoteRow], int]:
    """At most ``limit`` of a task's notes, the oldest first, and how many there are; as far as the reader may see."""
    conditions = [*_of(task_id), *_seen(reader)]
    if sample is not None:
        conditions.append(notes.c.sample == sample)
    total = int(db.scalar(select(func.count()).select_from(notes).where(*conditions)) or 0)
    asked = select(*_ROW).where(*conditions).order_by(notes.c.id).limit(limit)
    if after is not None:
        asked = asked.where(notes.c.id > after)
    return [NoteRow(*each) for each in db.execute(asked)], total


def find_note(db: Connection, task_id: str, note_id: str, reader: NoteReader) -> NoteRow | None:
    """A note of a task that the reader may see, or None."""
    found = db.execute(select(*_ROW).where(*_of(task_id), notes.c.id == note_id, *_seen(reader))).first()
    return None if found is None else NoteRow(*found)


def delete_note(db: Connection, task_id: str, note_id: str) -> None:
    """Delete a note; one that is not there is deleted."""
    db.execute(delete(notes).where(*_of(task_id), notes.c.id == note_id))


def verdicts(db: Connection, task_id: str) -> list[NoteRow]:
    """What those who saw the ground truth say of single samples of a task: agree or disagree, the oldest first."""
    asked = select(*_ROW).where(
        *_of(task_id), notes.c.of_truth == 1, notes.c.verdict.is_not(None), notes.c.sample.is_not(None)
    )
    return [NoteRow(*each) for each in db.execute(asked.order_by(notes.c.id))]


def _of(task_id: str) -> list[ColumnElement[bool]]:
    return [notes.c.task_id == task_id]


def _seen(reader: NoteReader) -> list[ColumnElement[bool]]:
    return [] if reader.sees_truth else [or_(notes.c.of_truth == 0, notes.c.author == reader.name)]
