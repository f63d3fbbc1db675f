"""Scorers over HTTP: what is loaded or watched there is what runs next, in every process of the home."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.scorers.registry import registry as registry_module
from autoscorer.scorers.registry.last_good import LastGood
from autoscorer.scorers.registry.manifest import ScorerManifest, load_configured
from autoscorer.scorers.registry.needed import find_needed
from autoscorer.scorers.registry.trial import try_import
from autoscorer.scorers.registry.watcher import ScorerWatcher

from ..support.local_api import LocalApi, serve_locally
from ..support.prefect_server import eventually
from ..support.workspaces import write_workspace

pytestmark = pytest.mark.slow  # all together; each is quick

TRUTH = "id,label\na,SECRET-TRUTH-1\nb,SECRET-TRUTH-2\n"

SCORER = '''
from autoscorer.schemas.result import Result
from autoscorer.scorers.base import BaseScorer, ScorerParams
from autoscorer.scorers.registry import register

class Params(ScorerParams):
    factor: float = 1.0

@register("{id}")
class S(BaseScorer):
    """One number."""
    name = "{id}"
    version = "{version}"
    metric = "one"
    Params = Params

    def score(self, workspace, params):
        {body}
        value = {value} * self.parse_params(params).factor
        return Result(summary={{"score": value, "one": value}}, metrics={{"one": value}})
'''

HELPED = "\nfrom ._helper import FACTOR as value\n\nclass Params"

HOSTILE = {
    "it hangs": "while True: pass",
    "it ends the interpreter": "import os; os._exit(0)",
    "it crashes": "import ctypes; ctypes.string_at(0)",
    "it kills its group": "import os; os.killpg(0, 9)",
    "it is no Python": "def (:",
    "it registers nothing": "x = 1",
    "it exits": "raise SystemExit",
    "it closes everything": "import os; os.closerange(0, 256); os._exit(3)",
}


def write(path: Path, scorer_id: str, *, value: float = 1.0, version: str = "1.0.0", body: str = "pass") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SCORER.format(id=scorer_id, value=value, version=version, body=body))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where scorer files lie: nowhere that the API knows of."""
    made = tmp_path / "somewhere" / "my-scorers"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    root = tmp_path / "root"
    write_workspace(root, "ws", truth=TRUTH, pred=TRUTH)
    return Settings(workspace_roots=(root,), home=tmp_path / "home")


@pytest.fixture
def api(config: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalApi]:
    # A registry of its own: that of the process has what other tests have registered.
    monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
    with serve_locally(config, monkeypatch) as api:
        yield api


def all_is_looked_at(api: LocalApi, folder: Path, worker: ScorerRegistry | None = None) -> None:
    """Wait until whoever follows scorers has looked at all that is there: at two files of others, saved anew and gone.

    They lie behind ``folder`` in the order of looking, and twice: the first look may have begun before this.
    """
    others = folder.parent / "others"

    def seen_by_all(look: Callable[[Callable[[], set[str]], Callable[[str], str]], bool]) -> bool:
        shown = look(lambda: ids(api), lambda scorer_id: api.data("GET", f"/scorers/{scorer_id}")["version"])
        return shown and (worker is None or look(lambda: set(worker.ids()), lambda each: worker.get(each).version))

    for scorer_id in ("saved", "gone"):
        file = write(others / f"{scorer_id}.py", scorer_id)
        api.data("POST", "/scorers/load", json={"path": str(file)})
        eventually(lambda scorer_id=scorer_id: seen_by_all(lambda known, _: scorer_id in known()))  # type: ignore[misc]
    for version in (f"{time.monotonic_ns()}.0.1", f"{time.monotonic_ns()}.0.2"):
        write(others / "saved.py", "saved", version=version)
        eventually(
            lambda version=version: seen_by_all(  # type: ignore[misc]
                lambda known, of: "saved" in known() and of("saved") == version
            )
        )
    (others / "gone.py").unlink()
    eventually(lambda: seen_by_all(lambda known, _: "gone" not in known()))


def ids(api: LocalApi) -> set[str]:
    return {scorer["id"] for scorer in api.data("GET", "/scorers")["scorers"]}


def elsewhere(config: Settings) -> ScorerRegistry:
    """What a worker that starts now would use."""
    return load_configured(config, registry=ScorerRegistry(entry_points=False))


def needed(config: Settings, scorer_id: str) -> str:
    """The version that a run would use."""
    return find_needed(config, scorer_id).load(ScorerRegistry(entry_points=False)).version


