"""Why a model could not be asked: one error with a reason, and nothing of keys, hosts or prompts in it."""

from __future__ import annotations

from typing import Any, Literal

from ...core.errors import AutoScorerError, ErrorCode

__all__ = ["JudgeFailure", "Reason", "failure", "reason_of"]

Reason = Literal[
    "unreachable",
    "timeout",
    "rate_limited",
    "server_error",
    "refused",
    "unauthorized",
    "not_found",
    "bad_answer",
    "truncated",
    "content_filtered",
    "budget",
    "deadline",
]

_SENTENCES: dict[Reason, str] = {
    "unreachable": "could not be reached",
    "timeout": "did not answer in time",
    "rate_limited": "takes no more calls for now",
    "server_error": "failed",
    "refused": "refuses this call",
    "unauthorized": "does not accept the key that is configured",
    "not_found": "does not know this model, or its base_url is wrong",
    "bad_answer": "gave no answer that can be used",
    "truncated": "gave an answer that was cut, with four times max_tokens as well",
    "content_filtered": "declined to answer",
    "budget": "does not say how many tokens its answers take, so that no budget can hold",
    "deadline": "had not given all answers when the job's time was up",
}


class JudgeFailure(AutoScorerError):
    """A model could not be asked.

    Attributes:
        said: The server's own words, for the log and for nobody else: they may quote the prompt.
        retry_after: Seconds that the server asks to wait; None where it does not.
    """

    said: str = ""
    retry_after: float | None = None

    @property
    def reason(self) -> Reason:
        reason: Reason = self.details["reason"]
        return reason

    @property
    def retryable(self) -> bool:
        return bool(self.details["retryable"])

    @property
    def status(self) -> int | None:
        status: int | None = self.details["status"]
        return status


def failure(
    reason: Reason,
    *,
    profile: str,
    model: str,
    status: int | None = None,
    retryable: bool = False,
    why: str = "",
    said: str = "",
) -> JudgeFailure:
    """The error of one reason.

    Args:
        reason: Why.
        profile: Name of the profile.
        model: The model that was asked.
        status: HTTP status of the answer, where there was one.
        retryable: Whether the same call may go well at another time.
        why: What else our own code knows of it; nothing of a server's or a prompt's words.
        said: The server's words, which stay out of the error's message and details.
    """
    answered = f" (HTTP status {status})" if status is not None and status >= 300 else ""
    error = JudgeFailure(
        ErrorCode.JUDGE_ERROR,
        f"The model {model!r} of the profile {profile!r} {_SENTENCES[reason]}{answered}{why and f': {why}'}.",
        details={
            "reason": reason,
            "profile": profile,
            "model": model,
            "status": status,
            "retryable": retryable,
        },
    )
    error.said = said
    return error


def reason_of(error: AutoScorerError) -> Any:
    """The reason in an error's details; None where there is none."""
    return error.details.get("reason")
