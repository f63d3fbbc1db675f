"""Whatever scores answers contacts the judge that is configured, and no other host: no telemetry, no download."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ..scorers.rag.test_judged_metrics import RIGHT, judging
from ..support.own_network import Outside, in_own_network
from ..support.stub_judge import StubJudge

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "rag" / "system-a"
SAMPLE = {"answer": "It is Paris.", "contexts": ["Paris is the capital of France."]}


def test_a_packet_to_another_host_is_seen() -> None:
    def story(outside: Outside) -> tuple[list[str], list[str]]:
        before = outside.seen()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", ("192.0.2.7", 53))
        code = "import socket\ntry: socket.create_connection(('192.0.2.8', 443), timeout=0.5)\nexcept OSError: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        return before, outside.seen()

    before, after = in_own_network(story)
    assert before == [] and {"192.0.2.7", "192.0.2.8"} <= set(after)


@pytest.mark.parametrize("what", ["answers", "answer", "calibration"])
def test_no_host_but_the_judges_is_contacted(home: Path, tmp_path: Path, what: str) -> None:
    commands = {
        "answers": ["score", str(tmp_path / "rag")],
        "answer": ["rag", "score", "--question", "q", "--answer", "A is one.", "--context", "c", "--ground-truth", "t"],
        "calibration": ["judge", "calibrate", str(tmp_path / "labels.jsonl")],
    }
    subprocess.run(["cp", "-r", str(EXAMPLE), str(tmp_path / "rag")], check=True)
    labels = [
        {"sample": {"question": f"{number}?", **SAMPLE}, "metric": "faithfulness", "label": number % 2 == 0}
        for number in range(12)
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(each) + "\n" for each in labels))

    def story(outside: Outside) -> tuple[int, str, int, list[str]]:
        stub = StubJudge(answer=judging(RIGHT)).start()
        try:
            profile = {"base_url": stub.url, "model": "large", "max_attempts": 2}
            named = {"DEFAULT": "one", "PROFILES": json.dumps({"one": profile})}
            environment = {f"AUTOSCORER_{kind}__{key}": text for kind in ("JUDGE", "EMBEDDINGS") for key, text in
                           named.items()}  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-m", "autoscorer", *commands[what]],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                timeout=300,
            )
            return done.returncode, done.stdout + done.stderr, stub.calls, outside.seen()
        finally:
            stub.stop()

    code, told, calls, contacted = in_own_network(story)
    assert code == 0, told
    assert calls >= 3 and contacted == []
