"""The operator's configuration: ``config.yaml`` and the environment (``AUTOSCORER_*``), checked by name.

A file is read from, in this order: ``--config``, ``AUTOSCORER_CONFIG``, ``<home>/config.yaml``. Never from the
current folder: that may be a submission's, and the configuration decides what a submission may do.
The environment wins over the file: ``AUTOSCORER_SECURITY__LIMITS__MEMORY=8Gi``. An unknown key is an error in both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ..schemas.job import Bytes
from .errors import AutoScorerError, ErrorCode, Stage, suggest

__all__ = ["Settings", "load_settings"]

Gi = 1024**3
Mi = 1024**2
DEFAULT_HOME = Path("~/.autoscorer")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DockerExecutor(_Section):
    """How to reach the Docker Engine and how its containers run."""

    base_url: str | None = Field(None, description="DOCKER_HOST or the default socket when absent.")
    user: str | None = Field(
        None,
        pattern=r"^[0-9]+:[0-9]+$",
        description="uid:gid of the model; by default the caller's own, or 65534:65534 when the caller is root.",
    )
    runtime: str | None = Field(None, description="OCI runtime such as runsc (gVisor) or kata; the engine's default.")

    @field_validator("user")
    @classmethod
    def _never_root(cls, value: str | None) -> str | None:
        if value is not None and 0 in map(int, value.split(":")):
            raise ValueError("the model must not run as uid or gid 0")
        return value


class Executors(_Section):
    """Which backend runs a model."""

    default: Literal["auto", "docker", "process"] = "auto"
    docker: DockerExecutor = Field(default_factory=DockerExecutor)


class Images(_Section):
    """Where images come from."""

    pull_policy: Literal["always", "ifnotpresent", "never"] = "ifnotpresent"
    registry_prefix: str = Field("", description="Put before references that name no registry, such as a mirror.")
    pull_timeout: float = Field(900, gt=0, description="Seconds.")
    pull_retries: int = Field(2, ge=0, le=10)
    build_timeout: float = Field(1800, gt=0, description="Seconds.")
    build_network: Literal["default", "none"] = Field("default", description="Network of RUN steps in a build.")
    build_args: dict[str, str] = Field(default_factory=dict, description="Such as BASE_IMAGE, for every build.")
    max_archive: Bytes = Field(20 * Gi, description="Largest image.tar, unpacked, in bytes.")


class ResourceLimits(_Section):
    """The most a job may ask for, and what is not for a job to choose."""

    cpu: float = Field(64, gt=0)
    memory: Bytes = 64 * Gi
    gpu: int = Field(8, ge=0)
    disk: Bytes = 64 * Gi
    shm_size: Bytes = 8 * Gi
    timeout: float = Field(24 * 3600, gt=0, description="Seconds.")
    pids: int = Field(256, ge=8, description="Processes and threads of one model.")
    nofile: int = Field(4096, ge=64, description="Open files of one process.")
    tmp: Bytes = Field(256 * Mi, description="Size of /tmp; it lies in memory and counts as such.")
    output_files: int = Field(10_000, ge=1, description="Files and folders a model may leave in output.")
    free_disk: Bytes = Field(
        1 * Gi, description="Room the workspaces' disk keeps: no run is started, and none goes on, with less free."
    )
    log: Bytes = Field(4 * Mi, description="Bytes of container.log that are kept: half its head, half its tail.")


class ResourceDefaults(_Section):
    """What a job gets that asks for nothing."""

    cpu: float = Field(1, gt=0)
    memory: Bytes = 2 * Gi
    gpu: int = Field(0, ge=0)
    disk: Bytes = 1 * Gi
    shm_size: Bytes = 64 * Mi


class Security(_Section):
    """What a submission may do."""

    allowed_images: tuple[str, ...] = Field(("*",), description="Patterns (*, ?) of image references.")
    # Whoever restricts the images means it for those that a workspace brings along, too.
    allow_build: bool | None = Field(
        None, description="Build the workspace's Dockerfile; when absent, only where allowed_images allows every image."
    )
    allow_image_archive: bool | None = Field(
        None, description="Load the workspace's image.tar or image.tar.gz; when absent, as for allow_build."
    )
    network_policies: tuple[Literal["none", "bridge"], ...] = ("none",)
    limits: ResourceLimits = Field(default_factory=ResourceLimits)
    defaults: ResourceDefaults = Field(default_factory=ResourceDefaults)

    @property
    def builds(self) -> bool:
        """Whether a workspace's Dockerfile is built."""
        return "*" in self.allowed_images if self.allow_build is None else self.allow_build

    @property
    def archives(self) -> bool:
        """Whether a workspace's image archive is loaded."""
        return "*" in self.allowed_images if self.allow_image_archive is None else self.allow_image_archive


