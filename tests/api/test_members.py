"""Members of a batch over HTTP: each is a task with its own Result, whatever is scored in its workspace later."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.flows.batches.outcome import failed_outcome, outcome_of
from autoscorer.service.sync.members import IN_SHORT
from autoscorer.tasks.score import score_workspace

from ..support.calls import Answer
from ..support.module_home import home as home
from ..support.teams import Benches, serving
from ..support.workspaces import write_workspace

TRUTH = "id,label\na,x\nb,y\nc,SECRET-OF-THE-TRUTH\nd,y\n"
HALF, WELL = "id,label\na,x\nb,y\nc,x\nd,x\n", "id,label\na,x\nb,y\nc,y\nd,y\n"


class Scene(NamedTuple):
    benches: Benches
    batch: str
    # The ids of its members, by workspace.
    members: dict[str, str]

    def get(self, who: str, workspace: str, below: str = "") -> Answer:
        return self.benches.call(who, "GET", f"/tasks/{self.members[workspace]}{below}")


@pytest.fixture(scope="module")
def benches(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    root = tmp_path_factory.mktemp("root")
    with serving(root, api={"max_wait": 0.05, "rate_limit": 1e6, "rate_burst": 1_000_000}) as benches:
        yield benches


@pytest.fixture
def scene(benches: Benches, request: pytest.FixtureRequest) -> Scene:
    """A batch that a submitter asked for, of three workspaces: one well done, one half, one that is wrong."""
    round_ = "r" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    for name, pred in (("well", WELL), ("half", HALF), ("wrong", "id,label\nz,SECRET-OF-A-MODEL\n")):
        write_workspace(benches.root / round_, name, truth=TRUTH, pred=pred, job_id=f"job-{name}")
    asked = {"workspaces": [round_], "action": "score", "params": {"pass_threshold": 0.2}}
    batch = benches.call("submit", "POST", "/batch", asked).data["id"]
    names = [f"{round_}/{name}" for name in ("well", "half", "wrong")]
    found = benches.end_batch(batch, *names, params={"pass_threshold": 0.2})
    return Scene(benches, batch, {name.rpartition("/")[2]: member for name, member in found.items()})


def folder(scene: Scene, name: str) -> Path:
    return scene.benches.root / str(scene.get("admin", name).data["workspace"])


def scored_again(scene: Scene, name: str, predictions: str) -> None:
    """Another run in the same workspace, whose Result takes the place of the member's."""
    place = folder(scene, name)
    (place / "output" / "pred.csv").write_text(predictions)
    score_workspace(place)


# --- one of them ----------------------------------------------------------------------------------------------


def test_a_member_is_a_task_with_its_whole_result(scene: Scene) -> None:
    task = scene.get("admin", "half").data
    assert (task["parent"], task["action"], task["state"]) == (scene.batch, "score", "completed")
    assert (task["scorer"], task["params"], task["error"]) == ("classification_f1", {"pass_threshold": 0.2}, None)
    result = json.loads((folder(scene, "half") / "output" / "result.json").read_text())
    assert task["result"] == result and task["outcome"]["score"] == result["summary"]["score"]
    assert task["run_seconds"] is not None and task["ended_at"] is not None and task["flow_run_id"] is None
    wrong = scene.get("admin", "wrong").data
    assert (wrong["state"], wrong["error"]["code"], wrong["outcome"]) == ("failed", "MISMATCH", None)
    assert wrong["result"]["error"]["code"] == "MISMATCH"
    assert scene.benches.call("admin", "GET", f"/tasks/{scene.batch}").data["parent"] is None


def test_its_samples_artifacts_and_history_are_those_of_any_task(scene: Scene) -> None:
    page = scene.get("admin", "half", "/samples?verdict=wrong").data
    assert {each["id"] for each in page["samples"]} == {"c", "d"} and page["total"] == 4
    listed = scene.get("admin", "half", "/artifacts").data
    assert listed["artifacts"] and all(each["kept"] for each in listed["artifacts"])
    assert b"</html>" in scene.get("admin", "half", "/artifacts/report.html").body
    base = scene.benches.call("admin", "POST", f"/tasks/{scene.members['half']}/links").data["base"]
    assert scene.benches.call(None, "GET", f"{base}/artifacts/report.html").status == 200
    assert scene.get("admin", "half", "/result.json").json == scene.get("admin", "half").data["result"]
    member, other = scene.members["half"], scene.members["well"]
    compared = scene.benches.call("admin", "GET", f"/compare?a={member}&b={other}").data
    assert (compared["comparable"], compared["better"]) == (True, "b")
    assert {each["id"] for each in compared["samples"]["samples"]} == {"c", "d"}
    note = scene.benches.call("admin", "POST", f"/tasks/{member}/notes", {"text": "seen"})
    assert note.status == 201
    assert [each["text"] for each in scene.get("admin", "half", "/notes").data["notes"]] == ["seen"]
    assert scene.get("admin", "half", "/logs").data == {"records": [], "next_offset": None}


