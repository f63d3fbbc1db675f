"""The operator's configuration: ``config.yaml`` and the environment (``AUTOSCORER_*``), checked by name.

A file is read from, in this order: ``--config``, ``AUTOSCORER_CONFIG``, ``<home>/config.yaml``. Never from the
current folder: that may be a submission's, and the configuration decides what a submission may do.
The environment wins over the file: ``AUTOSCORER_SECURITY__LIMITS__MEMORY=8Gi``. An unknown key is an error in both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from .config_judge import EmbeddingsSection, JudgeSection
from .config_sections import Api, Callbacks, Executors, Images, PrefectSection, Scorers, Security, Service
from .config_spellings import Spelled, in_our_words, keys_below, score_token, unread_notes
from .config_tokens import ApiToken, parse_tokens
from .errors import AutoScorerError, ErrorCode, Stage, suggest

__all__ = ["Settings", "home_config", "load_settings", "named_config"]

DEFAULT_HOME = Path("~/.autoscorer")
# A section of the first system that is none of ours, so that pydantic-settings does not look for its variables.
_CELERY = "AUTOSCORER_CELERY"
# Settings that are secrets, and sections that hold some.
_SECRETIVE = ("prefect", "callbacks", "judge", "embeddings", "api_token", "api_tokens", "ledger_url")


class Settings(BaseSettings):
    """The whole configuration; see ``autoscorer config show``."""

    model_config = SettingsConfigDict(
        env_prefix="AUTOSCORER_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    home: Path = Field(
        DEFAULT_HOME, description="Run records, the API's ledger, the list of loaded scorer files, config.yaml."
    )
    ledger_url: SecretStr | None = Field(
        None,
        description="The database of accepted tasks: `postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE` "
        "(`?schema=NAME`, else `autoscorer`) for several APIs, or `sqlite+aiosqlite:////absolute/path`; "
        "`ledger.sqlite3` in the home when absent.",
    )
    workspace_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="Folders that the API takes workspaces from; the folder it was started in when empty.",
    )
    api_tokens: SecretStr | None = Field(
        None,
        description="Who may ask the API: `submit:TOKEN,submit:TOKEN@TEAM,organiser:TOKEN@BENCHMARK,admin:TOKEN`, "
        "beside the home's `tokens.json`; its own user on this machine alone when there are neither.",
    )
    api_url: str | None = Field(
        None,
        description="The API that `submit`, `status` and the like talk to; `api.port` of this machine when absent.",
    )
    api_token: SecretStr | None = Field(
        None,
        description="The token they show to it; for this machine's API the home's `api-token`, if there is one, when "
        "absent.",
    )
    executors: Executors = Field(default_factory=Executors)
    images: Images = Field(default_factory=Images)
    security: Security = Field(default_factory=Security)
    scorers: Scorers = Field(default_factory=Scorers)
    prefect: PrefectSection = Field(default_factory=PrefectSection)
    api: Api = Field(default_factory=Api)
    service: Service = Field(default_factory=Service)
    callbacks: Callbacks = Field(default_factory=Callbacks)
    judge: JudgeSection = Field(default_factory=JudgeSection)
    embeddings: EmbeddingsSection = Field(default_factory=EmbeddingsSection)

    _source: Path | None = PrivateAttr(None)
    _notes: tuple[str, ...] = PrivateAttr(())
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)
    # Beside ``api_tokens``, wherever those stand; no field, so that nothing shows it.
    _score_token: SecretStr | None = PrivateAttr(None)

    # Set in the environment, but no setting: where the file is, and what a model's own container is told.
    not_settings: ClassVar[frozenset[str]] = frozenset({"AUTOSCORER_CONFIG", "AUTOSCORER_WORKSPACE"})

    @field_validator("home", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        # As for every XDG variable; an empty path would be the current folder.
        return DEFAULT_HOME if value == "" else value

    @field_validator("home")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return _expanded(value).absolute()

    @field_validator("workspace_roots", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("workspace_roots")
    @classmethod
    def _expand_each(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(_expanded(path).absolute() for path in value)

    @field_validator("ledger_url")
    @classmethod
    def _known_database(cls, value: SecretStr | None) -> SecretStr | None:
        # Without what stands there: it may hold a password.
        if value is None or not value.get_secret_value():
            return None
        url = urlsplit(value.get_secret_value())
        if url.scheme in ("sqlite", "sqlite+aiosqlite"):
            if not url.path.startswith("//") or url.netloc or url.query:
                raise ValueError("a file must be absolute, with four slashes: sqlite+aiosqlite:////srv/ledger.sqlite3")
        elif url.scheme not in ("postgresql", "postgresql+asyncpg") or not url.path.strip("/"):
            raise ValueError(
                "it must be postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE or sqlite+aiosqlite:////absolute/path"
            )
        return value

    @field_validator("api_tokens")
    @classmethod
    def _readable(cls, value: SecretStr | None) -> SecretStr | None:
        parse_tokens(value.get_secret_value() if value is not None else "")
        return value

    @property
    def source(self) -> Path | None:
        """The file that some of it was read from, absolute; None where there was none."""
        return self._source

    @property
    def notes(self) -> tuple[str, ...]:
        """What the operator must know of it: keys that are accepted and not read."""
        return self._notes

    @property
    def given(self) -> Mapping[str, Any]:
        """The keys that stand in that file, as they are nested there; without their values, which may be secret."""
        return self._given

    @property
    def has_shared_ledger(self) -> bool:
        """Whether the ledger is in PostgreSQL, where homes on many hosts may have it in common."""
        return self.ledger_url is not None and self.ledger_url.get_secret_value().startswith("postgresql")

    @property
    def tokens(self) -> tuple[ApiToken, ...]:
        """``api_tokens``, and that of ``SCORE_API_TOKEN``, which may submit, where it is none of them."""
        found = parse_tokens(self.api_tokens.get_secret_value() if self.api_tokens is not None else "")
        if self._score_token is None:
            return found
        theirs = self._score_token.get_secret_value()
        return found if any(each.token == theirs for each in found) else (*found, ApiToken("submit", theirs))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The file's values come in as init arguments, and the environment wins over them.
        return _Environment(settings_cls), init_settings

    def to_dict(self) -> dict[str, Any]:
        """The effective configuration as JSON, secrets masked."""
        return self.model_dump(mode="json")


class _Environment(EnvSettingsSource):
    """The environment in our spellings."""

    def spelled(self) -> Spelled:
        """What it holds.

        Raises:
            ValueError: A variable is no JSON where JSON is needed.
        """
        values = super().__call__()
        celery = {
            variable.upper().removeprefix(_CELERY + "__").lower(): value
            for variable, value in os.environ.items()
            if variable.upper().startswith(_CELERY + "__")
        }
        whole = next((value for variable, value in os.environ.items() if variable.upper() == _CELERY), None)
        if celery or whole is not None:
            values = {**values, "celery": celery or whole}
        return in_our_words(values, "environment")

    def __call__(self) -> dict[str, Any]:
        spelled = self.spelled()
        if spelled.problems:
            raise ValueError("; ".join(spelled.problems))
        return spelled.values


def load_settings(path: Path | str | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: A YAML file that must exist; the usual places when None.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` at stage ``config``, naming every unknown key and wrong value.
    """
    source, must_exist = _config_file(path)
    written: dict[str, Any] = {}
    if must_exist or source.is_file():
        written = _read_yaml(source)
    problems = _unknown_environment()
    try:
        environment = _Environment(Settings).spelled()
    except ValueError as error:  # a nested variable that is no JSON where JSON is needed
        problems.append(f'environment: {error}; lists and sections are written as JSON, such as ["a", "b"]')
        raise _wrong(problems) from None
    file = in_our_words(written, str(source))
    problems += file.problems + environment.problems
    for key in file.values:
        # Checked here, because BaseSettings takes some names (_env_file) as orders to itself.
        if key not in Settings.model_fields:
            problems.append(f"{key}: unknown key in {source}{suggest(key, [*Settings.model_fields, *keys_below('')])}")
    if not problems:
        try:
            settings = Settings(**file.values)
        except ValidationError as error:
            renamed = {**file.renamed, **environment.renamed}
            problems = [
                _explain(item, str(source), renamed) for item in error.errors(include_url=False, include_context=False)
            ]
        else:
            settings._source = source.absolute() if written else None
            settings._given = _keys_of(file.values)
            settings._score_token = score_token()
            settings._notes = unread_notes({**file.unread, **environment.unread})
            return settings
    raise _wrong(problems)


