"""How much memory the models of this process use, where the cluster measures it: one request for all of them."""

from __future__ import annotations

import re
import threading
from typing import Any

from ...core.errors import AutoScorerError
from .api import KubernetesApi
from .errors import ApiError
from .names import LABEL, MODEL

__all__ = ["PodMetrics", "bytes_of"]

# Seconds between two looks: clusters measure every 15 s or more seldom.
EVERY = 15.0
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class PodMetrics:
    """The most that was seen of each run's memory.

    Args:
        api: The API server.
        namespace: The runs'.
        process: Value of the label that the pods of this process carry.
    """

    def __init__(self, api: KubernetesApi, namespace: str, process: str) -> None:
        self._api = api
        self._path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"
        self._selector = f"{LABEL}process={process}"
        self._lock = threading.Lock()
        self._peaks: dict[str, int | None] = {}
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._is_there = True

    def track(self, run_id: str) -> None:
        """Begin to look at a run. A cluster that measures nothing is asked once."""
        with self._lock:
            self._peaks[run_id] = None
            if self._is_there and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._look, name="autoscorer-metrics", daemon=True)
                self._thread.start()

    def peak(self, run_id: str) -> int | None:
        """Bytes; None where none were seen."""
        with self._lock:
            return self._peaks.get(run_id)

    def untrack(self, run_id: str) -> None:
        """Forget a run."""
        with self._lock:
            self._peaks.pop(run_id, None)

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(5)

    def _look(self) -> None:
        while not self._stopped.wait(EVERY):
            with self._lock:
                if not self._peaks:
                    self._thread = None
                    return
            query: dict[str, str | int] = {"labelSelector": self._selector}
            try:
                found = self._api.get(self._path, "read how much memory is used", query=query, patience=0)
            except AutoScorerError as error:
                # Nobody measures here, or we may not know: no reason to ask again.
                if isinstance(error, ApiError) and error.status in (403, 404):
                    self._is_there = False
                    return
                continue
            with self._lock:
                for pod in found.get("items") or ():
                    self._note(pod)

    def _note(self, pod: dict[str, Any]) -> None:
        run_id = ((pod.get("metadata") or {}).get("labels") or {}).get(LABEL + "run", "")
        if run_id not in self._peaks:
            return
        for container in pod.get("containers") or ():
            used = bytes_of((container.get("usage") or {}).get("memory"))
            if container.get("name") == MODEL and used is not None:
                self._peaks[run_id] = max(used, self._peaks[run_id] or 0)


def bytes_of(quantity: Any) -> int | None:
    """Bytes of a quantity such as ``12345Ki``; None for what is none."""
    found = re.fullmatch(r"(\d+)([kMGT]?|[KMGT]i)", str(quantity))
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None
