"""A run in a cluster, from its Job to its delivered output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from autoscorer.executors.supervise import RunReport

from ...support.fake_kubernetes import FakeKubernetes
from ...support.fake_kubernetes_node import DIGEST

Run = Callable[..., RunReport]


def test_a_model_runs_and_its_output_is_delivered(run: Run, tmp_path: Path, cluster: FakeKubernetes) -> None:
    report = run("cat /workspace/input/data/x.csv > /workspace/output/pred.csv; echo hello; cat /workspace/meta.json")
    assert report.error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_text() == "id,x\na,1\nb,2\n"
    log = (tmp_path / "ws" / "logs" / "container.log").read_text()
    assert log.startswith("hello\n") and '"task_type": "classification"' in log
    info = json.loads((tmp_path / "ws" / "logs" / "run_info.json").read_text())
    assert info["backend"] == "kubernetes" and info["image"]["digest"] == DIGEST and info["neutral_paths"] is True
    assert "process_limit" in info["unwatched"]
    assert any("RuntimeDefault" in note for note in report.notes)
    # One of each: what a run asks for, beside the list and the watch that all runs of a process share.
    assert sum(cluster.requests.values()) <= 12, cluster.requests
