"""How fast answers are judged, against what the judge's latency and the places at it allow.

    python benchmarks/rag.py [--samples N] [--latency SECONDS] [--ragas PYTHON]

A stub of an OpenAI-compatible server answers each call after 0.2 s, in a process of its own. The ideal is calls x
latency / concurrency; printed are ratios to it, the processor time of a call, and what repeats and faults cost. Limits:
at least 90 % of the ideal at concurrency 16 and 80 % at 64, 20 answers a second for five metrics at 64, 2.5 ms of
processor time a call, no call for what is known, and 99.9 % of metrics scored where 10 % of calls are put off and 5 %
of answers cut. Importing the scorer takes at most 0.3 s more than importing what scores tables.

--ragas names the Python of an environment with ``ragas==0.3.9 "langchain<1" "langchain-community<0.4"
"langchain-openai<1"``, which can't be installed beside Prefect: its faithfulness of 1,000 answers, asked of the same
stub with as many calls at a time, is compared with ours, which is to be at least 5 times as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoscorer.core.config import Settings
from autoscorer.core.config_judge import EmbeddingsProfile, EmbeddingsSection, JudgeProfile, JudgeSection
from autoscorer.schemas.rag import SampleScores
from autoscorer.scorers.judge.runtime import open_judges
from autoscorer.scorers.rag.evaluate import evaluate
from autoscorer.scorers.rag.run import models_of
from autoscorer.scorers.rag.sample import Sample

FIVE = ("faithfulness", "answer_relevancy", "context_precision", "context_recall", "answer_correctness")
IDEAL = {16: 0.90, 64: 0.80}
LEAST_RATE, MOST_CPU, LEAST_SCORED, MOST_IMPORT = 20.0, 2.5, 0.999, 0.3
PEER_SAMPLES = 1000
RAGAS = """
import json, os, sys, time
os.environ.update(RAGAS_DO_NOT_TRACK="true", OPENAI_API_KEY="none")
from langchain_openai import ChatOpenAI
from ragas import EvaluationDataset, SingleTurnSample, evaluate
from ragas.llms import LangchainLLMWrapper
from ragas.metrics import Faithfulness
from ragas.run_config import RunConfig
config = RunConfig(max_workers=int(sys.argv[2]), timeout=600)
llm = LangchainLLMWrapper(ChatOpenAI(model="large", base_url=sys.argv[1], temperature=0), run_config=config)
samples = [SingleTurnSample(user_input=q, response=a, retrieved_contexts=c) for q, a, c in json.load(sys.stdin)]
data, began = EvaluationDataset(samples), time.perf_counter()
found = evaluate(data, [Faithfulness(llm=llm)], run_config=config, show_progress=False)
print(json.dumps({"seconds": time.perf_counter() - began, "scored": sum(v == v for v in found["faithfulness"])}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--ragas", metavar="PYTHON", help="of an environment with ragas")
    args = parser.parse_args()
    missed = []

    def told(what: str, value: str, limit: str, is_well: bool) -> None:
        print(f"{what:<44} {value:>12}   {limit:<16} {'ok' if is_well else 'MISSED'}")
        if not is_well:
            missed.append(what)

    samples = [_sample(number) for number in range(args.samples)]
    with tempfile.TemporaryDirectory() as home:
        for concurrency, least in IDEAL.items():
            with stub_judge(latency=args.latency) as stub:
                settings = _settings(Path(home) / str(concurrency), stub.url, concurrency)
                # One kind of calls, so that the ideal is what it is called: each answer has two, one after the other.
                seconds, cpu, _ = _timed(settings, samples, ("faithfulness",))
                calls = stub.calls()
            share = calls * args.latency / concurrency / seconds
            told(f"of the ideal at concurrency {concurrency}", f"{share:.0%}", f">= {least:.0%}", share >= least)
            told(f"processor time of a call at {concurrency}", f"{1000 * cpu / calls:.2f} ms", f"<= {MOST_CPU} ms",
                 1000 * cpu / calls <= MOST_CPU)  # fmt: skip
        with stub_judge(latency=args.latency) as stub:
            settings = _settings(Path(home) / "five", stub.url, 64)
            seconds, _, _ = _timed(settings, samples, FIVE)
            rate, calls = len(samples) / seconds, stub.calls()
            told("answers a second, five metrics at 64", f"{rate:.1f}", f">= {LEAST_RATE:g}", rate >= LEAST_RATE)
            print(f"{'':<44} {calls / len(samples):>12.1f}   calls an answer")
            seconds, _, _ = _timed(settings, samples, FIVE)
            again = stub.calls() - calls
            told("calls for the same answers again", str(again), "0", again == 0)
            print(f"{'':<44} {len(samples) / seconds:>12.1f}   answers a second from what is known")
        with stub_judge(latency=args.latency, rate_limited=0.10, truncated=0.05) as stub:
            settings = _settings(Path(home) / "faults", stub.url, 64)
            _, _, found = _timed(settings, samples, FIVE)
        metrics = [metric for scores in found for metric in scores.metrics.values()]
        scored = sum(metric.status != "failed" for metric in metrics) / len(metrics)
        told(
            "metrics scored, 10 % put off and 5 % cut",
            f"{scored:.2%}",
            f">= {LEAST_SCORED:.1%}",
            scored >= LEAST_SCORED,
        )
        seconds = _import_seconds()
        told("import of the scorer over the rest", f"{seconds:.2f} s", f"<= {MOST_IMPORT} s", seconds <= MOST_IMPORT)
        if args.ragas is not None:
            samples = [_sample(number) for number in range(PEER_SAMPLES)]
            with stub_judge(latency=args.latency) as stub:
                theirs = _ragas(args.ragas, stub.url, samples)
                asked = stub.calls()
            with stub_judge(latency=args.latency) as stub:
                ours, _, _ = _timed(_settings(Path(home) / "peer", stub.url, 64), samples, ("faithfulness",))
            told("as fast as ragas, faithfulness at 64", f"{theirs / ours:.1f} x", ">= 5 x", theirs / ours >= 5)
            print(f"{'':<44} {theirs:>10.1f} s   of ragas in {asked:,} calls, {ours:.1f} s of ours")
    return 1 if missed else 0


def _import_seconds() -> float:
    """Median of what the scorer's module takes to import after those of the scorers of tables."""
    code = (
        "import time, autoscorer.scorers.classification, autoscorer.tasks.score; begun = time.perf_counter(); "
        "import autoscorer.scorers.rag.scorer; print(time.perf_counter() - begun)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(7)]
    return statistics.median(float(run.stdout) for run in runs)


def _ragas(python: str, url: str, samples: list[Sample]) -> float:
    asked = json.dumps([[each.question, each.answer, each.contexts] for each in samples])
    done = subprocess.run([python, "-c", RAGAS, url, "64"], input=asked, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"ragas failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["scored"] == len(samples), found
    return float(found["seconds"])


def _sample(number: int) -> Sample:
    return Sample(
        f"What is the number {number}?",
        f"The number {number} is a number. It comes after {number - 1}. It comes before {number + 1}.",
        tuple(f"Passage {place} of question {number}." for place in range(3)),
        f"It is {number}. It is whole.",
    )


def _settings(home: Path, url: str, concurrency: int) -> Settings:
    home.mkdir()
    judge = JudgeProfile(base_url=url, model="large", concurrency=concurrency)
    embeddings = EmbeddingsProfile(base_url=url, model="small", concurrency=concurrency)
    return Settings(
        home=home,
        judge=JudgeSection(default="stub", profiles={"stub": judge}, concurrency=4096),
        embeddings=EmbeddingsSection(default="stub", profiles={"stub": embeddings}),
    )


def _timed(
    settings: Settings, samples: list[Sample], metrics: tuple[str, ...]
) -> tuple[float, float, list[SampleScores]]:
    """Seconds, seconds of this process's processor time, and what came out."""

    async def run() -> list[SampleScores]:
        places = asyncio.Semaphore(128)

        async def one(sample: Sample) -> SampleScores:
            async with places:
                return await evaluate(sample, metrics, models_of(runtime, None, None, None, None))

        async with open_judges(settings) as runtime:
            return list(await asyncio.gather(*map(one, samples)))

    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    found = asyncio.run(run())
    now = resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return time.perf_counter() - began, cpu, found


class Stub:
    """The other end of a stub judge in a process of its own."""

    def __init__(self, pipe: Connection, url: str) -> None:
        self._pipe, self.url = pipe, url

    def calls(self) -> int:
        """How many requests have come."""
        self._pipe.send("calls")
        number: int = self._pipe.recv()
        return number


@contextlib.contextmanager
def stub_judge(**knobs: Any) -> Iterator[Stub]:
    """A stub judge; its knobs are ``latency`` and shares of faults."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, knobs), daemon=True)
    process.start()
    try:
        yield Stub(ours, ours.recv())
    finally:
        ours.send(None)
        process.join()


def _answer(prompt: str, schema: Mapping[str, Any]) -> Any:
    """As the stub does by itself; ragas asks in words, in two steps."""
    from tests.support.stub_judge import filled

    if schema:
        return filled(prompt, schema)
    if "StatementGeneratorOutput" in prompt:
        return {"statements": ["One.", "Two.", "Three."]}
    return {"statements": [{"statement": each, "reason": "so", "verdict": 1} for each in ("One.", "Two.", "Three.")]}


def _serve(pipe: Connection, knobs: dict[str, Any]) -> None:
    from tests.support.stub_judge import Faults, StubJudge

    latency = knobs.pop("latency")
    stub = StubJudge(answer=_answer, latency=latency, faults=Faults(**knobs, first_tries=3), retry_after="0.2").start()
    pipe.send(stub.url)
    while pipe.recv() is not None:
        pipe.send(stub.calls)
    stub.stop()


if __name__ == "__main__":
    sys.exit(main())
