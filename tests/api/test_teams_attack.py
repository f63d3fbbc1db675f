"""A token tries to reach what is another team's, by every address there is: it is answered as if that were not there.

Nobody but the asker's own words tells what there is: an answer about a hidden thing is the same as one about a thing
that is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from autoscorer.api.app import create_app
from autoscorer.core.config import Settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ..support.benchmarks import rows, write_benchmark
from ..support.calls import Answer
from ..support.examples import examples
from ..support.module_home import home as home
from ..support.teams import Benches, serving
from ..support.workspaces import write_workspace

# What stands in the other team's things alone.
MARKS = ("WORDS-OF-TEAM-A", "LINE-OF-TEAM-A", "SECRET-OF-TEAM-A", "TRUTH-OF-FLOWERS", "NOTE-OF-TEAM-A")
TRUTH = "id,label\na,x\nb,y\nc,TRUTH-OF-FLOWERS\nd,y\n"
NOT_THERE = "01a22999-3ce1-72c0-81ae-fbec794b3031".replace("-", "")
# Who must not reach team A's submission to flowers.
STRANGERS = ("team-b", "dogs", "submit")


class Things(NamedTuple):
    """The other team's, or such as are not there."""

    task: str
    batch: str
    workspace: str
    signature: str
    history: str
    job: str
    note: str
    member: str


class Scene(NamedTuple):
    benches: Benches
    theirs: Things
    none: Things


@pytest.fixture(scope="module")
def scene(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("root")
    write_benchmark(root, "flowers", truth=TRUTH, visibility="nothing")
    write_benchmark(root, "dogs")
    write_workspace(root, "plain", truth="id,label\na,SECRET-OF-TEAM-A\nb,y\n")
    api = {"max_wait": 0.05, "rate_limit": 1e6, "rate_burst": 1_000_000, "show_errors": True}
    with serving(root, api=api) as benches:
        yield made(benches)


def made(benches: Benches) -> Scene:
    """Team A has a submission with all that there may be of one; the others have one of their own."""
    # The file's bytes tell of it, by their digest.
    handed = benches.hand_in("team-a", rows("xyyx") + "\n\n", label="WORDS-OF-TEAM-A").data
    folder = benches.root / handed["workspace"]
    benches.score(handed)
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / "container.log").write_text("LINE-OF-TEAM-A\n")
    task = handed["task"]["id"]
    again = benches.call("team-a", "POST", f"/tasks/{task}/retry").data
    benches.score({**handed, "task": again})
    signature = benches.call("team-a", "POST", f"/tasks/{task}/links").data["base"].split("/")[2]
    batch = benches.call("flowers", "POST", "/batch", {"workspaces": ["flowers/submissions/team-a"], "action": "score"})
    assert batch.data["benchmark"] == "flowers" and "team" not in batch.data
    history = benches.call("team-a", "GET", f"/workspaces/{handed['workspace']}/history").data["results"]
    assert len(history) == 2
    job = benches.call("admin", "POST", "/api/score/async", {"question": "SECRET-OF-TEAM-A?", "answer": "No."})
    assert job.status == 202, job.body
    note = benches.call("team-a", "POST", f"/tasks/{task}/notes", {"text": "NOTE-OF-TEAM-A", "sample": "a"}).data["id"]
    benches.score(benches.hand_in("team-b", rows("xyxx")).data)
    member = benches.end_batch(batch.data["id"], handed["workspace"])[handed["workspace"]]
    theirs = Things(
        task, batch.data["id"], handed["workspace"], signature, history[-1]["id"], job.json["job_id"], note, member
    )
    none = Things(
        NOT_THERE,
        NOT_THERE,
        "flowers/submissions/team-a/0099",
        f"{'9' * 10}-submit-{'0' * 64}",
        history[-1]["id"],
        NOT_THERE,
        NOT_THERE,
        NOT_THERE,
    )
    return Scene(benches, theirs, none)


def _document() -> dict[str, Any]:
    document: dict[str, Any] = create_app(Settings()).openapi()
    return document


