"""The node of a fake cluster: runs the containers of a pod as processes of this host.

A container's image is this host itself, and its mounts are folders: where a command or a variable names a mounted path,
the folder's stands there instead. So the shell scripts of the helper's containers, and models that are shell scripts,
do what they do in a cluster. Nothing is sealed, and nothing is limited.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .fake_kubernetes_store import Store, now

__all__ = ["ContainerLog", "Node", "PodRun"]

Json = dict[str, Any]
DIGEST = "sha256:" + "ab" * 32
PART = 16384


@dataclass
class ContainerLog:
    """What a container wrote, each part of a line with its time, as a runtime keeps it."""

    parts: list[tuple[bytes, bytes, bool]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    is_closed: bool = False

    def take(self, data: bytes, *, ends: bool) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode() + b"%03dZ" % (time.time_ns() % 1000)
        with self.changed:
            self.parts.append((stamp, data, ends))
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()


class _Container:
    def __init__(self, spec: Json, folders: dict[str, Path], volumes: dict[str, Path]) -> None:
        self.name: str = spec["name"]
        mounts = {each["mountPath"]: _place(each, volumes) for each in spec.get("volumeMounts") or ()}
        self._paths = re.compile(
            r"(?<![\w./-])(" + "|".join(map(re.escape, sorted(mounts, key=len, reverse=True))) + r")(?![\w-])"
        )
        self._mounts = mounts
        _lay_over(mounts)
        self.environment = {
            "PATH": f"{folders['root'] / 'bin'}:{os.environ['PATH']}",
            **{each["name"]: self.there(_plain(each["value"])) for each in spec.get("env") or ()},
        }
        command = [*(spec.get("command") or ()), *(spec.get("args") or ())]
        self.command = [self.there(_plain(part)) for part in command]
        self.folder = folders["root"]
        self.log = ContainerLog()
        self.process: subprocess.Popen[bytes] | None = None
        self.execs: list[subprocess.Popen[bytes]] = []

    def there(self, text: str) -> str:
        if not self._mounts:
            return text
        return self._paths.sub(lambda found: str(self._mounts[found[1]]), text)

    def popen(self, command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, start_new_session=True, **streams)


def _place(mount: Json, volumes: dict[str, Path]) -> Path:
    place = volumes[mount["name"]] / mount.get("subPath", "")
    place.mkdir(parents=True, exist_ok=True)
    return place


def _lay_over(mounts: dict[str, Path]) -> None:
    """What is mounted below another mount is a link there."""
    for path, place in mounts.items():
        for outer, around in mounts.items():
            if path.startswith(outer + "/") and around.is_dir():
                point = around / path[len(outer) + 1 :]
                if point.is_dir() and not point.is_symlink() and not any(point.iterdir()):
                    point.rmdir()
                    point.symlink_to(place)


def _plain(text: str) -> str:
    """As Kubernetes expands it, without a variable."""
    return text.replace("$$", "$")


class PodRun:
    """One pod on the node, from its creation to its end."""

    def __init__(self, node: Node, pod: Json) -> None:
        self.node, self.name = node, pod["metadata"]["name"]
        self.spec: Json = pod["spec"]
        self.folder = node.folder / self.name
        self.folder.mkdir()
        self.containers: dict[str, _Container] = {}
        (self.folder / "bin").mkdir()
        for program, here in node.programs.items():
            (self.folder / "bin" / program).write_text(f'#!/bin/sh\nexec {here} "$@"\n')
            (self.folder / "bin" / program).chmod(0o755)
        self._volumes: dict[str, Path] = {}
        for volume in self.spec.get("volumes") or ():
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            place = node.claims[claim] if claim else self.folder / volume["name"]
            place.mkdir(exist_ok=True)
            self._volumes[volume["name"]] = place
        self.ending = threading.Event()
        self.has_ended = threading.Event()
        threading.Thread(target=self._live, name=f"fake-pod-{self.name}", daemon=True).start()

    # --- its life ---

    def _live(self) -> None:
        try:
            if not self._schedule():
                return
            self._change(lambda status: status.update(startTime=now(), hostIP="127.0.0.1", podIP="127.0.0.1"))
            limit = self.spec.get("activeDeadlineSeconds")
            if limit is not None:
                timer = threading.Timer(limit, self.fail, ("DeadlineExceeded", "Pod was active longer than allowed"))
                timer.daemon = True
                timer.start()
            for spec in self.spec.get("initContainers") or ():
                if self._run(spec, init=True) != 0:
                    self._finish("Failed")
                    return
            threads = []
            codes: list[int | None] = []
            for spec in self.spec["containers"]:
                thread = threading.Thread(target=lambda each=spec: codes.append(self._run(each)), daemon=True)
                thread.start()
                threads.append(thread)
            for thread in threads:
                thread.join()
            self._finish("Succeeded" if all(code == 0 for code in codes) else "Failed")
        finally:
            self.has_ended.set()

    def _schedule(self) -> bool:
        while True:
            why = self.node.why_not(self.spec)
            if why is None:
                break
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
            self._change(lambda status, found=condition: status.update(conditions=[found]))
            if self.ending.wait(0.2):
                return False
        self._change(lambda status: status.update(conditions=[{"type": "PodScheduled", "status": "True"}]))
        return not self.ending.is_set()

    def _run(self, spec: Json, *, init: bool = False) -> int | None:
        name = spec["name"]
        if not self._pull(spec, init=init) or self.ending.wait(self.node.slow_to_start.get(name, 0)):
            return None
        container = _Container(spec, {"root": self.folder}, self._volumes)
        self.containers[name] = container
        if self.ending.is_set():
            return None
        try:
            process = container.popen(
                container.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            message = f'failed to create containerd task: exec: "{container.command[0]}": {error.strerror}'.lower()
            self._end_of(spec, {"exitCode": 128, "reason": "StartError", "message": message}, init=init)
            return 128
        container.process = process
        if self.ending.is_set():
            _kill(process)
        self._state(spec, {"running": {"startedAt": now()}}, init=init)
        pump = threading.Thread(target=_pump, args=(process, container.log), daemon=True)
        pump.start()
        code = process.wait()
        code = code if code >= 0 else 128 - code
        _kill(process)  # what it has started ends with it
        pump.join()
        for each in container.execs:
            _kill(each)
        container.log.close()
        reason = "Completed" if code == 0 else "Error"
        if code in self.node.oom_codes:
            reason = "OOMKilled"
        if not self.node.is_lost:
            self._end_of(spec, {"exitCode": code, "reason": reason, "finishedAt": now()}, init=init)
        return code

    def _pull(self, spec: Json, *, init: bool) -> bool:
        image = spec["image"]
        why = self.node.images.get(image)
        if why is None:
            return True
        reason = "ErrImageNeverPull" if spec.get("imagePullPolicy") == "Never" else "ErrImagePull"
        self.node.event(self.name, f"Failed to pull image {image!r}: rpc error: {why}")
        while not self.ending.wait(0.05):
            self._state(spec, {"waiting": {"reason": reason, "message": f"rpc error: {why}"}}, init=init)
            self.ending.wait(0.3)
            message = f'Back-off pulling image "{image}"'
            if reason == "ErrImagePull":
                self._state(spec, {"waiting": {"reason": "ImagePullBackOff", "message": message}}, init=init)
        return False

    # --- its status ---

    def _change(self, change: Callable[[Json], None]) -> None:
        self.node.store.change("pods", self.name, lambda pod: change(pod.setdefault("status", {})))

    def _end_of(self, spec: Json, terminated: Json, *, init: bool) -> None:
        self._state(spec, {"terminated": terminated}, init=init)

    def _state(self, spec: Json, state: Json, *, init: bool) -> None:
        kind = "initContainerStatuses" if init else "containerStatuses"
        found = {
            "name": spec["name"],
            "image": spec["image"],
            "imageID": f"registry.example/image@{DIGEST}" if "waiting" not in state else "",
            "state": state,
            "ready": "running" in state,
            "restartCount": 0,
        }

        def change(status: Json) -> None:
            others = [each for each in status.get(kind) or () if each["name"] != spec["name"]]
            status[kind] = [*others, found]
            if status.get("phase") not in ("Failed", "Succeeded"):
                status["phase"] = "Pending" if init else "Running"

        self._change(change)

    def _finish(self, phase: str) -> None:
        if self.node.is_lost:
            return

        def change(status: Json) -> None:
            if status.get("phase") != "Failed":
                status["phase"] = phase

        self._change(change)

    # --- what is done to it ---

    def fail(self, reason: str, message: str) -> None:
        """End it for a reason of the cluster's, which its status says from then on."""
        if not self.has_ended.is_set():
            self._change(lambda status: status.update(phase="Failed", reason=reason, message=message))
            self.end()

    def end(self) -> None:
        """End every process of it."""
        self.ending.set()
        for container in [*self.containers.values()]:
            if container.process is not None:
                _kill(container.process)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Node:
    """Where pods run.

    Attributes:
        images: Images that can't be pulled, with what the registry says.
        claims: Folders of the volume claims.
        oom_codes: Exit codes after which a container counts as killed for memory.
        is_lost: Whether nothing is heard of it any more.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.images: dict[str, str] = {}
        self.claims: dict[str, Path] = {}
        self.oom_codes: set[int] = set()
        self.is_lost = False
        self.cpus = 4.0
        self.runs: dict[str, PodRun] = {}
        # Programs that images have, with what of this host does their work.
        self.programs: dict[str, str] = {}
        # Containers that take their time, by their names, in seconds.
        self.slow_to_start: dict[str, float] = {}

    def why_not(self, spec: Json) -> str | None:
        """Why a pod can't be placed; None where it can."""
        asked = sum(_cpus(each["resources"]["requests"]["cpu"]) for each in spec["containers"])
        if asked > self.cpus:
            return "0/1 nodes are available: 1 Insufficient cpu."
        return None

    def start(self, pod: Json) -> None:
        self.runs[pod["metadata"]["name"]] = PodRun(self, pod)

    def event(self, pod: str, message: str) -> None:
        found = self.store.get("pods", pod)
        if found is not None:
            self.note(found, "Pod", message)

    def note(self, found: Json, kind: str, message: str) -> None:
        involved = {"kind": kind, "name": found["metadata"]["name"], "uid": found["metadata"]["uid"]}
        self.store.add(
            "events",
            {
                "metadata": {"generateName": "event-"},
                "type": "Warning",
                "reason": "Failed",
                "message": message,
                "involvedObject": involved,
                "lastTimestamp": now(),
            },
        )

    def remove(self, name: str, grace: float) -> None:
        """End a pod that was deleted, and forget it; a node that is lost hears of nothing."""
        run = self.runs.get(name)
        if run is not None and not (self.is_lost and grace):
            run.end()
            run.has_ended.wait(10)
            self.runs.pop(name, None)
            run.clear()
        if not self.is_lost or not grace:
            self.store.remove("pods", name)

    def close(self) -> None:
        for run in [*self.runs.values()]:
            run.end()
            run.has_ended.wait(5)


def _cpus(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Its group first: what it has started ends with a container.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _pump(process: subprocess.Popen[bytes], log: ContainerLog) -> None:
    assert process.stdout is not None
    held = b""
    for data in _chunks(process.stdout.fileno()):
        held += data
        while (end := held.find(b"\n", 0, PART) + 1) or len(held) > PART:
            cut = end or PART
            log.take(held[:cut], ends=bool(end))
            held = held[cut:]
    if held:
        log.take(held, ends=False)
    process.stdout.close()


def _chunks(fd: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:
            return
        if not data:
            return
        yield data
