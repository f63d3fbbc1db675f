"""Docker Compose v2, and deployments/compose.yaml where no registry is reached. Tests import the fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["OVERRIDE", "SERVICES_IMAGE", "docker_compose", "services_image"]

HERE = Path(__file__).parent
OVERRIDE = HERE / "compose.debian.yaml"
# PostgreSQL, Redis and nginx; tests/images/compose/Dockerfile says how it is made, and .ci/run makes it.
SERVICES_IMAGE = "autoscorer-test-services"


@pytest.fixture(scope="session")
def docker_compose() -> dict[str, str]:
    """Variables with which ``docker compose`` is version 2: this machine's own, or one that is fetched once."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return {}
    folder = Path(sys.prefix) / "share" / "autoscorer-tests"
    done = subprocess.run([HERE / "fetch-compose", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"there is no Docker Compose v2, and it can't be fetched: {done.stderr}")
    config = os.environ.get("DOCKER_CONFIG")
    assert config is None, "the engine's own configuration would be hidden"
    return {"DOCKER_CONFIG": str(folder)}


@pytest.fixture(scope="session")
def services_image(docker_client: Any) -> str:
    """The image with PostgreSQL, Redis and nginx."""
    if not docker_client.images(name=SERVICES_IMAGE):
        pytest.skip(f"the image {SERVICES_IMAGE} is not there; .ci/run makes it with scripts/build-base-image")
    return SERVICES_IMAGE
