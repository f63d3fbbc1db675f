"""Who is served without tokens: the server's own user, and nobody who comes through a proxy or is somebody else.

Real servers, a real nginx in front of them, real other users; where whose a connection is can't be told, a token is
made and kept in the home.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from autoscorer.api.access import Access
from autoscorer.api.peer import Lookup, by_netlink, by_proc, uid_of_peer, way_to_tell
from autoscorer.cli.api_client import connect
from autoscorer.cli.up import render as render_up
from autoscorer.core.config import Settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ..support.browser import Browser, browser
from ..support.ports import free_port
from ..support.prefect_server import eventually
from ..support.processes import clean_environment
from ..support.workspaces import write_workspace

__all__ = ["browser"]

# Debian's user of web servers, and of nginx here.
OTHER = 33
SUBMIT_UNSEALED = {"workspace": "team-a", "backend": "process"}
_OTHERS = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]


@dataclass
class Served:
    """A real ``autoscorer serve``."""

    url: str
    home: Path
    environment: dict[str, str]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def said(self) -> str:
        """What it has written so far."""
        return self.log.read_text()


def root_command() -> list[str]:
    """What makes a command root's; skips the test where nothing does."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    pytest.skip("only root can become another user")


def curl(url: str, *options: str, before: tuple[str, ...] | list[str] = ()) -> tuple[int, Any]:
    """Status and JSON of what curl gets."""
    command = [*before, "curl", "-s", "-g", "--noproxy", "*", "-w", "\n%{http_code}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    body, _, status = done.stdout.rpartition("\n")
    try:
        return int(status), json.loads(body)
    except ValueError:
        return int(status), body


def as_json(body: Any) -> tuple[str, ...]:
    return "-H", "Content-Type: application/json", "-d", json.dumps(body)


@contextmanager
def serving(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    before: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> Iterator[Served]:
    """``autoscorer serve`` as a process of its own, without Prefect: what it accepts is on disk.

    Args:
        folder: Holds its home and its workspaces, also those of a former start.
        host: Address it listens on.
        before: A command that starts it.
        environment: Further variables.
    """
    root, home = folder / "workspaces", folder / "home"
    root.mkdir(exist_ok=True)
    variables = {
        **clean_environment(),
        "AUTOSCORER_HOME": str(home),
        "AUTOSCORER_WORKSPACE_ROOTS": str(root),
        "AUTOSCORER_PREFECT__API_URL": "http://127.0.0.1:9/api",
        **(environment or {}),
    }
    port = free_port(host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log = folder / "serve.log"
    command = [*before, sys.executable, "-m", "autoscorer", "serve", "--host", host, "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=variables, cwd=root, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or _answers(host, port))
        assert process.poll() is None, log.read_text()
        yield Served(url, home, variables, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(300)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def proxy(folder: Path, target: str) -> Iterator[str]:
    """nginx as it comes, with a plain ``proxy_pass``: a master of root, workers of another user, no own header."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed")
    sudo = root_command()
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"""
        user www-data; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {target}; }} }}
        }}
        """
    )
    process = subprocess.Popen([*sudo, "/usr/sbin/nginx", "-e", f"{folder}/nginx.log", "-c", str(configuration)])
    try:
        eventually(lambda: process.poll() is not None or _answers("127.0.0.1", port))
        assert process.poll() is None, (folder / "nginx.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        pid = (folder / "nginx.pid").read_text().strip()
        subprocess.run([*sudo, "kill", pid], check=True)
        process.wait(300)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One without tokens."""
    folder = tmp_path_factory.mktemp("served")
    write_workspace(folder / "workspaces", "team-a")
    with serving(folder) as running:
        yield running


def refusal(status: int, envelope: Any) -> str:
    """What a stranger is told."""
    assert status == 403, (status, envelope)
    assert envelope["error"]["code"] == "FORBIDDEN"
    assert "AUTOSCORER_API_TOKENS" in envelope["error"]["message"]
    return str(envelope["error"]["message"])


