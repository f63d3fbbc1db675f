"""One run of a scoring program: sealed as a model is, with nothing but what it scores.

The program is somebody else's code, and holds the ground truth beside a submission's output. So it is run by the
executor that runs models: no network, limits, a container of its own, in which there are only its program, the
reference data, the submission's output and an empty output folder.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Fault, Stage
from ...core.workspace import Workspace, write_atomic
from ...executors.backends import chosen_backend, make_executor
from ...executors.base import SilentObserver
from ...executors.files import link_tree, remove_tree
from ...executors.limits import check_limits, effective_limits
from ...executors.places import place
from ...executors.reaper import reap_if_needed
from ...executors.records import RunRecords
from ...executors.supervise import UNSEALED, RunReport, new_run_id, run_sealed
from ...schemas.job import Job

__all__ = ["PLACES", "ProgramRun", "check_job", "run_program"]

# Where Codabench shows a scoring program its things, which many name in their code; and where they lie for us.
PLACES = {"/app/input": "input", "/app/program": "input/program", "/app/output": "output"}
# The log of the last run of a program, in the workspace's own folder, which nothing serves.
LOG = "scoring.log"
# Without a container there is no /app: an argument that names it gets the folder that stands for it.
_LAUNCH = f"""\
import os, re, sys
root, places = os.environ["AUTOSCORER_WORKSPACE"], {PLACES!r}
pattern = re.compile("|".join(map(re.escape, places)))
command = [pattern.sub(lambda found: os.path.join(root, places[found[0]]), text) for text in sys.argv[1:]]
if command[0] in ("python", "python3"):
    command[0] = sys.executable
os.execvp(command[0], command)
"""
_UNSEALED = (
    "The scoring program was run without isolation (backend process): it had the rights of AutoScorer itself. The "
    "backend docker seals it."
)


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """What a program is run with.

    Args:
        command: Its command; paths below /app as ``PLACES`` has them.
        image: The image.
        timeout: Seconds.
        memory: Bytes; the operator's default when None.
        program: Its folder.
        reference: The reference data's.
        results: What it scores: names below its ``res`` folder, and what is seen there.
    """

    command: Sequence[str]
    image: str
    timeout: float
    memory: int | None
    program: Path
    reference: Path
    results: Mapping[str, Path]

    def job(self, *, sealed: bool) -> Job:
        """As an executor wants it."""
        command = list(self.command) if sealed else ["python3", "-c", _LAUNCH, *self.command]
        return Job.model_validate(
            {
                "container": {
                    "image": self.image,
                    "cmd": command,
                    "env": {"PYTHONUNBUFFERED": "1"},
                    "working_dir": "/app/program" if sealed else "/workspace/input/program",
                },
                "resources": {"memory": self.memory},
                "timeout": self.timeout,
            }
        )


def check_job(timeout: float, memory: int | None, settings: Settings) -> None:
    """Refuse what the operator does not allow.

    Raises:
        AutoScorerError: ``BAD_PARAMS``.
    """
    job = Job.model_validate({"timeout": timeout, "resources": {"memory": memory}})
    for problem in check_limits(job, settings):
        raise AutoScorerError(
            ErrorCode.BAD_PARAMS,
            f"params.{problem.message.removeprefix('resources.')}",
            details={"params": [str(problem.details["key"]).removeprefix("resources.")]},
        )


@contextlib.contextmanager
def run_program(
    space: Workspace, run: ProgramRun, settings: Settings, backends: Sequence[str]
) -> Iterator[tuple[RunReport, Path]]:
    """Run a scoring program, and keep what it wrote for as long as the caller reads it.

    The caller holds the workspace. What the program said lies in .autoscorer/scoring.log afterwards.

    Args:
        space: The workspace that is scored.
        run: What is run.
        settings: The configuration.
        backends: Which backends may run it; ``process`` among them allows a run that is not sealed.

    Yields:
        The report of a run that succeeded, and the program's output folder.

    Raises:
        AutoScorerError: ``SCORER_ERROR`` where it is the fault of the program or of its image;
            ``BACKEND_UNAVAILABLE``, ``IMAGE_PULL_FAILED``, ``STORAGE_FULL``.
    """
    name = chosen_backend(settings.executors.default, settings)
    if name not in backends:
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"The scoring program would be run by the backend {name} (executors.default), and the benchmark allows "
            f"{', '.join(backends)} alone. Change one of them; process runs it unsealed, beside the ground truth.",
            stage=Stage.SCORING,
        )
    sealed = name != "process"
    reap_if_needed(settings)
    space.scratch.mkdir(exist_ok=True)
    # Of a scoring that was killed; the workspace is held, so none of them is under way.
    for left in space.scratch.glob("program-*"):
        remove_tree(left)
    root = space.scratch / f"program-{new_run_id()}"
    try:
        _lay_out(root, run, linked=sealed)
        yield _run(Workspace(root), run.job(sealed=sealed), name, settings), root / "output"
    finally:
        _keep_log(root, space)
        remove_tree(root)


def _lay_out(root: Path, run: ProgramRun, *, linked: bool) -> None:
    """A workspace of the program's own. Without a container it gets copies: it could write to what is linked."""
    for name, source in (("program", run.program), ("ref", run.reference)):
        folder = root / "input" / name
        folder.mkdir(parents=True)
        for entry in source.iterdir():
            _put(entry.resolve(), folder / entry.name, linked=linked)
    folder = root / "input" / "res"
    folder.mkdir()
    for name, source in run.results.items():
        _put(source, folder / name, linked=linked)
    for folder in (root / "output", Workspace(root).scratch):
        folder.mkdir()


