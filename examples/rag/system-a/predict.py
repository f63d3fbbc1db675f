"""System A: retrieves the passages that share the most words with the question, whatever words those are.

Reads ``input/data/documents.jsonl`` and ``input/data/questions.jsonl``, and writes ``output/pred.jsonl``: of each
question the passages, best first, and as the answer the sentence that shares the most words with it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

WORKSPACE = Path(os.environ.get("AUTOSCORER_WORKSPACE", "/workspace"))
PASSAGES = 3


def words(text: str) -> list[str]:
    """Words in letters and digits, and each character of Chinese."""
    return re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]", text.lower())


def sentences(text: str) -> list[str]:
    """A passage's sentences."""
    return [each.strip() for each in re.findall(r"[^.?!。？！]+(?:[.?!](?=\s|$)|[。？！])?", text) if each.strip()]


def shared(question: set[str], text: str) -> int:
    """How many different words of the question stand in a text."""
    return len(question.intersection(words(text)))


def answer(question: str, documents: list[str]) -> dict[str, Any]:
    """The passages that were found, and the sentence that is the answer."""
    asked = set(words(question))
    # Of equal ones the first: the same in every run.
    found = sorted(documents, key=lambda text: -shared(asked, text))[:PASSAGES]
    best = max((each for text in found for each in sentences(text)), key=lambda each: shared(asked, each))
    return {"answer": best, "contexts": found}


def read(name: str) -> list[dict[str, Any]]:
    """The records of one input file."""
    lines = (WORKSPACE / "input" / "data" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def main() -> None:
    documents = [each["text"] for each in read("documents.jsonl")]
    with (WORKSPACE / "output" / "pred.jsonl").open("w", encoding="utf-8") as file:
        for asked in read("questions.jsonl"):
            record = {"id": asked["id"], **answer(asked["question"], documents)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
