"""The compose file and the Dockerfile: what they name is there, what they set is a setting, no secret is in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from autoscorer.cli.main import COMMANDS, _parser
from autoscorer.core.config import Settings
from autoscorer.service.prefect.pools import job_template

from ..support.compose import OVERRIDE, docker_compose
from ..support.prefect_settings import known_variables

__all__ = ["docker_compose"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, each in SERVICES.items() if "AUTOSCORER_IMAGE" in each["image"])
ONCE = {"prepare", "migrate", "ledger", "deploy"}
# Without the variables that compose.yaml asks for, it must say so; with them, it must be whole.
ENVIRONMENT = {"POSTGRES_PASSWORD": "pw", "AUTOSCORER_API_TOKENS": "admin:t", "DOCKER_GID": "999"}

Variable = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def filled(text: str) -> str:
    return Variable.sub(lambda found: ENVIRONMENT.get(found[1]) or (found[3] if found[2] == "-" else ""), text)


def test_everything_that_the_issue_asks_for_is_there() -> None:
    images = {name: each["image"].partition(":")[0] for name, each in SERVICES.items()}
    assert images["postgres"] == "postgres"
    assert images["redis"] == "redis"
    assert SERVICES["prefect-server"]["deploy"]["replicas"] == 2
    assert filled(SERVICES["api"]["deploy"]["replicas"]) == "3"
    assert set(OURS) == {"prefect-server", "prefect-services", "api", "worker", "docker-worker"} | ONCE
    assert SERVICES["docker-worker"]["command"][-5:-2] == ["autoscorer", "--type", "docker"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_refers_to_what_is_there_and_comes_back_by_itself(name: str) -> None:
    service = SERVICES[name]
    for other, condition in service.get("depends_on", {}).items():
        wanted = condition["condition"]
        assert wanted == ("service_completed_successfully" if other in ONCE else "service_healthy")
        assert other in ONCE or "healthcheck" in SERVICES[other]
    for network in service.get("networks", []):
        assert network in COMPOSE["networks"]
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0] if isinstance(volume, str) else None
        assert source is None or source in COMPOSE["volumes"] or (FOLDER / source).is_file()
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    if "build" in service:
        context = FOLDER / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).is_file()
        assert set(service["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", dockerfile(), re.MULTILINE))


def test_no_secret_is_in_the_file_and_none_has_a_default() -> None:
    found = {match[1]: match[2] for text in texts(COMPOSE) for match in Variable.finditer(text)}
    for name in ("POSTGRES_PASSWORD", "AUTOSCORER_API_TOKENS", "DOCKER_GID"):
        assert found[name] == "?"
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET|CONNECTION_URL|LEDGER_URL", key):
                assert re.search(r"\$\{[A-Z_]+:\?", value), f"{name}: {key}"


def test_the_database_and_the_messages_are_reached_by_nobody_else() -> None:
    assert COMPOSE["networks"]["storage"]["internal"] is True
    on_storage = {name for name, each in SERVICES.items() if "storage" in each.get("networks", [])}
    assert on_storage == {
        "postgres",
        "redis",
        "migrate",
        "ledger",
        "api",
        "worker",
        "prefect-server",
        "prefect-services",
    }
    # Prefect's server knows no users; the API asks for tokens.
    ports = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    assert set(ports) == {"prefect", "gateway"}
    assert ports["prefect"][0].startswith("127.0.0.1:")


def test_workspaces_have_the_same_path_everywhere_and_only_one_service_gets_the_engine() -> None:
    sockets, watchers = set(), set()
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            if isinstance(volume, dict) and volume["target"].startswith("/host/"):
                assert volume["target"] == "/host" + volume["source"] and volume["read_only"] is True, name
                watchers.add(name)
            elif isinstance(volume, dict):
                assert volume["source"] == volume["target"], name
                if volume["source"].endswith("docker.sock"):
                    sockets.add(name)
    assert sockets == watchers == {"docker-worker"}
    environment = COMPOSE["x-environment"]
    assert filled(environment["AUTOSCORER_HOME"]) == "/srv/autoscorer/home"
    assert filled(environment["AUTOSCORER_WORKSPACE_ROOTS"]) == "/srv/autoscorer/workspaces"


@pytest.mark.parametrize(
    # Prefect's command takes seconds to start.
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (SERVICES[name]["command"][0] == "prefect")) for name in OURS],
)
def test_its_command_is_one_that_exists_with_these_arguments(name: str) -> None:
    program, *arguments = [filled(part) for part in SERVICES[name]["command"]]
    if program == "autoscorer":
        assert arguments[0] in COMMANDS
        _parser(arguments).parse_args(arguments)  # refuses what it does not know
        return
    command = [sys.executable, "-m", "prefect", *arguments]
    if program == "prefect":  # prints the help of exactly this command, or fails
        options = [part for part in arguments if part.startswith("--")]
        words = arguments[: arguments.index(options[0])] if options else arguments
        done = subprocess.run([*command[:3], *words, "--help"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        for option in options:
            assert option in done.stdout
    else:
        assert program in ("install", "python")


def test_what_it_tells_prefect_are_settings_of_prefect() -> None:
    told = {
        key
        for each in (*SERVICES.values(), {"environment": COMPOSE["x-server-environment"]})
        for key in each.get("environment", {})
        if key.startswith("PREFECT_")
    }
    assert told
    assert not {key for key in told if key.lower() not in known_variables()}
    for key in (
        "PREFECT_MESSAGING_BROKER",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING",
        "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE",
    ):
        assert COMPOSE["x-server-environment"][key].startswith("prefect_redis.")
        __import__(COMPOSE["x-server-environment"][key])


def test_what_it_tells_autoscorer_are_settings_of_autoscorer() -> None:
    told = {key for each in SERVICES.values() for key in each.get("environment", {}) if key.startswith("AUTOSCORER_")}
    told |= set(re.findall(r"\b(AUTOSCORER_\w+)=", dockerfile()))
    assert told
    for key in told:
        assert key.removeprefix("AUTOSCORER_").partition("__")[0].lower() in Settings.model_fields, key


@pytest.mark.docker
def test_docker_compose_itself_takes_the_file(docker_compose: dict[str, str]) -> None:
    environment = {**os.environ, **ENVIRONMENT, **docker_compose}
    base = ["docker", "compose", "-f", str(FOLDER / "compose.yaml")]
    for more in ([], ["-f", str(OVERRIDE)]):
        done = subprocess.run([*base, *more, "config", "--quiet"], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    # Two projects on one host share neither a name nor a network.
    command = [*base, "--project-name", "another", "config", "--format", "json"]
    whole = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    for kind in ("networks", "volumes"):
        assert all(each["name"].startswith("another") for each in whole[kind].values()), whole[kind]
    assert '--variable=networks=["another"]' in whole["services"]["deploy"]["command"]


# --- the image ------------------------------------------------------------------------------------------------


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_the_dockerfile_builds_from_what_is_there_and_the_services_run_as_nobody_special() -> None:
    lines = [line for line in dockerfile().replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    instructions = [line.split(maxsplit=1) for line in lines]
    known = {"ARG", "FROM", "ENV", "RUN", "COPY", "WORKDIR", "VOLUME", "EXPOSE", "CMD", "HEALTHCHECK"}
    assert {name for name, _ in instructions} <= known
    assert instructions[0] == ["ARG", "BASE_IMAGE=python:3.12-slim"]
    ignored = (ROOT / ".dockerignore").read_text().split()
    for name, rest in instructions:
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists() or source == "wheel[s]"
                assert source not in ignored and "wheels" not in ignored
    assert not (FOLDER / "Dockerfile").exists(), "there is one"
    # The image begins as root, because `docker run` with nothing but the engine's socket must work.
    users = {name: SERVICES[name]["user"] for name in OURS}
    assert users.pop("prepare") == "0:0" and set(users.values()) == {"10001:10001"}
    pool = json.loads((FOLDER / "docker.json").read_text())["variables"]["properties"]["container_create_kwargs"]
    assert pool["default"]["user"] == "10001:10001"


def test_the_images_own_health_check_is_asked_of_no_service_that_it_does_not_fit() -> None:
    for name in OURS:
        test = SERVICES[name]["healthcheck"]["test"]
        # A check that is switched off would fail `up --wait`.
        assert test == ["CMD", "true"] or "urlopen" in test[-1], name


def test_what_is_added_to_a_docker_pools_containers_takes_nothing_away(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"workspace_roots": (tmp_path,)})
    for variable in SERVICES["deploy"]["command"]:
        if variable.startswith("--variable=container_create_kwargs="):
            added = json.loads(filled(variable.split("=", 2)[2]))
    template = job_template(settings, "docker", {"container_create_kwargs": added})
    made = template["variables"]["properties"]["container_create_kwargs"]["default"]
    assert made["user"] == "10001:10001" and made["init"] is True and made["group_add"] == ["999"]
    assert made["pids_limit"] == 1024 and made["nano_cpus"] == 2_000_000_000


def test_the_image_has_the_versions_that_are_tested() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        found = [line.partition("==") for line in lines if "==" in line and not line.startswith("#")]
        return {package: version for package, _, version in found}

    image, tested = pins("image.txt"), pins("dev.txt")
    assert {"prefect-docker", "prefect-kubernetes", "prefect-redis", "dumb-init"} <= set(image)
    assert {name: image[name] for name in image if name in tested} == {
        name: tested[name] for name in image if name in tested
    }
    assert not set(image) & set(pins("runtime.txt"))


def test_an_installed_package_has_what_deploy_reads() -> None:
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "prefect.yaml" in data["autoscorer"]
    assert data["autoscorer.deployments"] == ["**/*"]
