"""One answer that follows a schema, in the strictest form that the server knows; mended once where it does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from ...core.bounds import shortened
from .failures import JudgeFailure, Reason, failure
from .prompt import Prompt, neutral
from .schema import Schema, parsed

__all__ = ["Asked", "Dialect", "Post", "structured_answer"]

Post = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
Form = Literal["json_schema", "json_schema without lengths", "json_object", "text"]

_FORMS: dict[str, tuple[Form, ...]] = {
    "auto": ("json_schema", "json_schema without lengths", "json_object", "text"),
    "json_schema": ("json_schema", "json_schema without lengths"),
    "json_object": ("json_object",),
    "text": ("text",),
}
# Further tries at an answer that was cut, each with twice the tokens; and at one that is empty.
_LONGER, _AGAIN = 2, 2
# Characters of a wrong answer that its author is shown again.
_SHOWN = 8000
# Any other seed: with the same one a server may well repeat itself.
_OTHER_SEED = 7919


@dataclass(frozen=True)
class Asked:
    """What a call is made of, beside the form that the answer must have.

    Args:
        model: The model.
        prompt: What it is asked.
        schema: What the answer must follow.
        temperature: None to send none.
        seed: None to send none.
        max_tokens: Tokens of the answer.
    """

    model: str
    prompt: Prompt
    schema: Schema
    temperature: float | None
    seed: int | None
    max_tokens: int


class Dialect:
    """What is known of a server and a model: which forms it refuses, and what it calls the limit of tokens.

    Args:
        structured: As in the configuration.
    """

    def __init__(self, structured: str) -> None:
        self._forms = _FORMS[structured]
        self._limit_name = "max_tokens"

    async def send(
        self, post: Post, asked: Asked, messages: list[dict[str, str]], limit: int, seed: int | None
    ) -> tuple[dict[str, Any], Form]:
        """The server's answer in the first form that it does not refuse, and that form."""
        name = self._limit_name
        for form in self._forms:
            try:
                answer = await post(_body(asked, messages, form, name, limit, seed))
            except JudgeFailure as refused:
                if refused.reason != "refused" or refused.status not in (400, 422):
                    raise
                last = refused
                if "max_completion_tokens" in refused.said and name == "max_tokens":
                    self._limit_name = "max_completion_tokens"
                    return await self.send(post, asked, messages, limit, seed)
                continue
            # Learned only now: a request that is refused in every form is wrong in itself.
            if form in self._forms:
                self._forms = self._forms[self._forms.index(form) :]
            return answer, form
        raise last


async def structured_answer(post: Post, dialect: Dialect, asked: Asked, *, profile: str) -> dict[str, Any]:
    """Ask until the answer follows its schema, or can't.

    Args:
        post: Makes one call, and counts it.
        dialect: Of the server and the model.
        asked: What is asked.
        profile: Named in errors.

    Raises:
        AutoScorerError: What ``post`` raises; ``JUDGE_ERROR`` for ``bad_answer``, ``truncated`` or
            ``content_filtered``.
    """

    def fail(reason: Reason, why: str = "") -> JudgeFailure:
        retryable = reason in ("bad_answer", "truncated")
        return failure(reason, profile=profile, model=asked.model, retryable=retryable, why=why)

    messages = [
        {"role": "system", "content": asked.prompt.system},
        {"role": "user", "content": asked.prompt.user},
    ]
    limit, longer, again, mended = asked.max_tokens, 0, 0, False
    while True:
        seed = None if asked.seed is None else asked.seed + again * _OTHER_SEED
        try:
            answer, form = await dialect.send(post, asked, messages, limit, seed)
        except JudgeFailure as refused:
            if longer and refused.reason == "refused":  # more than the model can give
                raise fail("truncated") from None
            raise
        text, finish, declined = _first_choice(answer)
        if declined:
            raise fail("content_filtered")
        value, problem = _checked(text, asked.schema, form)
        if value is not None:
            return value
        if finish == "length":
            if longer == _LONGER:
                raise fail("truncated")
            longer, limit = longer + 1, 2 * limit
        elif not text:
            if again == _AGAIN:
                raise fail("bad_answer", "it is empty")
            again += 1
        else:
            if mended:
                raise fail("bad_answer", problem)
            # Another question: it may be cut as often as the first.
            mended, limit, longer = True, asked.max_tokens, 0
            messages += [
                {"role": "assistant", "content": neutral(shortened(text, _SHOWN))},
                {
                    "role": "user",
                    "content": f"This answer can't be used: {problem}. Answer again, with one JSON object of this JSON "
                    f"schema and nothing else: {asked.schema.text}",
                },
            ]


def _body(
    asked: Asked, messages: list[dict[str, str]], form: Form, name: str, limit: int, seed: int | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"model": asked.model, "messages": messages, name: limit}
    if asked.temperature is not None:
        body["temperature"] = asked.temperature
    if seed is not None:
        body["seed"] = seed
    if form in ("json_object", "text"):
        # Behind all data, in the first message of the user.
        first = f"{messages[1]['content']}\n\nAnswer with one JSON object of this JSON schema and nothing else: "
        body["messages"] = [messages[0], {"role": "user", "content": first + asked.schema.text}, *messages[2:]]
    if form == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif form != "text":
        document = asked.schema.document if form == "json_schema" else asked.schema.without_lengths
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": document},
        }
    return body


def _first_choice(answer: dict[str, Any]) -> tuple[str, Any, bool]:
    """Text, why it ended, and whether the model declined; an answer without a choice is empty."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return "", None, False
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    content, finish = message.get("content"), choice.get("finish_reason")
    text = content.strip() if isinstance(content, str) else ""
    return text, finish, bool(message.get("refusal")) or finish == "content_filter"


def _checked(text: str, schema: Schema, form: Form) -> tuple[dict[str, Any] | None, str]:
    """The value of an answer that follows the schema, or None and what is wrong with it."""
    if not text:
        return None, "it is empty"
    try:
        # A fence comes from a server that takes the form and does not heed it.
        value = parsed(text, loose=form == "text" or text.startswith("```"))
    except ValueError as error:
        return None, str(error)
    problem = schema.problem(value)
    return (value, "") if problem is None else (None, problem)
