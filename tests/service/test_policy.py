"""Who may what: every kind of caller with every kind of thing, and what a list holds."""

from __future__ import annotations

import asyncio
from typing import Any, get_args
from uuid import uuid4

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import Role, TaskState
from autoscorer.service.ledger.records import Place, TaskFilter
from autoscorer.service.ledger.sqlite import SqliteDatabase
from autoscorer.service.policy import SEVERAL, Act, Caller, Subject, check, may, scope_of
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ..support.ledger import new, opened

ADMIN = Caller("admin-1", "admin")
SUBMITTER = Caller("submit-1", "submit")
TEAM = Caller("submit-2", "submit", team="a")
ORGANISER = Caller("organiser-1", "organiser", benchmarks=frozenset({"flowers", "round-1/cats"}))

WORKSPACE = Subject()
OWN_JOB, OTHERS_JOB = Subject(owner="submit-1"), Subject(owner="submit-9")
OF_TEAM_A, OF_TEAM_B = Subject("flowers", "a"), Subject("flowers", "b")
RESCORING = Subject("flowers", "a", by_others=True)
BENCHMARK = Subject("flowers")
ELSEWHERE, NAMED_ALIKE = Subject("dogs", "a"), Subject("flowers-2", "a")
OF_MANY = Subject(SEVERAL)

READING = {Act.SEE, Act.READ_LOGS, Act.READ_ARTIFACTS, Act.ANNOTATE, Act.DESCRIBE}
TEAMS = READING | {Act.CANCEL, Act.RETRY, Act.SUBMIT}
ORGANISERS = TEAMS | {Act.SEE_TRUTH, Act.WORK, Act.TRY_SCORER}
SUBMITTERS = READING | {
    Act.CANCEL,
    Act.RETRY,
    Act.WORK,
    Act.TRY_SCORER,
    Act.UPLOAD,
    Act.SCORE_ANSWERS,
    Act.READ_METRICS,
}
NOTHING = {Act.DESCRIBE}

# Who, with what: everything that they may do, and nothing else.
CASES = [
    *((ADMIN, each, set(Act)) for each in (WORKSPACE, OTHERS_JOB, OF_TEAM_A, RESCORING, BENCHMARK, OF_MANY)),
    (SUBMITTER, WORKSPACE, SUBMITTERS),
    (SUBMITTER, OWN_JOB, SUBMITTERS),
    (SUBMITTER, OTHERS_JOB, NOTHING),
    *((SUBMITTER, each, NOTHING) for each in (OF_TEAM_A, RESCORING, BENCHMARK, ELSEWHERE, OF_MANY)),
    (TEAM, OF_TEAM_A, TEAMS),
    (TEAM, RESCORING, TEAMS - {Act.CANCEL, Act.RETRY}),
    (TEAM, ELSEWHERE, TEAMS),  # its own submission to another benchmark
    *((TEAM, each, NOTHING) for each in (OF_TEAM_B, BENCHMARK, OF_MANY, WORKSPACE, OTHERS_JOB, Subject(None, "a"))),
    (TEAM, Subject(SEVERAL, "a"), NOTHING),
    (TEAM, Subject(owner="submit-2"), NOTHING),
    *((ORGANISER, each, ORGANISERS) for each in (OF_TEAM_A, OF_TEAM_B, RESCORING, BENCHMARK)),
    (ORGANISER, Subject("round-1/cats"), ORGANISERS),
    *((ORGANISER, each, NOTHING) for each in (ELSEWHERE, NAMED_ALIKE, WORKSPACE, OWN_JOB, OF_MANY, Subject("round-1"))),
    (Caller("organiser-2", "organiser"), BENCHMARK, NOTHING),
    (Caller("organiser-2", "organiser"), WORKSPACE, NOTHING),
]


@pytest.mark.parametrize(("caller", "subject", "acts"), CASES)
def test_who_may_what(caller: Caller, subject: Subject, acts: set[Act]) -> None:
    assert {act for act in Act if may(caller, act, subject)} == acts


