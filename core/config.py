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
        if value is not None and int(value.split(":")[0]) == 0:
            raise ValueError("the model must not run as uid 0")
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
    allow_build: bool = Field(True, description="Build the workspace's Dockerfile.")
    allow_image_archive: bool = Field(True, description="Load the workspace's image.tar or image.tar.gz.")
    network_policies: tuple[Literal["none", "bridge"], ...] = ("none",)
    limits: ResourceLimits = Field(default_factory=ResourceLimits)
    defaults: ResourceDefaults = Field(default_factory=ResourceDefaults)


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

    home: Path = Field(Path("~/.autoscorer"), description="State of this installation.")
    executors: Executors = Field(default_factory=Executors)
    images: Images = Field(default_factory=Images)
    security: Security = Field(default_factory=Security)
    scorers: Scorers = Field(default_factory=Scorers)
    prefect: PrefectSection = Field(default_factory=PrefectSection)

    # Set in the environment, but no setting: where the file is, and what a model's own container is told.
    not_settings: ClassVar[frozenset[str]] = frozenset({"AUTOSCORER_CONFIG", "AUTOSCORER_WORKSPACE"})

    @field_validator("home")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

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
    source, must_exist = _config_file(path)
    values: Any = {}
    if must_exist or source.is_file():
        values = _read_yaml(source)
    where = str(source)
    problems = _unknown_environment()
    if not problems:
        try:
            return Settings(**values)
        except ValidationError as error:
            problems = [_explain(item, where) for item in error.errors(include_url=False, include_context=False)]
        except ValueError as error:  # a nested variable that is no JSON where JSON is needed
            problems = [f"environment: {error}"]
    raise AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        "The configuration is wrong: " + "; ".join(problems),
        stage=Stage.CONFIG,
        details={"problems": problems},
    )


def _config_file(path: Path | str | None) -> tuple[Path, bool]:
    named = path or os.environ.get("AUTOSCORER_CONFIG")
    if named:
        return Path(named).expanduser(), True
    home = os.environ.get("AUTOSCORER_HOME") or "~/.autoscorer"
    return Path(home).expanduser() / "config.yaml", False


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    def fail(why: str) -> AutoScorerError:
        return AutoScorerError(ErrorCode.INVALID_REQUEST, f"The configuration {path.name} {why}.", stage=Stage.CONFIG)

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise fail("does not exist; give --config an existing YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"can't be read: {error}") from None
    except yaml.YAMLError as error:
        raise fail(f"is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise fail(f"must hold a mapping of sections, not {type(values).__name__}")
    return values


def _unknown_environment() -> list[str]:
    """pydantic-settings ignores a variable it does not know; a typo must not loosen a limit in silence."""
    problems = []
    known = {f"AUTOSCORER_{name.upper()}" for name in Settings.model_fields}
    for variable in sorted(os.environ):
        upper = variable.upper()
        if upper.startswith("AUTOSCORER_") and upper not in Settings.not_settings:
            section = upper.split("__")[0]
            if section not in known:
                problems.append(f"environment: {variable} is no setting{suggest(section, known)}")
    return problems


def _explain(item: Any, where: str) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        hint = suggest(str(item["loc"][-1]), _keys_beside(item["loc"]))
        return f"{path}: unknown key in {where} or the environment{hint}"
    return f"{path}: {item['msg']}, got {item['input']!r}"


def _keys_beside(location: tuple[Any, ...]) -> list[str]:
    model: Any = Settings
    for part in location[:-1]:
        field = model.model_fields.get(part)
        if field is None:
            return []
        model = field.annotation
    return list(getattr(model, "model_fields", {}))
