"""The log of a process of the service on stderr: lines for a terminal, one JSON object a line for everything else."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ..core.config import Settings
from ..executors.image_policy import which_images

__all__ = ["JsonFormatter", "log_to_stderr", "tell_configuration"]


class JsonFormatter(logging.Formatter):
    """Records as JSON objects, one a line; ``extra={"fields": {…}}`` adds to them."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(entry, ensure_ascii=True, default=str)


class _Plain(logging.Formatter):
    """Records as lines for people; the fields follow the message."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = " ".join(f"{key}={value}" for key, value in getattr(record, "fields", {}).items())
        text = f"{moment} {record.levelname.lower():7} {record.getMessage()}" + (f" ({fields})" if fields else "")
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return text


def log_to_stderr(*, as_json: bool, also: Sequence[str] = ()) -> None:
    """Send this process's own log to stderr.

    Args:
        as_json: One JSON object a line, for programs; else lines for people.
        also: Loggers of libraries whose log belongs to it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else _Plain())
    for name in ("autoscorer", *also, "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING if name == "asyncio" else logging.INFO)


def tell_configuration(settings: Settings) -> None:
    """Say at a start what an operator must know of the configuration: which images may be run, and what is not read."""
    logger = logging.getLogger("autoscorer.configuration")
    # Whoever wrote an empty list may have meant that nothing is allowed.
    level = logging.INFO if settings.security.allowed_images else logging.WARNING
    logger.log(level, "%s", which_images(settings))
    for note in settings.notes:
        logger.warning("%s", note)
