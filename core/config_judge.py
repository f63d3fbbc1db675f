"""The sections of models that judge and of models that embed: where they are, what they may cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from ..schemas.job import parse_bytes

__all__ = [
    "EmbeddingsPrice",
    "EmbeddingsProfile",
    "EmbeddingsSection",
    "JudgeBudget",
    "JudgePrice",
    "JudgeProfile",
    "JudgeSection",
    "Profile",
]

# No message of this module repeats a value: somebody may have written a key there.


def _base_url(value: str) -> str:
    try:
        url = urlsplit(value)
        url.port  # noqa: B018 - raises for what is no port
    except ValueError:
        raise ValueError("it is no URL; expected one such as https://judge.example/v1") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("it must begin with http:// or https:// and name a host, such as https://judge.example/v1")
    if url.username is not None or url.password is not None:
        raise ValueError("it must hold no user and no password; a key goes into api_key")
    if url.query or url.fragment or any(char.isspace() or not char.isprintable() for char in value):
        raise ValueError("it must end with its path, such as /v1, and hold no white space")
    return value.rstrip("/")


def _header(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    text = value.get_secret_value()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("a key holds printable ASCII characters and no white space")
    return value


def _parse_bytes_or_none(value: Any) -> int:
    return 0 if value in (0, "0") and not isinstance(value, bool) else parse_bytes(value)


BaseUrl = Annotated[str, AfterValidator(_base_url)]
Key = Annotated[SecretStr | None, AfterValidator(_header)]
# They name files, stand in messages and, in lower case, in names of variables.
ProfileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
# As Prefect allows them.
GlobalLimit = Annotated[str, StringConstraints(pattern=r"^[^/%&><]{1,200}$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
CacheSize = Annotated[int, BeforeValidator(_parse_bytes_or_none)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class JudgePrice(_Section):
    """What the tokens of a judge cost, in any currency."""

    prompt: float = Field(ge=0, description="Price of a million tokens of prompts; of all models of the profile.")
    completion: float = Field(ge=0, description="Price of a million tokens of answers.")


class EmbeddingsPrice(_Section):
    """What the tokens of a model that embeds cost, in any currency."""

    prompt: float = Field(ge=0, description="Price of a million tokens; of all models of the profile.")


class Profile(_Section):
    """An OpenAI-compatible endpoint, and what is asked of it at most."""

    base_url: BaseUrl = Field(description="The endpoint with its `/v1`; it is asked without a proxy.")
    model: ModelName = Field(description="The model that is asked where a request names the profile alone.")
    models: tuple[ModelName, ...] = Field((), description="Further models that a request may name.")
    api_key: Key = Field(None, description="Sent as bearer token to that endpoint alone; masked wherever it is shown.")
    concurrency: int = Field(16, ge=1, le=4096, description="Calls at a time, in all processes of the home together.")
    global_limit: GlobalLimit | None = Field(
        None,
        description="A global concurrency limit of Prefect (`prefect gcl create NAME --limit N`): each call takes a "
        "slot of it besides, over all hosts that ask the same Prefect server.",
    )
    timeout: float = Field(60, gt=0, description="Seconds that one call may take.")
    max_attempts: int = Field(
        5, ge=1, le=100, description="Attempts at a call that the endpoint failed or put off (408, 409, 429, 5xx)."
    )

    @property
    def all_models(self) -> tuple[str, ...]:
        """Every model that a request may name, the usual one first."""
        return (self.model, *(name for name in self.models if name != self.model))


class JudgeProfile(Profile):
    """A model that judges."""

    structured: Literal["auto", "json_schema", "json_object", "text"] = Field(
        "auto",
        description="How an answer's form is asked for. `auto` begins with `json_schema` and goes on to the next "
        "where the endpoint refuses it; the others are what they say.",
    )
    votes: int = Field(
        1, ge=1, le=99, description="Answers to each question; more than one wants a temperature above 0."
    )
    temperature: float | None = Field(0, ge=0, le=2, description="Sent with each call; `null` sends none.")
    seed: int | None = Field(0, description="Sent with each call, plus the number of the vote; `null` sends none.")
    max_tokens: int = Field(
        1024, ge=1, description="Tokens of an answer; one that was cut is asked for again with twice and four times."
    )
    price: JudgePrice | None = Field(None, description="What tokens cost; costs are unknown when absent.")


class EmbeddingsProfile(Profile):
    """A model that embeds."""

    batch: int = Field(64, ge=1, le=2048, description="Texts in one call.")
    price: EmbeddingsPrice | None = Field(None, description="What tokens cost; costs are unknown when absent.")


class JudgeBudget(_Section):
    """What may be spent. Calls that are under way when a limit is met are not cut off."""

    job_tokens: int | None = Field(None, ge=0, description="Tokens that one job may take; no limit when absent.")
    job_cost: float | None = Field(None, ge=0, description="Money that one job may cost.")
    caller_tokens_per_day: int | None = Field(None, ge=0, description="Tokens a UTC day for each token of the API.")
    caller_cost_per_day: float | None = Field(None, ge=0, description="Money a UTC day for each token of the API.")
    tokens_per_day: int | None = Field(None, ge=0, description="Tokens a UTC day for all together.")
    cost_per_day: float | None = Field(None, ge=0, description="Money a UTC day for all together.")

    @property
    def limits_money(self) -> bool:
        """Whether costs must be known for it to hold."""
        return (self.job_cost, self.caller_cost_per_day, self.cost_per_day) != (None, None, None)

    @property
    def limits_days(self) -> bool:
        """Whether it asks what was spent today."""
        return (
            self.caller_tokens_per_day,
            self.caller_cost_per_day,
            self.tokens_per_day,
            self.cost_per_day,
        ) != (None, None, None, None)


def _check_default(default: str | None, profiles: Mapping[str, Profile]) -> None:
    if default is not None and default not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise ValueError(f"default names no profile; there are: {known}")


class JudgeSection(_Section):
    """Models that judge."""

    default: str | None = Field(None, description="The profile that judges where a request names none.")
    profiles: dict[ProfileName, JudgeProfile] = Field(
        default_factory=dict, description="Models that may be asked, by names of your own."
    )
    concurrency: int = Field(
        64, ge=1, le=4096, description="Calls at a time to all profiles, in all processes of the home together."
    )
    deadline: float = Field(600, gt=0, description="Seconds that the calls of one job may take.")
    cache: CacheSize = Field(
        256 * 1024**2, description="Bytes of answers that are kept in the home; the least used go first. 0 for none."
    )
    budget: JudgeBudget = Field(default_factory=JudgeBudget)
    require_calibration: bool = Field(
        False, description="Let nothing pass or fail on the scores of a judge without a calibration."
    )

    @model_validator(mode="after")
    def _default_is_there(self) -> JudgeSection:
        _check_default(self.default, self.profiles)
        return self


class EmbeddingsSection(_Section):
    """Models that embed."""

    default: str | None = Field(None, description="The profile that embeds where a request names none.")
    profiles: dict[ProfileName, EmbeddingsProfile] = Field(
        default_factory=dict, description="Models that may be asked, by names of your own."
    )

    @model_validator(mode="after")
    def _default_is_there(self) -> EmbeddingsSection:
        _check_default(self.default, self.profiles)
        return self
