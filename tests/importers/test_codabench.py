"""A Codabench bundle becomes a benchmark: what it says, and what it holds."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.benchmark import BenchmarkFolder
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.exposure import visible_inputs
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.tasks.importers import ImportReport, import_codabench
from autoscorer.tasks.importers.codabench import program_command

from ..support.competitions import COMPETITION, write_bundle, zipped


def refused(code: ErrorCode, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AutoScorerError) as caught:
        import_codabench(*args, **kwargs)
    assert caught.value.code is code
    return caught.value.message


def with_two_tasks(root: Path) -> Path:
    second = {**COMPETITION["tasks"][0], "index": 1, "name": "Final", "reference_data": "final.txt"}
    phases = [*COMPETITION["phases"], {"name": "Final", "start": "07-01-2026", "tasks": [1]}]
    bundle = write_bundle(root, tasks=[*COMPETITION["tasks"], second], phases=phases)
    (bundle / "final.txt").write_text("canadian\n")
    return bundle


def board(**changed: Any) -> list[dict[str, Any]]:
    return [{**copy.deepcopy(COMPETITION["leaderboards"][0]), **changed}]


def test_what_the_bundle_says_stands_in_benchmark_json(tmp_path: Path) -> None:
    report = import_codabench(write_bundle(tmp_path / "bundle"), tmp_path / "Seeds 26")
    spec = BenchmarkFolder(tmp_path / "Seeds 26").read()
    assert (spec.name, spec.title, spec.scorer) == ("seeds-26", "Seeds", "codabench_seeds_26")
    assert spec.description == "Tell three kinds of seeds apart."
    assert spec.params == {"image": "codalab/codalab-legacy:py312", "timeout": 120.0}
    assert (spec.timeout, spec.visibility, spec.leaderboard.choose) == (120, "leaderboard", "last")
    (phase,) = spec.phases
    assert (phase.name, phase.late) == ("Development", "refuse")
    assert phase.open is not None and phase.open.isoformat() == "2026-01-01T09:30:00+00:00"
    assert phase.close is not None and phase.close.isoformat() == "2026-06-30T00:00:00+00:00"
    assert spec.quota.model_dump() == {"per_day": 3, "total": 40, "at_once": None}
    assert (report.main, report.higher_is_better) == ("accuracy", True)


def test_models_see_the_input_data_and_nothing_of_what_scores(tmp_path: Path) -> None:
    import_codabench(write_bundle(tmp_path / "bundle"), tmp_path / "out")
    space = BenchmarkFolder(tmp_path / "out").as_workspace()
    assert [path.name for path in visible_inputs(space)] == ["data"]
    assert [path.name for path in (space.input / "data").iterdir()] == ["seeds.csv"]
    assert (space.input / "gt_reference" / "labels.txt").is_file()
    assert space.ground_truth().name == "gt.json"


def test_the_scorer_file_registers_the_scorer_that_benchmark_json_names(tmp_path: Path) -> None:
    report = import_codabench(write_bundle(tmp_path / "bundle"), tmp_path / "out")
    (entry,) = ScorerRegistry().load_file(report.scorer_file)
    assert entry.id == report.scorer == BenchmarkFolder(tmp_path / "out").read().scorer
    assert (entry.metric, entry.higher_is_better) == ("accuracy", True)


@pytest.mark.parametrize("title", ['"""', "\\", "'''\n import os", "種子 Ω", "}{0}", "a" * 400, "\u202eabc", "x\\"])
def test_a_title_of_any_characters_is_a_text_in_the_scorer_file(tmp_path: Path, title: str) -> None:
    report = import_codabench(write_bundle(tmp_path / "bundle", title=title), tmp_path / "out")
    (entry,) = ScorerRegistry().load_file(report.scorer_file)
    assert entry.id == "codabench_out"


