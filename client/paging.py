"""A listing, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .connection import Connection

__all__ = ["pages"]

Json = dict[str, Any]

# The most that the API lists on one page.
PAGE = 500


def pages(api: Connection, path: str, params: Mapping[str, Any], items: str, limit: int | None) -> Iterator[Json]:
    """The pages of a listing, until they hold as many items as are wanted; the last may hold more.

    Args:
        api: The API.
        path: Of the listing.
        params: What is asked for.
        items: The key under which a page has its items.
        limit: Most items; all when None.

    Raises:
        AutoScorerError: As the API answers.
    """
    found = 0
    cursor: dict[str, str] = {}
    while True:
        size = PAGE if limit is None else min(max(limit - found, 1), PAGE)
        page = api.get(path, {**params, **cursor, "limit": size})
        yield page
        found += len(page[items])
        if page["next_cursor"] is None or (limit is not None and found >= limit):
            return
        cursor = {"cursor": page["next_cursor"]}
