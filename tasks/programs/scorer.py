"""The scorer of an imported benchmark: the platform's own scoring program, run sealed, its numbers read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ...core.benchmark import BenchmarkFolder
from ...core.config import Settings, load_settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.provenance import sha256_file
from ...core.workspace import Workspace, open_regular
from ...executors.files import RESERVED
from ...executors.supervise import RunReport
from ...schemas.image_reference import parse_image
from ...schemas.job import Memory
from ...schemas.result import Disclosed, Result, Summary
from ...scorers.base import BaseScorer, ScorerParams
from .columns import Column, metrics_of
from .digests import PROGRAM, REFERENCE, Truth, check_tree, read_truth, tree_digests, tree_sha256
from .scores import read_scores
from .sealed import ProgramRun, check_job, run_program

__all__ = ["ProgramParams", "ProgramScorer"]

# Of a workspace that is no submission, and of a benchmark that does not say.
_SEALED = ("docker", "kubernetes")
# What Summary has of its own: a column may be called so, too.
_SUMMARY = frozenset({*Summary.model_fields, "pass"})


class ProgramParams(ScorerParams):
    """Params of an imported benchmark's scorer."""

    image: str | None = Field(None, description="Image that the scoring program is run in.")
    timeout: float = Field(600, gt=0, description="Seconds that the scoring program may run.")
    memory: Memory | None = Field(None, description="Memory it may use; the operator's default when absent.")
    main: str | None = Field(None, description="Column that is the main metric; the imported one when absent.")
    higher_is_better: bool | None = Field(
        None, description="Direction of the main metric, where what was imported is wrong."
    )
    hidden: bool = Field(False, description="Give the hidden columns as well; for the organisers, or after the end.")
    predictions_as: str | None = Field(
        None,
        pattern=r"^[^/\\\x00-\x1f\x7f]{1,100}$",
        description="Name under which the program finds a submission's only file, such as answer.txt.",
    )

    @field_validator("image")
    @classmethod
    def _names_an_image(cls, value: str | None) -> str | None:
        if value is not None:
            parse_image(value)
        return value

    @field_validator("predictions_as")
    @classmethod
    def _names_a_file(cls, value: str | None) -> str | None:
        if value in (".", ".."):
            raise ValueError("expected a file's name")
        return value


