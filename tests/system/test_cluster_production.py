"""deployments/kubernetes/production on a real cluster: replicas, PostgreSQL and Redis, and no task lost.

What Kubernetes 1.20 has not, and what is Debian's here, stands in tests/support/cluster/production.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..support.checkout import sh
from ..support.cluster import Cluster, installed
from ..support.cluster.installation import Installation, cluster, load
from ..support.compose import services_image
from ..support.markdown import ROOT

__all__ = ["cluster", "services_image"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def production(
    cluster: Cluster, services_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    context = ROOT / "tests" / "images" / "compose"
    for name in ("postgres", "redis"):
        arguments = ("--build-arg", f"BASE_IMAGE={services_image}", "--target", name)
        sh("docker", "build", "-q", *arguments, "-t", f"autoscorer-test-{name}", context)
    load("autoscorer-test-postgres:latest", "autoscorer-test-redis:latest")
    uid = sh("docker", "run", "--rm", "--entrypoint", "id", "autoscorer-test-postgres", "-u", "postgres")
    with installed(cluster, "production", "availability.yaml", POSTGRES_UID=uid) as manifests:
        found = Installation(cluster, manifests, tmp_path_factory.mktemp("workspaces"))
        found.ready()
        yield found


def test_three_apis_two_prefect_servers_and_two_workers_are_one_installation(production: Installation) -> None:
    there = {
        each: len(production.cluster.pods(each)) for each in ("api", "prefect-server", "prefect-services", "worker")
    }
    assert there == {"api": 3, "prefect-server": 2, "prefect-services": 1, "worker": 2}
    production.scored(production.submit())
    production.nothing_is_left()
    production.cluster.kubectl("diff", "-k", production.manifests)  # exits with 1 where there is a difference


def test_no_task_is_lost_while_pods_of_every_kind_are_killed(production: Installation) -> None:
    tasks = [production.submit(seconds=15) for _ in range(6)]
    production.model()
    for component in ("worker", "api", "prefect-server"):
        victim = production.cluster.pods(component)[0]["metadata"]["name"]
        production.kill(victim)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(production.scored, tasks))
    production.nothing_is_left()


def test_replicas_of_the_api_are_replaced_without_a_failed_request(production: Installation) -> None:
    kubectl = production.cluster.kubectl
    kubectl("rollout", "restart", "-n", "autoscorer", "deployment/api")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(
            kubectl, "rollout", "status", "-n", "autoscorer", "deployment/api", "--timeout=600s", timeout=700
        )
        asked = 0
        while not done.done():
            assert production.once("/tasks?limit=1").status == 200
            asked += 1
        done.result()
    assert asked > 10
