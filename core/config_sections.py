"""The sections of the configuration, one class a section; ``Settings`` puts them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from ..schemas.image_reference import parse_image
from ..schemas.job import Bytes
from .config_bubblewrap import BubblewrapExecutor
from .config_gpu import GpuDevices
from .config_kubernetes import KubernetesExecutor
from .config_limits import ResourceDefaults, ResourceLimits
from .config_user import MOST_UID, ModelUser

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

# In allowed_images: no image at all. An image of this name is written with its tag.
NO_IMAGE = "none"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DockerExecutor(_Section):
    """How to reach the Docker Engine and how its containers run."""

    base_url: str | None = Field(
        None,
        description="The Engine's address; `DOCKER_HOST` or the usual socket when absent. It must see the workspace "
        "and the staged runs (`stage_dir`) under the same paths.",
    )
    user: ModelUser | None = Field(
        None,
        description="`uid:gid` of every model, neither of them 0; when absent the caller's own, or one of "
        "`uid_range` when the caller is root. Only root can set another than its own.",
    )
    uid_range: str | None = Field(
        None,
        pattern=r"^[0-9]+-[0-9]+$",
        description="Uids such as `200000-265535`, both ends included: each model that runs gets one of its own, and "
        "the gid of the same number. Only for root, and not together with `user`. When absent and the "
        "caller is root: `2100000000-2100065535`. No user of the host may have them.",
    )
    stage_dir: Path | None = Field(
        None,
        description="Folder to stage runs in, an absolute path on the workspaces' file system; models can read this "
        "path in place of the workspace's. The engine must see it under the same path. When absent "
        "`/var/tmp`, `stage/` in the home, or `.autoscorer-runs/` at the top of that file system.",
    )
    runtime: str | None = Field(
        None, description="OCI runtime such as `runsc` (gVisor); the Engine's default when absent."
    )
    concurrency: int | None = Field(
        None, ge=1, description="Models at a time on this host, in all processes of the home; no limit when absent."
    )
    host_mount: Path = Field(
        Path("/host"),
        description="Where AutoScorer itself runs in a container: the folder under which the host's `/proc` and "
        "`/sys/fs/cgroup` are mounted, read-only (docs/sealed-run.md#while-it-runs).",
    )
    require_full_watch: bool = Field(
        False,
        description="Run no model whose deleted files and refused processes can't be watched from here: such a run "
        "ends with `BACKEND_UNAVAILABLE`. Compose and the Docker pool set it.",
    )

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

    concurrency: int | None = Field(
        None, ge=1, description="Models at a time on this host, in all processes of the home; no limit when absent."
    )


class Executors(_Section):
    """Which backend runs a model."""

    default: Literal["auto", "bubblewrap", "docker", "kubernetes", "process"] = Field(
        "auto", description="Backend when a command names none."
    )
    bubblewrap: BubblewrapExecutor = Field(default_factory=BubblewrapExecutor)
    docker: DockerExecutor = Field(default_factory=DockerExecutor)
    kubernetes: KubernetesExecutor = Field(default_factory=KubernetesExecutor)
    process: ProcessExecutor = Field(default_factory=ProcessExecutor)
    gpu: GpuDevices = Field(default_factory=GpuDevices)

    @property
    def uses_kubernetes(self) -> bool:
        """Whether models may run in the cluster, so that what is left there is looked for."""
        return self.kubernetes.is_used or (self.default == "kubernetes" and self.kubernetes.enabled is not False)

    @model_validator(mode="after")
    def _kubernetes_is_not_off(self) -> Executors:
        if self.default == "kubernetes" and self.kubernetes.enabled is False:
            raise ValueError("default is kubernetes, and kubernetes.enabled is false; change one of them")
        return self


class Images(_Section):
    """Where images come from."""

    pull_policy: Literal["always", "ifnotpresent", "never"] = Field(
        "ifnotpresent", description="When an image is pulled; also as Kubernetes writes it (`IfNotPresent`)."
    )
    registry_prefix: str = Field(
        "",
        description="Put before references that name no registry, such as a mirror; `allowed_images` judges the name "
        "without it.",
    )
    pull_timeout: float = Field(900, gt=0, description="Seconds that one pull may take.")
    pull_retries: int = Field(2, ge=0, le=10, description="More tries after the first.")
    build_timeout: float = Field(1800, gt=0, description="Seconds that one build may take.")
    build_network: Literal["default", "none"] = Field(
        "default",
        description="Network of `RUN` steps. What else of a Dockerfile could reach a network is refused by "
        "`security.dockerfiles: strict`.",
    )
    build_args: dict[str, str] = Field(default_factory=dict, description="For every build, such as `BASE_IMAGE`.")
    max_archive: Bytes = Field(20 * Gi, description="Largest `image.tar`, unpacked.")
    store_size: Bytes = Field(
        20 * Gi,
        description="Room for images that are unpacked in the home, for runs without an engine: those used longest ago "
        "go first, never one in use. A larger image is refused.",
    )

    @field_validator("pull_policy", mode="before")
    @classmethod
    def _as_kubernetes_writes_it(cls, value: Any) -> Any:
        return value.lower() if value in ("Always", "IfNotPresent", "Never") else value

    @field_validator("registry_prefix")
    @classmethod
    def _begins_a_reference(cls, value: str) -> str:
        if value:
            parse_image(f"{value.rstrip('/')}/image")
        return value


class Disclosure(_Section):
    """What of a scoring goes to tokens that may not see the ground truth."""

    min_count: int = Field(
        10,
        ge=1,
        description="Rows: to tokens of the role `submit` smaller counts are not shown, and larger ones in steps of "
        "it; 1 shows all counts. It counts when a workspace is scored.",
    )
    digits: int = Field(
        4,
        ge=1,
        le=17,
        description="Significant digits of the scores and metrics that such tokens are shown; 17 is all of them.",
    )


class Security(_Section):
    """What a submission may do."""

    allowed_images: tuple[str, ...] = Field(
        ("*",),
        description="Patterns (`*`, `?`) of image names in meta.json and, with `dockerfiles: strict`, in `FROM`; "
        "docs/meta-json.md#which-images-are-allowed says how they are matched. An empty list restricts "
        'nothing, as `["*"]`, and doctor and every start warn of it; `["none"]` allows no image.',
    )
    # Whoever restricts the images means it for those that a workspace brings along, too.
    allow_build: bool | None = Field(
        None, description="Build a workspace's Dockerfile; when absent, only where `allowed_images` holds `*`."
    )
    allow_image_archive: bool | None = Field(
        None, description="Load a workspace's `image.tar`; when absent, as for `allow_build`."
    )
    allow_image_ids: bool = Field(
        False,
        description="Run an image that is given by its id, or by how it begins. No pattern can judge an id: it names "
        "every image of the engine.",
    )
    dockerfiles: Literal["strict", "any"] = Field(
        "strict",
        description="What a workspace's Dockerfile may do: `strict` builds from its own files and allowed images "
        "(docs/sealed-run.md#building); `any` is for workspaces that you trust.",
    )
    network_policies: tuple[Literal["none", "bridge"], ...] = Field(("none",), description="What a job may ask for.")
    allow_shared_gpu: bool = Field(
        False,
        description="Let models have GPUs that others use at the same time, by time-slicing or MPS, which keep neither "
        "memory nor faults apart. A MIG slice is not shared.",
    )
    limits: ResourceLimits = Field(default_factory=ResourceLimits)
    defaults: ResourceDefaults = Field(default_factory=ResourceDefaults)
    disclosure: Disclosure = Field(default_factory=Disclosure)

    @field_validator("allowed_images")
    @classmethod
    def _nothing_stands_alone(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if NO_IMAGE in value and len(value) > 1:
            raise ValueError(f"{NO_IMAGE!r} allows no image, and stands alone")
        return value

    @property
    def image_patterns(self) -> tuple[str, ...]:
        """What an image's name must match one of: ``allowed_images``, with its two words for all and nothing said."""
        if self.allowed_images == (NO_IMAGE,):
            return ()
        return self.allowed_images or ("*",)

    @property
    def builds(self) -> bool:
        """Whether a workspace's Dockerfile is built."""
        return "*" in self.image_patterns if self.allow_build is None else self.allow_build

    @property
    def archives(self) -> bool:
        """Whether a workspace's image archive is loaded."""
        return "*" in self.image_patterns if self.allow_image_archive is None else self.allow_image_archive


