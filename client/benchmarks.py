"""What a client asks of the API's benchmarks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.workspace import open_regular
from .connection import Connection

__all__ = ["BenchmarkCalls"]

Json = dict[str, Any]


class BenchmarkCalls:
    """The part of ``Client`` that is about benchmarks."""

    _api: Connection

    def hand_in(
        self,
        benchmark: str,
        *,
        image: str | None = None,
        cmd: Sequence[str] | None = None,
        predictions: str | os.PathLike[str] | None = None,
        archive: str | os.PathLike[str] | None = None,
        team: str | None = None,
        label: str | None = None,
        backend: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Submit to a benchmark: an image, a file of predictions, or the archive of an image.

        An image is handed in once, even where an answer is lost. A file is sent once.

        Args:
            benchmark: Its name, as ``benchmarks`` gives it.
            image: An image, by its reference.
            cmd: What is run in it; its own command when None.
            predictions: A file of predictions.
            archive: An image, as ``docker save`` writes it.
            team: Whose it is; a team's token may leave it out.
            label: The team's own words for it.
            backend: Where the model runs; as the worker is configured when None.
            idempotency_key: The same key again stands for the same submission.

        Returns:
            ``submission``, ``workspace``, ``task`` and ``quota``: what the team has left.

        Raises:
            AutoScorerError: ``BENCHMARK_NOT_FOUND``, ``PHASE_CLOSED``, ``QUOTA_EXCEEDED``, ``FORBIDDEN``,
                ``PAYLOAD_TOO_LARGE``, ``INVALID_REQUEST``; ``MISSING_FILE`` for a file that is not there;
                ``BACKEND_UNAVAILABLE`` when the connection broke.
        """
        if sum(each is not None for each in (image, predictions, archive)) != 1:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, "Hand in one of image, predictions and archive.")
        if cmd is not None and image is None:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST, "A command goes with an image by its reference; an archive runs its own."
            )
        path = _path(benchmark, "/submissions")
        given = {"team": team, "label": label, "backend": backend}
        asked: Json = {key: value for key, value in given.items() if value is not None}
        if image is not None:
            command = {} if cmd is None else {"cmd": [*cmd]}
            answer, _ = self._api.submit(path, {"image": image, **command, **asked}, idempotency_key)
            return answer
        file = Path(os.path.abspath(os.fspath(predictions if predictions is not None else archive or "")))
        kind = "archive" if predictions is None else "predictions"
        with open_regular(file, stage=Stage.API) as content:
            headers = {} if idempotency_key is None else {"idempotency-key": idempotency_key}
            sent: Json = self._api.send_file(path, content, file.name, {"kind": kind, **asked}, headers)
        return sent

    def benchmarks(self) -> list[Json]:
        """The benchmarks that the token may see.

        Raises:
            AutoScorerError: As the API answers.
        """
        found: list[Json] = self._api.get("/benchmarks")["benchmarks"]
        return found

    def benchmark_leaderboard(self, benchmark: str, *, part: Literal["public", "private"] = "public") -> list[Json]:
        """Who of a benchmark is best.

        Args:
            benchmark: Its name.
            part: ``private`` for the withheld part, once it is released.

        Returns:
            Rows, best first: ``place``, ``team``, ``score``, ``low``, ``high``, ``metric``, ``submissions``, …

        Raises:
            AutoScorerError: ``BENCHMARK_NOT_FOUND``, ``FORBIDDEN``.
        """
        rows: list[Json] = self._api.get(_path(benchmark, "/leaderboard"), {"part": part})["rows"]
        return rows


def _path(name: str, below: str) -> str:
    return f"/benchmarks/{quote(name, safe='/')}{below}"