class ProgramScorer(BaseScorer):
    """Scores by a program in input/gt_program. A generated subclass says which, and what its numbers mean."""

    task_type = "custom"
    Params = ProgramParams
    # The program's command; paths below /app/program, /app/input and /app/output are its own places.
    command: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[Column, ...]] = ()
    # Of the files in input/gt_program: another program is not run.
    program_sha256: ClassVar[str] = ""

    def validate(self, workspace: Path, params: dict[str, Any]) -> None:
        """Check params, and that the program is the one that was imported.

        Raises:
            AutoScorerError: ``BAD_PARAMS``, ``MISSING_FILE``, ``BAD_FORMAT``.
        """
        self._checked(params)
        self._program(Workspace(workspace))

    def score(self, workspace: Path, params: dict[str, Any]) -> Result:
        """Run the program and read its scores.

        Raises:
            AutoScorerError: As ``validate``; ``MISSING_FILE`` without an output; ``SCORER_ERROR``,
                ``BACKEND_UNAVAILABLE``, ``IMAGE_PULL_FAILED``, ``STORAGE_FULL`` of running it.
        """
        checked, main = self._checked(params)
        space = Workspace(workspace)
        truth = self._program(space)
        check_tree(space.input / REFERENCE, truth.reference)
        results = _results(space, checked.predictions_as)
        assert checked.image is not None
        run = ProgramRun(
            command=self._command(results),
            image=checked.image,
            timeout=checked.timeout,
            memory=checked.memory,
            program=space.input / PROGRAM,
            reference=space.input / REFERENCE,
            results=results,
        )
        predictions = _digest_of(results)
        self.progress("the scoring program")
        backends = BenchmarkFolder(space.benchmark).read().backends if space.benchmark is not None else _SEALED
        with run_program(space, run, self._settings, backends) as (report, output):
            scores = read_scores(output)
        return self._result(scores, checked, main, report, predictions)

    def _command(self, results: dict[str, Path]) -> tuple[str, ...]:
        """The command, in which ``{submission}`` stands for the only file of a submission."""
        if not any("{submission}" in part for part in self.command):
            return self.command
        if len(results) != 1 or not next(iter(results.values())).is_file():
            raise AutoScorerError(
                ErrorCode.BAD_FORMAT,
                f"output/ holds {len(results)} files and folders, and the scoring program takes one file.",
            )
        return tuple(part.replace("{submission}", next(iter(results))) for part in self.command)

    def _result(
        self, scores: dict[str, Any], params: ProgramParams, main: Column, report: RunReport, predictions: str
    ) -> Result:
        columns = [column for column in self.columns if params.hidden or not column.hidden]
        # What only organisers may see is computed with, and not shown.
        metrics, notes = metrics_of(scores, self.columns, main=main.key)
        metrics = {column.key: metrics[column.key] for column in columns}
        higher = main.higher_is_better if params.higher_is_better is None else params.higher_is_better
        named = {} if main.key in _SUMMARY else {main.key: metrics[main.key]}
        assert report.image is not None
        result = Result(
            summary=Summary(score=metrics[main.key], higher_is_better=higher, **named),
            metrics=metrics,
            notes=[
                *notes,
                f"Scored by the program {self.program_sha256[:12]} in {report.image.reference} "
                f"({report.image.digest}), backend {report.backend}.",
                *report.notes,
            ],
            disclosed=Disclosed(metrics={column.key: metrics[column.key] for column in columns if not column.hidden}),
        )
        result.versioning.predictions_sha256 = predictions
        return result

    @property
    def _settings(self) -> Settings:
        return self.settings or load_settings()

    def _checked(self, params: dict[str, Any]) -> tuple[ProgramParams, Column]:
        checked = self.parse_params(params)
        assert isinstance(checked, ProgramParams)
        if checked.image is None:
            raise _bad_params(
                "image", "missing. Name an image that has what the scoring program imports, in the benchmark's params"
            )
        check_job(checked.timeout, checked.memory, self._settings)
        wanted = checked.main or self.metric
        shown = [column for column in self.columns if checked.hidden or not column.hidden]
        main = next((column for column in shown if column.key == wanted), None)
        if main is None:
            names = ", ".join(column.key for column in shown)
            raise _bad_params("main", f"expected one of {names}, got {wanted!r}. Hidden columns need hidden: true")
        return checked, main

    def _program(self, space: Workspace) -> Truth:
        truth = read_truth(space.input)
        if tree_sha256(truth.program) != self.program_sha256:
            raise AutoScorerError(
                ErrorCode.BAD_FORMAT,
                f"input/{PROGRAM} holds another program than the one that the scorer {self.name} was made for. Load "
                "the scorer file that lies in the benchmark's folder.",
            )
        check_tree(space.input / PROGRAM, truth.program)
        return truth


def _results(space: Workspace, named: str | None) -> dict[str, Path]:
    """What of the output is scored, by the names under which the program finds it."""
    entries = sorted(space.output.iterdir()) if space.output.is_dir() else []
    found = {entry.name: entry for entry in entries if entry.name not in RESERVED}
    if not found:
        raise AutoScorerError(ErrorCode.MISSING_FILE, "output/ holds nothing to score.")
    if named is None:
        return found
    if len(found) != 1:
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT,
            f"output/ holds {len(found)} files and folders; the param predictions_as names one file.",
        )
    return {named: next(iter(found.values()))}


def _digest_of(results: dict[str, Path]) -> str:
    """sha256 of what is scored: of one file as every Result has it, of several over names and contents."""
    digests: dict[str, str] = {}
    for name, path in results.items():
        if path.is_symlink():
            continue  # it is refused when the program is run
        if path.is_dir():
            digests |= {f"{name}/{below}": digest for below, digest in tree_digests(path, links=False).items()}
        else:
            open_regular(path).close()  # a FIFO would hang
            digests[name] = sha256_file(path).hex()
    if len(digests) == 1 and digests.keys() == results.keys():
        return next(iter(digests.values()))
    return tree_sha256(digests)


def _bad_params(name: str, why: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.BAD_PARAMS, f"params.{name}: {why}.", details={"params": [name]})
