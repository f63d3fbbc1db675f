"""competition.yaml of a Codabench bundle (version 2), read into what of it a benchmark has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...schemas.benchmark import Choice
from ..programs.columns import COMPUTATIONS, Column
from .fields import Fields

__all__ = ["DEFAULT_IMAGE", "Competition", "Leaderboard", "Phase", "Task", "parse_competition"]

# What Codabench takes where competition.yaml does not say.
DEFAULT_IMAGE = "codalab/codalab-legacy:py37"
_PER_DAY, _TOTAL, _TIME_LIMIT = 5, 100, 600.0
# Which submission of a team is on the leaderboard.
_CHOICES: Mapping[str, Choice] = {
    "Force_Best": "best",
    "Force_Last": "last",
    "Force_Latest_Multiple": "last",
    "Add": "chosen",
    "Add_And_Delete": "chosen",
    "Add_And_Delete_Multiple": "chosen",
}
_DATA = ("scoring_program", "reference_data", "input_data", "ingestion_program")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: paths in the bundle; None for what it does not have."""

    index: int
    name: str
    scoring_program: str
    reference_data: str | None
    input_data: str | None
    ingestion_program: str | None
    # Whether that runs beside the scoring program, and the two talk to each other.
    ingestion_while_scoring: bool


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase, and the tasks that are scored in it."""

    name: str
    start: datetime | None
    end: datetime | None
    tasks: tuple[int, ...]
    per_day: int | None
    total: int | None
    time_limit: float


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The leaderboard, columns in their order: the first one ranks."""

    columns: tuple[Column, ...]
    titles: Mapping[str, str]
    # Digits that the main column is shown with; None where the bundle does not say.
    precision: int | None
    choose: Choice
    hidden: bool


@dataclass(frozen=True, kw_only=True)
class Competition:
    """What a benchmark can have of a competition, and what it can't."""

    title: str
    description: str
    image: str
    tasks: Mapping[int, Task]
    phases: tuple[Phase, ...]
    board: Leaderboard
    left_out: tuple[str, ...] = field(default=())


def parse_competition(data: Mapping[Any, Any]) -> Competition:
    """Read a competition.yaml.

    Args:
        data: Its content.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, naming the key.
    """
    top = Fields(dict(data), "competition.yaml")
    if top.text("version", "1").strip() not in ("2", "2.0"):
        raise top.wrong(
            "version",
            "expected 2, as bundles of Codabench have it; those of CodaLab (version 1) are not imported. Codabench "
            "takes them, and a dump of the competition there is a bundle of version 2",
        )
    tasks = _tasks(top)
    return Competition(
        title=top.text("title"),
        description=top.text("description", ""),
        image=top.text("docker_image", DEFAULT_IMAGE),
        tasks=tasks,
        phases=_phases(top, tasks),
        board=_board(top),
        left_out=_left_out(top),
    )


def _tasks(top: Fields) -> dict[int, Task]:
    tasks: dict[int, Task] = {}
    for each in top.each("tasks"):
        index = each.count("index")
        if index is None or index in tasks:
            raise each.wrong("index", "expected a number that no other task has")
        if "key" in each:
            raise each.wrong("key", "this task lies in Codabench's storage. Download it and name its files")
        paths = {key: each.text(key) if key in each else None for key in _DATA}
        program = paths.pop("scoring_program")
        if program is None:
            raise each.wrong("scoring_program", "it is missing, and nothing else says how a submission is scored")
        tasks[index] = Task(
            index=index,
            name=each.text("name", f"Task {index}"),
            scoring_program=program,
            ingestion_while_scoring=each.flag("ingestion_only_during_scoring", False),
            **paths,
        )
    if not tasks:
        raise top.wrong("tasks", "expected at least one task")
    return tasks


def _phases(top: Fields, tasks: Mapping[int, Task]) -> tuple[Phase, ...]:
    found = []
    for number, each in enumerate(top.each("phases")):
        indexes = each.values("tasks")
        if any(isinstance(index, bool) or not isinstance(index, int) or index not in tasks for index in indexes):
            known = ", ".join(str(index) for index in tasks)
            raise each.wrong("tasks", f"expected indexes of tasks ({known})")
        phase = Phase(
            name=each.text("name", f"Phase {number + 1}") or f"Phase {number + 1}",
            start=each.moment("start"),
            end=each.moment("end"),
            tasks=tuple(indexes),
            per_day=each.count("max_submissions_per_day", _PER_DAY),
            total=each.count("max_submissions", _TOTAL),
            time_limit=each.seconds("execution_time_limit") or _TIME_LIMIT,
        )
        found.append((each.count("index", number) or 0, number, phase))
    if not found:
        raise top.wrong("phases", "expected at least one phase")
    return tuple(phase for _, _, phase in sorted(found, key=lambda item: item[:2]))


