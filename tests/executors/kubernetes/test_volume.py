"""Files by a volume that both sides see: the run's own folder, and nothing else of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.processes import ProcessIdentity
from autoscorer.core.workspace import Workspace
from autoscorer.executors.kubernetes.executor import KubernetesExecutor
from autoscorer.executors.reaper import reap
from autoscorer.executors.records import RunRecords
from autoscorer.executors.supervise import RunReport

from ...support.fake_kubernetes import FakeKubernetes

Run = Callable[..., RunReport]

pytestmark = pytest.mark.slow


@pytest.fixture
def volume(cluster: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume that the fake's node and AutoScorer have at the same place."""
    folder = tmp_path / "volume"
    folder.mkdir()
    cluster.node.claims["runs"] = folder
    for key, value in {"VOLUME__CLAIM": "runs", "VOLUME__PATH": str(folder), "TRANSFER": "volume"}.items():
        monkeypatch.setenv(f"AUTOSCORER_EXECUTORS__KUBERNETES__{key}", value)
    monkeypatch.delenv("AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE")
    return folder


def code_of(report: RunReport) -> str | None:
    return report.error.code.value if report.error else None


def test_a_run_has_its_own_folder_which_is_gone_afterwards(
    volume: Path, run: Run, tmp_path: Path, cluster: FakeKubernetes
) -> None:
    (volume / "somebody-elses").write_text("x")
    script = "ls -R /workspace; cp /workspace/input/data/x.csv /workspace/output/pred.csv; ls /workspace/../.."
    report = run(script)
    assert report.error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_text() == "id,x\na,1\nb,2\n"
    log = (tmp_path / "ws" / "logs" / "container.log").read_text()
    assert "x.csv" in log and "gt.csv" not in log
    assert sorted(path.name for path in volume.iterdir()) == ["somebody-elses"]
    assert not cluster.requests["get pods/exec"], "nothing is executed in such a pod"


@pytest.mark.parametrize("command", ["ln -s /etc/passwd pred.csv", "mkfifo pred.csv"])
def test_what_is_left_there_is_audited_as_everywhere(volume: Path, run: Run, tmp_path: Path, command: str) -> None:
    assert code_of(run(f"cd /workspace/output; {command}")) == "OUTPUT_REJECTED"
    assert not list(volume.iterdir())


def test_too_much_is_seen_while_it_is_written(volume: Path, run: Run) -> None:
    report = run("i=0; while true; do i=$((i+1)); head -c 1000000 /dev/zero > /workspace/output/$i; sleep .02; done")
    assert code_of(report) == "RESOURCE_ERROR" and report.error and report.error.details["resource"] == "disk"
    assert not list(volume.iterdir())


def test_a_volume_that_is_not_there_is_ours(volume: Path, run: Run) -> None:
    volume.rmdir()
    with pytest.raises(Exception, match=r"BACKEND_UNAVAILABLE.*executors\.kubernetes\.volume"):
        run("true")


def test_what_a_killed_process_left_on_it_is_removed(
    volume: Path, cluster: FakeKubernetes, make_workspace: Callable[..., Path], home: Path
) -> None:
    settings = load_settings()
    executor = KubernetesExecutor(settings)
    places = executor.leaves("0123456789ab")
    assert places == (volume / "autoscorer-0123456789ab",)
    record = RunRecords(home).add("0123456789ab", Workspace(make_workspace()), "kubernetes", places)
    (places[0] / "output").mkdir(parents=True)
    text = record.path.read_text()
    dead = ProcessIdentity.current().text.rpartition("|")[0] + "|1"
    record.path.write_text(text.replace(ProcessIdentity.current().text, dead))
    done = reap(settings)
    assert str(places[0]) in done.folders and not list(volume.iterdir()) and not record.path.exists()


def test_who_is_not_root_runs_models_as_itself(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else could take the folder back."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 1235)
    assert KubernetesExecutor(load_settings()).owner() == (1234, 1235)
