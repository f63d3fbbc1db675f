"""A run in a cluster, from its Job to its delivered output, and every way in which it can end."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.base import SilentObserver
from autoscorer.executors.kubernetes.names import LABEL
from autoscorer.executors.supervise import RunReport

from ...support.fake_kubernetes import FakeKubernetes
from ...support.fake_kubernetes_node import DIGEST
from ...support.prefect_server import eventually

Run = Callable[..., RunReport]

pytestmark = pytest.mark.slow


class Telling(SilentObserver):
    """Does something when the model says a word."""

    def __init__(self, word: str, do: Callable[[], Any]) -> None:
        self._word, self._do = word, do

    def log(self, line: str) -> None:
        if self._word in line:
            threading.Thread(target=self._do, daemon=True).start()


def code_of(report: RunReport) -> str | None:
    return report.error.code.value if report.error else None


def refused(run: Run, *arguments: Any, **keywords: Any) -> AutoScorerError:
    """The error of a run that is no fault of the submission's."""
    with pytest.raises(AutoScorerError) as caught:
        run(*arguments, **keywords)
    return caught.value


def log_of(tmp_path: Path) -> bytes:
    return (tmp_path / "ws" / "logs" / "container.log").read_bytes()


# --- it runs -----------------------------------------------------------------------------------------------------


def test_a_model_runs_and_its_output_is_delivered(run: Run, tmp_path: Path, cluster: FakeKubernetes) -> None:
    report = run("cat /workspace/input/data/x.csv > /workspace/output/pred.csv; echo hello; cat /workspace/meta.json")
    assert report.error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_text() == "id,x\na,1\nb,2\n"
    log = log_of(tmp_path)
    assert log.startswith(b"hello\n") and b'"task_type": "classification"' in log
    info = json.loads((tmp_path / "ws" / "logs" / "run_info.json").read_text())
    assert info["backend"] == "kubernetes" and info["image"]["digest"] == DIGEST and info["neutral_paths"] is True
    assert "process_limit" in info["unwatched"]
    assert any("RuntimeDefault" in note for note in report.notes)
    # One of each: what a run asks for, beside the list and the watch that all runs of a process share.
    assert sum(cluster.requests.values()) <= 12, cluster.requests


def test_the_ground_truth_never_enters_the_pod(run: Run, tmp_path: Path, cluster: FakeKubernetes) -> None:
    seen: list[str] = []
    report = run(
        "grep -r 'SECRET-[T]RUTH' /workspace /output 2>/dev/null; ls -R /workspace; echo ready; sleep 1",
        observer=Telling("ready", lambda: seen.append(_everything(cluster))),
    )
    assert report.error is None
    assert b"SECRET-TRUTH" not in log_of(tmp_path) and b"gt.csv" not in log_of(tmp_path)
    eventually(lambda: seen)
    assert "SECRET-TRUTH" not in seen[0] and "gt.csv" not in seen[0] and "x.csv" in seen[0]


def _everything(cluster: FakeKubernetes) -> str:
    """Every object of the cluster, and every file of its node."""
    files = [path for path in cluster.node.folder.rglob("*") if path.is_file()]
    texts = [path.read_bytes().decode("utf-8", "replace") for path in files]
    return json.dumps([cluster.pods(), cluster.jobs()]) + "".join(map(str, files)) + "".join(texts)


def test_awkward_names_and_large_files_go_both_ways(run: Run, tmp_path: Path) -> None:
    """64 MiB each way, with checksums; names of every kind."""
    names = [
        "sp ace",
        "new\nline",
        "-dash",
        "b\\ack",
        "ünïcode",
        "n" * 240,
        "deep/" + "d" * 120 + "/" + "e" * 120 + "/f",
    ]
    ws = tmp_path / "ws"
    # The workspace is written by the fixture; its data folder is filled through a hook of its own.
    big = os.urandom(1024**2) * 64

    def fill(root: Path) -> None:
        for name in names:
            path = root / "input" / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        (root / "input" / "data" / "big").write_bytes(big)
        (root / "input" / "data" / "empty").mkdir()

    report = run("cp -r /workspace/input/data/. /workspace/output/", resources={"disk": "100Mi"}, fill=fill)
    assert report.error is None, report.error
    for name in names:
        assert (ws / "output" / name).read_text() == name
    got = hashlib.sha256((ws / "output" / "big").read_bytes()).hexdigest()
    assert got == hashlib.sha256(big).hexdigest()
    assert (ws / "output" / "empty").is_dir()


