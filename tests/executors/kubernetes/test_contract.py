"""What the backend relies on in an API server: true of the fake one, and of the real one of scripts/test-kubernetes."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config_kubernetes import KubernetesExecutor
from autoscorer.executors.kubernetes.api import KubernetesApi
from autoscorer.executors.kubernetes.errors import ApiError
from autoscorer.executors.kubernetes.exec import Exec, ExecFailed
from autoscorer.executors.kubernetes.kubeconfig import find_access
from autoscorer.executors.kubernetes.log import LogFollower
from autoscorer.executors.kubernetes.names import MODEL, job_path, jobs_path, pod_path, pods_path
from autoscorer.executors.kubernetes.watch import PodWatch, TrackedPod

from ...support.fake_kubernetes import FakeKubernetes
from ...support.prefect_server import eventually
from ...support.sealed_backends import HOSTILE_BACKENDS, KubernetesBackend

Json = dict[str, Any]

pytestmark = pytest.mark.slow


class Place:
    """A namespace of a cluster, and an image with a shell."""

    def __init__(self, api: KubernetesApi, namespace: str, image: str) -> None:
        self.api, self.namespace, self.image = api, namespace, image

    def job(self, script: str, *, run: str | None = None, process: str = "p") -> Json:
        run = run or uuid.uuid4().hex[:12]
        labels = {"io.autoscorer.run": run, "io.autoscorer.process": process}
        confined = {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        resources = {"cpu": "10m", "memory": "16Mi"}
        container = {
            "name": MODEL,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "securityContext": confined,
            "resources": {"requests": resources, "limits": resources},
        }
        pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"autoscorer-{run}", "labels": labels},
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}},
        }

    def make(self, script: str, **keywords: str) -> Json:
        body = self.job(script, **keywords)
        return self.api.request("POST", jobs_path(self.namespace), "make a Job", body=body)

    def pods(self, run: str) -> list[Json]:
        query = {"labelSelector": f"io.autoscorer.run={run}"}
        found: list[Json] = self.api.get(pods_path(self.namespace), "list", query=query)["items"]
        return found

    def running(self, job: Json) -> Json:
        """The pod of a Job, once its container runs."""
        run = job["metadata"]["labels"]["io.autoscorer.run"]
        found: list[Json] = []

        def is_running() -> bool:
            found[:] = self.pods(run)
            statuses = found[0]["status"].get("containerStatuses") if found else None
            return bool(statuses) and "running" in statuses[0]["state"]

        eventually(is_running)
        return found[0]

    def delete(self, name: str, policy: str | None = "Background") -> None:
        body = {"kind": "DeleteOptions", "apiVersion": "v1", **({"propagationPolicy": policy} if policy else {})}
        self.api.request("DELETE", job_path(self.namespace, name), "delete", body=body)


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if "kubernetes" in HOSTILE_BACKENDS:
        busybox = request.getfixturevalue("busybox")
        with KubernetesBackend.with_namespace(busybox) as cluster:
            yield Place(cluster.api, cluster.namespace, busybox)
        return
    fake = FakeKubernetes(tmp_path_factory.mktemp("cluster"))
    api = KubernetesApi(find_access(KubernetesExecutor(kubeconfig=fake.kubeconfig)))
    yield Place(api, "runs", "image:1")
    api.close()
    fake.close()


def test_a_job_is_made_once_by_its_name_and_its_pod_is_named_after_it(place: Place) -> None:
    job = place.make("sleep 60", run="aaaa00000001")
    with pytest.raises(ApiError) as caught:
        place.make("sleep 60", run="aaaa00000001")
    assert caught.value.status == 409 and caught.value.reason == "AlreadyExists"
    pod = place.running(job)
    assert pod["metadata"]["name"].startswith("autoscorer-aaaa00000001-")
    assert len(place.pods("aaaa00000001")) == 1
    place.delete(job["metadata"]["name"])
    eventually(lambda: not place.pods("aaaa00000001"))
    with pytest.raises(ApiError) as caught:
        place.delete(job["metadata"]["name"])
    assert caught.value.status == 404
    again = place.make("true", run="aaaa00000001")
    assert again["metadata"]["uid"] != job["metadata"]["uid"]
    place.delete(again["metadata"]["name"])


def test_without_a_policy_the_pod_of_a_deleted_job_stays(place: Place) -> None:
    job = place.make("sleep 30", run="aaaa00000002")
    pod = place.running(job)
    place.delete(job["metadata"]["name"], None)
    time.sleep(3)
    assert len(place.pods("aaaa00000002")) == 1, "then nobody has to say Background"
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 1}
    place.api.request("DELETE", pod_path(place.namespace, pod["metadata"]["name"]), "delete", body=body)
    eventually(lambda: not place.pods("aaaa00000002"))


def test_one_watch_tells_of_all_pods_of_a_process_to_their_end(place: Place) -> None:
    process = uuid.uuid4().hex
    watch = PodWatch(place.api, place.namespace, process)
    try:
        runs = [uuid.uuid4().hex[:12] for _ in range(3)]
        tracked = {run: watch.track(run) for run in runs}
        jobs = {run: place.make(f"exit {code}", run=run, process=process) for code, run in enumerate(runs)}
        stranger = place.make("true", process="another")
        for code, run in enumerate(runs):
            pod = _until(tracked[run], "terminated")
            assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code
            place.delete(jobs[run]["metadata"]["name"])
        for run in runs:
            eventually(lambda run=run: tracked[run].is_gone)
        place.delete(stranger["metadata"]["name"])
    finally:
        watch.stop()


def _until(tracked: TrackedPod, state: str) -> Json:
    seen, end = 0, time.monotonic() + 90
    while time.monotonic() < end:
        seen = tracked.wait(seen, 1)
        statuses = ((tracked.pod or {}).get("status") or {}).get("containerStatuses") or [{}]
        if state in (statuses[0].get("state") or {}):
            assert tracked.pod is not None
            return tracked.pod
    raise AssertionError(f"never {state}: {tracked.pod}")


def test_a_log_is_followed_and_has_the_models_bytes(place: Place) -> None:
    line = '{"a": "b", "c": [1, null]}'
    script = (
        f"for i in 1 2 3; do echo '{line}'; sleep 1; done; head -c 40000 /dev/zero | tr '\\0' 'x'; echo; printf end"
    )
    job = place.make(f"sleep 2; {script}; sleep 2")
    pod = place.running(job)
    got: list[bytes] = []
    log = LogFollower(place.api, place.namespace, pod["metadata"]["name"], got.append)
    eventually(lambda: b"".join(got).count(b"\n") >= 2)
    assert b"xxx" not in b"".join(got), "it did not come live"
    eventually(lambda: b"x\n" in b"".join(got))
    time.sleep(3)
    log.finish(is_there=True)
    assert b"".join(got) == (line + "\n").encode() * 3 + b"x" * 40000 + b"\nend"
    place.delete(job["metadata"]["name"])


def test_exec_carries_bytes_both_ways_and_says_how_it_ended(place: Place) -> None:
    job = place.make("sleep 100")
    name = place.running(job)["metadata"]["name"]

    def run(script: str, *arguments: str) -> Exec:
        return Exec(place.api, place.namespace, name, MODEL, ["sh", "-c", script, "sh", *arguments])

    data = os.urandom(3_000_000)
    with run('echo to-stderr >&2; head -c "$1"; exit 0', str(len(data))) as it:
        it.send(data[at : at + 65536] for at in range(0, len(data), 65536))
        assert b"".join(it.output()) == data
        assert it.stderr == b"to-stderr\n"
    with run("echo no >&2; exit 7") as it, pytest.raises(ExecFailed) as caught:
        it.finish()
    assert caught.value.command_code == 7 and "no" in caught.value.message
    with run('printf "%s|" "$@"', "a b", "$x", "é", "") as it:
        assert b"".join(it.output()) == "a b|$x|é||".encode()
    # What ends before it has read everything does not keep the sender.
    with pytest.raises(ApiError), run("exit 3") as it:
        it.send(bytes(65536) for _ in range(2000))
        it.finish()
    with pytest.raises(ApiError):
        Exec(place.api, place.namespace, name, "no-such-container", ["true"])
    place.delete(job["metadata"]["name"])


def test_a_pod_that_never_answers_is_cut_off(place: Place) -> None:
    job = place.make("sleep 100")
    name = place.running(job)["metadata"]["name"]
    began = time.monotonic()
    with Exec(place.api, place.namespace, name, MODEL, ["sleep", "50"], patience=2) as it, pytest.raises(ApiError):
        it.finish()
    assert time.monotonic() - began < 30
    place.delete(job["metadata"]["name"])


def test_who_may_do_what_is_answered(place: Place, tmp_path: Path) -> None:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {"namespace": place.namespace, "verb": "create", "resource": "jobs", "group": "batch"}
        },
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert place.api.request("POST", path, "ask", body=body)["status"]["allowed"] is True
    assert place.api.get("/version", "ask")["gitVersion"].startswith("v1.")
