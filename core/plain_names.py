"""Which characters a stranger's name of a file or workspace must not hold: those that are not seen."""

from __future__ import annotations

import unicodedata

__all__ = ["has_hidden_characters"]

# Of Unicode: control characters; format characters, such as those that turn the direction of the text around them
# (gpj.exe for exe.jpg), join, or take no room; separators of lines and paragraphs; halves of characters.
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def has_hidden_characters(name: str) -> bool:
    """Whether a name holds what is not seen: a list, a log or a page would show another name than there is.

    Args:
        name: Of a file, a folder or a workspace, or a path of them.
    """
    return any(unicodedata.category(char) in _HIDDEN for char in name)
