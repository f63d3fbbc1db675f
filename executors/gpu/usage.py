"""What a run uses of its GPUs, looked at while it goes on; and whether it leaves something on them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode
from ..base import Gpu
from .nvml import NoNvml, compute_processes, memory_used, nvml, utilisation

__all__ = ["GpuUse", "watched_gpus"]

logger = logging.getLogger(__name__)

# Seconds between two looks, and how long what has ended may take to leave its device: a driver tidies up behind it.
PAUSE = 0.2
LEAVING = 10.0


@dataclass
class GpuUse:
    """What was seen of a run on its devices; None where it could not be seen."""

    # Bytes above what was in use before, of all devices together.
    peak_memory: int | None = None
    # Seconds in which a device computed, of all of them together.
    seconds: float | None = None
    notes: list[str] = field(default_factory=list)
    # What was wrong with a device after the run had ended, by its UUID.
    left: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As the Result's ``resources`` have it."""
        return {"gpu_memory_bytes": self.peak_memory, "gpu_seconds": self.seconds}

    def error(self) -> AutoScorerError | None:
        """What the operator must know, where something was left on a device."""
        if not self.left:
            return None
        told = "; ".join(f"{uuid}: {what}" for uuid, what in self.left.items())
        return AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"The run has ended, and its GPUs are not free ({told}): the model's processes could not be ended, or "
            "somebody else used the devices meanwhile, or one has failed. They are not given out like this; the "
            "operator must look.",
            details={"devices": self.left},
        )


@contextlib.contextmanager
def watched_gpus(gpus: Sequence[Gpu]) -> Iterator[GpuUse]:
    """Look at a run's devices while the block goes on; the run must have ended, and be removed, at its end.

    Args:
        gpus: The devices that the run has leased; nothing is done where there are none.

    Yields:
        What was seen, complete after the block.
    """
    use = GpuUse()
    with contextlib.ExitStack() as session:
        try:
            nv = session.enter_context(nvml()) if gpus else None
        except NoNvml:
            use.notes.append(
                "What the model used of its GPUs was not measured, nor whether others used them: NVML is not there "
                "(pip install 'autoscorer[gpu]')."
            )
            nv = None
        if nv is None:
            yield use
            return
        watch = _Watch(nv, [gpu.uuid for gpu in gpus], use)
        with watch:
            yield use
        # Of a device that is shared on purpose nobody can say whose they are.
        alone = [gpu.uuid for gpu in gpus if gpu.shared is None]
        use.left = _left(nv, alone)
        for uuid, what in use.left.items():
            logger.error("after a run %s is not free: %s", uuid, what)


class _Watch:
    """A thread that looks at devices again and again."""

    def __init__(self, nv: Any, uuids: list[str], use: GpuUse) -> None:
        self._nv, self._uuids, self._use = nv, uuids, use
        self._before = sum(memory_used(nv, uuid) for uuid in uuids)
        self._looked = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="autoscorer-gpu", daemon=True)

    def __enter__(self) -> None:
        self._look()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._stopped.wait(PAUSE):
            try:
                self._look()
            except self._nv.NVMLError as error:
                # The run goes on; what was seen until now stands.
                self._use.notes.append(f"What the model used of its GPUs was not measured to its end: {error}.")
                return

    def _look(self) -> None:
        use, now = self._use, time.monotonic()
        passed, self._looked = now - self._looked, now
        used = sum(memory_used(self._nv, uuid) for uuid in self._uuids) - self._before
        use.peak_memory = max(use.peak_memory or 0, used)
        shares = [utilisation(self._nv, uuid) for uuid in self._uuids]
        known = [share for share in shares if share is not None]
        if known:
            use.seconds = (use.seconds or 0.0) + passed * sum(known)


def _left(nv: Any, uuids: list[str]) -> dict[str, str]:
    deadline = time.monotonic() + LEAVING
    while found := {uuid: what for uuid in uuids if (what := _wrong_with(nv, uuid))}:
        if time.monotonic() >= deadline:
            return found
        time.sleep(PAUSE)
    return {}


def _wrong_with(nv: Any, uuid: str) -> str | None:
    try:
        pids = compute_processes(nv, uuid)
    except nv.NVMLError as error:
        return f"NVML says: {error}"
    return f"processes {', '.join(map(str, pids))} compute on it" if pids else None
