"""benchmark.json, and where submissions lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.benchmark import BenchmarkFolder, find_benchmarks, parse_benchmark
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.meta import load_job, read_meta
from autoscorer.core.submissions import benchmark_of, team_of
from autoscorer.core.workspace import Workspace

from ..support.benchmarks import change_spec, write_benchmark

SPEC = {"name": "iris", "scorer": "classification_f1"}


def refused(**changed: Any) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        parse_benchmark(json.dumps({**SPEC, **changed}))
    assert caught.value.code == "INVALID_BENCHMARK"
    return caught.value


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scorrer": 1}, "scorrer: unknown key; did you mean 'scorer'?"),
        ({"name": "Iris"}, "name:"),
        ({"name": "../iris"}, "name:"),
        ({"quota": {"per_dya": 1}}, "quota.per_dya: unknown key; did you mean 'per_day'?"),
        ({"quota": {"per_day": 0}}, "quota.per_day:"),
        ({"phases": [{"name": "a", "opn": None}]}, "opn: unknown key; did you mean 'open'?"),
        ({"phases": [{"name": "a", "open": "2026-01-01T00:00:00"}]}, "a time with its zone"),
        ({"phases": [{"name": "a", "open": 1767225600}]}, "expected a time"),
        (
            {"phases": [{"name": "a", "open": "2026-02-01T00:00:00Z", "close": "2026-01-01T00:00:00Z"}]},
            "later than open",
        ),
        ({"phases": [{"name": "a"}, {"name": "a"}]}, "two phases are called 'a'"),
        ({"withheld": {}}, "give one of column"),
        ({"withheld": {"column": "Usage", "file": "gt_usage.csv"}}, "give one of column"),
        # Any other name, and models would see the file.
        ({"withheld": {"file": "usage.csv"}}, "withheld.file:"),
        ({"backends": []}, "backends:"),
        ({"backends": ["auto"]}, "backends.0:"),
        ({"leaderboard": {"margin": 0}}, "leaderboard.margin:"),
        ({"leaderboard": {"public": "yes"}}, "leaderboard.public:"),
        ({"leaderboard": {"public": True}, "visibility": "nothing"}, "shows what visibility allows, which is nothing"),
        ({"resources": {"memory": "lots"}}, "resources.memory:"),
        ({"timeout": "soon"}, "timeout:"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, Any], said: str) -> None:
    assert said in refused(**changed).message


def test_every_problem_is_told_at_once() -> None:
    error = refused(name="Iris", quota={"total": "many"}, visibility="all")
    assert len(error.details["problems"]) == 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "a", "name": "b"}', '{"name": NaN}', "[" * 100_000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(AutoScorerError, match="INVALID_BENCHMARK"):
        parse_benchmark(text)


def test_a_folder_without_benchmark_json_is_no_benchmark(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(AutoScorerError, match="BENCHMARK_NOT_FOUND"):
            BenchmarkFolder(path)


def test_a_link_as_benchmark_json_is_not_followed(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path)
    (folder.root / "benchmark.json").rename(tmp_path / "other.json")
    (folder.root / "benchmark.json").symlink_to(tmp_path / "other.json")
    with pytest.raises(AutoScorerError, match="INVALID_BENCHMARK"):
        folder.read()


@pytest.mark.parametrize(
    ("place", "is_one"),
    [
        ("submissions/team-a/0001", True),
        ("submissions/team-a/12345", True),
        ("submissions/team-a/1", False),
        ("submissions/team-a/0001/sub", False),
        ("submissions/Team A/0001", False),
        ("submissions/0001", False),
        ("team-a/0001", False),
        ("other/submissions/team-a/0001", False),
        ("submissions/team-a/latest", False),
    ],
)
def test_a_submission_is_told_by_its_place(tmp_path: Path, place: str, is_one: bool) -> None:
    folder = write_benchmark(tmp_path)
    path = folder.root / place
    path.mkdir(parents=True)
    assert benchmark_of(path) == (folder.root if is_one else None)
    assert team_of(path) == ("team-a" if is_one else None)
    assert Workspace(path).benchmark == benchmark_of(path)


def test_a_workspace_that_looks_like_one_elsewhere_refers_to_no_benchmark(tmp_path: Path) -> None:
    """Whoever uploads a workspace may choose every file of it, and gets nobody's ground truth by that."""
    folder = write_benchmark(tmp_path)
    forged = tmp_path / "uploaded"
    (forged / "output").mkdir(parents=True)
    (forged / "input").symlink_to(folder.input)
    (forged / "submission.json").write_text('{"team": "team-a", "number": 1, "benchmark": "flowers"}')
    (forged / "meta.json").write_text('{"scorer": "classification_accuracy"}')
    space = Workspace(forged)
    assert space.benchmark is None
    from autoscorer.core.exposure import visible_inputs

    with pytest.raises(AutoScorerError, match="input is a link"):
        visible_inputs(space)


