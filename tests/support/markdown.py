"""Reading the documentation: blocks, tables, sections. Tests import it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "BASE_IMAGE",
    "READMES",
    "ROOT",
    "Block",
    "blocks_of",
    "read",
    "rows_of",
    "section_of",
    "without_blocks",
    "words_of",
]

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh-CN.md")
BASE_IMAGE = "autoscorer-base:bookworm"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block: its language, its lines."""

    language: str
    lines: tuple[str, ...]


def blocks_of(text: str) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(language, tuple(body.splitlines())) for language, body in found]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def rows_of(text: str) -> list[list[str]]:
    """The cells of every table row outside of blocks, rulers left out."""
    lines = [line for line in without_blocks(text).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in rows if set("".join(row)) - set("-: ")]


def section_of(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading!r}"
    return found[1]


def words_of(text: str) -> set[str]:
    """Every text in backticks."""
    return set(re.findall(r"`([^`\n]+)`", without_blocks(text)))
