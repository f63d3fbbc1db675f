"""The scorer file of an imported benchmark: a few lines that say which program scores, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.text import escape
from ..programs.columns import Column

__all__ = ["scorer_source"]

_SOURCE = '''\
"""Scores the submissions of an imported benchmark by its own scoring program, which is run sealed.

Written by `autoscorer benchmark import {platform}`. The program lies in input/gt_program of the benchmark, and no other
one is run: to change it, change the bundle and import it again.
"""

from autoscorer.scorers.registry import register
from autoscorer.tasks.programs import Column, ProgramScorer


@register({scorer_id})
class ImportedScorer(ProgramScorer):
    """{title}"""

    name = {scorer_id}
    version = "1.0.0"
    description = {description}
    metric = {metric}
    higher_is_better = {higher_is_better}
    command = {command}
    columns = (
{columns}    )
    program_sha256 = {program_sha256}
'''


def scorer_source(
    *,
    scorer_id: str,
    platform: str,
    title: str,
    command: Sequence[str],
    columns: Sequence[Column],
    main: Column,
    program_sha256: str,
) -> str:
    """The file's content. Every text of a stranger stands in it as a literal of Python.

    Args:
        scorer_id: The scorer's id.
        platform: Where the benchmark came from.
        title: Of the competition.
        command: Of the scoring program.
        columns: The leaderboard's.
        main: The column that ranks.
        program_sha256: Of the scoring program.
    """
    shown = escape(title).replace("\\", " ").replace('"', "'")[:100]
    return _SOURCE.format(
        platform=platform,
        scorer_id=ascii(scorer_id),
        title=shown or scorer_id,
        description=ascii(f"The scoring program of {title[:100]}, run sealed."),
        metric=ascii(main.key),
        higher_is_better=main.higher_is_better,
        command=ascii(tuple(command)),
        columns="".join(f"        {_column(column)},\n" for column in columns),
        program_sha256=ascii(program_sha256),
    )


def _column(column: Column) -> str:
    parts = [f"key={column.key!a}", f"higher_is_better={column.higher_is_better}"]
    if column.hidden:
        parts.append("hidden=True")
    if column.computation is not None:
        parts += [f"computation={column.computation!a}", f"of={column.of!a}"]
    return f"Column({', '.join(parts)})"
