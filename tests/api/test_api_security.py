"""What the facade must hold against: strangers, wrong tokens, bodies without end, headers that lie."""

from __future__ import annotations

import http.server
import json
import logging
import math
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.api.context import request_id_of
from autoscorer.api.limits import RateLimiter
from autoscorer.api.server import server_config
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.logs import JsonFormatter
from autoscorer.core.loopback import is_loopback_name
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.prefect_server import eventually
from ..support.workspaces import write_workspace

HOST = b"Host: 127.0.0.1\r\n"
AUTH = f"Authorization: Bearer {SUBMIT}\r\n".encode()
JSON_TYPE = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One installation for the module: what is tested here does not depend on what came before."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOSCORER_HOME", str(folder))
        patch.delenv("PREFECT_API_URL", raising=False)
        yield folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspaces")
    write_workspace(folder, "team-a")
    return folder


def broken(app: FastAPI) -> None:
    """Two routes that fail as a fault of ours would."""

    async def boom() -> None:
        raise RuntimeError(f"/etc/secret {SUBMIT} {Path.home()}")

    async def drip() -> Any:
        from starlette.responses import StreamingResponse

        async def parts() -> Any:
            yield b"half an answer"
            raise RuntimeError("the other half is lost")

        return StreamingResponse(parts())

    app.add_api_route("/boom", boom)
    app.add_api_route("/drip", drip)


@pytest.fixture(scope="module")
def api(home: Path, root: Path) -> Iterator[Facade]:
    """A facade with tokens."""
    small = {"max_body": 64 * 1024, "request_timeout": 4, "max_wait": 1}
    with facade(facade_settings(root, api=small), prepare=broken) as running:
        yield running