def test_the_built_in_scorers_are_listed_with_their_params(api: LocalApi) -> None:
    data = api.data("GET", "/scorers")
    assert data["errors"] == []
    one = next(scorer for scorer in data["scorers"] if scorer["id"] == "classification_f1")
    assert one == api.data("GET", "/scorers/classification_f1")
    assert one["params_schema"]["properties"]["pass_threshold"]
    assert (one["origin"], one["status"], len(one["sha256"])) == ("builtin", "ok", 64)
    assert not one["source"].startswith("/")
    aliases = {scorer["id"]: scorer["aliases"] for scorer in data["scorers"] if scorer["aliases"]}
    assert aliases == {"classification_accuracy": ["classification_acc"]}
    assert api.error("GET", "/scorers/nonesuch")[:2] == (404, "SCORER_NOT_FOUND")


@pytest.mark.slow
def test_what_is_loaded_is_used_everywhere_at_once_and_after_a_restart(
    api: LocalApi, config: Settings, folder: Path
) -> None:
    worker = ScorerRegistry(entry_points=False)
    with ScorerWatcher(registry=worker, recorded=ScorerManifest(config.home)):
        file = write(folder / "mine.py", "mine")
        data = api.data("POST", "/scorers/load", json={"path": str(file)})
        assert [scorer["id"] for scorer in data["scorers"]] == ["mine"]
        assert str(folder) not in json.dumps(data)
        assert "mine" in ids(api) and elsewhere(config).get("mine").version == "1.0.0"
        eventually(lambda: "mine" in worker.ids())
        # Saved anew, it is the new one: here and there.
        write(file, "mine", version="2.0.0")
        eventually(lambda: bool(api.data("GET", "/scorers/mine")["version"] == "2.0.0"))
        eventually(lambda: worker.get("mine").version == "2.0.0")


@pytest.mark.slow
def test_a_file_that_no_longer_loads_keeps_its_last_good_version(api: LocalApi, config: Settings, folder: Path) -> None:
    file = write(folder / "mine.py", "mine")
    file.write_text(file.read_text().replace("\nclass Params", HELPED))
    (folder / "_helper.py").write_text("FACTOR = 0.5\n")
    good = api.data("POST", "/scorers/load", json={"path": str(file)})["scorers"][0]
    file.write_text("import nonesuch_module\n")
    eventually(lambda: bool(api.data("GET", "/scorers/mine")["status"] == "stale"))
    stale = api.data("GET", "/scorers/mine")
    assert stale["sha256"] == good["sha256"] and "nonesuch_module" in stale["error"] and stale["failed_at"]
    listing = api.data("GET", "/scorers")
    assert [error["stale_ids"] for error in listing["errors"]] == [["mine"]]
    # Where it lies, and how Python came there, is not for everybody.
    assert str(folder) not in json.dumps(listing) and "Traceback" not in json.dumps(listing)
    assert "my-scorers/mine.py:1" in listing["errors"][0]["error"]["message"]
    # A process that starts now has never seen it load, and has it all the same, with what it imports beside it.
    (folder / "_helper.py").write_text("def (:")
    fresh = elsewhere(config).get("mine")
    assert (fresh.status, fresh.sha256, [*fresh.siblings]) == ("stale", good["sha256"], ["_helper.py"])
    file.unlink()
    assert "mine" not in elsewhere(config).ids()
    write(file, "mine", version="3.0.0")
    eventually(lambda: bool(api.data("GET", "/scorers/mine")["status"] == "ok"))
    assert elsewhere(config).get("mine").version == "3.0.0"


@pytest.mark.parametrize("what", [what for what in HOSTILE if what != "it hangs"])
def test_a_file_that_would_end_the_api_is_refused(api: LocalApi, config: Settings, folder: Path, what: str) -> None:
    file = folder / "bad.py"
    file.write_text(HOSTILE[what])
    status, code, message = api.error("POST", "/scorers/load", json={"path": str(file)})
    assert (status, code) == (422, "SCORER_LOAD_ERROR")
    assert str(folder) not in message
    assert ScorerManifest(config.home).read() == {}
    assert api.data("GET", "/healthz") == {"status": "alive"}


@pytest.mark.slow
def test_a_file_that_hangs_is_killed_with_all_it_has_started(folder: Path) -> None:
    file = folder / "hang.py"
    pid_file = folder / "pid"
    file.write_text(
        "import subprocess, pathlib\n"
        f"child = subprocess.Popen(['sleep', '300'])\npathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n"
        "while True: pass\n"
    )
    attempt = try_import(file, seconds=3)
    assert attempt.error is not None and "did not end within 3 s" in attempt.error.message
    pid = int(pid_file.read_text())
    eventually(lambda: not os.path.exists(f"/proc/{pid}") or " Z " in Path(f"/proc/{pid}/stat").read_text())


