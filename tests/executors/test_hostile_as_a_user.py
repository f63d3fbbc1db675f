"""The hostile suite once more, where AutoScorer is an ordinary user and bubblewrap has nobody's help."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ..support.ordinary_user import ORDINARY, EngineDoor, as_ordinary_user

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]


def test_every_attack_is_held_for_an_ordinary_user(docker_client: Any, busybox: str, python_image: str) -> None:
    # pytest's own folder may not be entered by others.
    folder = Path(tempfile.mkdtemp(prefix="autoscorer-user-"))
    os.chown(folder, ORDINARY, ORDINARY)
    door = EngineDoor()
    try:
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "-rA"]
        command += ["tests/executors/test_hostile.py", "-k", "bubblewrap", f"--basetemp={folder / 'tests'}"]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "DOCKER_HOST": f"tcp://127.0.0.1:{door.port}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "REQUIRE_ALL_TESTS": "1",
        }
        done = as_ordinary_user(command, environment, timeout=1200)
    finally:
        door.close()
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"^([0-9]+) passed", done.stdout.splitlines()[-1])
    assert passed is not None and int(passed[1]) >= 58, done.stdout[-500:]