def test_archives_in_an_archive_and_folders_give_the_same_benchmark(tmp_path: Path) -> None:
    plain = write_bundle(tmp_path / "plain")
    import_codabench(plain, tmp_path / "one" / "out")
    task = {**COMPETITION["tasks"][0], "scoring_program": "scoring.zip", "reference_data": "reference.zip"}
    packed = write_bundle(tmp_path / "packed" / "bundle", tasks=[task])
    # As people pack them: the program with its folder, the reference data without, the bundle with its folder.
    (tmp_path / "program").mkdir()
    os.rename(packed / "scoring_program", tmp_path / "program" / "scoring_program")
    zipped(tmp_path / "program", packed / "scoring.zip")
    zipped(packed / "reference_data", packed / "reference.zip")
    import_codabench(zipped(tmp_path / "packed", tmp_path / "bundle.zip"), tmp_path / "two" / "out")
    truths = [json.loads((tmp_path / each / "out/input/gt.json").read_text()) for each in ("one", "two")]
    assert truths[0] == truths[1]
    assert set(truths[0]["program"]) == {"metadata.yaml", "score.py"}


def test_several_tasks_are_several_benchmarks(tmp_path: Path) -> None:
    bundle = with_two_tasks(tmp_path / "bundle")
    message = refused(ErrorCode.INVALID_REQUEST, bundle, tmp_path / "out")
    assert "0 ('Seeds'), 1 ('Final')" in message and "--task" in message
    assert "expected one of" in refused(ErrorCode.INVALID_REQUEST, bundle, tmp_path / "out", task=7)
    assert not (tmp_path / "out").exists()
    import_codabench(bundle, tmp_path / "out", task=1)
    spec = BenchmarkFolder(tmp_path / "out").read()
    assert [(phase.name, str(phase.open)[:10], phase.close) for phase in spec.phases] == [("Final", "2026-07-01", None)]
    assert [path.name for path in (tmp_path / "out/input/gt_reference").iterdir()] == ["final.txt"]
    # What the phase does not say is as Codabench takes it.
    assert spec.quota.model_dump() == {"per_day": 5, "total": 100, "at_once": None}


def test_a_task_in_two_phases_has_both_and_the_smaller_quota(tmp_path: Path) -> None:
    later = {
        "name": "Development",
        "start": "2026-08-01",
        "max_submissions_per_day": 10,
        "max_submissions": 9,
        "tasks": [0],
    }
    report = import_codabench(
        write_bundle(tmp_path / "bundle", phases=[*COMPETITION["phases"], later]), tmp_path / "out"
    )
    spec = BenchmarkFolder(tmp_path / "out").read()
    assert [phase.name for phase in spec.phases] == ["Development", "Development (2)"]
    assert (spec.quota.per_day, spec.quota.total) == (3, 9)
    assert any("the smallest" in note for note in report.notes)


@pytest.mark.parametrize(("given", "expected"), [(0, None), (None, None), ("", None), (10**9, None), ("7", 7)])
def test_a_number_that_limits_nobody_is_no_limit(tmp_path: Path, given: Any, expected: int | None) -> None:
    phase = {**COMPETITION["phases"][0], "max_submissions": given}
    import_codabench(write_bundle(tmp_path / "bundle", phases=[phase]), tmp_path / "out")
    assert BenchmarkFolder(tmp_path / "out").read().quota.total == expected


def test_a_phase_that_is_never_open_is_left_out_and_alone_refused(tmp_path: Path) -> None:
    never = {"name": "Never", "start": "11-01-2026", "end": "11-01-2026", "tasks": [0]}
    report = import_codabench(
        write_bundle(tmp_path / "bundle", phases=[*COMPETITION["phases"], never]), tmp_path / "out"
    )
    assert len(BenchmarkFolder(tmp_path / "out").read().phases) == 1
    assert any("'Never'" in note for note in report.notes)
    alone = write_bundle(tmp_path / "alone", phases=[never])
    assert "No phase is ever open" in refused(ErrorCode.BAD_FORMAT, alone, tmp_path / "other")