def test_a_log_of_json_comes_byte_for_byte_whole(run: Run, tmp_path: Path, cluster: FakeKubernetes) -> None:
    cluster.stamps_parts = True  # as servers before 1.27
    line = '{"a": "b", "n": [1, 2.50], "deep": {"x": null}}'
    script = f"for i in 1 2 3 4 5; do echo '{line}'; done; head -c 50000 /dev/zero | tr '\\0' 'x'; echo; printf end"
    assert run(script).error is None
    assert log_of(tmp_path) == (line + "\n").encode() * 5 + b"x" * 50000 + b"\nend"


def test_dollars_are_the_models_own(run: Run, tmp_path: Path) -> None:
    """Kubernetes reads $(NAME) as a variable, in commands and in the environment."""
    report = run(
        "echo $(echo inner) $$( 2>/dev/null || true; echo \"$A\" '$(B)' '$$'",
        container={"env": {"A": "$(B) $$ $HOME", "B": "no"}, "cmd": ["sh", "-c", "echo \"$A\" '$(B)' '$$' '$'"]},
    )
    assert report.error is None
    assert log_of(tmp_path) == b"$(B) $$ $HOME $(B) $$ $\n"


def test_a_model_that_ends_before_the_keeper_is_there_loses_nothing(
    run: Run, cluster: FakeKubernetes, tmp_path: Path
) -> None:
    """The news of its end may come before the container beside it was started."""
    cluster.node.slow_to_start = {"keeper": 1.0}
    assert run("echo 1 > /workspace/output/pred.csv").error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_text() == "1\n"


def test_the_most_memory_is_told_where_the_cluster_measures_it(
    run: Run, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscorer.executors.kubernetes.metrics.EVERY", 0.2)
    cluster.metrics = {"model": "12345Ki", "keeper": "99Mi"}
    assert run("sleep 1.5").resources.peak_memory_bytes == 12345 * 1024
    cluster.metrics = None  # a cluster that measures nothing is asked once
    before = cluster.requests.total()
    assert run("sleep 1.5", name="again").resources.peak_memory_bytes is None
    assert cluster.requests.total() - before < 12


# --- how it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "exit_code"),
    [
        ("exit 0", None, 0),
        ("echo bad; exit 3", "CONTAINER_FAILED", 3),
        ("kill -9 $$", "CONTAINER_FAILED", 137),
        ("kill -SEGV $$", "CONTAINER_FAILED", 139),
        ("echo 'MemoryError'; exit 1", "RESOURCE_ERROR", 1),
    ],
)
def test_a_model_is_judged_by_its_own_end(run: Run, script: str, code: str | None, exit_code: int) -> None:
    report = run(script)
    assert code_of(report) == code and report.resources.exit_code == exit_code


def test_out_of_memory(run: Run, cluster: FakeKubernetes) -> None:
    cluster.node.oom_codes = {9}
    report = run("exit 9")
    assert code_of(report) == "RESOURCE_ERROR" and report.error and report.error.details["resource"] == "memory"


def test_the_deadline_kills(run: Run, tmp_path: Path) -> None:
    began = time.monotonic()
    report = run("trap '' TERM; echo begun; echo x > /workspace/output/pred.csv; sleep 60", timeout=2)
    assert code_of(report) == "TIMEOUT_ERROR" and time.monotonic() - began < 20
    assert report.error and report.error.details["log"] == ["begun"]
    assert not (tmp_path / "ws" / "output" / "pred.csv").exists()


def test_a_cancelled_run_ends(run: Run) -> None:
    word = threading.Event()
    report = run("echo begun; sleep 60", cancelled=word.is_set, observer=Telling("begun", word.set))
    assert code_of(report) == "CANCELLED"


