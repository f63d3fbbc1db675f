"""What a judge is asked, in English and in Chinese: the files of ``prompts/``, which are part of a metric."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

from ..judge.prompt import Prompt, data_block

__all__ = ["Template", "is_chinese", "prompt_digests"]

_FOLDER = Path(__file__).with_name("prompts")
_LANGUAGES = ("en", "zh")
# What every question ends with: the data is data.
_RULE = "data"

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]")
# A Chinese sentence holds a third of the characters of an English one that says the same.
_SHARE = 0.25


def is_chinese(*texts: str | None) -> bool:
    """Whether texts are to be judged in Chinese: at least a quarter of their letters is Han."""
    text = " ".join(each for each in texts if each)[:20_000]
    return len(_HAN.findall(text)) > _SHARE * len(_LETTER.findall(text))


@dataclass(frozen=True)
class Template:
    """A question to a judge: ``prompts/<name>.en.txt`` and ``.zh.txt``.

    Args:
        name: Of the metric, or of the question that several metrics ask.
    """

    name: str

    @cached_property
    def sha256(self) -> str:
        """Of everything that a judge is told beside the data."""
        parts = (self.name, *(_text(name, language) for language in _LANGUAGES for name in (self.name, _RULE)))
        return sha256("\0".join(parts).encode()).hexdigest()

    def fill(self, blocks: Mapping[str, str], *, chinese: bool) -> Prompt:
        """The question about some data.

        Args:
            blocks: Texts by what the task calls them.
            chinese: Whether to ask in Chinese.
        """
        language = "zh" if chinese else "en"
        system = f"{_text(self.name, language)}\n{_text(_RULE, language)}"
        user = "\n\n".join(data_block(name, text) for name, text in blocks.items())
        return Prompt(system=system, user=user, version=self.sha256)


@lru_cache
def _text(name: str, language: str) -> str:
    return (_FOLDER / f"{name}.{language}.txt").read_text(encoding="utf-8")


def prompt_digests() -> dict[str, str]:
    """Every question by its name, with its sha256."""
    names = sorted({path.name.partition(".")[0] for path in _FOLDER.glob("*.txt")} - {_RULE})
    return {name: Template(name).sha256 for name in names}