def test_a_results_history_leads_to_the_member_that_made_it(benches: Benches) -> None:
    place = write_workspace(benches.root / "past", "w", truth=TRUTH, pred=HALF)
    batch = benches.call("admin", "POST", "/batch", {"workspaces": ["past"], "action": "score"}).data["id"]
    result = score_workspace(place)
    # As a worker of Prefect's flow run would say it.
    run = "5f0c1a9e-0000-4000-8000-000000000001"
    written = json.loads((place / "output" / "result.json").read_text())
    written["versioning"]["flow_run_id"] = result.versioning.flow_run_id = run
    (place / "output" / "result.json").write_text(json.dumps(written))
    benches.dispatched(batch, run)
    member = benches.end_batch_with(batch, [outcome_of(place, result)])["past/w"]
    (item,) = benches.call("admin", "GET", "/workspaces/past/w/history").data["results"]
    assert item["task_id"] == member


# --- its own, and no other run's ------------------------------------------------------------------------------


def test_it_keeps_its_result_and_files_when_its_workspace_is_scored_again(scene: Scene) -> None:
    before = scene.get("admin", "half").data
    report, samples = (
        scene.get("admin", "half", "/artifacts/report.html").body,
        scene.get("admin", "half", "/samples").data,
    )
    scored_again(scene, "half", WELL)
    assert scene.get("admin", "half").data == before
    assert scene.get("admin", "half", "/artifacts/report.html").body == report
    assert scene.get("admin", "half", "/samples").data == samples


def test_what_is_gone_is_told_in_short_and_said_to_be(scene: Scene) -> None:
    before = scene.get("admin", "half").data
    scored_again(scene, "half", WELL)
    shutil.rmtree(folder(scene, "half") / "output" / "history")
    task = scene.get("admin", "half").data
    assert task["result"]["notes"] == [IN_SHORT] and task["outcome"] == before["outcome"]
    assert task["result"]["summary"] == before["result"]["summary"]
    assert task["result"]["metrics"] == {"f1_macro": before["outcome"]["score"]}
    assert task["result"]["artifacts"] == {}
    for below in ("/samples", "/artifacts/report.html"):
        assert scene.get("admin", "half", below).status == 404, below
    assert scene.get("admin", "half", "/artifacts").data["artifacts"] == []
    told = scene.get("submit", "half").data["result"]
    assert IN_SHORT in told["notes"] and told["summary"]["score"] == round(before["outcome"]["score"], 4)
    # And of one whose folder is gone altogether.
    shutil.rmtree(folder(scene, "half"))
    assert scene.get("admin", "half").data["result"]["notes"] == [IN_SHORT]


def test_a_forged_result_in_its_workspace_counts_for_nothing(scene: Scene) -> None:
    """Who may write there knows every word of the Result, and can't make another one with its sha256."""
    place = folder(scene, "half") / "output"
    forged = json.loads((place / "result.json").read_text())
    forged["metrics"]["planted"] = 1.0
    forged["artifacts"]["report"] = {"path": "pred.csv", "sha256": hashlib.sha256(HALF.encode()).hexdigest()}
    (place / "result.json").write_text(json.dumps(forged))
    (place / "history").mkdir(exist_ok=True)
    (place / "history" / "result-20990101T000000.000000Z.json").write_text(json.dumps(forged))
    task = scene.get("admin", "half").data
    assert task["result"]["notes"] == [IN_SHORT] and "planted" not in task["result"]["metrics"]
    assert scene.get("admin", "half", "/artifacts/report.html").status == 404


def test_a_link_in_the_place_of_its_result_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    place = folder(scene, "half") / "output" / "result.json"
    (tmp_path / "elsewhere.json").write_bytes(place.read_bytes())
    place.unlink()
    place.symlink_to(tmp_path / "elsewhere.json")
    assert scene.get("admin", "half").data["result"]["notes"] == [IN_SHORT]


def test_an_outcome_of_an_earlier_worker_is_told_in_short(benches: Benches) -> None:
    """It says neither which Result it is of nor when it was made: what lies there may be another's."""
    place = write_workspace(benches.root / "earlier", "w", truth=TRUTH, pred=HALF)
    outcome = outcome_of(place, score_workspace(place))
    for name in ("job_id", "scorer", "benchmark", "ended_at", "result_sha256"):
        del outcome[name]
    batch = benches.call("admin", "POST", "/batch", {"workspaces": ["earlier"], "action": "score"}).data["id"]
    member = benches.end_batch_with(batch, [outcome])["earlier/w"]
    task = benches.call("admin", "GET", f"/tasks/{member}").data
    assert task["result"]["notes"] == [IN_SHORT] and task["outcome"]["score"] == outcome["score"]
    assert (task["ended_at"], task["scorer"]) == (None, None)


