"""What a job may ask for at most, and what it gets that asks for nothing."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ..schemas.job import DEFAULT_TIMEOUT, MIN_CPU, Bytes, Memory

__all__ = ["ResourceDefaults", "ResourceLimits"]

Gi = 1024**3
Mi = 1024**2
# What kernels and engines take at most: PID_MAX_LIMIT, the usual fs.nr_open, and more than any machine has.
MOST_PIDS, MOST_FILES, MOST_CPUS, MOST_GPUS = 4 * Mi, Mi, 8192, 1024
YEAR = 366 * 24 * 3600


def _cpus(value: Any) -> Any:
    """CPUs as Kubernetes writes them (``500m``), as text or as a number."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number of CPUs such as 2 or '500m', got {value!r}")
    if isinstance(value, str) and value.endswith("m"):
        if not (value[:-1].isascii() and value[:-1].isdigit()):
            raise ValueError(f"expected a number of CPUs such as 2 or '500m', got {value!r}")
        return int(value[:-1]) / 1000
    return value


Cpus = Annotated[float, BeforeValidator(_cpus)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ResourceLimits(_Section):
    """The most a job may ask for, and what is not for a job to choose."""

    cpu: Cpus = Field(
        64,
        ge=MIN_CPU,
        le=MOST_CPUS,
        description='Most CPUs that a job may ask for; from 0.01 to 8192, also as `"500m"`.',
    )
    memory: Memory = Field(
        64 * Gi,
        description="Most memory that a job may ask for, from `6Mi`; also the memory of a build, and `cpu`, `pids` "
        "and `nofile` its CPUs, processes and open files.",
    )
    gpu: int = Field(8, ge=0, le=MOST_GPUS, description="Most GPUs that a job may ask for.")
    disk: Bytes = Field(64 * Gi, description="Most bytes of output that a job may ask for.")
    shm_size: Bytes = Field(8 * Gi, description="Largest `/dev/shm` that a job may ask for.")
    timeout: float = Field(
        24 * 3600, gt=0, le=YEAR, description="Most seconds that a job may ask for; at most 366 days."
    )
    pids: int = Field(256, ge=8, le=MOST_PIDS, description="Processes and threads of every model; from 8 to 4194304.")
    nofile: int = Field(4096, ge=64, le=MOST_FILES, description="Open files of one process; from 64 to 1048576.")
    tmp: Bytes = Field(256 * Mi, description="`/tmp`; it lies in memory and counts as such.")
    output_files: int = Field(10_000, ge=1, description="Files and folders in `output/`.")
    free_disk: Bytes = Field(
        1 * Gi,
        description="Room the workspaces' disk keeps: with less free no run is started (`STORAGE_FULL`), and none "
        "goes on.",
    )
    scoring_memory: Bytes = Field(
        4 * Gi,
        ge=64 * Mi,
        description="Memory that one validation or scoring may take beside the interpreter, the libraries and the "
        "scorer's own code; more is `RESOURCE_ERROR`. At least `64Mi`.",
    )
    log: Bytes = Field(4 * Mi, description="Bytes of `container.log` that are kept: half its head, half its tail.")


class ResourceDefaults(_Section):
    """What a job gets that asks for nothing."""

    cpu: Cpus = Field(1, ge=MIN_CPU, le=MOST_CPUS, description="CPUs of a job that asks for none; from 0.01.")
    memory: Memory = Field(2 * Gi, description="Memory of a job that asks for none, from `6Mi`.")
    gpu: int = Field(0, ge=0, le=MOST_GPUS, description="GPUs of a job that asks for none.")
    disk: Bytes = Field(1 * Gi, description="Bytes of output of a job that asks for none.")
    shm_size: Bytes = Field(64 * Mi, description="`/dev/shm` of a job that asks for none.")
    timeout: float = Field(DEFAULT_TIMEOUT, gt=0, le=YEAR, description="Seconds of a job that asks for none.")