@pytest.fixture(scope="module")
def local(home: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    """A facade without tokens."""
    with facade(facade_settings(root, tokens=False, home=tmp_path_factory.mktemp("home-local"))) as running:
        yield running


def head(raw: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of an answer as it came."""
    assert raw.startswith(b"HTTP/1.1 "), raw[:200]
    top, _, body = raw.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, json.loads(body) if body else None


# --- who may ask ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {SUBMIT}",
        SUBMIT,
        f"Bearer {SUBMIT[:-1]}",
        f"Bearer {SUBMIT}x",
    ],
)
def test_without_a_valid_token_nothing_of_a_task_is_told(api: Facade, header: str | None) -> None:
    for method, path in (("GET", "/tasks"), ("POST", "/submit"), ("GET", "/metrics"), ("GET", "/nowhere")):
        answer = api.call(method, path, headers={} if header is None else {"Authorization": header})
        assert answer.status == 401
        assert answer.error["code"] == "UNAUTHORIZED"
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_both_roles_may_submit_and_the_scheme_may_be_written_in_any_case(api: Facade) -> None:
    for token in (SUBMIT, ADMIN):
        assert api.call("GET", "/tasks", token=token).status == 200
        assert api.call("GET", "/tasks", headers={"Authorization": f"bEARER {token}"}).status == 200


def test_what_is_for_admins_is_refused_to_others(api: Facade) -> None:
    answer = api.call("POST", "/scorers/reload", {}, token=SUBMIT)
    assert answer.status == 403
    assert answer.error["code"] == "FORBIDDEN"
    assert api.call("POST", "/scorers/reload", {}, token=ADMIN).status != 403


def test_only_an_admin_may_have_a_model_run_unsealed(api: Facade, root: Path) -> None:
    write_workspace(root, "unsealed")
    body = {"workspace": "unsealed", "backend": "process"}
    for path in ("/validate", "/run", "/pipeline", "/submit"):
        answer = api.call("POST", path, body, token=SUBMIT)
        assert answer.status == 403 and answer.error["code"] == "FORBIDDEN", path
    assert api.call("POST", "/batch", {"workspaces": ["*"], "backend": "process"}, token=SUBMIT).status == 403
    task = api.call("POST", "/submit", body, token=ADMIN)
    assert task.status == 202
    # Nor by repeating what an admin had asked for.
    answer = api.call("POST", f"/tasks/{task.data['id']}/retry", token=SUBMIT)
    assert answer.status == 403 and answer.error["code"] == "FORBIDDEN"
    assert api.call("POST", f"/tasks/{task.data['id']}/cancel", token=SUBMIT).status == 200


def test_only_an_admin_may_choose_the_columns_that_are_compared(api: Facade, root: Path) -> None:
    write_workspace(root, "columns")
    for params in (
        {"truth_column": "secret"}, {"id_column": "secret"}, {"more": [{"other_columns": ["secret"]}]},
        # What counts, and how, is not for submitters either.
        {"average": "micro"}, {"interval_method": "bootstrap", "seed": 3}, {"pass_threshold": 0.5, "k": 1},
    ):  # fmt: skip
        body = {"workspace": "columns", "params": params}
        for path in ("/validate", "/score", "/pipeline", "/submit"):
            answer = api.call("POST", path, body, token=SUBMIT)
            assert answer.status == 403 and answer.error["code"] == "FORBIDDEN", path
        batch = {"workspaces": ["columns"], "params": params}
        assert api.call("POST", "/batch", batch, token=SUBMIT).status == 403
        trial = {"workspace": "columns", "params": params, "scorer": "classification_f1"}
        assert api.call("POST", "/scorers/test", trial, token=SUBMIT).status == 403
    body = {"workspace": "columns", "params": {"truth_column": "label"}}
    task = api.call("POST", "/submit", body, token=ADMIN)
    assert task.status == 202
    assert api.call("POST", f"/tasks/{task.data['id']}/retry", token=SUBMIT).status == 403
    assert api.call("POST", f"/tasks/{task.data['id']}/cancel", token=SUBMIT).status == 200


def test_only_an_admin_may_choose_another_scorer_than_meta_json(api: Facade, root: Path) -> None:
    write_workspace(root, "scorers")
    (write_workspace(root, "unnamed") / "meta.json").write_text('{"task_type": "classification"}')
    for workspace, scorer in (("scorers", "regression_rmse"), ("unnamed", "classification_f1")):
        body = {"workspace": workspace, "scorer": scorer}
        for path in ("/validate", "/score", "/pipeline", "/submit"):
            answer = api.call("POST", path, body, token=SUBMIT)
            assert answer.status == 403 and answer.error["code"] == "FORBIDDEN", path
            assert "meta.json names" in answer.error["message"]
        assert api.call("POST", "/batch", {"workspaces": ["*"], "scorer": scorer}, token=SUBMIT).status == 403
        assert api.call("POST", "/scorers/test", body, token=SUBMIT).status == 403
        task = api.call("POST", "/submit", {**body, "action": "score"}, token=ADMIN)
        assert task.status == 202
        # Nor by repeating what an admin had asked for.
        assert api.call("POST", f"/tasks/{task.data['id']}/retry", token=SUBMIT).status == 403
        assert api.call("POST", f"/tasks/{task.data['id']}/cancel", token=SUBMIT).status == 200
    same = {"workspace": "scorers", "scorer": "classification_f1", "params": {"pass_threshold": 0.5}, "action": "score"}
    task = api.call("POST", "/submit", same, token=SUBMIT)
    assert task.status == 202 and task.data["scorer"] == "classification_f1"
    assert api.call("POST", f"/tasks/{task.data['id']}/cancel", token=SUBMIT).status == 200
    assert api.call("POST", f"/tasks/{task.data['id']}/retry", token=SUBMIT).status == 202


def test_probes_and_the_description_need_no_token(api: Facade) -> None:
    assert api.call("GET", "/healthz").status == 200
    assert api.call("GET", "/readyz").status in (200, 503)
    assert api.call("GET", "/openapi.json").status == 200
    # A token that is wrong is wrong there, too: whoever shows it wants to know.
    assert api.call("GET", "/healthz", token="wrong").status == 401


def test_a_body_is_not_read_before_the_token_is_checked(api: Facade) -> None:
    with api.connect() as connection:
        connection.sendall(b"POST /submit HTTP/1.1\r\n" + HOST + JSON_TYPE + b"Content-Length: 1000\r\n\r\n")
        # Nothing of the body is sent, and the answer is there.
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_token_with_both_roles_is_an_admins(home: Path, root: Path) -> None:
    from autoscorer.api.access import access_of
    from autoscorer.api.auth import Authenticator

    settings = facade_settings(root, api_tokens="admin:same,submit:same,submit:other")
    check = Authenticator(settings, access_of(settings)).check
    scope = {"path": "/tasks", "client": ("127.0.0.1", 1)}
    caller, other = (check(scope, {b"authorization": b"Bearer " + token}) for token in (b"same", b"other"))
    assert caller is not None and other is not None
    assert (caller.role, other.role) == ("admin", "submit")
    assert caller.name != other.name
    assert "same" not in caller.name


def test_tokens_of_the_home_are_heeded_without_a_restart_and_refused_where_they_can_not_be_read(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from autoscorer.api.access import access_of
    from autoscorer.api.auth import Authenticator
    from autoscorer.core.tokens import TOKENS_FILE, TokenFile

    settings = facade_settings(root, api_tokens="admin:of-the-configuration", home=tmp_path)
    check = Authenticator(settings, access_of(settings)).check

    def role(token: str) -> tuple[str, str | None, frozenset[str]] | None:
        scope = {"path": "/tasks", "client": ("127.0.0.1", 1)}
        try:
            caller = check(scope, {b"authorization": b"Bearer " + token.encode()})
        except AutoScorerError as error:
            assert error.code is ErrorCode.UNAUTHORIZED
            return None
        assert caller is not None and token not in caller.name
        return caller.role, caller.team, caller.benchmarks

    file = TokenFile(tmp_path)
    of_a, record = file.add("submit", team="a")
    organiser, _ = file.add("organiser", benchmarks=["flowers", "dogs"])
    assert role(of_a) == ("submit", "a", frozenset())
    assert role(organiser) == ("organiser", None, frozenset({"flowers", "dogs"}))
    assert role(of_a[:-1]) is role(record.sha256) is role(record.id) is role("") is None
    (tmp_path / TOKENS_FILE).write_text("[{")
    with caplog.at_level("ERROR"):
        assert role(of_a) is role(organiser) is None
    assert role("of-the-configuration") == ("admin", None, frozenset())
    assert "tokens.json in the home is not a list of tokens" in caplog.text
    with pytest.raises(AutoScorerError, match=r"tokens\.json in the home"):
        Authenticator(settings, access_of(settings))
    (tmp_path / TOKENS_FILE).unlink()
    again, _ = file.add("submit")
    assert role(again) == ("submit", None, frozenset()) and role(of_a) is None


def test_a_home_with_tokens_asks_for_them(tmp_path: Path, root: Path) -> None:
    from autoscorer.api.access import access_of
    from autoscorer.core.tokens import TokenFile

    settings = facade_settings(root, tokens=False, home=tmp_path)
    file = TokenFile(tmp_path)
    _, record = file.add("admin")
    for _ in range(2):
        access = access_of(settings)
        assert access.uid is None and access.home_token is None and "tokens" in access.sentence
        server_config(settings, "0.0.0.0", 0)
        if file.records():
            file.revoke(record.id)  # nobody gets in by that


def test_others_than_this_machine_are_served_only_with_tokens(root: Path, home: Path) -> None:
    without = facade_settings(root, tokens=False)
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", ""):
        with pytest.raises(AutoScorerError) as raised:
            server_config(without, host, 0)
        assert raised.value.code is ErrorCode.INVALID_REQUEST
        assert "AUTOSCORER_API_TOKENS" in raised.value.message
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        server_config(without, host, 0)
    server_config(facade_settings(root), "0.0.0.0", 0)


@pytest.mark.parametrize(
    "lines",
    [
        b"Host: evil.example\r\n",
        b"Host: 127.0.0.1.evil.example\r\n",
        b"Host: localhost.evil.example:80\r\n",
        b"Host: 127.0.0.1@evil.example\r\n",
        b"Host: [::1\r\n",
        b"Host: \xff\r\n",
        b"Host: \r\n",
        b"",
        HOST + b"Origin: http://evil.example\r\n",
        HOST + b"Origin: null\r\n",
        HOST + b"Origin: http://127.0.0.1:81\r\n",
        HOST + b"X-Forwarded-For: 127.0.0.1\r\n",
        HOST + b"Forwarded: for=10.0.0.1\r\n",
        HOST + b"Via: 1.1 proxy\r\n",
    ],
)
def test_without_tokens_only_plain_requests_of_this_machine_are_served(local: Facade, lines: bytes) -> None:
    status, _, envelope = head(local.raw(b"GET /healthz HTTP/1.0\r\n" + lines + b"\r\n"))
    assert (status, envelope["error"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000", "localhost."]
)
def test_without_tokens_this_machine_may_do_everything(local: Facade, host: str) -> None:
    answer = local.call("GET", "/tasks", headers={"Host": host, "Origin": f"http://{host}"})
    assert answer.status == 200
    assert local.call("POST", "/scorers/reload", {}, headers={"Host": host}).status != 403


@given(st.one_of(st.text(max_size=40), st.ip_addresses().map(str)))
def test_no_other_name_is_loopback(text: str) -> None:
    if text.lower() not in ("localhost", "localhost."):
        assert is_loopback_name(text) is _is_loopback_number(text)


def _is_loopback_number(text: str) -> bool:
    """Whether the kernel takes it for a number of the loopback network: 127.0.0.0/8, ::1, or one mapped to IPv6."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, text.partition("%")[0])
        except (OSError, ValueError):
            continue
        if family == socket.AF_INET:
            return "%" not in text and packed[0] == 127
        return packed == b"\0" * 15 + b"\1" or (packed[:12] == b"\0" * 10 + b"\xff" * 2 and packed[12] == 127)
    return False


# --- what a request may cost ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_body_that_says_it_is_too_large_is_refused_at_once(api: Facade) -> None:
    raw = api.raw(
        b"POST /submit HTTP/1.1\r\n" + HOST + AUTH + JSON_TYPE + b"Content-Length: 99999999999\r\n\r\n", b" " * 100_000
    )
    status, headers, envelope = head(raw)
    assert (status, envelope["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert headers["connection"] == "close"


@pytest.mark.slow
def test_a_body_that_does_not_say_how_large_it_is_is_counted(api: Facade) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    request = b"POST /submit HTTP/1.1\r\n" + HOST + AUTH + JSON_TYPE + b"Transfer-Encoding: chunked\r\n\r\n"
    status, headers, envelope = head(api.raw(request, *[chunk] * 8))
    assert (status, envelope["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert headers["connection"] == "close"


def test_a_chunked_body_that_fits_is_served(api: Facade) -> None:
    body = json.dumps({"action": "score", "workspace": "nowhere"}).encode()
    request = b"POST /submit HTTP/1.1\r\n" + HOST + AUTH + JSON_TYPE + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n"
    status, _, envelope = head(api.raw(request, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)))
    assert (status, envelope["error"]["code"]) == (404, "WORKSPACE_NOT_FOUND")


@pytest.mark.slow
def test_a_body_that_does_not_come_ends(api: Facade) -> None:
    request = b"POST /submit HTTP/1.1\r\n" + HOST + AUTH + JSON_TYPE + b"Content-Length: 100\r\n\r\n{"
    status, headers, envelope = head(api.raw(request))
    assert (status, envelope["error"]["code"]) == (422, "INVALID_REQUEST")
    assert "did not come within" in envelope["error"]["message"]
    assert headers["connection"] == "close"


def test_a_head_without_end_is_refused(api: Facade) -> None:
    for parts in (
        [b"GET /healthz HTTP/1.1\r\n" + HOST, *[b"X-Filler: " + b"a" * 10_000 + b"\r\n"] * 20],
        [b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-Filler: ", *[b"a" * 10_000] * 20],
        [b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"],
    ):
        status, headers, envelope = head(api.raw(*parts))
        assert (status, envelope["error"]["code"]) == (400, "INVALID_REQUEST")
        assert headers["connection"] == "close"


def test_an_address_may_have_so_many_bytes_and_not_one_more(api: Facade) -> None:
    limit = 32768
    begin = b"GET /tasks?workspace="
    for size, status in ((limit, 422), (limit + 1, 400), (60_000, 400), (200_000, 400)):
        address = b"a" * (size - len(b"/tasks?workspace="))
        request = begin + address + b" HTTP/1.1\r\n" + HOST + AUTH + CLOSE + b"\r\n"
        # In one piece, and in many.
        for parts in ([request], [request[at : at + 1000] for at in range(0, len(request), 1000)]):
            found, headers, envelope = head(api.raw(*parts))
            assert (found, envelope["error"]["code"]) == (status, "INVALID_REQUEST")
            assert headers["content-type"] == "application/json"
            if status == 400:
                assert "32,768 bytes" in envelope["error"]["message"]
                assert envelope["error"]["details"] == {"limit": limit}
                assert headers["connection"] == "close"


def test_every_route_says_that_a_request_which_can_not_be_read_is_a_400(api: Facade) -> None:
    status, _, envelope = head(api.raw(b"GET /tasks HTTP/1.1\r\n" + HOST + b"X-Filler: " + b"a" * 70_000 + b"\r\n\r\n"))
    assert (status, envelope["error"]["details"]) == (400, {"limit": 65536})
    assert "65,536 bytes" in envelope["error"]["message"]
    for path, operations in api.call("GET", "/openapi.json").json["paths"].items():
        for method, operation in operations.items():
            if path not in ("/boom", "/drip"):
                described = operation["responses"]["400"]
                assert "32,768" in described["description"] and "65,536" in described["description"], (method, path)


def test_a_head_that_does_not_come_ends(api: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscorer.api.server._HEAD_SECONDS", 0.3)
    assert api.raw() == b""
    assert api.raw(b"GET /healthz HTTP/1.1\r\nHost: 127") == b""
    # The second of two on a connection, too; the first is served.
    status, _, envelope = head(api.raw(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\nGET /hea"))
    assert (status, envelope["ok"]) == (200, True)


@pytest.mark.slow
def test_a_server_that_is_not_prefect_is_prefect_away(home: Path, root: Path, tmp_path: Path) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Sign in</html>")

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        settings = facade_settings(root, home=tmp_path, prefect={"api_url": f"http://127.0.0.1:{page.server_port}/api"})
        with facade(settings) as api:
            ready = api.call("GET", "/readyz")
            assert (ready.status, ready.error["code"]) == (503, "BACKEND_UNAVAILABLE")
            task = api.call("POST", "/submit", {"action": "score", "workspace": "team-a"}, token=SUBMIT).data
            assert api.call("GET", f"/tasks/{task['id']}", token=SUBMIT).data["state"] == "queued"
        page.shutdown()


def test_what_is_no_http_is_told_in_the_envelope(api: Facade) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G=T / HTTP/1.1\r\n\r\n",
    ):
        status, headers, envelope = head(api.raw(garbage))
        assert (status, envelope["ok"]) == (400, False)
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5000,
        b'{"workspace":"a","params":' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b'{"workspace":"a","params":{"a":NaN}}',
        b'{"workspace":"a","params":{"a":-Infinity}}',
        b'{"workspace":"a","params":{"a":1e999}}',
        b'{"workspace":"a","params":{"a":' + b"9" * 5000 + b"}}",
        b'{"workspace":"a","params":{"a":9223372036854775808}}',
        rb'{"workspace":"a","params":{"a":"\u0000"}}',
        rb'{"workspace":"a","params":{"\u0000":1}}',
        rb'{"workspace":"\ud800"}',
        b'{"workspace":"\xff"}',
        b'{"workspace":"a"',
        b"null",
        b"[]",
        b"",
        b"\xff\xfe",
        b'{"workspace":"a"} trailing',
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_bodies_that_are_no_json_of_ours_are_refused(api: Facade, body: bytes) -> None:
    answer = api.call("POST", "/submit", body, token=SUBMIT)
    assert (answer.status, answer.error["code"]) == (422, "INVALID_REQUEST")


def test_json_must_be_called_so(api: Facade) -> None:
    # What a page of another site may send without being asked for: never taken for JSON.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = api.call("POST", "/submit", b'{"workspace":"team-a"}', token=SUBMIT, headers={"Content-Type": kind})
        assert (answer.status, answer.error["code"]) == (422, "INVALID_REQUEST")
        assert "Content-Type" in answer.error["message"]


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    steps=st.lists(st.floats(0, 10), max_size=200),
)
def test_a_bucket_gives_no_more_than_the_burst_and_the_rate(rate: float, burst: int, steps: list[float]) -> None:
    now = 0.0
    limiter = RateLimiter(rate, burst, clock=lambda: now)
    served = 0
    for step in steps:
        now += step
        wait = limiter.take("one")
        if wait == 0:
            served += 1
        else:
            assert wait <= 1 / rate + 1e-6
        assert served <= burst + now * rate + 1e-6
    # Others are not counted.
    assert limiter.take("another") == 0


def test_a_token_that_asks_too_often_is_told_when_to_ask_again(home: Path, root: Path, tmp_path: Path) -> None:
    settings = facade_settings(root, home=tmp_path, api={"rate_limit": 0.5, "rate_burst": 5})
    with facade(settings) as api:
        statuses = [api.call("GET", "/tasks?limit=1", token=SUBMIT).status for _ in range(7)]
        assert statuses[:5] == [200] * 5
        answer = api.call("GET", "/tasks", token=SUBMIT)
        assert (answer.status, answer.error["code"]) == (429, "RATE_LIMITED")
        assert 1 <= int(answer.headers["retry-after"]) <= math.ceil(1 / 0.5)
        # The other token has its own measure, and so have those who show none or a wrong one.
        assert api.call("GET", "/tasks", token=ADMIN).status == 200
        guesses = [api.call("GET", "/tasks", token=f"guess-{number}").status for number in range(7)]
        assert guesses[:5] == [401] * 5
        assert guesses[-1] == 429


# --- what an answer may say -------------------------------------------------------------------------------


def test_a_fault_of_ours_says_where_to_look_and_nothing_else(api: Facade, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "autoscorer"):
        answer = api.call("GET", "/boom", token=SUBMIT)
    assert (answer.status, answer.error["code"]) == (500, "INTERNAL_ERROR")
    for secret in (b"/etc", SUBMIT.encode(), str(Path.home()).encode(), b"Traceback", b"RuntimeError", b".py"):
        assert secret not in answer.body
    request_id = answer.json["meta"]["request_id"]
    assert answer.headers["x-request-id"] == request_id
    # The log has all of it, under that id.
    told = [r for r in caplog.records if r.exc_info and getattr(r, "fields", {}).get("request_id") == request_id]
    assert told


def test_half_an_answer_is_cut_off_and_not_made_whole(api: Facade) -> None:
    raw = api.raw(b"GET /drip HTTP/1.1\r\n" + HOST + AUTH + b"\r\n")
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.endswith(b"half an answer\r\n")  # no last chunk: a client can tell


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/tasks/", 404),
        ("GET", "//evil.example/tasks", 404),
        ("GET", "/tasks/%2e%2e%2f%00", 404),
        ("PUT", "/submit", 405),
        ("DELETE", "/tasks", 405),
        ("GET", "/tasks/none", 404),
        ("POST", "/tasks/none/cancel", 404),
        ("POST", "/tasks/none/retry", 404),
        ("GET", "/tasks/none/logs", 404),
        ("GET", "/tasks/none/logs?follow=true", 404),
        ("GET", "/events?task=none", 404),
        ("GET", "/events?task=", 422),
        ("GET", f"/events?after={'1' * 101}", 422),
        ("GET", "/batch/none", 404),
        ("GET", "/batch/none/leaderboard?format=csv", 404),
        ("GET", "/tasks?limit=0", 422),
        ("GET", "/tasks?limit=many", 422),
        ("GET", "/tasks?state=gone", 422),
        ("GET", "/tasks?since=yesterday", 422),
        *(
            ("GET", f"/tasks?{name}={value}", 422)
            for name in ("since", "until")
            for value in (
                "0.5",
                "0",
                "-1",
                "%2B1",
                "1700000000",
                "1700000000.5",
                "20261101",
                "1e9",
                "inf",
                "nan",
                "",
                "2026",
                "2026-13-01",
                "2026-11-01T25:00",
                "2026-11-01T10:00:00+02:00",  # the + is a space; it is written %2B
            )
        ),
        ("GET", "/tasks?cursor=none", 422),
    ],
)
def test_every_refusal_is_an_envelope_with_the_same_headers(api: Facade, method: str, path: str, status: int) -> None:
    answer = api.call(method, path, token=SUBMIT)
    assert answer.status == status, answer.body
    assert answer.error["message"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    assert answer.headers["x-request-id"] == answer.json["meta"]["request_id"]
    assert (status == 405) == ("allow" in answer.headers)


def test_since_and_until_are_dates_or_times_and_say_so(api: Facade) -> None:
    for value in ("2026-11-01", "2026-11-01T10:00", "2026-11-01T10:00:00.5Z", "2026-11-01T10:00:00%2B02:00"):
        for name in ("since", "until"):
            assert api.call("GET", f"/tasks?{name}={value}", token=SUBMIT).status == 200, value
    message = api.call("GET", "/tasks?until=0.5", token=SUBMIT).error["message"]
    assert "query.until" in message and "2026-11-28T17:00:00Z" in message and "0.5" not in message


def test_what_was_wrong_is_named_and_not_repeated(api: Facade) -> None:
    body = {"workspace": ["hunter2"], "params": "hunter2", "callback_url": 7, "no\nsuch": "hunter2"}
    answer = api.call("POST", "/submit", body, token=SUBMIT)
    assert answer.status == 422
    assert b"hunter2" not in answer.body
    named = {item["field"] for item in answer.error["details"]["fields"]}
    assert {"body.workspace", "body.params", "body.callback_url"} <= named
    assert "\n" not in answer.error["message"]


def test_no_answer_holds_a_path_of_the_host_or_a_token(api: Facade, root: Path, home: Path) -> None:
    for body in (
        {"workspace": str(root / "missing")},
        {"workspace": str(home)},
        {"workspace": "/etc"},
        {"workspace": "../.."},
        {"workspace": "/proc/self/root"},
    ):
        assert api.call("POST", "/submit", body, token=SUBMIT).status in (403, 404)
    submitted = api.call("POST", "/submit", {"action": "score", "workspace": str(root / "team-a")}, token=SUBMIT)
    assert submitted.data["workspace"] == "team-a"
    api.call("GET", "/readyz")
    api.call("GET", "/metrics", token=SUBMIT)
    api.call("GET", f"/tasks/{submitted.data['id']}", token=SUBMIT)
    for answer in api.answers:
        whole = answer.body + repr(answer.headers).encode()
        for secret in (str(root), str(home), SUBMIT, ADMIN, "Traceback", str(Path(__file__).parents[2])):
            assert secret.encode() not in whole, (secret, whole[:500])


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [
        ("abc-1.2_3", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("a b", False),
        ("<script>", False),
        ("-a", False),
        ("é", False),
    ],
)
def test_a_request_id_is_kept_only_if_it_is_a_plain_short_word(api: Facade, given_id: str, kept: bool) -> None:
    answer = api.call("GET", "/healthz", headers={"X-Request-ID": given_id.encode("utf-8").decode("latin-1")})
    assert (answer.headers["x-request-id"] == given_id) is kept
    assert answer.json["meta"]["request_id"] == answer.headers["x-request-id"]


@given(st.one_of(st.none(), st.binary(max_size=80)))
def test_whatever_is_given_a_request_id_is_a_plain_word(value: bytes | None) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", request_id_of(value))


def test_headers_can_not_be_injected(api: Facade) -> None:
    for path in ("/tasks/a%0d%0aX-Evil:1", "/nowhere%0d%0aX-Evil:1", "/tasks?workspace=a%0d%0aX-Evil:1"):
        assert "x-evil" not in api.call("GET", path, token=SUBMIT).headers
    for key in ("a b", "a\tb", "é", "x" * 201):
        answer = api.call(
            "POST", "/submit", {"workspace": "team-a"}, token=SUBMIT,
            headers={"Idempotency-Key": key.encode().decode("latin-1")},
        )  # fmt: skip
        assert answer.status == 422


def test_the_log_has_the_ids_and_no_secret(api: Facade, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "autoscorer.request"):
        done = api.call("GET", "/tasks?workspace=hunter2&token=hunter2", token=SUBMIT)
        api.call("GET", "/nowhere/hunter2", token=SUBMIT)
        task = api.call("POST", "/submit", {"action": "validate", "workspace": "team-a"}, token=SUBMIT).data
        eventually(lambda: sum(record.name == "autoscorer.request" for record in caplog.records) >= 3)
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "autoscorer.request"]
    entries = [json.loads(line) for line in lines]
    assert not any(secret in line for line in lines for secret in ("hunter2", SUBMIT))
    (listed,) = [entry for entry in entries if entry["request_id"] == done.headers["x-request-id"]]
    assert (listed["method"], listed["route"], listed["status"]) == ("GET", "/tasks", 200)
    assert listed["seconds"] > 0
    assert listed["caller"].startswith("submit-")
    assert any(entry["task_id"] == task["id"] for entry in entries)
    assert any(entry["route"] is None and entry["status"] == 404 for entry in entries)


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


@pytest.mark.slow
def test_a_refused_method_is_told_every_method_that_the_address_takes_and_no_other(api: Facade) -> None:
    """Also where one address belongs to several routes: /scorers/watch is a /scorers/{id}, and has three of its own."""
    paths = api.call("GET", "/openapi.json").json["paths"]
    templates = {path: {method.upper() for method in paths[path]} for path in paths if path != "/drip"}
    templates |= {"/openapi.json": {"GET", "HEAD"}, "/boom": {"GET"}}
    templates |= {path: {"GET"} for path in ("/", "/records", "/docs", "/static/{name}")}

    def pattern_of(template: str) -> re.Pattern[str]:
        # As the routes say it: names of workspaces and artifacts may be paths, and below a task {name} is a file.
        text = re.sub(
            r"\{path\}|(?<=/workspaces/)\{name\}|(?<=/benchmarks/)\{name\}|(?<=/artifacts/)\{name\}", ".+", template
        )
        text = re.sub(r"(?<=\{task_id\}/)\{name\}", r"[^/]*\.[^/]*", text)
        return re.compile(re.sub(r"\{\w+\}", "[^/]+", text))

    patterns = {pattern_of(template): template for template in templates}
    # A signature is asked for before any route is.
    for template in (each for each in templates if not each.startswith("/signed/")):
        path = re.sub(r"\{\w+\}", "none", template.replace("{task_id}/{name}", "{task_id}/none.csv"))
        allowed = set().union(*(templates[t] for pattern, t in patterns.items() if pattern.fullmatch(path)))
        for method in METHODS:
            # That stream ends for a task that is not there alone.
            answer = api.call(method, "/events?task=none" if path == "/events" else path, token=ADMIN)
            assert (answer.status == 405) == (method not in allowed), (method, path, answer.status)
            if answer.status == 405:
                listed = answer.headers["allow"].split(", ")
                assert set(listed) == allowed and len(listed) == len(allowed), (method, path, listed, allowed)
                if method != "HEAD":
                    assert answer.headers["allow"] in answer.error["message"]


def test_nothing_is_allowed_to_other_sites(api: Facade) -> None:
    answer = api.call("OPTIONS", "/submit", token=SUBMIT, headers={"Origin": "http://evil.example"})
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
