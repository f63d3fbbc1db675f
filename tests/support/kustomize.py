"""The manifests of deployments/kubernetes as kubectl renders them, and what refers to what in them."""

from __future__ import annotations

import atexit
import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

__all__ = ["FOLDER", "OVERLAYS", "Json", "containers", "copy", "kubectl", "normal", "pods", "render", "rendered"]

FOLDER = Path(__file__).parents[2] / "deployments" / "kubernetes"
OVERLAYS = ("dev", "production")
HERE = Path(__file__).parent
Json = dict[str, Any]


@functools.cache
def kubectl(which: str = "path") -> str:
    """A kubectl: the one on the path, or Debian 12's where there is none; or by ``debian`` always that one."""
    found = shutil.which("kubectl") if which == "path" else None
    if found is not None:
        return found
    done = subprocess.run(
        [HERE / "fetch-kubectl", Path(sys.prefix) / "share" / "autoscorer-tests"], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"there is no kubectl, and it can't be fetched: {done.stderr}")
    return done.stdout.strip()


def copy(to: Path) -> Path:
    """The manifests as Git has them, in a folder of their own: without the secrets that somebody may have made."""
    ignored = shutil.ignore_patterns("*.env", "metrics-token", "__pycache__")
    return Path(shutil.copytree(FOLDER, to / "kubernetes", ignore=ignored))


def render(folder: Path, which: str = "path") -> list[Json]:
    """What ``kubectl apply -k FOLDER`` would send."""
    done = subprocess.run([kubectl(which), "kustomize", str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@functools.cache
def rendered(overlay: str, which: str = "path") -> list[Json]:
    """An overlay, or an optional part, with secrets made for it. Rendered once; do not change it."""
    return render(_with_secrets() / overlay, which)


@functools.cache
def _with_secrets() -> Path:
    """The manifests with secrets in both overlays, for as long as this process lives."""
    work = tempfile.mkdtemp(prefix="autoscorer-manifests-")
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    folder = copy(Path(work))
    for overlay in OVERLAYS:
        subprocess.run([folder / "make-secrets", overlay], check=True, capture_output=True)
    return folder


def normal(resources: list[Json]) -> dict[tuple[str, str, str], Json]:
    """Resources by kind, namespace and name, without what versions of kustomize write differently."""
    found = {}
    for each in resources:
        text = re.sub(r'"(autoscorer|prefect-server|seccomp)-[0-9a-z]{10}"', r'"\1"', json.dumps(each))
        one = json.loads(text)
        one["metadata"] = {key: value for key, value in one["metadata"].items() if value}
        if one["kind"] == "Secret":
            one["data"] = {key: re.sub(r"\s", "", value) for key, value in one["data"].items()}
        found[one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]] = one
    assert len(found) == len(resources), "two resources of one name"
    return found


def pods(resources: list[Json]) -> Iterator[tuple[str, Json]]:
    """Name and template of everything that makes pods."""
    for each in resources:
        template = each.get("spec", {}).get("template")
        if template is not None:
            yield f"{each['kind']}/{each['metadata']['name']}", template


def containers(template: Json) -> list[Json]:
    """All containers of a pod, those that prepare it among them."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