def test_a_watched_file_that_crashes_when_it_is_saved_leaves_the_api_alive(api: LocalApi, folder: Path) -> None:
    file = write(folder / "mine.py", "mine")
    api.data("POST", "/scorers/watch", json={"path": str(folder)})
    file.write_text(HOSTILE["it crashes"])
    eventually(lambda: bool(api.data("GET", "/scorers/mine")["status"] == "stale"))
    assert "SIGSEGV" in api.data("GET", "/scorers/mine")["error"]


@pytest.mark.parametrize(
    "path", ["/nonesuch.py", "/tmp", "x\0y", "", "\ud800", "~nobody/x.py", "/dev/zero", "x" * 4097]
)
def test_a_path_that_is_no_file_is_refused(api: LocalApi, path: str) -> None:
    for address in ("/scorers/load", "/scorers/watch"):
        if (address, path) != ("/scorers/watch", "/tmp"):
            answer = api.client.post(address, content=json.dumps({"path": path}).encode())
            assert answer.status_code == 422, answer.text


@pytest.mark.slow
def test_what_is_watched_is_followed_everywhere(api: LocalApi, config: Settings, folder: Path) -> None:
    worker = ScorerRegistry(entry_points=False)
    with ScorerWatcher(registry=worker, recorded=ScorerManifest(config.home)):
        write(folder / "first.py", "first")
        (folder / "broken.py").write_text("def (:")
        watched = api.data("POST", "/scorers/watch", json={"path": str(folder)})
        assert (watched["kind"], watched["origin"], watched["scorers"]) == ("folder", "watched", ["first"])
        assert len(watched["errors"]) == 1
        # The same again changes nothing.
        assert api.data("POST", "/scorers/watch", json={"path": str(folder) + "/"})["id"] == watched["id"]
        write(folder / "second.py", "second")
        eventually(lambda: {"first", "second"} <= ids(api))
        eventually(lambda: {"first", "second"} <= set(worker.ids()))
        assert {"first", "second"} <= set(elsewhere(config).ids())
        (folder / "first.py").unlink()
        eventually(lambda: "first" not in ids(api) and "first" not in worker.ids())
        assert "first" not in elsewhere(config).ids()

        assert [item["id"] for item in api.data("GET", "/scorers/watch")["watched"]] == [watched["id"]]
        left = api.data("DELETE", "/scorers/watch", params={"id": watched["id"]})
        # Nobody looks there any more; what was loaded stays as it was, in processes that start later, too.
        assert left == {"watched": []} and "second" in ids(api)
        write(folder / "third.py", "third")
        write(folder / "second.py", "second", version="2.0.0")
        all_is_looked_at(api, folder, worker)
        assert "third" not in ids(api) and "third" not in worker.ids()
        assert api.data("GET", "/scorers/second")["version"] == worker.get("second").version == "1.0.0"
        fresh = elsewhere(config)
        assert fresh.get("second").version == "1.0.0" and "third" not in fresh.ids()
        (folder / "second.py").unlink()
        all_is_looked_at(api, folder, worker)
        assert "second" in ids(api) and "second" in worker.ids() and "second" in elsewhere(config).ids()


@pytest.mark.slow
def test_what_is_kept_is_followed_again_when_it_is_loaded_again(api: LocalApi, config: Settings, folder: Path) -> None:
    worker = ScorerRegistry(entry_points=False)
    worker.last_good = LastGood(config.home)

    def versions() -> set[str]:
        shown = api.data("GET", "/scorers/mine")["version"]
        return {shown, worker.get("mine").version, elsewhere(config).get("mine").version, needed(config, "mine")}

    with ScorerWatcher(registry=worker, recorded=ScorerManifest(config.home)):
        file = write(folder / "mine.py", "mine")
        api.data("POST", "/scorers/load", json={"path": str(file), "watch": False})
        assert api.data("GET", "/scorers/watch") == {"watched": []}
        eventually(lambda: "mine" in worker.ids())
        write(file, "mine", version="2.0.0")
        all_is_looked_at(api, folder, worker)
        assert versions() == {"1.0.0"}
        # Reloading takes it as it is now, and goes on keeping that.
        assert api.data("POST", "/scorers/reload", json={"id": "mine"})["changes"][0]["version"] == "2.0.0"
        eventually(lambda: versions() == {"2.0.0"})
        write(file, "mine", version="3.0.0")
        all_is_looked_at(api, folder, worker)
        assert versions() == {"2.0.0"}
        api.data("POST", "/scorers/load", json={"path": str(file)})
        write(file, "mine", version="4.0.0")
        eventually(lambda: versions() == {"4.0.0"})