OPERATIONS = [(method.upper(), path) for path, operations in _document()["paths"].items() for method in operations]
# Where a workspace is named in the body or the query.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/submit"): {"action": "score"},
    ("POST", "/validate"): {},
    ("POST", "/run"): {},
    ("POST", "/score"): {},
    ("POST", "/pipeline"): {},
    ("POST", "/scorers/test"): {"scorer": "classification_accuracy"},
}
QUERIES = ("/result", "/logs", "/artifacts/{path}", "/tasks", "/workspaces")
OTHERS: dict[tuple[str, str], Any] = {
    ("POST", "/api/score"): {"question": "What?", "answer": "That."},
    ("POST", "/api/score/async"): {"question": "What?", "answer": "That."},
    ("POST", "/scorers/load"): {"path": "/srv/none.py"},
    ("POST", "/scorers/watch"): {"path": "/srv/none.py"},
    ("PUT", "/benchmarks/{name}/chosen"): {"number": 1, "team": "team-a"},
    ("POST", "/benchmarks/{name}/submissions"): {"image": "model:1", "team": "team-a"},
    ("POST", "/tasks/{task_id}/notes"): {"text": "NOTE-OF-A-STRANGER"},
}
# Workspaces are addressed by these.
FILES = ("report.html", "errors.csv", "result.json", "confusion_matrix.json", "input/gt.csv")


def asked(method: str, path: str, things: Things) -> Iterator[tuple[str, Any]]:
    """Every way to ask an operation for things: addresses, each with its body."""
    is_benchmark = path.startswith("/benchmarks")
    values = {
        "task_id": things.batch if path.startswith("/batch") else things.task,
        "job_id": things.job,
        "signature": things.signature,
        "item": things.history,
        "note": things.note,
        "id": "classification_accuracy",
    }
    for name in ("flowers",) if is_benchmark else (things.workspace, f"flowers/../{things.workspace}"):
        for file in FILES if re.search(r"{(path|name)}$", path) else FILES[:1]:
            own = {**values, "path": file, "name": file if "tasks/{task_id}" in path else name}
            address = re.sub(r"{(\w+)}", lambda found: own[found[1]], path)  # noqa: B023 - used at once
            if path in QUERIES:
                address += f"?{'search' if path == '/workspaces' else 'workspace'}={name}"
            elif path == "/events":  # what all may listen to is in test_events.py
                address += f"?task={things.task}"
            elif path == "/benchmarks/{name}/submissions":
                address += "?team=team-a"
            elif path == "/compare":
                address += f"?a={things.task}&b={things.task}"
            body = OTHERS.get((method, path))
            if (method, path) in BODIES:
                body = {**BODIES[method, path], "workspace": name}
            elif (method, path) == ("POST", "/batch"):
                for items in (
                    [name],
                    [f"{name[:-4]}*"],
                    ["flowers/submissions/*/*"],
                    ["flowers"],
                    ["flowers/submissions"],
                ):
                    yield address, {"workspaces": items, "action": "score"}
                continue
            yield address, body


def told(answer: Answer, things: Things) -> str:
    """What an answer says, without times, its own id and the asker's words."""
    text = answer.body.decode("utf-8", "replace")
    text = re.sub(r'"(timestamp|request_id)":\s*"[^"]*"', "", text)
    for thing in (*things, things.workspace.replace("/", "%2F")):
        text = text.replace(thing, "THING")
    return text


def is_of_nobody(path: str) -> bool:
    """Whether an operation is of no team's things: of the installation, or of the asker's own questions."""
    return path in ("/healthz", "/readyz", "/metrics", "/scorers", "/scorers/{id}", *_QUESTIONS)


_QUESTIONS = ("/api/score", "/api/score/async", "/api/score/jobs")


# A signed link stands for a token: who has one may read, and its tests are below.
OF_TOKENS = [(method, path) for method, path in OPERATIONS if not path.startswith("/signed/")]


