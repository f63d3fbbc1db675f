"""How many examples Hypothesis tries: all of them in the whole suite, a few with `scripts/test --fast`."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["examples"]

settings.register_profile("fast", max_examples=15)


def examples(count: int) -> int:
    """That many where the profile has its usual hundred, and in proportion where it has fewer."""
    return max(5, count * settings.default.max_examples // 100)
