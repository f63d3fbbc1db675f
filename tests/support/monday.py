"""A service as it was on one Monday: what is scored is really scored, and every time, id and host is the same again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from autoscorer.schemas.rag import ClaimVerdict, MetricScore
from autoscorer.schemas.task import TaskState
from autoscorer.tasks.benchmarks import adding
from autoscorer.tasks.results import metadata
from autoscorer.tasks.score import score_workspace

from .benchmarks import rows, submit, write_benchmark
from .records_page import Done, scored, served
from .score_jobs import FAITHFUL, JUDGED_BY, job, scores
from .workspaces import write_workspace

__all__ = ["CLOCK", "monday"]

# When its first task was accepted, and the moment at which all is looked at.
MORNING = datetime.fromisoformat("2026-11-23T08:00:00+00:00")
EVENING = datetime.fromisoformat("2026-11-23T17:30:00+00:00")
# A script by which it is that moment in the page.
CLOCK = f"""Date = class extends Date {{
  constructor(...given) {{ super(...(given.length ? given : [{EVENING.timestamp() * 1000:.0f}])); }}
  static now() {{ return {EVENING.timestamp() * 1000:.0f}; }}
}};"""


class Clock:
    """It goes on by an hour each time that somebody looks."""

    def __init__(self) -> None:
        self._at = MORNING - timedelta(days=3)

    def now(self, _zone: Any = None) -> datetime:
        self._at += timedelta(hours=1)
        return self._at

    def utc_now(self) -> str:
        return self.now().isoformat().replace("+00:00", "Z")


@contextmanager
def monday(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A service with some records, without tokens; its address, and the ids of its tasks by the names of these.

    Args:
        root: An empty folder for its workspaces; its home lies beside it.
    """
    clock = Clock()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOSCORER_HOME", str(root.parent / "home"))
        patched.setattr(metadata, "utc_now", clock.utc_now)
        patched.setattr(metadata, "hostname", lambda: "worker-1")
        patched.setattr(adding, "datetime", clock)
        _benchmark(root)
        _history(root)
        with served(root, list(_dated(_tasks(root))), home=root.parent / "home") as (url, ids):
            yield url, ids


def _benchmark(root: Path) -> None:
    """Five teams, two of which share a place."""
    ids = "abcdefghijklmnopqrstuvwx"
    labels = "irisroselilyirisroselily".replace("iris", "xyzx").replace("rose", "yzxy").replace("lily", "zxyz")
    truth = "id,label\n" + "".join(f"{ident},{label}\n" for ident, label in zip(ids, labels, strict=True))
    flowers = write_benchmark(
        root,
        "flowers",
        title="Flowers of the spring",
        description="Which flower is it? Twenty-four pictures, three kinds.",
        truth=truth,
        params={"pass_threshold": 0.6},
        phases=[{"name": "final", "close": "2026-12-01T12:00:00Z"}],
        quota={"per_day": 3, "total": 20},
    )
    for team, wrong in (("red", 12), ("green", 6), ("red", 8), ("blue", 6), ("violet", 15), ("red", 3), ("amber", 20)):
        guesses = "".join("x" if label != "x" and n < wrong else label for n, label in enumerate(labels))
        assert submit(flowers, rows(guesses, ids=ids), team=team, label=f"try of {team}")[1].error is None


def _history(root: Path) -> None:
    """A workspace whose model became better, and whose ground truth was another one from the fifth Result on."""
    truth = "id,label\n" + "".join(f"r{n},{'cat' if n % 3 else 'dog'}\n" for n in range(60))
    made = write_workspace(root, "spring/lime", truth=truth, pred=None, params={"pass_threshold": 0.8})
    (made / "output").mkdir()
    for wrong in (30, 22, 24, 12, 7, 9, 3):
        lines = [f"r{n},{'cat' if n % 3 and n >= wrong else 'dog'}\n" for n in range(60)]
        (made / "output" / "pred.csv").write_text("id,label\n" + "".join(lines))
        if wrong == 7:
            (made / "input" / "gt.csv").write_text(truth.replace("r1,cat", "r1,dog"))
        assert score_workspace(made).error is None


def _tasks(root: Path) -> Iterator[Done]:
    """What stands in the ledger, the oldest first."""
    outcomes = [
        {"workspace": str(root / f"autumn/team-{n}"), "state": "completed", "metric": "f1_macro", "score": 1 - n / 9,
         "pass": n < 5, "interval": {"low": 0.9 - n / 10, "high": 1.0 - n / 11, "level": 0.95},
         "higher_is_better": True, "seconds": 1.5, "error": None}
        for n in range(9)
    ]  # fmt: skip
    timeout = {"code": "TIMEOUT", "message": "The model ran longer than 600 s and was stopped.", "stage": "execution",
               "details": {"timeout": 600}}  # fmt: skip
    claims = [
        ClaimVerdict(text="Paris is the capital of France.", verdict=True, reason="Passage [1] says so."),
        ClaimVerdict(text="The tower was built in 1900.", verdict=False, reason="Passage [2] names other years."),
    ]
    asked = {
        "answer": "Paris is the capital of France. The tower was built in 1900.",
        "contexts": ["Paris is the capital of France, on the Seine.", "The tower was built from 1887 to 1889."],
        "ground_truth": "Paris.",
    }
    yield Done("autumn", action="batch", result={"total": 9, "seconds": 13.5, "outcomes": outcomes}, seconds=13.5)
    yield Done("summer/pear", TaskState.FAILED, "pipeline", error=timeout, seconds=601.0)
    yield Done("summer/plum", TaskState.CANCELLED, seconds=4.0)
    yield job(
        "job", "What is the capital of France?", request=asked, judged_by=JUDGED_BY,
        faithfulness=FAITHFUL.model_copy(update={"claims": claims}),
        context_utilization=MetricScore(score=1.0),
        answer_relevancy=MetricScore(status="skipped", reason="It needs embeddings."), **scores(token_f1=0.25),
    )  # fmt: skip
    yield Done("spring/apple", result=scored(root, "spring/apple", right=0.55, pass_threshold=0.6), seconds=2.5)
    good = scored(root, "spring/cherry", classes=8, rows=400, right=0.93, pass_threshold=0.8)
    yield Done("spring/cherry", action="pipeline", result=good, seconds=48.0)
    yield Done("spring/quince", None, action="pipeline")


def _dated(tasks: Iterator[Done]) -> Iterator[Done]:
    """Accepted one after another, half an hour between two of them."""
    for number, task in enumerate(tasks):
        at = MORNING.timestamp() + 1800 * number
        task.more |= {"created_at": at, "id": f"{int(at * 1000):012x}"[:8] + "-0000-7000-8000-" + f"{number:012x}"}
        yield task
