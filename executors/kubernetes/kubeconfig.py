"""Where the cluster is, and who we are there: the pod's own service account, or a kubeconfig."""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...core.config_kubernetes import KubernetesExecutor
from ...core.errors import AutoScorerError
from .errors import short, unavailable

__all__ = ["Access", "find_access"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Seconds after which a file with a token is read again: Kubernetes replaces it before it expires.
TOKEN_AGE = 60.0
# Seconds that a program that gives credentials may take, and for which what it gave is used before it expires.
PLUGIN_PATIENCE, PLUGIN_EARLY = 30.0, 60.0


@dataclass(frozen=True)
class Access:
    """A cluster's address and how to be known there.

    ``authorization`` gives the header of that name, read again where it may have changed; with True it forgets what it
    has first.
    """

    server: str
    tls: ssl.SSLContext | bool
    authorization: Callable[[bool], str | None]
    # Name to ask for in the server's certificate, where it is another than the address's.
    server_name: str | None = None
    proxy: str | None = None
    source: str = ""


def find_access(settings: KubernetesExecutor, environment: Mapping[str, str] = os.environ) -> Access:
    """Find the cluster that the settings name.

    Args:
        settings: The section ``executors.kubernetes``.
        environment: The process's.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` where there is none, or its file can't be used.
    """
    if settings.kubeconfig is None and settings.context is None:
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
        if host and (SERVICE_ACCOUNT / "token").is_file():
            return _in_cluster(host, port)
    paths = [settings.kubeconfig] if settings.kubeconfig else _usual_files(environment)
    there = [path.expanduser() for path in paths if path.expanduser().is_file()]
    if not there:
        raise unavailable(
            f"No cluster is known: there is no {' and no '.join(str(path) for path in paths)}, and this is no pod with "
            "a service account. Set executors.kubernetes.kubeconfig."
        )
    try:
        return _from_files(there, settings.context)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise unavailable(f"The kubeconfig {there[0]} can't be used: {short(error)}.") from error


def _usual_files(environment: Mapping[str, str]) -> list[Path]:
    named = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path(environment.get("HOME", "/"), ".kube", "config")]


def _in_cluster(host: str, port: str) -> Access:
    try:
        tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    except OSError as error:
        raise unavailable(f"The service account's ca.crt can't be used: {short(error)}.") from error
    address = f"[{host}]" if ":" in host else host
    return Access(f"https://{address}:{port}", tls, _TokenFile(SERVICE_ACCOUNT / "token"), source="service account")


def _from_files(paths: list[Path], wanted: str | None) -> Access:
    import yaml

    named: dict[str, dict[str, tuple[dict[str, Any], Path]]] = {"clusters": {}, "users": {}, "contexts": {}}
    current = wanted
    for path in paths:
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise ValueError(short(error)) from error
        for kind, known in named.items():
            for entry in data.get(kind) or ():
                # Of two with one name the first counts, as for kubectl.
                known.setdefault(entry["name"], (entry.get(kind[:-1]) or {}, path.parent))
        current = current or data.get("current-context")

    def look_up(kind: str, name: Any) -> tuple[dict[str, Any], Path]:
        if name not in named[kind]:
            known = ", ".join(map(repr, named[kind])) or "none"
            raise ValueError(f"it has no entry {name!r} in {kind}; it has {known}")
        return named[kind][name]

    if not current:
        raise ValueError("it has no current-context; set executors.kubernetes.context")
    context, _ = look_up("contexts", current)
    cluster, beside = look_up("clusters", context.get("cluster"))
    user, user_beside = look_up("users", context["user"]) if context.get("user") else ({}, beside)
    server = str(cluster.get("server") or "").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise ValueError(f"the cluster's server is {server!r}, and no URL")
    plugin = _Plugin(user["exec"], user_beside, server) if user.get("exec") else None
    return Access(
        server,
        _tls(cluster, beside, user, user_beside, plugin) if server.startswith("https:") else False,
        _authorization(user, user_beside, plugin),
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        source=f"context {current!r} of {paths[0]}",
    )


