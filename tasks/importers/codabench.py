"""A Codabench bundle as a benchmark that its own scoring program scores."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ..programs.columns import Column
from ..programs.digests import PROGRAM, REFERENCE
from .codabench_config import Competition, Phase, Task, parse_competition
from .folder import DATA, Imported, ImportReport, finish, new_folder
from .numbers import limit, open_phases, smallest
from .source import open_bundle
from .yaml_file import read_yaml

__all__ = ["import_codabench", "program_command"]

_CONFIGURATIONS = ("competition.yaml", "competition.yml")
_METADATA = ("metadata.yaml", "metadata")
# What stands for a place in a command, in the order in which Codabench replaces them.
_PLACES = (
    ("$input", "/app/input"),
    ("$output", "/app/output"),
    ("$program", "/app/program"),
    ("$hidden", "/app/input/ref"),
    ("$tmp", "/app/output"),
    ("$predictions", "/app/input/res"),
)


def import_codabench(
    source: Path | str,
    out: Path | str,
    *,
    task: int | None = None,
    image: str | None = None,
    predictions_as: str | None = None,
    shared: bool = False,
) -> ImportReport:
    """Make a benchmark of a bundle.

    Args:
        source: The bundle: a folder or an archive with competition.yaml.
        out: The benchmark's folder; made, and not there before.
        task: Index of the task, where phases have several: each is a benchmark of its own.
        image: Image that the scoring program is run in, instead of the bundle's.
        predictions_as: Name under which the program finds a submission's only file.
        shared: Whether models may see files of the reference data that are in the input data as well.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``BAD_FORMAT``, ``INVALID_REQUEST``, ``PAYLOAD_TOO_LARGE``,
            ``GROUND_TRUTH_EXPOSED``; nothing is left then.
    """
    target = Path(os.path.abspath(out))
    with new_folder(target) as folder, open_bundle(Path(source), _CONFIGURATIONS, near=folder) as (bundle, file):
        competition = parse_competition(read_yaml(file))
        chosen = _task(competition, task)
        inside = folder / "input"
        bundle.place(chosen.scoring_program, inside / PROGRAM, what="scoring_program")
        for name, path, what in (
            (REFERENCE, chosen.reference_data, "reference_data"),
            (DATA, chosen.input_data, "input_data"),
        ):
            if path is None:
                (inside / name).mkdir()
            else:
                bundle.place(path, inside / name, what=what)
        command = program_command(_metadata(inside / PROGRAM))
        found = _imported(competition, chosen, command, image=image, predictions_as=predictions_as)
        return finish(folder, target, found, shared=shared)


def _task(competition: Competition, wanted: int | None) -> Task:
    used = list(dict.fromkeys(index for phase in competition.phases for index in phase.tasks))
    names = ", ".join(f"{index} ({competition.tasks[index].name[:60]!r})" for index in used)
    if wanted is None and len(used) > 1:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The phases have {len(used)} tasks, each with data of its own: {names}. Import each as a benchmark of its "
            "own: choose one by --task INDEX.",
            details={"tasks": used},
        )
    if wanted is not None and wanted not in used:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"--task: expected one of {names}, got {wanted}.")
    if not used:
        raise AutoScorerError(ErrorCode.BAD_FORMAT, "competition.yaml: no phase has a task.", stage=Stage.VALIDATION)
    task = competition.tasks[used[0] if wanted is None else wanted]
    if task.ingestion_while_scoring:
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT,
            f"Task {task.index} has ingestion_only_during_scoring: its ingestion program runs beside the scoring "
            "program, and the two talk to each other. That is not imported.",
            stage=Stage.VALIDATION,
        )
    return task


def _metadata(program: Path) -> dict[Any, Any]:
    """What the scoring program's own metadata says. A program that was packed with its folder is put in its place."""
    for folder in [program, *(entry for entry in program.iterdir() if entry.is_dir())]:
        for name in _METADATA:
            if not (folder / name).is_file():
                continue
            if folder != program:
                if len(list(program.iterdir())) > 1:
                    continue
                folder.rename(program.with_name("gt_packed"))
                program.rmdir()
                program.with_name("gt_packed").rename(program)
            return read_yaml(program / name)
    raise AutoScorerError(
        ErrorCode.MISSING_FILE,
        f"The scoring program has no {_METADATA[0]} that says its command.",
        stage=Stage.VALIDATION,
    )