@pytest.mark.slow
def test_unloading_is_an_act_of_its_own(api: LocalApi, config: Settings, folder: Path) -> None:
    worker = ScorerRegistry(entry_points=False)
    with ScorerWatcher(registry=worker, recorded=ScorerManifest(config.home)):
        file = write(folder / "mine.py", "mine")
        api.data("POST", "/scorers/watch", json={"path": str(folder)})
        eventually(lambda: "mine" in worker.ids())
        # As long as its folder is followed, it would come back.
        assert api.error("DELETE", "/scorers/mine")[:2] == (409, "CONFLICT")
        api.data("DELETE", "/scorers/watch", params={"path": str(folder)})
        gone = api.data("DELETE", "/scorers/mine")
        assert gone["unloaded"] == ["mine"] and str(folder.parent) not in gone["file"]
        assert "mine" not in ids(api) and "mine" not in elsewhere(config).ids()
        eventually(lambda: "mine" not in worker.ids())
        assert file.exists() and ScorerManifest(config.home).read() == {}
        assert api.error("DELETE", "/scorers/mine")[:2] == (404, "SCORER_NOT_FOUND")
        assert api.error("DELETE", "/scorers/classification_f1")[:2] == (422, "INVALID_REQUEST")
        # One that was only watched goes whole, too.
        api.data("POST", "/scorers/watch", json={"path": str(file)})
        assert api.data("DELETE", "/scorers/mine")["unloaded"] == ["mine"]
        assert api.data("GET", "/scorers/watch") == {"watched": []}


@pytest.mark.slow
def test_what_two_ask_for_is_followed_until_both_let_go(api: LocalApi, folder: Path) -> None:
    file = write(folder / "mine.py", "mine")
    api.data("POST", "/scorers/load", json={"path": str(file)})
    api.data("POST", "/scorers/watch", json={"path": str(folder)})
    for version, path in (("2.0.0", str(folder)), ("3.0.0", str(file))):
        write(file, "mine", version=version)
        eventually(lambda version=version: bool(api.data("GET", "/scorers/mine")["version"] == version))  # type: ignore[misc]
        answer = api.client.request("DELETE", "/scorers/watch", json={"path": path})
        assert answer.status_code == 200, answer.text
    write(file, "mine", version="4.0.0")
    all_is_looked_at(api, folder)
    assert api.data("GET", "/scorers/mine")["version"] == "3.0.0"


def test_only_what_is_followed_can_be_let_go(api: LocalApi, folder: Path) -> None:
    assert api.error("DELETE", "/scorers/watch", params={"path": str(folder)})[:2] == (404, "NOT_FOUND")
    assert api.error("DELETE", "/scorers/watch")[:2] == (422, "INVALID_REQUEST")
    assert api.error("DELETE", "/scorers/watch", params={"path": "a", "id": "b"})[:2] == (422, "INVALID_REQUEST")
    assert api.error("DELETE", "/scorers/watch", params={"path": "a\0b"})[:2] == (404, "NOT_FOUND")


def test_a_folder_of_the_configuration_is_followed_and_stays(
    config: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "mine.py", "mine")
    monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
    scorers = config.scorers.model_copy(update={"dirs": (folder,)})
    with serve_locally(config.model_copy(update={"scorers": scorers}), monkeypatch) as api:
        assert "mine" in ids(api)
        (item,) = api.data("GET", "/scorers/watch")["watched"]
        assert (item["origin"], item["scorers"]) == ("configured", ["mine"])
        assert api.error("DELETE", "/scorers/watch", params={"id": item["id"]})[:2] == (409, "CONFLICT")


@pytest.mark.slow
def test_reloading_says_what_changed(api: LocalApi, folder: Path) -> None:
    file = write(folder / "mine.py", "mine")
    other = write(folder / "other.py", "other")
    for path in (file, other):
        api.data("POST", "/scorers/load", json={"path": str(path)})
    assert [item["change"] for item in api.data("POST", "/scorers/reload")["changes"]] == ["unchanged", "unchanged"]
    data = api.data("POST", "/scorers/reload", json={"id": "mine"})
    assert [(item["id"], item["change"]) for item in data["changes"]] == [("mine", "unchanged")]
    assert api.error("POST", "/scorers/reload", json={"id": "classification_f1"})[:2] == (422, "INVALID_REQUEST")
    assert api.error("POST", "/scorers/reload", json={"id": "nonesuch"})[:2] == (404, "SCORER_NOT_FOUND")
    assert api.error("POST", "/scorers/reload", json={"path": "x"})[:2] == (422, "INVALID_REQUEST")
    other.write_text("def (:")
    assert api.error("POST", "/scorers/reload", json={"id": "other"})[:2] == (422, "SCORER_LOAD_ERROR")
    data = api.data("POST", "/scorers/reload", json={})
    assert [error["stale_ids"] for error in data["errors"]] == [["other"]]


