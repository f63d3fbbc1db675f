"""Benchmarks over HTTP: submitting as a team and for one, quotas, phases, and who sees which row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskState
from autoscorer.tasks.benchmarks.release import release

from ..support.benchmarks import change_spec, rows, write_benchmark
from ..support.teams import TOKENS, Benches, form, serving
from ..support.workspaces import write_workspace

# Together half a minute of processes and applications of their own.
pytestmark = pytest.mark.slow

USAGE = "id,label,Usage\na,x,Public\nb,y,Public\nc,x,Private\nd,y,Private\n"


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Benches]:
    root = tmp_path / "root"
    root.mkdir()
    write_benchmark(root, "flowers", quota={"per_day": 3, "total": 4, "at_once": 2}, title="Flowers")
    write_benchmark(root, "dogs", truth=USAGE, withheld={"column": "Usage"}, params={"pass_threshold": 0.5})
    write_workspace(root, "plain")
    with serving(root) as benches:
        yield benches


def test_predictions_get_a_workspace_and_a_task_that_scores_them(benches: Benches) -> None:
    answer = benches.hand_in("team-a", rows("xyxx"), label="first try")
    assert answer.status == 202 and answer.headers["x-task-created"] == "true"
    handed = answer.data
    assert answer.headers["location"] == f"/tasks/{handed['task']['id']}"
    assert handed["workspace"] == "flowers/submissions/team-a/0001" and handed["benchmark"] == "flowers"
    about = handed["submission"]
    assert (about["team"], about["number"], about["kind"], about["label"]) == ("team-a", 1, "predictions", "first try")
    assert handed["quota"] == {"left_today": 2, "left": 3, "at_once_left": 1, "next_at": None}
    task = handed["task"]
    assert (task["action"], task["benchmark"], task["team"]) == ("score", "flowers", "team-a")
    assert task["scorer"] == "classification_accuracy"
    folder = benches.root / handed["workspace"]
    assert (folder / "output" / "pred.csv").read_text() == rows("xyxx")
    assert benches.score(handed)["summary"]["score"] == 0.75
    seen = benches.call("team-a", "GET", f"/tasks/{task['id']}").data
    assert seen["state"] == "completed" and seen["outcome"]["score"] == 0.75
    (listed,) = benches.call("team-a", "GET", "/benchmarks/flowers/submissions").data["submissions"]
    assert (listed["task_id"], listed["state"], listed["score"], listed["number"]) == (task["id"], "completed", 0.75, 1)
    assert listed["low"] < 0.75 < listed["high"]
    # Nothing of what came in stays beside it.
    assert list((benches.root / "flowers" / ".autoscorer" / "incoming").iterdir()) == []


def test_an_image_is_named_in_json_and_run(benches: Benches) -> None:
    body = {"image": "registry/model:1", "cmd": ["python", "predict.py"], "env": {"SEED": "1"}, "label": "net"}
    handed = benches.call("team-a", "POST", "/benchmarks/flowers/submissions", body).data
    assert (handed["task"]["action"], handed["submission"]["kind"]) == ("pipeline", "image")
    meta = json.loads((benches.root / handed["workspace"] / "meta.json").read_text())
    assert meta["container"] == {"image": "registry/model:1", "cmd": ["python", "predict.py"], "env": {"SEED": "1"}}


def test_an_archive_of_an_image_is_handed_in_as_a_file(benches: Benches) -> None:
    body, headers = form(b"\x1f\x8bnot really", "model.tar.gz", backend="docker")
    handed = benches.call("team-a", "POST", "/benchmarks/flowers/submissions", body, **headers).data
    assert handed["submission"]["kind"] == "archive" and handed["task"]["backend"] == "docker"
    assert (benches.root / handed["workspace"] / "image.tar.gz").read_bytes() == b"\x1f\x8bnot really"


@pytest.mark.parametrize(
    ("filename", "fields", "why"),
    [
        ("pred.txt", {}, "expected predictions"),
        ("", {}, "expected predictions"),
        ("pred.txt", {"kind": "predictions"}, "must be one of .csv"),
        ("x.tar", {"kind": "dockerfile"}, "not dockerfile"),
        ("pred.csv", {"kind": "x"}, "body.kind"),
        ("pred.csv", {"scorer": "x"}, "the field 'scorer' is unknown"),
        ("pred.csv", {"backend": "x"}, "body.backend"),
        ("pred.csv", {"label": "x" * 201}, "body.label"),
        ("pred.csv", {"callback_url": "ftp://example.org/"}, "callback"),
    ],
)
def test_what_can_not_be_taken_makes_nothing_and_costs_nothing(
    benches: Benches, filename: str, fields: dict[str, str], why: str
) -> None:
    answer = benches.hand_in("team-a", rows("xyxx"), filename=filename, **fields)
    assert answer.error["code"] == "INVALID_REQUEST" and why in answer.error["message"]
    assert not [*(benches.root / "flowers").glob("submissions/*/*")]
    assert benches.call("team-a", "GET", "/benchmarks/flowers").data["left"]["left"] == 4


def test_the_quota_is_kept_and_what_is_left_is_told(benches: Benches) -> None:
    first, second = (benches.hand_in("team-a", rows("xyxx")).data for _ in range(2))
    assert second["quota"]["at_once_left"] == 0
    refused = benches.hand_in("team-a", rows("xyxx"))
    assert refused.status == 429 and refused.error["code"] == "QUOTA_EXCEEDED"
    assert refused.error["details"]["limit"] == "at_once" and refused.error["details"]["left_today"] == 1
    assert not (benches.root / "flowers/submissions/team-a/0003").exists()
    # One of them failed by no fault of theirs, the other one ended.
    away = AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, "Docker is away.").to_dict()
    benches.end(first["task"]["id"], state=TaskState.FAILED, error=away)
    benches.end(second["task"]["id"], state=TaskState.COMPLETED)
    left = benches.call("team-a", "GET", "/benchmarks/flowers").data["left"]
    assert left == {"left_today": 2, "left": 3, "at_once_left": 2, "next_at": None}
    # What is repeated is a submission like another.
    again = benches.call("team-a", "POST", f"/tasks/{first['task']['id']}/retry").data
    assert again["retry_of"] == first["task"]["id"]
    assert benches.call("team-a", "GET", "/benchmarks/flowers").data["left"]["left_today"] == 1
    # Cancelled before it began.
    assert benches.call("team-a", "POST", f"/tasks/{again['id']}/cancel").data["state"] == "cancelled"
    for _ in range(2):
        benches.end(benches.hand_in("team-a", rows("xyxx")).data["task"]["id"], state=TaskState.COMPLETED)
    refused = benches.hand_in("team-a", rows("xyxx"))
    assert refused.error["details"]["limit"] == "per_day" and refused.error["details"]["next_at"] is not None
    assert int(refused.headers["retry-after"]) == refused.error["details"]["retry_after"] <= 86401
    # Others have theirs, and an organiser's costs the team nothing.
    assert benches.hand_in("team-b", rows("xyxx")).status == 202
    for_a = benches.hand_in("flowers", rows("xyxx"), team="team-a")
    assert for_a.status == 202 and for_a.data["quota"] is None
    assert benches.call("team-a", "GET", "/benchmarks/flowers").data["left"]["left"] == 1


def test_the_list_says_what_is_left_of_each_to_a_team_alone(benches: Benches) -> None:
    benches.hand_in("team-a", rows("xyxx"))
    for who, left in (("team-a", 2), ("team-b", 3)):
        listed = {each["name"]: each["left"] for each in benches.call(who, "GET", "/benchmarks").data["benchmarks"]}
        assert listed["flowers"]["left_today"] == left and listed["dogs"]["left_today"] is None
        assert listed["flowers"] == benches.call(who, "GET", "/benchmarks/flowers").data["left"]
    for who in ("flowers", "submit", "admin"):
        assert [each["left"] for each in benches.call(who, "GET", "/benchmarks").data["benchmarks"]] == [None, None]


def test_racing_requests_get_as_many_as_there_are(benches: Benches) -> None:
    change_spec_of(benches, quota={"per_day": 5})
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(lambda _: benches.hand_in("team-a", rows("xyxx")), range(16))]
    statuses = [answer.status for answer in answers]
    assert sorted(statuses) == [202] * 5 + [429] * 11
    made = {answer.data["workspace"] for answer in answers if answer.status == 202}
    assert {
        f"flowers/submissions/team-a/{path.name}" for path in (benches.root / "flowers/submissions/team-a").iterdir()
    } == made


def change_spec_of(benches: Benches, name: str = "flowers", **changed: Any) -> None:
    from autoscorer.core.benchmark import BenchmarkFolder

    change_spec(BenchmarkFolder(benches.root / name), **changed)


def test_the_same_key_makes_one_submission(benches: Benches) -> None:
    first = benches.hand_in("team-a", rows("xyxx"), key="k")
    again = benches.hand_in("team-a", rows("xyxx"), key="k")
    assert (first.headers["x-task-created"], again.headers["x-task-created"]) == ("true", "false")
    assert again.data["task"]["id"] == first.data["task"]["id"] and again.data["workspace"] == first.data["workspace"]
    assert again.data["quota"]["left"] == 3
    other = benches.hand_in("team-a", rows("yyyy"), key="k")
    assert other.status == 409 and other.error["code"] == "CONFLICT"
    assert len([*(benches.root / "flowers").glob("submissions/*/*")]) == 1
    # Of another team it is another key.
    assert benches.hand_in("team-b", rows("xyxx"), key="k").headers["x-task-created"] == "true"


def test_nothing_is_taken_before_and_after_the_phases(benches: Benches) -> None:
    change_spec_of(benches, phases=[{"name": "past", "close": "2020-01-01T00:00:00Z"}])
    shown = benches.call("team-a", "GET", "/benchmarks/flowers").data
    assert not shown["is_open"] and shown["phases"][0]["name"] == "past"
    answer = benches.hand_in("team-a", rows("xyxx"))
    assert answer.status == 403 and answer.error["code"] == "PHASE_CLOSED"
    assert not [*(benches.root / "flowers").glob("submissions/*/*")]


def test_a_phase_that_ended_ends_repeating_too(benches: Benches) -> None:
    handed = benches.hand_in("team-a", rows("xyxx")).data
    benches.end(handed["task"]["id"], state=TaskState.COMPLETED)
    change_spec_of(benches, phases=[{"name": "past", "close": "2020-01-01T00:00:00Z"}])
    answer = benches.call("team-a", "POST", f"/tasks/{handed['task']['id']}/retry")
    assert answer.error["code"] == "PHASE_CLOSED"
    # An organiser repeats it all the same.
    assert benches.call("flowers", "POST", f"/tasks/{handed['task']['id']}/retry").status == 202


def test_who_may_submit_for_whom(benches: Benches) -> None:
    assert benches.hand_in("submit", rows("xyxx")).error["code"] == "FORBIDDEN"
    assert benches.hand_in("team-b", rows("xyxx"), team="team-a").error["code"] == "FORBIDDEN"
    assert benches.hand_in("dogs", rows("xyxx"), team="team-a").error["code"] == "FORBIDDEN"
    for who in ("flowers", "admin"):
        assert benches.hand_in(who, rows("xyxx")).error["code"] == "INVALID_REQUEST"
        assert benches.hand_in(who, rows("xyxx"), team="Team A").error["code"] == "INVALID_REQUEST"
        assert benches.hand_in(who, rows("xyxx"), team="team-z").data["submission"]["team"] == "team-z"
    assert benches.hand_in("team-a", rows("xyxx"), team="team-a").status == 202
    unsealed = benches.hand_in("team-a", rows("xyxx"), backend="process")
    assert unsealed.status == 403 and "unsealed" in unsealed.error["message"]


def test_a_team_repeats_and_ends_what_it_asked_for_itself(benches: Benches) -> None:
    handed = benches.hand_in("team-a", rows("xyxx")).data
    benches.score(handed)
    rescoring = benches.call("flowers", "POST", "/submit", {"workspace": handed["workspace"], "action": "score"}).data
    assert (rescoring["benchmark"], rescoring["team"]) == ("flowers", "team-a")
    assert benches.call("team-a", "GET", f"/tasks/{rescoring['id']}").status == 200
    for verb in ("cancel", "retry"):
        assert benches.call("team-a", "POST", f"/tasks/{rescoring['id']}/{verb}").status == 403
    # Nor does it work on its submission in any other way.
    for path, body in (
        ("/submit", {"action": "score"}),
        ("/score", {}),
        ("/pipeline", {}),
        ("/run", {}),
        ("/validate", {}),
        ("/scorers/test", {"scorer": "classification_accuracy"}),
    ):
        answer = benches.call("team-a", "POST", path, {"workspace": handed["workspace"], **body})
        assert (answer.status, answer.error["code"]) == (403, "FORBIDDEN"), path


def test_an_organiser_works_on_all_of_a_benchmark_and_on_nothing_else(benches: Benches) -> None:
    own, others = (benches.hand_in("team-a", rows("xyxx"), benchmark=name).data for name in ("flowers", "dogs"))
    for handed in (own, others):
        benches.score(handed)
    batch = benches.call("flowers", "POST", "/batch", {"workspaces": ["flowers/submissions/*/*"], "action": "score"})
    assert batch.data["benchmark"] == "flowers" and "team" not in batch.data
    assert benches.call("team-a", "GET", f"/batch/{batch.data['id']}").status == 404
    assert benches.call("flowers", "GET", f"/batch/{batch.data['id']}").status == 200
    for items in (
        ["dogs/submissions/*/*"],
        ["plain"],
        ["flowers/submissions/team-a", "plain"],
        ["*"],
        ["dogs/no-such"],
    ):
        answer = benches.call("flowers", "POST", "/batch", {"workspaces": items, "action": "score"})
        assert (answer.status, answer.error["code"]) == (404, "WORKSPACE_NOT_FOUND"), items
    # What is of several is admins' alone.
    several = benches.call("admin", "POST", "/batch", {"workspaces": ["flowers/submissions/*/*", "plain"]}).data
    for who in ("flowers", "submit", "team-a"):
        assert benches.call(who, "GET", f"/batch/{several['id']}").status == 404
    # It sees the truth there, and is told what its benchmark goes by.
    name = own["workspace"]
    assert benches.call("flowers", "GET", f"/artifacts/errors.csv?workspace={name}").status == 200
    assert benches.call("team-a", "GET", f"/artifacts/errors.csv?workspace={name}").status == 403
    assert benches.call("dogs", "GET", "/benchmarks/dogs").data["params"] == {"pass_threshold": 0.5}
    for who in ("flowers", "team-a", "submit"):
        assert benches.call(who, "GET", "/benchmarks/dogs").data["params"] is None


@pytest.mark.slow
def test_a_team_sees_no_truth_even_where_all_errors_are_shown(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_benchmark(root, "flowers")
    with serving(root, api={"show_errors": True}) as benches:
        handed = benches.hand_in("team-a", rows("xyxx")).data
        benches.score(handed)
        asked = f"/artifacts/errors.csv?workspace={handed['workspace']}"
        assert [benches.call(who, "GET", asked).status for who in ("team-a", "flowers", "admin")] == [403, 200, 200]


def board(benches: Benches, who: str, name: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = benches.call(who, "GET", f"/benchmarks/{name}/leaderboard{query}").data["rows"]
    return found


def test_of_others_a_team_sees_what_the_benchmark_says(benches: Benches) -> None:
    for who, labels in (("team-a", "xyxx"), ("team-b", "xyxy")):
        benches.score(benches.hand_in(who, rows(labels), label=f"words of {who}").data)
    assert [(row["place"], row["team"], row["score"]) for row in board(benches, "team-a", "flowers")] == [
        (1, "team-b", 1.0),
        (2, "team-a", 0.75),
    ]
    assert [row["label"] for row in board(benches, "team-a", "flowers")] == [None, "words of team-a"]
    assert [row["label"] for row in board(benches, "flowers", "flowers")] == ["words of team-b", "words of team-a"]
    teams = {who: benches.call(who, "GET", "/benchmarks/flowers/leaderboard").data["team"] for who in TOKENS}
    assert {who: team for who, team in teams.items() if team} == {"team-a": "team-a", "team-b": "team-b"}
    text = benches.call("team-a", "GET", "/benchmarks/flowers/leaderboard?format=csv")
    assert text.headers["content-type"].startswith("text/csv") and b"words of team-b" not in text.body
    change_spec_of(benches, visibility="anonymous")
    assert [(row["place"], row["team"]) for row in board(benches, "team-a", "flowers")] == [(1, None), (2, "team-a")]
    assert [row["team"] for row in board(benches, "submit", "flowers")] == [None, None]
    change_spec_of(benches, visibility="nothing")
    assert [(row["place"], row["team"]) for row in board(benches, "team-a", "flowers")] == [(None, "team-a")]
    assert board(benches, "submit", "flowers") == board(benches, "dogs", "flowers") == []
    assert len(board(benches, "flowers", "flowers")) == len(board(benches, "admin", "flowers")) == 2


def test_a_public_leaderboard_takes_no_token_and_tells_what_any_token_is_told(benches: Benches) -> None:
    for who, labels in (("team-a", "xyxx"), ("team-b", "xyxy")):
        benches.score(benches.hand_in(who, rows(labels), label=f"words of {who}").data)
    public = "/public/benchmarks/flowers"
    # Whether there is one that is not public is as little known as what it is about.
    for name in ("flowers", "cats", "plain", "..", "flowers/submissions/team-a"):
        answer = benches.call(None, "GET", f"/public/benchmarks/{name}")
        assert (answer.status, answer.error["code"]) == (404, "BENCHMARK_NOT_FOUND"), name
        assert "is not" not in answer.error["message"]
    change_spec_of(benches, leaderboard={"public": True})
    told = benches.call(None, "GET", public).data
    assert (
        told["title"] == "Flowers"
        and told["board"] == benches.call("submit", "GET", "/benchmarks/flowers/leaderboard").data
    )
    text = json.dumps(told)
    assert "words of" not in text and "params" not in text
    for path in (
        "/benchmarks",
        "/benchmarks/flowers",
        "/benchmarks/flowers/leaderboard",
        "/benchmarks/flowers/submissions",
    ):
        assert benches.call(None, "GET", path).status == 401, path
    assert benches.call(None, "POST", public, {}).status in (404, 405)
    # What the organiser changes holds at once: names go, and the board does.
    change_spec_of(benches, visibility="anonymous")
    assert [row["team"] for row in benches.call(None, "GET", public).data["board"]["rows"]] == [None, None]
    change_spec_of(benches, leaderboard={"public": True, "margin": 0.3})
    rounded = [row["score"] for row in benches.call(None, "GET", public).data["board"]["rows"]]
    assert rounded == [pytest.approx(0.9), pytest.approx(0.6)]
    change_spec_of(benches, leaderboard={})
    assert benches.call(None, "GET", public).status == 404


def test_of_a_public_leaderboard_the_withheld_part_is_told_once_it_is_released(benches: Benches) -> None:
    benches.score(benches.hand_in("team-a", rows("xyyx"), benchmark="dogs").data)
    change_spec_of(benches, "dogs", leaderboard={"public": True})
    private = "/public/benchmarks/dogs?part=private"
    assert benches.call(None, "GET", private).error["code"] == "FORBIDDEN"
    assert benches.call(None, "GET", private.replace("private", "secret")).status == 422
    from autoscorer.core.benchmark import BenchmarkFolder

    release(BenchmarkFolder(benches.root / "dogs"))
    assert [row["score"] for row in benches.call(None, "GET", private).data["board"]["rows"]] == [0.0]


@pytest.mark.slow
def test_a_public_leaderboard_is_rounded_even_where_all_errors_are_shown(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    truth = "id,label\n" + "".join(f"r{n},{'xy'[n % 2]}\n" for n in range(7))
    write_benchmark(root, "flowers", truth=truth, leaderboard={"public": True})
    with serving(root, api={"show_errors": True}) as benches:
        benches.score(benches.hand_in("team-a", truth.replace("r0,x", "r0,y")).data)
        (row,) = benches.call(None, "GET", "/public/benchmarks/flowers").data["board"]["rows"]
        assert row["score"] == 0.8571 and board(benches, "flowers", "flowers")[0]["score"] == pytest.approx(
            6 / 7, abs=1e-12
        )


def test_the_withheld_part_is_organisers_alone_until_it_is_released(benches: Benches) -> None:
    benches.score(benches.hand_in("team-a", rows("xyyx"), benchmark="dogs").data)
    assert [row["score"] for row in board(benches, "team-a", "dogs")] == [1.0]
    assert [row["score"] for row in board(benches, "dogs", "dogs", "?part=private")] == [0.0]
    for who in ("team-a", "submit", "flowers"):
        answer = benches.call(who, "GET", "/benchmarks/dogs/leaderboard?part=private")
        assert (answer.status, answer.error["code"]) == (403, "FORBIDDEN")
    assert benches.call("team-a", "GET", "/benchmarks/dogs").data["withheld"] == {"released": False, "release": None}
    assert benches.call("team-a", "GET", "/benchmarks/flowers/leaderboard?part=private").status == 422
    from autoscorer.core.benchmark import BenchmarkFolder

    release(BenchmarkFolder(benches.root / "dogs"))
    assert [row["score"] for row in board(benches, "team-a", "dogs", "?part=private")] == [0.0]


def test_where_a_board_has_a_margin_it_alone_tells_a_team_of_scores(benches: Benches) -> None:
    """The Ladder holds only while nothing else says how good a submission was."""
    change_spec_of(benches, leaderboard={"margin": 0.3}, quota={})
    for labels in ("xxyx", "xyxx"):
        handed = benches.hand_in("team-a", rows(labels)).data
        benches.score(handed)
    name, task = handed["workspace"], handed["task"]["id"]
    # A half and three quarters: no better by more than the margin.
    assert [row["score"] for row in board(benches, "team-a", "flowers")] == [pytest.approx(0.6)]
    batch = benches.call("flowers", "POST", "/batch", {"workspaces": ["flowers/submissions/team-a"], "action": "score"})
    asked = [
        *(f"/tasks/{task}", "/tasks", f"/result?workspace={name}", f"/tasks/{task}/result.json"),
        *(f"/workspaces/{name}", f"/workspaces/{name}/history", "/workspaces", "/benchmarks/flowers/submissions"),
        *(f"/workspaces/{name}/output/result.json", f"/tasks/{task}/artifacts/report.html", f"/tasks/{task}/artifacts"),
        f"/artifacts/report.html?workspace={name}",
    ]
    history = benches.call("team-a", "GET", f"/workspaces/{name}/history").data["results"]
    asked.append(f"/workspaces/{name}/history/{history[0]['id']}")
    for address in asked:
        answer = benches.call("team-a", "GET", address)
        text = answer.body.decode()
        assert answer.status == 200 and "0.75" not in text and "75.0" not in text and "75 %" not in text, address
        assert "0.75" in benches.call("flowers", "GET", address).body.decode() or "artifacts" in address, address
    assert benches.call("team-a", "GET", f"/batch/{batch.data['id']}").status == 404
    for item in (history[0], benches.call("team-a", "GET", "/benchmarks/flowers/submissions").data["submissions"][0]):
        assert {item[key] for key in ("score", "low", "high", "pass")} == {None}
    shown = benches.call("team-a", "GET", f"/tasks/{task}").data
    assert shown["outcome"]["score"] is None and shown["result"]["summary"]["score"] is None
    assert shown["result"]["metrics"] == shown["result"]["intervals"] == {} and [*shown["result"]["artifacts"]] == [
        "report"
    ]
    assert benches.call("flowers", "GET", f"/tasks/{task}").data["outcome"]["score"] == 0.75


@pytest.mark.slow
def test_a_team_chooses_which_of_its_submissions_counts(benches: Benches) -> None:
    change_spec_of(benches, leaderboard={"choose": "chosen"})
    for labels in ("xyxy", "xyxx"):
        benches.score(benches.hand_in("team-a", rows(labels)).data)
    assert [row["score"] for row in board(benches, "team-a", "flowers")] == [1.0]
    assert benches.call("team-a", "PUT", "/benchmarks/flowers/chosen", {"number": 2}).data["number"] == 2
    assert [row["score"] for row in board(benches, "team-a", "flowers")] == [0.75]
    assert benches.call("team-b", "PUT", "/benchmarks/flowers/chosen", {"number": 2}).status == 404
    assert benches.call("team-b", "PUT", "/benchmarks/flowers/chosen", {"number": 1, "team": "team-a"}).status == 403


def test_a_benchmark_that_can_not_be_used_says_so(benches: Benches) -> None:
    (benches.root / "dogs" / "benchmark.json").write_text("{")
    listed = {each["name"]: each["error"] for each in benches.call("team-a", "GET", "/benchmarks").data["benchmarks"]}
    assert listed == {"dogs": "INVALID_BENCHMARK", "flowers": None}
    answer = benches.hand_in("team-a", rows("xyxx"), benchmark="dogs")
    assert answer.error["code"] == "INVALID_BENCHMARK"
    for name in ("cats", "flowers/input", "plain", "flowers/submissions/team-a", ".."):
        found = benches.call("team-a", "GET", f"/benchmarks/{name}")
        assert found.error["code"] in ("BENCHMARK_NOT_FOUND", "FORBIDDEN"), name


@pytest.mark.parametrize("place", ["submissions", ".autoscorer"])
def test_a_folder_that_can_not_be_written_is_told_in_words(benches: Benches, place: str) -> None:
    (benches.root / "flowers" / place).write_text("in the way")
    answer = benches.hand_in("team-a", rows("xyxx"))
    assert (answer.status, answer.error["code"]) == (503, "BACKEND_UNAVAILABLE")
    assert str(benches.root) not in answer.error["message"]
    assert benches.call("team-a", "GET", "/benchmarks/flowers").data["left"]["left"] == 4


def test_lists_go_by_pages(benches: Benches) -> None:
    change_spec_of(benches, quota={})
    for who, count in (("team-a", 3), ("team-b", 2)):
        for _ in range(count):
            benches.hand_in(who, rows("xyxx"))

    def listed(who: str, query: str = "") -> list[tuple[str, int]]:
        found, cursor = [], ""
        while True:
            page = benches.call(who, "GET", f"/benchmarks/flowers/submissions?limit=2{cursor}{query}").data
            found += [(each["team"], each["number"]) for each in page["submissions"]]
            assert page["total"] == (3 if who == "team-a" or query else 2 if who == "team-b" else 5)
            if page["next_cursor"] is None:
                return found
            cursor = "&cursor=" + page["next_cursor"].replace(" ", "%20")

    of_a, of_b = [("team-a", 3), ("team-a", 2), ("team-a", 1)], [("team-b", 2), ("team-b", 1)]
    assert listed("team-a") == listed("flowers", "&team=team-a") == of_a
    assert listed("team-b") == of_b
    assert listed("flowers") == listed("admin") == of_a + of_b
    empty = {"submissions": [], "next_cursor": None, "total": 0}
    for who, query in (("team-a", "?team=team-b"), ("submit", ""), ("dogs", ""), ("flowers", "?team=..")):
        assert benches.call(who, "GET", f"/benchmarks/flowers/submissions{query}").data == empty, who
    assert benches.call("team-a", "GET", "/benchmarks/flowers/submissions?cursor=x").status == 422
