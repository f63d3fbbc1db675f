"""Notes on tasks: who writes, sees and deletes which.

Whoever may see a task may write on it. A note by somebody who sees the ground truth may quote it, so it is shown to
those alone who see it as well. All other notes are shown to whoever may see the task: an organiser sees a team's notes,
and the team does not see the organiser's.
"""

from __future__ import annotations

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.note import NoteBody, NotePage, NoteView
from .ledger.ledger import Ledger
from .ledger.notes import NewNote, NoteReader, NoteRow
from .ledger.records import iso
from .ledger.task_ids import is_task_id
from .policy import Caller
from .workspaces.listing import wrong_cursor

__all__ = ["MOST_NOTES", "delete_note", "list_notes", "write_note"]

# Of one token on one task: nobody fills a task that others write on as well.
MOST_NOTES = 100


async def write_note(ledger: Ledger, task_id: str, body: NoteBody, caller: Caller, *, sees_truth: bool) -> NoteView:
    """Keep a note. The same one again is the one that is there.

    Args:
        ledger: Where.
        task_id: On a task that the caller may write on.
        body: What is said.
        caller: Who says it.
        sees_truth: Whether the caller sees the ground truth of this task.

    Raises:
        AutoScorerError: ``NOT_FOUND``; ``CONFLICT`` where the caller has ``MOST_NOTES`` there.
    """
    note = NewNote(
        task_id=task_id,
        author=caller.name,
        role=caller.role,
        team=caller.team,
        of_truth=sees_truth,
        text=body.text,
        sample=body.sample,
        metric=body.metric,
        verdict=body.verdict,
    )
    return _view(await ledger.add_note(note, MOST_NOTES), caller)


async def list_notes(
    ledger: Ledger,
    task_id: str,
    caller: Caller,
    *,
    sees_truth: bool,
    sample: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> NotePage:
    """One page of a task's notes that the caller may see, the oldest first.

    Args:
        ledger: Where.
        task_id: Of a task that the caller may see.
        caller: Who asks.
        sees_truth: Whether the caller sees the ground truth of this task.
        sample: Only those about this sample.
        limit: Most of them.
        cursor: ``next_cursor`` of the page before.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a cursor that no page gave.
    """
    if cursor is not None and not is_task_id(cursor):
        raise wrong_cursor()
    reader = NoteReader(caller.name, sees_truth)
    # One more tells whether there is a page after this one.
    found, total = await ledger.notes_page(task_id, reader, sample=sample, after=cursor, limit=limit + 1)
    page = found[:limit]
    return NotePage(
        notes=[_view(each, caller) for each in page],
        total=total,
        next_cursor=page[-1].id if len(found) > limit else None,
    )


async def delete_note(ledger: Ledger, task_id: str, note_id: str, caller: Caller, *, sees_truth: bool) -> NoteView:
    """Delete a note: one's own, or as an admin any.

    Returns:
        The note as it was.

    Raises:
        AutoScorerError: ``NOT_FOUND``, also for a note that the caller may not see; ``FORBIDDEN`` for another's.
    """
    found = await ledger.find_note(task_id, note_id, NoteReader(caller.name, sees_truth))
    if found is None:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND,
            f"There is no note {note_id[:100]!r} on the task {task_id}; GET /tasks/{task_id}/notes lists them.",
        )
    if found.author != caller.name and caller.role != "admin":
        raise AutoScorerError(ErrorCode.FORBIDDEN, "A note is deleted by who wrote it, or by an admin.")
    await ledger.delete_note(task_id, note_id)
    return _view(found, caller)


def _view(note: NoteRow, caller: Caller) -> NoteView:
    return NoteView(
        id=note.id,
        task_id=note.task_id,
        text=note.text,
        sample=note.sample,
        metric=note.metric,
        verdict=note.verdict,
        role=note.role,
        team=note.team,
        own=note.author == caller.name,
        of_truth=bool(note.of_truth),
        created_at=iso(note.created_at),
    )
