"""Fixtures of hosts with GPUs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.gpus import Host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host of which a test says what GPUs it has; none at first."""
    folder = tmp_path / "host"
    folder.mkdir()
    yield Host(folder, monkeypatch)
    sys.modules.pop("pynvml", None)
