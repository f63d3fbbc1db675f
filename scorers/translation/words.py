"""What reports and plots say, in English and in Chinese.

The English text is the key: code says ``say("The first {count} rows", count=20)``, and the table of the language
(``words_zh``) has the same sentence with the same names in braces. Sentences that were made elsewhere and stand in a
Result (notes, subtitles of plots) are found again by ``in_chinese``. Numbers and what a submission named stay as they
are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

__all__ = ["CHINESE", "ENGLISH", "LANGUAGES", "Language", "ReportLanguage", "in_chinese"]

ReportLanguage = Literal["en", "zh"]
# Names that stand for any text; the others stand for a number.
_TEXTS = frozenset({"label", "name", "names", "other", "param", "value"})
# A longer text is not one of ours.
_MOST_PARTS, _MOST_CHARACTERS = 20, 2000
_NAMES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Language:
    """A language that a report speaks.

    Attributes:
        code: As HTML's ``lang`` has it.
        name: What it calls itself.
        words: English to this language; empty for English.
    """

    code: str
    name: str
    words: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __call__(self, key: str, **values: object) -> str:
        """A text in this language; ``key`` is the English one, with names of ``values`` in braces."""
        return self.words.get(key, key).format(**values) if values else self.words.get(key, key)

    def again(self, text: str) -> str | None:
        """A sentence that was made in English, in this language; None where it is not known."""
        return in_chinese(text) if self.words else text


def in_chinese(text: str) -> str | None:
    """An English sentence, or several in a row, in Chinese; None where one of them is not known."""
    # As much of it as one sentence of the table has, then as much of the rest.
    parts, found = re.split(r"(?<=[.:;]) (?=\S)", text), ""
    if len(parts) > _MOST_PARTS or len(text) > _MOST_CHARACTERS:
        return None
    while parts:
        for end in range(len(parts), 0, -1):
            known = _whole(" ".join(parts[:end]))
            if known is not None:
                break
        else:
            return None
        found, parts = found + known, parts[end:]
    return found


def _whole(text: str) -> str | None:
    if (known := CHINESE.words.get(text)) is not None:
        return known
    for start, pattern, answer in _patterns():
        if text.startswith(start) and (match := re.fullmatch(pattern, text, re.DOTALL)):
            return answer.format(**match.groupdict())
    return None


@cache
def _patterns() -> list[tuple[str, str, str]]:
    """Of each sentence with names in it: how it begins, its pattern, and the Chinese sentence. The longest first."""
    found = []
    for key, answer in CHINESE.words.items():
        pieces = _NAMES.split(key)
        if len(pieces) > 1:
            pattern = "".join(_group(piece) if odd % 2 else re.escape(piece) for odd, piece in enumerate(pieces))
            found.append((pieces[0], pattern, answer))
    return sorted(found, key=lambda each: -len(each[1]))


def _group(name: str) -> str:
    return f"(?P<{name}>.+?)" if name in _TEXTS else rf"(?P<{name}>\S+?)"


def _chinese() -> Language:
    from .chinese import WORDS

    return Language("zh-CN", "中文", WORDS)


ENGLISH = Language("en", "English")
CHINESE = _chinese()
LANGUAGES = {"en": ENGLISH, "zh": CHINESE}
