"""docs/service.md, "Elsewhere than in processes", as it is written: a real flow run in a container of a Docker pool."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.markdown import BASE_IMAGE
from ..support.prefect_server import PrefectServer, eventually, server

__all__ = ["server"]

pytestmark = [pytest.mark.docker, pytest.mark.prefect, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
IMAGE = "autoscorer-test-pool"
POOL = "my-docker"
USER = 10001
MODEL = "printf 'id,label\\na,cat\\n' > /workspace/output/pred.csv"

# The user of the root's Dockerfile, and this checkout's code by a mount: its packages take minutes to install.
DOCKERFILE = """
FROM {base}
RUN groupadd --gid 10001 autoscorer && useradd --uid 10001 --gid 10001 --create-home autoscorer
RUN echo "import site; site.addsitedir({packages!r})" > /usr/lib/python3/dist-packages/code.pth
RUN printf '#!/bin/sh\\nexec python3 -m prefect "$@"\\n' > /usr/local/bin/prefect && chmod 755 /usr/local/bin/prefect
USER 10001:10001
"""


def _block() -> list[str]:
    """The commands of the section's first block, continued lines joined."""
    text = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    section = text.partition("## Elsewhere than in processes")[2].partition("\n## ")[0]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return [line for line in found[1].replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def image(docker_client: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that stands for the one of the root's Dockerfile."""
    version = subprocess.run(
        ["docker", "run", "--rm", "--network=none", BASE_IMAGE, "python3", "-c",
         "import sys; print(sys.version_info[:2])"],
        capture_output=True, text=True,
    )  # fmt: skip
    if version.stdout.strip() != str(sys.version_info[:2]):
        pytest.skip(f"{BASE_IMAGE} (scripts/build-base-image) and this Python are not of one version")
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=BASE_IMAGE, packages=_packages()))
    subprocess.run(
        ["docker", "build", "--quiet", "--network=none", "-t", IMAGE, str(folder)], check=True, capture_output=True
    )
    return IMAGE


def _packages() -> str:
    return next(path for path in sys.path if path.endswith("site-packages"))


class Installed:
    """What somebody has who followed the section.

    Args:
        folder: What the section calls /srv/autoscorer.
        prefect: The Prefect server.
        image: The image of the flow runs.
    """

    def __init__(self, folder: Path, prefect: PrefectServer, image: str) -> None:
        self.folder, self._server, self._image = folder, prefect, image
        self._worker: subprocess.Popen[bytes] | None = None
        for name in ("home", "workspaces"):
            (folder / name).mkdir(parents=True)

    def follow(self, **environment: str) -> None:
        """Run the section's block, with more of the environment set."""
        *commands, worker = _block()
        assert worker.startswith("prefect worker start")
        script = "\n".join(["set -e", *commands, f"exec {worker}"])
        for said, here in (
            ("/srv/autoscorer", str(self.folder)),
            ("image=autoscorer:latest", f"image={self._image}"),
            ("http://127.0.0.1:4200/api", self._server.api_url),
            ("sudo ", ""),
        ):
            assert said in script, said
            script = script.replace(said, here)
        # The code of this checkout, which the real image holds.
        script = script.replace("\nexec ", f"\n{sys.executable} -c '{_MOUNTS}' {ROOT} {_packages()}\nexec ")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.stop()
        with (self.folder / "worker.log").open("ab") as log:
            self._worker = subprocess.Popen(
                ["bash", "-c", script],
                env={**os.environ, **self._server.environment, "PATH": path, **environment},
                cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def run(self, workspace: Path) -> dict[str, Any]:
        """A flow run of the deployment ``run``, once it has ended."""
        deployment = eventually(lambda: self._deployment(), within=120)
        made = self._server.call(
            "POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": {"workspace": str(workspace)}}
        )

        def ended() -> dict[str, Any] | None:
            assert self._worker is not None and self._worker.poll() is None, self.log
            found: dict[str, Any] = self._server.call("GET", f"/flow_runs/{made['id']}")
            return found if found["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        return eventually(ended, within=240) or {}

    def _deployment(self) -> dict[str, Any] | None:
        assert self._worker is not None and self._worker.poll() is None, self.log
        workers = self._server.call("POST", f"/work_pools/{POOL}/workers/filter", {}) if self._has_pool() else []
        if not any(worker["status"] == "ONLINE" for worker in workers):
            return None
        found: dict[str, Any] = self._server.call("GET", "/deployments/name/run-only/run")
        return found

    def _has_pool(self) -> bool:
        pools = self._server.call("POST", "/work_pools/filter", {})
        return any(pool["name"] == POOL for pool in pools)

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):  # it has failed
                os.killpg(self._worker.pid, signal.SIGTERM)
            try:
                self._worker.wait(60)
            except subprocess.TimeoutExpired:  # it waits for a container that never ends
                os.killpg(self._worker.pid, signal.SIGKILL)
                self._worker.wait()
            self._worker = None


_MOUNTS = (
    "import json, os, sys, urllib.request as u; "
    f'url = os.environ["PREFECT_API_URL"] + "/work_pools/{POOL}"; '
    'pool = json.load(u.urlopen(url)); template = pool["base_job_template"]; '
    'volumes = template["variables"]["properties"]["volumes"]["default"]; '
    'volumes += [f"{path}:{path}:ro" for path in sys.argv[1:]]; '
    'body = json.dumps({"base_job_template": template}).encode(); '
    'u.urlopen(u.Request(url, body, {"content-type": "application/json"}, method="PATCH"))'
)


@pytest.fixture
def installed(server: PrefectServer, image: str, tmp_path: Path) -> Iterator[Installed]:
    one = Installed(tmp_path / "srv", server, image)
    yield one
    one.stop()
    for path in ("/work_pools/" + POOL,):
        server.call("DELETE", path)


def _workspace(folder: Path, image: str) -> Path:
    root = folder / "workspaces" / "team-a"
    (root / "input").mkdir(parents=True)
    (root / "input" / "gt.csv").write_text("id,label\na,cat\n")
    meta = {
        "task_type": "classification",
        "scorer": "classification_f1",
        "container": {"image": image, "cmd": ["sh", "-c", MODEL]},
        "resources": {"memory": "64Mi", "disk": "20Mi"},
    }
    (root / "meta.json").write_text(json.dumps(meta))
    return root


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to the user of the containers")
def test_a_flow_run_in_a_docker_pool_runs_a_model_and_has_the_operators_environment(
    installed: Installed, busybox: str, server: PrefectServer
) -> None:
    root = _workspace(installed.folder, busybox)
    installed.follow()
    run = installed.run(root)
    assert run["state"]["type"] == "COMPLETED", f"{run['state']}\n{installed.log}"
    assert (root / "output" / "pred.csv").read_text() == "id,label\na,cat\n"
    assert json.loads((root / "logs" / "run_info.json").read_text())["unwatched"] == []
    assert (root / "output").stat().st_uid == USER

    # What the host that deploys, and the worker, forbid is forbidden in the containers.
    # The worker ends first: one that lives makes its pool again, with a template of Prefect's.
    installed.stop()
    server.call("DELETE", f"/work_pools/{POOL}")
    installed.follow(AUTOSCORER_SECURITY__ALLOWED_IMAGES='["nothing/*"]')
    run = installed.run(root)
    assert run["state"]["type"] == "FAILED", f"{run['state']}\n{installed.log}"
    assert "is not allowed here, only nothing/*" in run["state"]["message"]