class Scorers(_Section):
    """Where custom scorers come from."""

    dirs: tuple[Path, ...] = Field((), description="Folders of custom scorers.")
    entry_points: bool = Field(True, description="Take scorers of installed packages.")
    load_timeout: float = Field(30, gt=0, description="Seconds that the import of one scorer file may take.")
    report_language: Literal["en", "zh"] = Field(
        "en", description="What `report.html` shows first; it holds both languages."
    )


class PrefectSection(_Section):
    """The Prefect server that records runs."""

    api_url: str | None = Field(None, description="`PREFECT_API_URL` or Prefect's profile when absent.")
    api_key: SecretStr | None = Field(None, description="Key of that server; masked wherever it is shown.")
    ui_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Prefect's UI as a browser reaches it, where records link their flow runs; `PREFECT_UI_URL` when "
        "absent. Where neither is set, only a browser on the server's own machine is shown links.",
    )


class Api(_Section):
    """The REST facade."""

    host: str = Field("127.0.0.1", description="Address of the API; others than loopback need `api_tokens`.")
    port: int = Field(8000, ge=0, le=65535, description="0 for any free one.")
    max_body: Bytes = Field(1 * Mi, description="Largest JSON body.")
    max_upload: Bytes = Field(1 * Gi, description="Largest archive.")
    max_unpacked: Bytes = Field(4 * Gi, description="Largest uploaded workspace, unpacked.")
    max_files: int = Field(10_000, ge=1, description="Files and folders in an archive.")
    request_timeout: float = Field(
        60, gt=0, description="Seconds for a request, apart from `wait`, streams and uploads."
    )
    drain: float = Field(
        0,
        ge=0,
        description="Seconds that the API goes on serving after it was told to stop, while `/readyz?for=submit` says "
        "so: what a load balancer needs to notice.",
    )
    max_wait: float = Field(300, ge=0, description="The most seconds that `wait` may ask for.")
    rate_limit: float = Field(
        200, gt=0, description="Requests a second for each token, in the long run; each API counts its own."
    )
    rate_burst: int = Field(5000, ge=1, description="Requests that a token may make at once; each API counts its own.")
    idempotency_hours: float = Field(24, gt=0, description="How long an `Idempotency-Key` is remembered.")
    dedup_seconds: float = Field(
        120,
        ge=0,
        description="Seconds for which the same request to `/api/score`, sent again without an `Idempotency-Key`, is "
        "answered with the job that it made.",
    )
    show_errors: bool = Field(
        False,
        description="Show tokens of the role `submit` everything that an admin sees of a scoring: complete Results, "
        "errors and artifacts, single rows of the ground truth among them.",
    )
    keep_days: float = Field(
        90, gt=0, description="How long tasks that have ended are listed, and artifacts of earlier Results kept."
    )
    keep_artifacts: Bytes = Field(
        1 * Gi, description="Artifacts of earlier Results kept beside each workspace; the oldest go first."
    )


