"""A place for tests of what must not escape: there this process may change nothing else, should it escape after all.

Such a test, run as root on a broken unpacker, can remove the ``/etc`` of a machine.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from autoscorer.executors.files import remove_tree

__all__ = ["tmp_path"]

_NOBODY = 65534


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of nobody's, in the place of pytest's; root has nobody's rights on files meanwhile."""
    # pytest's own folder may be entered by its owner alone.
    folder = Path(tempfile.mkdtemp(prefix="autoscorer-harmless-"))
    mine = (os.geteuid(), os.getegid())
    try:
        if mine[0] == 0:
            os.chown(folder, _NOBODY, _NOBODY)
            os.setegid(_NOBODY)
            os.seteuid(_NOBODY)
        yield folder
    finally:
        os.seteuid(mine[0])
        os.setegid(mine[1])
        remove_tree(folder)
