"""The command as a person or a program meets it: envelopes, exit codes, what goes to stdout and to stderr."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import COMMANDS, main
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.scorers.registry import registry as registry_module

from ..support.gpus import Host, gpu
from ..support.processes import clean_environment
from ..support.terminal import in_terminal, on_a_terminal

TRUTH = "id,label\na,cat\nb,dog\n"


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, json.loads(out), err


@pytest.fixture
def scored(make_workspace: Callable[..., Path]) -> Path:
    return make_workspace(truth=TRUTH, pred="id,label\nb,dog\na,dog\n", container={"cmd": ["python", "-c", "pass"]})


def test_success_is_one_envelope_on_stdout(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer, _ = _json(capsys, "score", str(scored))
    assert code == 0 and answer["status"] == "success"
    assert set(answer) == {"status", "data", "execution_time", "timestamp"}
    assert answer["data"]["metrics"]["accuracy"] == 0.5


def test_a_failed_submission_exits_1(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scored / "output" / "pred.csv").write_text("id,label\na,cat\n")
    code, answer, _ = _json(capsys, "score", str(scored))
    assert code == 1 and answer["status"] == "error"
    assert set(answer) == {"status", "error", "timestamp"}
    assert set(answer["error"]) == {"code", "message", "stage", "details"}
    assert answer["error"]["code"] == "MISMATCH"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["score"],
        ["run", ".", "--backend", "magic"],
        ["score", ".", "--param", "novalue"],
        ["score", ".", "--param", "a=1", "--param", "a=2"],
        ["score", "/no/such/workspace"],
        ["score", ".", "--no-such-option"],
        ["config", "hide"],
        ["score", ".", "--config", "/no/such/file.yaml"],
        ["score", ".", "--scorers", "/no/such/folder"],
    ],
)
def test_wrong_usage_exits_2_without_a_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, answer, err = _json(capsys, *arguments)
    assert code == 2 and answer["status"] == "error" and "Traceback" not in err
    assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["scor", "."], "did you mean 'score'? See `autoscorer --help`"),
        (["score", ".", "--parm", "a=1"], "did you mean '--param'? See `autoscorer score --help`"),
        (["run", ".", "--backend", "dokcer"], "did you mean 'docker'? See `autoscorer run --help`"),
        (["score", ".", "--scorer", "a", "--scorer", "b"], "--scorer was given twice. See `autoscorer score --help`"),
        (["submit", ".", "--priority", "high", "--priority=low"], "--priority was given twice"),
        (["score", "a", "b"], "unrecognized arguments: b. See `autoscorer score --help`"),
    ],
)
def test_wrong_usage_says_what_was_meant_and_where_the_right_help_is(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer, _ = _json(capsys, *arguments)
    assert code == 2
    assert told in answer["error"]["message"]


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in shown] == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"autoscorer {command}" in capsys.readouterr().out


def test_params_are_json_where_they_can_be(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer, _ = _json(capsys, "score", str(scored), "--param", "pass_threshold=0.25", "--param", "average=micro")
    assert code == 0, answer
    assert answer["data"]["versioning"]["params"] == {"average": "micro", "pass_threshold": 0.25}
    assert answer["data"]["summary"]["pass"] is True


def test_validate_says_every_problem(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scored / "input" / "gt.csv").unlink()
    code, answer, _ = _json(capsys, "validate", str(scored), "--for", "pipeline")
    assert code == 1
    assert {problem["code"] for problem in answer["error"]["details"]["problems"]} == {"INVALID_META", "MISSING_FILE"}


@pytest.mark.slow
def test_a_scorer_that_prints_does_not_spoil_the_envelope(
    scored: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scorers"
    folder.mkdir()
    (folder / "chatty.py").write_text(
        "from autoscorer.scorers.registry import register\n"
        "from autoscorer.scorers.base_csv import BaseCSVScorer\n"
        "@register('chatty')\n"
        "class Chatty(BaseCSVScorer):\n"
        "    name, version = 'chatty', '1'\n"
        "    def compute(self, table, params):\n"
        "        print('hello from a scorer')\n"
        "        return {'score': 0.5}\n"
    )
    code, answer, err = _json(capfd, "score", str(scored), "--scorer", "chatty", "--scorers", str(folder))
    assert code == 0 and answer["data"]["summary"]["score"] == 0.5
    assert "hello from a scorer" in err


def test_config_show_masks_secrets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_PREFECT__API_KEY", "hunter2")
    code, answer, _ = _json(capsys, "config", "show")
    assert code == 0 and "hunter2" not in json.dumps(answer)
    assert answer["data"]["prefect"]["api_key"] == "**********"


def test_doctor_tells_what_does_not_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As in a process of its own: another test's file that does not load would be told, too.
    monkeypatch.setattr(registry_module, "_registry", ScorerRegistry())
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("AUTOSCORER_PREFECT__API_URL", "http://127.0.0.1:9/api")
    code, answer, _ = _json(capsys, "doctor")
    states = {check["name"]: check["state"] for check in answer["data"]["checks"]}
    # bubblewrap takes Docker's place.
    assert code == 0 and answer["data"]["ok"] is True
    assert states["docker"] == states["prefect"] == "warn" and states["bubblewrap"] == states["scorers"] == "ok"
    assert all(check["advice"] for check in answer["data"]["checks"] if check["state"] != "ok")


def test_doctor_fails_where_nothing_can_seal_a_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__COMMAND", str(tmp_path / "bwrap"))
    code, answer, _ = _json(capsys, "doctor")
    states = {check["name"]: check["state"] for check in answer["data"]["checks"]}
    assert code == 3 and answer["data"]["ok"] is False
    assert (states["docker"], states["bubblewrap"]) == ("warn", "fail")


@pytest.mark.docker
def test_doctor_finds_docker(capsys: pytest.CaptureFixture[str], docker_client: Any) -> None:
    code, answer, _ = _json(capsys, "doctor")
    assert code == 0, answer
    assert {"name": "docker", "state": "ok"}.items() <= answer["data"]["checks"][2].items()


@pytest.mark.slow
def test_on_a_terminal_a_person_reads(scored: Path) -> None:
    code, shown = in_terminal("score", str(scored))
    assert code == 0
    assert "f1_macro" in shown and "output/artifacts/report.html" in shown and '"status"' not in shown
    code, shown = in_terminal("score", str(scored), "--json")
    assert json.loads(shown)["status"] == "success"


NEEDED = {
    **{name: ["."] for name in ("init", "validate", "run", "score", "pipeline", "result", "submit", "batch", "upload")},
    **{name: ["0" * 26] for name in ("cancel", "leaderboard", "logs", "retry", "samples")},
    "compare": ["0" * 26, "1" * 26],
    "scorers": ["list"],
    "judge": ["calibrations"],
    "ledger": ["upgrade"],
    "tokens": ["list"],
    "benchmark": ["show", "."],
    "evaluate": [".", "--image", "model:1"],
    "rescore": ["."],
    "rag": ["score", "--question", "q", "--answer", "a"],
    "jobs": ["import", "."],
    "config": ["show"],
}
# Many commands, one process: for each what it shows, and its exit code. Python starts once, not sixty times.
EACH = """
import json, sys
from autoscorer.cli.main import main
for arguments in json.loads(sys.argv[1]):
    code = main(arguments)
    print(f"@@{code}", flush=True)
