"""An empty database for a Prefect server of a test: making one anew takes each of them five seconds of a processor.

What a server does on its first start in an empty home is tested where containers and ``PREFECT_HOME`` are.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from .processes import clean_environment

__all__ = ["put_database"]


def put_database(home: Path) -> None:
    """Lay one into the home of a server that has none yet.

    Args:
        home: What ``PREFECT_HOME`` of the server will be.
    """
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "prefect.db").exists():
        shutil.copyfile(_template(), home / "prefect.db")


def _template() -> Path:
    """The database as this version of Prefect makes it, beside the virtual environment."""
    made = Path(sys.prefix) / "share" / "autoscorer-tests" / f"prefect-{version('prefect')}.db"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with made.with_suffix(".lock").open("w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            environment = {**clean_environment(), "PREFECT_HOME": folder, "DO_NOT_TRACK": "1"}
            subprocess.run(upgrade, env=environment, check=True, capture_output=True, timeout=600)
            # Beside its place and renamed: a test may be killed while it copies.
            aside = made.with_suffix(f".{os.getpid()}")
            shutil.copyfile(Path(folder) / "prefect.db", aside)
            aside.replace(made)
    return made