@pytest.mark.parametrize(("method", "path"), OF_TOKENS)
def test_what_is_another_teams_is_not_there(scene: Scene, method: str, path: str) -> None:
    for who in STRANGERS:
        pairs = zip(asked(method, path, scene.theirs), asked(method, path, scene.none), strict=True)
        for (address, body), (nowhere, other_body) in pairs:
            answer = scene.benches.call(who, method, address, body)
            for mark in MARKS:
                assert mark not in answer.body.decode("utf-8", "replace"), (who, address)
            if is_of_nobody(path):
                continue
            nothing = scene.benches.call(who, method, nowhere, other_body)
            assert answer.status == nothing.status, (who, address, answer.body, nothing.body)
            assert told(answer, scene.theirs) == told(nothing, scene.none), (who, address)
            assert answer.status in (403, 404, 422) or answer.data is not None, (who, address)
            if path == "/events" or ("{" in path and not path.startswith("/benchmarks")) or (method, path) in BODIES:
                assert answer.status in (403, 404), (who, address, answer.status)


@pytest.mark.parametrize(("method", "path"), OF_TOKENS)
def test_nor_is_it_without_a_token(scene: Scene, method: str, path: str) -> None:
    for address, body in asked(method, path, scene.theirs):
        answer = scene.benches.call(None, method, address, body)
        # A leaderboard that is not public is not there.
        assert answer.status == (404 if path.startswith("/public/") else 401) or path in ("/healthz", "/readyz"), (
            address
        )


@pytest.mark.parametrize(("method", "path"), [each for each in OF_TOKENS if "{task_id}" in each[1]])
def test_nor_is_what_became_of_it_in_a_batch(scene: Scene, method: str, path: str) -> None:
    """Not for the team either: a batch is its benchmark's, and so are its members."""
    theirs, none = (things._replace(task=things.member, batch=things.member) for things in (scene.theirs, scene.none))
    for who in ("team-a", *STRANGERS):
        pairs = zip(asked(method, path, theirs), asked(method, path, none), strict=True)
        for (address, body), (nowhere, other_body) in pairs:
            answer = scene.benches.call(who, method, address, body)
            nothing = scene.benches.call(who, method, nowhere, other_body)
            assert (answer.status, nothing.status) == (404, 404), (who, address, answer.body)
            assert told(answer, theirs) == told(nothing, none), (who, address)


LISTS = (
    "parent={batch}", "parent={batch}&members=true", "parent={member}", "members=true", "members=true&q=team-a",
    "members=true&q=flowers/submissions", "members=true&team=team-a", "members=true&benchmark=flowers",
    "members=true&workspace={workspace}", "members=true&state=completed", "members=true&scorer=classification_accuracy",
    "members=true&action=score", "parent={batch}&pass=false", "parent={batch}&until=2099-01-01",
)  # fmt: skip


@pytest.mark.parametrize("query", LISTS)
@pytest.mark.parametrize("sort", ["", "&sort=-score", "&sort=name", "&sort=ended", "&sort=seconds"])
def test_no_list_tells_them_of_its_members(scene: Scene, query: str, sort: str) -> None:
    theirs, call = scene.theirs, scene.benches.call
    asked_for = query.format(**theirs._asdict()) + sort
    for who in ("team-a", *STRANGERS):
        answer = call(who, "GET", f"/tasks?limit=500&{asked_for}")
        found = answer.data
        assert found["total"] == len(found["tasks"]) and found["before"] == 0 and found["next_cursor"] is None
        assert theirs.member.encode() not in answer.body and theirs.batch.encode() not in answer.body
        # What is there is the same as without members.
        plain = re.sub(r"&?members=true", "", asked_for)
        if "parent" not in query:
            own = call(who, "GET", f"/tasks?limit=500&{plain}").data["tasks"]
            assert [task["id"] for task in found["tasks"]] == [task["id"] for task in own]
    seen = call("flowers", "GET", f"/tasks?limit=500&{asked_for}").data["tasks"]
    if "{member}" not in query and "pass" not in query and "team=" not in query:
        assert theirs.member in {task["id"] for task in seen}
    for other in ("team-a", "team-b"):  # a place in somebody else's list is none in theirs
        page = call("flowers", "GET", f"/tasks?limit=1&members=true{sort}").data
        refused = call(other, "GET", f"/tasks?limit=1&members=true{sort}&cursor={page['next_cursor']}")
        assert refused.status == 422 and theirs.member.encode() not in refused.body