@pytest.mark.slow
def test_a_plain_proxy_in_front_of_a_server_without_tokens_gives_nobody_anything(
    served: Served, tmp_path: Path
) -> None:
    with proxy(tmp_path, served.url) as outside:
        refusal(*curl(outside + "/submit", *as_json(SUBMIT_UNSEALED)))
        _, document = curl(served.url + "/openapi.json")
        routes = [(method, path) for path, operations in document["paths"].items() for method in operations]
        for method, path in (*routes, *(("get", path) for path in ("/", "/records", "/static/records.js", "/nowhere"))):
            body = as_json({}) if method == "post" else ()
            refusal(*curl(outside + path.replace("{", "").replace("}", ""), "-X", method.upper(), *body))


@pytest.mark.slow
def test_another_user_of_the_machine_is_told_to_set_tokens(served: Served) -> None:
    before = [*root_command(), *_OTHERS]
    message = refusal(*curl(served.url + "/submit", *as_json(SUBMIT_UNSEALED), before=before))
    assert "user" in message
    refusal(*curl(served.url + "/healthz", before=before))


@pytest.mark.slow
def test_the_users_own_curl_is_served_as_the_readme_writes_it(served: Served) -> None:
    status, envelope = curl(served.url + "/submit", *as_json(SUBMIT_UNSEALED))
    assert status == 202 and envelope["ok"] is True, envelope


@pytest.mark.slow
@pytest.mark.parametrize("host", ["::1", "127.8.8.8", "localhost"])
def test_the_same_holds_over_every_address_of_loopback(tmp_path: Path, host: str) -> None:
    write_workspace(tmp_path / "workspaces", "team-a")
    with serving(tmp_path, host=host) as api:
        assert curl(api.url + "/submit", *as_json(SUBMIT_UNSEALED))[0] == 202
        refusal(*curl(api.url + "/submit", *as_json(SUBMIT_UNSEALED), before=[*root_command(), *_OTHERS]))
        eventually(lambda: "your own user alone" in api.said())


@pytest.mark.slow
def test_an_ipv6_socket_that_is_reached_by_ipv4_is_told_as_well(tmp_path: Path) -> None:
    with serving(tmp_path, host="::ffff:127.0.0.1") as api:
        url = f"http://127.0.0.1:{api.port}/tasks"
        assert curl(url)[0] == 200
        refusal(*curl(url, before=[*root_command(), *_OTHERS]))


@pytest.mark.slow
def test_every_request_of_a_connection_is_its_owners(served: Served) -> None:
    request = b"GET /tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(request % b"" * 2)
        connection.sendall(request % b"Connection: close\r\n")
        received = b""
        while data := connection.recv(65536):
            received += data
    assert received.count(b"HTTP/1.1 200 ") == 3, received


@pytest.mark.slow
def test_a_stranger_who_hangs_up_at_once_is_not_taken_for_somebody_else(served: Served) -> None:
    # Of a closed socket the kernel tells no owner, or root; what was asked before must not be done.
    workspace = write_workspace(served.home.parent / "workspaces", "hung-up")
    body = json.dumps({"workspace": workspace.name, "backend": "process"}).encode()
    script = (
        "import socket, sys\n"
        "for _ in range(50):\n"
        "    with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as connection:\n"
        "        connection.sendall(sys.argv[2].encode())\n"
    )
    head = f"POST /submit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    request = f"{head}\r\n\r\n{body.decode()}"
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    subprocess.run([*root_command(), *_OTHERS, python, "-c", script, str(served.port), request], check=True, cwd="/")
    status, envelope = curl(served.url + "/tasks?workspace=hung-up")
    assert (status, envelope["data"]["total"]) == (200, 0)


@pytest.mark.slow
def test_no_tokens_at_all_is_the_same_as_none(tmp_path: Path) -> None:
    with serving(tmp_path, environment={"AUTOSCORER_API_TOKENS": ""}) as api:
        assert curl(api.url + "/tasks")[0] == 200
        refusal(*curl(api.url + "/tasks", before=[*root_command(), *_OTHERS]))


