"""deployments/kubernetes.json: the Job that Prefect's own worker makes of it, for the installation of the manifests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import kubernetes_validate
import pytest
from autoscorer.cli.arguments import parse_params
from autoscorer.core.config import load_settings
from autoscorer.service.prefect.pools import job_template

from ..service.test_deploy import CHECK, WORKERS
from ..support.kustomize import Json, normal, pods, rendered
from ..support.pod_security import violations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """As the Job `setup` of the overlay production has Prefect make it, in a process of its own: the packages warn."""
    there = normal(rendered("production"))
    told: dict[str, str] = there["ConfigMap", "autoscorer", "autoscorer"]["data"]
    (setup,) = [template for name, template in pods(rendered("production")) if name == "Job/setup"]
    (command,) = [each["command"] for each in setup["spec"]["initContainers"] if each["name"] == "kubernetes-pool"]
    variables = [part.removeprefix("--variable=") for part in command if part.startswith("--variable=")]
    variables = [re.sub(r"\$\((\w+)\)", lambda found: told[found[1]], each) for each in variables]
    folder = tmp_path_factory.mktemp("flow-pods")
    with pytest.MonkeyPatch.context() as inside:
        for name in [name for name in os.environ if name.startswith("AUTOSCORER_")]:
            inside.delenv(name)
        for name, value in told.items():
            if name.startswith("AUTOSCORER_"):
                inside.setenv(name, value)
        template = job_template(load_settings(), "kubernetes", parse_params(variables, option="--variable"))
    done = subprocess.run(
        [sys.executable, "-c", CHECK.format(imported=WORKERS["kubernetes"], type="kubernetes")],
        input=json.dumps(template),
        env={**os.environ, "PREFECT_HOME": str(folder), "PREFECT_API_URL": told["PREFECT_API_URL"]},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made: Json = json.loads(done.stdout.splitlines()[-1])["job_manifest"]
    return made


@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_it_is_valid_in_the_oldest_and_the_newest_kubernetes(job: Json, version: str) -> None:
    assert kubernetes_validate.validate(job, version, strict=True) == version
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 1 and job["spec"]["backoffLimit"] == 0


def test_it_is_one_that_pod_security_restricted_takes_with_a_read_only_root(job: Json) -> None:
    spec = job["spec"]["template"]["spec"]
    assert violations(spec) == []
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounted == {"data": "/srv/autoscorer", "tmp": "/tmp"}
    environment = {each["name"]: each.get("value") for each in container["env"]}
    # What is written without being asked goes to where it may.
    for name in ("HOME", "PREFECT_HOME", "AUTOSCORER_HOME"):
        assert environment[name].startswith(tuple(mounted.values()))


def test_it_is_this_installation_s(job: Json) -> None:
    there = normal(rendered("production"))
    spec = job["spec"]["template"]["spec"]
    assert job["metadata"]["namespace"] == "autoscorer"
    assert ("ServiceAccount", "autoscorer", spec["serviceAccountName"]) in there
    (claim,) = [each["persistentVolumeClaim"]["claimName"] for each in spec["volumes"] if "emptyDir" not in each]
    assert ("PersistentVolumeClaim", "autoscorer", claim) in there
    worker = there["Deployment", "autoscorer", "worker"]["spec"]["template"]["spec"]["containers"][0]
    assert spec["containers"][0]["image"] == worker["image"]
    # Its model goes into the models' namespace, by the settings of everything else here.
    environment = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    told = there["ConfigMap", "autoscorer", "autoscorer"]["data"]
    executors = {name: value for name, value in told.items() if name.startswith("AUTOSCORER_EXECUTORS__")}
    assert executors.items() <= environment.items() and len(executors) == 4
    assert environment["PREFECT_API_URL"] == told["PREFECT_API_URL"]
