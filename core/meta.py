"""Reading meta.json: strict JSON in, a ``Job`` or every problem at once out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from ..schemas.job import KNOWN_KEYS, Job, fold_spellings
from ..schemas.json_values import Why, unfit
from .benchmark import BenchmarkFolder, job_of_submission
from .errors import AutoScorerError, ErrorCode, InvalidWorkspace
from .strict_json import MAX_DEPTH, parse_model, read_text
from .workspace import Workspace

__all__ = ["Meta", "load_job", "model_meta", "parse_job", "read_meta"]


@dataclass(frozen=True)
class Meta:
    """A workspace's meta.json as it was read: once, so that every step of a run goes by the same.

    Attributes:
        known: The job; None where meta.json is invalid.
        asked: What it says of the scorer, whatever else is wrong with it: only ``scorer``, ``params`` and ``data`` are
            to be looked at. None where they can't be told either.
        error: Why there is no job.
    """

    known: Job | None
    asked: Job | None
    error: AutoScorerError | None = None

    @property
    def job(self) -> Job:
        """The job.

        Raises:
            AutoScorerError: ``INVALID_META``; several problems come as one ``InvalidWorkspace``.
        """
        if self.known is None:
            assert self.error is not None
            raise self.error
        return self.known

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able data, for another process."""
        # As text: the numbers of an invalid one may be such as strict JSON does not have.
        asked = json.dumps(self.asked.model_dump()) if self.asked is not None else None
        error = self.error.to_dict() if self.error is not None else None
        return {"valid": self.known is not None, "asked": asked, "error": error}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Meta:
        """The same again, from what ``to_dict`` gave."""
        asked = None
        if data["asked"] is not None:
            job = json.loads(data["asked"])
            # A folder's name may be one that nobody could give as an id.
            asked = Job.model_validate({**job, "job_id": None}).model_copy(update={"job_id": job["job_id"]})
        error = None
        if data["error"] is not None:
            kind = InvalidWorkspace if "problems" in data["error"]["details"] else AutoScorerError
            error = kind.from_dict(data["error"])
        return cls(asked if data["valid"] else None, asked, error)


def read_meta(workspace: Workspace) -> Meta:
    """Read and check the workspace's meta.json; what is wrong with it is in the answer."""
    try:
        text = _read_meta(workspace)
    except AutoScorerError as error:
        return Meta(None, None, error)
    try:
        job = parse_job(text)
    except AutoScorerError as error:
        return Meta(None, None if workspace.benchmark is not None else _asked_of_scorer(text), error)
    if workspace.benchmark is not None:
        # How it is scored is nothing that it says itself.
        try:
            job = job_of_submission(BenchmarkFolder(workspace.benchmark), job)
        except AutoScorerError as error:
            return Meta(None, None, error)
    if not job.job_id:
        # A folder may be named by any bytes; a Result holds text.
        # Of a submission the number alone says nothing.
        name = workspace.name if workspace.benchmark is None else f"{workspace.root.parent.name}-{workspace.name}"
        job = job.model_copy(update={"job_id": os.fsencode(name).decode("utf-8", "replace")})
    return Meta(job, job)


def load_job(workspace: Workspace) -> Job:
    """Read and check the workspace's meta.json.

    Returns:
        The job; ``job_id`` is the folder's name where meta.json gives none.

    Raises:
        AutoScorerError: ``INVALID_META``; several problems come as one ``InvalidWorkspace``.
    """
    return read_meta(workspace).job


def _read_meta(workspace: Workspace) -> str:
    return read_text(
        workspace.meta,
        code=ErrorCode.INVALID_META,
        missing="meta.json is missing. Write one, or start from `autoscorer init`.",
    )


def _asked_of_scorer(text: str) -> Job | None:
    try:
        data, _ = fold_spellings(json.loads(text))
        if any(problem.why is Why.TOO_DEEP for problem in unfit(data, levels=MAX_DEPTH)):
            return None
        return Job.model_validate({key: data[key] for key in ("scorer", "params", "data") if key in data})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def parse_job(text: str) -> Job:
    """Parse and check the text of a meta.json.

    Raises:
        AutoScorerError: ``INVALID_META``; several problems come as one ``InvalidWorkspace``.
    """
    return parse_model(text, Job, file="meta.json", code=ErrorCode.INVALID_META, known=KNOWN_KEYS, fold=fold_spellings)


def model_meta(job: Job) -> dict[str, Any]:
    """meta.json as the model may see it: without the scorer's params, which may tell what is scored and how."""
    return job.model_dump(mode="json", exclude={"params", "scorer"}, exclude_none=True)


def _invalid(message: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.INVALID_META, message)