# --- trying a scorer -------------------------------------------------------------------------------------------------


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.slow
def test_trying_a_scorer_changes_nothing_in_the_workspace(api: LocalApi, config: Settings, folder: Path) -> None:
    file = write(folder / "mine.py", "mine", value=0.25)
    api.data("POST", "/scorers/load", json={"path": str(file)})
    workspace = config.workspace_roots[0] / "ws"
    before = everything(workspace)
    data = api.data("POST", "/scorers/test", json={"scorer": "mine", "workspace": "ws", "params": {"factor": 2}})
    assert data["summary"]["score"] == data["metrics"]["one"] == 0.5
    assert data["scorer"]["version"] == "1.0.0"
    built_in = api.data("POST", "/scorers/test", json={"scorer": "classification_f1", "workspace": str(workspace)})
    assert built_in["summary"]["score"] == 1.0 and "report" in built_in["artifacts"]
    assert everything(workspace) == before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"scorer": "nonesuch", "workspace": "ws"}, 404, "SCORER_NOT_FOUND"),
        ({"scorer": "classification_f1", "workspace": "nowhere"}, 404, "WORKSPACE_NOT_FOUND"),
        ({"scorer": "classification_f1", "workspace": "/etc"}, 403, "FORBIDDEN"),
        ({"scorer": "classification_f1", "workspace": "ws", "params": {"nonesuch": 1}}, 422, "BAD_PARAMS"),
        ({"scorer": "classification_f1", "workspace": "ws", "params": []}, 422, "INVALID_REQUEST"),
        ({"scorer": "classification_f1", "workspace": "w\0s"}, 422, "INVALID_REQUEST"),
        ({"scorer": "classification_f1"}, 422, "INVALID_REQUEST"),
    ],
)
def test_what_can_not_be_tried_is_told(api: LocalApi, body: dict[str, Any], status: int, code: str) -> None:
    assert api.error("POST", "/scorers/test", json=body)[:2] == (status, code)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("raise RuntimeError('no luck')", "SCORER_ERROR", "no luck"),
        pytest.param("import os; os._exit(7)", "SCORER_ERROR", "exit code 7", marks=pytest.mark.slow),
        ("import ctypes; ctypes.string_at(0)", "SCORER_ERROR", "SIGSEGV"),
        pytest.param("while True: pass", "TIMEOUT_ERROR", "was killed", marks=pytest.mark.slow),
        pytest.param(
            "import os; os.kill(os.getppid(), 9); os._exit(0)", "SCORER_ERROR", "SIGKILL", marks=pytest.mark.slow
        ),
        pytest.param("raise SystemExit(0)", "SCORER_ERROR", "SystemExit", marks=pytest.mark.slow),
        pytest.param("raise ValueError('x' * 10**8)", "SCORER_ERROR", "xxx", marks=pytest.mark.slow),
        pytest.param("x = [str(i) for i in range(10**8)]", "RESOURCE_ERROR", "scoring_memory", marks=pytest.mark.slow),
    ],
)
def test_a_scorer_that_fails_hangs_or_crashes_fails_alone(
    config: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, code: str, says: str
) -> None:
    monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
    # Read by the process in which it is tried.
    monkeypatch.setenv("AUTOSCORER_SECURITY__LIMITS__SCORING_MEMORY", "128Mi")
    # What hangs must be cut off soon; all else, and loading, gets whatever a busy machine needs.
    section = config.api.model_copy(update={"request_timeout": 20.0 if code == "TIMEOUT_ERROR" else 120.0})
    with serve_locally(config.model_copy(update={"api": section}), monkeypatch) as api:
        api.data("POST", "/scorers/load", json={"path": str(write(folder / "mine.py", "mine", body=body))})
        status, found, message = api.error("POST", "/scorers/test", json={"scorer": "mine", "workspace": "ws"})
        assert (status, found) == (422, code) and says in message
        assert str(folder) not in message and len(message) <= 2000
        assert api.data("GET", "/healthz") == {"status": "alive"}
