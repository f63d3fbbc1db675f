"""What was written for the first system, line by line: it works as it is written, and does what ours does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.scorers.registry import registry as registry_module
from autoscorer.scorers.registry.missing_names import IMPORTED_FROM, import_lines, undefined_names

from ..support.calls import Answer, call
from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.installation import Installation
from ..support.markdown import ROOT
from ..support.ports import free_port
from ..support.prefect_server import eventually
from ..support.processes import clean_environment
from ..support.workspaces import result_of, write_workspace

pytestmark = pytest.mark.slow

TOKENS = "submit:seed-submit,admin:seed-admin"


def environment(home: Path, root: Path, **more: str) -> dict[str, str]:
    return {
        **clean_environment(),
        "AUTOSCORER_HOME": str(home),
        "AUTOSCORER_WORKSPACE_ROOTS": str(root),
        # Nothing listens there: a Prefect server that is away.
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        **more,
    }


@contextlib.contextmanager
def started(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, cwd=log.parent)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ask(port: int, path: str, process: subprocess.Popen[bytes], log: Path, *, token: str | None = None) -> Any:
    """The status and body of one route, once somebody listens."""

    def answer() -> Answer | None:
        with contextlib.suppress(OSError):
            return call(f"http://127.0.0.1:{port}{path}", token=token)
        assert process.poll() is None, log.read_text()
        return None

    found = eventually(answer, within=300)
    assert found is not None
    return found.status, found.json


# --- the API's two commands --------------------------------------------------------------------------------------

UVICORN = [sys.executable, "-m", "uvicorn", "autoscorer.api.server:app"]
# As pip writes the script of `autoscorer-api`.
SCRIPT = "import sys; sys.argv[0] = 'autoscorer-api'; from {module} import {name}; sys.exit({name}())"


def autoscorer_api() -> list[str]:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["autoscorer-api"]
    module, _, name = entry.partition(":")
    return [sys.executable, "-c", SCRIPT.format(module=module, name=name)]


@pytest.mark.parametrize("command", ["uvicorn", "autoscorer-api"])
def test_the_api_starts_as_the_first_system_was_started(command: str, home: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    line = [*(UVICORN if command == "uvicorn" else autoscorer_api()), "--host", "0.0.0.0", "--port", str(port)]
    env = environment(home, tmp_path, AUTOSCORER_API_TOKENS=TOKENS)
    with started(line, env, log) as process:
        assert ask(port, "/healthz", process, log)[0] == 200
        assert ask(port, "/scorers?of=seed-secret", process, log)[1]["error"]["code"] == "UNAUTHORIZED"
        status, body = ask(port, "/tasks?of=seed-secret", process, log, token="seed-submit")
        # Of the ledger, which is there once the application's lifespan has begun.
        assert (status, body["data"]["tasks"]) == (200, [])
        process.send_signal(signal.SIGTERM)
        # uvicorn raises the signal again at its end.
        assert process.wait(300) in (0, -signal.SIGTERM)
    # What stands in a query is not for the log.
    assert "/tasks" in log.read_text() and "seed-secret" not in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "Set AUTOSCORER_API_TOKENS (role:token"),
        ({"AUTOSCORER_API_TOKENS": TOKENS, "AUTOSCORER_NONESUCH": "1"}, "AUTOSCORER_NONESUCH is not a setting"),
        ({"AUTOSCORER_API_TOKENS": "root:x"}, "entry 1 is not of the form role:token"),
    ],
)
@pytest.mark.parametrize("command", ["uvicorn", "autoscorer-api"])
def test_an_api_that_is_wrongly_configured_ends_with_a_line(
    command: str, variables: dict[str, str], says: str, home: Path, tmp_path: Path
) -> None:
    line = [*(UVICORN if command == "uvicorn" else autoscorer_api()), "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(
        line, env=environment(home, tmp_path, **variables), cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    told = done.stdout + done.stderr
    assert says in told and "Traceback" not in told
    assert done.returncode == (3 if command == "uvicorn" else 2)


def test_uvicorn_ends_with_a_line_where_another_api_has_the_home(home: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    env = environment(home, tmp_path, AUTOSCORER_API_TOKENS=TOKENS)
    with started([*UVICORN, "--port", str(port)], env, log) as process:
        assert ask(port, "/healthz", process, log)[0] == 200
        second = subprocess.run([*UVICORN, "--port", "0"], env=env, capture_output=True, text=True, timeout=300)
        assert second.returncode == 3
        assert "AutoScorer can't start. CONFLICT" in second.stderr and "Traceback" not in second.stderr


def test_a_web_server_that_does_not_start_the_application_is_told_so(home: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    env = environment(home, tmp_path, AUTOSCORER_API_TOKENS=TOKENS)
    with started([*UVICORN, "--port", str(port), "--lifespan", "off"], env, log) as process:
        status, body = ask(port, "/healthz", process, log)
        assert (status, body["error"]["code"]) == (503, "BACKEND_UNAVAILABLE")
        assert "lifespan" in body["error"]["message"] and "Traceback" not in log.read_text()


def test_importing_the_application_reads_and_makes_nothing(home: Path) -> None:
    code = "import autoscorer.api.server as s, sys; assert s.app._app is None; assert 'prefect' not in sys.modules"
    env = {**os.environ, "AUTOSCORER_HOME": str(home), "AUTOSCORER_NONESUCH": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=300)
    assert list(home.iterdir()) == []


# --- scorers, over HTTP ------------------------------------------------------------------------------------------

SCORER = """
from autoscorer.scorers.base_csv import BaseCSVScorer
from autoscorer.scorers.registry import register