def test_what_may_not_be_seen_is_not_there() -> None:
    hidden = AutoScorerError(ErrorCode.NOT_FOUND, "There is no such thing.")
    for caller, subject in ((TEAM, OF_TEAM_B), (SUBMITTER, OF_TEAM_A), (ORGANISER, ELSEWHERE), (TEAM, WORKSPACE)):
        with pytest.raises(AutoScorerError) as caught:
            check(caller, Act.CANCEL, subject, hidden=hidden)
        assert caught.value is hidden
    with pytest.raises(AutoScorerError, match="A token of the team a may not cancel this") as caught:
        check(TEAM, Act.CANCEL, RESCORING, hidden=hidden)
    assert caught.value.code is ErrorCode.FORBIDDEN
    check(TEAM, Act.CANCEL, OF_TEAM_A, hidden=hidden)


names = st.sampled_from([None, "flowers", "dogs", "round-1/cats", SEVERAL])
teams = st.sampled_from([None, "a", "b"])
callers = st.one_of(
    st.builds(Caller, st.just("c"), st.sampled_from(get_args(Role))),
    st.builds(Caller, st.just("c"), st.just("submit"), teams),
    st.builds(
        Caller,
        st.just("c"),
        st.just("organiser"),
        st.none(),
        st.frozensets(st.sampled_from(["flowers", "dogs", "round-1/cats"])),
    ),
)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(caller=callers, tasks=st.lists(st.tuples(names, teams, st.booleans(), st.sampled_from(["c", "d"])), max_size=8))
def test_a_list_holds_what_may_be_seen_and_counts_nothing_else(
    settings: Settings, caller: Caller, tasks: list[tuple[str | None, str | None, bool, str]]
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            known = []
            # By which these tasks are told from those of other examples.
            scorer = str(uuid4())
            for benchmark, team, is_job, asker in tasks:
                action = "rag-score" if is_job else "score"
                task = new(f"/{uuid4()}", action, caller=asker, benchmark=benchmark, team=team, scorer=scorer)
                known.append((await ledger.add(task))[0])
            seen = sorted(row.id for row in known if may(caller, Act.SEE, row.subject_of))
            wanted = TaskFilter(scorers=(scorer,), scope=scope_of(caller))
            rows, total, *_ = await ledger.page(wanted, None, 100)
            assert [row.id for row, _ in rows] == seen[::-1] and total == len(seen)
            # By pages of one, with what is counted before each.
            after: Place | None = None
            for number, task_id in enumerate(seen[::-1]):
                (row,), *counted, after = await ledger.page(wanted, after, 1)
                assert (row[0].id, counted) == (task_id, [total, number])
            assert after is None

    asyncio.run(work())


@pytest.mark.parametrize(("caller", "index"), [(TEAM, "by_team"), (ORGANISER, "by_benchmark")])
def test_a_list_looks_at_nothing_but_what_may_be_seen(settings: Settings, caller: Caller, index: str) -> None:
    """However many tasks others have: an index leads to one's own, the newest first."""

    async def work() -> None:
        async with opened(settings) as ledger:
            asked: list[str] = []
            assert isinstance(ledger._database, SqliteDatabase)
            scanner: Any = ledger._database._scanner.connection.dbapi_connection
            scanner.set_trace_callback(asked.append)
            # An organiser's tasks of one state are looked for among all of that state.
            for states in ((), (TaskState.QUEUED,))[: 1 if caller is ORGANISER else 2]:
                await ledger.page(TaskFilter(states=states, scope=scope_of(caller)), Place(None, "f" * 32), 10)
            scanner.set_trace_callback(None)
            for statement in asked:
                plan = [str(each[3]) for each in scanner.execute("EXPLAIN QUERY PLAN " + statement)]
                assert any(f"USING INDEX {index}" in step or f"COVERING INDEX {index}" in step for step in plan), plan
                assert not any(step.startswith("SCAN tasks") for step in plan), plan
                # Of several benchmarks the newest are sorted out; of a team they come in order.
                assert caller is ORGANISER or not any("TEMP B-TREE" in step for step in plan), plan

    asyncio.run(work())