def program_command(metadata: dict[Any, Any]) -> tuple[str, ...]:
    """The command of a scoring program, with Codabench's places in it.

    Args:
        metadata: What its metadata.yaml holds.

    Raises:
        AutoScorerError: ``BAD_FORMAT``.
    """
    command = metadata.get("command")
    if not isinstance(command, str) or not command.strip():
        raise _bad_command("expected a line such as 'python3 $program/score.py $input $output'")
    for name, place in _PLACES:
        command = command.replace(name, place)
    for name in ("$shared", "$ingestion_program", "$submission_program"):
        if name in command:
            raise _bad_command(f"it needs {name}: an ingestion program that runs beside it, which there is not here")
    try:
        parts = tuple(shlex.split(command))
    except ValueError as error:
        raise _bad_command(f"it can't be read ({error})") from None
    if not parts or any("\0" in part for part in parts):
        raise _bad_command("it names no program")
    return parts


def _bad_command(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.BAD_FORMAT, f"The command in the scoring program's metadata: {why}.", stage=Stage.VALIDATION
    )


def _imported(
    competition: Competition, task: Task, command: Sequence[str], *, image: str | None, predictions_as: str | None
) -> Imported:
    phases = [phase for phase in competition.phases if task.index in phase.tasks]
    board = competition.board
    columns = board.columns
    if all(column.hidden for column in columns):  # a Result has a score, which its team sees
        columns = (replace(columns[0], hidden=False), *columns[1:])
    main = next(column for column in columns if not column.hidden)
    notes = [_direction(main), *_of_phases(phases)]
    if board.columns[0].hidden:
        notes.append(
            f"The first column, {board.columns[0].key!r}, is hidden in the bundle. Here {main.key!r} is the main "
            "metric, and teams see it."
        )
    spec: dict[str, Any] = {
        "timeout": max(phase.time_limit for phase in phases),
        "phases": open_phases([(phase.name, phase.start, phase.end) for phase in phases], notes),
        "quota": {
            "per_day": smallest(limit(phase.per_day) for phase in phases),
            "total": smallest(limit(phase.total) for phase in phases),
        },
        "visibility": "nothing" if board.hidden else "leaderboard",
        "leaderboard": {"choose": board.choose}
        | ({"decimals": min(board.precision, 12)} if board.precision is not None else {}),
    }
    if competition.description:
        spec["description"] = competition.description[:20_000]
    params: dict[str, Any] = {"image": image or competition.image, "timeout": max(p.time_limit for p in phases)}
    if predictions_as is not None:
        params["predictions_as"] = predictions_as
    if hidden := [column.key for column in columns if column.hidden]:
        notes.append(
            f"Hidden columns ({', '.join(hidden)}) are not in Results. Once they may be seen, set params.hidden to "
            "true (and params.main to the one that ranks) in benchmark.json, and run `autoscorer rescore`."
        )
    if task.ingestion_program is not None:
        notes.append(
            "The bundle has an ingestion program, which ran the teams' code. Here a submission is an image that writes "
            "to output/ itself what the ingestion program would have written."
        )
    left_out = list(competition.left_out)
    if task.ingestion_program is not None:
        left_out.append("the ingestion program")
    return Imported(
        platform="codabench",
        title=competition.title,
        command=command,
        columns=columns,
        main=main,
        spec=spec,
        params=params,
        notes=notes,
        left_out=left_out,
    )


def _direction(main: Column) -> str:
    better = "larger" if main.higher_is_better else "smaller"
    return (
        f"{main.key!r} ranks, and {better} is better, as the bundle says. Where the bundle is wrong, set "
        "params.higher_is_better in benchmark.json."
    )


def _of_phases(phases: Sequence[Phase]) -> list[str]:
    if len({(phase.per_day, phase.total) for phase in phases}) > 1:
        return ["The phases allow different numbers of submissions; the benchmark has one quota, the smallest."]
    return []