@register("{id}")
class Mine(BaseCSVScorer):
    name = "{id}"
    version = "{version}"
    metric = "rows"
    def compute(self, table, params):
        return {{"rows": len(table.ids)}}
"""


def write_scorer(path: Path, scorer_id: str = "seed_mine", version: str = "1.0.0") -> Path:
    path.write_text(SCORER.format(id=scorer_id, version=version))
    return path


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Facade]:
    # A registry of its own: that of the process has what other tests have registered.
    monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
    root = tmp_path / "root"
    write_workspace(root, "ws")
    with facade(facade_settings(root)) as running:
        running.token = ADMIN
        yield running


def curl(api: Facade, *arguments: str) -> Any:
    """What curl prints, as JSON; the address is the last argument."""
    *options, path = arguments
    headers = ["-H", f"Authorization: Bearer {api.token}", "-H", "Content-Type: application/json"]
    done = subprocess.run(["curl", "-sS", *headers, *options, api.url + path], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_first_systems_sequence_of_scorers_ends_well(api: Facade, tmp_path: Path) -> None:
    file = write_scorer(tmp_path / "my_scorer.py")
    body = json.dumps({"file_path": str(file), "auto_watch": True})
    loaded = curl(api, "-X", "POST", "-d", body, "/scorers/load")
    assert [scorer["id"] for scorer in loaded["data"]["scorers"]] == ["seed_mine"]
    body = json.dumps({"file_path": str(file), "check_interval": 1.0})
    watched = curl(api, "-X", "POST", "-d", body, "/scorers/watch")
    assert watched["data"]["scorers"] == ["seed_mine"]
    left = curl(api, "-X", "DELETE", f"/scorers/watch?file_path={file}")
    assert left["data"] == {"watched": []}
    assert "seed_mine" in {scorer["id"] for scorer in curl(api, "/scorers")["data"]["scorers"]}
    body = json.dumps({"scorer_name": "seed_mine", "workspace": "ws"})
    assert curl(api, "-X", "POST", "-d", body, "/scorers/test")["data"]["summary"]["score"] == 2
    # Ours goes on where theirs ends.
    assert curl(api, "-X", "DELETE", "/scorers/seed_mine")["data"]["unloaded"] == ["seed_mine"]


@pytest.mark.parametrize(
    ("method", "path", "body", "names"),
    [
        ("POST", "/scorers/load", {"path": "/a.py", "file_path": "/b.py"}, ["path", "file_path"]),
        ("POST", "/scorers/load", {"path": "/a.py", "watch": True, "auto_watch": False}, ["watch", "auto_watch"]),
        ("POST", "/scorers/watch", {"path": "/a.py", "file_path": "/b.py"}, ["path", "file_path"]),
        ("DELETE", "/scorers/watch", {"path": "/a.py", "file_path": "/b.py"}, ["path", "file_path"]),
        ("DELETE", "/scorers/watch?path=/a.py&file_path=/b.py", None, ["path", "file_path"]),
        ("POST", "/scorers/test", {"scorer": "a", "scorer_name": "b", "workspace": "ws"}, ["scorer", "scorer_name"]),
    ],
)
def test_ours_and_theirs_that_differ_are_refused(
    api: Facade, method: str, path: str, body: Any, names: list[str]
) -> None:
    answer = api.call(method, path, body)
    assert (answer.status, answer.error["code"]) == (422, "INVALID_REQUEST")
    assert f"{names[0]} and {names[1]} mean the same, and differ" in answer.error["message"]


def test_ours_and_theirs_that_agree_are_one(api: Facade, tmp_path: Path) -> None:
    file = str(write_scorer(tmp_path / "my_scorer.py"))
    assert api.call("POST", "/scorers/load", {"path": file, "file_path": file}).data["scorers"][0]["id"] == "seed_mine"
    both = {"scorer": "seed_mine", "scorer_name": "seed_mine", "workspace": "ws"}
    assert api.call("POST", "/scorers/test", both).data["scorer"]["id"] == "seed_mine"
    assert api.call("DELETE", f"/scorers/watch?path={file}&file_path={file}").data == {"watched": []}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/scorers/load", {}),
        ("/scorers/load", {"file_path": 3}),
        ("/scorers/load", {"file_path": "/a.py", "auto_watch": "yes"}),
        ("/scorers/load", {"file_path": "/a.py", "scorer_name": "x"}),
        ("/scorers/watch", {"file_path": "/a.py", "check_interval": 0}),
        ("/scorers/watch", {"file_path": "/a.py", "check_interval": "often"}),
        ("/scorers/load", {"file_path": "/a\u0000.py"}),
        ("/scorers/load", ["file_path"]),
    ],
)
def test_their_keys_are_checked_like_ours(api: Facade, path: str, body: Any) -> None:
    answer = api.call("POST", path, body)
    assert (answer.status, answer.error["code"]) == (422, "INVALID_REQUEST")


def test_only_an_admin_loads_and_unloads(api: Facade, tmp_path: Path) -> None:
    file = str(write_scorer(tmp_path / "my_scorer.py"))
    api.call("POST", "/scorers/load", {"file_path": file})
    for method, path, body in (
        ("POST", "/scorers/load", {"file_path": file}),
        ("POST", "/scorers/watch", {"file_path": file}),
        ("DELETE", f"/scorers/watch?file_path={file}", None),
        ("DELETE", "/scorers/seed_mine", None),
    ):
        assert api.call(method, path, body, token=SUBMIT).error["code"] == "FORBIDDEN"
    assert api.call("GET", "/scorers/seed_mine", token=SUBMIT).status == 200


def test_the_document_shows_ours_and_marks_theirs(api: Facade) -> None:
    document = api.call("GET", "/openapi.json").json
    schemas = document["components"]["schemas"]
    marked = {
        (name, key)
        for name, schema in schemas.items()
        for key, value in schema.get("properties", {}).items()
        if value.get("deprecated")
    }
    assert marked >= {
        ("LoadRequest", "file_path"), ("LoadRequest", "auto_watch"), ("WatchRequest", "file_path"),
        ("WatchRequest", "check_interval"), ("TestRequest", "scorer_name"), ("UnwatchRequest", "file_path"),
    }  # fmt: skip
    query = document["paths"]["/scorers/watch"]["delete"]["parameters"]
    assert [item["name"] for item in query if item.get("deprecated")] == ["file_path"]


# --- scorers, on the command line --------------------------------------------------------------------------------


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> Any:
    """The data or the error of a command."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code, capsys.readouterr()
    envelope = json.loads(capsys.readouterr().out)
    return envelope["error"] if envelope["status"] == "error" else envelope["data"]


