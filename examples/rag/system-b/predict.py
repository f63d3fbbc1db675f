"""System B: as system A, but words that stand everywhere count for nothing, rare ones count more, and Chinese is taken
by pairs of characters.

Reads ``input/data/documents.jsonl`` and ``input/data/questions.jsonl``, and writes ``output/pred.jsonl``: of each
question the passages, best first, and as the answer the sentence that shares the most with it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

WORKSPACE = Path(os.environ.get("AUTOSCORER_WORKSPACE", "/workspace"))
PASSAGES = 3
_ENGLISH = """
    a an and are at be by did do does for from had has have how in is it its many much of on or so than that the them
    there these they this to was were what when where which who why with
"""
_CHINESE = "的了是在和吗呢哪里多少有什么能谁个"
STOP_WORDS = frozenset((*_ENGLISH.split(), *_CHINESE))


def terms(text: str) -> set[str]:
    """Words that say something; of Chinese the pairs of neighbouring characters."""
    found: set[str] = set()
    for run in re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]+", text.lower()):
        if run.isascii():
            found |= {run.removesuffix("s")} - STOP_WORDS if run not in STOP_WORDS else set()
        else:
            found |= {a + b for a, b in pairwise(run) if a not in STOP_WORDS and b not in STOP_WORDS}
    return found


def sentences(text: str) -> list[str]:
    """A passage's sentences."""
    return [each.strip() for each in re.findall(r"[^.?!。？！]+(?:[.?!](?=\s|$)|[。？！])?", text) if each.strip()]


def weights(documents: list[str]) -> dict[str, float]:
    """Of each term how rare it is: ln(1 + number of passages / number of those that have it)."""
    having = Counter(term for text in documents for term in terms(text))
    return {term: math.log(1 + len(documents) / count) for term, count in having.items()}


def answer(question: str, documents: list[str], rare: dict[str, float]) -> dict[str, Any]:
    """The passages that were found, and the sentence that is the answer."""
    asked = terms(question)

    def shared(text: str) -> float:
        # Summed in one order, whatever the order of the set is in this run.
        return math.fsum(rare.get(term, 0.0) for term in asked & terms(text))

    found = sorted(filter(shared, documents), key=lambda text: -shared(text))[:PASSAGES]
    # Where nothing was found nothing is said.
    best = max((each for text in found for each in sentences(text)), key=shared, default="")
    return {"answer": best, "contexts": found}


def read(name: str) -> list[dict[str, Any]]:
    """The records of one input file."""
    lines = (WORKSPACE / "input" / "data" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def main() -> None:
    documents = [each["text"] for each in read("documents.jsonl")]
    rare = weights(documents)
    with (WORKSPACE / "output" / "pred.jsonl").open("w", encoding="utf-8") as file:
        for asked in read("questions.jsonl"):
            record = {"id": asked["id"], **answer(asked["question"], documents, rare)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
