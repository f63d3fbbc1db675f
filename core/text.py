"""Text of strangers made safe to show. Each function is a policy; which one fits depends on who reads the text.

``escape`` loses nothing, for messages and details of errors. ``replace`` is for lines that are only looked at.
``strip`` is for what a program wrote to its terminal. ``visible`` is for pages and pictures.
"""

from __future__ import annotations

import re

__all__ = ["escape", "replace", "strip", "visible"]

# CSI sequences and OSC strings whole, then every control character that is left of others.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Overrides and embeddings of the text direction (a label may not reorder what stands around it), C1 controls and
# noncharacters; lone surrogates can't be encoded at all.
_REPLACED = frozenset(
    [
        *range(0x80, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xD800, 0xE000),
        *range(0xFDD0, 0xFDF0),
        *(plane + last for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)),
    ]
)


def escape(text: str) -> str:
    """Every character that can't be printed as its escape: ``\\x1b``, ``\\u202e``, ``\\udc80``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def replace(text: str, *, keep: str = "") -> str:
    """Every character that can't be printed as U+FFFD, but those of ``keep``, such as a tab."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else "\ufffd" for char in text)


def strip(text: str) -> str:
    """Without terminal escapes and control characters; tabs and newlines stay, CRLF becomes a newline."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


def visible(text: object, *, keep: str = "") -> str:
    """Make any text visible and encodable: no control characters, no lone surrogates, no direction overrides.

    Args:
        text: Anything; ``str()`` of it is used.
        keep: Control characters to leave as they are (``"\\n"`` inside ``<pre>``).

    Returns:
        Text in which every character is allowed in XML 1.0 and in HTML. C0 controls become their control picture
        (``␀``), everything else that may not stand becomes U+FFFD.
    """
    text = text if isinstance(text, str) else str(text)
    if text.isprintable():
        return text
    return "".join(char if char in keep else _picture(char) for char in text)


def _picture(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if code in (0x2028, 0x2029):
        return "\u2424"
    return "\ufffd" if code in _REPLACED else char
