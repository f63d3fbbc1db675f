"""What a proof needs, and that nothing is left of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from autoscorer.core.config import Settings

from ...support.prefect_server import eventually
from ...support.proofs import need_bubblewrap


@pytest.fixture
def clean(settings: Settings) -> Iterator[None]:
    """Afterwards nothing is left: no folder, no run, no process, no mark, no variable."""
    yield
    assert not (settings.home / "prove").exists(), "the proof's folder was left"
    assert not list((settings.home / "runs").glob("*")), "a run record was left"
    assert "PROVE_SECRET" not in os.environ
    assert not _bystanders(), "a process was left"
    # Those of a proof in another test process go with that.
    eventually(lambda: not _marks())


@pytest.fixture
def sandbox(settings: Settings) -> None:
    """Bubblewrap, where this kernel lets it seal."""
    need_bubblewrap(settings)


def _marks() -> list[Path]:
    folders = ("/tmp", "/dev/shm", "/var/tmp", "/run")
    return [path for folder in folders for path in Path(folder).glob("autoscorer-prove-*")]


def _bystanders() -> list[list[str]]:
    """Those that this process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "bystander.py" in " ".join(words) and str(os.getpid()) in words:
            found.append(words)
    return found