class Scorers(_Section):
    """Where custom scorers come from."""

    dirs: tuple[Path, ...] = ()
    entry_points: bool = Field(True, description="Scorers of installed packages.")


class PrefectSection(_Section):
    """The Prefect server that records runs."""

    api_url: str | None = Field(None, description="PREFECT_API_URL or Prefect's own profile when absent.")
    api_key: SecretStr | None = None


class Settings(BaseSettings):
    """The whole configuration; see ``autoscorer config show``."""

    model_config = SettingsConfigDict(
        env_prefix="AUTOSCORER_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    home: Path = Field(DEFAULT_HOME, description="State of this installation.")
    executors: Executors = Field(default_factory=Executors)
    images: Images = Field(default_factory=Images)
    security: Security = Field(default_factory=Security)
    scorers: Scorers = Field(default_factory=Scorers)
    prefect: PrefectSection = Field(default_factory=PrefectSection)

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
        return env_settings, init_settings

    def to_dict(self) -> dict[str, Any]:
        """The effective configuration as JSON, secrets masked."""
        return self.model_dump(mode="json")


def load_settings(path: Path | str | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: A YAML file that must exist; the usual places when None.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` at stage ``config``, naming every unknown key and wrong value.
    """
    try:
        source, must_exist = _config_file(path)
    except ValueError as error:
        raise _wrong([str(error)]) from None
    values: dict[str, Any] = {}
    if must_exist or source.is_file():
        values = _read_yaml(source)
    problems = _unknown_environment()
    for key in values:
        # Checked here, because BaseSettings takes some names (_env_file) as orders to itself.
        if key not in Settings.model_fields:
            problems.append(f"{key}: unknown key in {source}{suggest(key, Settings.model_fields)}")
    if not problems:
        try:
            return Settings(**values)
        except ValidationError as error:
            problems = [_explain(item, str(source)) for item in error.errors(include_url=False, include_context=False)]
        except ValueError as error:  # a nested variable that is no JSON where JSON is needed
            problems = [f'environment: {error}; lists and sections are written as JSON, such as ["a", "b"]']
    raise _wrong(problems)


def _wrong(problems: list[str]) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        "The configuration is wrong: " + "; ".join(problems),
        stage=Stage.CONFIG,
        details={"problems": problems},
    )


def _config_file(path: Path | str | None) -> tuple[Path, bool]:
    named = path or os.environ.get("AUTOSCORER_CONFIG")
    if named:
        return _expanded(Path(named)), True
    return _expanded(Path(os.environ.get("AUTOSCORER_HOME") or DEFAULT_HOME)) / "config.yaml", False


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
            # PyYAML takes the last of two equal keys; a section that stands twice would loosen a limit in silence.
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} stands twice", node.start_mark
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
    known = {f"AUTOSCORER_{name.upper()}": field for name, field in Settings.model_fields.items()}
    for variable in sorted(os.environ):
        upper = variable.upper()
        if upper.startswith("AUTOSCORER_") and upper not in Settings.not_settings:
            section, _, below = upper.partition("__")
            # pydantic ignores what stands below a plain value, too.
            if section not in known or (below and not hasattr(known[section].annotation, "model_fields")):
                problems.append(f"environment: {variable} is no setting{suggest(section, known)}")
            # Which of the two wins is a matter of their order in the environment.
            if any(other.upper().startswith(upper + "__") for other in os.environ):
                problems.append(f"environment: {variable} and {variable}__… set the same section; use one of them")
    return problems


def _explain(item: Any, where: str) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        hint = suggest(str(item["loc"][-1]), _keys_beside(item["loc"]))
        return f"{path}: unknown key in {where} or the environment{hint}"
    message = str(item["msg"]).removeprefix("Value error, ")
    # What stands there may be a key in the wrong place.
    secret = item["loc"][0] == "prefect"
    return f"{path}: {message}" if secret or "got " in message else f"{path}: {message}, got {item['input']!r}"


def _keys_beside(location: tuple[Any, ...]) -> list[str]:
    model: Any = Settings
    for part in location[:-1]:
        field = model.model_fields.get(part)
        if field is None:
            return []
        model = field.annotation
    return list(getattr(model, "model_fields", {}))