def _tls(
    cluster: Mapping[str, Any], beside: Path, user: Mapping[str, Any], user_beside: Path, plugin: _Plugin | None
) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority", beside)
    context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = (_content(user, f"client-{part}", user_beside) for part in ("certificate", "key"))
    if plugin is not None and certificate is None:
        certificate, key = plugin.certificate()
    if certificate is not None:
        if key is None:
            raise ValueError("the user has a client-certificate and no client-key")
        # The library reads them from a file alone.
        with tempfile.NamedTemporaryFile(prefix="autoscorer-") as file:  # readable by its owner alone
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _content(entry: Mapping[str, Any], name: str, beside: Path) -> bytes | None:
    """What stands in ``NAME-data``, or in the file that ``NAME`` names."""
    if data := entry.get(f"{name}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{name}-data is no base64") from error
    return (beside / Path(entry[name]).expanduser()).read_bytes() if entry.get(name) else None


def _authorization(user: Mapping[str, Any], beside: Path, plugin: _Plugin | None) -> Callable[[bool], str | None]:
    if user.get("auth-provider"):
        raise ValueError("the user has an auth-provider, which Kubernetes has given up; use a token or exec")
    if user.get("tokenFile"):
        return _TokenFile(beside / Path(user["tokenFile"]).expanduser())
    if plugin is not None:
        return plugin
    text: str | None = None
    if user.get("token"):
        text = f"Bearer {user['token']}"
    elif user.get("username"):
        pair = f"{user['username']}:{user.get('password') or ''}"
        text = "Basic " + base64.b64encode(pair.encode()).decode()
    return lambda again: text


class _TokenFile:
    """A token that Kubernetes replaces from time to time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._text: str | None = None
        self._read = float("-inf")

    def __call__(self, again: bool) -> str | None:
        with self._lock:
            now = time.monotonic()
            if again or self._text is None or now - self._read > TOKEN_AGE:
                try:
                    self._text = f"Bearer {self._path.read_text('ascii').strip()}"
                except (OSError, ValueError) as error:
                    if self._text is None:
                        raise unavailable(f"The token in {self._path} can't be read: {short(error)}.") from error
                self._read = now
            return self._text


class _Plugin:
    """A program of the operator's that gives credentials (``exec`` in a kubeconfig), as clouds have them."""

    def __init__(self, entry: Mapping[str, Any], beside: Path, server: str) -> None:
        self._version = str(entry.get("apiVersion") or "client.authentication.k8s.io/v1")
        command = str(entry["command"])
        # As kubectl reads it: with a slash, from the kubeconfig's folder; a bare name by PATH.
        command = str(beside / command) if "/" in command else command
        self._command = [command, *(str(part) for part in entry.get("args") or ())]
        self._environment = {str(each["name"]): str(each["value"]) for each in entry.get("env") or ()}
        self._lock = threading.Lock()
        self._status: dict[str, Any] | None = None
        self._good_until = float("-inf")

    def __call__(self, again: bool) -> str | None:
        token = self._current(again).get("token")
        return f"Bearer {token}" if token else None

    def certificate(self) -> tuple[bytes | None, bytes | None]:
        status = self._current(False)
        pair = [status.get(f"client{part}Data") for part in ("Certificate", "Key")]
        return (pair[0].encode(), pair[1].encode()) if pair[0] and pair[1] else (None, None)

    def _current(self, again: bool) -> dict[str, Any]:
        with self._lock:
            if again or self._status is None or time.time() > self._good_until:
                self._status = self._ask()
                self._good_until = _expiry(self._status) - PLUGIN_EARLY
            return self._status

    def _ask(self) -> dict[str, Any]:
        asked = {"apiVersion": self._version, "kind": "ExecCredential", "spec": {"interactive": False}}
        environment = {**os.environ, **self._environment, "KUBERNETES_EXEC_INFO": json.dumps(asked)}
        try:
            done = subprocess.run(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PLUGIN_PATIENCE,
                check=True,
            )
            status = json.loads(done.stdout)["status"]
        except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or error
            raise self._failed(short(said)) from error
        if not isinstance(status, dict):
            raise self._failed("it gave no credentials")
        return status

    def _failed(self, why: str) -> AutoScorerError:
        return unavailable(f"The program {self._command[0]!r} of the kubeconfig gave no credentials: {why}.")


def _expiry(status: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(status.get("expirationTimestamp"))).timestamp()
    except ValueError:
        return float("inf")
