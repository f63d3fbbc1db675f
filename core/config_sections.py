"""The sections of the configuration, one class a section; ``Settings`` puts them together."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from ..schemas.image_reference import parse_image
from ..schemas.job import MIN_CPU, Bytes, Memory

__all__ = [
    "Api",
    "Callbacks",
    "Disclosure",
    "DockerExecutor",
    "Executors",
    "Images",
    "PrefectSection",
    "ProcessExecutor",
    "ResourceDefaults",
    "ResourceLimits",
    "Scorers",
    "Security",
    "Service",
]

Gi = 1024**3
Mi = 1024**2
# What kernels and engines take at most: PID_MAX_LIMIT, the usual fs.nr_open, and more than any machine has.
MOST_PIDS, MOST_FILES, MOST_CPUS, MOST_GPUS = 4 * Mi, Mi, 8192, 1024
YEAR = 366 * 24 * 3600
MOST_UID = 2**31 - 1


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DockerExecutor(_Section):
    """How to reach the Docker Engine and how its containers run."""

    base_url: str | None = Field(None, description="DOCKER_HOST or the default socket when absent.")
    user: str | None = Field(
        None,
        pattern=r"^[0-9]+:[0-9]+$",
        description="uid:gid of every model; by default the caller's own, or one of uid_range when the caller is root.",
    )
    uid_range: str | None = Field(
        None,
        pattern=r"^[0-9]+-[0-9]+$",
        description="Uids such as 200000-265535 of which each model that runs gets one of its own, and the gid of the "
        "same number; only for root. By default 2100000000-2100065535 when the caller is root.",
    )
    stage_dir: Path | None = Field(
        None,
        description="Folder to stage runs in, on the workspaces' file system: the path that models can read. /var/tmp, "
        "the home or the top of that file system when absent.",
    )
    runtime: str | None = Field(None, description="OCI runtime such as runsc (gVisor) or kata; the engine's default.")
    concurrency: int | None = Field(None, ge=1, description="Models at a time on this host; no limit when absent.")
    host_mount: Path = Field(
        Path("/host"),
        description="Where AutoScorer itself runs in a container: the folder under which the host's /proc and "
        "/sys/fs/cgroup are mounted, read-only.",
    )
    require_full_watch: bool = Field(
        False,
        description="Run no model whose deleted files and refused processes can't be watched from here.",
    )

    @field_validator("user")
    @classmethod
    def _never_root(cls, value: str | None) -> str | None:
        numbers = [int(part) for part in value.split(":")] if value is not None else []
        if 0 in numbers:
            raise ValueError("the model must not run as uid or gid 0")
        if any(number > MOST_UID for number in numbers):
            raise ValueError(f"a uid or gid goes up to {MOST_UID}")
        return value

    @field_validator("uid_range")
    @classmethod
    def _a_range(cls, value: str | None) -> str | None:
        if value is not None:
            low, high = (int(part) for part in value.split("-"))
            if not 1 <= low <= high <= MOST_UID:
                raise ValueError(f"expected the lowest and the highest uid, from 1 (never root) to {MOST_UID}")
        return value

    @field_validator("stage_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("expected a path from the root, such as /srv/autoscorer-runs")
        return value

    @model_validator(mode="after")
    def _one_user_or_many(self) -> DockerExecutor:
        if self.user is not None and self.uid_range is not None:
            raise ValueError("user gives all models one uid, uid_range each its own; set one of the two")
        return self


class ProcessExecutor(_Section):
    """Models run unsealed on this host."""

    concurrency: int | None = Field(None, ge=1, description="Models at a time on this host; no limit when absent.")


class Executors(_Section):
    """Which backend runs a model."""

    default: Literal["auto", "docker", "process"] = "auto"
    docker: DockerExecutor = Field(default_factory=DockerExecutor)
    process: ProcessExecutor = Field(default_factory=ProcessExecutor)


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

    @field_validator("registry_prefix")
    @classmethod
    def _begins_a_reference(cls, value: str) -> str:
        if value:
            parse_image(f"{value.rstrip('/')}/image")
        return value


class ResourceLimits(_Section):
    """The most a job may ask for, and what is not for a job to choose."""

    cpu: float = Field(64, ge=MIN_CPU, le=MOST_CPUS)
    memory: Memory = 64 * Gi
    gpu: int = Field(8, ge=0, le=MOST_GPUS)
    disk: Bytes = 64 * Gi
    shm_size: Bytes = 8 * Gi
    timeout: float = Field(24 * 3600, gt=0, le=YEAR, description="Seconds.")
    pids: int = Field(256, ge=8, le=MOST_PIDS, description="Processes and threads of one model.")
    nofile: int = Field(4096, ge=64, le=MOST_FILES, description="Open files of one process.")
    tmp: Bytes = Field(256 * Mi, description="Size of /tmp; it lies in memory and counts as such.")
    output_files: int = Field(10_000, ge=1, description="Files and folders a model may leave in output.")
    free_disk: Bytes = Field(
        1 * Gi, description="Room the workspaces' disk keeps: no run is started, and none goes on, with less free."
    )
    scoring_memory: Bytes = Field(
        4 * Gi, ge=64 * Mi, description="Memory that one validation or scoring may take, beside AutoScorer's own."
    )
    log: Bytes = Field(4 * Mi, description="Bytes of container.log that are kept: half its head, half its tail.")


class ResourceDefaults(_Section):
    """What a job gets that asks for nothing."""

    cpu: float = Field(1, ge=MIN_CPU, le=MOST_CPUS)
    memory: Memory = 2 * Gi
    gpu: int = Field(0, ge=0, le=MOST_GPUS)
    disk: Bytes = 1 * Gi
    shm_size: Bytes = 64 * Mi


class Disclosure(_Section):
    """What of a scoring goes to tokens that may not see the ground truth."""

    min_count: int = Field(
        10, ge=1, description="Rows: smaller counts are not shown, and larger ones in steps of it; 1 shows all counts."
    )
    digits: int = Field(4, ge=1, le=17, description="Significant digits of scores and metrics; 17 is all of them.")


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
    allow_image_ids: bool = Field(
        False, description="Run images given by their id, which no pattern can judge: every image of the engine."
    )
    dockerfiles: Literal["strict", "any"] = Field(
        "strict",
        description="What a workspace's Dockerfile may do: build from its own files and allowed images, or anything.",
    )
    network_policies: tuple[Literal["none", "bridge"], ...] = ("none",)
    limits: ResourceLimits = Field(default_factory=ResourceLimits)
    defaults: ResourceDefaults = Field(default_factory=ResourceDefaults)
    disclosure: Disclosure = Field(default_factory=Disclosure)

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
    load_timeout: float = Field(30, gt=0, description="Seconds that the import of one scorer file may take.")


class PrefectSection(_Section):
    """The Prefect server that records runs."""

    api_url: str | None = Field(None, description="PREFECT_API_URL or Prefect's own profile when absent.")
    api_key: SecretStr | None = None


class Api(_Section):
    """The REST facade."""

    host: str = Field("127.0.0.1", description="Address it listens on; others than loopback need api_tokens.")
    port: int = Field(8000, ge=0, le=65535)
    max_body: Bytes = Field(1 * Mi, description="Largest JSON body, in bytes.")
    max_upload: Bytes = Field(1 * Gi, description="Largest uploaded archive, in bytes.")
    max_unpacked: Bytes = Field(4 * Gi, description="Largest uploaded workspace, unpacked, in bytes.")
    max_files: int = Field(10_000, ge=1, description="Files and folders in one uploaded archive.")
    request_timeout: float = Field(60, gt=0, description="Seconds for one request, apart from wait, streams, uploads.")
    max_wait: float = Field(300, ge=0, description="Seconds: the longest that `wait` may ask for.")
    rate_limit: float = Field(200, gt=0, description="Requests a second for each token, in the long run.")
    rate_burst: int = Field(5000, ge=1, description="Requests that a token may make at once.")
    idempotency_hours: float = Field(24, gt=0, description="How long an Idempotency-Key is remembered.")
    show_errors: bool = Field(
        False, description="Serve artifacts that may hold ground truth, as errors.csv and the report, to every token."
    )
    keep_days: float = Field(90, gt=0, description="How long the facade lists tasks that have ended.")
    keep_artifacts: Bytes = Field(
        1 * Gi, description="Artifacts of earlier Results that are kept beside each workspace, in bytes."
    )


class Service(_Section):
    """How accepted tasks become Prefect flow runs, and what becomes of those that got lost."""

    pool: str = Field("autoscorer", min_length=1, description="Work pool of pipeline, run and batch.")
    score_pool: str = Field("autoscorer-score", min_length=1, description="Work pool of score and validate.")
    pool_concurrency: int = Field(4, ge=1, description="Flow runs at a time in the pool.")
    score_concurrency: int = Field(4, ge=1, description="Flow runs at a time in the score pool.")
    poll_interval: float = Field(2.0, gt=0, description="Seconds between two looks of a worker for new runs.")
    max_attempts: int = Field(3, ge=1, description="Attempts at a run that infrastructure failed.")
    retry_delay: float = Field(2.0, ge=0, description="Seconds before the second attempt; doubled for each further.")
    cancel_grace: float = Field(5.0, gt=0, description="Seconds that a cancelled run has before it is killed.")
    stuck_after: float = Field(
        60.0, gt=0, description="Seconds that a run may stay Pending or Cancelling with nobody working on it."
    )


class Callbacks(_Section):
    """What is sent to a task's callback_url when it ends."""

    secret: SecretStr | None = Field(None, description="Key of the HMAC-SHA256; made and kept in the home when absent.")
    allow_private: bool = Field(False, description="Send to loopback, private and link-local addresses too.")
    timeout: float = Field(10, gt=0, description="Seconds for one delivery.")
    max_attempts: int = Field(8, ge=1)
    retry_delay: float = Field(2.0, gt=0, description="Seconds before the second attempt; doubled for each further.")
