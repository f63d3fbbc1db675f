"""Importing a scorer file somewhere else first.

A long-lived process that serves people (the API) loads files while it serves. One that hangs in an endless loop, ends
the interpreter or crashes in native code would take the process with it, so it is run once in a process of its own.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

from ...core.errors import AutoScorerError
from ...core.subprocess_call import Json, SubprocessFailed, answer_call, call_in_subprocess
from .files import read_source
from .last_good import GoodCopy
from .loader import LoadAttempt, load_error, load_source

__all__ = ["IMPORT_SECONDS", "try_import"]

# Importing a large library takes some seconds where the disk is cold; a scorer that takes longer is broken.
IMPORT_SECONDS = 30.0


def try_import(
    path: Path,
    copies: Mapping[Path, bytes] | None = None,
    *,
    seconds: float = IMPORT_SECONDS,
    stop: threading.Event | None = None,
) -> LoadAttempt:
    """Load a scorer file in a process of its own.

    Args:
        path: Absolute path of the file.
        copies: Its bytes and those of its siblings, instead of what lies on the disk.
        seconds: How long it may take.
        stop: Set by another thread, it is given up.

    Returns:
        The attempt, without registrations: what matters is its ``error``, which files it depends on, ``sources`` and
        ``found``.
    """
    attempt = LoadAttempt(path, files={path: ""})
    question: Json = {"file": str(path), "copies": None}
    try:
        data = read_source(path) if copies is None else copies[path]
        attempt.sha256 = attempt.files[path] = hashlib.sha256(data).hexdigest()
        if copies is not None:
            question["copies"] = GoodCopy(path, copies, {}).to_dict()
        answer = call_in_subprocess("autoscorer.scorers.registry.trial", question, seconds=seconds, stop=stop)
    except OSError as error:
        attempt.error = load_error(f"{path} can't be read: {error.strerror or error}.", path)
        return attempt
    except SubprocessFailed as failed:
        attempt.error = load_error(f"{path} is not loaded: its import {failed}.", path)
        attempt.error.details["hangs"] = failed.took_too_long
        return attempt
    attempt.sha256 = answer["sha256"]
    attempt.files = {Path(name): sha256 for name, sha256 in answer["files"].items()}
    attempt.error = AutoScorerError.from_dict(answer["error"]) if answer["error"] else None
    attempt.sources = {Path(name): base64.b64decode(text) for name, text in answer["sources"].items()}
    attempt.found = answer["found"]
    return attempt


def _answer(question: Json) -> Json:
    copies = question["copies"] and GoodCopy.from_dict(question["copies"]).files
    attempt = load_source(Path(question["file"]), copies)
    return {
        "sha256": attempt.sha256,
        "files": {str(path): sha256 for path, sha256 in attempt.files.items()},
        "error": attempt.error.to_dict() if attempt.error else None,
        "sources": {str(path): base64.b64encode(data).decode("ascii") for path, data in attempt.sources.items()},
        "found": {r.scorer_id: str(r.scorer_class.version) for r in attempt.registrations},
    }


if __name__ == "__main__":
    answer_call(_answer)
