"""The Job of a model fits the namespace that the manifests make for it: valid, `restricted`, within its quota."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
from autoscorer.core.config import load_settings
from autoscorer.executors.kubernetes.manifest import probe_manifest

from ..executors.kubernetes.test_manifest import Make, manifest
from ..support.kustomize import Json, normal, rendered
from ..support.pod_security import violations

__all__ = ["manifest"]

WAYS: dict[str, dict[str, object]] = {
    "stream": {},
    "volume": {"environment": {"VOLUME__CLAIM": "runs", "VOLUME__PATH": "@", "TRANSFER": "volume"}},
    "users of its own": {"own_users": True},
    "our seccomp profile": {"environment": {"SECCOMP_PROFILE": "autoscorer.json"}},
    "two GPUs": {"resources": {"gpu": 2}},
    "a chosen node": {
        "environment": {
            "NODE_SELECTOR": '{"models": "yes"}',
            "TOLERATIONS": '[{"key": "models", "operator": "Exists"}]',
            "RUNTIME_CLASS": "gvisor",
            "IMAGE_PULL_SECRETS": '["registry"]',
        }
    },
}


@pytest.fixture
def job(request: pytest.FixtureRequest, manifest: Make, tmp_path: Path) -> Json:
    keywords = dict(WAYS[request.param])
    told = keywords.get("environment", {})
    assert isinstance(told, dict)
    keywords["environment"] = {key: str(tmp_path) if value == "@" else value for key, value in told.items()}
    return manifest(**keywords)


@pytest.mark.parametrize("job", WAYS, indirect=True)
def test_it_is_valid_in_every_kubernetes_and_one_that_pod_security_restricted_takes(job: Json) -> None:
    for version in ("1.28", "1.30", "1.33", "1.37"):
        assert kubernetes_validate.validate(job, version, strict=True) == version
    assert violations(job["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize("job", WAYS, indirect=True)
def test_every_container_says_what_the_quota_counts(job: Json) -> None:
    quota = normal(rendered("production"))["ResourceQuota", "autoscorer-runs", "models"]["spec"]["hard"]
    for each in [
        *job["spec"]["template"]["spec"].get("initContainers", []),
        *job["spec"]["template"]["spec"]["containers"],
    ]:
        for kind in ("requests", "limits"):
            counted = {name.partition(".")[2] for name in quota if name.startswith(f"{kind}.")}
            assert counted <= set(each["resources"][kind]), each["name"]


def test_the_probe_of_doctor_is_one_that_the_namespace_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE", "helper:1")
    job = probe_manifest("autoscorer-x", load_settings(), "true", ())
    for version in ("1.28", "1.37"):
        assert kubernetes_validate.validate(job, version, strict=True) == version
    assert violations(job["spec"]["template"]["spec"]) == []