def columns_of(report: ImportReport) -> dict[str, Any]:
    (entry,) = ScorerRegistry().load_file(report.scorer_file)
    scorer: Any = entry.create()
    return {column.key: column for column in scorer.columns}


def test_columns_keep_their_direction_and_who_sees_them(tmp_path: Path) -> None:
    columns = [
        {"title": "Private", "key": "private", "index": 0, "sorting": "asc", "hidden": True},
        {"title": "Public", "key": "public", "index": 1, "sorting": "asc", "precision": 3},
        {"title": "Mean", "key": "mean", "index": 2, "computation": "avg", "computation_indexes": "0,1"},
    ]
    bundle = write_bundle(tmp_path / "bundle", leaderboards=board(columns=columns, hidden=True))
    report = import_codabench(bundle, tmp_path / "out")
    found = columns_of(report)
    assert (report.main, report.higher_is_better) == ("public", False)
    assert found["private"].hidden and not found["public"].hidden
    assert (found["mean"].computation, found["mean"].of) == ("avg", ("private", "public"))
    assert BenchmarkFolder(tmp_path / "out").read().visibility == "nothing"
    assert any("'private'" in note for note in report.notes)


def test_a_leaderboard_that_is_hidden_in_full_still_has_a_main_metric(tmp_path: Path) -> None:
    columns = [{"title": "A", "key": "a", "index": 0, "hidden": True}]
    report = import_codabench(write_bundle(tmp_path / "bundle", leaderboards=board(columns=columns)), tmp_path / "out")
    assert report.main == "a" and not columns_of(report)["a"].hidden


def test_data_for_models_that_holds_reference_data_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "input_data" / "copy.txt").write_bytes((bundle / "reference_data/labels.txt").read_bytes())
    message = refused(ErrorCode.GROUND_TRUTH_EXPOSED, bundle, tmp_path / "out")
    assert "copy.txt is labels.txt" in message and "--shared" in message
    assert not (tmp_path / "out").exists()
    report = import_codabench(bundle, tmp_path / "out", shared=True)
    assert any("as --shared allows: 1." in note for note in report.notes)


def test_an_empty_file_exposes_nothing(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    for folder in ("input_data", "reference_data"):
        (bundle / folder / "__init__.py").touch()
    import_codabench(bundle, tmp_path / "out")


def test_nothing_is_written_over_and_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    bundle = write_bundle(tmp_path / "bundle")
    assert "is there already" in refused(ErrorCode.INVALID_REQUEST, bundle, tmp_path / "out")
    (bundle / "scoring_program" / "metadata.yaml").unlink()
    assert "metadata.yaml" in refused(ErrorCode.MISSING_FILE, bundle, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "out"]
    (tmp_path / "out" / "mine.txt").unlink()
    import_codabench(write_bundle(tmp_path / "bundle"), tmp_path / "out")  # an empty folder may be there


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python3 $program/score.py $input $output", "python3 /app/program/score.py /app/input /app/output"),
        ("python3 score.py", "python3 score.py"),
        (
            "Rscript /app/program/score.R /app/input/ /app/output/",
            "Rscript /app/program/score.R /app/input/ /app/output/",
        ),
        ("python3 s.py --t=$hidden '$predictions'", "python3 s.py --t=/app/input/ref /app/input/res"),
    ],
)
def test_the_places_in_a_command_are_codabenchs(command: str, expected: str) -> None:
    assert program_command({"command": command}) == tuple(expected.split())


