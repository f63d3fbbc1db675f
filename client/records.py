"""What a client asks of the rows of a task, of two tasks, and of what people say of them."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..schemas.comparison import Change, Comparison
from ..schemas.note import NotePage, NoteVerdict, NoteView
from ..schemas.samples import Sample, SamplePage, SampleVerdict
from ..schemas.task import TaskView
from .connection import ApiAway, Connection, task_path
from .paging import pages

__all__ = ["RecordCalls", "identifier", "read_model"]

Json = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


class RecordCalls:
    """The part of ``Client`` that is about samples, comparisons and notes."""

    _api: Connection

    def samples(
        self,
        task: TaskView | str,
        *,
        verdict: SampleVerdict | None = None,
        q: str | None = None,
        limit: int | None = None,
    ) -> SamplePage:
        """The samples of a task, the wrong ones first, else the worst.

        Args:
            task: The task, or its id.
            verdict: Only those.
            q: Part of an id, a prediction, a truth or a question.
            limit: Most of them; all that are kept when None. As many pages are read as it takes.

        Returns:
            ``samples``, and how many of the ``total`` are ``kept``; ``next_cursor`` is None when these are all.

        Raises:
            AutoScorerError: ``FORBIDDEN`` for a token that may not see the ground truth; ``NOT_FOUND``, also where
                nothing is kept.
        """
        asked = {key: value for key, value in {"verdict": verdict, "q": q}.items() if value is not None}
        found: list[Sample] = []
        for page in pages(self._api, task_path(identifier(task), "/samples"), asked, "samples", limit):
            listed = read_model(self._api, SamplePage, page)
            found += listed.samples
        return listed.model_copy(update={"samples": found[:limit]})

    def compare(
        self, a: TaskView | str, b: TaskView | str, *, change: Change | None = None, limit: int = 50
    ) -> Comparison:
        """Two tasks side by side.

        Args:
            a: The one task, or its id.
            b: The other one.
            change: Of the samples that differ only those.
            limit: Most samples that differ, up to 500.

        Raises:
            AutoScorerError: ``NOT_FOUND``, also for a task without a Result.
        """
        asked = {"a": identifier(a), "b": identifier(b), "limit": limit, **({"change": change} if change else {})}
        return read_model(self._api, Comparison, self._api.get("/compare", asked))

    def notes(self, task: TaskView | str, *, sample: str | None = None) -> list[NoteView]:
        """The notes on a task that the token may see, the oldest first.

        Args:
            task: The task, or its id.
            sample: Only those about this one.

        Raises:
            AutoScorerError: ``NOT_FOUND``.
        """
        asked = {} if sample is None else {"sample": sample}
        listed = pages(self._api, task_path(identifier(task), "/notes"), asked, "notes", None)
        return [note for page in listed for note in read_model(self._api, NotePage, page).notes]

    def add_note(
        self,
        task: TaskView | str,
        text: str = "",
        *,
        sample: str | None = None,
        metric: str | None = None,
        verdict: NoteVerdict | None = None,
    ) -> NoteView:
        """Write a note on a task. The same one again is the one that is there.

        Args:
            task: The task, or its id.
            text: What is said; may be empty beside a verdict.
            sample: The id of the sample that it is about.
            metric: The metric of that sample that the verdict is about.
            verdict: Whether you agree with what the scoring says.

        Raises:
            AutoScorerError: ``NOT_FOUND``, ``INVALID_REQUEST``; ``CONFLICT`` where the token has 100 there.
        """
        body = {"text": text, "sample": sample, "metric": metric, "verdict": verdict}
        return read_model(self._api, NoteView, self._api.post(task_path(identifier(task), "/notes"), body))

    def delete_note(self, task: TaskView | str, note: NoteView | str) -> None:
        """Delete a note that this token wrote; an admin's deletes any.

        Args:
            task: The task, or its id.
            note: The note, or its id.

        Raises:
            AutoScorerError: ``NOT_FOUND``; ``FORBIDDEN`` for another's.
        """
        ident = note.id if isinstance(note, NoteView) else note
        self._api.delete(task_path(identifier(task), "/notes") + task_path(ident).removeprefix("/tasks"))

    def labels(self, task: TaskView | str, *, threshold: float = 0.5) -> list[Json]:
        """The notes on a judge's verdicts, as the labels that ``autoscorer judge calibrate`` reads.

        Args:
            task: A task of the scorer ``rag``, or its id.
            threshold: Scores of the judge from here on are a yes.

        Returns:
            ``sample``, ``metric`` and ``label`` each.

        Raises:
            AutoScorerError: ``FORBIDDEN``; ``NOT_FOUND``, also for a task of another scorer.
        """
        return [*self._api.stream(task_path(identifier(task), "/labels"), {"threshold": threshold})]


def identifier(task: TaskView | str) -> str:
    """A task's id."""
    return task.id if isinstance(task, TaskView) else task


def read_model(api: Connection, model: type[Model], data: Any) -> Model:
    """What an API answered, as a model.

    Raises:
        ApiAway: It is something else.
    """
    # A later API may tell more than this client knows.
    try:
        return model.model_validate(data, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ApiAway(
            api.url, f"its {model.__name__} can't be read ({where}: {first['msg']}); it may be of another version"
        ) from None
