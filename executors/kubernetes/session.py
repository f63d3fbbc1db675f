"""What all runs of this process share: one connection to the API server, and one watch of its pods."""

from __future__ import annotations

import os
import re
import threading
from typing import Any

from ...core.config import Settings
from ...core.config_kubernetes import KubernetesExecutor
from ...core.errors import AutoScorerError
from ...core.processes import ProcessIdentity
from .api import PATIENCE_BEFORE, KubernetesApi
from .kubeconfig import find_access
from .metrics import PodMetrics
from .names import process_label
from .watch import PodWatch

__all__ = ["Session", "close_sessions", "open_session"]

# From this server on user namespaces are there without an option.
USER_NAMESPACES = (1, 33)


class Session:
    """One cluster and namespace, for all runs of this process.

    Args:
        configured: The section ``executors.kubernetes``.
    """

    def __init__(self, configured: KubernetesExecutor) -> None:
        self.namespace = configured.namespace
        self.process = process_label(ProcessIdentity.current().text)
        self.api = KubernetesApi(find_access(configured))
        self.watch = PodWatch(self.api, self.namespace, self.process)
        self.metrics = PodMetrics(self.api, self.namespace, self.process)
        self._lock = threading.Lock()
        self._version: dict[str, Any] | None = None
        self._own_users: bool | None = None

    def version(self, *, again: bool = False) -> str:
        """The server's, such as ``v1.31.2``.

        Args:
            again: Whether to ask although it is known.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
        """
        with self._lock:
            if self._version is None or again:
                self._version = self.api.get("/version", "ask the API server for its version", patience=PATIENCE_BEFORE)
            return str(self._version.get("gitVersion") or "")

    def own_users(self, configured: KubernetesExecutor) -> bool:
        """Whether pods get a user namespace of their own.

        ``auto`` wants to be sure: a pod that asks for one on a node without it never starts.
        """
        if configured.host_users != "auto":
            return not configured.host_users
        if configured.transfer == "volume":
            return False  # network file systems can't map uids
        version = _numbers(self.version())
        with self._lock:
            if self._own_users is None:
                self._own_users = version >= USER_NAMESPACES and self._all_nodes_can(configured)
            return self._own_users

    def _all_nodes_can(self, configured: KubernetesExecutor) -> bool:
        try:
            found = self.api.get("/api/v1/nodes", "list the nodes", query={"limit": 500}, patience=0)
        except AutoScorerError:
            return False  # most are not allowed to
        nodes = found.get("items") or ()
        return bool(nodes) and all(_can(node, configured.runtime_class or "") for node in nodes)

    def close(self) -> None:
        """End everything."""
        self.watch.stop()
        self.metrics.stop()
        self.api.close()


_sessions: dict[tuple[int, str], Session] = {}
_lock = threading.Lock()


def open_session(settings: Settings) -> Session:
    """The session of this process with the configured cluster; the first one who asks makes it.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` where no cluster is known.
    """
    configured = settings.executors.kubernetes
    # A process that was forked has its parent's connections, and must not use them.
    environment = [os.environ.get(name, "") for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HOME")]
    key = (os.getpid(), repr((configured.kubeconfig, configured.context, configured.namespace, environment)))
    with _lock:
        for old in [each for each in _sessions if each[0] != key[0]]:
            del _sessions[old]
        if key not in _sessions:
            _sessions[key] = Session(configured)
        return _sessions[key]


def close_sessions() -> None:
    """End all sessions of this process: for tests, and for whoever goes on without the cluster."""
    with _lock:
        mine = [key for key in _sessions if key[0] == os.getpid()]
        found = [_sessions.pop(key) for key in mine]
    for session in found:
        session.close()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _can(node: dict[str, Any], handler: str) -> bool:
    handlers = (node.get("status") or {}).get("runtimeHandlers") or ()
    return any(
        (each.get("features") or {}).get("userNamespaces") for each in handlers if (each.get("name") or "") == handler
    )
