"""The documentation is complete: what there is to document is documented, examples are valid, links lead somewhere."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import CATALOGUE
from autoscorer.core.meta import parse_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import Image, RunSpec, Staged
from autoscorer.executors.docker.container_config import container_config
from autoscorer.executors.limits import effective_limits
from autoscorer.schemas.job import KNOWN_KEYS, Job
from autoscorer.schemas.result import Result
from autoscorer.schemas.task import BatchRequest, SubmitRequest, TaskState, TaskView
from autoscorer.scorers.registry import ScorerRegistry
from pydantic import BaseModel

from ..support.facade import SUBMIT, facade, facade_settings
from ..support.markdown import BASE_IMAGE, READMES, ROOT, blocks_of, read, rows_of, section_of, without_blocks, words_of

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)


def both(page: str) -> tuple[str, str]:
    """A page in English and in Chinese."""
    return READMES if page == "README.md" else (page, page.replace("docs/", "docs/zh/"))


# --- nothing is left out ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_generated_tables_are_those_of_the_code() -> None:
    done = subprocess.run([sys.executable, "scripts/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_generated_table_stands_in_its_page() -> None:
    found = {name: re.findall(r"^<!-- generated: (\S+) -->$", read(name), re.MULTILINE) for name in PAGES}
    params = ["params:every", "params:tables", "params:classification_f1", "params:detection_map", "params:rag"]
    assert {name: tables for name, tables in found.items() if tables} == {
        "README.md": ["scorers"],
        "README.zh-CN.md": ["scorers"],
        "docs/api.md": ["routes"],
        "docs/benchmarks.md": ["benchmark"],
        "docs/built-in-scorers.md": params,
        "docs/commands.md": ["commands", "options"],
        "docs/errors.md": ["errors"],
        "docs/rag.md": ["rag-metrics"],
        "docs/settings.md": ["settings"],
        "docs/zh/benchmarks.md": ["benchmark"],
        "docs/zh/commands.md": ["commands"],
        "docs/zh/errors.md": ["errors"],
    }


@pytest.mark.slow
def test_a_table_that_the_code_has_left_behind_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    for name in ("scripts", "docs"):
        shutil.copytree(ROOT / name, copy / name)
    for name in READMES:
        shutil.copy(ROOT / name, copy)
    page = copy / "docs" / "errors.md"
    page.write_text(page.read_text(encoding="utf-8").replace("| 404 |", "| 400 |", 1), encoding="utf-8")
    chinese = copy / "docs" / "zh" / "errors.md"
    command = [sys.executable, "scripts/docs.py"]

    checked = subprocess.run([*command, "--check"], cwd=copy, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (1, "docs/errors.md is out of date; run scripts/docs\n")
    assert subprocess.run(command, cwd=copy).returncode == 0
    assert page.read_text(encoding="utf-8") == read("docs/errors.md")

    chinese.write_text(re.sub("^.*`MISMATCH`.*\n", "", chinese.read_text(encoding="utf-8"), flags=re.MULTILINE))
    missing = subprocess.run([*command, "--check"], cwd=copy, capture_output=True, text=True)
    assert missing.returncode == 1 and "there is no row in Chinese for `MISMATCH`" in missing.stderr


def test_every_command_has_a_text_and_every_option_a_help() -> None:
    rows = rows_of(read("docs/commands.md"))
    assert all(row[1] for row in rows)
    assert {"--help", "--config", "--json", "--scorers", "--version"} <= set(
        re.findall(r"--[a-z-]+", read("docs/commands.md"))
    )


def test_the_faults_of_the_errors_are_translated_alike() -> None:
    words = {"submission": "提交", "usage": "用法", "system": "系统"}
    ours, theirs = (rows_of(read(name))[-len(CATALOGUE) :] for name in ("docs/errors.md", "docs/zh/errors.md"))
    assert [words[row[3]] for row in ours] == [row[3] for row in theirs]


@pytest.mark.parametrize("name", [*both("docs/workspace.md"), "docs/meta-json.md"])
def test_every_key_of_meta_json_is_documented(name: str) -> None:
    code = words_of(read(name))
    own = {f"{section}.{key}".removeprefix(".") for section, keys in KNOWN_KEYS.items() for key in keys}
    own -= {"container", "resources", "data"}
    if name == "docs/meta-json.md":  # which holds the rules of those that have some
        own -= {"time_limit", "scorer_params", "resources.gpus", "container.gpus", "container.network_policy"}
        own -= {"task_type", "description"}
    missing = {key for key in own if key not in code and key.rpartition(".")[2] not in code}
    assert not missing


@pytest.mark.parametrize("name", [*both("docs/workspace.md"), "docs/result.md"])
def test_every_field_of_the_result_is_documented(name: str) -> None:
    code = {part for text in words_of(read(name)) for part in re.split(r"[.*]+", text)}
    assert not set(_fields(Result)) - code


def _fields(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _fields(kind)


@pytest.mark.slow
def test_every_metric_stands_in_the_table(tmp_path: Path) -> None:
    with facade(facade_settings(tmp_path)) as running:
        text = running.call("GET", "/metrics", token=SUBMIT).body.decode()
    types = dict(re.findall(r"^# TYPE (autoscorer_\S+) (\w+)$", text, re.MULTILINE))
    rows = rows_of(section_of(read("docs/service.md"), "Health, metrics, logs"))[1:]
    documented = {row[0].strip("`"): row[1] for row in rows}
    # When a counter or histogram began is a metric of its own in this format, and no news.
    assert documented == {name: kind for name, kind in types.items() if not name.endswith("_created")}


def test_every_state_and_field_of_a_task_is_documented() -> None:
    page = read("docs/api.md")
    code = words_of(page)
    assert {row[0].strip("`") for row in rows_of(section_of(page, "Tasks"))} >= {state.value for state in TaskState}
    plain = {"id", "action", "workspace", "workspaces", "scorer", "params", "backend", "priority", "state"}
    assert not set(TaskView.model_fields) - code - plain - {"created_at", "started_at", "ended_at"}
    for request in (SubmitRequest, BatchRequest):
        assert not {field.alias or name for name, field in request.model_fields.items()} - code


def test_every_param_of_the_built_in_scorers_is_documented() -> None:
    page = read("docs/built-in-scorers.md")
    for entry in ScorerRegistry(entry_points=False).list():
        assert set(entry.scorer_class.Params.model_fields) <= words_of(page), entry.id
        assert f"## {entry.id}" in page or f" and {entry.id}" in page


def test_every_line_of_the_seal_is_explained(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "ws").mkdir()
    spec = RunSpec(
        run_id="x", workspace=Workspace(tmp_path / "ws"), job=Job(), limits=effective_limits(Job(), settings)
    )
    spec = RunSpec(**{**spec.__dict__, "job": Job.model_validate({"container": {"cmd": ["x"]}})})
    image = Image(reference="x", id="x", digest="x")
    config = container_config(spec, image, Staged(tmp_path, {}), (1, 1), [])
    host = config.pop("HostConfig")
    lines = {*config, *host, "Runtime", *(limit["Name"] for limit in host["Ulimits"])}
    lines |= {option.partition(":")[0].partition("=")[0] for option in host["SecurityOpt"]}
    rows = rows_of(read("docs/sealed-run.md"))
    explained = {text for row in rows for text in re.findall(r"`([^`]+)`", row[0])}
    assert not lines - explained


def test_every_hostile_test_is_named_where_the_seal_is_explained() -> None:
    named = set(re.findall(r"\btest_\w+", read("docs/sealed-run.md")))
    tests = {
        file: set(re.findall(r"^def (test_\w+)", read(f"tests/executors/{file}.py"), re.MULTILINE))
        for file in (
            "test_hostile",
            "test_hostile_kernel",
            "test_docker_crash",
            "test_docker_images",
            "test_docker_builds",
            "test_dockerfile",
            "test_in_a_container",
            "test_engine_away",
            "test_bubblewrap",
            "test_hostile_as_a_user",
            "test_image_layers",
            "test_unpacked_image",
            "kubernetes/test_manifest",
            "kubernetes/test_outcome",
            "kubernetes/test_unpack",
        )
    }
    assert not named - {*tests, *set.union(*tests.values())}, "tests that do not exist"
    harmless = {
        "test_an_honest_model_succeeds",
        "test_predictions_as_a_folder",
        "test_what_models_need_of_the_kernel_is_there",
        "test_a_model_reads_input_that_only_its_owner_may_read",
    }
    assert not tests["test_hostile"] - named - harmless
    assert not tests["test_hostile_kernel"] - named - harmless


def test_every_failure_that_the_service_survives_names_the_tests_that_bring_it_about() -> None:
    section = section_of(read("docs/service.md"), "What happens when … dies")
    known = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    rows = rows_of(section)[1:]
    assert len(rows) > 10
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row[2]))
        assert named, f"nothing shows what happens when this dies: {row[0]}"
        assert not named - known, f"tests that do not exist: {row[0]}"
    assert not set(re.findall(r"`(test_\w+)`", section)) - known


# --- examples are valid ----------------------------------------------------------------------------------


@pytest.mark.parametrize("language", [0, 1])
def test_the_examples_of_json_and_yaml_are_valid(language: int, tmp_path: Path, settings: Settings) -> None:
    workspace, errors, operators = (
        blocks_of(read(both(f"docs/{page}.md")[language])) for page in ("workspace", "errors", "operators")
    )
    meta, result = ("\n".join(block.lines) for block in workspace if block.language == "json")
    success, failure = ("\n".join(block.lines) for block in errors if block.language == "json")
    assert parse_job(meta).container.image
    assert Result.model_validate_json(result).summary.passed is True
    assert json.loads(success)["status"] == "success" and json.loads(failure)["status"] == "error"
    (config,) = ("\n".join(block.lines) for block in operators if block.language == "yaml")
    (tmp_path / "c.yaml").write_text(config)
    loaded = load_settings(tmp_path / "c.yaml")
    assert yaml.safe_load(config)["security"]["limits"]["cpu"] == loaded.security.limits.cpu


@pytest.mark.parametrize("name", [*READMES, *both("docs/tutorial.md")])
def test_the_base_image_without_a_registry_is_named_as_a_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = (
        line for block in blocks_of(read(name)) for line in block.lines if line.startswith("export AUTOSCORER_I")
    )
    key, _, value = line.removeprefix("export ").partition("=")
    monkeypatch.setenv(key, value.strip("'"))
    assert load_settings().images.build_args == {"BASE_IMAGE": BASE_IMAGE}


# --- the pages hold together -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs/zh").iterdir())])
def test_a_page_and_its_translation_have_the_same_structure(page: str) -> None:
    english, chinese = (read(name) for name in both(page))
    # What every option means is told in English alone.
    english = english.partition("\n## Options\n")[0] if page == "docs/commands.md" else english
    for pattern in (r"^#+(?= )", r"^\d\. |^- ", r"^<!-- .* -->$"):
        marks = [re.findall(pattern, without_blocks(text), re.MULTILINE) for text in (english, chinese)]
        assert marks[0] == marks[1], pattern
    assert [len(row) for row in rows_of(english)] == [len(row) for row in rows_of(chinese)]
    for ours, theirs in zip(blocks_of(english), blocks_of(chinese), strict=True):
        # A folder's picture is explained in each language; everything else is the same text.
        assert ours == theirs or ours.lines[0] == theirs.lines[0] in ("workspace/", "spring-2026/")
    # The same code words in the same tables, so that no key or option is in one of them alone.
    for ours_row, theirs_row in zip(rows_of(english), rows_of(chinese), strict=True):
        assert words_of(" ".join(ours_row)) == words_of(" ".join(theirs_row))


@pytest.mark.parametrize("name", READMES)
def test_a_readme_is_short_and_shows_small_pictures(name: str) -> None:
    text = read(name)
    assert len(text.splitlines()) <= 200
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 3
    assert all((ROOT / picture).stat().st_size < 150 * 1024 for picture in pictures)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_picture_of_the_architecture_is_the_one_that_the_script_draws(language: str) -> None:
    drawn = runpy.run_path(str(ROOT / "scripts/pictures.py"))["architecture"](language)
    assert drawn == read(f"docs/pictures/architecture.{language}.svg")


def test_the_map_names_modules_and_tests_that_exist() -> None:
    known = {
        f"{file.relative_to(ROOT)}::{name}"
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    rows = [row for row in rows_of(read("docs/map.md")) if row[0] != "promise"]
    assert len(rows) > 30
    for promise, modules, tests in rows:
        assert re.findall(r"\]\(\.\./[\w/.-]+\)", modules), promise
        named = re.findall(r"`(test_\w+)` in \[[\w.]+\]\(\.\./([\w/.]+)\)", tests)
        assert named, f"no test shows that {promise}"
        assert not {f"{file}::{name}" for name, file in named} - known, promise


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name} links to {target}"
        assert found.is_relative_to(ROOT), f"{name} links to {target}, outside of the repository"
        if anchor:
            assert anchor in _anchors(found.read_text(encoding="utf-8")), f"{name} links to {target}"


def _anchors(text: str) -> set[str]:
    """Headings as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
