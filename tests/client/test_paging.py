"""A listing is read page by page, as far as it is wanted."""

from __future__ import annotations

from typing import Any

import pytest
from autoscorer.client.paging import PAGE, pages


class Listing:
    """An API with so many things."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.asked: list[int] = []

    def get(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        assert path == "/things" and params["search"] == "a"
        start, size = int(params.get("cursor", 0)), params["limit"]
        self.asked.append(size)
        end = min(start + size, self.total)
        return {"things": list(range(start, end)), "next_cursor": str(end) if end < self.total else None}


@pytest.mark.parametrize(
    ("total", "limit", "read", "asked"),
    [
        (3, None, 3, [PAGE]),
        (2 * PAGE, None, 2 * PAGE, [PAGE, PAGE]),
        (PAGE + 1, None, PAGE + 1, [PAGE, PAGE]),
        (2 * PAGE, PAGE + 7, PAGE + 7, [PAGE, 7]),
        (2 * PAGE, 7, 7, [7]),
        (0, 7, 0, [7]),
    ],
)
def test_as_many_pages_are_read_as_it_takes_and_no_more(
    total: int, limit: int | None, read: int, asked: list[int]
) -> None:
    api = Listing(total)
    found = [thing for page in pages(api, "/things", {"search": "a"}, "things", limit) for thing in page["things"]]  # type: ignore[arg-type]
    assert found == list(range(read))
    assert api.asked == asked
