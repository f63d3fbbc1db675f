"""Calls the evaluation script of an EvalAI challenge as EvalAI does, and writes its numbers to a file.

The importer copies this file beside the script. It runs in the image of the scoring program: with the standard library
alone, and in any Python from 3.6 on.
"""

import importlib
import json
import sys
from typing import Any


def number(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError("expected a number, got " + type(value).__name__)


def main() -> None:
    """``OUT ANNOTATIONS SUBMISSION PHASE SPLIT…``; with several splits each name is ``SPLIT/NAME``."""
    out, annotations, submission, phase = sys.argv[1:5]
    splits = sys.argv[5:]
    script = importlib.import_module("evaluation_script")
    if not hasattr(script, "evaluate"):
        script = importlib.import_module("evaluation_script.main")
    answer = script.evaluate(annotations, submission, phase, submission_metadata={})
    scores = {}
    for part in answer["result"]:
        for split, metrics in part.items():
            if split not in splits:
                raise KeyError("the phase has no split of this name: " + str(split))
            for name, value in metrics.items():
                scores[str(name) if len(splits) == 1 else str(split) + "/" + str(name)] = value
    with open(out, "w") as file:
        json.dump(scores, file, default=number)


if __name__ == "__main__":
    main()
