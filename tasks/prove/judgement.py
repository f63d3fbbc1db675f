"""Whether an attack was held off: pure functions of what it answered, and of what is true outside."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "Facts",
    "Judge",
    "NotTried",
    "Outcome",
    "State",
    "core_dumps_are_off",
    "ends_with",
    "first_process_may_no_more",
    "has_no_capability",
    "is_filtered",
    "is_not_root",
    "job_is_silent",
    "judged",
    "no_program_gains",
    "no_secret",
    "nothing",
    "nothing_of_the_other",
    "only",
    "outcome",
    "reaches_nobody",
    "refused",
    "tells_no_workspace",
    "within",
]

# How a call is refused that the profile does not let through, or that is not there.
_REFUSED = frozenset({errno.EPERM, errno.ENOSYS})
# What of a network says that no packet left. A refusal comes from somebody, but for that of one's own loopback.
_NO_WAY = frozenset({"ENETUNREACH", "EHOSTUNREACH", "EACCES", "EPERM", "EADDRNOTAVAIL", "EAFNOSUPPORT", "ENETDOWN"})
# How long two models must have run at once for it to count.
_TOGETHER = 1.0


class State(StrEnum):
    """What a cell of the matrix says."""

    HELD = "held"
    NOT_HELD = "not held"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Outcome:
    """One cell of the matrix.

    Args:
        state: What came of it.
        why: What was reached, or why it was not tried; empty where it was held.
    """

    state: State
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is true outside of the model.

    Args:
        truth: Text of the ground truth that nothing else has.
        planted: Text that lies in a file and in the environment outside.
        workspace: The name of the workspace's folder.
        threshold: A number among the scorer's params.
        nofile: How many files a process may have open.
        closed_by_rules: Whether packets are dropped on their way, and interfaces are there.
    """

    truth: str
    planted: str
    workspace: str
    threshold: float
    nofile: int
    closed_by_rules: bool = False


class NotTried(Exception):
    """The attack said nothing that could be judged; ``str()`` says why."""


Judge = Callable[[Any, Facts], str]
"""From an answer and the facts to what was reached; an empty text where it was held. May raise ``NotTried``."""


def outcome(said: Mapping[str, Any] | None, judge: Judge, facts: Facts, *, silence_holds: bool = False) -> Outcome:
    """Judge one attack.

    Args:
        said: What ``inside.main`` wrote of it: its answer, or how it ended without one; None when it said nothing.
        judge: The attack's judge.
        facts: What is true outside.
        silence_holds: Whether no answer in time is as good as a refusal.
    """
    if said is None:
        return Outcome(State.NOT_TRIED, "the attack did not run")
    if "hung" in said:
        if silence_holds:
            return Outcome(State.HELD)
        return Outcome(State.NOT_TRIED, f"it said nothing within {said['hung']:g} s")
    if "died" in said:
        return Outcome(State.NOT_TRIED, f"the attack was ended by signal {said['died']}")
    if "failed" in said or "answer" not in said:
        return Outcome(State.NOT_TRIED, f"the attack failed: {said.get('failed', 'no answer')}")
    return judged(said["answer"], judge, facts)


def judged(answer: Any, judge: Judge, facts: Facts) -> Outcome:
    """Judge an answer."""
    try:
        why = judge(answer, facts)
    except NotTried as reason:
        return Outcome(State.NOT_TRIED, str(reason))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        return Outcome(State.NOT_TRIED, f"what it answered can't be judged: {error!r}")
    return Outcome(State.NOT_HELD, why) if why else Outcome(State.HELD)


def nothing(answer: Any, facts: Facts) -> str:
    """Nothing was reached: the answer is an empty list."""
    return _named(_texts(answer))


def only(*allowed: str) -> Judge:
    """Nothing was reached but what is named."""

    def judge(answer: Any, facts: Facts) -> str:
        return _named([each for each in _texts(answer) if each not in allowed])

    return judge


def no_secret(answer: Any, facts: Facts) -> str:
    """Neither the ground truth nor what was planted outside was read."""
    found = _texts(answer["found"])
    if answer.get("searched") == 0:
        raise NotTried("there was no file to search")
    names = [name for name in answer.get("names", ()) if name.startswith(("AUTOSCORER_", "SCORE_API_TOKEN"))]
    names = [name for name in names if name != "AUTOSCORER_WORKSPACE"]
    if facts.truth in found:
        return "the ground truth was read"
    if facts.planted in found:
        return "a secret from outside was read"
    return _named(names)


def tells_no_workspace(answer: Any, facts: Facts) -> str:
    """No line names the workspace."""
    lines = _texts(answer)
    if not lines:
        raise NotTried("the kernel told of no mounts")
    return _named([line for line in lines if facts.workspace in line][:1])


def job_is_silent(answer: Any, facts: Facts) -> str:
    """The model's meta.json names neither the scorer nor its params."""
    if not answer:
        raise NotTried("it has no meta.json")
    told = json.loads(answer)
    found = [key for key in ("scorer", "params", "scorer_params", "benchmark") if key in told]
    return _named(found + (["a param's value"] if str(facts.threshold) in answer else []))