def test_their_own_it_is(scene: Scene) -> None:
    """The same addresses, asked by who may: else nothing above would mean anything."""
    theirs = scene.theirs
    for who in ("team-a", "flowers", "admin"):
        for address in (
            f"/tasks/{theirs.task}",
            f"/tasks/{theirs.task}/logs",
            f"/tasks/{theirs.task}/artifacts",
            f"/tasks/{theirs.task}/artifacts/report.html",
            f"/tasks/{theirs.task}/result.json",
            f"/tasks/{theirs.task}/notes",
            f"/compare?a={theirs.task}&b={theirs.task}",
            f"/batch/{theirs.batch}",
            f"/batch/{theirs.batch}/leaderboard",
            f"/workspaces/{theirs.workspace}",
            f"/workspaces/{theirs.workspace}/history",
            f"/workspaces/{theirs.workspace}/history/{theirs.history}",
            f"/workspaces/{theirs.workspace}/output/artifacts/report.html",
            f"/result?workspace={theirs.workspace}",
            f"/logs?workspace={theirs.workspace}",
            f"/artifacts/report.html?workspace={theirs.workspace}",
            f"/signed/{theirs.signature}/tasks/{theirs.task}/artifacts/report.html",
        ):
            # A batch is its benchmark's.
            allowed = not (who == "team-a" and "/batch/" in address)
            assert scene.benches.call(who, "GET", address).status == (200 if allowed else 404), (who, address)
    for who, status in (("team-a", 403), ("flowers", 200), ("admin", 200)):
        assert scene.benches.call(who, "GET", f"/tasks/{theirs.task}/samples").status == status, who
    log = scene.benches.call("team-a", "GET", f"/logs?workspace={theirs.workspace}").data
    assert log["log"] == "LINE-OF-TEAM-A\n"
    listed = scene.benches.call("team-a", "GET", "/workspaces").data["workspaces"]
    assert [each["name"] for each in listed] == [theirs.workspace]
    names = {each["name"] for each in scene.benches.call("flowers", "GET", "/workspaces").data["workspaces"]}
    assert names == {theirs.workspace, "flowers/submissions/team-b/0001"}
    assert {each["name"] for each in scene.benches.call("submit", "GET", "/workspaces").data["workspaces"]} == {"plain"}
    assert len(scene.benches.call("admin", "GET", "/workspaces").data["workspaces"]) == 3


def test_lists_and_their_totals_hold_what_is_ones_own(scene: Scene) -> None:
    call = scene.benches.call
    for who in ("team-b", "dogs", "submit"):
        page = call(who, "GET", "/tasks?limit=500").data
        assert page["total"] == len(page["tasks"])
        assert {task.get("team") for task in page["tasks"]} <= ({"team-b"} if who == "team-b" else {None})
        for query in ("q=team-a", "q=WORDS", f"workspace={scene.theirs.workspace}", "scorer=classification_accuracy"):
            found = call(who, "GET", f"/tasks?{query}").data
            assert all(task.get("team") == "team-b" for task in found["tasks"]) and found["total"] == len(
                found["tasks"]
            )
    assert call("team-b", "GET", "/benchmarks/flowers/submissions").data["total"] == 1
    assert call("team-b", "GET", "/benchmarks/flowers/leaderboard").data["rows"][0]["team"] == "team-b"


