"""A phase of an EvalAI challenge becomes a benchmark: what it says, and what it holds."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.benchmark import BenchmarkFolder
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.tasks.importers import import_evalai

from ..support.competitions import CHALLENGE, write_challenge, zipped


def refused(code: ErrorCode, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AutoScorerError) as caught:
        import_evalai(*args, **kwargs)
    assert caught.value.code is code
    return caught.value.message


def changed(key: str, number: int = 0, **values: Any) -> dict[str, Any]:
    """The list of a key of challenge_config.yaml, one of its mappings changed."""
    found = copy.deepcopy(CHALLENGE[key])
    found[number].update(values)
    return {key: found}


def two_phases() -> dict[str, Any]:
    """A second phase, on two splits: one that everybody sees, and one for the hosts alone."""
    test = {"id": 2, "name": "Test", "codename": "test", "test_annotation_file": "annotations/test.json"}
    split = CHALLENGE["challenge_phase_splits"][0]
    return {
        "challenge_phases": [*CHALLENGE["challenge_phases"], test],
        "dataset_splits": [*CHALLENGE["dataset_splits"], {"id": 2, "codename": "held"}, {"id": 3, "codename": "shown"}],
        "challenge_phase_splits": [
            split,
            {**split, "challenge_phase_id": 2, "dataset_split_id": 2, "visibility": 1},
            {**split, "challenge_phase_id": 2, "dataset_split_id": 3, "visibility": 3},
        ],
    }


def scorer_of(path: Path) -> Any:
    (entry,) = ScorerRegistry().load_file(path)
    return entry.create()


def test_what_the_challenge_says_stands_in_benchmark_json(tmp_path: Path) -> None:
    report = import_evalai(write_challenge(tmp_path / "challenge"), tmp_path / "pairs", image="python:3.11")
    spec = BenchmarkFolder(tmp_path / "pairs").read()
    assert (spec.name, spec.title, spec.scorer) == ("pairs", "Pairs", "evalai_pairs")
    assert (spec.description, spec.params) == ("Find the pairs.", {"image": "python:3.11"})
    (phase,) = spec.phases
    # A phase is open while its challenge is.
    assert [str(phase.open)[:10], str(phase.close)[:10]] == ["2026-02-01", "2026-12-31"]
    assert spec.quota.model_dump() == {"per_day": 5, "total": 100, "at_once": 2}
    assert (spec.visibility, spec.leaderboard.choose, spec.leaderboard.decimals) == ("leaderboard", "best", 2)
    assert (report.main, report.higher_is_better) == ("Hits", True)
    assert any("max_submissions_per_month (50)" in what for what in report.left_out)
    scorer = scorer_of(report.scorer_file)
    assert [(each.key, each.higher_is_better) for each in scorer.columns] == [("Hits", True), ("Misses", False)]


def test_a_challenge_in_an_archive_with_its_script_packed_is_the_same(tmp_path: Path) -> None:
    challenge = write_challenge(tmp_path / "challenge")
    import_evalai(challenge, tmp_path / "one" / "out")
    zipped(challenge / "evaluation_script", challenge / "evaluation_script.zip")
    for path in (challenge / "evaluation_script").iterdir():
        path.unlink()
    (challenge / "evaluation_script").rmdir()
    import_evalai(zipped(challenge, tmp_path / "challenge.zip"), tmp_path / "two" / "out")
    truths = [json.loads((tmp_path / each / "out/input/gt.json").read_text()) for each in ("one", "two")]
    assert truths[0] == truths[1]
    assert "evaluation_script/main.py" in truths[0]["program"]


def test_each_phase_is_a_benchmark_with_its_own_annotations(tmp_path: Path) -> None:
    challenge = write_challenge(tmp_path / "challenge", **two_phases())
    assert "dev, test" in refused(ErrorCode.INVALID_REQUEST, challenge, tmp_path / "out")
    assert "expected one of" in refused(ErrorCode.INVALID_REQUEST, challenge, tmp_path / "out", phase="final")
    report = import_evalai(challenge, tmp_path / "out", phase="test")
    assert [path.name for path in (tmp_path / "out/input/gt_reference").iterdir()] == ["test.json"]
    # The split that everybody sees ranks; that of the hosts is hidden.
    columns = {each.key: each.hidden for each in scorer_of(report.scorer_file).columns}
    assert columns == {"shown/Hits": False, "shown/Misses": False, "held/Hits": True, "held/Misses": True}
    assert report.main == "shown/Hits"
    assert any("held/Hits" in note for note in report.notes)


def test_a_phase_that_only_hosts_see_says_that_teams_will(tmp_path: Path) -> None:
    challenge = write_challenge(tmp_path / "challenge", **changed("challenge_phase_splits", visibility=1))
    report = import_evalai(challenge, tmp_path / "out")
    assert BenchmarkFolder(tmp_path / "out").read().visibility == "nothing"
    assert not any(column.hidden for column in scorer_of(report.scorer_file).columns)
    assert any("Only the hosts saw" in note for note in report.notes)


@pytest.mark.parametrize(
    ("metadata", "descending", "higher"),
    [
        (None, True, True),
        (None, False, False),
        ({"Hits": {"sort_ascending": False}}, False, True),
        ({"Hits": {"sort_ascending": True}}, True, False),
        ({"Hits": {"description": "x"}}, True, False),  # as EvalAI reads it: metadata without an order are ascending
    ],
)
def test_the_direction_is_read_as_evalai_reads_it(
    tmp_path: Path, metadata: Any, descending: bool, higher: bool
) -> None:
    schema = {"labels": ["Hits"], "default_order_by": "Hits", **({} if metadata is None else {"metadata": metadata})}
    challenge = write_challenge(
        tmp_path / "challenge",
        **changed("leaderboard", schema=schema),
        **changed("challenge_phase_splits", is_leaderboard_order_descending=descending),
    )
    assert import_evalai(challenge, tmp_path / "out").higher_is_better is higher


@pytest.mark.parametrize(
    ("phase", "split", "expected"),
    [
        ({}, {"show_leaderboard_by_latest_submission": True}, "last"),
        ({"is_restricted_to_select_one_submission": True}, {}, "chosen"),
    ],
)
def test_which_submission_counts(tmp_path: Path, phase: Any, split: Any, expected: str) -> None:
    challenge = write_challenge(
        tmp_path / "challenge", **changed("challenge_phases", **phase), **changed("challenge_phase_splits", **split)
    )
    import_evalai(challenge, tmp_path / "out")
    assert BenchmarkFolder(tmp_path / "out").read().leaderboard.choose == expected


def test_what_the_script_needs_is_told(tmp_path: Path) -> None:
    challenge = write_challenge(tmp_path / "challenge")
    (challenge / "evaluation_script" / "requirements.txt").write_text("shapely\n")
    (challenge / "evaluation_script" / "__init__.py").write_text(
        'install("shapely==1.7.1")\nfrom .main import evaluate\n'
    )
    notes = "\n".join(import_evalai(challenge, tmp_path / "out").notes)
    assert "requirements.txt" in notes and "installs packages" in notes and "params.image" in notes


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"remote_evaluation": True}, "remote_evaluation"),
        ({"is_docker_based": True}, "is_docker_based"),
        ({"title": None}, "challenge_config.yaml.title"),
        ({"leaderboard": []}, "challenge_config.yaml.leaderboard"),
        ({"challenge_phases": None}, "challenge_config.yaml.challenge_phases"),
        ({"challenge_phases": CHALLENGE["challenge_phases"] * 2}, "one codename"),
        ({"challenge_phase_splits": []}, "challenge_phase_splits"),
        (changed("challenge_phase_splits", dataset_split_id=9), "dataset_split_id"),
        (changed("challenge_phase_splits", leaderboard_id=9), "leaderboard_id"),
        (changed("challenge_phase_splits", visibility=4), "visibility"),
        (changed("leaderboard", schema="labels"), "leaderboard[0].schema"),
        (changed("leaderboard", schema={"labels": ["a", "a"], "default_order_by": "a"}), "schema.labels"),
        (changed("leaderboard", schema={"labels": ["a"], "default_order_by": "b"}), "default_order_by"),
        (changed("challenge_phases", start_date="tomorrow"), "challenge_phases[0].start_date"),
        (changed("challenge_phases", codename="a\nb"), "challenge_phases[0].codename"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(tmp_path: Path, values: dict[str, Any], told: str) -> None:
    challenge = write_challenge(tmp_path / "challenge", **values)
    assert told in refused(ErrorCode.BAD_FORMAT, challenge, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_script_without_an_evaluate_and_annotations_that_are_not_there(tmp_path: Path) -> None:
    challenge = write_challenge(tmp_path / "challenge")
    for name in ("__init__.py", "main.py"):
        (challenge / "evaluation_script" / name).unlink()
    assert "evaluate()" in refused(ErrorCode.MISSING_FILE, challenge, tmp_path / "out")
    other = write_challenge(
        tmp_path / "other", **changed("challenge_phases", test_annotation_file="annotations/x.json")
    )
    assert "test_annotation_file" in refused(ErrorCode.MISSING_FILE, other, tmp_path / "out")
