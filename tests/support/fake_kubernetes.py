"""A small API server of Kubernetes over real HTTP, whose pods are processes of this host.

It honours what AutoScorer relies on: names and uids, resourceVersion, label and field selectors, propagation, watches
with 410 and bookmarks, logs that are followed, and exec over WebSockets. What it is told to, it does wrong: images that
are not there, a quota, a node that is lost, an API server that is away.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import queue
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .fake_kubernetes_node import Node
from .fake_kubernetes_store import Gone, Json, Store, now, selected

__all__ = ["TOKEN", "FakeKubernetes"]

TOKEN = "fake-token"
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class FakeKubernetes:
    """One cluster of one node, on a port of loopback.

    Attributes:
        quota: How many pods there may be at a time; None for any number.
        refuses_pods: What an admission controller says of every pod; None where it lets them pass.
        stamps_parts: Whether each part of a long line of a log has a timestamp, as before 1.27.
        requests: How many requests there were, by what they asked for.
        denied: Rights (``verb resource``) that nobody has.
        version: That it says it is.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="fake-kubernetes-")
        self.folder = folder or Path(self._temporary.name)  # type: ignore[union-attr]
        (self.folder / "pods").mkdir()
        self.store = Store()
        self.node = Node(self.store, self.folder / "pods")
        self.quota: int | None = None
        self.refuses_pods: str | None = None
        self.stamps_parts = False
        self.requests: Counter[str] = Counter()
        self.denied: set[str] = set()
        self.version = "v1.31.0-fake"
        self.nodes: list[Json] = [{"metadata": {"name": "fake"}, "status": {}}]
        self.metrics: dict[str, str] | None = None
        self.is_away = False
        # Bytes after which the next exec, watch or log is cut; None for never.
        self.cut_after: dict[str, int] = {}
        self._sockets: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.cluster = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def kubeconfig(self) -> Path:
        """A file that names it."""
        path = self.folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "me", "user": {"token": TOKEN}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
            "current-context": "fake",
        }
        path.write_text(json.dumps(content))
        return path

    def pods(self) -> list[Json]:
        return self.store.list("pods")

    def jobs(self) -> list[Json]:
        return self.store.list("jobs")

    def the_pod(self) -> str:
        """Name of the one pod there is."""
        (pod,) = self.pods()
        return str(pod["metadata"]["name"])

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Answer nobody, and cut what is under way."""
        self.is_away = True
        self.cut()
        try:
            yield
        finally:
            self.is_away = False

    def cut(self) -> None:
        """Cut every connection."""
        self.store.end_watches()
        for each in [*self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def evict(self, message: str, reason: str = "Evicted") -> None:
        """Take the one pod off its node."""
        self.node.runs[self.the_pod()].fail(reason, message)

    def lose_node(self) -> None:
        """Hear nothing of the node any more, and mark its pods."""
        self.node.is_lost = True
        for pod in self.pods():
            self.store.change("pods", pod["metadata"]["name"], _not_ready)

    def close(self) -> None:
        self.node.close()
        self.is_away = True
        self.cut()
        self._server.shutdown()
        self._server.server_close()
        if self._temporary is not None:
            self._temporary.cleanup()

    # --- controllers ---

    def make_pod(self, job: Json) -> None:
        """What the Job's controller does, again and again while it is refused."""
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        template = job["spec"]["template"]
        labels = {**(template["metadata"].get("labels") or {}), "job-name": name, "controller-uid": uid}
        pod = {
            "metadata": {
                "generateName": f"{name}-",
                "labels": labels,
                "annotations": template["metadata"].get("annotations") or {},
                "ownerReferences": [{"kind": "Job", "name": name, "uid": uid, "controller": True}],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        while self.store.get("jobs", name) is not None:
            why = self.refuses_pods
            if self.quota is not None and len(self.pods()) >= self.quota:
                why = "exceeded quota: runs, requested: pods=1, used: pods=1, limited: pods=1"
            if why is None:
                made = self.store.add("pods", pod)
                assert made is not None
                if self.store.get("jobs", name) is None:  # meanwhile: the cluster's garbage collector takes it
                    self.store.remove("pods", made["metadata"]["name"])
                else:
                    self.node.start(made)
                return
            self.node.note(job, "Job", f'Error creating: pods "{name}-" is forbidden: {why}')
            time.sleep(0.3)

    def delete_job(self, name: str, policy: str | None) -> Json | None:
        job = self.store.remove("jobs", name)
        if job is not None and policy in ("Background", "Foreground"):
            for pod in self.pods():
                owners = pod["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == job["metadata"]["uid"] for owner in owners):
                    self.delete_pod(pod["metadata"]["name"], None)
        return job

    def delete_pod(self, name: str, grace: float | None) -> Json | None:
        pod = self.store.get("pods", name)
        if pod is None:
            return None
        if grace is None:
            ended = pod["status"].get("phase") in ("Succeeded", "Failed")
            grace = 0 if ended else pod["spec"].get("terminationGracePeriodSeconds", 30)

        def mark(found: Json) -> None:
            found["metadata"].setdefault("deletionTimestamp", now())
            found["metadata"]["deletionGracePeriodSeconds"] = grace

        pod = self.store.change("pods", name, mark)
        threading.Thread(target=self.node.remove, args=(name, grace), daemon=True).start()
        return pod


def _not_ready(pod: Json) -> None:
    others = [each for each in pod["status"].get("conditions") or () if each["type"] != "Ready"]
    pod["status"]["conditions"] = [*others, {"type": "Ready", "status": "False"}]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    cluster: FakeKubernetes
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # connections are cut on purpose


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.cluster._sockets.add(self.connection)

    def finish(self) -> None:
        self.cluster._sockets.discard(self.connection)
        super().finish()

    @property
    def cluster(self) -> FakeKubernetes:
        return self.server.cluster

    # --- answers ---

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, reason: str, message: str) -> None:
        self._answer(
            status, {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
        )

    def _found(self, found: Json | None, what: str) -> None:
        if found is None:
            self._refuse(404, "NotFound", f"{what} not found")
        else:
            self._answer(200, found)

    def _begin_stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    # --- requests ---

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        if self.cluster.is_away:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "Unauthorized", "Unauthorized")
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        parts = url.path.strip("/").split("/")
        if "namespaces" in parts and not url.path.startswith("/apis/metrics"):
            place = parts.index("namespaces")
            # A namespace is an object itself, too.
            kind, rest = (
                ("namespaces", parts[-1:]) if len(parts) == place + 2 else (parts[place + 2], parts[place + 3 :])
            )
        else:
            kind, rest = parts[-1], []
        verb = {"GET": "get" if rest else "list", "POST": "create", "DELETE": "delete"}[method]
        verb = "watch" if "watch" in query else verb
        what = f"{verb} {'/'.join([kind, *rest[1:]])}"
        self.cluster.requests[what] += 1
        if what in self.cluster.denied:
            self._refuse(403, "Forbidden", f'{kind} is forbidden: User "me" cannot {verb} resource "{kind}"')
            return
        one = {key: values[0] for key, values in query.items()}
        if url.path == "/version":
            self._answer(200, {"gitVersion": self.cluster.version})
        elif url.path.startswith("/apis/metrics"):
            self._metrics()
        elif kind == "selfsubjectaccessreviews":
            self._review(body)
        elif kind == "nodes":
            self._answer(200, {"items": self.cluster.nodes})
        elif rest[1:] == ["log"]:
            self._log(rest[0], one)
        elif rest[1:] == ["exec"]:
            self._exec(rest[0], one["container"], query["command"])
        elif method == "POST":
            self._create(kind, body)
        elif method == "DELETE":
            self._delete(kind, rest[0], {**one, **body})
        elif rest:
            self._found(self.cluster.store.get(kind, rest[0]), f"{kind} {rest[0]!r}")
        elif "watch" in one:
            self._watch(kind, one)
        else:
            self._list(kind, one)

    def _create(self, kind: str, body: Json) -> None:
        made = self.cluster.store.add(kind, {**body, "status": {}})
        if made is None:
            self._refuse(409, "AlreadyExists", f'{kind} "{body["metadata"]["name"]}" already exists')
            return
        if kind == "jobs":
            threading.Thread(target=self.cluster.make_pod, args=(made,), daemon=True).start()
        elif kind == "pods":
            self.cluster.node.start(made)
        self._answer(201, made)

    def _delete(self, kind: str, name: str, options: Json) -> None:
        if kind == "jobs":
            found = self.cluster.delete_job(name, options.get("propagationPolicy"))
        else:
            grace = options.get("gracePeriodSeconds")
            found = self.cluster.delete_pod(name, None if grace is None else float(grace))
        self._found(found, f"{kind} {name!r}")

    def _list(self, kind: str, query: dict[str, str]) -> None:
        matches = selected(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        store = self.cluster.store
        with store.lock:
            items, version = store.list(kind, matches), store.version
        start, size = int(query.get("continue") or 0), int(query.get("limit") or 10**9)
        page = items[start : start + size]
        more = str(start + size) if start + size < len(items) else ""
        self._answer(200, {"metadata": {"resourceVersion": str(version), "continue": more}, "items": page})

    def _watch(self, kind: str, query: dict[str, str]) -> None:
        matches = selected(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        store = self.cluster.store
        try:
            watcher = store.watch(kind, int(query.get("resourceVersion") or 0), matches)
        except Gone:
            self._begin_stream("application/json")
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            self._chunk(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            self._chunk(b"")
            return
        end = time.monotonic() + float(query.get("timeoutSeconds") or 3600)
        try:
            self._begin_stream("application/json")
            while time.monotonic() < end:
                try:
                    event = watcher.events.get(timeout=1)
                except queue.Empty:
                    if query.get("allowWatchBookmarks") != "true":
                        continue
                    metadata = {"resourceVersion": str(store.version)}
                    event = {"type": "BOOKMARK", "object": {"metadata": metadata}}
                if event is None:
                    break
                self._chunk(json.dumps(event).encode() + b"\n")
            self._chunk(b"")
        finally:
            store.unwatch(watcher)

    def _review(self, body: Json) -> None:
        asked = body["spec"]["resourceAttributes"]
        below = f"/{asked['subresource']}" if asked.get("subresource") else ""
        allowed = f"{asked['verb']} {asked['resource']}{below}" not in self.cluster.denied
        self._answer(201, {**body, "status": {"allowed": allowed}})

    def _metrics(self) -> None:
        if self.cluster.metrics is None:
            self._refuse(404, "NotFound", "the server could not find the requested resource")
            return
        items = []
        for pod in self.cluster.pods():
            containers = [{"name": name, "usage": {"memory": used}} for name, used in self.cluster.metrics.items()]
            items.append({"metadata": pod["metadata"], "containers": containers})
        self._answer(200, {"items": items})

    # --- streams ---

    def _log(self, pod: str, query: dict[str, str]) -> None:
        run = self.cluster.node.runs.get(pod)
        container = run.containers.get(query["container"]) if run is not None else None
        if run is None:
            self._refuse(404, "NotFound", f'pods "{pod}" not found')
            return
        if container is None:
            self._refuse(400, "BadRequest", f'container "{query["container"]}" in pod "{pod}" is waiting to start')
            return
        log, place, begins = container.log, 0, True
        since = query.get("sinceTime", "").rstrip("Z").encode()
        left = self.cluster.cut_after.pop("log", None)
        self._begin_stream("text/plain")
        while True:
            with log.changed:
                if place >= len(log.parts) and query.get("follow") == "true" and not log.is_closed:
                    log.changed.wait(0.2)
                parts, place = log.parts[place:], len(log.parts)
                is_over = place == len(log.parts) and (log.is_closed or query.get("follow") != "true")
            for stamp, data, ends in parts:
                if stamp < since:
                    begins = ends
                    continue
                stamped = query.get("timestamps") == "true" and (begins or self.cluster.stamps_parts)
                line = stamp + b" " + data if stamped else data
                begins = ends
                if left is not None and len(line) >= left:
                    self._chunk(line[: left or 1])
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                left = None if left is None else left - len(line)
                self._chunk(line)
            if is_over:
                break
        self._chunk(b"")

    def _exec(self, pod: str, name: str, command: list[str]) -> None:
        run = self.cluster.node.runs.get(pod)
        container = run.containers.get(name) if run is not None else None
        if container is None or container.process is None or container.process.poll() is not None:
            self._refuse(400, "BadRequest", f"container not found ({name!r})")
            return
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode())
        self.end_headers()
        self.close_connection = True
        _Exec(
            self, container, [container.there(part) for part in command], self.cluster.cut_after.pop("exec", None)
        ).run()


class _Exec:
    """One exec: a process, and the frames of its WebSocket."""

    def __init__(self, handler: _Handler, container: Any, command: list[str], cut_after: int | None) -> None:
        self._handler, self._left = handler, cut_after
        self._lock = threading.Lock()
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._process: subprocess.Popen[bytes] = container.popen(command, **pipes)
        container.execs.append(self._process)

    def run(self) -> None:
        process = self._process
        for channel in (1, 2, 3):
            self._send(bytes([channel]))
        readers = [
            threading.Thread(target=self._read, args=(channel, stream), daemon=True)
            for channel, stream in ((1, process.stdout), (2, process.stderr))
        ]
        threading.Thread(target=self._write, daemon=True).start()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        code = process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        status: Json = {"metadata": {}, "status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated", "details": {}}
            status["details"]["causes"] = causes
        self._send(b"\3" + json.dumps(status).encode())
        self._frame(8, struct.pack(">H", 1000))
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_WR)

    def _read(self, channel: int, stream: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := stream.read1(32768):
                self._send(bytes([channel]) + data)

    def _write(self) -> None:
        stdin: Any = self._process.stdin
        with contextlib.suppress(OSError, ValueError, struct.error):
            for data in self._frames():
                if data[:1] == b"\0":
                    stdin.write(data[1:])
                    stdin.flush()
        with contextlib.suppress(OSError, ValueError):
            stdin.close()

    def _frames(self) -> Iterator[bytes]:
        file = self._handler.rfile
        held = b""
        while True:
            first, second = file.read(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", file.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", file.read(8))
            mask = file.read(4)
            data = file.read(length)
            key = (mask * (length // 4 + 1))[:length]
            data = (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")
            if first & 0x0F == 8:
                return
            self._count(length)
            held += data
            if first & 0x80:
                yield held
                held = b""

    def _send(self, data: bytes) -> None:
        self._count(len(data))
        self._frame(2, data)

    def _frame(self, opcode: int, data: bytes) -> None:
        size = len(data)
        head = bytes([0x80 | opcode])
        head += bytes([size]) if size < 126 else bytes([126]) + struct.pack(">H", size)
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._handler.wfile.write(head + data)
            self._handler.wfile.flush()

    def _count(self, size: int) -> None:
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                with contextlib.suppress(OSError):
                    self._handler.connection.shutdown(socket.SHUT_RDWR)
