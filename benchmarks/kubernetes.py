"""What a run in Kubernetes costs beside its model, and what many runs cost the API server.

    python benchmarks/kubernetes.py fake [--runs 1000]
    KUBECONFIG=… python benchmarks/kubernetes.py cluster --image IMAGE [--runs 50] [--seconds 10]

``fake`` runs against the tests' fake cluster: requests for each run, watches at a time, memory of this process.
``cluster`` runs on the cluster that KUBECONFIG names, in the namespace of the configuration (``executors.kubernetes.*``
in variables of the environment), with an image that has a shell: how long a run takes over a bare Job of the same image
and command, and whether many at a time are all done and leave nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from autoscorer.core.config import Settings, load_settings
from autoscorer.executors.kubernetes.names import LABEL, job_path, jobs_path, pods_path
from autoscorer.executors.kubernetes.session import close_sessions, open_session
from autoscorer.tasks.run import run_workspace

# What must hold (the figures).
MOST_REQUESTS, MOST_OVERHEAD, MOST_GROWTH = 12.0, 1.3, 1.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=("fake", "cluster"))
    parser.add_argument("--runs", type=int, help="1000 with the fake cluster, 50 with a real one")
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10, help="that the model sleeps, on a real cluster")
    parser.add_argument("--image", help="of the model, on a real cluster")
    args = parser.parse_args()
    os.environ["AUTOSCORER_HOME"] = tempfile.mkdtemp(prefix="autoscorer-bench-")
    found = _fake(args) if args.where == "fake" else _cluster(args)
    print(json.dumps(found, indent=2))
    return 0 if found["holds"] else 1


def _workspace(folder: Path, name: str, image: str, script: str) -> Path:
    root = folder / name
    (root / "input" / "data").mkdir(parents=True)
    (root / "input" / "gt.csv").write_text("id,label\na,x\n")
    (root / "input" / "data" / "x.csv").write_text("id\na\n")
    meta = {
        "task_type": "classification",
        "scorer": "classification_f1",
        "container": {"image": image, "cmd": ["sh", "-c", script]},
        "resources": {"cpu": 0.1, "memory": "32Mi", "disk": "8Mi"},
        "timeout": 120,
    }
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def _run(root: Path, settings: Settings) -> str | None:
    """The error of a run; None where it went well."""
    try:
        report = run_workspace(root, settings=settings, backend="kubernetes")
    except Exception as error:  # counted, and told
        return str(error)[:300]
    return str(report.error)[:300] if report.error else None


def _serve(folder: str, ours: Connection) -> None:
    """A fake cluster in a process of its own, so that what it keeps is not counted."""
    from tests.support.fake_kubernetes import FakeKubernetes

    cluster = FakeKubernetes(Path(folder))
    ours.send(str(cluster.kubeconfig))
    most = 0
    while True:
        most = max(most, cluster.store.watches())
        if ours.poll(0.2):
            ours.recv()
            ours.send((dict(cluster.requests.most_common()), most, len(cluster.jobs()) + len(cluster.pods())))


def _fake(args: argparse.Namespace) -> dict[str, Any]:
    runs = args.runs or 1000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "cluster").mkdir()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        server = context.Process(target=_serve, args=(str(folder / "cluster"), theirs), daemon=True)
        server.start()
        for key, value in (("KUBECONFIG", ours.recv()), ("HELPER_IMAGE", "helper:1")):
            os.environ[f"AUTOSCORER_EXECUTORS__KUBERNETES__{key}"] = value
        settings = load_settings()
        memory: list[int] = []
        failed = []
        began = time.monotonic()
        script = "cp /workspace/input/data/x.csv /workspace/output/pred.csv"
        tenth = max(runs // 10, 1)
        with ThreadPoolExecutor(args.concurrency) as pool:
            for start in range(0, runs, tenth):
                numbers = range(start, min(start + tenth, runs))
                roots = [_workspace(folder, f"ws{number}", "model:1", script) for number in numbers]
                failed += [error for error in pool.map(lambda root: _run(root, settings), roots) if error]
                memory.append(_memory())
        seconds = time.monotonic() - began
        ours.send("how was it")
        kinds, watches, left = ours.recv()
        requests = open_session(settings).api.requests / runs
        close_sessions()
        server.terminate()
        server.join()
    # The first half imports and warms up.
    growth = memory[-1] / memory[len(memory) // 2]
    return {
        "runs": runs,
        "failed": failed[:5],
        "seconds": round(seconds, 1),
        "requests_per_run": round(requests, 2),
        "requests": kinds,
        "watches_at_a_time": watches,
        "memory_mib": [round(each / 2**20, 1) for each in memory],
        "memory_growth_second_half": round(growth, 3),
        "left": left,
        "holds": not failed and not left and requests <= MOST_REQUESTS and watches <= 1 and growth <= MOST_GROWTH,
    }


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _cluster(args: argparse.Namespace) -> dict[str, Any]:
    if not args.image:
        raise SystemExit(
            "--image names the image of the model; the cluster's nodes must have it, or be able to pull it"
        )
    settings = load_settings()
    script = f"sleep {args.seconds:g}; cp /workspace/input/data/x.csv /workspace/output/pred.csv"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bare, ours = [], []
        for number in range(3):
            bare.append(_bare(settings, args.image, f"sleep {args.seconds:g}", f"bench-{os.getpid()}-{number}"))
            root = _workspace(folder, f"one{number}", args.image, script)
            began = time.monotonic()
            if (error := _run(root, settings)) is not None:
                raise SystemExit(error)
            ours.append(time.monotonic() - began)
        overhead = statistics.median(ours) / statistics.median(bare)
        runs = args.runs or 50
        roots = [_workspace(folder, f"ws{number}", args.image, script) for number in range(runs)]
        session = open_session(settings)
        before, began = session.api.requests, time.monotonic()
        with ThreadPoolExecutor(args.concurrency) as pool:
            failed = [error for error in pool.map(lambda root: _run(root, settings), roots) if error]
        seconds = time.monotonic() - began
        requests = (session.api.requests - before) / runs
        query = {"labelSelector": f"{LABEL}process={session.process}"}
        places = (jobs_path(session.namespace), pods_path(session.namespace))
        left = sum(len(session.api.get(place, "look what is left", query=query)["items"]) for place in places)
        close_sessions()
    return {
        "model_seconds": args.seconds,
        "bare_job_seconds": [round(each, 2) for each in bare],
        "run_seconds": [round(each, 2) for each in ours],
        "overhead": round(overhead, 3),
        "runs": runs,
        "concurrency": args.concurrency,
        "seconds": round(seconds, 1),
        "failed": failed[:5],
        "requests_per_run": round(requests, 2),
        "left": left,
        "holds": not failed and not left and overhead <= MOST_OVERHEAD and requests <= MOST_REQUESTS,
    }


def _bare(settings: Settings, image: str, script: str, name: str) -> float:
    """Seconds that a Job of the same image takes, until the cluster says that it is complete."""
    session = open_session(settings)
    confined = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 65534,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    amounts = {"cpu": "100m", "memory": "32Mi"}
    container = {
        "name": "model",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "securityContext": confined,
        "resources": {"requests": amounts, "limits": amounts},
    }
    pod = {"restartPolicy": "Never", "containers": [container]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    began = time.monotonic()
    session.api.request("POST", jobs_path(session.namespace), "make a bare Job", body=job)
    while not session.api.get(job_path(session.namespace, name), "look")["status"].get("succeeded"):
        if time.monotonic() - began > 300:
            raise SystemExit("the bare Job does not end")
        time.sleep(0.05)
    seconds = time.monotonic() - began
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    session.api.request("DELETE", job_path(session.namespace, name), "remove it", body=body)
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
