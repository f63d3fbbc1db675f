"""What the flows are made of and needs no server: the live log, the Markdown, the keys, finding workspaces."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

PACKAGES = ("validate", "run", "score", "pipeline")


def test_importing_the_steps_does_not_import_prefect() -> None:
    modules = ", ".join(f"autoscorer.tasks.{name}" for name in PACKAGES)
    code = f"import sys, {modules}; assert not [m for m in sys.modules if m.split('.')[0] == 'prefect']"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_step_has_its_task() -> None:
    from autoscorer.tasks import pipeline, run, score, validate

    for module, task in (
        (validate, validate.validate_task),
        (run, run.run_task),
        (score, score.score_task),
        (pipeline, pipeline.pipeline_task),
    ):
        assert task.name == module.__name__.rpartition(".")[2]
        assert task.persist_result is False and task.retries == 2
        with pytest.raises(AttributeError, match="no_task"):
            module.no_task  # noqa: B018
    assert run.run_task.timeout_seconds is None


# --- the live log ----------------------------------------------------------------------------------------


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.go_on.wait()
        self.messages.append(record.getMessage())


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def logger(records: Records) -> logging.Logger:
    made = logging.Logger("run")
    made.addHandler(records)
    return made


def test_lines_and_stages_come_in_order(logger: logging.Logger, records: Records, tmp_path: Path) -> None:
    from autoscorer.tasks.prefect.log import RunLog

    with RunLog(logger, tmp_path / "container.log") as log:
        log.stage("run", "image:1")
        log.log("one %s")
        log.log("two")
        log.stage("collect")
        log.log("three")
    assert records.messages == ["stage run: image:1", "model | one %s\nmodel | two", "stage collect", "model | three"]


def test_a_logger_that_stands_still_does_not_hold_up_the_reader(
    logger: logging.Logger, records: Records, tmp_path: Path
) -> None:
    from autoscorer.tasks.prefect.log import RunLog

    records.go_on.clear()
    log = RunLog(logger, tmp_path / "container.log")
    for number in range(50_000):
        log.log(f"line {number}")  # would never return if it waited
    assert records.messages == []
    records.go_on.set()
    log.__exit__(None, None, None)
    assert records.messages[0].startswith("model | line 0\n")


# --- Markdown and keys -----------------------------------------------------------------------------------


@given(st.text(max_size=80) | st.text(alphabet="-+*#>|_`~[](){}<>!&$:@.=123 \\\nw", max_size=40))
def test_text_of_strangers_has_no_meaning_in_markdown(text: str) -> None:
    from autoscorer.core.text import visible
    from autoscorer.flows.artifacts import plain

    shown = plain(text)
    whole = visible(" ".join(text.split()))
    parser = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    inline = parser.parseInline(shown)[0]
    assert "".join(token.content for token in inline.children or []) == whole.strip()
    assert {token.type for token in inline.children or []} <= {"text", "text_special"}
    blocks = {token.type for token in parser.parse(shown)}
    assert blocks <= {"paragraph_open", "inline", "paragraph_close"}


@given(st.text(min_size=1, max_size=60).filter(lambda name: "/" not in name and "\0" not in name))
def test_a_key_is_one_that_prefect_takes(name: str) -> None:
    import re

    from autoscorer.flows.artifacts import artifact_key

    try:
        key = artifact_key(Path("/data") / name, "result")
    except UnicodeEncodeError:
        return  # no file system holds a lone surrogate that is not an escaped byte
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) and key.endswith("-result")


def test_namesakes_have_keys_of_their_own(tmp_path: Path) -> None:
    from autoscorer.flows.artifacts import artifact_key

    assert artifact_key(tmp_path / "a/ws", "result") != artifact_key(tmp_path / "b/ws", "result")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a").mkdir()
    assert artifact_key(tmp_path / "a/ws", "result") == artifact_key(tmp_path / "link/ws", "result")


# --- finding workspaces ----------------------------------------------------------------------------------


def test_workspaces_are_found_in_folders_and_by_patterns_in_order(
    make_workspace: Callable[..., Path], tmp_path: Path
) -> None:
    from autoscorer.flows.batches.expand import expand

    for name in ("r/b", "r/a", "r/deep/c", "alone"):
        make_workspace(name)
    (tmp_path / "r/notes").mkdir()
    (tmp_path / "r/file.txt").write_text("")

    def names(*given: str) -> list[tuple[str, int | None, str | None]]:
        return [
            (str(e.path.relative_to(tmp_path)), e.duplicate_of, e.error.code if e.error else None)
            for e in expand([str(tmp_path / item) for item in given])
        ]

    assert names("alone") == [("alone", None, None)]
    assert names("r") == [("r/a", None, None), ("r/b", None, None)]
    assert names("alone", "r/[b-z]", "r/**") == [
        ("alone", None, None),
        ("r/b", None, None),
        ("r/a", None, None),
        ("r/b", 1, None),
        ("r/deep/c", None, None),
    ]
    assert names("r/notes", "r/file.txt", "gone", "r/x*") == [
        ("r/notes", None, "INVALID_META"),
        ("r/file.txt", None, "WORKSPACE_NOT_FOUND"),
        ("gone", None, "WORKSPACE_NOT_FOUND"),
        ("r/x*", None, "WORKSPACE_NOT_FOUND"),
    ]


def test_a_folder_whose_name_looks_like_a_pattern_is_itself(
    make_workspace: Callable[..., Path], tmp_path: Path
) -> None:
    from autoscorer.flows.batches.expand import expand

    make_workspace("x[1]")
    make_workspace("x1")
    assert [entry.path.name for entry in expand([str(tmp_path / "x[1]")])] == ["x[1]"]
