"""A fresh checkout, and the image that the root's Dockerfile makes of it. Tests import the fixture ``root_image``."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .markdown import BASE_IMAGE, ROOT, blocks_of, read

__all__ = ["ROOT_IMAGE", "checkout", "fill_wheels", "image_commands", "root_image", "sh"]

ROOT_IMAGE = "autoscorer-test-root"


def sh(*command: str | Path, code: int | None = 0, cwd: Path | None = None) -> str:
    """Run a command to its end; what it wrote to stdout."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, cwd=cwd)
    assert code is None or done.returncode == code, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


def checkout(folder: Path) -> Path:
    """Copy this checkout's files into the folder, and nothing that git does not know."""
    for name in sh("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def image_commands() -> list[str]:
    """What docs/service.md says of an image without a registry and an index: the base, the packages, the build."""
    (block,) = [block for block in blocks_of(read("docs/service.md")) if "pip download" in "\n".join(block.lines)]
    assert block.lines[0] == "scripts/build-base-image"
    return list(block.lines)


def fill_wheels(context: Path) -> None:
    """Fill the folder wheels/ of a checkout with the packages of the image."""
    version = sh("docker", "run", "--rm", BASE_IMAGE, "python3", "-c", "import sys; print(sys.version_info[:2])")
    if version != str(sys.version_info[:2]):
        pytest.skip(f"{BASE_IMAGE} and this Python are not of one version: {version}")
    sh("sh", "-c", image_commands()[1].replace("python3", sys.executable), cwd=context)


@pytest.fixture(scope="session")
def root_image(python_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built from a copy of this checkout without a registry and without an index."""
    context = checkout(tmp_path_factory.mktemp("checkout"))
    fill_wheels(context)
    # One after the other: the second one finds every layer in the engine's cache.
    with (Path(tempfile.gettempdir()) / f"{ROOT_IMAGE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sh("sh", "-c", image_commands()[2].replace("autoscorer:latest", ROOT_IMAGE), cwd=context)
    return ROOT_IMAGE