class Service(_Section):
    """How accepted tasks become Prefect flow runs, and what becomes of those that got lost."""

    pool: str = Field("autoscorer", min_length=1, description="Work pool of pipeline, run and batch.")
    score_pool: str = Field("autoscorer-score", min_length=1, description="Work pool of score and validate.")
    rag_pool: str = Field("autoscorer-rag", min_length=1, description="Work pool of rag-score.")
    pool_concurrency: int = Field(4, ge=1, description="Flow runs at a time in the pool.")
    score_concurrency: int = Field(4, ge=1, description="Flow runs at a time in the score pool.")
    rag_concurrency: int = Field(
        64,
        ge=1,
        description="Flow runs at a time in the pool of rag-score; most of their time they wait for judges.",
    )
    poll_interval: float = Field(
        2.0,
        gt=0,
        description="Seconds between two looks of a worker; what the API of the same home accepts wakes it at once.",
    )
    max_attempts: int = Field(3, ge=1, description="Attempts at a run that infrastructure failed.")
    retry_delay: float = Field(2.0, ge=0, description="Seconds before the second attempt; doubled for each further.")
    cancel_grace: float = Field(5.0, gt=0, description="Seconds that a cancelled run has before it is killed.")
    stuck_after: float = Field(
        60.0, gt=0, description="Seconds that a run may stay Pending or Cancelling with nobody working on it."
    )


class Callbacks(_Section):
    """What is sent to a task's callback_url when it ends."""

    secret: SecretStr | None = Field(
        None,
        description="Key of the signatures; when absent one is made and kept in the home, the same in all homes of a "
        "ledger in PostgreSQL.",
    )
    allow_private: bool = Field(False, description="Send to loopback, private and link-local addresses too.")
    timeout: float = Field(10, gt=0, description="Seconds for one delivery.")
    max_attempts: int = Field(8, ge=1, description="Attempts at a delivery.")
    retry_delay: float = Field(2.0, gt=0, description="Seconds before the second attempt; doubled for each further.")
