"""The README's example and the tutorial run as they are written, and the demo prints what the tutorial shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from autoscorer.cli.output import number

from ..support.installation import Installation
from ..support.markdown import BASE_IMAGE, READMES, blocks_of, read
from ..support.prefect_server import PrefectServer, server
from ..support.terminal import on_a_terminal

__all__ = ["server"]  # a fixture is found by its name


class Step(NamedTuple):
    """A command and the lines it is said to print."""

    command: str
    expected: tuple[str, ...]


def _tutorial(name: str) -> tuple[dict[str, str], list[Step], list[Step]]:
    """Files to write, the steps, and the steps that need a Prefect server."""
    text = read(name).partition("<!-- tutorial -->")[2].partition("<!-- /tutorial -->")[0]
    plain, _, tracked = text.partition("<!-- needs: prefect -->")
    files = {
        block.lines[0].removeprefix("# "): "\n".join(block.lines) + "\n"
        for block in blocks_of(text)
        if block.language == "python"
    }
    return files, _steps(plain), _steps(tracked)


def _steps(text: str) -> list[Step]:
    steps: list[Step] = []
    for block in blocks_of(text):
        if block.language != "console":
            continue
        for line in block.lines:
            if line.startswith("$ "):
                steps.append(Step(line[2:], ()))
            else:
                steps[-1] = Step(steps[-1].command, (*steps[-1].expected, line))
    return steps


def _play(folder: Path, steps: list[Step], environment: dict[str, str]) -> None:
    """Run the steps in one shell on a terminal of 100 columns, and compare what they print."""
    script = "".join(
        f"printf '@@%s\\n' {i}; (exit $code); {step.command}\ncode=$?; printf '@@=%s\\n' $code\n"
        for i, step in enumerate(steps)
    )
    printed = _on_a_terminal(["bash", "-c", "code=0\n" + script], folder, environment)
    parts = re.split(r"@@\d+\n", printed)[1:]
    assert len(parts) == len(steps), printed
    for i, (step, part) in enumerate(zip(steps, parts, strict=True)):
        shown, _, code = part.rpartition("@@=")
        asked_for = i + 1 < len(steps) and steps[i + 1].command == "echo $?"
        assert code.strip() == "0" or asked_for, f"$ {step.command}\n{shown}"
        at = 0
        for line in step.expected:
            pattern = r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split())
            found = re.compile(pattern).search(shown, at)
            assert found, f"$ {step.command}\nshould print {line!r} and printed:\n{shown}"
            at = found.end()


def _on_a_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    _, shown = on_a_terminal(command, columns=100, cwd=folder, environment={**os.environ, "PATH": path, **environment})
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown)
    # Lines that are drawn over: the last drawing counts.
    return "\n".join(line.rpartition("\r")[2] for line in re.sub(r"\r+\n", "\n", text).split("\n"))


@pytest.fixture
def tutorial(tmp_path: Path) -> tuple[Path, list[Step], list[Step]]:
    files, steps, tracked = _tutorial("docs/tutorial.md")
    folder = tmp_path / "tutorial"
    folder.mkdir()
    assert files and len(steps) >= 7 and tracked
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder, steps, tracked


# Nothing else is different for those who have no Docker.
WITHOUT_DOCKER = {"DOCKER_HOST": "unix:///no/such/socket"}


@pytest.mark.slow
@pytest.mark.parametrize("name", READMES)
def test_the_readmes_example_runs_as_it_is_written(name: str, tmp_path: Path) -> None:
    steps = _steps(read(name).partition("<!-- example -->")[2].partition("<!-- /example -->")[0])
    assert len(steps) == 5
    _play(tmp_path, steps, WITHOUT_DOCKER)


@pytest.mark.slow
def test_the_tutorial_runs_as_it_is_written_without_docker(tutorial: Any) -> None:
    folder, steps, _ = tutorial
    _play(folder, steps, WITHOUT_DOCKER)
    assert (folder / "flowers" / "output" / "artifacts" / "report.html").is_file()
    info = json.loads((folder / "flowers" / "logs" / "run_info.json").read_text())
    assert info["backend"] == "bubblewrap"


@pytest.mark.docker
def test_the_tutorial_runs_as_it_is_written_sealed(tutorial: Any, docker_client: Any) -> None:
    folder, steps, _ = tutorial
    if not docker_client.images(BASE_IMAGE):
        pytest.skip(f"{BASE_IMAGE} is not there; scripts/build-base-image makes it")
    _play(folder, steps, {"AUTOSCORER_IMAGES__BUILD_ARGS": json.dumps({"BASE_IMAGE": BASE_IMAGE})})
    info = json.loads((folder / "flowers" / "logs" / "run_info.json").read_text())
    assert info["backend"] == "docker"


@pytest.mark.prefect
@pytest.mark.slow
def test_the_tutorials_run_is_recorded(tutorial: Any, server: PrefectServer) -> None:
    folder, steps, tracked = tutorial
    _play(folder, steps[:1], {})
    usual, address = "http://127.0.0.1:4200", server.api_url.removesuffix("/api")
    here = [
        Step(step.command.replace(usual, address), tuple(line.replace(usual, address) for line in step.expected))
        for step in tracked
    ]
    _play(folder, here, {**server.environment, **WITHOUT_DOCKER})
    assert server.flow_run("flowers")["state_type"] == "COMPLETED"


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.parametrize(("page", "mark"), [("docs/tutorial.md", "service"), ("docs/api.md", "examples")])
def test_the_services_examples_run_as_they_are_written(installation: Installation, page: str, mark: str) -> None:
    if mark == "examples" and not shutil.which("curl"):
        pytest.skip("curl is not there")
    steps = _steps(read(page).partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0])
    assert len(steps) >= 4
    if mark == "service":  # whose reader has made one in the tutorial
        steps = [Step("autoscorer init flowers", ()), *steps]
    address = {"AUTOSCORER_API_URL": installation.url, "AUTOSCORER_API_TOKEN": installation.token("admin")}
    steps = [step for step in steps if not step.command.startswith("export AUTOSCORER_API_")]
    steps = [
        step._replace(command=re.sub("^autoscorer submit flowers", r"\g<0> --backend bubblewrap", step.command))
        for step in steps
    ]
    before = set(installation.root.iterdir())
    try:
        _play(installation.root, steps, address)
    finally:  # the installation is shared
        for path in set(installation.root.iterdir()) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
def test_the_demo_prints_the_scores_that_the_tutorial_shows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autoscorer", "demo", "--dir", str(tmp_path / "demo")]
    environment = {**os.environ, **WITHOUT_DOCKER}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    examples = json.loads(done.stdout)["data"]["examples"]
    assert {example["backend"] for example in examples} == {"bubblewrap"}
    assert "sealed by bubblewrap" in done.stderr
    for name in ("docs/tutorial.md", "docs/zh/tutorial.md"):
        shown = {
            row[0]: row
            for row in re.findall(r"^(\w+) +(\w+) +docker +(\S+) +(\S+(?: – \S+)?) +\S+ s", read(name), re.M)
        }
        assert len(shown) == len(examples)
        for example in examples:
            low, high = example["interval"] or (None, None)
            interval = f"{number(low)} – {number(high)}" if example["interval"] else "–"
            expected = (example["example"], example["scorer"], number(example["score"]), interval)
            assert shown[example["example"]] == expected