def _put(source: Path, target: Path, *, linked: bool) -> None:
    # A link stays one, and is refused when the run is staged.
    if linked and link_tree(source, target):
        return
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _run(space: Workspace, job: Job, backend: str, settings: Settings) -> RunReport:
    observer = SilentObserver()
    try:
        limits = effective_limits(job, settings)
        with place(settings, backend, limits, lambda: False, observer) as given:
            report = run_sealed(
                make_executor(backend, settings),
                space,
                job,
                limits,
                records=RunRecords(settings.home),
                observer=observer,
                labels={"purpose": "scoring"},
                places=PLACES,
                gpus=given.gpus,
                queue_seconds=given.waited,
            )
    except AutoScorerError as error:
        raise _of_program(error, job) from None
    if report.error is not None:
        raise _of_program(report.error, job)
    report.notes = [_UNSEALED if note == UNSEALED else note for note in report.notes]
    return report


def _of_program(error: AutoScorerError, job: Job) -> AutoScorerError:
    """What failed, in words of scoring. What the program itself said is left out: it may quote the ground truth."""
    if error.spec.fault is Fault.SYSTEM:
        return error
    exit_code, resource = error.details.get("exit_code"), error.details.get("resource")
    what = {
        ErrorCode.TIMEOUT_ERROR: f"did not end within {job.timeout:g} s (params.timeout) and was stopped",
        ErrorCode.CONTAINER_FAILED: f"ended with exit code {exit_code}",
        ErrorCode.RESOURCE_ERROR: f"took more {resource} than allowed",
        ErrorCode.OUTPUT_REJECTED: "left something other than plain files in its output folder",
    }.get(error.code, f"could not be run: {error.message.rstrip('.')}")
    facts = {"exit_code": exit_code, "resource": resource}
    return AutoScorerError(
        ErrorCode.SCORER_ERROR,
        f"The scoring program {what}. What it said is in .autoscorer/{LOG} of the workspace.",
        details={"why": error.code.value, **{key: value for key, value in facts.items() if value is not None}},
    )


def _keep_log(root: Path, space: Workspace) -> None:
    with contextlib.suppress(OSError):
        write_atomic(space.scratch / LOG, (root / "logs" / "container.log").read_bytes(), mode=0o600)
