"""An error as a page, for who follows a link in a browser and can't be expected to read JSON."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ..core.errors import AutoScorerError
from .auth import SIGNED

__all__ = ["HTML", "error_page", "is_for_a_person"]

HTML = "text/html; charset=utf-8"


def is_for_a_person(path: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request is a browser's that follows a signed link."""
    return path.startswith(SIGNED) and b"text/html" in headers.get(b"accept", b"")


def error_page(error: AutoScorerError) -> bytes:
    """The error in words."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>AutoScorer</title>\n'
        f"<h1>{escape(error.code.value)}</h1>\n<p>{escape(error.message)}</p>\n"
    ).encode("utf-8", "backslashreplace")
