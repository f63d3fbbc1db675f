"""challenge_config.yaml of an EvalAI challenge, read into what of it a benchmark has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...schemas.benchmark import Choice
from .fields import Fields

__all__ = ["Challenge", "ChallengePhase", "Label", "PhaseSplit", "parse_challenge"]

# Who sees the scores of a phase on a split: the hosts alone; they and the team itself; everybody.
HOSTS, OWNER, PUBLIC = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Label:
    """A number of the leaderboard."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class PhaseSplit:
    """What a phase gives for one split of the data."""

    codename: str
    labels: tuple[Label, ...]
    # The label that ranks.
    main: str
    visibility: int
    # Digits; None where the configuration does not say.
    precision: int | None
    latest: bool


@dataclass(frozen=True, kw_only=True)
class ChallengePhase:
    """A phase: it has an annotation file of its own."""

    codename: str
    name: str
    annotations: str
    start: datetime | None
    end: datetime | None
    per_day: int | None
    per_month: int | None
    total: int | None
    at_once: int | None
    choose: Choice
    leaderboard_public: bool
    splits: tuple[PhaseSplit, ...]


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What a benchmark can have of a challenge, and what it can't."""

    title: str
    description: str
    script: str
    anonymous: bool
    phases: tuple[ChallengePhase, ...]
    left_out: tuple[str, ...]


def parse_challenge(data: Mapping[Any, Any]) -> Challenge:
    """Read a challenge_config.yaml.

    Args:
        data: Its content.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, naming the key.
    """
    top = Fields(dict(data), "challenge_config.yaml")
    if top.flag("remote_evaluation", False):
        raise top.wrong(
            "remote_evaluation", "the hosts' own machines score this challenge, so there is no program to import"
        )
    if top.flag("is_docker_based", False):
        raise top.wrong(
            "is_docker_based",
            "teams' code and the challenge's environment talk to each other while they run, which a benchmark has "
            "nothing like",
        )
    splits = _by_id(top, "dataset_splits")
    boards = _by_id(top, "leaderboard")
    start, end = top.moment("start_date"), top.moment("end_date")
    phases = tuple(_phase(top, each, splits, boards, start, end) for each in top.each("challenge_phases"))
    if not phases:
        raise top.wrong("challenge_phases", "expected at least one phase")
    codenames = [phase.codename for phase in phases]
    if len({*codenames}) < len(codenames):
        raise top.wrong("challenge_phases", "two phases have one codename")
    return Challenge(
        title=top.text("title"),
        description=top.text("short_description", ""),
        script=top.text("evaluation_script"),
        anonymous=top.flag("anonymous_leaderboard", False),
        phases=phases,
        left_out=_left_out(top),
    )


def _by_id(top: Fields, key: str) -> dict[str, Fields]:
    found: dict[str, Fields] = {}
    for each in top.each(key):
        name = each.text("id")
        if name in found:
            raise each.wrong("id", "expected a number that no other one has")
        found[name] = each
    if not found:
        raise top.wrong(key, "expected at least one")
    return found


def _phase(
    top: Fields,
    phase: Fields,
    splits: Mapping[str, Fields],
    boards: Mapping[str, Fields],
    start: datetime | None,
    end: datetime | None,
) -> ChallengePhase:
    number = phase.text("id")
    found = tuple(
        _split(each, splits, boards)
        for each in top.each("challenge_phase_splits")
        if each.text("challenge_phase_id") == number
    )
    if not found:
        raise top.wrong("challenge_phase_splits", f"none of them is of phase {number[:60]}, so it has no leaderboard")
    if len({split.codename for split in found}) < len(found):
        raise top.wrong("challenge_phase_splits", f"phase {number[:60]} has a split twice")
    opened, closed = phase.moment("start_date"), phase.moment("end_date")
    selected = phase.flag("is_restricted_to_select_one_submission", False)
    return ChallengePhase(
        codename=phase.name("codename"),
        name=phase.text("name", "") or phase.name("codename"),
        annotations=phase.text("test_annotation_file"),
        # A phase is open while its challenge is.
        start=max((each for each in (start, opened) if each is not None), default=None),
        end=min((each for each in (end, closed) if each is not None), default=None),
        per_day=phase.count("max_submissions_per_day"),
        per_month=phase.count("max_submissions_per_month"),
        total=phase.count("max_submissions"),
        at_once=phase.count("max_concurrent_submissions_allowed"),
        choose="chosen" if selected else "last" if any(split.latest for split in found) else "best",
        leaderboard_public=phase.flag("leaderboard_public", False),
        splits=found,
    )


def _split(each: Fields, splits: Mapping[str, Fields], boards: Mapping[str, Fields]) -> PhaseSplit:
    split, board = splits.get(each.text("dataset_split_id")), boards.get(each.text("leaderboard_id"))
    if split is None:
        raise each.wrong("dataset_split_id", f"expected the id of a dataset split ({', '.join(splits)})")
    if board is None:
        raise each.wrong("leaderboard_id", f"expected the id of a leaderboard ({', '.join(boards)})")
    schema = board.below("schema")
    names = [schema.named("labels", label) for label in schema.values("labels")]
    if not names or len({*names}) < len(names):
        raise schema.wrong("labels", "expected names, each once")
    main = schema.name("default_order_by")
    if main not in names:
        raise schema.wrong("default_order_by", f"expected one of the labels ({', '.join(names)[:200]})")
    descending = each.flag("is_leaderboard_order_descending", True)
    visibility = each.count("visibility", PUBLIC)
    if visibility not in (HOSTS, OWNER, PUBLIC):
        raise each.wrong("visibility", "expected 1 (hosts), 2 (hosts and the team) or 3 (everybody)")
    return PhaseSplit(
        codename=split.name("codename"),
        labels=tuple(Label(name=name, higher_is_better=_is_better(schema, name, descending)) for name in names),
        main=main,
        visibility=visibility,
        precision=each.count("leaderboard_decimal_precision"),
        latest=each.flag("show_leaderboard_by_latest_submission", False),
    )


def _is_better(schema: Fields, label: str, descending: bool) -> bool:
    """Whether larger is better, as EvalAI reads it: what the metadata of a label say comes before the split's order."""
    if "metadata" not in schema or label not in (metadata := schema.below("metadata")):
        return descending
    return not metadata.below(label).flag("sort_ascending", True)


def _left_out(top: Fields) -> tuple[str, ...]:
    found = ["the pages (description, evaluation details, terms, guidelines), which the platform shows"]
    for each in top.each("challenge_phases"):
        name = each.text("name", "")
        if each.values("submission_meta_attributes"):
            found.append(f"submission_meta_attributes of phase {name!r}, which teams fill in")
        if each.values("allowed_email_ids"):
            found.append(f"allowed_email_ids of phase {name!r}: tokens say who may submit")
        if not each.flag("is_public", True):
            found.append(f"that phase {name!r} is not public")
    return tuple(dict.fromkeys(found))
