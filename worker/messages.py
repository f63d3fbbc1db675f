"""What a process says to its worker of the flow run that it works on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import ErrorCode
from ..core.storage import fault_of

__all__ = ["fault_message", "log_message"]

Json = dict[str, Any]

# Characters of one log record.
_RECORD = 32 * 1024


def log_message(level: int, text: str) -> Json:
    """A record for the flow run's log in Prefect."""
    return {"log": {"level": level, "message": text[:_RECORD], "timestamp": datetime.now(UTC).isoformat()}}


def fault_message(error: Exception, home: Path) -> Json:
    """That the work could not be done, for want of room on a disk or otherwise: the run is to be put back."""
    fault = fault_of(error, home=home)
    return {"fault": str(fault), "waits_for_room": fault.code is ErrorCode.STORAGE_FULL}
