"""Who judges an attack of ``doctor --prove``: a table of answers, and what is asked of the attacks themselves."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from autoscorer.executors.backends import BACKENDS
from autoscorer.tasks.prove import judgement as judges
from autoscorer.tasks.prove.attacks import ATTACKS, EVERYTHING, NEIGHBOURS
from autoscorer.tasks.prove.column import Column
from autoscorer.tasks.prove.inside import files
from autoscorer.tasks.prove.inside.kernel import CALLS
from autoscorer.tasks.prove.inside.limits import LIMITS
from autoscorer.tasks.prove.inside.main import find
from autoscorer.tasks.prove.judgement import Facts, Judge, Outcome, State, judged, outcome
from autoscorer.tasks.prove.matrix import Proof
from hypothesis import given
from hypothesis import strategies as st

FACTS = Facts(
    truth="PROVE-TRUTH-0123456789abcdef",
    planted="PROVE-HOST-0123456789abcdef",
    workspace="ws-0123",
    threshold=0.53125,
    nofile=1024,
)
HELD, NOT_HELD, NOT_TRIED = State.HELD, State.NOT_HELD, State.NOT_TRIED
PROCESS = {"Uid": "7\t7\t7\t7", "CapPrm": "0", "CapEff": "0", "NoNewPrivs": "1", "Seccomp": "2"}


def job(**keys: Any) -> str:
    return json.dumps({"task_type": "classification", **keys})


def first(
    reached: list[str], spaces: tuple[str, ...] = (), files: tuple[str, ...] = (), **rights: str
) -> dict[str, Any]:
    return {
        "reached": reached,
        "rights": [{**PROCESS, **rights}, PROCESS],
        "other_spaces": [*spaces],
        "files": [*files],
    }


TABLE: list[tuple[Judge, Any, State, str]] = [
    (judges.nothing, [], HELD, ""),
    (judges.nothing, ["/etc/shadow"], NOT_HELD, "/etc/shadow"),
    (judges.nothing, [str(number) for number in range(9)], NOT_HELD, "and 3 more"),
    (judges.nothing, {"not": "a list"}, NOT_TRIED, "can't be judged"),
    (judges.nothing, None, NOT_TRIED, "can't be judged"),
    (judges.only("lo"), ["lo"], HELD, ""),
    (judges.only("lo"), [], HELD, ""),
    (judges.only("lo"), ["eth0", "lo"], NOT_HELD, "eth0"),
    (judges.no_secret, {"found": [], "searched": 9}, HELD, ""),
    (judges.no_secret, {"found": [], "searched": 0}, NOT_TRIED, "no file to search"),
    (judges.no_secret, {"found": [FACTS.truth], "searched": 9}, NOT_HELD, "ground truth"),
    (judges.no_secret, {"found": [FACTS.planted], "names": []}, NOT_HELD, "secret"),
    # Another proof on this machine, in a folder that everybody may read, is not this one's.
    (judges.no_secret, {"found": ["PROVE-TRUTH-ffffffffffffffff"], "searched": 9}, HELD, ""),
    (judges.no_secret, {"found": [], "names": ["AUTOSCORER_WORKSPACE", "PATH"]}, HELD, ""),
    (judges.no_secret, {"found": [], "names": ["AUTOSCORER_API_TOKEN"]}, NOT_HELD, "AUTOSCORER_API_TOKEN"),
    (judges.tells_no_workspace, ["1 2 8:1 /var/tmp/autoscorer-1/output /workspace/output rw"], HELD, ""),
    (judges.tells_no_workspace, ["1 2 8:1 /srv/a-ws-0123/input /workspace/input ro"], NOT_HELD, "/srv/a-ws-0123"),
    (judges.tells_no_workspace, [], NOT_TRIED, "no mounts"),
    (judges.job_is_silent, job(), HELD, ""),
    (judges.job_is_silent, job(scorer="f1"), NOT_HELD, "scorer"),
    (judges.job_is_silent, job(params={}), NOT_HELD, "params"),
    (judges.job_is_silent, job(labels={"x": 0.53125}), NOT_HELD, "a param's value"),
    (judges.job_is_silent, "", NOT_TRIED, "no meta.json"),
    (judges.job_is_silent, "{", NOT_TRIED, "can't be judged"),
    (judges.refused(), {"bpf": errno.EPERM, "keyctl": errno.ENOSYS}, HELD, ""),
    (judges.refused(), {"bpf": errno.EINVAL}, NOT_HELD, "bpf (EINVAL)"),
    (judges.refused(), {"userfaultfd": 0}, NOT_HELD, "userfaultfd (granted)"),
    (judges.refused(), {}, NOT_TRIED, "numbers"),
    (judges.refused(errno.ENOSPC), {"unshare": errno.ENOSPC}, HELD, ""),
    (judges.refused(), {"unshare": errno.ENOSPC}, NOT_HELD, "ENOSPC"),
    (judges.reaches_nobody, {"127.0.0.1:9": "ECONNREFUSED", "192.0.2.1:80": "ENETUNREACH"}, HELD, ""),
    (judges.reaches_nobody, {"127.0.0.1:9": "connected"}, NOT_HELD, "127.0.0.1:9 (connected)"),
    # Somebody refused, so somebody was reached; or nobody answered, and a packet left.
    (judges.reaches_nobody, {"192.0.2.1:80": "ECONNREFUSED"}, NOT_HELD, "ECONNREFUSED"),
    (judges.reaches_nobody, {"192.0.2.1:80": "timeout"}, NOT_HELD, "timeout"),
    (judges.reaches_nobody, {"udp 192.0.2.1": "sent"}, NOT_HELD, "sent"),
    (judges.reaches_nobody, {}, NOT_TRIED, "nothing was called"),
    (judges.is_not_root, {"uids": [7, 7, 7], "gids": [7]}, HELD, ""),
    (judges.is_not_root, {"uids": [7, 7, 0], "gids": [7]}, NOT_HELD, "it is root"),
    (judges.is_not_root, {"uids": [7, 7, 7], "gids": [7, 0]}, NOT_HELD, "root's group"),
    (judges.has_no_capability, {"CapEff": "0000000000000000", "CapBnd": "0000000000000000"}, HELD, ""),
    (judges.has_no_capability, {"CapEff": "0000000000000000", "CapBnd": "00000000a80425fb"}, NOT_HELD, "CapBnd"),
    (judges.has_no_capability, {}, NOT_TRIED, "does not tell"),
    (judges.is_filtered, {"no_new_privs": 1, "seccomp": 2}, HELD, ""),
    (judges.is_filtered, {"no_new_privs": 0, "seccomp": 2}, NOT_HELD, "no_new_privs"),
    (judges.is_filtered, {"no_new_privs": 1, "seccomp": 0}, NOT_HELD, "not filtered"),
    (judges.no_program_gains, [{"path": "/bin/su", "uid": 7}], HELD, ""),
    (judges.no_program_gains, [{"path": "/bin/su", "uid": 0}], NOT_HELD, "/bin/su ran as 0"),
    (judges.no_program_gains, [{"path": "/bin/su", "uid": None}], NOT_TRIED, "no setuid program"),
    (judges.no_program_gains, [], NOT_TRIED, "no setuid program"),
    (judges.first_process_may_no_more, first([], CapEff="1ff"), HELD, ""),
    (judges.first_process_may_no_more, first(["ptrace"]), HELD, ""),
    (judges.first_process_may_no_more, first(["ptrace"], CapEff="1ff"), NOT_HELD, "CapEff"),
    (judges.first_process_may_no_more, first(["ptrace"], Seccomp="0"), NOT_HELD, "Seccomp"),
    (judges.first_process_may_no_more, first(["ptrace"], NoNewPrivs="0"), NOT_HELD, "NoNewPrivs"),
    (judges.first_process_may_no_more, first(["ptrace"], Uid="0\t0\t0\t0"), NOT_HELD, "user"),
    (judges.first_process_may_no_more, first(["ptrace"], ("mnt",)), NOT_HELD, "another namespace (mnt)"),
    (judges.first_process_may_no_more, first(["ptrace"], files=("/srv",)), NOT_HELD, "/srv"),
    (judges.core_dumps_are_off, [0, 0], HELD, ""),
    (judges.core_dumps_are_off, [0, -1], NOT_HELD, "-1"),
    (judges.within, 1024, HELD, ""),
    (judges.within, 1025, NOT_HELD, "1,025"),
    (judges.ends_with("RESOURCE_ERROR", "disk"), {"code": "RESOURCE_ERROR", "resource": "disk"}, HELD, ""),
    (judges.ends_with("RESOURCE_ERROR", "disk"), {"code": "RESOURCE_ERROR", "resource": "memory"}, NOT_HELD, "memory"),
    (judges.ends_with("RESOURCE_ERROR", "disk"), {"code": None}, NOT_HELD, "took all"),
    (judges.ends_with("TIMEOUT_ERROR"), {"code": "TIMEOUT_ERROR"}, HELD, ""),
    (judges.ends_with("TIMEOUT_ERROR"), {"code": "CONTAINER_FAILED"}, NOT_HELD, "instead of TIMEOUT_ERROR"),
    (judges.ends_with("TIMEOUT_ERROR"), {"code": None}, NOT_HELD, "ended well"),
    (judges.nothing_of_the_other, {"together": 2.0, "seen": []}, HELD, ""),
    (judges.nothing_of_the_other, {"together": 2.0, "seen": ["its socket"]}, NOT_HELD, "its socket"),
    (judges.nothing_of_the_other, {"together": 0.2, "seen": []}, NOT_TRIED, "same time"),
    (judges.nothing_of_the_other, {"together": 0.0, "seen": [], "why": "X: no room"}, NOT_TRIED, "X: no room"),
]


@pytest.mark.parametrize(
    ("judge", "answer", "state", "why"),
    TABLE,
    ids=[f"{re.sub('.<locals>.judge', '', row[0].__qualname__)}-{number}" for number, row in enumerate(TABLE)],
)
def test_the_table_of_judgements(judge: Judge, answer: Any, state: State, why: str) -> None:
    done = judged(answer, judge, FACTS)
    assert done.state is state and why in done.why and (done.why == "") == (state is HELD)


@pytest.mark.parametrize("came", ["timeout", "ECONNREFUSED", "sent"])
def test_where_rules_close_the_network_packets_are_dropped_on_their_way(came: str) -> None:
    facts = replace(FACTS, closed_by_rules=True)
    assert judged({"192.0.2.1:80": came}, judges.reaches_nobody, facts).state is HELD
    assert judged({"192.0.2.1:80": "connected"}, judges.reaches_nobody, facts).state is NOT_HELD


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "did not run"),
        ({"hung": 12}, "said nothing within 12 s"),
        ({"died": 9}, "signal 9"),
        ({"failed": "OSError: x"}, "OSError: x"),
        ({}, "no answer"),
    ],
)
def test_an_attack_that_says_nothing_proves_nothing(said: Any, why: str) -> None:
    done = outcome(said, judges.nothing, FACTS)
    assert done.state is NOT_TRIED and why in done.why


def test_a_name_that_nobody_answers_for_is_not_resolved() -> None:
    assert outcome({"hung": 12}, judges.nothing, FACTS, silence_holds=True).state is HELD
    assert outcome({"died": 9}, judges.nothing, FACTS, silence_holds=True).state is NOT_TRIED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["found", "uids", "gids", "code", "seen", "together", "CapEff", "reached", "rights", "uid"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(answer=JSON)
def test_no_answer_makes_a_judge_fail(answer: Any) -> None:
    for attack in ATTACKS:
        done = judged(answer, attack.judge, FACTS)
        assert isinstance(done, Outcome) and (done.why == "") == (done.state is HELD)


def test_every_attack_has_its_code_and_its_sentence() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    for attack in ATTACKS:
        if attack.run == EVERYTHING:
            assert callable(find(attack.tries))
        elif attack.run != NEIGHBOURS:
            assert attack.tries in LIMITS
        assert set(attack.asks) <= CALLS.keys()
        assert attack.promise.endswith(".") and attack.promise.count(". ") == 0
        assert attack.unpromised <= {*BACKENDS}


def test_every_call_and_every_limit_is_tried() -> None:
    assert {name for attack in ATTACKS for name in attack.asks} == CALLS.keys()
    assert {attack.tries for attack in ATTACKS if attack.run not in (EVERYTHING, NEIGHBOURS)} == LIMITS.keys()


def test_the_search_for_the_ground_truth_looks_first_where_something_changed_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files somebody's packages have: the search has its seconds."""
    for number in range(50):
        (package := tmp_path / f"a/p{number}").mkdir(parents=True)
        (package / "module.py").touch()
        os.utime(package, (1, 1))
    os.utime(tmp_path / "a", (1, 1))
    (late := tmp_path / "z/y/x/ws/input").mkdir(parents=True)
    (late / "gt.csv").write_text(FACTS.truth)
    monkeypatch.setattr(files, "_SEARCHED", (str(tmp_path / "no"), str(tmp_path)))
    assert next(iter(files._files((str(tmp_path),)))) == str(late / "gt.csv")
    monkeypatch.setenv("AUTOSCORER_WORKSPACE", str(tmp_path / "nothing"))
    answer = files.ground_truth({"workspace": "/nowhere"})
    assert answer["found"] == [FACTS.truth] and answer["searched"] == 51


@pytest.mark.parametrize(
    ("backend", "counts", "attack", "broken"),
    [
        ("docker", True, "interfaces", True),
        # docs/sealed-run.md says that a pod always has one.
        ("kubernetes", True, "interfaces", False),
        ("kubernetes", True, "network", True),
        ("process", False, "network", False),
        ("process", True, "network", True),
    ],
)
def test_what_is_not_promised_does_not_count(backend: str, counts: bool, attack: str, broken: bool) -> None:
    column = Column(backend, "", counts=counts, outcomes={attack: Outcome(NOT_HELD, "why")})
    assert Proof((column,), frozenset()).holds is not broken
    (row,) = [row for row in Proof((column,), frozenset()).to_dict()["attacks"] if row["outcomes"]]
    assert row["outcomes"] == {backend: {"state": "not held", "why": "why", "promised": broken}}
