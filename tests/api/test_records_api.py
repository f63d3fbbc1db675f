"""Samples, comparisons and notes over HTTP: what each role is answered, and what becomes of hostile words."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from autoscorer.client import Client
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.result import Result
from autoscorer.schemas.task import TaskState
from autoscorer.tasks.score import score_workspace

from ..support.benchmarks import rows, write_benchmark
from ..support.module_home import home as home
from ..support.teams import ADMIN, SUBMIT, Benches, serving
from ..support.workspaces import write_workspace

pytestmark = pytest.mark.slow  # one application for all of them

TRUTH = "id,label\na,x\nb,y\nc,TRUTH-OF-FLOWERS\nd,y\n"
WITHHELD = "id,label,Usage\na,x,Public\nb,y,Public\nc,x,Private\nd,y,Private\n"
NOT_THERE = "01a22999-3ce1-72c0-81ae-fbec794b3031"


class Scene(NamedTuple):
    benches: Benches
    # Two submissions of team A to flowers, one of team B, and a task of a workspace of no benchmark.
    first: str
    second: str
    other: str
    plain: str


@pytest.fixture(scope="module")
def scene(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("root")
    write_benchmark(root, "flowers", truth=TRUTH)
    write_benchmark(root, "dogs", truth=WITHHELD, withheld={"column": "Usage"})
    write_workspace(root, "plain", truth="id,label\na,x\nb,y\n", pred="id,label\na,x\nb,<script>\n")
    with serving(root, api={"max_wait": 0.05, "rate_limit": 1e6, "rate_burst": 1_000_000}) as benches:
        first = handed_in(benches, "team-a", "xyyx")
        second = handed_in(benches, "team-a", "xxyy")
        yield Scene(benches, first, second, handed_in(benches, "team-b", "xyxx"), scored(benches, "plain"))


def handed_in(benches: Benches, team: str, labels: str) -> str:
    handed = benches.hand_in(team, rows(labels)).data
    benches.score(handed)
    task: str = handed["task"]["id"]
    return task


def scored(benches: Benches, workspace: str, **params: Any) -> str:
    task: str = benches.call("admin", "POST", "/submit", {"action": "score", "workspace": workspace}).data["id"]
    result = score_workspace(benches.root / workspace, params=params or None)
    benches.end(task, state=TaskState.COMPLETED, result=result.to_dict())
    return task


# --- samples --------------------------------------------------------------------------------------------------------


def test_samples_come_the_wrong_ones_first_for_those_who_may_see_the_truth(scene: Scene) -> None:
    for who in ("admin", "flowers"):
        page = scene.benches.call(who, "GET", f"/tasks/{scene.first}/samples").data
        assert [(each["id"], each["verdict"], each["predicted"], each["expected"]) for each in page["samples"]] == [
            ("c", "wrong", "y", "TRUTH-OF-FLOWERS"),
            ("d", "wrong", "x", "y"),
            ("a", "right", "x", "x"),
            ("b", "right", "y", "y"),
        ]
        assert (page["total"], page["kept"], page["found"], page["counts"]) == (4, 4, 4, {"right": 2, "wrong": 2})
        assert page["scorer"] == "classification_accuracy" and page["measure"] is None
    wrong = scene.benches.call("admin", "GET", f"/tasks/{scene.first}/samples?verdict=wrong&limit=1").data
    assert [each["id"] for each in wrong["samples"]] == ["c"] and (wrong["found"], wrong["next_cursor"]) == (2, "1")
    rest = scene.benches.call("admin", "GET", f"/tasks/{scene.first}/samples?verdict=wrong&limit=1&cursor=1").data
    assert [each["id"] for each in rest["samples"]] == ["d"] and rest["next_cursor"] is None
    found = scene.benches.call("admin", "GET", f"/tasks/{scene.first}/samples?q=truth-OF").data
    assert [each["id"] for each in found["samples"]] == ["c"]


def test_nobody_else_is_told_of_any(scene: Scene) -> None:
    """Not of a verdict alone either: who sees one knows the truth of that row, or one label that it is not."""
    for who, task, status in (
        ("team-a", scene.first, 403),
        ("submit", scene.plain, 403),
        ("team-b", scene.first, 404),
        ("dogs", scene.first, 404),
        ("submit", scene.first, 404),
        ("flowers", scene.plain, 404),
        (None, scene.first, 401),
    ):
        for query in ("", "?verdict=right", "?q=x", "?cursor=x"):
            answer = scene.benches.call(who, "GET", f"/tasks/{task}/samples{query}")
            assert answer.status == status, (who, answer.body)
            assert b"TRUTH-OF" not in answer.body
    hidden = scene.benches.call("team-b", "GET", f"/tasks/{scene.first}/samples").error
    nowhere = scene.benches.call("team-b", "GET", f"/tasks/{NOT_THERE}/samples").error
    assert hidden["message"].replace(scene.first, NOT_THERE) == nowhere["message"]


def test_of_a_withheld_part_there_are_none(scene: Scene) -> None:
    handed = scene.benches.hand_in("team-a", rows("xxyy"), benchmark="dogs").data
    scene.benches.score(handed)
    page = scene.benches.call("dogs", "GET", f"/tasks/{handed['task']['id']}/samples").data
    assert [(each["id"], each["verdict"]) for each in page["samples"]] == [("b", "wrong"), ("a", "right")]
    assert page["total"] == 2


def test_what_has_no_samples_says_why(scene: Scene) -> None:
    benches = scene.benches
    write_workspace(benches.root, "bare")
    without = scored(benches, "bare", artifacts=False)
    assert "`artifacts` set to false" in benches.call("admin", "GET", f"/tasks/{without}/samples").error["message"]
    task = benches.call("admin", "POST", "/submit", {"action": "score", "workspace": "bare"}).data["id"]
    assert "has not ended" in benches.call("admin", "GET", f"/tasks/{task}/samples").error["message"]
    benches.end(task, state=TaskState.CANCELLED)
    run = benches.call("admin", "POST", "/submit", {"action": "run", "workspace": "bare"}).data["id"]
    assert "only score and pipeline" in benches.call("admin", "GET", f"/tasks/{run}/samples").error["message"]
    # What was written over is not shown for what was there.
    write_workspace(benches.root, "gone")
    task = scored(benches, "gone")
    for file in (benches.root / "gone").rglob("*"):
        if file.name == "samples.json.gz" or (file.parent.name == "artifacts" and ".autoscorer" in file.parts):
            file.write_bytes(b"forged")
    assert "not kept any more" in benches.call("admin", "GET", f"/tasks/{task}/samples").error["message"]
    shutil.rmtree(benches.root / "gone")
    answer = benches.call("admin", "GET", f"/tasks/{task}/samples")
    assert answer.status == 404 and "was deleted or moved" in answer.error["message"]


@pytest.mark.parametrize(
    "query", ["verdict=maybe", "limit=0", "limit=501", "cursor=-1", "cursor=x", "q=", "q=" + "x" * 201, "change=x"]
)
def test_what_can_not_be_asked_for_is_refused(scene: Scene, query: str) -> None:
    address = f"/tasks/{scene.first}/samples?{query}"
    if query.startswith(("change", "cursor")):
        compared = scene.benches.call("admin", "GET", f"/compare?a={scene.first}&b={scene.second}&{query}")
        assert (compared.status, compared.error["code"]) == (422, "INVALID_REQUEST")
    if not query.startswith("change"):
        answer = scene.benches.call("admin", "GET", address)
        assert (answer.status, answer.error["code"]) == (422, "INVALID_REQUEST"), answer.body


# --- comparing ------------------------------------------------------------------------------------------------------


def test_two_tasks_stand_side_by_side_with_the_samples_that_differ(scene: Scene) -> None:
    found = scene.benches.call("flowers", "GET", f"/compare?a={scene.first}&b={scene.second}").data
    assert (found["a"]["score"], found["b"]["score"], found["better"], found["comparable"]) == (0.5, 0.5, "equal", True)
    assert (found["a"]["team"], found["a"]["benchmark"], found["a"]["metric"]) == ("team-a", "flowers", "accuracy")
    assert found["metrics"][0]["name"] == "accuracy" and found["metrics"][0]["interval_a"]["low"] < 0.5
    assert [each["name"] for each in found["provenance"]] == ["predictions_sha256"]
    assert found["params"] == found["notes"] == []
    samples = found["samples"]
    assert [(each["id"], each["change"]) for each in samples["samples"]] == [("b", "lost"), ("d", "gained")]
    assert samples["samples"][0]["a"]["predicted"] == "y" and samples["samples"][0]["b"]["predicted"] == "x"
    assert (samples["compared"], samples["lost"], samples["gained"], samples["other"]) == (4, 1, 1, 0)
    only = scene.benches.call("admin", "GET", f"/compare?a={scene.first}&b={scene.second}&change=gained").data
    assert [each["id"] for each in only["samples"]["samples"]] == ["d"]
    same = scene.benches.call("admin", "GET", f"/compare?a={scene.first}&b={scene.first}").data
    assert same["provenance"] == same["params"] == same["notes"] == [] and same["samples"]["found"] == 0


def test_a_team_compares_its_own_without_samples(scene: Scene) -> None:
    answer = scene.benches.call("team-a", "GET", f"/compare?a={scene.first}&b={scene.second}")
    found = answer.data
    assert found["samples"] is None and [each["code"] for each in found["notes"]] == ["samples_hidden"]
    assert (found["a"]["score"], found["comparable"]) == (0.5, True)
    assert b"TRUTH-OF" not in answer.body and b"ground_truth_sha256" not in answer.body
    # Each number is one that the team is told of that task.
    for side, task in (("a", scene.first), ("b", scene.second)):
        told = scene.benches.call("team-a", "GET", f"/tasks/{task}").data["result"]["metrics"]
        assert {each["name"]: each[side] for each in found["metrics"]} == told


def test_both_sides_must_be_ones_to_see(scene: Scene) -> None:
    for who, a, b in (
        ("team-a", scene.first, scene.other),
        ("team-a", scene.other, scene.first),
        ("team-b", scene.first, scene.other),
        ("submit", scene.plain, scene.first),
        ("flowers", scene.first, scene.plain),
        ("dogs", scene.first, scene.second),
        ("admin", scene.first, NOT_THERE),
    ):
        assert scene.benches.call(who, "GET", f"/compare?a={a}&b={b}").status == 404, (who, a, b)
    assert scene.benches.call(None, "GET", f"/compare?a={scene.first}&b={scene.second}").status == 401
    assert scene.benches.call("admin", "GET", f"/compare?a={scene.first}").status == 422
    # An admin may hold anything against anything, and is told that it does not compare.
    found = scene.benches.call("admin", "GET", f"/compare?a={scene.first}&b={scene.plain}").data
    assert found["comparable"] is False and {"other_metric", "other_ground_truth"} <= {
        each["code"] for each in found["notes"]
    }


def test_samples_that_one_side_does_not_have_are_said_to_be_missing(scene: Scene) -> None:
    write_workspace(scene.benches.root, "without")
    task = scored(scene.benches, "without", artifacts=False)
    found = scene.benches.call("admin", "GET", f"/compare?a={scene.plain}&b={task}").data
    (note,) = [each for each in found["notes"] if each["code"].startswith("samples")]
    assert note["code"] == "samples_not_kept" and task in note["text"] and found["samples"] is None
    run = scene.benches.call("admin", "POST", "/submit", {"action": "run", "workspace": "without"}).data["id"]
    answer = scene.benches.call("admin", "GET", f"/compare?a={scene.plain}&b={run}")
    assert answer.status == 404 and "has no Result" in answer.error["message"]


# --- notes ----------------------------------------------------------------------------------------------------------


def write(scene: Scene, who: str | None, task: str, **body: Any) -> Any:
    return scene.benches.call(who, "POST", f"/tasks/{task}/notes", body)


def read(scene: Scene, who: str, task: str) -> list[str]:
    return [each["text"] for each in scene.benches.call(who, "GET", f"/tasks/{task}/notes").data["notes"]]


def test_notes_are_shown_to_whom_they_may_be_shown(scene: Scene) -> None:
    task = handed_in(scene.benches, "team-a", "yyyy")
    ours = write(scene, "team-a", task, text="We used another seed.").data
    assert (ours["role"], ours["team"], ours["own"], ours["of_truth"]) == ("submit", "team-a", True, False)
    secret = write(scene, "flowers", task, text="c is a tulip", sample="c", verdict="disagree").data
    assert secret["of_truth"] and secret["sample"] == "c" and "team" not in secret
    write(scene, "admin", task, text="seen")
    for who in ("flowers", "admin"):
        assert read(scene, who, task) == ["We used another seed.", "c is a tulip", "seen"]
        page = scene.benches.call(who, "GET", f"/tasks/{task}/notes?sample=c").data
        assert [each["id"] for each in page["notes"]] == [secret["id"]] and page["total"] == 1
    assert read(scene, "team-a", task) == ["We used another seed."]
    assert scene.benches.call("team-a", "GET", f"/tasks/{task}/notes").data["total"] == 1
    for who in ("team-b", "dogs", "submit"):
        assert scene.benches.call(who, "GET", f"/tasks/{task}/notes").status == 404
        assert write(scene, who, task, text="x").status == 404
    assert write(scene, None, task, text="x").status == 401
    paged, cursor = [], ""
    while True:
        page = scene.benches.call("admin", "GET", f"/tasks/{task}/notes?limit=1{cursor}").data
        paged += [each["text"] for each in page["notes"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert paged == ["We used another seed.", "c is a tulip", "seen"]
    assert scene.benches.call("admin", "GET", f"/tasks/{task}/notes?cursor=x").status == 422


def test_one_deletes_ones_own_and_an_admin_any(scene: Scene) -> None:
    task = handed_in(scene.benches, "team-a", "yyxx")
    ours = write(scene, "team-a", task, text="ours").data["id"]
    theirs = write(scene, "flowers", task, text="theirs").data["id"]
    call = scene.benches.call
    # What may not be seen is not there to be deleted.
    assert call("team-a", "DELETE", f"/tasks/{task}/notes/{theirs}").status == 404
    assert call("team-b", "DELETE", f"/tasks/{task}/notes/{ours}").status == 404
    assert call("flowers", "DELETE", f"/tasks/{task}/notes/{ours}").status == 403
    assert call("team-a", "DELETE", f"/tasks/{scene.first}/notes/{ours}").status == 404
    assert call("team-a", "DELETE", f"/tasks/{task}/notes/{ours}").data["text"] == "ours"
    assert call("team-a", "DELETE", f"/tasks/{task}/notes/{ours}").status == 404
    assert call("admin", "DELETE", f"/tasks/{task}/notes/{theirs}").status == 200
    assert read(scene, "admin", task) == []


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "'; DROP TABLE notes; --", "\u202egnirts\x1b[31m\r\n", "😀" * 2000, "%00{{7*7}}"],
)
def test_hostile_words_are_kept_as_they_are(scene: Scene, text: str) -> None:
    made = write(scene, "submit", scene.plain, text=text, sample=text[:1000]).data
    answer = scene.benches.call("submit", "GET", f"/tasks/{scene.plain}/notes")
    assert answer.headers["content-type"] == "application/json"
    assert [each["text"] for each in answer.data["notes"] if each["id"] == made["id"]] == [text]
    scene.benches.call("submit", "DELETE", f"/tasks/{scene.plain}/notes/{made['id']}")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": " \n"},
        {"text": "x" * 2001},
        {"text": 1},
        {"text": "x", "verdict": "maybe"},
        {"text": "x", "sample": ""},
        {"text": "x", "sample": "y" * 1001},
        {"text": "x", "metric": "faithfulness"},
        {"text": "x", "metric": "faithfulness", "sample": "q1"},
        {"text": "x", "author": "admin"},
        {"text": "nul\0"},
        {"text": "\ud800"},
        [],
    ],
)
def test_what_is_no_note_is_refused(scene: Scene, body: Any) -> None:
    raw = json.dumps(body).encode()
    answer = scene.benches.call(
        "submit", "POST", f"/tasks/{scene.plain}/notes", raw, **{"Content-Type": "application/json"}
    )
    assert (answer.status, answer.error["code"]) == (422, "INVALID_REQUEST"), answer.body
    assert read(scene, "submit", scene.plain) == []


def test_a_sample_of_an_impossible_name_is_refused(scene: Scene) -> None:
    answer = scene.benches.call("submit", "GET", f"/tasks/{scene.plain}/notes?sample=a%00b")
    assert (answer.status, answer.error["code"]) == (422, "INVALID_REQUEST")


def test_labels_are_for_those_who_may_see_the_truth(scene: Scene) -> None:
    for who, task, status in (
        ("team-a", scene.first, 403),
        ("submit", scene.plain, 403),
        ("team-b", scene.first, 404),
        ("admin", scene.plain, 404),
    ):
        assert scene.benches.call(who, "GET", f"/tasks/{task}/labels").status == status


def test_verdicts_on_a_judges_come_out_as_labels(scene: Scene) -> None:
    """Of an admin's notes alone: somebody who may not see the truth counts for nothing."""
    folder = write_workspace(scene.benches.root, "answers")
    answer = {"question": "Capital?", "answer": "Paris.", "contexts": ["c"], "ground_truth": "Paris."}
    scores = {"faithfulness": {"score": 0.9, "status": "ok"}, "token_f1": {"score": 0.1, "status": "ok"}}
    lines = "".join(json.dumps({"id": f"q{n}", **answer, "answer": f"{n}", "metrics": scores}) + "\n" for n in range(3))
    (folder / "output" / "artifacts").mkdir()
    (folder / "output" / "artifacts" / "answers.jsonl").write_text(lines)
    sha256 = hashlib.sha256(lines.encode()).hexdigest()
    result = Result.model_validate(
        {"artifacts": {"answers": {"path": "output/artifacts/answers.jsonl", "sha256": sha256}}}
    )
    result.versioning.scorer = "rag"
    task = scene.benches.call("admin", "POST", "/submit", {"action": "score", "workspace": "answers"}).data["id"]
    scene.benches.end(task, state=TaskState.COMPLETED, result=result.to_dict())
    write(scene, "admin", task, sample="q0", metric="faithfulness", verdict="agree")
    write(scene, "admin", task, sample="q1", verdict="disagree", text="It quotes nothing.")
    write(scene, "submit", task, sample="q2", verdict="agree")
    found = scene.benches.call("admin", "GET", f"/tasks/{task}/labels")
    assert found.status == 200 and found.headers["content-type"] == "application/x-ndjson"
    labels = [json.loads(line) for line in found.body.splitlines()]
    assert [(each["sample"]["answer"], each["metric"], each["label"]) for each in labels] == [
        ("0", "faithfulness", True), ("1", "faithfulness", False),
    ]  # fmt: skip
    stricter = scene.benches.call("admin", "GET", f"/tasks/{task}/labels?threshold=0.95")
    assert [json.loads(line)["label"] for line in stricter.body.splitlines()] == [False, True]
    assert scene.benches.call("admin", "GET", f"/tasks/{task}/labels?threshold=2").status == 422
    assert scene.benches.call("submit", "GET", f"/tasks/{task}/labels").status == 403
    with Client(scene.benches.api.url, ADMIN, settings=Settings()) as client:
        assert client.labels(task) == labels
        assert [each.id for each in client.samples(task).samples] == ["q0", "q1", "q2"]


# --- the client -----------------------------------------------------------------------------------------------------


def test_the_client_reads_samples_compares_and_writes_notes(scene: Scene) -> None:
    settings = Settings()
    with Client(scene.benches.api.url, ADMIN, settings=settings) as client:
        page = client.samples(scene.first, verdict="wrong")
        assert [each.id for each in page.samples] == ["c", "d"] and page.next_cursor is None
        assert len(client.samples(scene.first, limit=3).samples) == 3
        compared = client.compare(scene.first, scene.second)
        assert compared.samples is not None and compared.samples.lost == 1
        note = client.add_note(scene.first, "look", sample="c", verdict="agree")
        assert client.add_note(scene.first, "look", sample="c", verdict="agree").id == note.id
        assert [each.id for each in client.notes(scene.first, sample="c")] == [note.id]
        client.delete_note(scene.first, note.id)
        assert client.notes(scene.first) == []
        with pytest.raises(AutoScorerError, match="scorer rag"):
            client.labels(scene.first)
    with Client(scene.benches.api.url, SUBMIT, settings=settings) as client:
        with pytest.raises(AutoScorerError) as caught:
            client.samples(scene.plain)
        assert caught.value.code is ErrorCode.FORBIDDEN
