"""``autoscorer scorers new``: a scorer that works as it is, and its test, from ``templates/``."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.aliases import our_scorer
from ..scorers.registry.builtin import BUILTIN_MODULES

__all__ = ["write_scorer"]


def write_scorer(name: str, folder: Path) -> dict[str, Any]:
    """Write ``NAME.py`` and ``test_NAME.py``.

    Args:
        name: A Python identifier; the scorer's id too.
        folder: Where; made when it is not there.

    Returns:
        ``name``, ``scorer`` and ``test`` (paths), ``files``.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a name that can't be used, or a file that is there already.
    """
    problem = _problem(name)
    if problem:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"NAME: {problem}, got {name!r}.")
    scorer, test = folder.absolute() / f"{name}.py", folder.absolute() / f"test_{name}.py"
    for path in (scorer, test):
        if os.path.lexists(path):
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{path} is there already; nothing was written.")
    words = {"name": name, "class_name": "".join(part[:1].upper() + part[1:] for part in name.split("_")) or name}
    templates = resources.files(__package__) / "templates"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in ((scorer, "scorer.py.tmpl"), (test, "test_scorer.py.tmpl")):
            text = Template((templates / template).read_text(encoding="utf-8")).substitute(words)
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{folder} can't be written: {error.strerror}.") from None
    return {"name": name, "scorer": str(scorer), "test": str(test), "files": [str(scorer), str(test)]}


def _problem(name: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,90}", name) or keyword.iskeyword(name):
        return "expected a Python identifier of ASCII letters, digits and _ that begins with a letter"
    if name.startswith("test_") or name.endswith("_test"):
        return "a file of that name would be taken for a test; choose another"
    if our_scorer(name) in BUILTIN_MODULES:
        return "a built-in scorer has that id; choose another"
    if importlib.util.find_spec(name) is not None:
        return "an installed Python module has that name, and the file would hide it; choose another"
    return None