def test_a_run_that_waits_for_its_pod_is_cancelled_too(run: Run, cluster: FakeKubernetes) -> None:
    word = threading.Event()
    cluster.node.cpus = 0.1
    threading.Timer(1, word.set).start()
    assert code_of(run("true", cancelled=word.is_set)) == "CANCELLED"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("manifest for model:1 not found: manifest unknown", "IMAGE_NOT_FOUND"),
        ("pull access denied, repository does not exist or may require authorization", "IMAGE_NOT_FOUND"),
    ],
)
def test_an_image_that_is_nowhere_is_the_submissions(run: Run, cluster: FakeKubernetes, said: str, code: str) -> None:
    cluster.node.images["model:1"] = said
    report = run("true")
    assert code_of(report) == code and said in str(report.error)


def test_a_registry_that_is_away_is_ours(run: Run, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__START_TIMEOUT", "2")
    cluster.node.images["model:1"] = "dial tcp: lookup registry.example: no such host"
    error = refused(run, "true")
    assert error.code == "IMAGE_PULL_FAILED" and "no such host" in error.message


def test_a_helper_image_that_is_nowhere_is_ours(run: Run, cluster: FakeKubernetes) -> None:
    cluster.node.images["helper:1"] = "not found"
    error = refused(run, "true")
    assert error.code == "BACKEND_UNAVAILABLE" and "helper_image" in error.message


def test_no_room_on_any_node_is_ours_with_the_schedulers_reason(
    run: Run, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__START_TIMEOUT", "1")
    error = refused(run, "true", resources={"cpu": 60})
    assert error.code == "BACKEND_UNAVAILABLE" and "Insufficient cpu" in error.message
    assert "start_timeout" in error.message


def test_a_quota_that_others_use_up_is_waited_for(run: Run, cluster: FakeKubernetes) -> None:
    cluster.quota = 0
    threading.Timer(1.5, setattr, (cluster, "quota", 5)).start()
    assert run("true").error is None


def test_a_quota_that_stays_is_ours(run: Run, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__START_TIMEOUT", "1")
    cluster.quota = 0
    error = refused(run, "true")
    assert error.code == "BACKEND_UNAVAILABLE" and "exceeded quota" in error.message


def test_a_cluster_that_refuses_such_pods_is_told_at_once(run: Run, cluster: FakeKubernetes) -> None:
    cluster.refuses_pods = 'violates PodSecurity "restricted:latest"'
    began = time.monotonic()
    error = refused(run, "true")
    assert error.code == "BACKEND_UNAVAILABLE" and "PodSecurity" in error.message and time.monotonic() - began < 15


def test_an_eviction_for_its_own_disk_is_the_models(run: Run, cluster: FakeKubernetes) -> None:
    said = 'Usage of EmptyDir volume "output" exceeds the limit "24Mi". '
    report = run("echo begun; sleep 60", observer=Telling("begun", lambda: cluster.evict(said)))
    assert code_of(report) == "RESOURCE_ERROR" and report.error and report.error.details["resource"] == "disk"


def test_an_eviction_for_the_nodes_sake_is_not(run: Run, cluster: FakeKubernetes) -> None:
    said = "The node was low on resource: memory. "
    error = refused(run, "echo begun; sleep 60", observer=Telling("begun", lambda: cluster.evict(said)))
    assert error.code == "BACKEND_UNAVAILABLE" and "low on resource" in error.message


def test_somebody_who_deletes_the_pod_or_the_job_is_not_the_model(run: Run, cluster: FakeKubernetes) -> None:
    for delete in (
        lambda: cluster.delete_pod(cluster.the_pod(), 1),
        lambda: cluster.delete_job(cluster.jobs()[0]["metadata"]["name"], "Background"),
    ):
        error = refused(run, "echo begun; sleep 60", name=f"ws{id(delete)}", observer=Telling("begun", delete))
        assert error.code == "BACKEND_UNAVAILABLE" and "deleted" in error.message


def test_a_node_that_is_lost_is_ours_past_the_deadline_too(run: Run, cluster: FakeKubernetes) -> None:
    error = refused(run, "echo begun; sleep 3", timeout=3, observer=Telling("begun", cluster.lose_node))
    assert error.code == "BACKEND_UNAVAILABLE" and "not heard of" in error.message


def test_too_much_output_is_seen_while_it_is_written(run: Run, cluster: FakeKubernetes) -> None:
    began = time.monotonic()
    report = run("i=0; while true; do i=$((i+1)); head -c 1000000 /dev/urandom > /workspace/output/$i; sleep .01; done")
    assert code_of(report) == "RESOURCE_ERROR" and report.error and report.error.details["resource"] == "disk"
    assert time.monotonic() - began < 20


def test_too_many_files_are_seen_while_they_are_written(run: Run) -> None:
    report = run("cd /workspace/output; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); : > $i; done; sleep 60")
    assert code_of(report) == "RESOURCE_ERROR" and report.error and report.error.details["resource"] == "files"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("ln -s /etc/passwd pred.csv", id="link"),
        pytest.param("ln -s . sub", id="link-to-itself"),
        pytest.param("mkdir -p a/b && mkfifo a/b/c", id="fifo"),
        pytest.param("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'", id="socket"),
    ],
)
def test_output_that_is_no_plain_file_is_refused(run: Run, tmp_path: Path, command: str) -> None:
    report = run(f"cd /workspace/output && {command}")
    assert code_of(report) == "OUTPUT_REJECTED", report.error
    assert sorted(path.name for path in (tmp_path / "ws" / "output").iterdir()) == ["artifacts", "result.json"]


def test_a_sparse_file_counts_in_full(run: Run) -> None:
    report = run("for i in 1 2 3; do truncate -s 15M /workspace/output/$i; done")
    assert code_of(report) == "RESOURCE_ERROR"


def test_hard_links_and_closed_files_come_along(run: Run, tmp_path: Path) -> None:
    report = run("cd /workspace/output; echo 1 > pred.csv; ln pred.csv more; mkdir d; echo 2 > d/x; chmod 0 d/x d more")
    assert report.error is None
    output = tmp_path / "ws" / "output"
    assert (output / "more").read_text() == "1\n" and (output / "d" / "x").read_text() == "2\n"
    assert oct((output / "d" / "x").stat().st_mode) == "0o100644"


def test_a_command_that_does_not_exist_is_the_submissions(run: Run) -> None:
    report = run("", container={"cmd": ["/no/such/program"]})
    assert code_of(report) == "CONTAINER_FAILED" and report.error and report.error.details["exit_code"] == 127


# --- connections that fail ---------------------------------------------------------------------------------------


def test_an_api_server_that_is_away_for_a_while_loses_no_run(run: Run, cluster: FakeKubernetes, tmp_path: Path) -> None:
    def away() -> None:
        with cluster.away():
            time.sleep(4)

    script = "echo begun; for i in 1 2 3 4 5 6 7 8; do echo $i; sleep .3; done; echo done > /workspace/output/pred.csv"
    report = run(script, observer=Telling("begun", away))
    assert report.error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_text() == "done\n"
    assert log_of(tmp_path) == b"begun\n1\n2\n3\n4\n5\n6\n7\n8\n"


@pytest.mark.parametrize("after", [0, 40, 10_000, 200_000])
def test_a_log_that_is_cut_is_neither_doubled_nor_cut(
    run: Run, cluster: FakeKubernetes, tmp_path: Path, after: int
) -> None:
    cluster.cut_after["log"] = after
    script = 'i=0; while [ $i -lt 8000 ]; do i=$((i+1)); echo {\\"n\\": $i}; done; sleep 1; echo end'
    assert run(script).error is None
    assert log_of(tmp_path) == b"".join(b'{"n": %d}\n' % n for n in range(1, 8001)) + b"end\n"


@pytest.mark.parametrize("after", [0, 5_000, 3_000_000])
def test_a_transfer_that_is_cut_begins_again(run: Run, cluster: FakeKubernetes, tmp_path: Path, after: int) -> None:
    data = os.urandom(4_000_000)

    def fill(root: Path) -> None:
        (root / "input" / "data" / "big").write_bytes(data)

    cluster.cut_after["exec"] = after
    cut_again = Telling("begun", lambda: cluster.cut_after.update(exec=after))
    script = "echo begun; sleep .5; cp /workspace/input/data/big /workspace/output/pred.csv"
    assert run(script, fill=fill, observer=cut_again).error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_bytes() == data


def test_the_watch_goes_on_after_its_version_was_forgotten(run: Run, cluster: FakeKubernetes) -> None:
    report = run("echo begun; sleep 2", observer=Telling("begun", cluster.store.forget))
    assert report.error is None


def test_a_job_whose_making_was_not_answered_is_made_once(
    run: Run, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server made it, and the answer was lost: the next attempt finds it there, by its name."""
    answer = cluster.store.add
    lost = []

    def add(kind: str, found: dict[str, Any]) -> Any:
        made = answer(kind, found)
        if kind == "jobs" and not lost:
            lost.append(1)
            threading.Thread(target=cluster.make_pod, args=(made,), daemon=True).start()
            cluster.cut()
        return made

    monkeypatch.setattr(cluster.store, "add", add)
    report = run("exit 0")
    assert report.error is None and lost
    assert cluster.requests["create jobs"] == 2


def test_a_job_of_that_name_that_is_not_ours_is_left_alone(
    run: Run, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscorer.executors.supervise.new_run_id", lambda: "aaaabbbbcccc")
    template = {"metadata": {}, "spec": {"containers": []}}
    job = {"metadata": {"name": "autoscorer-aaaabbbbcccc"}, "spec": {"template": template}}
    cluster.store.add("jobs", job)
    error = refused(run, "exit 0")
    assert error.code == "BACKEND_UNAVAILABLE" and "not this run's" in error.message
    assert cluster.store.remove("jobs", "autoscorer-aaaabbbbcccc") is not None


def test_rights_that_are_missing_are_told(run: Run, cluster: FakeKubernetes) -> None:
    cluster.denied = {"create jobs"}
    error = refused(run, "true")
    assert error.code == "BACKEND_UNAVAILABLE" and "doctor" in error.message and "HTTP 403" in error.message


# --- before anything starts -------------------------------------------------------------------------------------------


def test_without_a_helper_image_it_says_what_to_set(
    run: Run, monkeypatch: pytest.MonkeyPatch, cluster: FakeKubernetes
) -> None:
    monkeypatch.delenv("AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE")
    assert "executors.kubernetes.enabled" in refused(run, "true").message
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__ENABLED", "true")
    error = refused(run, "true", name="another")
    assert "helper_image" in error.message and "transfer" in error.message
    assert not cluster.requests["create jobs"]


@pytest.mark.parametrize("brings", ["image.tar", "Dockerfile"])
def test_a_workspace_that_brings_its_image_is_told_to_push_it(
    run: Run, cluster: FakeKubernetes, tmp_path: Path, brings: str
) -> None:
    def fill(root: Path) -> None:
        (root / brings).write_text("FROM scratch\n")
        meta = json.loads((root / "meta.json").read_text())
        del meta["container"]["image"]
        (root / "meta.json").write_text(json.dumps(meta))

    report = run("true", fill=fill)
    assert code_of(report) == "INVALID_META" and report.error and "registry" in report.error.message
    assert not cluster.requests["create jobs"]


def test_what_a_job_and_its_pod_carry(run: Run, cluster: FakeKubernetes) -> None:
    seen: list[Any] = []
    run(
        "echo begun; sleep 1",
        labels={"flow_run": "0190a1b2-0000-7000-8000-000000000000", "odd": "not a label!"},
        observer=Telling("begun", lambda: seen.extend([cluster.jobs()[0], cluster.pods()[0]])),
    )
    for found in seen:
        labels, annotations = found["metadata"]["labels"], found["metadata"]["annotations"]
        assert labels[LABEL + "flow_run"] == "0190a1b2-0000-7000-8000-000000000000"
        assert LABEL + "odd" not in labels and annotations[LABEL + "odd"] == "not a label!"
        assert int(labels[LABEL + "deadline"]) > time.time() and annotations[LABEL + "owner"].count("|") == 5
    assert len(seen) == 2
