"""The leaderboard of a benchmark: one line a team, with intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ...core.benchmark import BenchmarkFolder
from ...core.scores import read_scores
from ...core.spreadsheet import safe_cell
from ...schemas.benchmark import Benchmark, Board
from .choice import chosen

__all__ = ["COLUMNS", "board", "board_of", "history", "ladder", "to_csv", "to_markdown"]

Json = dict[str, Any]

COLUMNS = (
    "place",
    "team",
    "score",
    "low",
    "high",
    "metric",
    "number",
    "label",
    "submissions",
    "submitted_at",
    "version",
)


def board_of(
    folder: BenchmarkFolder,
    spec: Benchmark,
    *,
    private: bool = False,
    as_team: bool = False,
    version: int | None = None,
) -> list[Json]:
    """The leaderboard as it is now.

    Args:
        folder: The benchmark.
        spec: Its benchmark.json.
        private: Of the withheld part.
        as_team: As teams see it: frozen, rounded and by the Ladder where benchmark.json says so.
        version: The benchmark's version now; scores of an older one are marked.

    Returns:
        Rows with the keys ``COLUMNS`` and ``outdated``, best first.
    """
    rules = spec.leaderboard
    lines = read_scores(folder, private=private)
    if as_team and rules.freeze is not None and rules.freeze <= datetime.now(UTC):
        lines = [line for line in lines if _moment(line["at"]) < rules.freeze]
    # The Ladder guards the public score alone: the private one is told once.
    shown = rules if as_team else Board(choose=rules.choose)
    if private:
        shown = shown.model_copy(update={"margin": None})
    return board(lines, shown, chosen(folder), version=version)


def board(
    lines: Iterable[Mapping[str, Any]],
    rules: Board,
    choices: Mapping[str, int] | None = None,
    *,
    version: int | None = None,
) -> list[Json]:
    """Make a leaderboard.

    Equal scores share a place and the next one is left out: 1, 2, 2, 4; among them the earlier submission stands first.

    Args:
        lines: As ``read_scores`` gives them: of several of one submission the last one counts.
        rules: What counts, and how it is shown.
        choices: The number of the submission that a team has chosen.
        version: The benchmark's version now.
    """
    rows = []
    for team, own in sorted(_by_team(lines).items()):
        row = _row_of(team, own, rules, (choices or {}).get(team))
        if row is not None:
            row["outdated"] = version is not None and row["version"] != version
            rows.append(row)
    rows.sort(key=_order)
    for number, row in enumerate(rows, 1):
        same = number > 1 and row["score"] == rows[number - 2]["score"]
        row["place"] = rows[number - 2]["place"] if same else number
    return rows


def history(lines: Iterable[Mapping[str, Any]], team: str) -> list[Json]:
    """Every submission of a team that ended, in the order of their numbers."""
    return [dict(line) for line in _by_team(lines).get(team, [])]


def ladder(scores: Iterable[float], margin: float, *, higher_is_better: bool) -> list[float]:
    """What a team is told of its scores, one after the other, by the Ladder mechanism.

    Only an improvement of more than the margin over what was told last changes it, and then by the score rounded to
    the margin: nobody can fit the public part by asking again and again. A. Blum and M. Hardt, "The Ladder: a reliable
    leaderboard for machine learning competitions", ICML 2015, figure 1.

    Args:
        scores: In the order of the submissions.
        margin: Its step.
        higher_is_better: The metric's direction.

    Returns:
        As many as ``scores``.
    """
    told: list[float] = []
    for score in scores:
        gain = 0.0 if not told else (score - told[-1]) * (1 if higher_is_better else -1)
        told.append(round(score / margin) * margin if not told or gain > margin else told[-1])
    return told


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as CSV (RFC 4180); names that a spreadsheet would run are made safe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([safe_cell(row.get(column)) for column in COLUMNS])
    return text.getvalue()


def to_markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as a table of Markdown."""

    def cell(value: Any) -> str:
        text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")

    shown = ("place", "team", "score", "low", "high", "label", "submissions")
    lines = ["| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
    return "\n".join([*lines, *("| " + " | ".join(cell(row.get(key)) for key in shown) + " |" for row in rows)]) + "\n"


def _by_team(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    last = {(line["team"], line["number"]): line for line in lines}
    teams: dict[str, list[Mapping[str, Any]]] = {}
    for team, number in sorted(last):
        teams.setdefault(team, []).append(last[team, number])
    return teams


def _row_of(team: str, lines: list[Mapping[str, Any]], rules: Board, choice: int | None) -> Json | None:
    counted = [line for line in lines if line["score"] is not None and not line["late"]]
    if not counted:
        return None
    sign = 1 if counted[-1]["higher_is_better"] else -1
    best = max(counted, key=lambda line: (sign * line["score"], -line["number"]))
    if rules.choose == "last":
        taken = counted[-1]
    elif rules.choose == "chosen":
        taken = next((line for line in counted if line["number"] == choice), best)
    else:
        taken = best
    row = {key: taken[key] for key in ("score", "low", "high", "metric", "number", "label", "submitted_at", "version")}
    row |= {"place": 0, "team": team, "submissions": len(lines), "higher_is_better": sign > 0}
    if rules.margin is not None:
        told = ladder([line["score"] for line in counted], rules.margin, higher_is_better=sign > 0)[-1]
        # An interval, or which submission it was, would tell what the margin hides.
        row |= {"score": told, "low": None, "high": None, "number": None, "label": None, "submitted_at": None}
    if rules.decimals is not None:
        row |= {key: None if row[key] is None else round(row[key], rules.decimals) for key in ("score", "low", "high")}
    return row


def _order(row: Json) -> tuple[Any, ...]:
    return (-row["score"] if row["higher_is_better"] else row["score"], row["submitted_at"] or "", row["team"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
