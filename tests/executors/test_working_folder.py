"""Where a model begins: in the workspace, unless its image or its job says otherwise. The same with every backend."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.meta import parse_job
from autoscorer.tasks.pipeline import run_pipeline
from autoscorer.tasks.run import run_workspace

# What a program of the first system does: it knows of no variable, and reads and writes beside itself.
RELATIVE = (
    "import json, os\n"
    "ids = open('input/data/x.csv').read().split()[1:]\n"
    "json.load(open('meta.json'))\n"
    "with open('output/pred.csv', 'w') as file:\n"
    "    file.write('id,label\\n' + ''.join(f\"{line.split(',')[0]},SECRET-TRUTH-1\\n\" for line in ids))\n"
    "print('here', os.getcwd())\n"
)


def test_relative_paths_work_in_the_process_backend(make_workspace: Callable[..., Path], settings: Settings) -> None:
    root = make_workspace(container={"cmd": ["python", "predict.py"]})
    (root / "predict.py").write_text(RELATIVE)
    (root / "weights.bin").write_text("beside the program")
    result = run_pipeline(str(root), settings=settings, backend="process")
    assert result.error is None, result.error
    assert result.summary.score is not None
    assert (root / "output" / "pred.csv").read_text().startswith("id,label")
    assert not (root / "output" / "pred.csv").is_symlink()


@pytest.mark.parametrize("folder", ["/workspace", "/workspace/lib", "/app"])
def test_a_working_folder_that_was_asked_for_counts_there_as_well(
    make_workspace: Callable[..., Path], settings: Settings, folder: str
) -> None:
    """There is no image, so whatever lies outside of the workspace is where the copied files are."""
    program = "lib/predict.py" if folder != "/workspace/lib" else "predict.py"
    root = make_workspace(container={"cmd": ["python", program], "working_dir": folder})
    (root / "lib").mkdir()
    back = "../" if folder == "/workspace/lib" else ""
    (root / "lib" / "predict.py").write_text(f"open('{back}output/pred.csv', 'w').write('id,label\\n')\n")
    report = run_workspace(str(root), settings=settings, backend="process")
    assert report.error is None, report.error


def test_a_working_folder_that_is_none_of_the_workspace_is_the_submissions_fault(
    make_workspace: Callable[..., Path], settings: Settings
) -> None:
    root = make_workspace(container={"cmd": ["python", "-c", "0"], "working_dir": "/workspace/nowhere"})
    error = run_workspace(str(root), settings=settings, backend="process").error
    assert error is not None and error.code is ErrorCode.CONTAINER_FAILED and "working_dir" in error.message


@pytest.mark.parametrize("written", ["", "output", "./x", "~/x", "/a/../b", "/a\nb", "/" + "x" * 600, 5, ["/x"]])
def test_what_is_no_folder_is_refused_by_validate(written: Any) -> None:
    with pytest.raises(AutoScorerError) as caught:
        parse_job(json.dumps({"container": {"working_dir": written}}))
    assert caught.value.code is ErrorCode.INVALID_META
    assert caught.value.details["key"] == "container.working_dir"


# --- docker ------------------------------------------------------------------------------------------------------


@pytest.mark.docker
def test_relative_paths_work_in_a_container(
    make_workspace: Callable[..., Path], settings: Settings, python_image: str
) -> None:
    root = make_workspace(container={"image": python_image, "cmd": ["python3", "-c", RELATIVE]})
    result = run_pipeline(str(root), settings=settings, backend="docker")
    assert result.error is None, result.error
    assert "here /workspace" in (root / "logs" / "container.log").read_text()


def _built(name: str, lines: str, busybox: str, tmp_path: Path) -> str:
    tag = f"autoscorer-test-workdir-{name}"
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\n{lines}\n")
    subprocess.run(["docker", "build", "--quiet", "-t", tag, tmp_path], check=True, capture_output=True)
    return tag


@pytest.mark.docker
@pytest.mark.parametrize(
    ("lines", "asked", "expected"),
    [
        ("WORKDIR /app", None, "/app"),
        # BuildKit notes this for images that never asked for anything.
        ("WORKDIR /", None, "/workspace"),
        ("WORKDIR /app", "/workspace", "/workspace"),
        ("ENV A=1", "/", "/"),
        ("ENV A=1", "/opt/model", "/opt/model"),
    ],
)
def test_a_container_begins_where_the_job_says_else_the_image_else_in_the_workspace(
    make_workspace: Callable[..., Path],
    settings: Settings,
    busybox: str,
    tmp_path: Path,
    lines: str,
    asked: str | None,
    expected: str,
) -> None:
    image = _built(f"{abs(hash((lines, asked)))}", lines, busybox, tmp_path)
    try:
        where = {} if asked is None else {"working_dir": asked}
        cmd = ["sh", "-c", "pwd; echo id > $AUTOSCORER_WORKSPACE/output/pred.csv"]
        root = make_workspace(container={"image": image, "cmd": cmd, **where})
        report = run_workspace(str(root), settings=settings, backend="docker")
        assert report.error is None, report.error
        assert (root / "logs" / "container.log").read_text().strip() == expected
    finally:
        subprocess.run(["docker", "rmi", image], check=True, capture_output=True)


@pytest.mark.docker
def test_a_folder_that_no_container_can_begin_in_is_the_submissions_fault(
    make_workspace: Callable[..., Path], settings: Settings, busybox: str
) -> None:
    root = make_workspace(container={"image": busybox, "cmd": ["pwd"], "working_dir": "/workspace/input/new"})
    error = run_workspace(str(root), settings=settings, backend="docker").error
    assert error is not None and error.code is ErrorCode.CONTAINER_FAILED
