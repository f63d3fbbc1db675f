"""The first system's config.yaml works as it was written, and means what it says; so does its working folder."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.config_sections import Images, ResourceDefaults, ResourceLimits, Security
from autoscorer.core.errors import AutoScorerError, ErrorCode, Stage
from autoscorer.executors.images.policy import allowed, image_source
from autoscorer.executors.limits import effective_limits
from autoscorer.schemas import aliases
from autoscorer.schemas.image_reference import ImageReference, parse_image
from autoscorer.schemas.job import Job
from autoscorer.service.prefect.pools import job_template

from ..support.markdown import read, rows_of, section_of

Gi = 1024**3
NUMBERS = itertools.count()

SAMPLE = """\
# 执行器配置
executors:
  docker:
    host: "unix:///var/run/docker.sock"
    timeout: 300
    resources:
      cpu: 2
      memory: "4Gi"
      gpu: 0
  kubernetes:
    enabled: false
    namespace: "autoscorer"

# 任务队列配置
celery:
  broker: "redis://:hunter2@localhost:6379/0"
  backend: "redis://:hunter2@localhost:6379/0"

# 镜像配置
images:
  registry: "docker.io"
  pull_policy: "ifnotpresent"

# 安全配置
security:
  allowed_images: []
  resource_limits:
    max_cpu: 8
    max_memory: "16Gi"