@pytest.mark.slow
def test_the_first_systems_token_may_submit_and_is_in_no_log(tmp_path: Path) -> None:
    bearer = ("-H", "Authorization: Bearer of-the-first-system")
    with serving(tmp_path, environment={"SCORE_API_TOKEN": "of-the-first-system"}) as api:
        assert curl(api.url + "/api/score/jobs", *bearer)[0] == 200
        assert curl(api.url + "/api/score/jobs")[0] == 401
        assert curl(api.url + "/scorers/watch", *bearer)[0] == 403
    assert "of-the-first-system" not in api.log.read_text()


# --- whose a connection is --------------------------------------------------------------------------------


LOOKUPS = pytest.mark.parametrize("lookup", [by_netlink, by_proc])


def test_this_machine_tells_users_apart() -> None:
    assert way_to_tell() is by_netlink


@LOOKUPS
@pytest.mark.parametrize(
    ("host", "by"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1.2.3", "127.1.2.3"),
        ("::1", "::1"),
        # Sockets of IPv6 at one end of a connection of IPv4, at the other, at both.
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ],
)
def test_the_kernel_is_asked_for_one_connection_and_nothing_like_it(lookup: Lookup, host: str, by: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        listener.listen()
        here = listener.getsockname()
        with socket.create_connection((by, here[1])) as client:
            accepted, there = listener.accept()
            here = accepted.getsockname()
            with accepted:
                assert uid_of_peer(lookup, there, here) == os.geteuid()
                # A listening socket of ours is no end of a connection, nor is a port that nobody has.
                assert uid_of_peer(lookup, here, (host, 9)) is None
                assert uid_of_peer(lookup, (there[0], 0), here) is None
                assert uid_of_peer(lookup, ("127.0.0.2", there[1]), here) is None
                client.shutdown(socket.SHUT_WR)
                assert uid_of_peer(lookup, there, here) == os.geteuid()
                client.close()
                assert uid_of_peer(lookup, there, here) is None


@LOOKUPS
def test_a_connection_of_another_user_is_his(lookup: Lookup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        script = f"exec 3<>/dev/tcp/127.0.0.1/{listener.getsockname()[1]}; read -r line <&3"
        process = subprocess.Popen([*root_command(), *_OTHERS, "bash", "-c", script])
        accepted, there = listener.accept()
        with accepted:
            assert uid_of_peer(lookup, there, listener.getsockname()) == OTHER
        process.wait(300)


@pytest.mark.slow
@LOOKUPS
@hypothesis_settings(deadline=None)
@given(
    st.one_of(
        st.none(),
        st.text(max_size=20),
        st.tuples(st.ip_addresses().map(str) | st.text(max_size=20), st.integers(0, 65535)),
        st.tuples(st.ip_addresses(v=6).map(lambda address: f"{address}%lo"), st.integers(0, 65535), st.just(0)),
    )
)
def test_an_address_that_is_no_client_of_ours_has_no_owner(lookup: Lookup, client: Any) -> None:
    # Nobody has port 1 here: whatever the other end is called, there is no such connection.
    assert uid_of_peer(lookup, client, ("127.0.0.1", 1)) is None
    assert uid_of_peer(lookup, client, "/run/some.socket") is None


# --- where users can't be told apart ----------------------------------------------------------------------


def namespaced() -> tuple[str, ...]:
    """A user namespace that knows no user: everybody has the same uid in it, and so nobody can be told from others."""
    command = ("unshare", "--user")
    if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("no user namespace can be made here")
    return command


def cli(api: Served, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit code and envelope of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "autoscorer", *arguments, "--json"],
        env={**api.environment, "AUTOSCORER_API_URL": api.url, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_where_users_can_not_be_told_apart_a_token_is_made_and_found_by_the_commands(tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspaces", "team-a")
    with serving(tmp_path, before=namespaced()) as api:
        file = api.home / "api-token"
        # It listens before it says what it has to say.
        eventually(lambda: "can't be told apart" in api.said())
        token = file.read_text().strip()
        assert re.fullmatch("[0-9a-f]{64}", token)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        # Said once, as a link that signs the page in; and who is served.
        assert api.said().count(token) == 1
        assert f"{api.url}/#token={token}" in api.said()
        status, envelope = curl(api.url + "/submit", *as_json(SUBMIT_UNSEALED))
        assert (status, envelope["error"]["code"]) == (401, "UNAUTHORIZED")
        assert "api-token" in envelope["error"]["message"] and str(api.home) not in json.dumps(envelope)
        assert curl(api.url + "/tasks", "-H", f"Authorization: Bearer {token[:-1]}")[0] == 401
        shown = ("-H", f"Authorization: Bearer {token}")
        # What is refused without tokens is refused with this one: it opens nothing to other machines.
        assert curl(api.url + "/tasks", *shown, "-H", "X-Forwarded-For: 1.2.3.4")[0] == 403
        assert curl(api.url + "/submit", *as_json(SUBMIT_UNSEALED), *shown)[0] == 202
        code, envelope = cli(api, "status")
        assert code == 0 and envelope["data"]["total"] == 1, envelope
        # A token that is configured is the one that is shown.
        code, envelope = cli(api, "status", AUTOSCORER_API_TOKEN="another")
        assert envelope["error"]["code"] == "UNAUTHORIZED"
        with proxy(tmp_path, api.url) as outside:
            assert curl(outside + "/tasks")[0] == 401
    with serving(tmp_path, before=namespaced()) as api:
        assert file.read_text().strip() == token
        eventually(lambda: str(file) in api.said())
        assert token not in api.said()
        assert curl(api.url + "/tasks", *shown)[0] == 200
    # A later start that can tell users apart has no use for it, and does not mind who shows it.
    with serving(tmp_path) as api:
        assert curl(api.url + "/tasks")[0] == 200
        assert cli(api, "status")[0] == 0


def test_the_token_of_the_home_is_shown_to_nobody_but_this_machine(home: Path) -> None:
    (home / "api-token").write_text("of-the-home\n")
    arguments = argparse.Namespace(settings=Settings(), api=None)
    for url, shown in (
        (None, True),
        ("http://localhost:9", True),
        ("http://[::1]:9", True),
        ("http://example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://192.168.0.1:8000", False),
    ):
        arguments.api = url
        with connect(arguments) as client:
            sent = client._api._http.headers.get("authorization")
        assert (sent == "Bearer of-the-home") is shown, url


@pytest.mark.slow
def test_a_token_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "api-token").write_text("known-to-all")
    (home / "api-token").chmod(0o644)
    done = subprocess.run(
        [*namespaced(), sys.executable, "-m", "autoscorer", "serve", "--port", str(free_port()), "--json"],
        env={**os.environ, "AUTOSCORER_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "delete it" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.slow
def test_the_link_signs_the_page_in_and_leaves_no_token_in_the_address(browser: Browser, tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspaces", "team-a")
    with serving(tmp_path, before=namespaced()) as api:
        token = (api.home / "api-token").read_text().strip()
        curl(api.url + "/submit", *as_json(SUBMIT_UNSEALED), "-H", f"Authorization: Bearer {token}")
        browser.open(f"{api.url}/#token={token}")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 1")
        assert browser.value("[location.href, document.querySelector('#sign-in')]") == [api.url + "/", None]
        assert browser.value("[Object.values(sessionStorage), localStorage.length, document.cookie]") == [
            [token],
            0,
            "",
        ]
        assert not any(token in url for url in browser.requests())
        assert token not in api.said().replace(f"#token={token}", "", 1)


def test_up_says_whom_it_serves_and_shows_the_link_when_the_token_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    addresses = {"api": "http://127.0.0.1:1", "records": "http://127.0.0.1:1/", "prefect": "http://127.0.0.1:2"}
    new = Access(home_token="secret-token", is_new=True, home=Path("/home/you/.autoscorer"))
    assert "secret-token" not in repr(new) and "secret-token" not in new.sentence
    for access in (new, Access(home_token="secret-token", home=new.home), Access(uid=1000), Access()):
        data = {**addresses, "logs": "/logs", "seconds": 1.0, "access": access.sentence}
        link = access.sign_in(addresses["api"])
        assert (link == "http://127.0.0.1:1/#token=secret-token") is (access is new)
        render_up(data if link is None else {**data, "sign_in": link}, argparse.Namespace())
        said = capsys.readouterr().out
        assert access.sentence in said and ("#token=secret-token" in said) is (access is new)
