"""What the registry knows of a scorer: how it was declared, and the frozen entry a run holds."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ...core.errors import AutoScorerError, ErrorCode
from ..base import BaseScorer, ScorerParams

__all__ = ["LoadFailure", "Origin", "Registration", "ScorerEntry", "check_scorer"]

Origin = Literal["builtin", "file", "directory", "entry_point", "code"]

# An id stands in URLs, file names and meta.json.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
# The folders of an absolute path in a text.
_FOLDERS = re.compile(r"(?<![\w.:/-])/(?:[^\s/'\"()]+/+)*(?=[^\s/'\"])")


@dataclass(frozen=True)
class Registration:
    """One use of ``@register``: which class, under which id, and where.

    Args:
        scorer_id: The id.
        scorer_class: The decorated class.
        module: Name of the module whose top-level code was running.
        path: That module's source file, None in a notebook or an interpreter.
        line: Line of the decorator in ``path``.
    """

    scorer_id: str
    scorer_class: type[BaseScorer]
    module: str
    path: Path | None
    line: int | None

    @property
    def where(self) -> str:
        """``file:line``, as an editor understands it."""
        return f"{self.path}:{self.line}" if self.path is not None else f"module {self.module}"


@dataclass(frozen=True)
class ScorerEntry:
    """A scorer as it was when a run asked for it; later saves of its file make new entries.

    Args:
        id: What meta.json calls it.
        scorer_class: The class. It stays usable as long as the entry is held, whatever is reloaded meanwhile.
        version: The class's own version.
        description: One line.
        task_type: As meta.json's ``task_type``.
        metric: Name of the main metric.
        higher_is_better: The main metric's direction.
        origin: Where it came from.
        source: The source file, None for code without one.
        line: Line of its ``@register`` in ``source``.
        sha256: Of the source bytes the class was loaded from, in hex; None for code without a file.
        siblings: Files beside ``source`` that it imports (``from .helpers import …``): name to sha256.
        loaded_at: UTC.
        module: Name of the module that registered it.
        status: ``stale`` when the file on disk no longer loads and this is its last good version.
        error: Why it is stale.
    """

    id: str
    scorer_class: type[BaseScorer]
    version: str
    description: str
    task_type: str
    metric: str
    higher_is_better: bool
    origin: Origin
    source: Path | None
    line: int | None
    sha256: str | None
    siblings: Mapping[str, str]
    loaded_at: datetime
    module: str
    status: Literal["ok", "stale"] = "ok"
    error: str | None = None
    # Keeps the modules of a loaded file importable (pickle, inspect) for as long as somebody holds the entry.
    module_handle: object = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        registration: Registration,
        origin: Origin,
        *,
        sha256: str | None,
        siblings: Mapping[str, str] | None = None,
        module_handle: object = None,
    ) -> ScorerEntry:
        """The entry of a registration."""
        scorer = registration.scorer_class
        return cls(
            id=registration.scorer_id,
            scorer_class=scorer,
            version=scorer.version,
            description=scorer.description or _first_line(scorer.__doc__),
            task_type=scorer.task_type,
            metric=scorer.metric,
            higher_is_better=scorer.higher_is_better,
            origin=origin,
            source=registration.path,
            line=registration.line,
            sha256=sha256,
            siblings=dict(siblings or {}),
            loaded_at=datetime.now(UTC),
            module=registration.module,
            module_handle=module_handle,
        )

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.source}:{self.line}" if self.source is not None else f"module {self.module}"

    @property
    def params_schema(self) -> dict[str, Any]:
        """JSON schema of the params. One that pydantic can't express says so instead of breaking a listing."""
        try:
            return self.scorer_class.Params.model_json_schema()
        except Exception as error:
            return {"type": "object", "description": f"The schema of these params can't be shown: {error}"}

    def create(self) -> BaseScorer:
        """A new instance, for one scoring.

        Raises:
            AutoScorerError: ``SCORER_ERROR`` when its constructor fails.
        """
        try:
            return self.scorer_class()
        except AutoScorerError:
            raise
        except Exception as error:
            raise AutoScorerError(
                ErrorCode.SCORER_ERROR,
                f"The scorer {self.id!r} ({self.where}) can't be created: {type(error).__name__}: {error}",
                details={"scorer": self.id, "source": self.where},
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON."""
        return {
            "id": self.id,
            "name": self.scorer_class.name,
            "version": self.version,
            "description": self.description,
            "task_type": self.task_type,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "origin": self.origin,
            "source": None if self.source is None else str(self.source),
            "line": self.line,
            "sha256": self.sha256,
            "siblings": dict(self.siblings),
            "loaded_at": self.loaded_at.isoformat(),
            "status": self.status,
            "error": self.error,
            "params_schema": self.params_schema,
        }


@dataclass(frozen=True)
class LoadFailure:
    """A source that does not load at the moment.

    Args:
        source: The file's path, a module, or the entry point and its package.
        origin: What kind of source.
        error: Why; always ``SCORER_LOAD_ERROR``.
        ids: Scorers of an earlier version that stay in use meanwhile.
        failed_at: UTC.
    """

    source: str
    origin: Origin
    error: AutoScorerError
    ids: tuple[str, ...] = ()
    failed_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        # The one that was raised holds frames, and through them the modules of every load it passed.
        bare = AutoScorerError(self.error.code, self.error.message, stage=self.error.stage, details=self.error.details)
        object.__setattr__(self, "error", bare)

    def __str__(self) -> str:
        return self.error.message

    @property
    def name(self) -> str:
        """The source without the folder it lies in."""
        return os.path.basename(self.source) if self.source.startswith("/") else self.source

    def brief(self) -> dict[str, str]:
        """The failure for whoever only looks for a scorer: no folders of this host, no lines of code."""
        message = self.error.message
        if self.source.startswith("/"):
            message = message.replace(os.path.dirname(self.source) + "/", "")  # it may hold spaces
        return {"source": self.name, "code": self.error.code.value, "message": _FOLDERS.sub("", message)}

    def to_dict(self) -> dict[str, Any]:
        """The failure as JSON."""
        return {
            "source": self.source,
            "origin": self.origin,
            "error": self.error.to_dict(),
            "stale_ids": list(self.ids),
            "failed_at": self.failed_at.isoformat(),
        }


def check_scorer(scorer_id: object, scorer: object) -> None:
    """Refuse what could not be listed, made or run later.

    Raises:
        AutoScorerError: ``SCORER_LOAD_ERROR``, saying what to change.
    """
    problem = _problem_of_id(scorer_id) or _problem_of_class(scorer)
    if problem:
        raise AutoScorerError(ErrorCode.SCORER_LOAD_ERROR, f"@register({scorer_id!r}) on {_called(scorer)}: {problem}.")


def _problem_of_id(scorer_id: object) -> str | None:
    if not isinstance(scorer_id, str):
        return f"expected an id as text, such as @register('my_scorer'), got {type(scorer_id).__name__}"
    if not _ID.fullmatch(scorer_id):
        return "an id has 1 to 100 of A-Z a-z 0-9 _ . - and begins with a letter or a digit"
    return None


def _problem_of_class(scorer: object) -> str | None:
    if not (isinstance(scorer, type) and issubclass(scorer, BaseScorer)):
        return "expected a subclass of BaseScorer (or BaseCSVScorer)"
    for name in ("name", "version"):
        value = getattr(scorer, name)
        if not isinstance(value, str) or not value.strip():
            return f"the class attribute {name!r} must be a text that is not empty, got {value!r}"
    if not any("version" in base.__dict__ for base in scorer.__mro__ if base is not BaseScorer):
        return "the class attribute 'version' is missing; a Result must say which version scored it ('1.0.0')"
    missing = sorted(getattr(scorer, "__abstractmethods__", ()))
    if missing:
        return f"it must implement {', '.join(missing)}"
    if not (isinstance(scorer.Params, type) and issubclass(scorer.Params, ScorerParams)):
        return f"Params must be a subclass of ScorerParams, got {scorer.Params!r}"
    try:
        inspect.signature(scorer).bind()
    except TypeError as error:
        return f"it must be made without arguments ({error})"
    except ValueError:
        pass  # no signature to be had (a constructor in C): create() will tell
    return None


def _called(scorer: object) -> str:
    return scorer.__qualname__ if isinstance(scorer, type) else repr(scorer)[:80]


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().split("\n", 1)[0].strip()
