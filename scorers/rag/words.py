"""Words, numbers and sentences of answers in any script: what the free metrics count.

All texts are compared as Unicode's compatibility form (NFKC) without case. A token is a run of letters, marks and
digits, or one character of a script that is written without spaces: Han, kana, Thai and its neighbours. Full-width
signs are those of ASCII; signs that are written in several ways (apostrophes, hyphens, the minus) are one.

A sign is no token, and it separates: "well-known" is two words, as "well known" is, and "it's" two, so that the name in
"Paris's" is found. A number stays whole, with its point and its minus, and without commas before thousands: 3.14 holds
neither 3 nor 14, -5 is not 5, and 1,000 is 1000.
"""

from __future__ import annotations

import re
import string
from itertools import pairwise
from unicodedata import category, name, normalize

__all__ = ["joined_tokens", "normalised", "occurring", "runs", "terms", "tokens", "units"]

# What the names of characters begin with in the scripts that are written without spaces.
_UNSPACED = (
    *("CJK ", "IDEOGRAPHIC ", "HANGZHOU ", "HIRAGANA ", "KATAKANA"),
    *("THAI ", "LAO ", "KHMER ", "MYANMAR "),
)
# Words that any text on anything holds; none that denies, and none that is a name as well (May, WHO). Of Chinese only
# the most frequent: most characters are parts of words. The single letters are what an apostrophe leaves.
_ENGLISH = """
    a an the and or but of to in on at by for from with as than that this these those it its he she they we you which
    there is are was were be been being do does did has have had would could s t ll re ve
"""
_CHINESE = "的了是在和吗呢吧啊"
_FUNCTION_WORDS = frozenset((*_ENGLISH.split(), *_CHINESE))
# One sign for those that look the same. A full-width sign also stands for the space that is written after ASCII's.
_SIGNS = str.maketrans(
    dict.fromkeys("‘’ʼ´", "'")
    | dict.fromkeys("“”", '"')
    | dict.fromkeys("‐–−", "-")
    | {"，": ", ", "：": ": ", "；": "; ", "！": "! ", "？": "? ", "（": " (", "）": ") "}
)
# An accent that stands alone is a space and a mark in NFKC.
_LONE_ACCENT = re.compile(r"(?<!\S)[\u0300-\u036f]+")
_SIGN = rf"[{re.escape(string.punctuation)}]"
_OTHER = rf"[^\s{re.escape(string.punctuation)}]"
_NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)*|\d+(?:\.\d+)*|\.\d+)"
# A minus after a word or a number is a hyphen, and digits with letters beside them are no number.
_NUMBER_OR_SIGN = re.compile(rf"(?<!{_OTHER})(?<!\.)({_NUMBER})(?!{_OTHER})|{_SIGN}")
_ANY_SIGN = re.compile(_SIGN)

# The first kind always ends a sentence, the second before a space, Han or kana: 3.14 and a.b have no end. Closing
# quotation marks belong to it.
_END = re.compile(
    r"[。！？；｡\n\r\u2028\u2029]+[”’」』）]*"
    r"|(?<![.!?;])(?P<mark>[.!?;]++)[\"'”’»)\]]*+(?=\s|$|[\u3040-\u30ff\u3400-\u9fff])"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[a-z](?:\.[a-z])*|etc|vs|cf|mr|mrs|ms|dr|prof|fig|approx)$", re.IGNORECASE
)
# More than any abbreviation has, and even: a.b.c.d.e is 9. So the cut text never begins with one by chance.
_TAIL = 10


class _Spread(dict[int, str]):
    """For ``str.translate``: a space around each character that is a token, a line's end for what is none."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = category(character)
        if kind in ("Cn", "Cs", "Co"):
            return "\n"  # Not kept: there are a million of them.
        called = name(character, "")
        if kind == "Cf" or called.startswith("VARIATION SELECTOR"):
            text = ""  # A soft hyphen, a joiner, what colours an emoji: nobody sees them.
        elif kind[0] in "LN" or kind in ("Mn", "Mc"):
            text = f" {character} " if called.startswith(_UNSPACED) else character
        else:
            text = character if character in string.punctuation else "\n"
        self[code] = text
        return text


_SPREAD = _Spread()


def normalised(text: str) -> str:
    """The text as it is compared: NFKC, without case, each sign written in one way."""
    folded = normalize("NFKC", text.translate(_SIGNS)).casefold()
    # Folding may leave a letter and a mark that are one character, and NFKC makes a minus of a superscript's.
    return normalize("NFKC", folded).translate(_SIGNS)


def runs(text: str) -> list[str]:
    """The tokens of ROUGE: every sign separates, also within a number; of ASCII the same as rouge-score's own."""
    return _LONE_ACCENT.sub("", _ANY_SIGN.sub(" ", normalised(text).translate(_SPREAD))).split()


def tokens(text: str) -> list[str]:
    """The tokens, in their order."""
    return _marked(text, "\n").split()


def joined_tokens(text: str) -> list[str]:
    """The tokens where signs of ASCII vanish, as in SQuAD's evaluation: U.S. is us, and e-mail is email."""
    return _marked(text, "").split()


def terms(text: str) -> list[str]:
    """What a text is about: its tokens without function words, and of unspaced scripts the pairs of neighbours.

    One character of Chinese says little: a page holds most of the frequent ones. So neighbours are taken together, as
    search engines do; a sign, a space or a function word parts them, and a character without neighbours stands alone.
    A text of function words alone has them as its terms.
    """
    found: list[str] = []
    for phrase in _marked(text, "\n").splitlines():
        neighbours: list[str] = []
        for token in (*phrase.split(), ""):
            if len(token) == 1 and token not in _FUNCTION_WORDS and _SPREAD[ord(token)] != token:
                neighbours.append(token)
                continue
            found += [a + b for a, b in pairwise(neighbours)] or neighbours
            neighbours = []
            if token and token not in _FUNCTION_WORDS:
                found.append(token)
    return found or tokens(text)


def occurring(text: str) -> set[str]:
    """All that can be found in a text as a term of another one: its tokens and its terms."""
    return {*tokens(text), *terms(text)}


def units(text: str) -> list[str]:
    """The sentences of a text, stripped and without the sign that ends them; a line's end ends one, too.

    A full stop ends none within a number, after an abbreviation or an initial, or after the number of a list's item.
    """
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        if end["mark"] != "." or _is_full_stop(text, start, end.start()):
            found.append(text[start : end.start()].strip())
            start = end.end()
    found.append(text[start:].strip())
    return [unit for unit in found if unit]


def _is_full_stop(text: str, start: int, stop: int) -> bool:
    before = text[max(start, stop - _TAIL) : stop]
    is_item = stop - start < _TAIL and before.strip().isdecimal()
    return not is_item and not _ABBREVIATION.search(before)


def _marked(text: str, gap: str) -> str:
    """The text with spaces around tokens and numbers, and the gap for each sign of ASCII that is in no number."""

    def mark(found: re.Match[str]) -> str:
        number: str | None = found[1]
        return gap if number is None else f" {number.replace(',', '')} "

    return _LONE_ACCENT.sub("", _NUMBER_OR_SIGN.sub(mark, normalised(text).translate(_SPREAD)))
