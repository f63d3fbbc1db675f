"""What an executor is: a few verbs around one sealed run, and the values that pass between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ..core.workspace import Workspace
from ..schemas.job import Job

__all__ = [
    "Ending",
    "Executor",
    "Gpu",
    "Image",
    "Interruption",
    "KillReason",
    "Observer",
    "RunLimits",
    "RunSpec",
    "SilentObserver",
    "Staged",
    "Usage",
    "Watched",
]

# Where the model finds its things inside a container, and the variable that says so.
CONTAINER_ROOT = "/workspace"
ROOT_VARIABLE = "AUTOSCORER_WORKSPACE"


@dataclass(frozen=True, kw_only=True)
class RunLimits:
    """What one run may use; sizes in bytes, times in seconds."""

    cpu: float
    memory: int
    gpu: int
    disk: int
    shm_size: int
    timeout: float
    pids: int
    nofile: int
    tmp: int
    output_files: int
    log: int
    # Types of GPU, any of which will do; and bytes of memory that each must have.
    gpu_types: tuple[str, ...] = ()
    gpu_memory: int = 0
    # What the workspace's disk must keep free; below it the run ends.
    free_disk: int = 0


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU of this host, or a MIG slice of one."""

    # As ``nvidia-smi -L`` shows it: GPU-… or MIG-….
    uuid: str
    # As ``schemas.gpu.gpu_type`` writes it; None where NVML could not be asked.
    type: str | None = None
    memory: int | None = None
    # Number of the device node that a GPU, or the GPU of a slice, has.
    minor: int | None = None
    # Of a slice: its GPU, and its numbers in there (GPU instance and compute instance).
    parent: str | None = None
    instance: tuple[int, int] | None = None
    # How others use it at the same time ("MPS"); None where it is not shared, as far as is known.
    shared: str | None = None


class KillReason(StrEnum):
    """Why the supervisor ended a run."""

    DEADLINE = "deadline"
    DISK = "disk"
    FILES = "files"
    PROCESSES = "processes"
    HIDING = "hiding"
    CANCELLED = "cancelled"


class Watched(StrEnum):
    """What the supervisor watches, or has the kernel hold, and some backends can't."""

    DELETED_FILES = "deleted_files"
    REFUSED_PROCESSES = "refused_processes"
    # Those that a backend can't set for one run.
    PROCESS_LIMIT = "process_limit"
    OPEN_FILES = "open_files"
    FILE_SIZE = "file_size"


class Interruption(StrEnum):
    """What came between a model and its own end."""

    ENGINE_AWAY = "engine_away"
    STOPPED = "stopped"
    # Of a cluster: its pod had to go, its node is not heard of any more, or somebody deleted it.
    EVICTED = "evicted"
    NODE_LOST = "node_lost"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run has used so far; None where the backend can't tell."""

    peak_memory: int | None = None
    cpu_seconds: float | None = None
    # How often the kernel refused a new process because of the limit.
    forks_denied: int = 0


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended, as the backend saw it. ``verdict`` turns it into an error or into none."""

    exit_code: int | None
    oom_killed: bool = False
    # The engine was away when the model ended, or somebody else had it ended; None where neither is known.
    interrupted: Interruption | None = None
    # What the backend says of that, in its own words.
    why: str = ""
    # By the supervisor, or by the backend itself for a limit of the run.
    killed_for: KillReason | None = None
    forks_denied: int = 0
    # Whether the backend can't count them, so that the log alone tells of a fork bomb.
    forks_unseen: bool = False
    log_tail: str = ""


@dataclass(frozen=True, kw_only=True)
class Image:
    """The image a run uses."""

    reference: str
    # What is run: an immutable id, so that a tag moved meanwhile changes nothing.
    id: str
    # The registry's digest where there is one, else the id, which is a digest of the image's configuration.
    digest: str
    source: str = "local"


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run to do."""

    run_id: str
    workspace: Workspace
    job: Job
    limits: RunLimits
    network: str = "none"
    labels: Mapping[str, str] = field(default_factory=dict)
    # Other paths in the container at which a part of CONTAINER_ROOT is seen as well: {"/app/input": "input"}.
    places: Mapping[str, str] = field(default_factory=dict)
    # Devices of this host that are the run's alone while it lasts.
    gpus: tuple[Gpu, ...] = ()
    # Asked while the run waits to begin; True ends that.
    cancelled: Callable[[], bool] = field(default=lambda: False, compare=False)


@dataclass(frozen=True)
class Staged:
    """A staged run: ``folder`` holds ``input/`` (empty mount points), ``output/`` and ``meta.json``.

    ``inputs`` maps a name under ``input/`` to the file or folder that is to be seen there.
    """

    folder: Path
    inputs: dict[str, Path]
    # Whether nothing that is mounted lies under a path of the workspace, which the model could read in its mountinfo.
    neutral: bool = False

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def meta(self) -> Path:
        return self.folder / "meta.json"


