"""Who may what: one function of plain values, which every route, list, link and callback asks.

A token of a *team* is for its own submissions to benchmarks, an *organiser's* for all of the benchmarks it names, a
*submitter's* for workspaces and tasks that are of no benchmark, an *admin's* for everything. What somebody may not see
is answered as if it were not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.task import Role

__all__ = [
    "EVERYTHING",
    "SEES_TRUTH",
    "SEVERAL",
    "Act",
    "Caller",
    "Scope",
    "Subject",
    "check",
    "described",
    "may",
    "scope_of",
]

# Whoever of these may see something may see the ground truth of it.
SEES_TRUTH: frozenset[Role] = frozenset({"admin", "organiser"})
# In the place of a benchmark's name, where something is of several: admins alone may see it. No benchmark is named so.
SEVERAL = "/"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Args:
        name: Is not the token, and stays the same for it.
        role: What the token may do.
        team: Of a submitter: the team that it submits for; None for one that does so for no benchmark.
        benchmarks: Of an organiser: the names of the benchmarks.
    """

    name: str
    role: Role
    team: str | None = None
    benchmarks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose a thing is; of nothing but the installation where all are None.

    Args:
        benchmark: The benchmark that it belongs to, by its name.
        team: The team whose submission it is, or is about.
        owner: The one caller who may see it beside admins, as of a job that scores one answer.
        by_others: Whether somebody else than the team asked for it: the team sees a rescoring, and does not end it.
    """

    benchmark: str | None = None
    team: str | None = None
    owner: str | None = None
    by_others: bool = False


class Act(StrEnum):
    """What somebody does to a thing."""

    # A task or workspace, what it came to, its history; a batch with its members and leaderboard.
    SEE = "see"
    # What its model wrote and its flow run told, also as events while it goes on.
    READ_LOGS = "read logs"
    # Files that its Result lists, and links to them.
    READ_ARTIFACTS = "read artifacts"
    # What tells of single rows of the ground truth: samples, complete errors, tables and reports.
    SEE_TRUTH = "see ground truth"
    # Write notes on a task; which ones somebody is shown, `service.notes` says.
    ANNOTATE = "write notes on"
    CANCEL = "cancel"
    RETRY = "retry"
    # Validate, run, score what is there; also many as a batch.
    WORK = "work on"
    # A new submission to a benchmark.
    SUBMIT = "submit to"
    TRY_SCORER = "try a scorer on"
    # A workspace of its own, outside of benchmarks.
    UPLOAD = "upload"
    # Replace or delete a workspace; load, watch, unload scorers.
    CHANGE = "change"
    SCORE_ANSWERS = "score single answers"
    READ_METRICS = "read metrics"
    # What a benchmark is about, without its ground truth and params; which scorers there are.
    DESCRIBE = "describe"


_ANYBODY = frozenset({Act.DESCRIBE})
_OF_A_TEAM = frozenset({Act.SEE, Act.READ_LOGS, Act.READ_ARTIFACTS, Act.ANNOTATE, Act.CANCEL, Act.RETRY, Act.SUBMIT})
_OF_WHOEVER_ASKED = frozenset({Act.CANCEL, Act.RETRY})
_OF_AN_ORGANISER = _OF_A_TEAM | {Act.SEE_TRUTH, Act.WORK, Act.TRY_SCORER}
_OF_A_SUBMITTER = frozenset(Act) - {Act.SEE_TRUTH, Act.SUBMIT, Act.CHANGE}


def may(caller: Caller, act: Act, subject: Subject) -> bool:
    """Whether somebody may do this to that."""
    if caller.role == "admin" or act in _ANYBODY:
        return True
    if caller.role == "organiser":
        return act in _OF_AN_ORGANISER and subject.benchmark in caller.benchmarks
    if caller.team is not None:
        is_own = subject.benchmark not in (None, SEVERAL) and subject.team == caller.team
        return is_own and act in _OF_A_TEAM and not (subject.by_others and act in _OF_WHOEVER_ASKED)
    return act in _OF_A_SUBMITTER and subject.benchmark is None and subject.owner in (None, caller.name)


def check(caller: Caller, act: Act, subject: Subject, *, hidden: AutoScorerError) -> None:
    """See that somebody may do this to that.

    Args:
        caller: Who asks.
        act: For what.
        subject: Of what.
        hidden: What is answered where there is no such thing.

    Raises:
        AutoScorerError: ``hidden`` for what the caller may not even see, else ``FORBIDDEN``.
    """
    if may(caller, act, subject):
        return
    if not may(caller, Act.SEE, subject):
        raise hidden
    hint = "" if caller.team is None else " It submits by POST /benchmarks/{name}/submissions."
    raise AutoScorerError(ErrorCode.FORBIDDEN, f"{described(caller)} may not {act} this.{hint}")


def described(caller: Caller) -> str:
    """A caller's token in words."""
    return f"A token of the team {caller.team}" if caller.team is not None else f"A token of the role {caller.role}"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which tasks somebody may see, for whoever lists many; the same as ``may`` says of each.

    Args:
        everything: All of them.
        team: Those of this team's submissions.
        benchmarks: Those of these benchmarks.
        owner: Those of no benchmark, and of jobs that score one answer this caller's.
    """

    everything: bool = False
    team: str | None = None
    benchmarks: frozenset[str] | None = None
    owner: str | None = None


EVERYTHING = Scope(everything=True)


def scope_of(caller: Caller) -> Scope:
    """Which tasks a caller may see."""
    if caller.role == "admin":
        return EVERYTHING
    if caller.role == "organiser":
        return Scope(benchmarks=caller.benchmarks)
    return Scope(team=caller.team) if caller.team is not None else Scope(owner=caller.name)
