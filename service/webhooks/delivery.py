"""What is sent to a task's ``callback_url`` when the task has ended.

A POST of what ``GET /tasks/{id}`` answers to whoever submitted it: ``{"ok": true, "data": <the task>, "meta": …}``.
``ok`` says that the envelope holds a task, in this one shape however it ended; ``data.state`` says how (``completed``,
``failed``, ``cancelled``) and ``data.error`` why. The headers:

- ``X-AutoScorer-Signature``: ``t=<seconds since 1970>,v1=<hex HMAC-SHA256 of "<t>.<body>">``; a receiver checks it
  with ``verify(secret, header, body)``.
- ``X-AutoScorer-Delivery``: an id that is the same for every attempt. A receiver may get a delivery twice, when its
  answer was lost, and tells it by this id.
- ``X-AutoScorer-Task``: the task's id.

A status of 2xx is a delivery. Anything else, also no answer at all, is tried again up to ``callbacks.max_attempts``,
with a delay that doubles, up to an hour, and varies at random; ``Retry-After`` makes it longer. A 404 or a redirect is
tried again like a 500, as that is what a receiver answers that is being deployed; redirects are not followed. Final at
once are only 410 (Gone) and an address that requests may not go to. The state is in the ledger, so restarts lose
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import Counter
from uuid import UUID, uuid5
from weakref import WeakValueDictionary

import httpx

from ...core.backoff import delay
from ...core.config import Settings
from ...core.errors import AutoScorerError
from ...core.provenance import utc_now
from ...core.version import __version__
from ...schemas.envelope import Envelope, Meta
from ...schemas.task import TaskView
from ..disclosure import Disclosure
from ..job_records import job_record
from ..ledger.ledger import Ledger
from ..ledger.queries import LONGEST_CALLBACK_WAIT
from ..ledger.records import CallbackDue, StoredResult
from ..workspaces.roots import WorkspaceRoots
from .http import NotAllowed, Outbound, Unreachable, check_callback_url
from .signatures import callback_secret, sign, verify

__all__ = ["CallbackDelivery", "check_callback_url", "delivery_id", "verify"]

logger = logging.getLogger(__name__)

# Deliveries at a time: in all, and to one receiver, so that a slow one does not hold up the others.
AT_ONCE = 64
PER_RECEIVER = 4
# Callbacks to one receiver that wait in memory; the others wait in the ledger.
AHEAD = 1000
# Seconds between two looks into the ledger; a task that ends wakes the loop at once.
LOOK = 1.0
# Due callbacks that may be looked through in a second: a small part of the event loop's time.
LOOKED_THROUGH = 20_000
LONGEST_DELAY = LONGEST_CALLBACK_WAIT / 1.5
# Seconds after an attempt that the ledger could not note.
UNNOTED = 60.0

_DELIVERIES = UUID("9d3c7c0e-5a0b-4c55-8d0f-0d6a3f0b7f51")


class CallbackDelivery:
    """Delivers the callbacks of tasks that have ended.

    Args:
        settings: The configuration.
        ledger: Where they are kept.
        roots: The workspace roots; the host's paths are taken from what is sent.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when there is no secret to sign with and none can be made.
    """

    def __init__(self, settings: Settings, ledger: Ledger, roots: WorkspaceRoots) -> None:
        self._settings = settings.callbacks
        self._secret = callback_secret(settings)
        self._installation = settings
        self._ledger = ledger
        self._roots = roots
        self._woken = asyncio.Event()
        # Callbacks that are under way or have their turn soon, each with its receiver.
        self._begun: dict[str, str] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._outbound = Outbound(allow_private=self._settings.allow_private, timeout=self._settings.timeout)

    def wake(self) -> None:
        """Look into the ledger at once; call it in the event loop's thread when a task with a callback has ended."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver what is due, until cancelled. What is under way then is sent again by the next one."""
        async with asyncio.TaskGroup() as attempts:
            while True:
                self._woken.clear()
                found = 0
                try:
                    found = await self._look(attempts)
                except Exception:  # a full disk, a fault of ours: the next look may succeed, and nothing is lost
                    logger.exception("callbacks: what is due could not be read")
                # A look costs time for each that is due, so it is taken less often where many are.
                await asyncio.sleep(found / LOOKED_THROUGH)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._woken.wait()

    async def _look(self, attempts: asyncio.TaskGroup) -> int:
        """Begin with what is due; how many callbacks that is."""
        # Those of before, too: an attempt that ends while the ledger is asked is in its answer all the same.
        before = set(self._begun)
        found = await self._ledger.due_callbacks(time.time())
        begun = Counter(self._begun.values())
        for due in found:
            receiver = receiver_of(due.url)
            if due.task_id in before or due.task_id in self._begun or begun[receiver] >= AHEAD:
                continue
            begun[receiver] += 1
            self._begun[due.task_id] = receiver
            turns = self._turns.setdefault(receiver, asyncio.Semaphore(PER_RECEIVER))
            attempts.create_task(self._deliver(due, turns), name=f"callback {due.task_id}")
        return len(found)

    async def _deliver(self, due: CallbackDue, turns: asyncio.Semaphore) -> None:
        try:
            # In this order receivers take turns: at most PER_RECEIVER callbacks to one wait for a place.
            async with turns, self._places:
                await self._attempt(due)
        except Exception:
            logger.exception(
                "callbacks: task %s: the attempt could not be noted", due.task_id, extra=_fields(due.task_id)
            )
            # It is still due; but a ledger that can't be written must not have the receiver asked every second.
            await asyncio.sleep(UNNOTED)
        del self._begun[due.task_id]

    async def _attempt(self, due: CallbackDue) -> None:
        attempt = due.attempts + 1
        error, wait = await self._send(due)
        if error is None:
            logger.info("callbacks: task %s: delivered at attempt %d", due.task_id, attempt, extra=_fields(due.task_id))
            await self._ledger.callback_done(due.task_id, True, None, None)
            return
        next_at = None
        if wait is not None and attempt < self._settings.max_attempts:
            pause = max(wait, retry_delay(self._settings.retry_delay, attempt))
            next_at = time.time() + pause
        logger.warning(
            "callbacks: task %s: attempt %d failed: %s%s",
            due.task_id,
            attempt,
            error,
            "" if next_at is not None else "; given up",
            extra=_fields(due.task_id),
        )
        await self._ledger.callback_done(due.task_id, False, error, next_at)
        if next_at is not None:
            asyncio.get_running_loop().call_later(pause, self.wake)

    async def _send(self, due: CallbackDue) -> tuple[str | None, float | None]:
        """One attempt: what went wrong, or None; and the seconds to wait at least, None where another is in vain."""
        try:
            body = await self._body(due)
            moment = int(time.time())
            answer = await self._outbound.post(
                due.url,
                {
                    "content-type": "application/json",
                    "user-agent": f"AutoScorer/{__version__}",
                    "x-autoscorer-signature": sign(self._secret, body, moment),
                    "x-autoscorer-delivery": delivery_id(due.task_id),
                    "x-autoscorer-task": due.task_id,
                },
                body,
            )
        except NotAllowed as error:
            return f"not sent: {error}", None
        except Unreachable as error:
            return str(error), 0.0
        except AutoScorerError as error:
            return f"not sent: {error.code.value}", 0.0
        except Exception as error:
            logger.exception(
                "callbacks: task %s: a fault of AutoScorer itself", due.task_id, extra=_fields(due.task_id)
            )
            return f"not sent: {type(error).__name__}", 0.0
        if answer.is_success:
            return None, None
        gone = answer.status_code == 410
        return f"the receiver answered {answer.status_code}", None if gone else _retry_after(answer.headers)

    async def _body(self, due: CallbackDue) -> bytes:
        # What its submitter would be told by GET /tasks/{id}.
        task = await self._ledger.view(due.task_id)
        if task.action == "rag-score":  # the record of a job, as its own address answers it
            left = await self._ledger.outcome(task.id) or StoredResult(None, None)
            record = job_record(await self._ledger.row(task.id), left, whole=True)
            return json.dumps(self._roots.redact(record.model_dump(mode="json")), allow_nan=False).encode()
        view = Disclosure(self._installation, due.role, due.team).task(task)
        meta = Meta(timestamp=utc_now(), version=__version__, request_id=delivery_id(due.task_id))
        envelope = Envelope[TaskView](data=view, meta=meta).model_dump(by_alias=True)
        # In ASCII: the name of a file may hold what is not a character, and has no UTF-8.
        return json.dumps(self._roots.redact(envelope), allow_nan=False).encode()


def _fields(task_id: str) -> dict[str, dict[str, str]]:
    return {"fields": {"task_id": task_id}}


def delivery_id(task_id: str) -> str:
    """The id of a task's one callback, the same for every attempt and after every restart."""
    return str(uuid5(_DELIVERIES, task_id))


def retry_delay(first: float, attempt: int) -> float:
    """Seconds from a failed attempt (1, 2, …) to the next: doubled each time, and spread, so that the callbacks that a
    receiver missed do not all come back at the same moment."""
    return delay(attempt, first, LONGEST_DELAY) * random.uniform(0.5, 1.5)  # noqa: S311 - not a secret


def receiver_of(url: str) -> str:
    """Host and port: who is slow when one URL is."""
    try:
        return httpx.URL(url).netloc.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return ""


def _retry_after(headers: httpx.Headers) -> float:
    value = headers.get("retry-after", "").strip()
    is_number = value.isascii() and value.isdigit() and len(value) <= 9
    return min(float(value), LONGEST_DELAY) if is_number else 0.0