@pytest.mark.parametrize("command", [None, 3, "", "  ", "python3 'x", "python3 $shared/x", ["python3"], "''  \0"])
def test_a_command_that_can_not_be_run_is_refused(command: Any) -> None:
    with pytest.raises(AutoScorerError) as caught:
        program_command({"command": command})
    assert caught.value.code is ErrorCode.BAD_FORMAT


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"version": 1}, "competition.yaml.version"),
        ({"version": None}, "competition.yaml.version"),
        ({"title": None}, "competition.yaml.title: expected text; it is missing"),
        ({"title": ["x"]}, "competition.yaml.title"),
        ({"tasks": None}, "competition.yaml.tasks"),
        ({"tasks": {}}, "competition.yaml.tasks: expected a list"),
        ({"tasks": [3]}, "competition.yaml.tasks[0]"),
        ({"tasks": [{"index": 0, "key": "0a1b"}]}, "Codabench's storage"),
        ({"tasks": [{"index": 0, "name": "x"}]}, "competition.yaml.tasks[0].scoring_program"),
        ({"phases": []}, "competition.yaml.phases"),
        ({"phases": [{"name": "x", "tasks": [5]}]}, "competition.yaml.phases[0].tasks"),
        ({"phases": [{"name": "x", "tasks": [True]}]}, "competition.yaml.phases[0].tasks"),
        ({"phases": [{"name": "x", "tasks": [0], "start": "soon"}]}, "competition.yaml.phases[0].start"),
        ({"phases": [{"name": "x", "tasks": [0], "end": 20261231}]}, "competition.yaml.phases[0].end"),
        ({"phases": [{"name": "x", "tasks": [0], "max_submissions": -1}]}, "phases[0].max_submissions"),
        ({"phases": [{"name": "x", "tasks": []}]}, "no phase has a task"),
        ({"leaderboards": None}, "competition.yaml.leaderboards"),
        ({"leaderboards": board(columns=[])}, "leaderboards[0].columns"),
        ({"leaderboards": board(columns=[{"key": "a", "sorting": "up"}])}, "columns[0].sorting"),
        ({"leaderboards": board(columns=[{"key": "a"}, {"key": "a"}])}, "columns[1].key"),
        ({"leaderboards": board(columns=[{"key": "a", "computation": "avg", "computation_indexes": [0]}])}, "indexes"),
        ({"leaderboards": board(columns=[{"key": "a", "computation": "median"}])}, "columns[0].computation"),
        ({"leaderboards": board(submission_rule="Best")}, "submission_rule"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    bundle = write_bundle(tmp_path / "bundle", **changed)
    assert told in refused(ErrorCode.BAD_FORMAT, bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("image", "No Image!"), ("predictions_as", "a/b"), ("predictions_as", "..")]
)
def test_what_is_given_beside_the_bundle_is_checked(tmp_path: Path, name: str, value: str) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    assert name in refused(ErrorCode.BAD_PARAMS, bundle, tmp_path / "out", **{name: value})
    assert not (tmp_path / "out").exists()


def test_a_program_that_talks_with_an_ingestion_program_is_not_imported(tmp_path: Path) -> None:
    task = {**COMPETITION["tasks"][0], "ingestion_program": "scoring_program/", "ingestion_only_during_scoring": True}
    bundle = write_bundle(tmp_path / "bundle", tasks=[task])
    assert "ingestion_only_during_scoring" in refused(ErrorCode.BAD_FORMAT, bundle, tmp_path / "out")


def test_what_does_not_carry_over_is_told(tmp_path: Path) -> None:
    task = {**COMPETITION["tasks"][0], "ingestion_program": "scoring_program/"}
    phase = {**COMPETITION["phases"][0], "hide_output": True, "auto_migrate_to_this_phase": True, "public_data": "x"}
    bundle = write_bundle(
        tmp_path / "bundle",
        tasks=[task],
        phases=[phase],
        enable_detailed_results=True,
        fact_sheet={"a": {}},
        queue="gpu",
        solutions=[{"index": 0}],
    )
    told = "\n".join(import_codabench(bundle, tmp_path / "out").left_out)
    for what in (
        "pages",
        "fact sheet",
        "queue",
        "solutions",
        "hide_output",
        "rescore",
        "public_data",
        "ingestion",
        "detailed",
    ):
        assert what in told