def _keys_of(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _keys_of(value) if isinstance(value, Mapping) else None for key, value in values.items()}


def _wrong(problems: list[str]) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        "The configuration is wrong: " + "; ".join(problems),
        stage=Stage.CONFIG,
        details={"problems": problems},
    )


def named_config(path: Path | str) -> Path:
    """The file that ``--config`` or ``AUTOSCORER_CONFIG`` names.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` at stage ``config`` where its home folder is unknown.
    """
    try:
        return _expanded(Path(path))
    except ValueError as error:
        raise _wrong([str(error)]) from None


def home_config() -> Path:
    """The file that is read where none is named.

    Raises:
        AutoScorerError: As ``named_config``.
    """
    return named_config(os.environ.get("AUTOSCORER_HOME") or DEFAULT_HOME) / "config.yaml"


def _config_file(path: Path | str | None) -> tuple[Path, bool]:
    named = path or os.environ.get("AUTOSCORER_CONFIG")
    return (named_config(named), True) if named else (home_config(), False)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # a container may run as a uid that has no name and no HOME
        raise ValueError(f"{path} begins with a home folder that is unknown here; set AUTOSCORER_HOME") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    def fail(why: str) -> AutoScorerError:
        return AutoScorerError(ErrorCode.INVALID_REQUEST, f"The configuration {path.name} {why}.", stage=Stage.CONFIG)

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            # PyYAML takes the last of two equal keys; a section that appears twice would loosen a limit in silence.
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} appears twice", node.start_mark
                    )
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=Strict)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise fail("does not exist; give --config an existing YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"can't be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2001-13-45 looks like a date and is none
        raise fail(f"is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise fail("is nested too deeply") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise fail(f"must hold a mapping of sections, not {type(values).__name__}")
    return values


def _unknown_environment() -> list[str]:
    """Variables that pydantic-settings would ignore; a typo must not loosen a limit in silence."""
    problems = []
    known = {f"AUTOSCORER_{name.upper()}": field.annotation for name, field in Settings.model_fields.items()}
    known[_CELERY] = BaseModel
    for variable in sorted(os.environ):
        upper = variable.upper()
        if upper.startswith("AUTOSCORER_") and upper not in Settings.not_settings:
            section, _, below = upper.partition("__")
            # pydantic ignores what stands below a plain value, too.
            if section not in known or (below and not hasattr(known[section], "model_fields")):
                problems.append(f"environment: {variable} is not a setting{suggest(section, known)}")
            # Which of the two wins is a matter of their order in the environment.
            if any(other.upper().startswith(upper + "__") for other in os.environ):
                problems.append(f"environment: {variable} and {variable}__… set the same section; use one of them")
    return problems


def _explain(item: Any, where: str, renamed: Mapping[str, str]) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if path in renamed:
        path = f"{path} (written as {renamed[path]})"
    if item["type"] == "extra_forbidden":
        hint = suggest(str(item["loc"][-1]), _keys_beside(item["loc"]))
        return f"{path}: unknown key in {where} or the environment{hint}"
    message = str(item["msg"]).removeprefix("Value error, ")
    # What stands there may be a key in the wrong place.
    secret = item["loc"][0] in _SECRETIVE
    return f"{path}: {message}" if secret or "got " in message else f"{path}: {message}, got {item['input']!r}"


def _keys_beside(location: tuple[Any, ...]) -> list[str]:
    model: Any = Settings
    for part in location[:-1]:
        if get_origin(model) is dict:  # whatever its name is
            model = get_args(model)[1]
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
        if get_origin(model) is not dict:  # a section may be one or None
            model = next((kind for kind in get_args(model) if hasattr(kind, "model_fields")), model)
    names = list(getattr(model, "model_fields", {}))
    return names + keys_below(".".join(str(part) for part in location[:-1]))
