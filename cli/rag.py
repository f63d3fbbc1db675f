"""``autoscorer rag``: one answer of a retrieval-augmented system scored by hand, in this process."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.rag import MetricScore, ScoreRequest
from ..scorers.judge.runtime import open_judges
from ..scorers.rag.catalogue import METRICS, check_metrics
from ..scorers.rag.evaluate import evaluate, requested
from ..scorers.rag.run import models_of
from ..tasks.rag import Scored, outcome_of_scores, sample_of
from .arguments import add_common, positive
from .output import number, printable

__all__ = ["add_arguments", "render", "run"]

Json = dict[str, Any]

# Characters that are read of one text; a request takes fewer, and says so.
_MOST = 1_000_000
_TEXT = "TEXT itself, @FILE for what a file holds, - for what stdin brings, @@TEXT for a text that begins with @"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = (
        "score one answer by free metrics, embeddings and judges; needs no service, and no configuration without models"
    )
    score = actions.add_parser(
        "score", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=f"TEXT: {_TEXT}."
    )
    score.add_argument("--question", metavar="TEXT", required=True, help="what the system was asked")
    score.add_argument("--answer", metavar="TEXT", required=True, help="what it answered")
    score.add_argument(
        "--context",
        metavar="TEXT",
        action="append",
        default=[],
        help="a passage that it had retrieved; may be given several times, best first",
    )
    score.add_argument("--ground-truth", metavar="TEXT", help="what it should have answered")
    score.add_argument("--metrics", metavar="NAME,…", help="metrics to score (default: those that fit)")
    score.add_argument("--judge", metavar="NAME", help="a judge profile or a model of one (default: judge.default)")
    score.add_argument("--embeddings", metavar="NAME", help="the same of embeddings (default: embeddings.default)")
    score.add_argument("--votes", metavar="N", type=positive, help="how often the judge is asked for every verdict")
    add_common(score, of_action=True)


def run(args: argparse.Namespace) -> Json:
    given = [args.question, args.answer, *args.context, args.ground_truth]
    if given.count("-") > 1:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, "- was given for two texts, and stdin is one. Use @FILE.")
    request = _request(
        question=_text(args.question),
        answer=_text(args.answer),
        contexts=[_text(each) for each in args.context] or None,
        ground_truth=None if args.ground_truth is None else _text(args.ground_truth),
        metrics=args.metrics,
        judge_model=args.judge,
        embedding_model=args.embeddings,
    )
    return asyncio.run(_scored(request, args.settings, args.votes))


def _request(**given: Any) -> ScoreRequest:
    try:
        return ScoreRequest.model_validate(given)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)]
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, f"That can't be scored: {'; '.join(problems)}.", details={"problems": problems}
        ) from None


def _text(given: str) -> str:
    """A text, from where an argument says.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where it can't be read.
    """
    if given != "-" and not given.startswith("@"):
        return given
    if given.startswith("@@"):
        return given[1:]
    try:
        if given == "-":
            read = sys.stdin.read(_MOST)
        else:
            with open(given[1:], encoding="utf-8-sig") as file:
                read = file.read(_MOST)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{given!r} can't be read: {why}.") from None
    # A file's last line ends so, which is no part of its text.
    return read.removesuffix("\n")


async def _scored(request: ScoreRequest, settings: Settings, votes: int | None) -> Json:
    check_metrics(request.metrics or ())
    sample = sample_of(request)
    begun = time.monotonic()
    async with open_judges(settings) as runtime:
        models = models_of(runtime, request.judge_model, request.embedding_model, votes, None)
        metrics = requested(sample, request.metrics, judge=bool(models.judges), embeddings=models.embedder is not None)
        if not metrics:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                "No metric fits a question and an answer alone. Give --ground-truth or --context, or configure judges.",
            )
        scores = await evaluate(sample, metrics, models)
    outcome = outcome_of_scores(Scored(scores, time.monotonic() - begun))
    if outcome["error"] is not None:
        raise AutoScorerError.from_dict(outcome["error"])
    return {
        **scores.model_dump(mode="json"),
        "latency_ms": outcome["data"]["latency_ms"],
        "models": models.names,
        "usage": _usage(scores.metrics.values()),
    }


def _usage(metrics: Iterable[MetricScore]) -> Json:
    """What all metrics took together; the cost is None where one of them is unknown."""
    each = list(metrics)
    costs = [metric.cost for metric in each if metric.cost is not None]
    names = ("calls", "cached", "prompt_tokens", "completion_tokens")
    return {
        **{name: sum(getattr(metric, name) for metric in each) for name in names},
        "cost": sum(costs) if len(costs) == len(each) else None,
    }


def render(data: Json, args: argparse.Namespace) -> None:
    from rich.text import Text

    from . import terminal

    console = terminal.console()
    colours = {"ok": "green", "failed": "bold red"}
    table = terminal.table("metric", "score", "status", "why", right=("score",))
    for name, each in data["metrics"].items():
        why = each["reason"] if each["reason"] or each["status"] != "ok" else METRICS[name].summary
        table.add_row(
            Text(name),
            Text(number(each["score"])),
            Text(each["status"], style=colours.get(each["status"], "yellow")),
            Text(printable(why or ""), style="dim" if each["status"] == "ok" else ""),
        )
    console.print(table)
    console.print(
        Text.assemble("weighted score ", (number(data["weighted_score"]), "bold"), f"  coverage {data['coverage']:.0%}")
    )
    usage = data["usage"]
    if data["models"]:
        tokens = f"{usage['prompt_tokens']:,} + {usage['completion_tokens']:,} tokens"
        told = ", ".join(f"{kind} {name}" for kind, name in data["models"].items())
        cost = "unknown" if usage["cost"] is None else number(usage["cost"])
        line = f"{told}; {usage['calls']:,} calls, {usage['cached']:,} cached, {tokens}, cost {cost}"
        console.print(Text(printable(line), style="dim"))
