"""The documentation is complete: what there is to document is documented, examples are valid, links lead somewhere."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from autoscorer.api.app import create_app
from autoscorer.api.routes.pages import router as pages
from autoscorer.cli.main import COMMANDS
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import CATALOGUE
from autoscorer.core.meta import parse_job
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import Image, RunSpec, Staged
from autoscorer.executors.docker.seal import container_config
from autoscorer.executors.limits import effective_limits
from autoscorer.schemas.job import KNOWN_KEYS, Job, parse_bytes
from autoscorer.schemas.result import Result
from autoscorer.schemas.task import BatchRequest, SubmitRequest, TaskState, TaskView
from autoscorer.scorers.base import ScorerParams
from autoscorer.scorers.base_csv import CSVParams
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

# --- nothing is left out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READMES)
def test_every_error_code_stands_in_the_table(name: str) -> None:
    faults = {"README.md": {}, "README.zh-CN.md": {"submission": "提交", "usage": "用法", "system": "系统"}}[name]
    rows = {row[0].strip("`"): row for row in rows_of(read(name)) if row[0].strip("`") in CATALOGUE}
    assert list(rows) == [code.value for code in CATALOGUE]
    for code, spec in CATALOGUE.items():
        expected = [spec.stage.value, str(spec.http_status), faults.get(spec.fault.value, spec.fault.value)]
        assert rows[code.value][1:4] == expected, code
        assert rows[code.value][4]


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and action, by what is typed, with its parser."""
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f"autoscorer.cli.{command}").add_arguments(parser)
        below = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
        if below is None:
            yield command, parser
        else:
            yield from ((f"{command} {name}", found) for name, found in below.choices.items())


@pytest.mark.parametrize("name", READMES)
def test_every_command_and_option_stands_in_the_table(name: str) -> None:
    common = {"--help", "--config", "--json", "--scorers"}
    rows = {
        row[0].strip("`"): row for row in rows_of(read(name)) if len(row) == 3 and row[0].startswith("`autoscorer ")
    }
    documented: dict[str, set[str]] = {}
    for typed, parser in _parsers():
        (row,) = [row for line, row in rows.items() if f"{line} ".startswith(f"autoscorer {typed} ")]
        options = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
        documented[typed] = set(re.findall(r"--[a-z-]+", row[2]))
        assert documented[typed] == options - common, typed
        # What stands in capitals is what has to be given.
        wanted = {a.metavar for a in parser._actions if not a.option_strings and isinstance(a.metavar, str)}
        assert set(re.findall(r"\b[A-Z_]+\b", row[0])) == wanted, typed
    assert len(documented) == len(rows), "the table has commands that do not exist"
    assert common | {"--version"} <= set(re.findall(r"--[a-z-]+", read(name)))
    assert {"auto", "docker", "process"} <= words_of(read(name))


@pytest.mark.parametrize("name", [*READMES, "docs/reference.md"])
def test_every_key_of_meta_json_is_documented(name: str) -> None:
    code = words_of(read(name))
    own = {f"{section}.{key}".removeprefix(".") for section, keys in KNOWN_KEYS.items() for key in keys}
    own -= {"container", "resources", "data"}
    if name == "docs/reference.md":  # which holds the rules of those that have some
        own -= {"time_limit", "scorer_params", "resources.gpus", "container.gpus", "container.network_policy"}
        own -= {"task_type", "description"}
    missing = {key for key in own if key not in code and key.rpartition(".")[2] not in code}
    assert not missing


@pytest.mark.parametrize("name", [*READMES, "docs/reference.md"])
def test_every_field_of_the_result_is_documented(name: str) -> None:
    code = {part for text in words_of(read(name)) for part in re.split(r"[.*]+", text)}
    assert not set(_fields(Result)) - code