# --- lists ----------------------------------------------------------------------------------------------------


def names(scene: Scene, who: str, query: str) -> list[str]:
    tasks = scene.benches.call(who, "GET", f"/tasks?limit=500&{query}").data["tasks"]
    return [(task["workspace"] or "batch").rpartition("/")[2] for task in tasks]


def test_a_batchs_members_are_a_list_like_any(scene: Scene) -> None:
    of = f"parent={scene.batch}"
    for who in ("admin", "submit"):
        assert names(scene, who, f"{of}&sort=-score") == ["well", "half", "wrong"]
        assert names(scene, who, f"{of}&sort=name") == ["half", "well", "wrong"]
        assert names(scene, who, f"{of}&state=failed") == ["wrong"]
        assert names(scene, who, f"{of}&q=JOB-well") == ["well"]
        assert names(scene, who, f"{of}&pass=true&sort=name") == ["half", "well"]
        page = scene.benches.call(who, "GET", f"/tasks?{of}&limit=2&sort=name").data
        assert (page["total"], page["before"], len(page["tasks"])) == (3, 0, 2)
        rest = scene.benches.call(who, "GET", f"/tasks?{of}&limit=2&sort=name&cursor={page['next_cursor']}").data
        assert (rest["before"], rest["next_cursor"]) == (2, None)
        assert all(task["parent"] == scene.batch and task["result"] is None for task in page["tasks"])
    answer = scene.benches.call("admin", "GET", f"/tasks?{of}")
    same = scene.benches.call("admin", "GET", f"/tasks?{of}", None, **{"If-None-Match": answer.headers["etag"]})
    assert same.status == 304
    assert names(scene, "admin", f"parent={scene.members['half']}") == []


def test_the_usual_list_has_none_of_them_unless_it_is_asked_for(scene: Scene) -> None:
    round_ = scene.get("admin", "half").data["workspace"].partition("/")[0]
    for who in ("admin", "submit"):
        assert names(scene, who, f"q={round_}") == ["batch"]
        assert sorted(names(scene, who, f"q={round_}&members=true")) == ["batch", "half", "well", "wrong"]
        assert names(scene, who, f"workspace={round_}/half") == []
        assert names(scene, who, f"workspace={round_}/half&members=true") == ["half"]
    counted = scene.benches.call("admin", "GET", "/tasks?limit=1&state=failed").data["total"]
    assert counted == len(names(scene, "admin", "state=failed")) and "wrong" not in names(scene, "admin", "")
    for wrong in ("parent=", f"parent={'x' * 65}", "members=perhaps"):
        assert scene.benches.call("admin", "GET", f"/tasks?{wrong}").status == 422, wrong


# --- who sees what --------------------------------------------------------------------------------------------


def test_whoever_may_not_see_the_truth_is_told_of_a_member_what_the_batch_tells_them(scene: Scene) -> None:
    (told,) = (
        each
        for each in scene.benches.call("submit", "GET", f"/batch/{scene.batch}").data["workspaces"]
        if each["workspace"].endswith("/half")
    )
    in_list = scene.benches.call("submit", "GET", f"/tasks?parent={scene.batch}&sort=name").data["tasks"][0]
    task = scene.get("submit", "half").data
    whole = scene.get("admin", "half").data
    for shown in (in_list, task):
        assert shown["outcome"]["score"] == told["score"] == float(f"{whole['outcome']['score']:.4g}")
        assert shown["outcome"]["pass"] is told["pass"]
    assert set(task["result"]["metrics"]) < set(whole["result"]["metrics"])
    assert task["result"]["versioning"]["ground_truth_sha256"] is None
    assert scene.get("submit", "half", "/samples").status == 403
    for name in ("errors.csv", "samples.json.gz"):
        assert scene.get("submit", "half", f"/artifacts/{name}").status == 403, name
    answers = [
        scene.get("submit", name, below)
        for name in scene.members
        for below in ("", "/artifacts", "/artifacts/report.html", "/result.json", "/logs", "/notes")
    ]
    other = scene.members["well"]
    answers.append(scene.benches.call("submit", "GET", f"/compare?a={scene.members['half']}&b={other}"))
    answers.append(scene.benches.call("submit", "GET", f"/tasks?parent={scene.batch}"))
    answers.append(scene.benches.call("submit", "GET", f"/tasks?members=true&q={in_list['workspace'][:5]}"))
    assert not any(b"SECRET-OF-THE-TRUTH" in answer.body for answer in answers)
    assert str(scene.benches.root).encode() not in b"".join(answer.body for answer in answers)
    for who in ("team-a", "team-b", "flowers"):
        assert scene.get(who, "half").status == 404
        assert scene.benches.call(who, "GET", f"/tasks?parent={scene.batch}").data["total"] == 0


