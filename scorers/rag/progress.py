"""How far the scoring of many answers is: answers, calls, tokens, cost, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...schemas.rag import SampleScores
from ..judge.usage import Usage

__all__ = ["Progress"]

# Seconds before a rate means something.
_SETTLED = 2.0


class Progress:
    """Counts answers and what they took.

    Args:
        total: Answers that there are.
        tell: Told, in one line, after each of them.
    """

    def __init__(self, total: int, tell: Callable[[str], None]) -> None:
        self._total, self._tell = total, tell
        self._done, self._used = 0, Usage()
        self._began = time.monotonic()

    def count(self, number: int, scores: SampleScores) -> None:
        """Count an answer.

        Args:
            number: Its place in the data set.
            scores: What it came to.
        """
        self._done += 1
        for metric in scores.metrics.values():
            self._used.add(
                Usage(metric.calls, metric.cached, metric.prompt_tokens, metric.completion_tokens, metric.cost)
            )
        self._tell(self._line())

    def _line(self) -> str:
        used = self._used
        parts = [f"{self._done:,} of {self._total:,} answers"]
        if used.calls or used.cached:
            known = f" ({used.cached:,} more were known)" if used.cached else ""
            parts.append(f"{used.calls:,} calls{known}")
            parts.append(f"{used.tokens:,} tokens")
            parts.append("cost unknown" if used.cost is None else f"cost {used.cost:.4g}")
        elapsed = time.monotonic() - self._began
        if self._done < self._total and elapsed >= _SETTLED:
            parts.append(f"about {_duration(elapsed / self._done * (self._total - self._done))} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
