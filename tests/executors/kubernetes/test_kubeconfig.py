"""Finding the cluster, and being known there."""

from __future__ import annotations

import base64
import json
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config_kubernetes import KubernetesExecutor
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.kubernetes import kubeconfig
from autoscorer.executors.kubernetes.api import KubernetesApi
from autoscorer.executors.kubernetes.kubeconfig import Access, find_access

Json = dict[str, Any]


@pytest.fixture
def find(tmp_path: Path) -> Callable[..., Access]:
    """Find what a file says; keywords go into its cluster and its user."""

    def look(
        *, cluster: Json | None = None, user: Json | None = None, context: str | None = None, **more: Any
    ) -> Access:
        content = {
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1", **(cluster or {})}}],
            "users": [{"name": "u", "user": user or {}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "here",
            **more,
        }
        path = tmp_path / "config"
        path.write_text(json.dumps(content))
        return find_access(KubernetesExecutor(kubeconfig=path, context=context), {})

    return look


def refused(look: Callable[[], Any]) -> str:
    with pytest.raises(AutoScorerError) as caught:
        look()
    assert caught.value.code == "BACKEND_UNAVAILABLE"
    return caught.value.message


def test_a_token_a_file_and_a_password(find: Callable[..., Access], tmp_path: Path) -> None:
    assert find(user={"token": "abc"}).authorization(False) == "Bearer abc"
    basic = find(user={"username": "a", "password": "b"}).authorization(False)
    assert basic == "Basic " + base64.b64encode(b"a:b").decode()
    (tmp_path / "token").write_text("one\n")
    access = find(user={"tokenFile": "token"})
    assert access.authorization(False) == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    # Read again where the last one was refused, and else once a minute.
    assert access.authorization(False) == "Bearer one" and access.authorization(True) == "Bearer two"
    assert find().authorization(False) is None


def test_a_program_gives_credentials_until_they_expire(find: Callable[..., Access], tmp_path: Path) -> None:
    program = tmp_path / "plugin"
    program.write_text(
        '#!/bin/sh\necho x >> "$COUNT"\ncat <<E\n'
        '{"status": {"token": "t$(wc -l < "$COUNT")-$1", "expirationTimestamp": "$UNTIL"}}\nE\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    count = tmp_path / "count"

    def access(until: str) -> Access:
        count.unlink(missing_ok=True)
        environment = [{"name": "COUNT", "value": str(count)}, {"name": "UNTIL", "value": until}]
        entry = {
            "command": "./plugin",
            "args": ["arg"],
            "env": environment,
            "apiVersion": "client.authentication.k8s.io/v1",
        }
        return find(user={"exec": entry})

    kept = access("2999-01-01T00:00:00Z")
    assert [kept.authorization(False), kept.authorization(False)] == ["Bearer t1-arg"] * 2
    assert kept.authorization(True) == "Bearer t2-arg"
    expired = access("2001-01-01T00:00:00Z")
    assert [expired.authorization(False), expired.authorization(False)] == ["Bearer t1-arg", "Bearer t2-arg"]
    program.write_text("#!/bin/sh\necho 'log in first' >&2; exit 1\n")
    message = refused(lambda: access("x").authorization(False))
    assert "log in first" in message and "plugin" in message


@pytest.mark.parametrize(
    ("keywords", "word"),
    [
        ({"context": "elsewhere"}, "'elsewhere'"),
        ({"clusters": []}, "clusters"),
        ({"cluster": {"server": ""}}, "server"),
        ({"current-context": ""}, "current-context"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "auth-provider"),
        ({"cluster": {"server": "https://x", "certificate-authority-data": "!!"}}, "base64"),
        ({"cluster": {"server": "https://x", "certificate-authority": "not-there"}}, "not-there"),
        ({"cluster": {"server": "https://x"}, "user": {"client-certificate-data": "eA=="}}, "client-key"),
        ({"contexts": "x"}, "kubeconfig"),
    ],
)
def test_what_can_t_be_used_says_why(find: Callable[..., Access], keywords: Json, word: str) -> None:
    assert word in refused(lambda: find(**keywords))


def test_without_a_file_it_says_what_to_set(tmp_path: Path) -> None:
    message = refused(lambda: find_access(KubernetesExecutor(), {"HOME": str(tmp_path)}))
    assert "executors.kubernetes.kubeconfig" in message and str(tmp_path) in message
    path = tmp_path / "broken"
    path.write_text("{")
    assert "broken" in refused(lambda: find_access(KubernetesExecutor(kubeconfig=path), {}))


def test_of_several_files_the_first_that_says_something_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    context = {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]}
    one.write_text(json.dumps({**context, "users": [{"name": "u", "user": {"token": "one"}}]}))
    cluster = [{"name": "c", "cluster": {"server": "http://h:1"}}]
    two.write_text(
        json.dumps({"clusters": cluster, "current-context": "x", "users": [{"name": "u", "user": {"token": "two"}}]})
    )
    access = find_access(KubernetesExecutor(), {"KUBECONFIG": f"{one}:{two}"})
    assert access.server == "http://h:1" and access.authorization(False) == "Bearer one"


def test_in_a_pod_it_is_the_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Path) -> None:
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    (tmp_path / "token").write_text("of the pod")
    assert "ca.crt" in refused(lambda: find_access(KubernetesExecutor(), environment))
    (tmp_path / "ca.crt").write_bytes((authority / "cert.pem").read_bytes())
    access = find_access(KubernetesExecutor(), environment)
    assert access.server == "https://[fd00::1]:6443" and access.authorization(False) == "Bearer of the pod"


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself, for a server of another name than its address; and one for a client."""
    folder = tmp_path_factory.mktemp("tls")
    for name, subject in (("cert", "/CN=cluster.test"), ("client", "/CN=me")):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject]
        command += ["-addext", "subjectAltName=DNS:cluster.test", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def test_certificates_are_verified_and_shown(find: Callable[..., Access], authority: Path) -> None:
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            seen.append(self.connection.getpeercert())  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "cert.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority / "client.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = f"https://127.0.0.1:{server.server_address[1]}"

    def data(name: str) -> str:
        return base64.b64encode((authority / name).read_bytes()).decode()

    user = {"client-certificate-data": data("client.pem"), "client-key-data": data("client.key")}

    def ask(**cluster: Any) -> Json:
        api = KubernetesApi(find(cluster={"server": address, **cluster}, user=user))
        try:
            return api.get("/version", "ask", patience=0)
        finally:
            api.close()

    try:
        known = {"certificate-authority-data": data("cert.pem")}
        assert ask(**known, **{"tls-server-name": "cluster.test"}) == {}
        assert seen[-1]["subject"] == ((("commonName", "me"),),)
        assert "certificate" in refused(lambda: ask(**known))  # for another name than the address
        assert "certificate" in refused(lambda: ask(**{"tls-server-name": "cluster.test"}))  # signed by nobody known
        assert ask(**{"insecure-skip-tls-verify": True}) == {}
    finally:
        server.shutdown()
        server.server_close()