def test_an_order_of_members_tells_no_digit_that_is_not_shown(benches: Benches) -> None:
    batch = benches.call("submit", "POST", "/batch", {"workspaces": ["digits"], "action": "score"})
    if batch.status != 202:
        (benches.root / "digits").mkdir()
        write_workspace(benches.root / "digits", "w", truth=TRUTH, pred=HALF)
        batch = benches.call("submit", "POST", "/batch", {"workspaces": ["digits"], "action": "score"})
    blank = outcome_of(benches.root / "digits" / "w", score_workspace(benches.root / "digits" / "w"))
    scores = {"a": 0.90001, "b": 0.90004, "c": 0.90002, "d": 0.90003, "e": 0.5}
    outcomes = [
        {**blank, "workspace": str(benches.root / "digits" / name), "score": score, "result_sha256": None}
        for name, score in scores.items()
    ]
    members = benches.end_batch_with(batch.data["id"], outcomes)
    alike = sorted(members[f"digits/{name}"] for name in "abcd")

    def listed(who: str, sort: str) -> list[str]:
        page = benches.call(who, "GET", f"/tasks?parent={batch.data['id']}&sort={sort}").data
        return [task["id"] for task in page["tasks"]]

    assert listed("submit", "score") == [members["digits/e"], *alike]
    assert listed("submit", "-score") == [*alike[::-1], members["digits/e"]]
    assert listed("admin", "-score") == [members[f"digits/{name}"] for name in "bdcae"]


def test_the_ledgers_counts_are_of_what_was_asked_for(scene: Scene) -> None:
    text = scene.benches.call("admin", "GET", "/metrics").body.decode()
    counted = {state: int(float(number)) for state, number in re.findall(r'tasks\{state="(\w+)"\} (\S+)', text)}
    assert counted, text
    for state, number in counted.items():
        page = scene.benches.call("admin", "GET", f"/tasks?limit=1&state={state}").data
        assert page["total"] == number, state


def test_a_stream_about_one_says_what_it_is_and_ends(scene: Scene) -> None:
    member = scene.members["half"]
    told = scene.benches.call("submit", "GET", f"/events?task={member}").body.decode()
    kinds = re.findall(r"^event: (\w+)$", told, re.MULTILINE)
    assert kinds == ["hello", "task", "end"] and f'"parent":"{scene.batch}"' in told.replace(" ", "")
    assert scene.benches.call("team-a", "GET", f"/events?task={member}").status == 404


# --- what is done to them -------------------------------------------------------------------------------------


def test_cancelling_one_is_refused_with_the_name_of_its_batch(scene: Scene) -> None:
    for name in scene.members:
        answer = scene.benches.call("admin", "POST", f"/tasks/{scene.members[name]}/cancel")
        assert (answer.status, answer.error["code"]) == (409, "CONFLICT")
        assert scene.batch in answer.error["message"] and answer.error["details"]["parent"] == scene.batch


def test_one_is_repeated_as_a_task_of_its_own(scene: Scene) -> None:
    member = scene.members["wrong"]
    answer = scene.benches.call("submit", "POST", f"/tasks/{member}/retry")
    again = answer.data
    assert (answer.status, answer.headers["x-task-created"]) == (202, "true")
    assert (again["retry_of"], again["parent"], again["state"]) == (member, None, "queued")
    assert (again["action"], again["params"]) == ("score", {"pass_threshold": 0.2})
    assert again["workspace"] == scene.get("submit", "wrong").data["workspace"]
    assert names(scene, "admin", f"parent={scene.batch}&state=queued") == []
    # Whoever may not see the batch does not repeat its members either.
    assert scene.benches.call("team-a", "POST", f"/tasks/{member}/retry").status == 404


def test_a_cancelled_batch_has_members_for_all_that_has_an_outcome(benches: Benches) -> None:
    done = write_workspace(benches.root / "ended", "done", truth=TRUTH, pred=HALF)
    batch = benches.call("admin", "POST", "/batch", {"workspaces": ["ended"], "action": "score"}).data["id"]
    never = failed_outcome(done.with_name("never"), AutoScorerError(ErrorCode.CANCELLED, "The batch was cancelled."))
    members = benches.end_batch_with(batch, [outcome_of(done, score_workspace(done)), never])
    task = benches.call("admin", "GET", f"/tasks/{members['ended/never']}").data
    assert (task["state"], task["error"]["code"], task["attempts"]) == ("cancelled", "CANCELLED", 0)
    assert task["started_at"] is None and task["result"] is None
