"""The configuration decides what a submission may do, so nothing in it is guessed, ignored or shown by accident."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.config_tokens import ApiToken
from autoscorer.core.errors import AutoScorerError, ErrorCode, Stage

Gi = 1024**3


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("AUTOSCORER_", "SCORE_API_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.chdir(tmp_path)


def write(tmp_path: Path, text: str, name: str = "config.yaml") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path | None = None) -> str:
    with pytest.raises(AutoScorerError) as caught:
        load_settings(path)
    assert caught.value.code is ErrorCode.INVALID_REQUEST and caught.value.stage is Stage.CONFIG
    assert caught.value.exit_code == 2
    return caught.value.message


# --- where it comes from ----------------------------------------------------------------------------------------


def test_without_file_and_environment_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings == Settings()
    assert settings.home == tmp_path / "person" / ".autoscorer"
    assert settings.executors.default == "auto"
    assert settings.security.network_policies == ("none",)


def test_the_environment_wins_over_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "security: {limits: {memory: 1g, cpu: 2, pids: 100}}\nexecutors: {default: process}\n")
    monkeypatch.setenv("AUTOSCORER_SECURITY__LIMITS__MEMORY", "8Gi")
    monkeypatch.setenv("AUTOSCORER_SECURITY__LIMITS__PIDS", "50")
    limits = load_settings(path).security.limits
    assert (limits.memory, limits.cpu, limits.pids, limits.nofile) == (8 * Gi, 2, 50, 4096)
    assert load_settings(path).executors.default == "process"


def test_a_section_as_json_changes_only_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_SECURITY__LIMITS", '{"pids": 50}')
    limits = load_settings(write(tmp_path, "security: {limits: {memory: 1g, pids: 100}}")).security.limits
    assert (limits.memory, limits.pids) == (Gi, 50)


@pytest.mark.parametrize("section", ["AUTOSCORER_SECURITY__LIMITS", "AUTOSCORER_SECURITY"])
@pytest.mark.parametrize("json_first", [True, False])
def test_a_section_and_a_part_of_it_in_the_environment_contradict(
    monkeypatch: pytest.MonkeyPatch, section: str, json_first: bool
) -> None:
    variables = [(section, "{}"), ("AUTOSCORER_SECURITY__LIMITS__MEMORY", "8Gi")]
    for name, value in variables if json_first else reversed(variables):
        monkeypatch.setenv(name, value)
    assert section in refused()


def test_the_file_named_wins_over_the_variable_and_that_over_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "images: {pull_retries: 1}", "home/config.yaml")
    monkeypatch.setenv("AUTOSCORER_HOME", str(tmp_path / "home"))
    assert load_settings().images.pull_retries == 1
    monkeypatch.setenv("AUTOSCORER_CONFIG", str(write(tmp_path, "images: {pull_retries: 3}", "variable.yaml")))
    assert load_settings().images.pull_retries == 3
    assert load_settings(write(tmp_path, "images: {pull_retries: 4}", "named.yaml")).images.pull_retries == 4


def test_the_current_folder_may_be_a_submissions_and_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.yaml", "autoscorer.yaml", ".autoscorer/config.yaml", ".env", "autoscorer.env"):
        write(tmp_path, "AUTOSCORER_IMAGES__PULL_RETRIES=9" if "env" in name else "images: {pull_retries: 9}", name)
    assert load_settings().images.pull_retries == 2
    monkeypatch.setenv("AUTOSCORER_HOME", "")
    monkeypatch.setenv("AUTOSCORER_CONFIG", "")
    settings = load_settings()
    assert settings.images.pull_retries == 2
    assert settings.home == tmp_path / "person" / ".autoscorer"


def test_a_file_that_was_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere.yaml")
    assert "can't be read" in refused(tmp_path)
    monkeypatch.setenv("AUTOSCORER_CONFIG", str(tmp_path / "nowhere.yaml"))
    assert "does not exist" in refused()


@pytest.mark.parametrize("variable", ["AUTOSCORER_HOME", "AUTOSCORER_CONFIG"])
def test_a_home_that_nobody_has_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "~nobody-of-this-name/x")
    assert "~nobody-of-this-name" in refused()


def test_a_workspace_variable_of_a_models_own_container_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_WORKSPACE", "/workspace")
    assert load_settings() == Settings()


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("securty: {}", ["securty", "did you mean 'security'"]),
        ("security: {limts: {}}", ["security.limts", "did you mean 'limits'"]),
        ("security: {limits: {memmory: 1g}}", ["security.limits.memmory", "did you mean 'memory'"]),
        ("executors: {docker: {usr: '1:1'}}", ["executors.docker.usr", "did you mean 'user'"]),
        ("a: 1\nb: 2", ["a: unknown key", "b: unknown key"]),
        # Names that the library below takes as orders to itself.
        ("_env_file: /etc/passwd", ["_env_file"]),
        ("_env_prefix: OTHER_", ["_env_prefix"]),
        ("_case_sensitive: true", ["_case_sensitive"]),
        ("self: 1", ["self"]),
    ],
)
def test_an_unknown_key_of_the_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refused(write(tmp_path, text))
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("AUTOSCORER_SECURTY__LIMITS__PIDS", ["AUTOSCORER_SECURTY__LIMITS__PIDS", "mean 'AUTOSCORER_SECURITY'"]),
        ("AUTOSCORER_SECURITY__LIMITS__MEMROY", ["security.limits.memroy", "did you mean 'memory'"]),
        ("AUTOSCORER_SECURITY__LIMITZ__MEMORY", ["security.limitz", "did you mean 'limits'"]),
        ("AUTOSCORER_SECURITY_LIMITS_MEMORY", ["AUTOSCORER_SECURITY_LIMITS_MEMORY"]),
        ("AUTOSCORER_LIMITS__MEMORY", ["AUTOSCORER_LIMITS__MEMORY"]),
        ("AUTOSCORER_HOME__X", ["AUTOSCORER_HOME__X"]),
        ("AUTOSCORER_SECURITY__LIMITS__MEMORY__X", ["security.limits.memory"]),
        ("autoscorer_securty", ["autoscorer_securty"]),
        ("AUTOSCORER_", ["AUTOSCORER_"]),
    ],
)  # fmt: skip
def test_an_unknown_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, words: list[str]) -> None:
    monkeypatch.setenv(variable, "1g")
    message = refused()
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b: c", "not valid YAML"),
        ("a: [1", "not valid YAML"),
        ("\tx: 1", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("home: 2001-13-45", "not valid YAML"),
        ("home: 0x_", "not valid YAML"),
        ("? [a]\n: 1", "not valid YAML"),
        ("[" * 20_000, "nested too deeply"),
        ("- a", "mapping of sections, not list"),
        ("text", "mapping of sections, not str"),
        ("1: 2", "mapping of sections"),
        ("security: {limits: {memory: 1g}}\nsecurity: {limits: {cpu: 1}}", "'security' appears twice"),
        ("security: {limits: {memory: 1g, memory: 2g}}", "'memory' appears twice"),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(write(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"home: \xff\xfe")
    assert "can't be read" in refused(tmp_path / "c.yaml")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\ufeff{}", "---\n", "{}"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_settings(write(tmp_path, text)) == Settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("security.limits.memory", "lots"), ("security.limits.memory", 0), ("security.limits.memory", True),
        ("security.limits.cpu", 0), ("security.limits.cpu", -1), ("security.limits.cpu", float("inf")),
        ("security.limits.cpu", float("nan")), ("security.limits.pids", 7), ("security.limits.gpu", -1),
        ("security.limits.timeout", 0), ("security.limits.nofile", 1), ("security.limits.output_files", 0),
        ("security.network_policies", ["host"]), ("executors.default", "podman"), ("images.pull_policy", "sometimes"),
        ("images.pull_retries", 11), ("images.build_network", "host"), ("executors.docker.user", "root"),
        ("executors.docker.user", "1000"), ("executors.docker.user", "1000:1000\n"),
        ("security.allow_build", "perhaps"),
        # What an engine or the kernel would refuse when a model starts, of which a submission knows nothing.
        ("security.limits.cpu", 0.009), ("security.limits.cpu", 1e300), ("security.defaults.cpu", 1e-10),
        ("security.defaults.memory", "5Mi"), ("security.limits.memory", "5Mi"), ("security.limits.gpu", 10**30),
        ("security.limits.pids", 4194305), ("security.limits.nofile", 2**20 + 1), ("security.limits.timeout", 1e300),
        ("executors.docker.user", "2147483648:1"), ("executors.docker.user", "1:99999999999"),
        ("executors.docker.uid_range", "5"), ("executors.docker.uid_range", "0-5"),
        ("executors.docker.uid_range", "9-5"), ("executors.docker.uid_range", "1-2147483648"),
        ("executors.docker.uid_range", "1-2\n"),
        ("executors.docker", {"user": "1:1", "uid_range": "1-2"}),
        ("executors.gpu.devices", "all"), ("executors.gpu.devices", "0"), ("executors.gpu.devices", [0]),
        ("executors.gpu.devices", ["0"]), ("executors.gpu.devices", ["GPU-1::0"]), ("executors.gpu.devices", None),
        ("executors.gpu.devices", ["GPU-1", "GPU-1"]), ("executors.gpu.lease_dir", "locks"),
        ("executors.gpu.max_per_type", {"A100": -1}), ("executors.gpu.max_per_type", {"A100/x": 1}),
        ("executors.gpu.max_per_type", {"A100": 1, "NVIDIA A100": 2}), ("security.allow_shared_gpu", "maybe"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_by_its_key(tmp_path: Path, key: str, value: Any) -> None:
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    # JSON is YAML, but for its infinite numbers.
    text = json.dumps(nested).replace("Infinity", ".inf").replace("NaN", ".nan")
    assert key in refused(write(tmp_path, text))


@pytest.mark.parametrize("user", ["0:0", "0:1000", "00:1000", "1000:0", "000:000"])
def test_the_model_never_runs_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    assert "must not run as uid or gid 0" in refused(write(tmp_path, f"executors: {{docker: {{user: '{user}'}}}}"))
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DOCKER__USER", user)
    assert "must not run as uid or gid 0" in refused()


def test_several_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(AutoScorerError) as caught:
        load_settings(write(tmp_path, "security: {limits: {cpu: 0, memroy: 1g}}\nexecutors: {default: x}"))
    assert len(caught.value.details["problems"]) == 3


def test_a_list_in_the_environment_that_is_no_json_says_how_to_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOWED_IMAGES", "registry/*")
    assert "JSON" in refused()
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOWED_IMAGES", '["registry/*"]')
    assert load_settings().security.allowed_images == ("registry/*",)


# --- secrets ----------------------------------------------------------------------------------------------------

SECRET = "pnu_73915428"


def test_a_secret_is_masked_wherever_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_PREFECT__API_KEY", SECRET)
    settings = load_settings()
    assert settings.prefect.api_key is not None and settings.prefect.api_key.get_secret_value() == SECRET
    for shown in (json.dumps(settings.to_dict()), repr(settings), str(settings), settings.model_dump_json()):
        assert SECRET not in shown
    assert set(settings.to_dict()["prefect"]["api_key"]) == {"*"}


@pytest.mark.parametrize(
    "text",
    [
        "prefect: {api_key: 73915428}",
        "prefect: {api_key: [pnu_73915428]}",
        "prefect: {api_key: {a: pnu_73915428}}",
        "prefect: pnu_73915428",
        "prefect: [pnu_73915428]",
        "prefect: {api_kei: pnu_73915428}",
        "prefect: {api_url: {a: pnu_73915428}}",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated_in_the_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(AutoScorerError) as caught:
        load_settings(write(tmp_path, text))
    assert "73915428" not in json.dumps(caught.value.to_dict())
    assert "prefect" in caught.value.message


@pytest.mark.parametrize("variable", ["AUTOSCORER_PREFECT", "AUTOSCORER_PREFECT__API_KEY__X"])
def test_nor_is_one_from_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, f'{{"api_key": "{SECRET}"')
    assert SECRET not in refused()


def test_the_token_of_the_first_systems_service_may_submit_beside_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORE_API_TOKEN", f" {SECRET},x\n")
    assert load_settings().tokens == (ApiToken("submit", f"{SECRET},x"),)
    file = write(tmp_path, 'api_tokens: "admin:of-the-file"')
    settings = load_settings(file)
    # Those of the file stay: nobody loses the rights of an admin by it.
    assert settings.tokens == (ApiToken("admin", "of-the-file"), ApiToken("submit", f"{SECRET},x"))
    for shown in (json.dumps(settings.to_dict()), repr(settings), str(settings), settings.model_dump_json()):
        assert SECRET not in shown
    monkeypatch.setenv("SCORE_API_TOKEN", " ")
    assert load_settings(file).tokens == (ApiToken("admin", "of-the-file"),)


def test_the_shown_configuration_can_be_read_back(tmp_path: Path) -> None:
    shown = load_settings(write(tmp_path, "security: {limits: {memory: 1.5g}}")).to_dict()
    again = load_settings(write(tmp_path, json.dumps(shown), "again.yaml"))
    assert again.to_dict() == shown
    assert again.security.limits.memory == 3 * Gi // 2
    assert not re.search(r"NaN|Infinity", json.dumps(shown))


def test_settings_can_not_be_changed_afterwards() -> None:
    settings = load_settings()
    with pytest.raises(ValueError):
        settings.security.limits.memory = 1
    with pytest.raises(ValueError):
        settings.home = Path("/")
