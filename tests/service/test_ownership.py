"""Whose a path is: by where it lies below the roots, whatever anybody has put there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.flows.batches.expand import expand
from autoscorer.service.policy import SEVERAL, Act, Caller, Subject
from autoscorer.service.sync.adopter import Adopter
from autoscorer.service.workspaces.listing import list_workspaces
from autoscorer.service.workspaces.ownership import in_common, seen_workspace, subject_of, subject_of_item
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..support.benchmarks import rows, submit, write_benchmark
from ..support.workspaces import write_workspace

ADMIN, SUBMITTER = Caller("a", "admin"), Caller("s", "submit")
TEAM = Caller("t", "submit", team="team-a")
ORGANISER = Caller("o", "organiser", benchmarks=frozenset({"round/flowers"}))
EVERYBODY = (ADMIN, SUBMITTER, TEAM, ORGANISER)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A benchmark in a folder, with submissions of two teams, and workspaces beside it."""
    root = tmp_path / "root"
    write_workspace(root, "plain")
    (root / "round").mkdir()
    folder = write_benchmark(root / "round", "flowers")
    for team in ("team-a", "team-b"):
        submit(folder, rows("xyxx"), team=team)
    write_workspace(root / "round", "beside")
    return root


def roots_of(*paths: Path) -> WorkspaceRoots:
    return WorkspaceRoots(Settings(workspace_roots=paths))


def test_a_path_belongs_to_the_benchmark_that_it_lies_in(root: Path) -> None:
    roots = roots_of(root)
    found = {
        path: subject_of(roots, root / path)
        for path in (
            "plain", "round", "round/beside", "round/flowers", "round/flowers/input", "round/flowers/submissions",
            "round/flowers/submissions/team-a", "round/flowers/submissions/team-a/0001",
            "round/flowers/submissions/team-a/0001/output/pred.csv", "round/flowers/submissions/team-a/none",
            "round/flowers/submissions/Team A/0001", "round/flowers/.autoscorer/withheld/team-a", "no/such",
        )
    }  # fmt: skip
    nobodys, whole, of_a = Subject(), Subject("round/flowers"), Subject("round/flowers", "team-a")
    assert [*found.values()] == [
        *(nobodys, nobodys, nobodys),
        *(whole, whole, whole),
        *(of_a, of_a, of_a, of_a),
        *(whole, whole),
        nobodys,
    ]


def test_nothing_in_a_workspace_makes_a_benchmark(root: Path) -> None:
    """An archive that was uploaded may hold anything."""
    forged = root / "plain" / "x"
    (forged / "submissions" / "team-a" / "0001").mkdir(parents=True)
    (forged / "benchmark.json").write_text("{}")
    (root / "plain" / "benchmark.json").write_text("{}")
    (root / "round/flowers/submissions/team-b/0001/benchmark.json").write_text("{}")
    roots = roots_of(root)
    assert subject_of(roots, forged / "submissions" / "team-a" / "0001") == Subject()
    assert subject_of(roots, root / "plain") == Subject()
    inside = root / "round/flowers/submissions/team-b/0001/submissions/team-a/0001"
    assert subject_of(roots, inside) == Subject("round/flowers", "team-b")


def test_where_a_root_lies_in_a_benchmark_its_submissions_are_no_plain_workspaces(root: Path) -> None:
    inner = root / "round/flowers/submissions"
    assert subject_of(roots_of(inner), inner / "team-a/0001") == Subject(SEVERAL)
    assert list_workspaces(roots_of(inner), SUBMITTER, limit=9).workspaces == []
    assert len(list_workspaces(roots_of(inner), ADMIN, limit=9).workspaces) == 2
    both = roots_of(root, inner)
    # The name begins with the root's, as tokens have to name it.
    assert subject_of(both, inner / "team-a/0001") == Subject("root/round/flowers", "team-a")


def test_whoever_may_not_see_a_workspace_is_told_that_it_is_not_there(root: Path) -> None:
    roots = roots_of(root)
    # A link that somebody who may write there has made.
    (root / "link").symlink_to(root / "round/flowers/submissions/team-b/0001")
    for caller in (SUBMITTER, TEAM):
        for name in ("round/flowers/submissions/team-b/0001", "link", str(root / "link"), "round/../link"):
            with pytest.raises(AutoScorerError) as caught:
                seen_workspace(roots, name, caller, Act.SEE)
            assert caught.value.code is ErrorCode.WORKSPACE_NOT_FOUND
    with pytest.raises(AutoScorerError) as caught:
        seen_workspace(roots, "plain", TEAM, Act.SEE)
    assert caught.value.code is ErrorCode.WORKSPACE_NOT_FOUND
    with pytest.raises(AutoScorerError) as caught:
        seen_workspace(roots, "round/flowers/submissions/team-a/0001", TEAM, Act.WORK)
    assert caught.value.code is ErrorCode.FORBIDDEN
    folder, subject = seen_workspace(roots, "round/flowers/submissions/team-a/0001", TEAM, Act.SEE)
    assert folder == root / "round/flowers/submissions/team-a/0001" and subject.team == "team-a"