def refused(*also: int) -> Judge:
    """Every call was refused as one that is not let through.

    Args:
        also: Errors that are a refusal of these calls as well.
    """

    def judge(answer: Any, facts: Facts) -> str:
        if not answer:
            raise NotTried("the numbers of system calls are known for x86_64 and aarch64 only")
        reached = {name: code for name, code in answer.items() if code not in {*_REFUSED, *also}}
        return _named(
            f"{name} ({errno.errorcode.get(code, code) if code else 'granted'})" for name, code in reached.items()
        )

    return judge


def reaches_nobody(answer: Any, facts: Facts) -> str:
    """No connection was made, and no packet left."""
    if not answer:
        raise NotTried("nothing was called")
    found = []
    for address, came in answer.items():
        own = address.startswith("127.") and came == "ECONNREFUSED"
        dropped = facts.closed_by_rules and came in ("timeout", "ETIMEDOUT", "ECONNREFUSED", "sent")
        if not (came in _NO_WAY or own or dropped):
            found.append(f"{address} ({came})")
    return _named(found)


def is_not_root(answer: Any, facts: Facts) -> str:
    """No user or group of it is 0."""
    return "it is root" if 0 in answer["uids"] else "it is in root's group" if 0 in answer["gids"] else ""


def has_no_capability(answer: Any, facts: Facts) -> str:
    """Every set is empty."""
    if "CapEff" not in answer:
        raise NotTried("the kernel does not tell")
    return _named(f"{name} {value}" for name, value in answer.items() if int(value, 16))


def is_filtered(answer: Any, facts: Facts) -> str:
    """No program gives new rights, and system calls go through a filter."""
    found = [] if answer["no_new_privs"] == 1 else ["programs can give new rights (no_new_privs is not set)"]
    found += [] if answer["seccomp"] == 2 else ["system calls are not filtered"]
    return _named(found)


def no_program_gains(answer: Any, facts: Facts) -> str:
    """No program ran as its owner."""
    ran = [one for one in answer if one["uid"] is not None]
    if not ran:
        raise NotTried("its system has no setuid program that it may run")
    return _named(f"{one['path']} ran as {one['uid']}" for one in ran if one["uid"] == 0)


def first_process_may_no_more(answer: Any, facts: Facts) -> str:
    """The namespace's first process can't be reached, or may no more than the model does."""
    if not answer["reached"]:
        return ""
    first, own = answer["rights"]
    more = [name for name in ("CapPrm", "CapEff") if int(first.get(name, "0"), 16) & ~int(own.get(name, "0"), 16)]
    # Fewer locks than the model's own are more rights.
    more += [name for name in ("NoNewPrivs", "Seccomp") if int(first.get(name, 0)) < int(own.get(name, 0))]
    more += [f"another namespace ({name})" for name in answer["other_spaces"]]
    more += ["user"] if first.get("Uid") != own.get("Uid") else []
    # A folder of another root that is open is a way out.
    more += [f"{path}, which it holds open" for path in _texts(answer["files"])]
    if more:
        return f"process 1 can be taken over ({', '.join(answer['reached'])}), and has more: {', '.join(more)}"
    if int(own.get("CapEff", "0"), 16):
        return f"process 1 can be taken over ({', '.join(answer['reached'])}), and the model has capabilities"
    return ""


def core_dumps_are_off(answer: Any, facts: Facts) -> str:
    """Their size is 0, and can't be raised."""
    return "" if answer == [0, 0] else f"a core dump may have {answer} bytes"


def within(answer: Any, facts: Facts) -> str:
    """No more files were open than may be."""
    return f"{answer:,} files were open at once" if answer > facts.nofile else ""


def ends_with(code: str, *resources: str) -> Judge:
    """The run ended with an error of the catalogue, for one of these resources."""

    def judge(answer: Any, facts: Facts) -> str:
        got, resource = answer["code"], answer.get("resource")
        if got == code and (not resources or resource in resources):
            return ""
        if got is None:
            return "it took all that it wanted" if resources else "it ended well"
        wanted = f"{code} ({' or '.join(resources)})" if resources else code
        return f"it ended as {got}{f' ({resource})' if resource else ''} instead of {wanted}"

    return judge


def nothing_of_the_other(answer: Any, facts: Facts) -> str:
    """Two models that ran at once saw nothing of each other."""
    if answer["together"] < _TOGETHER:
        raise NotTried(answer.get("why") or "the two did not run at the same time")
    return _named(_texts(answer["seen"]))


def _texts(answer: Any) -> list[str]:
    if not isinstance(answer, list) or not all(isinstance(each, str) for each in answer):
        raise ValueError(f"expected a list of texts, got {str(answer)[:100]}")
    return answer


def _named(found: Collection[str] | Any) -> str:
    """What was reached, as a few words."""
    texts = [re.sub(r"\s+", " ", str(each))[:160] for each in found]
    more = f" and {len(texts) - 6} more" if len(texts) > 6 else ""
    return ", ".join(texts[:6]) + more