def test_a_link_is_of_one_task_and_of_whoever_asked(scene: Scene) -> None:
    call, theirs = scene.benches.call, scene.theirs
    (own,) = call("team-b", "GET", "/tasks").data["tasks"]
    base = call("team-b", "POST", f"/tasks/{own['id']}/links").data["base"]
    signature = base.split("/")[2]
    assert call(None, "GET", f"{base}/artifacts").status == 200
    assert call(None, "GET", f"/signed/{signature}/tasks/{theirs.task}/artifacts").status == 403
    # Who it was made for can't be changed.
    expires, role_and_team, mac = signature.split("-")[0], signature.split("-")[1], signature.rsplit("-", 1)[1]
    team_of_a = theirs.signature.split("-")[1]
    for changed in (team_of_a, "admin", "submit", "organiser." + role_and_team.partition(".")[2], role_and_team + "A"):
        for task in (own["id"], theirs.task):
            answer = call(None, "GET", f"/signed/{expires}-{changed}-{mac}/tasks/{task}/artifacts")
            assert answer.status == 403, changed
    # One of an organiser's opens the complete files, of this task alone.
    whole = call("flowers", "POST", f"/tasks/{theirs.task}/links").data["base"]
    assert call(None, "GET", f"{whole}/artifacts/errors.csv").status == 200
    shared = call("team-a", "POST", f"/tasks/{theirs.task}/links").data["base"]
    assert call(None, "GET", f"{shared}/artifacts/errors.csv").status == 403
    for who in STRANGERS:
        assert call(who, "POST", f"/tasks/{theirs.task}/links").status == 404


def test_a_revoked_token_opens_nothing(scene: Scene) -> None:
    from autoscorer.core.tokens import TokenFile

    file = TokenFile(scene.benches.api.settings.home)
    token, record = file.add("submit", team="team-a")
    assert scene.benches.call(token, "GET", f"/tasks/{scene.theirs.task}").status == 200
    other, _ = file.add("submit", team="team-b")
    assert scene.benches.call(other, "GET", f"/tasks/{scene.theirs.task}").status == 404
    file.revoke(record.id)
    assert scene.benches.call(token, "GET", f"/tasks/{scene.theirs.task}").status == 401
    assert scene.benches.call(other, "GET", "/tasks").data["total"] == 1


PARTS = (
    *("..", ".", "flowers", "dogs", "submissions", "team-a", "team-b", "0001", "input", "output", "plain", "", "*"),
    *("gt.csv", ".autoscorer", "artifacts", "history", "logs", "%2e%2e", "//", "benchmark.json"),
)
steps = st.lists(st.sampled_from(PARTS), min_size=1, max_size=7)


@pytest.mark.slow
@hypothesis_settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(parts=steps, who=st.sampled_from(STRANGERS), absolute=st.booleans(), route=st.integers(0, 7))
def test_whatever_path_is_tried_nothing_of_theirs_comes(
    scene: Scene, parts: list[str], who: str, absolute: bool, route: int
) -> None:
    path = "/".join(parts)
    text = f"{scene.benches.root}/{path}" if absolute else path
    addresses: list[tuple[str, str, Any]] = [
        ("GET", f"/workspaces/{path}", None),
        ("GET", f"/benchmarks/{path}", None),
        ("GET", f"/result?workspace={text}", None),
        ("GET", f"/logs?workspace={text}", None),
        ("GET", f"/artifacts/{parts[-1] or 'x'}?workspace={text}", None),
        ("POST", "/submit", {"workspace": text, "action": "score"}),
        ("POST", "/batch", {"workspaces": [text], "action": "score"}),
        ("GET", f"/tasks?workspace={text}", None),
    ]
    method, address, body = addresses[route]
    answer = scene.benches.call(who, method, address, body)
    found = answer.body.decode("utf-8", "replace")
    assert not any(mark in found for mark in MARKS if not (who == "submit" and mark == "SECRET-OF-TEAM-A"))
    if answer.status == 202:  # accepted: of workspaces of no benchmark, or of their own
        task = json.loads(found)["data"]
        assert (who, task.get("benchmark")) in (("submit", None), ("dogs", "dogs")), task