def _board(top: Fields) -> Leaderboard:
    boards = list(top.each("leaderboards"))
    if not boards:
        raise top.wrong("leaderboards", "expected a leaderboard: its columns say what a submission is ranked by")
    board = boards[0]
    columns: list[tuple[int, Fields, str]] = []
    for number, each in enumerate(board.each("columns")):
        key = each.name("key")
        if any(key == known for _, _, known in columns):
            raise each.wrong("key", "expected a name that no other column has")
        columns.append((each.count("index", number) or 0, each, key))
    if not columns:
        raise board.wrong("columns", "expected at least one column")
    columns.sort(key=lambda item: item[0])
    keys = {index: key for index, _, key in reversed(columns)}
    rule = board.text("submission_rule", "Add")
    if rule not in _CHOICES:
        raise board.wrong("submission_rule", f"expected one of {', '.join(_CHOICES)}, got {rule[:60]!r}")
    return Leaderboard(
        columns=tuple(_column(each, key, keys) for _, each, key in columns),
        titles={key: each.text("title", key) for _, each, key in columns},
        precision=columns[0][1].count("precision"),
        choose=_CHOICES[rule],
        hidden=board.flag("hidden", False),
    )


def _column(each: Fields, key: str, keys: Mapping[int, str]) -> Column:
    sorting = each.text("sorting", "desc").lower()
    if sorting not in ("asc", "desc"):
        raise each.wrong("sorting", f"expected asc (smaller is better) or desc, got {sorting[:60]!r}")
    computation = each.text("computation", "") or None
    if computation is None:
        return Column(key=key, higher_is_better=sorting == "desc", hidden=each.flag("hidden", False))
    if computation not in COMPUTATIONS:
        raise each.wrong("computation", f"expected one of {', '.join(COMPUTATIONS)}, got {computation[:60]!r}")
    of = [keys.get(index) if isinstance(index, int) else None for index in _indexes(each)]
    if not of or any(name is None or name == key for name in of):
        raise each.wrong("computation_indexes", "expected the indexes of other columns")
    return Column(
        key=key,
        higher_is_better=sorting == "desc",
        hidden=each.flag("hidden", False),
        computation=computation,
        of=tuple(name for name in of if name is not None),
    )


def _indexes(each: Fields) -> list[Any]:
    # Bundles that Codabench itself wrote have them as a text: "0,1".
    raw = each.raw("computation_indexes")
    if isinstance(raw, str):
        parts = [part.strip() for part in raw.split(",")]
        return [int(part) if part.isascii() and part.isdigit() and len(part) < 10 else None for part in parts]
    return each.values("computation_indexes")


def _left_out(top: Fields) -> tuple[str, ...]:
    found = []
    if len(boards := list(top.each("leaderboards"))) > 1:
        found.append(f"{len(boards) - 1} more leaderboards: the first one ranks")
    if list(top.each("pages")) or "terms" in top:
        found.append("the pages and terms, which the platform shows")
    if top.raw("fact_sheet"):
        found.append("the fact sheet, which the platform asks teams for")
    if list(top.each("solutions")):
        found.append("the solutions: submit them as any team does")
    if top.flag("enable_detailed_results", False):
        found.append("detailed results, a page that the scoring program writes")
    if "queue" in top:
        found.append("the queue, which names workers of the platform")
    for each in top.each("phases"):
        name = each.text("name", "")
        if each.flag("auto_migrate_to_this_phase", False):
            found.append(f"that phase {name!r} submits again what the one before had: `autoscorer rescore` scores it")
        found += [
            f"{key} of phase {name!r}: a team sees its own log and score here"
            for key in ("hide_output", "hide_prediction_output", "hide_score_output")
            if each.flag(key, False)
        ]
        if "public_data" in each or "starting_kit" in each:
            found.append(f"public_data and starting_kit of phase {name!r}, which teams download from the platform")
    return tuple(dict.fromkeys(found))