"""


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, str]]]:
    """A wrong configuration and wrong usage, the errors that any command can meet: what a terminal shows of each."""
    folder = tmp_path_factory.mktemp("errors")
    config = folder / "config.yaml"
    config.write_text("security:\n  allowed_imagess: ['*']\nservice:\n  pol: x\n")
    asked = [
        [command, *arguments]
        for command in sorted(COMMANDS)
        for arguments in ([*NEEDED.get(command, []), "--config", str(config)], ["--no-such-option"])
        if command != "init" or arguments == ["--no-such-option"]  # it reads no configuration
    ]
    environment = {**clean_environment(), "AUTOSCORER_HOME": str(folder / "home")}
    _, shown = on_a_terminal(
        [sys.executable, "-c", EACH, json.dumps(asked)], columns=120, environment=environment, cwd=folder
    )
    parts = re.split(r"@@(\d+)\r?\n", shown)
    assert len(parts) == 2 * len(asked) + 1, shown
    found: dict[str, list[tuple[int, str]]] = {}
    for (command, *_), text, code in zip(asked, parts[0::2], parts[1::2], strict=False):
        found.setdefault(command, []).append((int(code), text))
    return found


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_on_a_terminal_every_commands_error_is_read_not_traced(
    command: str, errors: dict[str, list[tuple[int, str]]]
) -> None:
    *configuration, (code, shown) = errors[command]
    assert code == 2 and "Traceback" not in shown and "INVALID_REQUEST" in shown, shown
    assert len(configuration) == (command != "init")
    for code, shown in configuration:
        assert code == 2, shown
        assert "Traceback" not in shown and "The configuration is wrong" in shown
        assert "• security.allowed_imagess: unknown key" in shown and "did you mean 'allowed_images'?" in shown
        assert "• service.pol: unknown key" in shown


@pytest.mark.slow
def test_on_a_terminal_progress_is_live_and_harmless(make_workspace: Any) -> None:
    program = r"import time; print('\033]0;owned\007step one', flush=True); time.sleep(0.8); raise SystemExit(4)"
    root = make_workspace(container={"cmd": ["python", "-c", program]})
    code, shown = in_terminal("pipeline", str(root), "--backend", "process")
    assert code == 1
    assert "step one" in shown and "CONTAINER_FAILED" in shown
    assert "\x1b]0;owned" not in shown, "a model's escape sequence reached the terminal"


def test_a_reader_that_goes_away_is_no_error(scored: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "autoscorer", "scorers", "list"], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and b"Traceback" not in err


@pytest.mark.parametrize(("row", "code"), [("b,dog\n", 0), ("", 1)])
def test_a_reader_that_goes_away_changes_no_exit_code(scored: Path, row: str, code: int) -> None:
    (scored / "output" / "pred.csv").write_text("id,label\na,dog\n" + row)
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "autoscorer", "score", str(scored)], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code and b"Traceback" not in err


def test_scoring_imports_nothing_heavy(scored: Path) -> None:
    script = (
        "import sys; from autoscorer.cli.main import main; code = main(['score', sys.argv[1]]); "
        "heavy = {'pandas','sklearn','scipy','pyarrow','prefect','docker','rich','watchfiles'} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(scored)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_doctor_lists_the_gpus(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[tuple[str, str]]:
        _, answer, _ = _json(capsys, "doctor")
        return [(check["state"], check["detail"]) for check in answer["data"]["checks"] if check["name"] == "gpus"]

    folder = tmp_path / "host"
    folder.mkdir()
    host = Host(folder, monkeypatch)
    assert told() == [], "a machine without a GPU has no line of it"
    host.has(gpu(0), gpu(1), gpu(2, mode=2))
    assert told() == [
        ("warn", "not given out: GPU-2: its compute mode is Prohibited"),
        ("ok", f"2 × A100-SXM4-80GB; leases lie in {folder}"),
    ]
    monkeypatch.delenv("FAKE_NVML")
    assert told() == []
    monkeypatch.setenv("AUTOSCORER_SECURITY__DEFAULTS__GPU", "1")
    assert [state for state, _ in told()] == ["warn"]