@pytest.mark.parametrize("limit", [1, 2, 9])
def test_a_listing_holds_what_each_may_see(root: Path, limit: int) -> None:
    roots = roots_of(root)
    own, others = (f"round/flowers/submissions/{team}/0001" for team in ("team-a", "team-b"))
    expected = {ADMIN: ["plain", "round/beside", own, others], SUBMITTER: ["plain", "round/beside"], TEAM: [own]}
    for caller, names in {**expected, ORGANISER: [own, others]}.items():
        found: list[str] = []
        cursor = None
        while True:
            page = list_workspaces(roots, caller, limit=limit, cursor=cursor)
            found += [each.name for each in page.workspaces]
            if (cursor := page.next_cursor) is None:
                break
        assert found == names, caller


def test_a_batch_works_on_a_benchmarks_submissions_only_where_it_is_told_so(root: Path) -> None:
    (root / "linked").mkdir()
    (root / "linked" / "x").symlink_to(root / "round/flowers/submissions/team-b/0001")
    submissions = sorted((root / "round/flowers/submissions").glob("*/*"))

    def found(item: str) -> list[Path]:
        return [entry.path for entry in expand([str(root / item)], [root]) if entry.is_work]

    assert found("*") == [root / "plain"]
    assert found("**") == [root / "plain", root / "round/beside"]
    assert found("round/*") == [root / "round/beside"]
    assert found("*/*/submissions/*/*") == found("round/flowers*/submissions/*/*") == found("linked") == []
    assert found("round/flowers/submissions/*/*") == submissions
    assert found("round/flowers/**") == submissions
    assert found("round/flowers/submissions/team-a") == submissions[:1]
    assert found("round/flowers/submissions/team-a/0001") == submissions[:1]


def test_what_a_batch_is_about(root: Path) -> None:
    roots = roots_of(root)
    of_a = Subject("round/flowers", "team-a")
    assert subject_of_item(roots, str(root / "round/flowers/submissions/team-a/*")) == of_a
    assert subject_of_item(roots, "round/flowers/submissions/team-a/0001") == of_a
    assert subject_of_item(roots, "round/*/submissions/team-a/*") == Subject()
    assert in_common({of_a}) == of_a
    assert in_common({of_a, Subject("round/flowers", "team-b")}) == Subject("round/flowers")
    assert in_common({of_a, Subject("dogs", "team-a")}) == in_common({of_a, Subject()}) == Subject(SEVERAL)
    assert in_common([]) == Subject()


@pytest.mark.parametrize(
    ("action", "parameters", "subject"),
    [
        ("score", {"workspace": "round/flowers/submissions/team-a/0001"}, ("round/flowers", "team-a")),
        ("score", {"workspace": "plain"}, (None, None)),
        ("batch", {"workspaces": ["round/flowers/submissions/*/*"]}, ("round/flowers", None)),
        ("batch", {"workspaces": ["round/flowers/submissions/*/*", "plain"]}, (SEVERAL, None)),
        ("batch", {"workspaces": [1, "", "a\0b", None]}, (None, None)),
        ("batch", {"workspaces": None}, (None, None)),
        ("pipeline", {"benchmark": "round/flowers", "team": "team-b"}, ("round/flowers", "team-b")),
        ("pipeline", {"benchmark": "round/flowers"}, ("round/flowers", None)),
    ],
)
def test_a_run_that_was_started_in_prefect_is_of_whoever_its_workspaces_are(
    root: Path, action: Any, parameters: dict[str, Any], subject: tuple[str | None, str | None]
) -> None:
    nobody: Any = None
    adopter = Adopter(roots_of(root), nobody, nobody, nobody, nobody)

    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(each) for each in value]
        return str(root / value) if isinstance(value, str) and value and "\0" not in value else value

    for given in (parameters, {key: value if key == "team" else absolute(value) for key, value in parameters.items()}):
        run: Any = {"id": "r", "created": "2026-11-29T00:00:00Z", "deployment_id": "d", "parameters": given}
        task = adopter._task(run, action)
        assert (task.benchmark, task.team) == subject
