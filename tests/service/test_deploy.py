"""Deployments: what prefect.yaml says is what is registered, twice is once, and what an operator changed stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main
from autoscorer.core.config import Settings, load_settings
from autoscorer.service.prefect.deploy import declared
from autoscorer.service.prefect.model import DEPLOYMENTS, QUEUES
from autoscorer.service.prefect.pools import job_template

from ..support.prefect_server import PrefectServer, Refused, eventually, server

__all__ = ["server"]

ROOT = Path(__file__).parents[2]
NAMES = [
    "batch/batch",
    "batch/nightly-batch",
    "evaluate/evaluate",
    "pipeline/pipeline",
    "rag-score/rag-score",
    "run-only/run",
    "score-only/score",
    "validate-only/validate",
]
POOLS = ("autoscorer", "autoscorer-score", "autoscorer-rag", "elsewhere", "my-docker-pool")
Deploy = Callable[..., dict[str, Any]]

needs_server = pytest.mark.prefect


@pytest.fixture
def deploy(server: PrefectServer, capsys: pytest.CaptureFixture[str]) -> Deploy:
    def call(*arguments: str, code: int = 0) -> dict[str, Any]:
        assert main(["deploy", "--json", *arguments]) == code
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer["data"] if code == 0 else answer["error"]

    return call


@pytest.fixture
def nothing(server: PrefectServer) -> Iterator[None]:
    """A server without our pools and deployments."""
    clear(server)
    yield
    clear(server)


def clear(server: PrefectServer) -> None:
    """Remove what this file's tests have made, and nothing of other files' tests."""
    for each in deployments(server).values():
        eventually(lambda each=each: gone(server, f"/deployments/{each['id']}"))
    for pool in POOLS:
        eventually(lambda pool=pool: gone(server, f"/work_pools/{pool}"))


def gone(server: PrefectServer, path: str) -> bool:
    try:
        server.call("DELETE", path)
    except Refused as refused:
        # 503: SQLite was busy.
        assert refused.answer.status in (404, 503), refused
        return refused.answer.status == 404
    return True


def deployments(server: PrefectServer) -> dict[str, dict[str, Any]]:
    flows = {flow["id"]: flow["name"] for flow in server.call("POST", "/flows/filter", {})}
    found = {
        f"{flows[each['flow_id']]}/{each['name']}": each for each in server.call("POST", "/deployments/filter", {})
    }
    return {name: each for name, each in found.items() if name in NAMES}


def told(each: dict[str, Any]) -> dict[str, Any]:
    """What a deployment is, without its identity, and its version: Prefect takes that from git where it is clean."""
    schedules = [
        {key: schedule[key] for key in ("schedule", "active", "slug", "parameters")} for schedule in each["schedules"]
    ]
    named = (
        "entrypoint path pull_steps parameter_openapi_schema enforce_parameter_schema work_pool_name work_queue_name "
        "tags description paused parameters job_variables concurrency_limit"
    )
    return {"schedules": schedules, **{key: each[key] for key in named.split()}}


def prefect(server: PrefectServer, *arguments: str) -> str:
    """Prefect's own command, as a person would use it in the checkout."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=ROOT,
        env={**os.environ, **server.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- the same, whoever registers it ---------------------------------------------------------------------------


@needs_server
def test_a_second_deploy_changes_nothing(server: PrefectServer, deploy: Deploy, nothing: None) -> None:
    first = deploy()
    assert sorted(each["name"] for each in first["deployments"]) == NAMES
    assert {each["change"] for each in first["deployments"] + first["pools"]} == {"created"}
    before = {name: (each["id"], each["updated"]) for name, each in deployments(server).items()}
    second = deploy()
    assert {each["change"] for each in second["deployments"] + second["pools"]} == {"unchanged"}
    assert {name: (each["id"], each["updated"]) for name, each in deployments(server).items()} == before


@needs_server
def test_prefect_deploy_all_registers_the_same(server: PrefectServer, deploy: Deploy, nothing: None) -> None:
    deploy()
    ours = deployments(server)
    assert all(each["pull_steps"] for each in ours.values()), "without one Prefect copies the folder of the run"
    for each in ours.values():
        server.call("DELETE", f"/deployments/{each['id']}")
    prefect(server, "deploy", "--all")
    theirs = deployments(server)
    assert sorted(theirs) == NAMES
    assert {name: told(each) for name, each in theirs.items()} == {name: told(each) for name, each in ours.items()}
    # And each finds the other's work done, but for the version.
    deploy()
    assert {name: told(each) for name, each in deployments(server).items()} == {n: told(e) for n, e in ours.items()}
    assert {each["change"] for each in deploy()["deployments"]} == {"unchanged"}


@needs_server
def test_prefect_alone_makes_the_pools_deploys_and_runs(server: PrefectServer, nothing: None) -> None:
    template = str(ROOT / "deployments" / "process.json")
    prefect(server, "work-pool", "create", "autoscorer", "--type", "process", "--base-job-template", template)
    for pool in (
        "autoscorer-score",
        "autoscorer-rag",
        "elsewhere",
    ):  # the same, without a second for each start of the command
        server.call("POST", "/work_pools/", {"name": pool, "type": "process"})
    prefect(server, "deploy", "--all")
    prefect(server, "deployment", "run", "pipeline/pipeline", "-p", "workspace=/data/team-a")
    run = server.call("POST", "/flow_runs/filter", {"deployments": {"name": {"any_": ["pipeline"]}}})[0]
    assert run["parameters"] == {"workspace": "/data/team-a"}
    assert run["work_pool_name"] == "autoscorer"
    # One deployment in another pool, by Prefect's own option.
    prefect(server, "deploy", "--name", "pipeline", "--pool", "elsewhere")
    assert deployments(server)["pipeline/pipeline"]["work_pool_name"] == "elsewhere"


# --- pools ----------------------------------------------------------------------------------------------------


@needs_server
def test_pools_have_their_queues_by_priority_and_their_limits(
    server: PrefectServer, deploy: Deploy, nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_SERVICE__SCORE_CONCURRENCY", "7")
    deploy()
    for name, limit in (("autoscorer", 4), ("autoscorer-score", 7), ("autoscorer-rag", 64)):
        assert server.call("GET", f"/work_pools/{name}")["concurrency_limit"] == limit
        queues = server.call("POST", f"/work_pools/{name}/queues/filter", {})
        assert {queue["name"]: queue["priority"] for queue in queues} == dict(QUEUES.values())


@needs_server
def test_what_an_operator_changed_stays(
    server: PrefectServer, deploy: Deploy, nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy()
    nightly = deployments(server)["batch/nightly-batch"]
    schedule = {"schedule": {"cron": "30 4 * * 1", "timezone": "Europe/Berlin"}, "active": False}
    server.call("PATCH", f"/deployments/{nightly['id']}/schedules/{nightly['schedules'][0]['id']}", schedule)
    change = {"paused": False, "parameters": {"workspaces": ["/data/x"]}, "job_variables": {"env": {"A": "1"}}}
    server.call("PATCH", f"/deployments/{nightly['id']}", change)
    template = server.call("GET", "/work_pools/autoscorer")["base_job_template"]
    template["variables"]["properties"]["stream_output"]["default"] = False
    pool = {"concurrency_limit": 40, "base_job_template": template, "is_paused": True}
    server.call("PATCH", "/work_pools/autoscorer", pool)
    server.call("PATCH", "/work_pools/autoscorer/queues/low", {"priority": 9})

    # Not even a setting that changes touches them; what nobody touched follows it.
    monkeypatch.setenv("AUTOSCORER_SERVICE__POOL_CONCURRENCY", "5")
    monkeypatch.setenv("AUTOSCORER_SERVICE__SCORE_CONCURRENCY", "6")
    answer = deploy()

    assert answer["pools"][0]["kept"] == ["base_job_template", "concurrency_limit"]
    after = deployments(server)["batch/nightly-batch"]
    assert {key: after[key] for key in change} == change
    assert after["schedules"][0]["schedule"]["cron"] == "30 4 * * 1"
    assert after["schedules"][0]["active"] is False
    found = server.call("GET", "/work_pools/autoscorer")
    assert {key: found[key] for key in pool} == pool
    queues = server.call("POST", "/work_pools/autoscorer/queues/filter", {})
    assert next(queue["priority"] for queue in queues if queue["name"] == "low") == 9
    assert server.call("GET", "/work_pools/autoscorer-score")["concurrency_limit"] == 6


@needs_server
def test_another_pool_by_name_is_docker_with_this_installations_folders(
    server: PrefectServer, deploy: Deploy, nothing: None, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(tmp_path))
    deploy("--pool", "my-docker-pool", "--type", "docker", "--variable", "image=registry.example.com/autoscorer:1")
    pools = {name: each["work_pool_name"] for name, each in deployments(server).items()}
    assert {pools[name] for name in ("pipeline/pipeline", "run-only/run", "batch/batch")} == {"my-docker-pool"}
    assert {pools[name] for name in ("score-only/score", "validate-only/validate")} == {"autoscorer-score"}

    def defaults() -> dict[str, Any]:
        properties = server.call("GET", "/work_pools/my-docker-pool")["base_job_template"]["variables"]["properties"]
        return {name: each.get("default") for name, each in properties.items()}

    found = defaults()
    assert found["image"] == "registry.example.com/autoscorer:1"
    assert found["env"]["AUTOSCORER_HOME"] == str(home)
    assert {f"{home}:{home}", f"{tmp_path}:{tmp_path}"} <= set(found["volumes"])
    # A later deploy keeps what was given, and follows the configuration in the rest.
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(tmp_path / "other"))
    deploy("--pool", "my-docker-pool")
    assert defaults()["image"] == "registry.example.com/autoscorer:1"
    assert f"{tmp_path / 'other'}:{tmp_path / 'other'}" in defaults()["volumes"]

    error = deploy("--pool", "my-docker-pool", "--type", "kubernetes", code=2)
    assert error["code"] == "CONFLICT"
    assert "is of type docker" in error["message"]


@needs_server
def test_the_nightly_batch_sleeps_until_it_is_told_when_and_on_what(
    server: PrefectServer, deploy: Deploy, nothing: None
) -> None:
    deploy()
    before = deployments(server)["batch/nightly-batch"]
    assert before["paused"]
    assert "workspaces" in deploy("--cron", "0 3 * * *", code=2)["message"]
    assert "is not a schedule" in deploy("--cron", "at night", "--workspaces", "/data/a", code=2)["message"]
    assert "is not a schedule" in deploy("--cron", "0 3 * * *", "--timezone", "Mars/North", code=2)["message"]
    deploy("--cron", "0 3 * * *", "--timezone", "Asia/Shanghai", "--workspaces", "/data/a", "--workspaces", "/data/b")
    after = deployments(server)["batch/nightly-batch"]
    assert not after["paused"]
    assert after["parameters"] == {"workspaces": ["/data/a", "/data/b"]}
    assert [
        (each["schedule"]["cron"], each["schedule"]["timezone"], each["active"]) for each in after["schedules"]
    ] == [("0 3 * * *", "Asia/Shanghai", True)]
    deploy("--cron", "0 5 * * *")
    again = deployments(server)["batch/nightly-batch"]
    assert again["parameters"] == after["parameters"]
    assert [each["schedule"]["cron"] for each in again["schedules"]] == ["0 5 * * *"]


def test_no_server_is_told_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_PREFECT__API_URL", "http://127.0.0.1:9/api")
    assert main(["deploy", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "BACKEND_UNAVAILABLE"


# --- templates and schemas ------------------------------------------------------------------------------------


def test_each_deployments_form_says_what_every_field_is() -> None:
    for each in declared("a", "b", "c"):
        schema = each.body["parameter_openapi_schema"]
        needed = {
            "batch": ["workspaces"],
            "rag-score": ["request"],
            "evaluate": ["benchmark", "team", "kind", "source"],
        }.get(each.flow, ["workspace"])
        assert schema["required"] == needed
        assert [*schema["properties"]][: len(needed)] == needed
        for name, described in schema["properties"].items():
            assert described["title"] == name
            assert len(described["description"]) > 10, name


def test_a_variable_that_a_template_does_not_know_is_refused_by_name(settings: Settings) -> None:
    from autoscorer.core.errors import AutoScorerError

    with pytest.raises(AutoScorerError, match="did you mean 'image'"):
        job_template(settings, "kubernetes", {"imgae": "x"})


def test_what_the_operator_has_set_here_reaches_the_runs_of_other_pools_without_secrets(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(tmp_path))
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOWED_IMAGES", '["nothing/*"]')
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DOCKER__RUNTIME", "runsc")
    monkeypatch.setenv("AUTOSCORER_API_TOKENS", "admin:hunter2")
    monkeypatch.setenv("AUTOSCORER_CALLBACKS__SECRET", "hunter2")
    monkeypatch.setenv("AUTOSCORER_PREFECT__API_KEY", "hunter2")
    for kind in ("docker", "kubernetes"):
        template = job_template(load_settings(), kind, {})
        environment = template["variables"]["properties"]["env"]["default"]
        assert environment["AUTOSCORER_SECURITY__ALLOWED_IMAGES"] == '["nothing/*"]'
        assert environment["AUTOSCORER_EXECUTORS__DOCKER__RUNTIME"] == "runsc"
        assert "hunter2" not in json.dumps(template)
        # As the run's process reads it.
        with monkeypatch.context() as inside:
            for name in [name for name in os.environ if name.startswith("AUTOSCORER_")]:
                inside.delenv(name)
            for name, value in environment.items():
                inside.setenv(name, value)
            inside.setenv("AUTOSCORER_HOME", str(home))
            assert load_settings().security.allowed_images == ("nothing/*",)


def test_a_configuration_file_outside_of_the_home_goes_with_the_runs_or_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoscorer.core.errors import AutoScorerError

    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(tmp_path))
    file = tmp_path / "elsewhere.yaml"
    file.write_text("security: {allowed_images: ['nothing/*']}\n")
    for settings in (load_settings(file), _with_config(monkeypatch, file)):
        properties = job_template(settings, "docker", {})["variables"]["properties"]
        assert f"{file}:{file}:ro" in properties["volumes"]["default"]
        assert properties["env"]["default"]["AUTOSCORER_CONFIG"] == str(file)
        with pytest.raises(AutoScorerError, match=r"does not see the configuration elsewhere\.yaml"):
            job_template(settings, "kubernetes", {})
    monkeypatch.delenv("AUTOSCORER_CONFIG")
    (home / "config.yaml").write_text(file.read_text())
    assert (
        "AUTOSCORER_CONFIG"
        not in job_template(load_settings(), "docker", {})["variables"]["properties"]["env"]["default"]
    )


def _with_config(monkeypatch: pytest.MonkeyPatch, file: Path) -> Settings:
    monkeypatch.setenv("AUTOSCORER_CONFIG", str(file))
    return load_settings()


def test_a_docker_pool_without_workspace_roots_is_refused(settings: Settings) -> None:
    from autoscorer.core.errors import AutoScorerError

    with pytest.raises(AutoScorerError, match="workspace_roots"):
        job_template(settings, "docker", {})


WORKERS = {
    "process": "from prefect.workers.process import ProcessWorker as W",
    "docker": "from prefect_docker.worker import DockerWorker as W",
    "kubernetes": "from prefect_kubernetes.worker import KubernetesWorker as W",
}
# What a worker does with the template when it takes a run: in a process of its own, because the packages warn.
CHECK = """
import asyncio, json, sys
{imported}
template = json.load(sys.stdin)
own = W.get_default_base_job_template()
left = set(own["variables"]["properties"]) - set(template["variables"]["properties"])
assert not left, f"Prefect's own template has more variables: {{left}}"
left = set(own["job_configuration"]) ^ set(template["job_configuration"])
assert not left, f"not the same configuration: {{left}}"
from prefect.server.schemas.actions import WorkPoolCreate
WorkPoolCreate(name="x", type="{type}", base_job_template=template)
made = asyncio.run(W.job_configuration.from_template_and_values(template, {{"name": "n"}}))
from uuid import uuid4
from prefect.client.schemas.objects import FlowRun
made.prepare_for_flow_run(FlowRun(id=uuid4(), name="n", flow_id=uuid4()))
print(made.model_dump_json())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(WORKERS))
def test_the_template_is_one_that_prefects_own_worker_can_use(
    kind: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(tmp_path))
    template = job_template(load_settings(), kind, {})
    done = subprocess.run(
        [sys.executable, "-c", CHECK.format(imported=WORKERS[kind], type=kind)],
        input=json.dumps(template),
        env={**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": "http://prefect:4200/api"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads(done.stdout.splitlines()[-1])
    environment = made["env"]
    if kind == "kubernetes":
        spec = made["job_manifest"]["spec"]["template"]["spec"]
        container = spec["containers"][0]
        environment = {each["name"]: each["value"] for each in container["env"]}
        assert spec["volumes"][0]["persistentVolumeClaim"]["claimName"] == "autoscorer-data"
        assert container["volumeMounts"][0]["mountPath"] == "/srv/autoscorer"
        assert container["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
        assert spec["securityContext"]["runAsNonRoot"] is True
    if kind == "docker":
        assert made["volumes"][0] == "/var/run/docker.sock:/var/run/docker.sock"
        assert {"/proc:/host/proc:ro", "/sys/fs/cgroup:/host/sys/fs/cgroup:ro"} <= set(made["volumes"])
        assert environment["AUTOSCORER_EXECUTORS__DOCKER__REQUIRE_FULL_WATCH"] == "true"
        assert made["mem_limit"] == made["memswap_limit"]  # else it may swap as much again
    assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert environment["AUTOSCORER_HOME"] == str(settings.home)
    assert environment["PREFECT_API_URL"] == "http://prefect:4200/api"


def test_the_table_of_our_deployments_is_what_prefect_yaml_says() -> None:
    there = {(each.flow, each.name, each.body["entrypoint"]) for each in declared("first", "second", "third")}
    assert there == {(each.flow, each.name, each.entrypoint) for each in DEPLOYMENTS}
    scored = {each.name for each in declared("first", "second", "third") if each.pool == "second"}
    assert scored == {each.name for each in DEPLOYMENTS if each.direct}, "the score pool is for what runs directly"
    queues = {each.body["work_queue_name"] for each in declared("first", "second", "third")}
    assert queues == {QUEUES["normal"].name}
