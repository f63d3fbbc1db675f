"""``autoscorer doctor --prove``: its options, its exit codes, and what a person reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.doctor import exit_code, render
from autoscorer.cli.main import main
from autoscorer.core.config import Settings
from autoscorer.tasks.prove.attacks import ATTACKS
from autoscorer.tasks.prove.column import Column
from autoscorer.tasks.prove.judgement import Outcome, State
from autoscorer.tasks.prove.matrix import Proof

from ..support.proofs import need_bubblewrap
from ..support.terminal import in_terminal


def proof(*columns: Column, asked: tuple[str, ...] = ()) -> dict[str, Any]:
    return Proof(columns, frozenset(asked)).to_dict()


def column(backend: str, *, but: dict[str, Outcome] | None = None, **more: Any) -> Column:
    held = {attack.name: Outcome(State.HELD) for attack in ATTACKS}
    return Column(backend, f"{backend} 1.0", outcomes={**held, **(but or {})}, **more)


REACHED = Outcome(State.NOT_HELD, "127.0.0.1:9 (connected)")


@pytest.mark.parametrize(
    ("columns", "asked", "code"),
    [
        ((column("docker"),), (), 0),
        ((column("docker", but={"network": REACHED}),), (), 1),
        ((column("docker", but={"setuid": Outcome(State.NOT_TRIED, "there is none")}),), (), 0),
        # A backend that is not here, and that nobody asked for.
        ((column("docker"), Column("bubblewrap", "not installed", is_there=False)), (), 0),
        ((column("docker"), Column("bubblewrap", "not installed", is_there=False)), ("bubblewrap",), 3),
        ((column("docker", but={a.name: Outcome(State.NOT_TRIED, "no python3") for a in ATTACKS}),), (), 3),
        ((column("docker"), column("process", but={"network": REACHED}, counts=False)), (), 0),
        ((column("process", but={"network": REACHED}),), ("process",), 1),
        ((column("kubernetes", but={"interfaces": Outcome(State.NOT_HELD, "eth0")}),), (), 0),
    ],
)
def test_exit_codes(columns: tuple[Column, ...], asked: tuple[str, ...], code: int) -> None:
    assert exit_code(proof(*columns, asked=asked)) == code


def test_what_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    docker = column("docker", but={"network": REACHED}, runtime="runsc", image="python:3")
    render(proof(docker, Column("bubblewrap", "it is not installed", is_there=False)), None)  # type: ignore[arg-type]
    told = capsys.readouterr().out
    lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
    assert lines["ground-truth"].split() == ["ground-truth", "held"]
    assert "network, docker: not held  127.0.0.1:9 (connected)" in told
    assert next(attack.promise for attack in ATTACKS if attack.name == "network") in told
    assert "runtime runsc" in told and "python:3" in told
    assert "bubblewrap: not tried. it is not installed" in told
    assert told.rstrip().endswith("does not hold here.")


def test_one_reason_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {attack.name: Outcome(State.NOT_TRIED, "no python3 in it") for attack in ATTACKS}
    render(proof(column("docker", but=nothing)), None)  # type: ignore[arg-type]
    assert capsys.readouterr().out.count("no python3 in it") == 1


@pytest.mark.parametrize("option", [["--backend", "docker"], ["--image", "python:3"]])
def test_its_options_go_with_it_alone(capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    assert main(["doctor", *option]) == 2
    assert "--prove" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_machine_that_seals_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__COMMAND", "/nowhere/bwrap")
    assert main(["doctor", "--prove"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "BACKEND_UNAVAILABLE" and "apt-get install" in error["message"]


@pytest.mark.slow
def test_in_a_terminal_and_under_90_seconds(settings: Settings) -> None:
    need_bubblewrap(settings)
    began = time.monotonic()
    code, shown = in_terminal("doctor", "--prove", "--backend", "bubblewrap")
    assert code == 0, shown
    assert "two-models" in shown and "Everything that is promised and was tried holds." in shown
    assert time.monotonic() - began < 90


@pytest.mark.slow
def test_a_signal_in_the_middle_leaves_nothing(settings: Settings) -> None:
    need_bubblewrap(settings)
    command = [sys.executable, "-m", "autoscorer", "doctor", "--prove", "--backend", "bubblewrap"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    runs = settings.home / "runs"
    until = time.monotonic() + 60
    while not (runs.is_dir() and any(runs.iterdir())):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(told)["error"]["code"]) == (1, "CANCELLED"), told
    assert not (settings.home / "prove").exists() and not any(runs.iterdir())
    mark = str(process.pid)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        assert not (any(b"bystander" in word for word in words) and mark.encode() in words), "it lives on"
    assert os.listdir(settings.home / "runs") == []
