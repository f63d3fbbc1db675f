"""Submitting on the page: a workspace that is there or is uploaded, a submission, a batch, an answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.records import TaskEnd
from autoscorer.tasks.validate import validate_workspace

from ..support.benchmarks import rows, write_benchmark
from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.page_forms import choose_files, click_on, open_as, shown, write
from ..support.relay import Relay
from ..support.teams import TOKENS, serving
from ..support.workspaces import write_workspace

HOSTILE = "<img src=x onerror=alert(1)>"
ADDRESS = "location.pathname + location.search"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    write_workspace(folder, "round-1/team-a")
    write_workspace(folder, "round-1/team-b")
    return folder


@pytest.fixture
def api(root: Path) -> Iterator[Facade]:
    with facade(facade_settings(root, tokens=False)) as served:
        yield served


def end(api: Facade, task_id: str, **end: Any) -> None:
    """How a task ended, as its worker would say it."""

    async def finish() -> None:
        await api.state.tasks.ledger.finish([TaskEnd(task_id, **end)])

    asyncio.run_coroutine_threadsafe(finish(), api.state.loop).result(300)


def tasks(api: Facade, **which: str) -> list[dict[str, Any]]:
    listed = api.call("GET", "/tasks").data["tasks"]
    return [task for task in listed if all(task[key] == value for key, value in which.items())]


def followed(page: Browser) -> str:
    """The task whose record the page has gone to."""
    page.wait_for("location.pathname.startsWith('/ui/record/') && document.querySelector('#detail')")
    return str(page.value("location.pathname.split('/').pop()"))


def test_a_workspace_is_found_and_submitted_with_only_what_was_changed(browser: Browser, api: Facade) -> None:
    open_as(browser, api.url, "/ui/submit?lang=en")
    write(browser, "#find-workspace", "TEAM-B")
    browser.wait_for("document.querySelectorAll('#found li').length === 1")
    click_on(browser, "#found button")
    browser.wait_for("document.activeElement.id === 'chosen'")
    assert browser.value(ADDRESS) == "/ui/submit?lang=en&workspace=round-1%2Fteam-b"
    write(browser, "#action", "score")
    click_on(browser, "#scoring-params summary")
    write(browser, "#param-average", "1")
    write(browser, "#param-n_resamples", "200")
    write(browser, "#param-rank_thresholds", "0.9, 0.8，0.5")
    # Written and taken away again is not changed.
    write(browser, "#param-seed", "7")
    write(browser, "#param-seed", "")
    write(browser, "#priority", "high")
    # All of what was chosen but what is written by hand stands in the address, which leads back to it.
    assert "action=score" in browser.value(ADDRESS)
    click_on(browser, "#submit-work")
    task = api.call("GET", f"/tasks/{followed(browser)}").data
    assert (task["action"], task["workspace"], task["priority"]) == ("score", "round-1/team-b", "high")
    assert task["params"] == {"average": "micro", "n_resamples": 200, "rank_thresholds": [0.9, 0.8, 0.5]}
    assert task["scorer"] in (None, "classification_f1") and task["backend"] is None


def test_a_value_that_the_schema_does_not_take_is_told_at_its_field_and_nothing_is_sent(
    browser: Browser, api: Facade
) -> None:
    open_as(browser, api.url, "/ui/submit?lang=en&workspace=round-1/team-a&action=score")
    click_on(browser, "#scoring-params summary")
    for name, wrong in (("confidence_level", "1"), ("n_resamples", "2.5"), ("pass_threshold", "much")):
        write(browser, f"#param-{name}", wrong)
        click_on(browser, "#submit-work")
        browser.wait_for(f"document.activeElement.id === 'param-{name}'")
        assert browser.value(f"document.querySelector('#param-{name}-problem').innerText")
        write(browser, f"#param-{name}", "")
    assert tasks(api) == []
    click_on(browser, "#submit-work")
    assert api.call("GET", f"/tasks/{followed(browser)}").data["params"] is None


def test_who_submits_what_is_being_worked_on_is_led_there_and_told_so_once(browser: Browser, api: Facade) -> None:
    address = "/ui/submit?lang=en&workspace=round-1/team-a&action=score"
    open_as(browser, api.url, address)
    click_on(browser, "#submit-work")
    first = followed(browser)
    assert "second time" not in shown(browser)
    open_as(browser, api.url, address)
    click_on(browser, "#submit-work")
    browser.wait_for("document.querySelector('.notice')")
    assert followed(browser) == first
    assert "nothing was submitted a second time" in shown(browser) and len(tasks(api)) == 1
    # A look at something else, and it is a record like any other.
    browser.value("document.querySelector('header nav a').click()")
    browser.wait_for("location.pathname === '/ui/records'")
    browser.value("history.back()")
    assert followed(browser) == first
    assert not browser.value("document.querySelector('.notice')")


@pytest.mark.parametrize(("language", "word"), [("en", "Nothing is wrong"), ("zh", "没有问题")])
def test_a_check_shows_each_problem_before_anything_runs(
    browser: Browser, api: Facade, root: Path, language: str, word: str
) -> None:
    folder = root / "round-1" / "team-a"
    (folder / "input" / "gt.csv").unlink()
    with pytest.raises(AutoScorerError) as found:
        validate_workspace(folder, params={"average": "none"}, settings=load_settings(), purpose="score")
    problems = found.value.details["problems"]
    assert len(problems) > 1
    open_as(browser, api.url, f"/ui/submit?lang={language}&workspace=round-1/team-a&action=score")
    click_on(browser, "#check-first")
    browser.wait_for("document.querySelector('#checked')")
    (check,) = tasks(api, action="validate")
    end(api, check["id"], state=TaskState.FAILED, error=found.value.to_dict(), attempts=1)
    browser.wait_for(f"document.querySelectorAll('#checked li').length === {len(problems)}")
    said = shown(browser)
    assert all(problem["message"].split()[-1] in said for problem in problems)
    # Mended, and checked again.
    click_on(browser, "#check-first")
    browser.wait_for("document.querySelector('#checked') && !document.querySelector('#checked li')")
    again = next(task for task in tasks(api, action="validate") if task["id"] != check["id"])
    result = validate_workspace(root / "round-1" / "team-b", settings=load_settings(), purpose="score")
    end(api, again["id"], state=TaskState.COMPLETED, result=result, attempts=1)
    browser.wait_for("document.querySelector('#checked .good')")
    assert word in shown(browser) and browser.value(CONTRAST) == []
    assert len(tasks(api)) == 2, "a check submits nothing else"


def test_a_refusal_is_shown_and_what_was_filled_in_stays(browser: Browser, root: Path) -> None:
    with facade(facade_settings(root)) as api:
        address = "/ui/submit?lang=en&workspace=round-1/team-a&action=score&scorer=classification_accuracy"
        open_as(browser, api.url, address, SUBMIT)
        write(browser, "#priority", "low")
        click_on(browser, "#submit-work")
        browser.wait_for("document.querySelector('#work .failure')")
        refused = api.call("POST", "/submit", {"workspace": "round-1/team-a", "action": "score", "scorer":
                                               "classification_accuracy"}, token=SUBMIT).error  # fmt: skip
        assert (
            refused["message"] in shown(browser) and browser.value("document.querySelector('#priority').value") == "low"
        )
        open_as(browser, api.url, address, ADMIN)
        click_on(browser, "#submit-work")
        followed(browser)
        open_as(browser, api.url, "/ui/submit?lang=en&workspace=nonesuch", ADMIN)
        browser.wait_for("document.querySelector('main .problem')")
        assert "nonesuch" in shown(browser)
        click_on(browser, "#choose-other")
        browser.wait_for("document.querySelectorAll('#found li').length === 2")


def archive(folder: Path, name: str) -> Path:
    """An archive of a workspace, beside it."""
    path = folder.parent / name
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    return path


def test_an_archive_is_uploaded_and_then_submitted(browser: Browser, api: Facade, root: Path, tmp_path: Path) -> None:
    folder = write_workspace(tmp_path, "mine")
    (folder / "output" / "result.json").write_text("{}")
    open_as(browser, api.url, "/ui/submit?lang=en&from=archive")
    click_on(browser, "#send")
    browser.wait_for("document.querySelector('#upload .wrong')")
    choose_files(browser, "#file", archive(folder, "mine.tar.gz"))
    write(browser, "#name", "team-c")
    click_on(browser, "#send")
    browser.wait_for("document.activeElement.id === 'chosen'")
    assert "output/result.json" in shown(browser) and browser.value(ADDRESS).endswith("workspace=team-c")
    assert (root / "team-c" / "meta.json").read_bytes() == (folder / "meta.json").read_bytes()
    click_on(browser, "#submit-work")
    assert api.call("GET", f"/tasks/{followed(browser)}").data["workspace"] == "team-c"
    # A name that is taken, and a file that is no archive: told, and the form stays.
    for file, code in ((archive(folder, "mine.tar.gz"), "CONFLICT"), (folder / "meta.json", "INVALID")):
        open_as(browser, api.url, "/ui/submit?lang=en&from=archive")
        choose_files(browser, "#file", file)
        write(browser, "#name", "team-c" if code == "CONFLICT" else "team-d")
        click_on(browser, "#send")
        browser.wait_for("document.querySelector('#upload .failure')")
        assert code in shown(browser)


def test_a_folder_is_packed_by_the_page_whatever_its_names(
    browser: Browser, api: Facade, root: Path, tmp_path: Path
) -> None:
    folder = write_workspace(tmp_path, "mine")
    names = ["数据/图 片.bin", "a" * 99, "b" * 100, "deep/" * 20 + "c" * 80, "empty", "é" * 60]
    for number, name in enumerate(names):
        path = folder / "input" / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (0 if name == "empty" else 511 + number))
    open_as(browser, api.url, "/ui/submit?lang=zh&from=folder")
    choose_files(browser, "#file", folder)
    click_on(browser, "#send")
    browser.wait_for("document.activeElement.id === 'chosen'")
    for name in names:
        assert (root / "mine" / "input" / "data" / name).read_bytes() == (folder / "input" / "data" / name).read_bytes()


class Cut(Relay):
    """A relay on which nothing goes on until it may, and that can be cut and mended."""

    def __init__(self, to: Facade) -> None:
        self.to, self.is_cut, self.may_pass = to, False, threading.Event()
        self.may_pass.set()
        super().__init__()

    def reach(self) -> Any:
        if self.is_cut:
            raise OSError
        return self.to.connect()

    def hold(self) -> None:
        self.may_pass.wait(300)

    def cut(self) -> None:
        """End all connections and take no new one: of one that it had used before, a browser tries again by itself."""
        self.is_cut = True
        for each in self._open[1:]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.may_pass.set()


def test_a_connection_that_breaks_is_told_and_the_same_file_is_sent_again(
    browser: Browser, api: Facade, root: Path, tmp_path: Path
) -> None:
    folder = write_workspace(tmp_path, "mine")
    (folder / "input" / "data" / "large.bin").write_bytes(bytes(range(256)) * 40_000)
    relay = Cut(api)
    try:
        open_as(browser, f"http://127.0.0.1:{relay.port}", "/ui/submit?lang=en&from=folder")
        choose_files(browser, "#file", folder)
        browser.wait_for("document.querySelector('#upload [role=status]')")
        relay.may_pass.clear()
        click_on(browser, "#send")
        browser.wait_for("document.querySelector('#sending progress')")
        assert browser.value("document.querySelector('#file').disabled")
        relay.cut()
        browser.wait_for("document.querySelector('#sending .notice')")
        assert "The connection broke" in shown(browser) and not (root / "mine").exists()
        relay.is_cut = False
        click_on(browser, "#send-again")
        browser.wait_for("document.activeElement.id === 'chosen'")
        assert (root / "mine" / "input" / "data" / "large.bin").stat().st_size == 256 * 40_000
    finally:
        relay.may_pass.set()
        relay.close()


@pytest.mark.parametrize(
    ("token", "limit", "code"), [(TOKENS["team-a"], 1 << 30, "FORBIDDEN"), (ADMIN, 1 << 20, "PAYLOAD_TOO_LARGE")]
)
def test_an_upload_that_is_refused_before_its_end_says_why(
    browser: Browser, tmp_path: Path, token: str, limit: int, code: str
) -> None:
    folder = write_workspace(tmp_path, "mine")
    (folder / "input" / "data" / "large.bin").write_bytes(bytes(range(256)) * 200_000)
    write_benchmark(tmp_path / "root")
    with serving(tmp_path / "root", api={"max_upload": limit}) as benches:
        open_as(browser, benches.api.url, "/ui/submit?lang=en&from=folder", token)
        choose_files(browser, "#file", folder)
        browser.wait_for("document.querySelector('#upload [role=status]')")
        click_on(browser, "#send")
        browser.wait_for("document.querySelector('#upload .failure')")
        assert code in shown(browser) and not (tmp_path / "root" / "mine").exists()


def test_an_upload_can_be_stopped_and_leaves_nothing(browser: Browser, api: Facade, root: Path, tmp_path: Path) -> None:
    folder = write_workspace(tmp_path, "mine")
    relay = Cut(api)
    try:
        open_as(browser, f"http://127.0.0.1:{relay.port}", "/ui/submit?lang=en&from=folder")
        choose_files(browser, "#file", folder)
        browser.wait_for("document.querySelector('#upload [role=status]')")
        relay.may_pass.clear()
        click_on(browser, "#send")
        click_on(browser, "#send-stop")
        browser.wait_for("!document.querySelector('#sending') && !document.querySelector('#send').disabled")
        relay.cut()
        assert not (root / "mine").exists()
    finally:
        relay.may_pass.set()
        relay.close()


def test_a_team_hands_in_predictions_and_is_told_what_it_has_left(browser: Browser, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "root", quota={"per_day": 1}, title=HOSTILE)
    file = tmp_path / "pred.csv"
    file.write_text(rows("xyxy"))
    with serving(tmp_path / "root") as benches:
        url = benches.api.url
        open_as(browser, url, "/ui/submit?lang=en&benchmark=flowers", TOKENS["team-a"])
        browser.wait_for("document.querySelector('#hand-in')")
        assert HOSTILE in shown(browser) and "left today 1" in shown(browser)
        assert not browser.value("document.querySelector('#team')"), "a team's token says whose it is"
        choose_files(browser, "#file", file)
        browser.wait_for("document.querySelector('#hand-in [role=status]').innerText.startsWith('Predictions')")
        write(browser, "#label", HOSTILE)
        click_on(browser, "#send")
        task = benches.call("team-a", "GET", f"/tasks/{followed(browser)}").data
        assert (task["benchmark"], task["team"], task["action"]) == ("flowers", "team-a", "score")
        (handed,) = benches.call("team-a", "GET", "/benchmarks/flowers/submissions").data["submissions"]
        assert handed["label"] == HOSTILE
        # What is left is 0, and a second one is refused by the API, not by the page.
        open_as(browser, url, "/ui/submit?lang=zh&kind=benchmark&benchmark=flowers", TOKENS["team-a"])
        choose_files(browser, "#file", file)
        click_on(browser, "#send")
        browser.wait_for("document.querySelector('#hand-in .failure')")
        assert "QUOTA_EXCEEDED" in shown(browser)
        # An admin names the team; an image goes by its name.
        open_as(browser, url, "/ui/submit?lang=en&benchmark=flowers&from=image", ADMIN)
        write(browser, "#image", "registry.example.org/model:1")
        click_on(browser, "#send")
        browser.wait_for("document.querySelector('#hand-in .failure')")
        write(browser, "#team", "team-b")
        click_on(browser, "#send")
        task = benches.call("admin", "GET", f"/tasks/{followed(browser)}").data
        assert (task["team"], task["action"]) == ("team-b", "pipeline")


LOSE_THE_ANSWER = """
(() => {
  const real = window.fetch;
  window.fetch = async (path, ...more) => {
    const answer = await real(path, ...more);
    if (!String(path).endsWith('/submissions')) return answer;
    window.fetch = real;
    throw new TypeError('the connection broke');
  };
})()
"""


def test_what_was_accepted_and_not_answered_is_not_accepted_twice(browser: Browser, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "root")
    with serving(tmp_path / "root") as benches:
        open_as(browser, benches.api.url, "/ui/submit?lang=en&benchmark=flowers&from=image", TOKENS["team-a"])
        write(browser, "#image", "registry.example.org/model:1")
        browser.value(LOSE_THE_ANSWER)
        click_on(browser, "#send")
        browser.wait_for("document.querySelector('#hand-in .failure')")
        click_on(browser, "#send")
        task = followed(browser)
        (handed,) = benches.call("team-a", "GET", "/benchmarks/flowers/submissions").data["submissions"]
        assert handed["task_id"] == task


def test_a_batch_of_a_folder_a_pattern_and_what_was_picked(browser: Browser, api: Facade) -> None:
    open_as(browser, api.url, "/ui/submit?lang=en&kind=batch&action=score")
    click_on(browser, "#submit-batch")
    browser.wait_for("document.querySelector('#workspaces-problem')")
    write(browser, "#workspaces", "round-1/*\n\n  round-1 \n")
    click_on(browser, "#batch details summary")
    click_on(browser, "#found button")
    browser.wait_for("document.querySelector('#workspaces').value.split('\\n').length === 3")
    write(browser, "#concurrency", "65")
    click_on(browser, "#submit-batch")
    browser.wait_for("document.querySelector('#concurrency-problem')")
    write(browser, "#concurrency", "8")
    click_on(browser, "#submit-batch")
    task = api.call("GET", f"/tasks/{followed(browser)}").data
    assert task["action"] == "batch"
    assert task["workspaces"] == ["round-1/*", "round-1", "round-1/team-a"]


def test_an_answer_goes_to_its_job(browser: Browser, api: Facade) -> None:
    open_as(browser, api.url, "/ui/submit?lang=en&kind=answer")
    click_on(browser, "#submit-answer")
    browser.wait_for("document.activeElement.id === 'question-text'")
    write(browser, "#question-text", "What is the capital of France?")
    write(browser, "#answer-text", HOSTILE)
    write(browser, "#passage-0", "Paris is it.")
    click_on(browser, "#passage-more")
    write(browser, "#passage-1", "And it is large.")
    click_on(browser, "#passage-more")
    write(browser, "#reference", "Paris.")
    click_on(browser, "#metrics input[value=token_f1]")
    click_on(browser, "#metrics input[value=chrf]")
    click_on(browser, "#submit-answer")
    browser.wait_for("location.pathname.startsWith('/ui/job/')")
    (job,) = api.call("GET", "/api/score/jobs").json["jobs"]
    assert browser.value("location.pathname") == f"/ui/job/{job['job_id']}"
    asked = job["request_summary"]
    assert (asked["question"], asked["answer"], asked["metrics"]) == (
        "What is the capital of France?", HOSTILE, ["token_f1", "chrf"],
    )  # fmt: skip
    assert asked["has_contexts"] and asked["has_ground_truth"]


def test_an_answer_that_is_refused_says_why_and_stays(browser: Browser, api: Facade) -> None:
    open_as(browser, api.url, "/ui/submit?lang=zh&kind=answer")
    write(browser, "#question-text", "?")
    write(browser, "#judge", "no-such-judge")
    click_on(browser, "#submit-answer")
    browser.wait_for("document.querySelector('#answer-form .failure')")
    assert "no-such-judge" in shown(browser) and browser.value("document.querySelector('#question-text').value") == "?"


@pytest.mark.parametrize("kind", ["workspace", "benchmark", "batch", "answer"])
@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1300, "light")])
def test_every_kind_fits_and_can_be_read_and_names_from_outside_stay_text(
    browser: Browser, root: Path, kind: str, width: int, scheme: str
) -> None:
    write_workspace(root, HOSTILE)
    write_workspace(root, "long-" * 40)
    write_benchmark(root, "flowers", title="long-" * 30 + HOSTILE)
    with facade(facade_settings(root, tokens=False)) as api:
        address = f"/ui/submit?lang=en&kind={kind}&benchmark=flowers"
        open_as(browser, api.url, address, width=width, scheme=scheme)
        there = {
            "workspace": "document.querySelectorAll('#found li').length === 4",
            "benchmark": "document.querySelector('#hand-in')",
            "batch": "document.querySelector('#scorer')",
            "answer": "document.querySelector('#metrics')",
        }
        browser.wait_for(there[kind])
        if kind == "batch":
            click_on(browser, "#batch details summary")
            browser.wait_for("document.querySelectorAll('#found li').length === 4")
        if kind != "answer":
            assert HOSTILE in shown(browser)
        assert not browser.value("document.querySelector('main img')")
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(CONTRAST) == []
        fields = "[...document.querySelectorAll('main :is(input, select, textarea)')]"
        assert browser.value(f"{fields}.filter(field => !field.labels.length).length") == 0


WRITTEN = """
import('/static/core/params.js').then(({ paramsOf, written }) => {
  const { params, problems } = written(paramsOf(SCHEMA), VALUES);
  return JSON.stringify([params, problems]);
})
"""
SCHEMA = {
    "required": ["must"],
    "properties": {
        "must": {"type": "integer"},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "perhaps": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": None},
        "mode": {"enum": ["plain", 2, None]},
        "is_on": {"type": "boolean", "default": True},
        "names": {"type": "array", "items": {"enum": ["a", "b"]}},
        "pair": {"type": "array", "prefixItems": [{"type": "number"}], "minItems": 2, "maxItems": 2},
        "judge": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        "table": {"type": "object"},
        "text": {"type": "string"},
    },
}


@pytest.mark.parametrize(
    ("values", "params", "problems"),
    [
        ({}, {}, {"must": "param.needed"}),
        ({"must": "3", "share": "", "names": []}, {"must": 3}, {}),
        ({"must": "x"}, {}, {"must": "param.number"}),
        ({"must": "1.5"}, {}, {"must": "param.whole"}),
        ({"must": "1e3", "share": "0"}, {"must": 1000}, {"share": "param.range"}),
        ({"must": "1", "share": "1", "perhaps": "0"}, {"must": 1, "share": 1}, {"perhaps": "param.range"}),
        ({"must": "1", "mode": "1", "is_on": "false"}, {"must": 1, "mode": 2, "is_on": False}, {}),
        ({"must": "1", "names": ["b"], "pair": "1，2.5"}, {"must": 1, "names": ["b"], "pair": [1, 2.5]}, {}),
        ({"must": "1", "pair": "1"}, {"must": 1}, {"pair": "param.length"}),
        ({"must": "1", "judge": "one, two"}, {"must": 1, "judge": "one, two"}, {}),
        ({"must": "1", "judge": '["one"]', "table": "{"}, {"must": 1, "judge": ["one"]}, {"table": "param.broken"}),
        ({"must": "1", "table": '{"a": 1}', "text": " "}, {"must": 1, "table": {"a": 1}, "text": " "}, {}),
        ({"must": "1", "share": "Infinity"}, {"must": 1}, {"share": "param.number"}),
    ],
)
def test_what_is_sent_of_a_form_is_what_the_schema_says(
    browser: Browser, api: Facade, values: dict[str, Any], params: dict[str, Any], problems: dict[str, str]
) -> None:
    browser.open(f"{api.url}/ui/submit", width=800)
    code = WRITTEN.replace("SCHEMA", json.dumps(SCHEMA)).replace("VALUES", json.dumps(values))
    assert json.loads(browser.value(code)) == [params, problems]


def test_a_form_of_the_rag_scorer_offers_the_metrics_that_there_are(api: Facade) -> None:
    from autoscorer.scorers.rag.catalogue import METRICS

    schema = api.call("GET", "/scorers/rag").data["params_schema"]["properties"]["metrics"]
    assert schema["anyOf"][0]["items"]["enum"] == [*METRICS]