"""


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("AUTOSCORER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AUTOSCORER_HOME", str(tmp_path / "home"))


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(path: Path | None = None) -> str:
    with pytest.raises(AutoScorerError) as caught:
        load_settings(path)
    assert caught.value.code is ErrorCode.INVALID_REQUEST and caught.value.stage is Stage.CONFIG
    assert "hunter2" not in json.dumps(caught.value.to_dict())
    return caught.value.message


# --- the sample -------------------------------------------------------------------------------------------------


def test_the_sample_is_accepted_and_means_what_it_says(config: Callable[[str], Path]) -> None:
    settings = load_settings(config(SAMPLE))
    assert settings.executors.docker.base_url == "unix:///var/run/docker.sock"
    defaults, limits = settings.security.defaults, settings.security.limits
    assert (defaults.timeout, defaults.cpu, defaults.memory, defaults.gpu) == (300, 2, 4 * Gi, 0)
    assert (limits.cpu, limits.memory) == (8, 16 * Gi)
    assert (settings.images.registry_prefix, settings.images.pull_policy) == ("docker.io", "ifnotpresent")
    (queue,) = settings.notes
    assert "celery" in queue and "Prefect is the queue" in queue and "hunter2" not in queue


def test_each_spelling_is_replaced_by_ours_and_the_shown_configuration_is_in_ours(
    config: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", "--json", "--config", str(config(SAMPLE))]) == 0
    printed = capsys.readouterr()
    shown = json.loads(printed.out)["data"]
    assert shown["executors"]["docker"]["base_url"] == "unix:///var/run/docker.sock"
    assert "celery" not in shown and "resource_limits" not in shown["security"]
    assert shown["executors"]["kubernetes"]["namespace"] == "autoscorer"
    assert "resources" not in shown["executors"]["docker"]
    assert "hunter2" not in printed.out + printed.err
    assert "Prefect is the queue" in printed.err


@pytest.mark.parametrize("old", aliases.SETTINGS)
def test_a_spelling_that_contradicts_ours_is_an_error_and_an_equal_one_is_none(
    config: Callable[[str], Path], old: str
) -> None:
    new = aliases.SETTINGS[old]
    first, second = {"cpu": (2, 4), "memory": ("2Gi", "4Gi"), "gpu": (1, 2)}.get(new.rpartition(".")[2], ("7", "9"))
    message = refused(config(json.dumps(_merged(_nested(old, first), _nested(new, second)))))
    assert old in message and new in message and "differ" in message
    load_settings(config(json.dumps(_merged(_nested(old, first), _nested(new, first)))))


@pytest.mark.parametrize("old", aliases.SETTINGS)
def test_each_spelling_works_in_the_environment_and_wins_over_the_file(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    new = aliases.SETTINGS[old]
    monkeypatch.setenv("AUTOSCORER_" + old.upper().replace(".", "__"), "7Gi" if "memory" in old else "7")
    file = config(json.dumps(_nested(new, "8Gi" if "memory" in old else "8")))
    found: Any = load_settings(file)
    for part in new.split("."):
        found = getattr(found, part)
    assert str(found) == str(7 * Gi) if "memory" in old else str(found).removesuffix(".0") == "7"
    monkeypatch.setenv("AUTOSCORER_" + new.upper().replace(".", "__"), "9Gi" if "memory" in old else "9")
    message = refused()
    assert old in message and new in message and "environment" in message


def test_sections_in_the_environment_are_json_as_ours_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DOCKER__RESOURCES", '{"cpu": "500m", "memory": "3Gi"}')
    monkeypatch.setenv("AUTOSCORER_SECURITY", '{"resource_limits": {"max_cpu": 4}, "allowed_images": []}')
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES", '{"enabled": true}')
    monkeypatch.setenv("AUTOSCORER_CELERY", '{"broker": "redis://:hunter2@localhost"}')
    settings = load_settings()
    assert (settings.security.defaults.cpu, settings.security.defaults.memory) == (0.5, 3 * Gi)
    assert settings.security.limits.cpu == 4 and settings.security.allowed_images == ()
    assert any("celery" in note for note in settings.notes) and settings.executors.uses_kubernetes
    monkeypatch.delenv("AUTOSCORER_CELERY")
    monkeypatch.setenv("AUTOSCORER_CELERY__BROKER", "redis://:hunter2@localhost")
    assert load_settings().notes == settings.notes
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DOCKER__RESOURCES", "lots")
    assert "executors.docker.resources" in refused()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("executors: {docker: {hots: x}}", ["executors.docker.hots", "did you mean 'host'"]),
        ("executors: {docker: {resources: {memroy: 1g}}}", ["executors.docker.resources.memroy", "mean 'memory'"]),
        ("executors: {docker: {resources: 5}}", ["executors.docker.resources", "section"]),
        ("executors: {kubernetes: {enabld: true}}", ["executors.kubernetes.enabld", "mean 'enabled'"]),
        ("executors: {kubernetes: {enabled: perhaps}}", ["executors.kubernetes.enabled", "perhaps"]),
        ("executors: {kubernetes: {namespace: 5}}", ["executors.kubernetes.namespace"]),
        ("images: {registri: x}", ["images.registri", "did you mean 'registry'"]),
        ("images: {pull_policy: ifNotPresent}", ["images.pull_policy"]),
        ("security: {resource_limits: {max_cpus: 5}}", ["security.resource_limits.max_cpus", "mean 'max_cpu'"]),
        ("security: {resource_limits: {max_cpu: lots}}", ["security.limits.cpu", "security.resource_limits.max_cpu"]),
        ("security: {resource_limits: {max_cpu: 0m}}", ["security.resource_limits.max_cpu"]),
        ("security: {resource_limits: {max_memory: 4Gii}}", ["security.resource_limits.max_memory", "4Gii"]),
        ("celry: {broker: hunter2}", ["celry", "did you mean 'celery'"]),
        ("celery: hunter2", ["celery", "section"]),
        ("celery: {brker: hunter2}", ["celery.brker", "did you mean 'broker'"]),
    ],
)  # fmt: skip
def test_a_wrong_word_or_value_stays_an_error_and_is_named_as_it_was_written(
    config: Callable[[str], Path], text: str, words: list[str]
) -> None:
    message = refused(config(text))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("written", ["IfNotPresent", "Always", "Never", "ifnotpresent", "always", "never"])
def test_the_pull_policy_as_kubernetes_writes_it(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    assert load_settings(config(f"images: {{pull_policy: {written}}}")).images.pull_policy == written.lower()
    monkeypatch.setenv("AUTOSCORER_IMAGES__PULL_POLICY", written)
    assert load_settings().images.pull_policy == written.lower()
    assert Images(pull_policy=written).pull_policy == written.lower()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "cpus"), [("2", 2), ("500m", 0.5), ("0.5", 0.5), (2, 2), (1.5, 1.5), ("1500m", 1.5), ("10m", 0.01)]
)
def test_cpus_as_kubernetes_writes_them(config: Callable[[str], Path], written: Any, cpus: float) -> None:
    text = json.dumps({"security": {"resource_limits": {"max_cpu": written}, "defaults": {"cpu": written}}})
    security = load_settings(config(text)).security
    assert security.limits.cpu == security.defaults.cpu == cpus


@pytest.mark.parametrize("written", ["", "m", "-500m", "0.5m", "1e1m", "nan", "inf", "9m", True, None, [2], "2 m"])
def test_what_is_no_number_of_cpus_is_refused(config: Callable[[str], Path], written: Any) -> None:
    message = refused(config(json.dumps({"security": {"limits": {"cpu": written}}})))
    assert "security.limits.cpu" in message


def test_kubernetes_is_switched_on_and_off_as_it_was(config: Callable[[str], Path]) -> None:
    on = load_settings(config("executors: {kubernetes: {enabled: true, namespace: autoscorer}}"))
    assert on.executors.uses_kubernetes and on.executors.kubernetes.namespace == "autoscorer" and on.notes == ()
    off = load_settings(config("executors: {kubernetes: {enabled: false, namespace: autoscorer}}"))
    assert not off.executors.uses_kubernetes and off.notes == ()


def test_the_environment_may_take_back_what_the_file_enables(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__ENABLED", "false")
    assert not load_settings(config("executors: {kubernetes: {enabled: true}}")).executors.uses_kubernetes


def test_what_is_told_in_the_first_systems_words_reaches_the_runs_of_other_pools(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(tmp_path))
    monkeypatch.setenv("AUTOSCORER_SECURITY__RESOURCE_LIMITS__MAX_CPU", "3")
    monkeypatch.setenv("AUTOSCORER_CELERY__BROKER", "redis://:hunter2@localhost")
    template = job_template(load_settings(), "docker", {})
    environment = template["variables"]["properties"]["env"]["default"]
    assert "hunter2" not in json.dumps(template)
    for name in [name for name in os.environ if name.startswith("AUTOSCORER_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings().security.limits.cpu == 3


# --- what the limits do -----------------------------------------------------------------------------------------


def test_a_job_that_says_nothing_gets_the_resources_and_the_time_of_the_configuration(
    config: Callable[[str], Path],
) -> None:
    settings = load_settings(config("executors: {docker: {timeout: 90, resources: {cpu: '2', memory: 3Gi, gpu: 1}}}"))
    limits = effective_limits(Job(), settings)
    assert (limits.timeout, limits.cpu, limits.memory, limits.gpu) == (90, 2, 3 * Gi, 1)
    asked = Job.model_validate({"timeout": 300, "resources": {"cpu": 1, "memory": "1Gi", "gpu": 0}})
    limits = effective_limits(asked, settings)
    assert (limits.timeout, limits.cpu, limits.memory, limits.gpu) == (300, 1, Gi, 0)
    assert effective_limits(Job(), Settings()).timeout == 300


def test_a_job_above_the_limits_is_refused(config: Callable[[str], Path]) -> None:
    settings = load_settings(config(SAMPLE))
    for resources in ({"cpu": 9}, {"memory": "17Gi"}):
        with pytest.raises(AutoScorerError, match="above the operator's maximum"):
            effective_limits(Job.model_validate({"resources": resources}), settings)


# --- which images -----------------------------------------------------------------------------------------------


def source(make_workspace: Callable[..., Path], image: str, settings: Settings) -> str:
    from autoscorer.core.meta import load_job
    from autoscorer.core.workspace import Workspace

    root = make_workspace(f"flowers-{next(NUMBERS)}", container={"image": image})
    workspace = Workspace(root)
    return image_source(workspace, load_job(workspace), settings)


def test_an_empty_list_restricts_nothing_and_none_allows_nothing(
    config: Callable[[str], Path], make_workspace: Callable[..., Path]
) -> None:
    everything = load_settings(config("security: {allowed_images: []}"))
    assert source(make_workspace, "anybody/model:1", everything) == "reference"
    assert everything.security.builds and everything.security.archives
    nothing = load_settings(config("security: {allowed_images: [none]}"))
    with pytest.raises(AutoScorerError) as caught:
        source(make_workspace, "anybody/model:1", nothing)
    assert caught.value.code is ErrorCode.IMAGE_NOT_ALLOWED and "no image" in caught.value.message
    assert not nothing.security.builds and not nothing.security.archives
    # The word is no name of an image, and restricts beside nothing else.
    with pytest.raises(AutoScorerError):
        source(make_workspace, "none", nothing)
    assert "none" in refused(config("security: {allowed_images: [none, 'team/*']}"))


def test_where_nothing_is_set_it_is_as_safe_as_ever(make_workspace: Callable[..., Path]) -> None:
    assert Security().allowed_images == ("*",)
    assert Security() == Security(allowed_images=("*",))
    settings = load_settings()
    assert settings.security == Security()
    assert not settings.security.allow_image_ids and settings.security.dockerfiles == "strict"
    # An id names every image of the engine, also where every name is allowed.
    opened = Settings(security=Security(allowed_images=()))
    with pytest.raises(AutoScorerError, match="allow_image_ids"):
        source(make_workspace, "sha256:" + "0" * 64, opened)


def test_a_pattern_is_judged_as_before() -> None:
    image = parse_image("team/model:1")
    assert isinstance(image, ImageReference)
    assert allowed(image, Security(allowed_images=()).image_patterns)
    assert allowed(image, Security(allowed_images=("team/*",)).image_patterns)
    assert not allowed(image, Security(allowed_images=("none",)).image_patterns)
    assert not allowed(image, Security(allowed_images=("other/*",)).image_patterns)


def _images_check(capsys: pytest.CaptureFixture[str], config: Path) -> dict[str, Any]:
    main(["doctor", "--json", "--config", str(config)])
    checks = json.loads(capsys.readouterr().out)["data"]["checks"]
    found: dict[str, Any] = next(check for check in checks if check["name"] == "images")
    return found


def test_doctor_says_which_images_may_be_run(config: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    check = _images_check(capsys, config("security: {allowed_images: []}"))
    assert check["state"] == "warn"
    assert "security.allowed_images is empty" in check["detail"] and "every image" in check["detail"]
    assert '["none"]' in check["advice"]
    check = _images_check(capsys, config("{}"))
    assert check["state"] == "ok" and "every image" in check["detail"]
    check = _images_check(capsys, config("security: {allowed_images: ['team/*']}"))
    assert check["state"] == "ok" and "team/*" in check["detail"]
    check = _images_check(capsys, config("security: {allowed_images: [none]}"))
    assert check["state"] == "ok" and "no image" in check["detail"]


def test_doctor_says_what_of_the_configuration_is_not_read(
    config: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", "--json", "--config", str(config(SAMPLE + "\napi: {port: 8001}\n"))])
    checks = json.loads(capsys.readouterr().out)["data"]["checks"]
    (check,) = [check for check in checks if check["name"] == "config"]
    assert check["state"] == "warn" and "celery" in check["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "worker"])
def test_the_log_of_every_start_says_it(config: Callable[[str], Path], command: str) -> None:
    path = config(SAMPLE + "prefect: {api_url: 'http://127.0.0.1:9/api'}\napi: {port: 0}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "autoscorer", command, "--json", "--config", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "AUTOSCORER_HOME": str(path.parent / "home")},
    )
    try:
        assert process.stderr is not None
        entries: list[dict[str, Any]] = []
        for line in process.stderr:  # ends with the process, if it says nothing of the kind
            entries.append(json.loads(line))  # every line of a service's log is an object
            text = " ".join(str(entry["message"]) for entry in entries)
            if "security.allowed_images is empty" in text and "Prefect is the queue" in text:
                break
        else:
            pytest.fail(f"it was not said: {entries}")
        assert "hunter2" not in json.dumps(entries)
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


# --- the table --------------------------------------------------------------------------------------------------


def test_the_documented_table_is_the_one_of_the_code() -> None:
    section = section_of(read("docs/compatibility.md"), "Configuration")
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows_of(section) if row[0].startswith("`")}
    assert {old: new for old, new in documented.items() if old in aliases.SETTINGS} == aliases.SETTINGS
    assert set(aliases.UNREAD_SETTINGS) <= set(documented)


def test_what_an_alias_stands_for_is_a_setting() -> None:
    shown = Settings().to_dict()
    for new in aliases.SETTINGS.values():
        found = shown
        for part in new.split("."):
            assert part in found, new
            found = found[part]
    assert {"cpu", "memory"} <= set(ResourceLimits.model_fields) & set(ResourceDefaults.model_fields)


def _nested(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    result = dict(one)
    for key, value in other.items():
        result[key] = _merged(result[key], value) if isinstance(value, dict) and key in result else value
    return result
