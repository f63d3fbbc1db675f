"""Small workspaces of a classification: written, predicted, read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["TRUTH", "predicting", "result_of", "write_workspace"]

TRUTH = "id,label\na,cat\nb,dog\nc,cat\n"


def write_workspace(
    root: Path,
    name: str,
    *,
    truth: str = "id,label\na,x\nb,y\n",
    pred: str | None = "id,label\na,x\nb,y\n",
    **meta: Any,
) -> Path:
    """A workspace that can be scored; keywords go into meta.json.

    Args:
        root: Where its folder is made.
        name: Its folder's.
        truth: Content of input/gt.csv.
        pred: Content of output/pred.csv; None for no output.
    """
    folder = root / name
    (folder / "input" / "data").mkdir(parents=True)
    (folder / "input" / "gt.csv").write_text(truth)
    (folder / "input" / "data" / "x.csv").write_text("id,x\na,1\nb,2\n")
    if pred is not None:
        (folder / "output").mkdir()
        (folder / "output" / "pred.csv").write_text(pred)
    content = {"task_type": "classification", "scorer": "classification_f1", **meta}
    (folder / "meta.json").write_text(json.dumps(content))
    return folder


def predicting(predictions: str) -> str:
    """A program of Python that is a model with these predictions."""
    return (
        "import os, pathlib\n"
        f"pathlib.Path(os.environ['AUTOSCORER_WORKSPACE'], 'output', 'pred.csv').write_text({predictions!r})\n"
    )


def result_of(root: Path) -> dict[str, Any]:
    """The Result that stands in a workspace."""
    found: dict[str, Any] = json.loads((root / "output" / "result.json").read_text())
    return found
