"""Spellings of the first system, which work beside our own. An alias is never a second behaviour: it is replaced by our
spelling where it comes in, and nothing behind that knows it. ``docs/compatibility.md`` shows the same table to people.
"""

from __future__ import annotations

__all__: list[str] = []

# --- commands and HTTP bodies ---

# --- configuration ---

# --- meta.json ---

# --- scorers and metrics ---