def _fields(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _fields(kind)


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its path, with its default."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _settings(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field.get_default(call_default_factory=True)


def test_every_setting_and_its_default_is_documented() -> None:
    section = section_of(read("docs/reference.md"), "Configuration")
    rows = {row[0].strip("`"): row[1].strip("`") for row in rows_of(section) if row[0].startswith("`")}
    settings = dict(_settings(Settings))
    assert list(rows) == list(settings), "the table and the settings differ, or their order does"
    for key, default in settings.items():
        shown: Any = {"none": None, "empty": "", "true": True, "false": False}.get(rows[key], rows[key])
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            shown = parse_bytes(shown) if not shown.isdigit() else float(shown)
        elif isinstance(default, (tuple, dict)):
            shown, default = json.loads(shown), json.loads(json.dumps(default))
        assert shown == (str(default) if isinstance(default, Path) else default), key


def test_every_route_stands_in_the_table_with_its_role(settings: Settings) -> None:
    app = create_app(settings)
    document = app.openapi()["paths"]
    served = {(method.upper(), path) for path, operations in document.items() for method in operations}
    served |= {("GET", path) for path in (app.openapi_url, *(page.path for page in pages.routes))}
    rows = rows_of(section_of(read("docs/service.md"), "Routes"))[1:]
    documented = {(row[0], path): row[2] for row in rows for path in re.findall(r"`(/[^`]*)`", row[1])}
    assert set(documented) == served
    for path, operations in document.items():
        for method, operation in operations.items():
            # A route that needs the role admin says so in the document, which the tests of the API hold it to.
            open_to_all, admin = operation.get("security") == [], "*admin*" in operation["description"]
            assert documented[method.upper(), path] == ("–" if open_to_all else "admin" if admin else "submit"), path


def test_every_metric_stands_in_the_table(tmp_path: Path) -> None:
    with facade(facade_settings(tmp_path)) as running:
        text = running.call("GET", "/metrics", token=SUBMIT).body.decode()
    types = dict(re.findall(r"^# TYPE (autoscorer_\S+) (\w+)$", text, re.MULTILINE))
    rows = rows_of(section_of(read("docs/service.md"), "Health, metrics, logs"))[1:]
    documented = {row[0].strip("`"): row[1] for row in rows}
    # When a counter or histogram began is a metric of its own in this format, and no news.
    assert documented == {name: kind for name, kind in types.items() if not name.endswith("_created")}


def test_every_state_and_field_of_a_task_is_documented() -> None:
    page = read("docs/service.md")
    code = words_of(page)
    assert {row[0].strip("`") for row in rows_of(section_of(page, "Tasks"))} >= {state.value for state in TaskState}
    plain = {"id", "action", "workspace", "workspaces", "scorer", "params", "backend", "priority", "state"}
    assert not set(TaskView.model_fields) - code - plain - {"created_at", "started_at", "ended_at"}
    for request in (SubmitRequest, BatchRequest):
        assert not {field.alias or name for name, field in request.model_fields.items()} - code


def test_every_param_of_the_built_in_scorers_is_documented() -> None:
    section = section_of(read("docs/reference.md"), "Built-in scorers")
    code, rows = words_of(section), rows_of(section)
    entries = ScorerRegistry(entry_points=False).list()
    for name in READMES:
        assert {row[0].strip("`") for row in rows_of(section_of(read(name), _builtin_heading(name)))} >= {
            entry.id for entry in entries
        }
    for entry in entries:
        own = entry.scorer_class.Params.model_fields
        assert set(own) <= code, entry.id
        assert f"### {entry.id}" in section or f" and {entry.id}" in section
    defaults = {cell.strip("`"): row for row in rows for cell in row[0].split(", ")}
    for key, field in {**CSVParams.model_fields, **ScorerParams.model_fields}.items():
        assert key in defaults
        if isinstance(field.default, (bool, int, float)):
            assert str(field.default).lower() in defaults[key]


def _builtin_heading(name: str) -> str:
    return {"README.md": "Built-in scorers", "README.zh-CN.md": "内置评分器"}[name]


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


@pytest.mark.parametrize("name", READMES)
def test_the_examples_of_json_and_yaml_are_valid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    blocks = blocks_of(read(name))
    meta, result, success, failure = ("\n".join(block.lines) for block in blocks if block.language == "json")
    assert parse_job(meta).container.image
    assert Result.model_validate_json(result).summary.passed is True
    assert json.loads(success)["status"] == "success" and json.loads(failure)["status"] == "error"
    (config,) = ("\n".join(block.lines) for block in blocks if block.language == "yaml")
    (tmp_path / "c.yaml").write_text(config)
    loaded = load_settings(tmp_path / "c.yaml")
    assert yaml.safe_load(config)["security"]["limits"]["cpu"] == loaded.security.limits.cpu
    for block in blocks:
        if block.language == "sh":
            for line in block.lines:
                key, _, value = line.removeprefix("export ").partition("=")
                monkeypatch.setenv(key, value.strip("'"))
    assert load_settings().images.build_args == {"BASE_IMAGE": BASE_IMAGE}


# --- the pages hold together -----------------------------------------------------------------------------


def test_both_readmes_have_the_same_structure() -> None:
    english, chinese = (read(name) for name in READMES)
    for pattern in (r"^#+(?= )", r"^\d\. |^- ", r"^<!-- .* -->$"):
        marks = [re.findall(pattern, without_blocks(text), re.MULTILINE) for text in (english, chinese)]
        assert marks[0] == marks[1], pattern
    assert [len(row) for row in rows_of(english)] == [len(row) for row in rows_of(chinese)]
    for ours, theirs in zip(blocks_of(english), blocks_of(chinese), strict=True):
        # The folder's picture is explained in each language; everything else is the same text.
        assert ours == theirs or ours.lines[0] == theirs.lines[0] == "workspace/"
    # The same code words in the same tables, so that no key or option is in one of them alone.
    for ours_row, theirs_row in zip(rows_of(english), rows_of(chinese), strict=True):
        assert words_of(" ".join(ours_row)) == words_of(" ".join(theirs_row))


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
