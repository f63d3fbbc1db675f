"""``autoscorer benchmark import``: what is printed, and what is refused."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli import benchmark_import
from autoscorer.cli.main import main
from autoscorer.scorers.registry import get_registry
from autoscorer.tasks.importers import import_codabench

from ..support.competitions import COMPETITION, SCORE, write_bundle, write_challenge


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path) -> Iterator[None]:
    """The registry of this process forgets the scorers of a test: those of the next one have the same ids."""
    yield
    for source in list(get_registry().sources()):
        if source.path.is_relative_to(tmp_path):
            get_registry().unload_file(source.path)


def answer(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, dict[str, Any]]:
    code = main(["benchmark", "import", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_bundle_is_imported_and_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, out = write_bundle(tmp_path / "bundle"), tmp_path / "seeds"
    code, told = answer(capsys, "codabench", bundle, "--out", out, "--predictions-as", "labels.txt")
    assert code == 0
    data = told["data"]
    assert (data["benchmark"], data["scorer"], data["main"]) == (str(out), "codabench_seeds", "accuracy")
    assert json.loads((out / "benchmark.json").read_text())["params"]["predictions_as"] == "labels.txt"
    # As the next steps say.
    assert main(["benchmark", "validate", str(out), "--scorers", str(out / "scorer"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["version"] == 1


def test_a_challenge_without_an_image_is_not_valid_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    challenge, out = write_challenge(tmp_path / "challenge"), tmp_path / "pairs"
    assert answer(capsys, "evalai", challenge, "--out", out)[0] == 0
    assert main(["benchmark", "validate", str(out), "--scorers", str(out / "scorer"), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "BAD_PARAMS" and "params.image" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("codabench", "nothing", "--out", "x", "--phase", "dev"), "--task INDEX"),
        (("evalai", "nothing", "--out", "x", "--task", "1"), "--phase CODENAME"),
        (("evalai", "nothing", "--out", "x", "--shared"), "no input data"),
        (("kaggle", "nothing", "--out", "x"), "codabench"),
        (("codabench", "nothing"), "--out"),
    ],
)
def test_what_is_asked_for_wrongly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    code, answered = answer(capsys, *arguments)
    assert code == 2 and told in answered["error"]["message"]


def test_on_a_terminal_what_a_bundle_says_is_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phase = {"name": "\x1b]0;x\x07 Dev", "start": "2026-02-01", "end": "2026-01-01", "tasks": [0]}
    bundle = write_bundle(tmp_path / "bundle", phases=[*COMPETITION["phases"], phase])
    report = import_codabench(bundle, tmp_path / "out").to_dict()
    benchmark_import.render({**report, "next": [{"command": "a\x1bb", "does": "c"}]}, argparse.Namespace())
    shown = capsys.readouterr().out
    assert "accuracy ranks, and larger is better" in shown and "not carried over: " in shown
    assert "\x1b" not in shown and "\x07" not in shown


@pytest.mark.slow
def test_from_a_bundle_to_a_leaderboard_by_what_was_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DEFAULT", "process")
    columns = [{"key": "accuracy", "index": 0}, {"key": "duration", "index": 1, "sorting": "asc", "hidden": True}]
    bundle = write_bundle(
        tmp_path / "bundle",
        score=SCORE.replace("0.5", "len(guess)"),
        leaderboards=[{**COMPETITION["leaderboards"][0], "columns": columns, "submission_rule": "Force_Best"}],
        phases=[{"name": "Always", "start": "2026-01-01", "tasks": [0]}],
    )
    out = tmp_path / "seeds"
    code, imported = answer(capsys, "codabench", bundle, "--out", out, "--predictions-as", "labels.txt")
    assert code == 0 and main(["scorers", "load", imported["data"]["scorer_file"], "--json"]) == 0
    spec = json.loads((out / "benchmark.json").read_text())
    (out / "benchmark.json").write_text(json.dumps({**spec, "backends": ["process"]}))

    def board() -> list[tuple[str, float]]:
        capsys.readouterr()
        assert main(["benchmark", "leaderboard", str(out), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["data"]["leaderboard"]
        return [(row["team"], row["score"]) for row in rows]

    for team, guess in (("short", "kama\nrosa"), ("long", "kama\nkama\nkama\nkama")):
        (tmp_path / "pred.csv").write_text(guess)
        evaluated = ["evaluate", str(out), "--predictions", str(tmp_path / "pred.csv"), "--team", team, "--json"]
        assert main(evaluated) == 0, capsys.readouterr().out
    assert board() == [("short", 2 / 3), ("long", 1 / 3)]
    results = [json.loads(path.read_text()) for path in sorted(out.glob("submissions/*/0001/output/result.json"))]
    assert all("duration" not in json.dumps(result["metrics"]) for result in results)
    params = {**spec["params"], "hidden": True, "main": "duration", "higher_is_better": False}
    (out / "benchmark.json").write_text(json.dumps({**spec, "backends": ["process"], "params": params}))
    assert main(["rescore", str(out), "--json"]) == 0, capsys.readouterr().out
    assert board() == [("short", 2.0), ("long", 4.0)]
