"""What asking has taken: calls, tokens, money. What nobody said stays unknown, and is never zero."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Usage"]


@dataclass(slots=True)
class Usage:
    """What one metric, or one job, has taken.

    Args:
        calls: Answers that a model gave, those that could not be used among them.
        cached: Answers that were there already, or that another call was waiting for; they took nothing.
        prompt_tokens: Tokens of the prompts, as the server counted them.
        completion_tokens: Tokens of the answers, as the server counted them.
        cost: Money; None for good once something of unknown price was added.
        tokens_known: False once a server did not say how many tokens a call took.
    """

    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    tokens_known: bool = True

    @property
    def tokens(self) -> int:
        """All tokens that are known of."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: Usage) -> None:
        """Count what something else has taken."""
        self.calls += other.calls
        self.cached += other.cached
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        self.tokens_known = self.tokens_known and other.tokens_known
