"""The process that asks the judges: many flow runs of ``rag-score`` at a time in one event loop.

A job waits for the answers of others nearly all the time, so a process for each would be wrong: they share the judges'
connections, limits and cache. It is a fork as those of other runs are, and talks with its worker over the same channel;
each message says of which run it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, internal_error
from ..core.flowruns import FlowRunFiles
from ..flows.artifacts import rendered
from ..flows.rag_artifacts import job_artifacts
from ..scorers.judge.runtime import JudgeRuntime, open_judges
from ..tasks.parameters import parsed
from ..tasks.rag import RagJob, outcome_of_scores, score_answer
from .messages import fault_message, log_message
from .processes import LONGEST, read_line

__all__ = ["judge"]

Json = dict[str, Any]


def judge(fd: int, settings: Settings) -> int:
    """Work on what the worker asks for, until it is gone.

    Args:
        fd: Of the channel; its order was read.
        settings: The configuration.

    Returns:
        The process's exit code.
    """
    asyncio.run(_Judging(settings).serve(fd))
    return 0


class _Judging:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[str, asyncio.Task[None]] = {}

    async def serve(self, fd: int) -> None:
        reader, self._writer = await asyncio.open_connection(sock=socket.socket(fileno=fd), limit=LONGEST)
        async with open_judges(self._settings) as runtime:
            # Before that nothing is sent: it might have been read together with the order.
            self._writer.write(b'{"ready": true}\n')
            while line := await read_line(reader):
                message = json.loads(line)
                run: str = message["run"]
                if message.get("end"):
                    if run in self._jobs:
                        self._jobs[run].cancel()
                elif "order" in message:
                    self._jobs[run] = asyncio.create_task(self._work(run, message["order"], runtime))
            for job in self._jobs.values():
                job.cancel()
            await asyncio.gather(*self._jobs.values(), return_exceptions=True)

    def _send(self, run: str, message: Json) -> None:
        self._writer.write(json.dumps({"run": run, **message}).encode() + b"\n")

    def _log(self, run: str, level: int, text: str) -> None:
        self._send(run, log_message(level, text))

    async def _work(self, run: str, order: Json, runtime: JudgeRuntime) -> None:
        files = FlowRunFiles(self._settings.home, run)
        try:
            await self._score(run, order, files, runtime)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            # A full disk, a home that can't be written: the worker puts the run back, and says why.
            self._send(run, fault_message(error, self._settings.home))
        finally:
            del self._jobs[run]
            self._send(run, {"exited": 0})

    async def _score(self, run: str, order: Json, files: FlowRunFiles, runtime: JudgeRuntime) -> None:
        def note(entry: Json) -> None:
            files.add_member_outcome(entry)
            score = entry["score"]
            told = score["score"] if score["score"] is not None else score["status"]
            self._log(run, logging.INFO, f"{entry['metric']}: {told}")

        files.set_stage("score")
        try:
            job = parsed(RagJob, order["parameters"])
            journal = await asyncio.to_thread(_earlier, files)
            scored = await score_answer(
                job,
                runtime,
                journal=journal,
                on_total=files.set_total,
                on_metric=note,
            )
            outcome = outcome_of_scores(scored)
        except AutoScorerError as error:
            outcome = {"state": "FAILED", "message": str(error), "data": None, "error": error.to_dict()}
        except Exception as error:
            if isinstance(error, OSError):
                raise
            fault = internal_error(error)
            outcome = {"state": "FAILED", "message": str(fault), "data": None, "error": fault.to_dict()}
        await asyncio.to_thread(files.save_outcome, outcome)
        self._log(run, logging.INFO if outcome["error"] is None else logging.ERROR, outcome["message"])
        self._send(run, {"ended": True})
        if outcome["data"] is not None:
            # In a thread: in an event loop Prefect's artifacts render themselves in coroutines.
            bodies = await asyncio.to_thread(
                rendered, job_artifacts(self._settings, run, order["parameters"]["request"], outcome["data"])
            )
            self._send(run, {"artifacts": bodies})


def _earlier(files: FlowRunFiles) -> list[Json]:
    """What an earlier attempt has noted, but for what failed: the journal begins anew with that."""
    found = {entry["metric"]: entry for entry in files.member_outcomes() if entry["score"]["status"] != "failed"}
    if found:
        files.keep_member_outcomes(found.values())
    return [*found.values()]