def test_scorer_files_are_named_by_file_path(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
    file, workspace = write_scorer(tmp_path / "my_scorer.py"), write_workspace(tmp_path, "ws")
    loaded = command(capsys, "scorers", "load", "--file-path", file)
    assert [scorer["id"] for scorer in loaded["scorers"]] == ["seed_mine"]
    changes = command(capsys, "scorers", "reload", "--file-path", file)["changes"]
    assert [change["change"] for change in changes] == ["unchanged"]
    tried = command(capsys, "scorers", "test", "--scorer-name", "seed_mine", "--workspace", workspace)
    assert tried["summary"]["score"] == 2
    assert command(capsys, "scorers", "unload", "--file-path", file)["unloaded"] == ["seed_mine"]
    both = command(capsys, "scorers", "load", file, "--file-path", tmp_path / "other.py", code=2)
    assert "FILE and --file-path mean the same, and differ" in both["message"]
    assert "Which file?" in command(capsys, "scorers", "load", code=2)["message"]
    assert command(capsys, "scorers", "load", file, "--file-path", file)["scorers"][0]["id"] == "seed_mine"


# --- valid for what ----------------------------------------------------------------------------------------------


def test_a_workspace_without_an_image_and_with_predictions_is_valid_for_scoring(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    workspace = write_workspace(tmp_path, "ws")
    assert command(capsys, "validate", workspace)["valid_for"] == ["score"]
    assert command(capsys, "validate", workspace, "--for", "score")["valid_for"] == ["score"]
    error = command(capsys, "validate", workspace, "--for", "pipeline", code=1)
    assert error["code"] == "INVALID_META" and "No image" in error["message"]
    # What it is valid for is what works.
    assert command(capsys, "score", workspace)["summary"]["score"] == 1.0
    assert command(capsys, "pipeline", workspace, code=1)["code"] == "INVALID_META"


def test_what_can_be_run_is_checked_for_a_pipeline(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    workspace = write_workspace(tmp_path, "ws", container={"image": "python:3.12"})
    assert command(capsys, "validate", workspace)["valid_for"] == ["score", "pipeline"]
    (workspace / "output" / "pred.csv").unlink()
    assert command(capsys, "validate", workspace)["valid_for"] == ["pipeline"]
    # Results of before are no predictions.
    (workspace / "output" / "result.json").write_text("{}")
    error = command(capsys, "validate", workspace, "--for", "score", code=1)
    assert error["code"] == "MISSING_FILE" and "pred.csv" in error["message"]
    # An input that shows the ground truth matters where a model reads it, and nowhere else.
    (workspace / "input" / "data" / "copy.csv").write_bytes((workspace / "input" / "gt.csv").read_bytes())
    (workspace / "output" / "pred.csv").write_bytes((workspace / "input" / "gt.csv").read_bytes())
    assert command(capsys, "validate", workspace, code=1)["code"] == "GROUND_TRUTH_EXPOSED"
    assert command(capsys, "validate", workspace, "--for", "score")["valid_for"] == ["score"]


def test_nothing_to_run_and_nothing_to_score_is_valid_for_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    workspace = write_workspace(tmp_path, "ws", pred=None)
    assert "No image" in command(capsys, "validate", workspace, code=1)["message"]
    error = command(capsys, "validate", workspace, "--backend", "process", code=1)
    assert "container.cmd" in error["message"]
    # Predictions that can't be scored are a problem, whatever it is checked for.
    (workspace / "output").mkdir()
    (workspace / "output" / "pred.csv").write_text("id,label\na,x\n")
    assert command(capsys, "validate", workspace, code=1)["code"] == "MISMATCH"


def test_validate_says_for_what_over_http(installation: Installation) -> None:
    write_workspace(installation.root, "seed-without-image")
    body = {"workspace": "seed-without-image"}
    for purpose in ({}, {"for": "score"}):
        status, answer = installation.call("POST", "/validate?wait=60", {**body, **purpose})
        assert (status, answer["data"]["result"]["valid_for"]) == (200, ["score"])
    status, answer = installation.call("POST", "/validate?wait=60", {**body, "for": "pipeline"})
    assert (status, answer["error"]["code"]) == (422, "INVALID_META")
    status, answer = installation.call("POST", "/submit", {**body, "action": "validate", "for": "everything"})
    assert (status, answer["error"]["code"]) == (422, "INVALID_REQUEST")
    assert "for: Input should be 'score' or 'pipeline'" in answer["error"]["message"]
    # It means something to validate alone.
    assert installation.call("POST", "/score", {**body, "for": "score"})[0] == 422


# --- params, and the configuration -------------------------------------------------------------------------------


def test_params_are_given_as_one_json_object(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    workspace = write_workspace(tmp_path, "ws", pred="id,label\na,x\nb,x\n")
    whole = '{"average": "micro", "pass_threshold": 0.25}'
    ours = command(capsys, "score", workspace, "--param", "average=micro", "--param", "pass_threshold=0.25")
    theirs = command(capsys, "score", workspace, "--params", whole)
    assert theirs["summary"] == ours["summary"] and theirs["versioning"]["params"] == ours["versioning"]["params"]
    # Beside ours, where the two agree.
    both = ("--params", whole, "--param", "average=micro", "--param", "confidence_level=0.9")
    assert command(capsys, "score", workspace, *both)["versioning"]["params"]["confidence_level"] == 0.9
    for name in ("validate", "pipeline"):
        error = command(capsys, name, workspace, "--params", '{"averag": "micro"}', code=1)
        assert "averag" in error["message"]
    tried = command(
        capsys, "scorers", "test", "--scorer-name", "classification_f1", "--workspace", workspace, "--params", whole
    )
    assert tried["summary"]["pass"] is True


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--params", "{'average': 'micro'}"], "--params expects a JSON object"),
        (["--params", '["average"]'], "--params expects a JSON object"),
        (["--params", '{"average": "micro"}', "--param", "average=macro"], "differ about 'average'"),
        (["--params", "{}", "--params", "{}"], "--params was given twice"),
    ],
)
def test_params_that_can_not_be_taken_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, given: list[str], says: str
) -> None:
    error = command(capsys, "score", write_workspace(tmp_path, "ws"), *given, code=2)
    assert error["code"] == "INVALID_REQUEST" and says in error["message"]


def test_config_dump_says_what_set_each_value(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "config.yaml"
    file.write_text("security: {limits: {cpu: 3, pids: 200}}\napi_tokens: 'admin:in-the-file'\n")
    monkeypatch.setenv("AUTOSCORER_SECURITY__LIMITS__CPU", "5")
    monkeypatch.setenv("AUTOSCORER_API_TOKEN", "in-the-environment")
    monkeypatch.setenv("AUTOSCORER_IMAGES", '{"build_args": {"A": "b"}}')
    data = command(capsys, "config", "dump")
    variable = {"from": "environment", "name": "AUTOSCORER_SECURITY__LIMITS__CPU"}
    assert data["security.limits.cpu"] == {"value": 5, **variable}
    assert data["security.limits.pids"] == {"value": 200, "from": "file", "name": str(file)}
    assert data["security.limits.memory"]["from"] == "default" and data["security.limits.memory"]["name"] is None
    assert data["images.build_args"] == {"value": {"A": "b"}, "from": "environment", "name": "AUTOSCORER_IMAGES"}
    assert (data["api_tokens"]["from"], data["api_token"]["from"]) == ("file", "environment")
    assert "in-the-" not in json.dumps({key: item["value"] for key, item in data.items()})
    # The very values that are in effect, and none left out.
    shown = command(capsys, "config", "show")
    for key, item in data.items():
        value = shown
        for part in key.split("."):
            value = value[part]
        assert value == item["value"], key


def test_config_paths_says_where_it_looks_also_when_what_is_there_is_wrong(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*more: str | Path) -> dict[str, Any]:
        return {place["named_by"]: place for place in command(capsys, "config", "paths", *more)["paths"]}

    found = looked()
    assert list(found) == ["--config", "AUTOSCORER_CONFIG", "home"]
    assert found["home"] == {
        "named_by": "home", "path": str(home / "config.yaml"), "exists": False, "used": False
    }  # fmt: skip
    assert found["--config"]["path"] is found["AUTOSCORER_CONFIG"]["path"] is None
    (home / "config.yaml").write_text("nonesuch: 1\n")
    assert [by for by, place in looked().items() if place["used"]] == ["home"]
    monkeypatch.setenv("AUTOSCORER_CONFIG", str(tmp_path / "none.yaml"))
    # Named and not there is an error of every command, so it is the one that is read.
    assert [by for by, place in looked().items() if place["used"]] == ["AUTOSCORER_CONFIG"]
    assert looked("--config", tmp_path / "mine.yaml")["--config"]["used"] is True


def test_config_validate_tells_everything_that_is_wrong(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(capsys, "config", "validate") == {"valid": True, "file": None}
    file = home / "config.yaml"
    file.write_text("security: {limits: {cpu: 3}}\n")
    assert command(capsys, "config", "validate") == {"valid": True, "file": str(file)}
    file.write_text("security: {limits: {cpus: 3, memory: lots}}\n")
    error = command(capsys, "config", "validate", code=2)
    assert error["stage"] == "config" and len(error["details"]["problems"]) == 2
    assert "cpus: unknown key" in error["message"] and "security.limits.memory" in error["message"]
    # Every command says the same.
    assert command(capsys, "config", "show", code=2) == error
    # On a terminal it is a list.
    done = subprocess.run(
        ["script", "-qec", f"{sys.executable} -m autoscorer config validate", "/dev/null"],
        env={**os.environ, "TERM": "dumb"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout.count("•") == 2 and "Traceback" not in done.stdout


# --- the scorer template -----------------------------------------------------------------------------------------

TEMPLATE = """
@register("seed_template")
class SeedTemplate(BaseCSVScorer):
    name = "seed_template"
    version = "1.0.0"

    def score(self, workspace: Path, params: dict) -> Result:
        rows = json.loads((workspace / "meta.json").read_text())
        return Result(summary={"score": 1.0}, metrics={"score": float(len(rows) > 0)})
"""
# As the first system's documentation has them.
IMPORTS = """
import json
from pathlib import Path

from autoscorer.schemas.result import Result
from autoscorer.scorers.base_csv import BaseCSVScorer
from autoscorer.scorers.registry import register
"""


def test_the_first_systems_template_works_with_its_imports(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
    file, workspace = tmp_path / "template.py", write_workspace(tmp_path, "ws")
    file.write_text(IMPORTS + TEMPLATE)
    command(capsys, "scorers", "load", file)
    tried = command(capsys, "scorers", "test", "--scorer-name", "seed_template", "--workspace", workspace)
    assert tried["summary"]["score"] == 1.0


def test_the_template_without_its_imports_names_all_of_them(
    capsys: pytest.CaptureFixture[str], api: Facade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "template.py"
    file.write_text(TEMPLATE)
    error = command(capsys, "scorers", "load", file, code=3)
    wanted = [line for line in IMPORTS.splitlines() if line]
    assert error["code"] == "SCORER_LOAD_ERROR"
    assert f"{file}:2: NameError: name 'register' is not defined. Add what it does not import: " in error["message"]
    assert sorted(error["details"]["missing_imports"]) == sorted(wanted)
    assert all(line in error["message"] for line in wanted)
    answer = api.call("POST", "/scorers/load", {"file_path": str(file)})
    assert answer.status == 422 and all(line in answer.error["message"] for line in wanted)
    # Adding them is all that it takes.
    file.write_text("\n".join(error["details"]["missing_imports"]) + "\n" + TEMPLATE)
    assert command(capsys, "scorers", "load", file)["scorers"][0]["id"] == "seed_template"


def test_a_name_that_only_scoring_misses_is_named_then(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file, workspace = tmp_path / "template.py", write_workspace(tmp_path, "ws")
    file.write_text(IMPORTS.replace("import json\n", "") + TEMPLATE)
    command(capsys, "scorers", "load", file)
    tried = ("scorers", "test", "--scorer-name", "seed_template", "--workspace", workspace)
    assert "'json' is not defined. Add to its top: import json" in command(capsys, *tried, code=3)["message"]


@pytest.mark.parametrize(
    ("imports", "missing"),
    [
        ("from autoscorer.registry import register\n", ["from autoscorer.scorers.registry import register"]),
        ("from autoscorer.core.result import Result, Interval\n",
         ["from autoscorer.schemas.result import Interval, Result"]),
        ("from autoscorer.scorers.base import BaseCSVScorer\n",
         ["from autoscorer.scorers.base_csv import BaseCSVScorer"]),
        ("import autoscorer.nonesuch\n", None),
        ("nonesuch_name\n", None),
    ],
)  # fmt: skip
def test_an_import_from_where_it_is_not_names_where_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, imports: str, missing: list[str] | None
) -> None:
    file = tmp_path / "template.py"
    file.write_text(imports)
    error = command(capsys, "scorers", "load", file, code=3)
    assert error["details"].get("missing_imports") == missing
    assert ("Add what it does not import" in error["message"]) is (missing is not None)


def test_every_line_that_is_suggested_can_be_imported() -> None:
    for line in import_lines(IMPORTED_FROM):
        exec(line, {})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("print(__name__, [x for x in range(3)])", []),
        ("def f(a):\n    global g\n    g = a\nprint(g)", []),
        ("class A:\n    def f(self) -> Result:\n        return B()", ["B", "Result"]),
        ("from os.path import *\njoin(a)", []),
        ("try:\n    pass\nexcept E as e:\n    e", ["E"]),
        ("def (", []),
    ],
)
def test_names_that_nothing_defines(text: str, names: list[str]) -> None:
    assert undefined_names(text, "x.py") == names


# --- errors say of which workspace they are ----------------------------------------------------------------------


def test_every_error_of_a_result_names_the_workspace_and_its_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    workspace = write_workspace(tmp_path, "ws", pred=None)

    def details(*arguments: str | Path, code: int = 1, written: bool = True) -> dict[str, Any]:
        told: dict[str, Any] = command(capsys, *arguments, code=code)["details"]
        left = result_of(workspace)["error"]["details"]
        assert (left == told) is written
        return told

    # Never run: there is no log.
    for action, code in (("score", 1), ("pipeline", 1)):
        found = details(action, workspace, code=code)
        assert (found["workspace"], found["logs_path"]) == ("ws", None)
    meta = json.loads((workspace / "meta.json").read_text())
    failing = {**meta, "container": {"cmd": ["sh", "-c", "echo so it goes >&2; exit 3"]}}
    (workspace / "meta.json").write_text(json.dumps(failing))
    for action in ("pipeline", "run"):
        found = details(action, workspace, "--backend", "process")
        assert (found["workspace"], found["logs_path"]) == ("ws", "ws/logs/container.log")
        assert "so it goes" in (tmp_path / found["logs_path"]).read_text()
    (workspace / "meta.json").write_text(json.dumps({**meta, "scorer": "nonesuch"}))
    # The Result of the run stands: this was refused.
    assert details("score", workspace, written=False)["logs_path"] == "ws/logs/container.log"


@pytest.mark.parametrize("role", ["admin", "submit"])
def test_over_http_they_are_named_from_the_root(installation: Installation, role: str) -> None:
    # MISMATCH without the counts of ids, of which a submitter is told the code alone.
    workspace = write_workspace(installation.root / "seed-round" / role, "team-a", pred="id,label\na,x\n")
    (workspace / "logs").mkdir()
    (workspace / "logs" / "container.log").write_text("so it went\n")
    name = f"seed-round/{role}/team-a"
    where = {"workspace": name, "logs_path": f"{name}/logs/container.log"}

    def is_right(error: Any) -> None:
        assert {key: error["details"].get(key) for key in where} == where
        assert str(installation.root) not in json.dumps(error)

    status, answer = installation.call("POST", "/score?wait=60", {"workspace": name}, role=role)
    assert (status, answer["error"]["code"]) == (422, "MISMATCH")
    is_right(answer["error"])
    task = installation.call("GET", f"/tasks/{answer['error']['details']['task_id']}", role=role)[1]["data"]
    is_right(task["error"])
    is_right(task["result"]["error"])
    is_right(installation.call("GET", f"/result?workspace={name}", role=role)[1]["data"]["error"])
    (workspace / "input" / "gt.csv").unlink()
    status, answer = installation.call("POST", "/validate?wait=60", {"workspace": name, "for": "score"}, role=role)
    assert status == 422
    is_right(answer["error"])
    batch = installation.call("POST", "/batch", {"workspaces": [name], "action": "score"}, role=role)[1]["data"]

    def ended() -> Any:
        found = installation.call("GET", f"/tasks/{batch['id']}", role=role)[1]["data"]
        return found if found["ended_at"] is not None else None

    task = eventually(ended)
    is_right(task["result"]["outcomes"][0]["error"])
