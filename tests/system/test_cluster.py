"""deployments/kubernetes/dev on a real cluster: models are scored through the API, whatever of it is killed.

`scripts/test-kubernetes tests/system/test_cluster.py` runs it, on the cluster that KUBECONFIG names.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from ..support.cluster import Cluster, installed
from ..support.cluster.installation import BUSYBOX, PATIENCE, Installation, cluster
from ..support.prefect_server import eventually

__all__ = ["cluster"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def dev(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(cluster, "dev") as manifests:
        found = Installation(cluster, manifests, tmp_path_factory.mktemp("workspaces"))
        found.ready()
        yield found


def test_a_model_is_run_sealed_and_scored(dev: Installation) -> None:
    task = dev.submit(seconds=3)
    pod = dev.model()
    # What runs beside no secret, with no right and no way out.
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["spec"]["volumes"] if set(volume) - {"name", "emptyDir"}]
    ended = dev.scored(task)
    result = dev.ask(f"/result?workspace={ended['workspace']}")
    assert result["summary"]["score"] == 1.0
    assert result["versioning"]["image"], result
    assert any("Kubernetes" in note for note in result["notes"])
    dev.nothing_is_left()


def test_a_second_apply_changes_nothing(dev: Installation) -> None:
    dev.cluster.kubectl("diff", "-k", dev.manifests)  # exits with 1 where there is a difference
    dev.cluster.kubectl("apply", "-k", dev.manifests)
    dev.cluster.kubectl("diff", "-k", dev.manifests)


def test_what_is_applied_again_after_a_change_runs_with_it(dev: Installation) -> None:
    """The commands of "Upgrading"."""
    kustomization = dev.manifests / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text() + "      - AUTOSCORER_SECURITY__LIMITS__TIMEOUT=1234\n")
    dev.cluster.kubectl("delete", "job", "setup", "database", "-n", "autoscorer", "--ignore-not-found")
    dev.cluster.kubectl("apply", "-k", dev.manifests)
    dev.ready()
    shown = dev.cluster.kubectl(
        "exec", "-n", "autoscorer", "deployment/worker", "--", "autoscorer", "config", "show", "--json"
    )
    assert '"timeout": 1234' in shown, shown
    dev.scored(dev.submit())


@pytest.mark.parametrize("component", ["worker", "api", "prefect-server"])
def test_a_run_ends_scored_although_a_pod_was_killed_meanwhile(dev: Installation, component: str) -> None:
    task = dev.submit(seconds=20)
    dev.model()
    dev.kill("-l", f"app.kubernetes.io/component={component}")
    dev.scored(task)
    dev.nothing_is_left()


def test_flow_runs_are_pods_of_prefects_worker_where_that_is_configured(dev: Installation) -> None:
    dev.cluster.kubectl(
        "exec", "-n", "autoscorer", "deployment/api", "--", "autoscorer", "deploy", "--pool=autoscorer-kubernetes"
    )
    try:
        dev.scored(dev.submit())
        flows = dev.cluster.pods("flow-run")
        # More than one where Prefect was away for too long on a busy machine: then the run was put back.
        assert "Succeeded" in [pod["status"]["phase"] for pod in flows]
        # The password of Prefect's server is named in it and not written.
        assert dev.cluster.secret("prefect-auth", "PREFECT_API_AUTH_STRING") not in json.dumps(flows)
        dev.nothing_is_left()

        task = dev.submit(seconds=30)
        dev.model()
        (running,) = [
            pod["metadata"]["name"] for pod in dev.cluster.pods("flow-run") if pod["status"]["phase"] == "Running"
        ]
        dev.kill(running)
        assert dev.scored(task)["attempts"] >= 2
        dev.nothing_is_left()
    finally:
        dev.cluster.kubectl("exec", "-n", "autoscorer", "deployment/api", "--", "autoscorer", "deploy")


# io_uring_setup, keyctl and a namespace of its own, which our profile refuses (EPERM), and a file, which none does.
SYSTEM_CALLS = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    libc.syscall(*arguments)
    return errno.errorcode.get(ctypes.get_errno(), "allowed")
status = open("/proc/self/status").read()
print(call(425, 1, None), call(250, 0, 0, 0), call(272, 0x10000000), status.count("Seccomp:\\t2"))
"""


def test_the_profile_that_is_laid_on_the_nodes_is_the_one_that_holds(dev: Installation) -> None:
    """deployments/kubernetes/seccomp, and `executors.kubernetes.seccomp_profile`."""
    cluster, part = dev.cluster, dev.manifests.parent / "seccomp"
    # This cluster's kubelet has a root of its own.
    own = cluster.kubeconfig.parent / "kubelet"
    nodes = part / "nodes.yaml"
    if own.is_dir():
        nodes.write_text(nodes.read_text().replace("/var/lib/kubelet/seccomp", str(own / "seccomp")))
    nodes.write_text(nodes.read_text().replace("busybox:1.37", BUSYBOX))
    cluster.kubectl("apply", "-k", part)
    try:
        status = ("rollout", "status", "-n", "autoscorer-nodes", "daemonset/seccomp", "--timeout=300s")
        cluster.kubectl(*status, timeout=400)
        name = f"seccomp-{uuid.uuid4().hex[:8]}"
        container = {
            "name": "python",
            "image": "autoscorer-test-root:latest",
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", SYSTEM_CALLS],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "Localhost", "localhostProfile": "autoscorer.json"},
            },
        }
        spec = {"restartPolicy": "Never", "containers": [container], "securityContext": {"runAsUser": 10001}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}
        cluster.kubectl("apply", "-f", "-", text=json.dumps(pod))
        try:

            def ended() -> bool:
                (found,) = cluster.get("pod", name, namespace="default")
                return found["status"]["phase"] in ("Succeeded", "Failed")

            eventually(ended, within=PATIENCE)
            assert cluster.kubectl("logs", "-n", "default", name).split() == ["EPERM", "EPERM", "EPERM", "1"]
        finally:
            cluster.kubectl("delete", "pod", "-n", "default", name, "--wait=false")
    finally:
        cluster.kubectl("delete", "-k", part, timeout=400)