# --- what a submission is asked to do ---------------------------------------------------------------------------


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    folder = write_benchmark(
        tmp_path, params={"pass_threshold": 0.5}, resources={"memory": "64Mi", "cpu": 1}, timeout=60, task_type="toy"
    )
    root = folder.root / "submissions" / "team-a" / "0001"
    root.mkdir(parents=True)
    return root


def test_how_it_is_scored_says_the_benchmark_and_nobody_else(submission: Path) -> None:
    own = {"scorer": "regression_rmse", "params": {"id_column": "x"}, "task_type": "mine", "network_policy": "open"}
    (submission / "meta.json").write_text(json.dumps({**own, "container": {"image": "model:1"}}))
    job = load_job(Workspace(submission))
    assert (job.scorer, job.params, job.task_type) == ("classification_accuracy", {"pass_threshold": 0.5}, "toy")
    assert job.network_policy == "none" and job.container.image == "model:1"
    assert job.job_id == "team-a-0001"


def test_it_gets_what_the_benchmark_gives_and_may_ask_for_less(submission: Path) -> None:
    (submission / "meta.json").write_text("{}")
    job = load_job(Workspace(submission))
    assert (job.resources.memory, job.resources.cpu, job.timeout) == (64 * 1024**2, 1, 60)
    assert "timeout" in job.model_fields_set, "it is the benchmark's wish, not the default of nobody"
    (submission / "meta.json").write_text('{"resources": {"memory": "32Mi"}, "timeout": 5}')
    job = load_job(Workspace(submission))
    assert (job.resources.memory, job.resources.cpu, job.timeout) == (32 * 1024**2, 1, 5)


def test_asking_for_more_is_refused_by_name(submission: Path) -> None:
    (submission / "meta.json").write_text('{"resources": {"memory": "1Gi", "cpu": 2}, "timeout": 61}')
    error = read_meta(Workspace(submission)).error
    assert error is not None and error.code == "INVALID_META"
    assert {each["details"]["key"] for each in error.details["problems"]} == {
        "resources.memory",
        "resources.cpu",
        "timeout",
    }


def test_gpus_are_those_that_the_benchmark_gives(submission: Path) -> None:
    given = {"gpu": 2, "gpu_types": ["A100-SXM4-80GB", "H100-PCIe"], "gpu_memory": "40Gi"}
    change_spec(BenchmarkFolder(submission.parents[2]), resources=given)

    def ask(**resources: Any) -> Any:
        (submission / "meta.json").write_text(json.dumps({"resources": resources}))
        return read_meta(Workspace(submission))

    asked = ask().job.resources
    assert (asked.gpu, asked.gpu_types, asked.gpu_memory) == (2, ("A100-SXM4-80GB", "H100-PCIe"), 40 * 1024**3)
    asked = ask(gpu=1, gpu_types=["NVIDIA H100 PCIe"], gpu_memory="10Gi").job.resources
    assert (asked.gpu, asked.gpu_types, asked.gpu_memory) == (1, ("H100-PCIe",), 10 * 1024**3)
    asked = ask(gpu=0).job.resources
    assert (asked.gpu, asked.gpu_types, asked.gpu_memory) == (0, None, None)
    error = ask(gpu_types=["H100-PCIe", "A100-SXM4-40GB"]).error
    assert error is not None and error.details["key"] == "resources.gpu_types"
    assert "gives no 'A100-SXM4-40GB'; did you mean 'A100-SXM4-80GB'?" in error.message
    error = ask(gpu_memory="80Gi").error
    assert error is not None and error.details["key"] == "resources.gpu_memory"


def test_a_benchmark_json_that_is_wrong_is_told_as_such(submission: Path) -> None:
    (submission / "meta.json").write_text("{}")
    (submission.parents[2] / "benchmark.json").write_text('{"name": "flowers"}')
    error = read_meta(Workspace(submission)).error
    assert error is not None and error.code == "INVALID_BENCHMARK" and "scorer" in error.message


def test_a_change_of_the_benchmark_counts_for_submissions_that_are_there(submission: Path) -> None:
    (submission / "meta.json").write_text("{}")
    change_spec(BenchmarkFolder(submission.parents[2]), scorer="classification_f1", params={})
    assert load_job(Workspace(submission)).scorer == "classification_f1"


def test_benchmarks_are_found_below_a_folder_and_not_in_workspaces_or_each_other(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path / "spring", "one")
    write_benchmark(tmp_path, "two")
    write_benchmark(folder.root / "submissions", "inner")
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "meta.json").write_text("{}")
    write_benchmark(tmp_path / "workspace", "brought-along")
    write_benchmark(tmp_path / ".hidden", "three")
    assert [found.root.name for found in find_benchmarks(tmp_path)] == ["one", "two"]
