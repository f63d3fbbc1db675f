"""Workspaces over HTTP: uploading, listing, and reading of one what may be read, and nothing else."""

from __future__ import annotations

import io
import json
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.tasks.score import score_workspace
from pydantic import SecretStr

from ..support.local_api import LocalApi, serve_locally
from ..support.prefect_server import eventually
from ..support.workspaces import result_of, write_workspace

META = json.dumps({"task_type": "classification", "scorer": "classification_f1"})
TRUTH = "id,label\na,SECRET-TRUTH-1\nb,SECRET-TRUTH-2\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roots") / "round"


@pytest.fixture(scope="module")
def api(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        settings = Settings(workspace_roots=(root,), home=tmp_path_factory.mktemp("home"))
        api_section = settings.api.model_copy(update={"max_upload": 1_000_000, "max_unpacked": 2_000_000})
        with serve_locally(settings.model_copy(update={"api": api_section}), patch) as api:
            yield api


@pytest.fixture
def make(root: Path) -> Callable[..., Path]:
    def write(name: str, *, pred: str | None = TRUTH, scored: bool = True, **meta: Any) -> Path:
        folder = write_workspace(root, name, truth=TRUTH, pred=pred, **meta)
        if pred is not None and scored:
            score_workspace(folder)
        return folder

    return write


def packed(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {"meta.json": META, "input/gt.csv": TRUTH, **files}.items():
            archive.writestr(name, text)
    return data.getvalue()


# --- uploading -------------------------------------------------------------------------------------------------------


def test_an_uploaded_workspace_can_be_worked_on(api: LocalApi, root: Path) -> None:
    answer = api.client.post(
        "/workspaces", files={"file": ("team-up.zip", packed(**{"output/pred.csv": TRUTH}))}, data={"name": "up load"}
    )
    assert answer.status_code == 201 and answer.headers["location"] == "/workspaces/up%20load"
    data = answer.json()["data"]
    assert data["workspace"]["name"] == "up load" and data["workspace"]["has_predictions"]
    assert api.data("GET", answer.headers["location"])["scorer"] == "classification_f1"
    assert score_workspace(root / "up load").summary.score == 1.0
    assert api.error("POST", "/workspaces", files={"file": ("up load.zip", packed())})[:2] == (409, "CONFLICT")


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 422),
        ({"json": {}}, 422),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422),
        ({"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422),
        ({"data": {"name": "x"}, "files": {"other": b"x"}}, 422),
        ({"files": {"file": b""}}, 422),
        ({"files": [("file", b"x"), ("file", b"x")]}, 422),
        ({"files": {"file": b"PK\x03\x04"}, "data": {"path": "x"}}, 422),
        ({"files": {"file": ("x.zip", b"x")}, "data": {"name": "n" * 5000}}, 422),
        ({"files": {"file": ("x.zip", os.urandom(1_100_000))}}, 413),
        ({"files": {"file": ("x.zip", packed(**{"input/big": " " * 3_000_000}))}}, 413),
        ({"files": {"file": ("x.zip", packed(**{"../evil": ""}))}}, 422),
        ({"files": {"file": ("x.zip", packed(**{"meta.json": "{"}))}}, 422),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_refused_is_told_and_leaves_nothing(
    api: LocalApi, root: Path, options: dict[str, Any], status: int
) -> None:
    before = sorted(os.listdir(root))
    answer, _, message = api.error("POST", "/workspaces", **options)
    assert answer == status
    assert str(root) not in message
    assert sorted(os.listdir(root)) == before


def test_a_client_that_goes_away_leaves_nothing(api: LocalApi, root: Path) -> None:
    before = sorted(os.listdir(root))
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.zip"\r\n\r\n' + bytes(500_000)
    with socket.create_connection((api.client.base_url.host, api.client.base_url.port or 80)) as connection:
        connection.sendall(
            b"POST /workspaces HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 900000\r\n\r\n" + body
        )
        eventually(lambda: sorted(os.listdir(root)) != before)
    eventually(lambda: sorted(os.listdir(root)) == before)


# --- listing ---------------------------------------------------------------------------------------------------------


def test_workspaces_are_listed_a_page_at_a_time(api: LocalApi, root: Path, make: Any) -> None:
    for name in ("list/a", "list/a-b", "list/a/ignored", "list/b/c", "list/.hidden", "list/d"):
        make(name, pred=None)
    (root / "list" / "d" / "meta.json").write_text("{")
    (root / "list" / "empty").mkdir()
    (root / "list" / "e").symlink_to(root / "list" / "a")
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.data("GET", "/workspaces", params={"limit": 1, "search": "LIST/", **cursor})
        seen += page["workspaces"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [view["name"] for view in seen] == ["list/a", "list/a-b", "list/b/c", "list/d"]
    assert [view["error"] for view in seen] == [None, None, None, "INVALID_META"]


def test_a_listing_says_what_the_last_result_says(api: LocalApi, make: Any) -> None:
    make("good", params={"pass_threshold": 0.5})
    make("bad", pred="id,label\nzzz,1\n")
    good = api.data("GET", "/workspaces/good")
    assert (good["score"], good["pass"], good["rank"], good["error"]) == (1.0, True, "A", None)
    bad = api.data("GET", "/workspaces/bad")
    assert (bad["score"], bad["error"]) == (None, "MISMATCH")


@pytest.mark.parametrize("cursor", ["x", "e30=", "WzFd", "W10=", "WyJhIl0=", "é", "WzAsMV0="])
def test_a_cursor_that_is_none_is_refused(api: LocalApi, cursor: str) -> None:
    status, body = api.call("GET", "/workspaces", params={"cursor": cursor})
    assert status == 422 or body["data"]["workspaces"] == []


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_result_is_what_lies_there(api: LocalApi, make: Any) -> None:
    folder = make("result")
    data = api.data("GET", "/result", params={"workspace": "result"})
    assert data == result_of(folder)
    assert api.data("GET", "/result", params={"workspace": str(folder)}) == data
    make("unscored", scored=False)
    assert api.error("GET", "/result", params={"workspace": "unscored"})[:2] == (404, "NOT_FOUND")
    assert api.error("GET", "/result", params={"workspace": "nowhere"})[:2] == (404, "WORKSPACE_NOT_FOUND")
    assert api.error("GET", "/result", params={"workspace": "/etc"})[:2] == (403, "FORBIDDEN")
    assert api.error("GET", "/result", params={"workspace": "../.."})[:2] == (403, "FORBIDDEN")
    assert api.error("GET", "/result")[:2] == (422, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("text", "tail", "expected", "truncated"),
    [
        ("a\nb\nc\n", 2, "b\nc\n", True),
        ("a\nb\nc\n", 3, "a\nb\nc\n", False),
        ("a\nb\nc", 2, "b\nc", True),
        ("a\n", 0, "", True),
        ("", 5, "", False),
        ("\n\n\n", 2, "\n\n", True),
        ("x" * 200_000 + "\nlast\n", 1, "last\n", True),
        ("\x1b[31m\udcff<script>\n", 1, "\x1b[31m\ufffd<script>\n", False),
    ],
)
def test_the_end_of_a_log_is_read(
    api: LocalApi, make: Any, text: str, tail: int, expected: str, truncated: bool, request: Any
) -> None:
    name = f"log-{abs(hash(request.node.name))}"
    logs = make(name, pred=None) / "logs"
    logs.mkdir()
    (logs / "container.log").write_bytes(text.encode("utf-8", "surrogateescape"))
    data = api.data("GET", "/logs", params={"workspace": name, "tail": tail})
    assert (data["log"], data["truncated"]) == (expected, truncated)
    assert data["lines"] == len(expected.removesuffix("\n").split("\n")) if expected else data["lines"] == 0
    assert data["run_info"] is None


def test_a_log_shows_how_the_container_ran_and_nothing_else_than_the_log(api: LocalApi, make: Any) -> None:
    folder = make("ran", pred=None)
    assert api.error("GET", "/logs", params={"workspace": "ran"})[:2] == (404, "NOT_FOUND")
    (folder / "logs").mkdir()
    (folder / "logs" / "run_info.json").write_text(json.dumps({"exit_code": 3, "cwd": str(folder)}))
    (folder / "logs" / "container.log").symlink_to(folder / "input" / "gt.csv")
    data = api.data("GET", "/logs", params={"workspace": "ran"})
    assert (data["log"], data["run_info"]) == ("", {"exit_code": 3, "cwd": "ran"})


def test_artifacts_are_served_by_name_and_by_path(api: LocalApi, make: Any) -> None:
    folder = make("art")
    for path in ("report.html", "output/artifacts/report.html"):
        answer = api.client.get(f"/artifacts/{path}", params={"workspace": "art"})
        assert answer.content == (folder / "output" / "artifacts" / "report.html").read_bytes()
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''report.html"
    for artifact in api.data("GET", "/result", params={"workspace": "art"})["artifacts"].values():
        answer = api.client.get(f"/artifacts/{artifact['path']}", params={"workspace": "art"})
        assert len(answer.content) == artifact["size"]
    odd = folder / "output" / "artifacts" / 'a";é.bin'
    odd.write_bytes(b"\0")
    answer = api.client.get(f"/artifacts/{odd.name}", params={"workspace": "art"})
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%22%3B%C3%A9.bin"
    assert answer.headers["content-type"] == "application/octet-stream"


def test_nothing_else_of_a_workspace_is_an_artifact(api: LocalApi, make: Any) -> None:
    folder = make("closed")
    artifacts = folder / "output" / "artifacts"
    (artifacts / "link.csv").symlink_to(folder / "input" / "gt.csv")
    (artifacts / "up").symlink_to(folder)
    (artifacts / "sub").mkdir()
    (artifacts / "sub" / "plain.txt").write_text("plain")
    os.mkfifo(artifacts / "fifo")
    (folder / "output" / "other.txt").write_text("not listed")
    for path in (
        "input/gt.csv", "output/pred.csv", "output/result.json", "output/other.txt", "meta.json", "../input/gt.csv",
        "../../input/gt.csv", "output/artifacts/../../input/gt.csv", "output/../input/gt.csv", "link.csv",
        "up/meta.json", "fifo", "sub", "", ".", "output/artifacts", "%2e%2e/%2e%2e/input/gt.csv",
        "..%2f..%2finput%2fgt.csv", "/etc/passwd", "%2fetc%2fpasswd", "a%00b", "output/artifacts/up/input/gt.csv",
        "x" * 300, "a/" * 40 + "b",
    ):  # fmt: skip
        status, body = api.call("GET", f"/artifacts/{path}", params={"workspace": "closed"})
        assert status == 404, path
        assert "SECRET-TRUTH" not in json.dumps(body)
    assert api.client.get("/artifacts/sub/plain.txt", params={"workspace": "closed"}).text == "plain"


def test_what_a_result_lists_is_served_only_from_the_output(api: LocalApi, make: Any) -> None:
    folder = make("listed")
    (folder / "output" / "extra.csv").write_text("extra")
    result = folder / "output" / "result.json"
    data = json.loads(result.read_text())
    for name in ("output/extra.csv", "input/gt.csv", "output/../input/gt.csv", "meta.json"):
        data["artifacts"][name] = {"path": name}
    result.write_text(json.dumps(data))
    assert api.client.get("/artifacts/output/extra.csv", params={"workspace": "listed"}).text == "extra"
    for path in ("input/gt.csv", "output/../input/gt.csv", "meta.json", "output%2f..%2finput%2fgt.csv"):
        assert api.call("GET", f"/artifacts/{path}", params={"workspace": "listed"})[0] == 404


@pytest.mark.parametrize("show_errors", [False, True])
def test_a_submit_token_reads_no_ground_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show_errors: bool
) -> None:
    folder = tmp_path / "root" / "w"
    for name in ("input", "output"):
        (folder / name).mkdir(parents=True)
    (folder / "meta.json").write_text(META)
    (folder / "input" / "gt.csv").write_text(TRUTH)
    (folder / "output" / "pred.csv").write_text(TRUTH.replace("TRUTH-2", "TRUTH-1"))
    score_workspace(folder)
    artifacts = folder / "output" / "artifacts"
    (artifacts / "truth-of-all.csv").write_text(TRUTH)
    (artifacts / "per_class.svg").rename(artifacts / "renamed.svg")
    (artifacts / "sub").mkdir()
    (artifacts / "sub" / "per_class.csv").write_text(TRUTH)
    result = result_of(folder)
    result["artifacts"]["elsewhere"] = {"path": "output/errors.csv"}
    (folder / "output" / "result.json").write_text(json.dumps(result))
    (folder / "output" / "errors.csv").write_text(TRUTH)
    settings = Settings(
        workspace_roots=(tmp_path / "root",),
        home=tmp_path / "home",
        api_tokens=SecretStr("submit:sss-token,admin:aaa-token"),
        api={"show_errors": show_errors},
    )
    submit, admin = ({"Authorization": f"Bearer {token}"} for token in ("sss-token", "aaa-token"))
    with serve_locally(settings, monkeypatch) as api:
        for path in (
            "errors.csv", "output/artifacts/errors.csv", "truth-of-all.csv", "renamed.svg",
            "sub/per_class.csv", "output/errors.csv", "./errors.csv",
        ):  # fmt: skip
            where = f"/artifacts/{path}?workspace=w"
            assert api.client.get(where, headers=admin).status_code == 200, path
            if show_errors:
                assert api.client.get(where, headers=submit).status_code == 200, path
            else:
                status, code, message = api.error("GET", where, headers=submit)
                assert (status, code) == (403, "FORBIDDEN") and "api.show_errors" in message, path
        for path in ("per_class.csv", "confusion_matrix.json", "output/artifacts/confusion_matrix.svg"):
            assert api.client.get(f"/artifacts/{path}?workspace=w", headers=submit).status_code == 200, path
        for path in ("input/gt.csv", "nowhere.csv"):
            assert api.error("GET", f"/artifacts/{path}?workspace=w", headers=submit)[:2] == (404, "NOT_FOUND")


def test_what_lies_inside_a_workspace_is_shown_as_none(api: LocalApi, make: Any) -> None:
    make("outer")
    make("outer/inner")
    (make("outer/logged") / "logs").mkdir()
    for path in ("/result", "/logs", "/artifacts/per_class.csv"):
        for workspace in ("outer/inner", "outer/logged", "outer/input"):
            assert api.error("GET", path, params={"workspace": workspace})[:2] == (403, "FORBIDDEN")
        assert api.error("GET", path, params={"workspace": "."})[:2] == (404, "WORKSPACE_NOT_FOUND")
    assert api.error("GET", "/workspaces/outer/inner")[:2] == (403, "FORBIDDEN")
    trial = {"scorer": "classification_f1", "workspace": "outer/inner"}
    assert api.error("POST", "/scorers/test", json=trial)[:2] == (403, "FORBIDDEN")


def test_of_a_file_of_any_size_a_little_is_read(api: LocalApi, make: Any) -> None:
    folder = make("huge")
    (folder / "logs").mkdir()
    with (folder / "logs" / "container.log").open("wb") as log:
        log.truncate(1 << 34)
        log.seek(0, os.SEEK_END)
        log.write(b"end\n")
    (folder / "logs" / "run_info.json").write_text(json.dumps({"fill": "x" * 2_000_000}))
    data = api.data("GET", "/logs", params={"workspace": "huge", "tail": 1})
    assert data["truncated"] and data["run_info"] is None
    assert data["log"].endswith("end\n") and len(data["log"]) == 8 * 1024**2
    result = folder / "output" / "result.json"
    os.truncate(result, 1 << 34)
    status, code, message = api.error("GET", "/result", params={"workspace": "huge"})
    assert code == "BAD_FORMAT" and status < 500 and "16,777,216" in message
    assert api.data("GET", "/workspaces/huge")["error"] == "BAD_FORMAT"


def test_without_a_token_nothing_is_read_or_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "w").mkdir(parents=True)
    (root / "w" / "meta.json").write_text(META)
    settings = Settings(
        workspace_roots=(root,), home=tmp_path / "home", api_tokens=SecretStr("submit:sss-token,admin:aaa-token")
    )
    with serve_locally(settings, monkeypatch) as api:
        for method, path in (
            ("GET", "/workspaces"), ("POST", "/workspaces"), ("GET", "/workspaces/w"), ("GET", "/result?workspace=w"),
            ("GET", "/logs?workspace=w"), ("GET", "/artifacts/x?workspace=w"), ("GET", "/scorers"),
        ):  # fmt: skip
            assert api.error(method, path)[:2] == (401, "UNAUTHORIZED")
        submit = {"Authorization": "Bearer sss-token"}
        assert api.data("GET", "/workspaces", headers=submit)["workspaces"][0]["name"] == "w"
        for method, path in (
            ("POST", "/scorers/load"), ("POST", "/scorers/reload"), ("GET", "/scorers/watch"),
            ("POST", "/scorers/watch"), ("DELETE", "/scorers/watch"),
        ):  # fmt: skip
            options = {"json": {"path": "/tmp/x.py"}} if method == "POST" and "reload" not in path else {}
            assert api.error(method, path, headers=submit, **options)[:2] == (403, "FORBIDDEN")
        assert os.listdir(root) == ["w"]
