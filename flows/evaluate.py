"""The flow ``evaluate``: a submission to a benchmark, made, run and scored."""

# No ``from __future__ import annotations`` here, as in ``pipeline.py``.
import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from ..core.benchmark import BenchmarkFolder
from ..core.errors import AutoScorerError
from ..tasks.benchmarks.adding import Source, add_submission, submission_of_run
from ..tasks.prefect.states import failed_state
from .final_state import persist_outcome
from .hooks import clear_up
from .pipeline import BackendName, run_and_score, score_alone

__all__ = ["evaluate"]

Kind = Annotated[
    Literal["image", "archive", "dockerfile", "predictions"],
    Field(title="Kind", description="What is submitted."),
]


def _run_name() -> str:
    given = flow_run.parameters
    return f"{os.path.basename(os.path.abspath(str(given.get('benchmark'))))} {given.get('team')}"


@flow(
    name="evaluate",
    description="Make a submission to a benchmark, run its model sealed, score what came out.",
    flow_run_name=_run_name,
    persist_result=False,
    on_cancellation=[clear_up],
    on_crashed=[clear_up],
)
def evaluate(
    benchmark: Annotated[
        str,
        Field(title="Benchmark", description="Folder with benchmark.json, as the worker sees it.", min_length=1),
    ],
    team: Annotated[str, Field(title="Team", description="Whose it is.", min_length=1)],
    kind: Kind,
    source: Annotated[
        str,
        Field(
            title="Source",
            description="An image's reference, or the path of an archive, of a folder with a Dockerfile or of a file "
            "of predictions, as the worker sees it.",
            min_length=1,
        ),
    ],
    cmd: Annotated[
        str | None, Field(title="Command", description="What is run in the image; its own command when empty.")
    ] = None,
    label: Annotated[str | None, Field(title="Label", description="The team's own words for it.")] = None,
    backend: BackendName = None,
) -> Any:
    """Submit to a benchmark.

    A second attempt of the same flow run goes on with the submission that the first one made.

    Args:
        benchmark: Folder with benchmark.json, as the worker sees it.
        team: Whose it is.
        kind: image, archive, dockerfile or predictions.
        source: An image's reference, or a path as the worker sees it.
        cmd: What is run in the image; its own command when empty.
        label: The team's own words for it.
        backend: auto, docker, kubernetes or process; empty as the worker is configured.

    Returns:
        The Result; a submission that failed is Failed, as in the flow ``pipeline``.
    """
    try:
        root = submission_of_run(Path(benchmark), team, str(flow_run.id)) or add_submission(
            BenchmarkFolder(benchmark), team, _source(kind, source, cmd), label=label, flow_run_id=str(flow_run.id)
        )
    except AutoScorerError as error:  # nothing was made
        return persist_outcome(failed_state(error))
    return score_alone(str(root)) if kind == "predictions" else run_and_score(str(root), backend=backend)


def _source(kind: Any, source: str, cmd: str | None) -> Source:
    container: dict[str, Any] = {} if cmd is None else {"cmd": shlex.split(cmd)}
    if kind == "image":
        return Source(kind, container={"image": source, **container})
    return Source(kind, Path(source), container)