class Observer(Protocol):
    """Who watches a run: the terminal, a Prefect run. Must not raise and must be quick."""

    def stage(self, name: str, detail: str = "") -> None:
        """A stage began: pull, load, build, run, collect, score."""

    def progress(self, told: str) -> None:
        """How far the stage is, in a few words that may change every second."""

    def log(self, line: str) -> None:
        """A line of the container's log, control characters removed."""

    def left_out(self, lines: int) -> None:
        """So many lines of the container's log were not told, between the last one and the next."""


class SilentObserver:
    """Watches nothing."""

    def stage(self, name: str, detail: str = "") -> None:
        pass

    def progress(self, told: str) -> None:
        pass

    def log(self, line: str) -> None:
        pass

    def left_out(self, lines: int) -> None:
        pass


class Executor(ABC):
    """A backend. One instance serves one run: prepare, start, poll until it ends, remove.

    ``remove`` is called on every path and any number of times; after it nothing of the run is left in the
    backend. An executor never judges: it reports an ``Ending``.
    """

    name: str
    # Whether the model is kept away from everything but its own folder.
    sealed: bool = True
    # Whether the model runs where this host's files and paths are not: ``start`` sends the input there and gets the
    # image, and ``collect`` brings the output.
    remote: bool = False
    # Seconds that ``start`` may take.
    start_patience: float = 0.0
    # Why something is not watched, for the reader of a Result.
    unwatched_why: str = (
        "It could not be seen from where AutoScorer ran (`autoscorer doctor` says what to do), or the model hid it."
    )

    @abstractmethod
    def check(self) -> str:
        """Say in one line that the backend answers.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``, with what to do.
        """

    @abstractmethod
    def prepare(self, spec: RunSpec, observer: Observer) -> Image:
        """Get the image: pull, load or build it.

        Raises:
            AutoScorerError: ``IMAGE_*`` or ``BACKEND_UNAVAILABLE``.
        """

    @abstractmethod
    def owner(self) -> tuple[int, int]:
        """uid and gid that the model will run as, to make its output folder theirs."""

    def stage_roots(self, workspace: Workspace) -> tuple[Path, ...]:
        """Folders to stage a workspace's run in, in order of preference, whose paths tell nothing of the workspace.

        Where none can be used, or there are none, a run is staged in the workspace.
        """
        return ()

    def leaves(self, run_id: str) -> tuple[Path, ...]:
        """Folders that a run has outside of the workspace beside its staged one, to be removed if this process dies."""
        return ()

    @abstractmethod
    def start(self, spec: RunSpec, image: Image, staged: Staged, on_log: Callable[[bytes], None]) -> None:
        """Start the model on a staged folder.

        Args:
            spec: The run.
            image: What ``prepare`` returned.
            staged: The staged folder.
            on_log: Takes stdout and stderr as they come, from another thread.

        Raises:
            AutoScorerError: ``CONTAINER_FAILED`` when it can't be started, ``BACKEND_UNAVAILABLE``.
        """

    def ran(self, image: Image) -> Image:
        """What of an image is only known once it runs: its digest, where the backend itself pulls it.

        Args:
            image: What ``prepare`` returned.
        """
        return image

    def output_in_use(self, staged: Staged) -> Path:
        """The folder in which what the model writes is to be seen while it runs."""
        return staged.output

    def exceeded(self) -> KillReason | None:
        """A limit of the output that the backend itself has seen exceeded."""
        return None

    def notes(self) -> list[str]:
        """What a reader of the Result must know of how the run was sealed; known once it was started."""
        return []

    def collect(self, staged: Staged, limits: RunLimits) -> None:  # noqa: B027 - most write it in its place
        """Bring what a model that has ended well wrote to ``staged.output``, which is empty where it is not there yet.

        Args:
            staged: The staged folder.
            limits: Nothing beyond them is taken.

        Raises:
            AutoScorerError: ``OUTPUT_REJECTED``, ``RESOURCE_ERROR``, ``BACKEND_UNAVAILABLE``.
        """

    @abstractmethod
    def poll(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the end; True when the model has ended."""

    @abstractmethod
    def usage(self) -> Usage:
        """What was used up to now; after the end, what was seen last."""

    def hidden_bytes(self, device: int) -> int:
        """Bytes on a device that the run holds in files it has deleted; 0 where the backend can't tell.

        Args:
            device: ``st_dev`` of the output folder.
        """
        return 0

    def hides(self) -> bool:
        """Whether the run hides deleted files from ``hidden_bytes`` where the operator does not allow that."""
        return False

    def unwatched(self) -> frozenset[Watched]:
        """What could not be watched in this run, so that those limits are not held; known once it was started."""
        return frozenset()

    def has_ended(self) -> bool:
        """Ask the backend itself whether the model has ended; ``poll`` may hear of it late. True as from ``poll``."""
        return self.poll(0)

    @abstractmethod
    def kill(self) -> None:
        """End every process of the run at once. Does nothing when there is none."""

    @abstractmethod
    def ending(self) -> Ending:
        """How it ended, as far as the backend knows. Valid once ``poll`` was True."""

    @abstractmethod
    def remove(self) -> None:
        """Remove everything of the run from the backend. Does nothing when there is nothing."""

    def close(self) -> None:  # noqa: B027 - a backend without connections has nothing to close
        """Let go of connections. The executor is of no use after it."""
