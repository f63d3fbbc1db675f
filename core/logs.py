"""The log of a process on stderr: lines for a terminal, one JSON object a line for everything else."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

__all__ = ["JsonFormatter", "log_to_stderr"]


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
        also: Loggers of libraries whose records belong to it.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else _Plain())
    for name in ("autoscorer", "asyncio", *also):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING if name == "asyncio" else logging.INFO)
