"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

from typing import Any

__all__ = ["safe_cell"]

# What a spreadsheet takes for the beginning of a formula: the wide forms too, as East Asian ones do.
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
_CONTROL = frozenset("\t\r\n")


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet runs.

    Names, ids and labels are written by strangers, and a spreadsheet runs what looks like a formula. So a text that
    begins with one of ``= + - @``, blanks before it or not, or with a tab or a line break gets an apostrophe in front,
    by which a spreadsheet takes it for text. Numbers stay numbers: give them as such, not as text.

    Args:
        value: What ``csv.writer`` will write.

    Returns:
        Text made safe, its lone surrogates as ``\\\\udc..``; ``true`` or ``false`` for a boolean; all else as it came.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value  # csv writes None as an empty cell and a float with all its digits
    text = value.encode("utf-8", "backslashreplace").decode("utf-8")
    harmless = text[:1] not in _CONTROL and text.lstrip()[:1] not in _FORMULA
    return text if harmless else "'" + text
