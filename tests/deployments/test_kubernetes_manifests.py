"""deployments/kubernetes: what is rendered is valid from 1.28 to 1.37, sealed, whole, and holds no secret."""

from __future__ import annotations

import base64
import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from autoscorer.cli.main import COMMANDS, _parser
from autoscorer.core.config import load_settings
from autoscorer.core.version import __version__

from ..support.kustomize import FOLDER, OVERLAYS, Json, containers, copy, kubectl, normal, pods, render, rendered
from ..support.pod_security import violations
from ..support.prefect_settings import known_variables

pytestmark = pytest.mark.slow  # all together; each is quick

ROOT = FOLDER.parents[1]
PARTS = (*OVERLAYS, "monitoring", "seccomp")
# Kinds and their versions that Kubernetes 1.20 has; dev wants no others.
IN_1_20 = {
    ("v1", "Namespace"),
    ("v1", "ServiceAccount"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ResourceQuota"),
    ("v1", "LimitRange"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
}


def named(overlay: str, kind: str, name: str) -> Json:
    (found,) = [each for (k, _, n), each in normal(rendered(overlay)).items() if (k, n) == (kind, name)]
    return found


# --- rendered ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", PARTS)
def test_the_kubectl_of_debian_12_and_the_one_on_the_path_render_the_same(overlay: str) -> None:
    assert normal(rendered(overlay, "debian")) == normal(rendered(overlay))


@pytest.mark.parametrize("version", ["1.28", "1.37"])
@pytest.mark.parametrize("overlay", PARTS)
def test_everything_is_valid_in_the_oldest_and_the_newest_kubernetes(overlay: str, version: str) -> None:
    checked = 0
    for each in rendered(overlay):
        if each["kind"] == "ServiceMonitor":  # the Prometheus Operator's
            continue
        assert kubernetes_validate.validate(each, version, strict=True) == version
        checked += 1
    assert checked or overlay == "monitoring"


def test_a_field_that_kubernetes_does_not_know_would_be_noticed() -> None:
    wrong = json.loads(json.dumps(named("dev", "Deployment", "api")))
    wrong["spec"]["template"]["spec"]["hostnetwork"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostnetwork"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_dev_is_one_of_each_of_kinds_that_kubernetes_1_20_has() -> None:
    assert {(each["apiVersion"], each["kind"]) for each in rendered("dev")} <= IN_1_20
    deployments = [each for each in rendered("dev") if each["kind"] == "Deployment"]
    assert {each["metadata"]["name"] for each in deployments} == {"api", "worker", "prefect-server", "prefect-worker"}
    assert {each["spec"]["replicas"] for each in deployments} == {1}
    # SQLite: a second process that opens the file would wait for the first one, and the first for it.
    for name in ("api", "prefect-server"):
        assert named("dev", "Deployment", name)["spec"]["strategy"] == {"type": "Recreate"}


def test_production_is_what_the_compose_file_is() -> None:
    assert "replicas" not in named("production", "Deployment", "api")["spec"], "they would undo the autoscaler's"
    assert named("production", "HorizontalPodAutoscaler", "api")["spec"]["minReplicas"] == 3
    assert named("production", "Deployment", "prefect-server")["spec"]["replicas"] == 2
    assert named("production", "Deployment", "prefect-services")["spec"]["replicas"] == 1
    server = named("production", "Deployment", "prefect-server")["spec"]["template"]["spec"]["containers"][0]
    assert server["command"][-1] == "--no-services"
    compose = yaml.safe_load((FOLDER.parent / "compose.yaml").read_text())["x-server-environment"]
    ours = environment("production", server)
    for key, value in compose.items():
        assert key in ours, key
        if re.search("MESSAGING_(BROKER|CACHE)|ORDERING|STORAGE$|ON_START", key):
            assert ours[key] == value, key


# --- sealed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_one_that_pod_security_restricted_takes(overlay: str) -> None:
    namespaces = {each["metadata"]["name"]: each for each in rendered(overlay) if each["kind"] == "Namespace"}
    assert set(namespaces) == {"autoscorer", "autoscorer-runs"}
    for each in namespaces.values():
        assert each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    found = {name: violations(template["spec"]) for name, template in pods(rendered(overlay))}
    assert found and not any(found.values()), found


@pytest.mark.parametrize("overlay", [*OVERLAYS, "seccomp"])
def test_every_container_has_a_read_only_root_and_limits(overlay: str) -> None:
    for name, template in pods(rendered(overlay)):
        for each in containers(template):
            where = f"{name}: {each['name']}"
            assert each["securityContext"]["readOnlyRootFilesystem"] is True, where
            for kind in ("requests", "limits"):
                assert set(each["resources"][kind]) >= {"cpu", "memory"}, where
            # Two names of one image may be two images: a tag, and pulled only where it is not there.
            assert re.fullmatch(r"[a-z0-9./-]+:\d[\w.-]*", each["image"]), where
            assert each["imagePullPolicy"] == "IfNotPresent", where
        for volume in template["spec"].get("volumes", []):
            assert "emptyDir" not in volume or volume["emptyDir"].get("sizeLimit"), f"{name}: {volume['name']}"


@pytest.mark.parametrize("overlay", [*OVERLAYS, "seccomp"])
def test_only_who_asks_the_api_server_has_a_token_for_it(overlay: str) -> None:
    with_token = {name for name, each in pods(rendered(overlay)) if each["spec"]["automountServiceAccountToken"]}
    bound = {"Deployment/api", "Deployment/worker", "Deployment/prefect-worker"}
    assert with_token == (bound if overlay in OVERLAYS else set())
    for name, template in pods(rendered(overlay)):
        # The addresses of all services would be in the environment, under names that begin like settings.
        assert template["spec"]["enableServiceLinks"] is False
        assert ("serviceAccountName" in template["spec"]) == (name in with_token)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_serves_is_probed(overlay: str) -> None:
    for name, template in pods(rendered(overlay)):
        for each in template["spec"]["containers"]:
            if not each.get("ports"):
                continue
            assert "livenessProbe" in each, name
            # Prefect's worker has a port for the probe alone.
            assert "readinessProbe" in each or name == "Deployment/prefect-worker", name
            ports = {port["name"] for port in each["ports"]}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = each.get(kind, {}).get("httpGet")
                assert asked is None or asked["port"] in ports, name
    (api,) = named(overlay, "Deployment", "api")["spec"]["template"]["spec"]["containers"]
    # A replica that is told to stop says so before it ends, and is given the time for it.
    assert api["readinessProbe"]["httpGet"]["path"] == "/readyz?for=submit"
    drain = int(next(each["value"] for each in api["env"] if each["name"] == "AUTOSCORER_API__DRAIN"))
    probe = api["readinessProbe"]
    noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    grace = named(overlay, "Deployment", "api")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert noticed < drain < grace


# --- whole ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_is_referred_to_is_there(overlay: str) -> None:
    there = set(normal(rendered(overlay)))
    for (kind, namespace, name), each in normal(rendered(overlay)).items():
        for wanted in references(each):
            assert (wanted[0], namespace, wanted[1]) in there, f"{kind}/{name} wants {wanted}"


def references(each: Json) -> set[tuple[str, str]]:
    """Kinds and names of what a resource can't do without."""
    found: set[tuple[str, str]] = set()
    for _, template in pods([each]):
        spec = template["spec"]
        if "serviceAccountName" in spec:
            found.add(("ServiceAccount", spec["serviceAccountName"]))
        for volume in spec.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                found.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
            if "configMap" in volume:
                found.add(("ConfigMap", volume["configMap"]["name"]))
        for container in containers(template):
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            claimed = {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])}
            assert mounted <= {volume["name"] for volume in spec["volumes"]} | claimed
            for source in container.get("envFrom", []):
                kind = "Secret" if "secretRef" in source else "ConfigMap"
                found.add((kind, (source.get("secretRef") or source["configMapRef"])["name"]))
            for variable in container.get("env", []):
                source = variable.get("valueFrom", {})
                if "secretKeyRef" in source:
                    found.add(("Secret", source["secretKeyRef"]["name"]))
                if "configMapKeyRef" in source:
                    found.add(("ConfigMap", source["configMapKeyRef"]["name"]))
    if each["kind"] == "HorizontalPodAutoscaler":
        found.add((each["spec"]["scaleTargetRef"]["kind"], each["spec"]["scaleTargetRef"]["name"]))
    if each["kind"] == "RoleBinding":
        found.add(("Role", each["roleRef"]["name"]))
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_and_budgets_choose_the_pods_that_they_are_for(overlay: str) -> None:
    templates = dict(pods(rendered(overlay)))
    for each in rendered(overlay):
        if each["kind"] == "Service":
            wanted, ports = each["spec"]["selector"], each["spec"]["ports"]
        elif each["kind"] == "PodDisruptionBudget":
            wanted, ports = each["spec"]["selector"]["matchLabels"], []
        else:
            continue
        chosen = [name for name, one in templates.items() if wanted.items() <= one["metadata"]["labels"].items()]
        assert len(chosen) == 1, f"{each['metadata']['name']}: {chosen}"
        offered = {port["name"] for one in templates[chosen[0]]["spec"]["containers"] for port in one.get("ports", [])}
        assert {port["targetPort"] for port in ports} <= offered
    for name, one in templates.items():
        selector = next(e for e in rendered(overlay) if f"{e['kind']}/{e['metadata']['name']}" == name)["spec"]
        if "selector" in selector:
            assert selector["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items(), name


def environment(overlay: str, container: Json) -> dict[str, str]:
    """The environment of a container, as its pod would give it; what comes from the pod itself is a word."""
    data: dict[tuple[str, str], dict[str, str]] = {}
    for (kind, _, name), each in normal(rendered(overlay)).items():
        if kind == "Secret":
            data[kind, name] = {key: base64.b64decode(value).decode() for key, value in each["data"].items()}
        if kind == "ConfigMap":
            data[kind, name] = each["data"]
    found: dict[str, str] = {}
    for source in json.loads(_plain(json.dumps(container.get("envFrom", [])))):
        key = ("Secret", source["secretRef"]["name"]) if "secretRef" in source else None
        found |= data[key or ("ConfigMap", source["configMapRef"]["name"])]
    for variable in json.loads(_plain(json.dumps(container.get("env", [])))):
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            found[variable["name"]] = data["Secret", source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        elif "configMapKeyRef" in source:
            key = source["configMapKeyRef"]
            found[variable["name"]] = data["ConfigMap", key["name"]][key["key"]]
        else:
            found[variable["name"]] = variable.get("value", "of-the-pod")
    return found


def _plain(text: str) -> str:
    return re.sub(r'"(autoscorer|prefect-server)-[0-9a-z]{10}"', r'"\1"', text)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_the_pods_are_told_are_settings(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_variables()
    for name, template in pods(rendered(overlay)):
        for each in containers(template):
            told = environment(overlay, each)
            assert not {key for key in told if key.startswith("PREFECT_") and key.lower() not in known}, name
            if each["image"].startswith("autoscorer:"):
                with monkeypatch.context() as inside:
                    for key, value in told.items():
                        if key.startswith("AUTOSCORER_"):
                            inside.setenv(key, value)
                    settings = load_settings()  # refuses what it does not know
                if "AUTOSCORER_EXECUTORS__DEFAULT" in told:
                    assert settings.executors.default == "kubernetes"
                    assert settings.executors.kubernetes.namespace == "autoscorer-runs"
                    assert str(settings.workspace_roots[0]) == "/srv/autoscorer/workspaces"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_command_is_one_that_exists_with_these_arguments(overlay: str) -> None:
    programs = set()
    for name, template in pods(rendered(overlay)):
        for each in containers(template):
            command = [part for part in each.get("command", []) if part not in ("dumb-init", "--single-child", "--")]
            if command[:1] == ["autoscorer"]:
                assert command[1] in COMMANDS, name
                _parser(command[1:]).parse_args(command[1:])  # refuses what it does not know
                programs.add(command[1])
    assert programs == {"serve", "worker", "deploy"} | ({"ledger"} if overlay == "production" else set())


def test_the_image_is_this_version_s_and_flow_runs_have_the_same(tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        images = {c["image"] for _, t in pods(rendered(overlay)) for c in containers(t)}
        ours = {image for image in images if image.startswith("autoscorer")}
        assert (
            ours == {f"autoscorer:{__version__}"} == {named(overlay, "ConfigMap", "autoscorer")["data"]["FLOW_IMAGE"]}
        )


def test_a_folder_of_your_own_on_top_changes_the_image_and_the_settings(tmp_path: Path) -> None:
    """The example of docs/kubernetes.md."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    files = dict(re.findall(r"^```yaml\n# site/(\S+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert set(files) == {"kustomization.yaml", "storage.yaml"}
    folder = copy(tmp_path)
    subprocess.run([folder / "make-secrets", "production"], check=True, capture_output=True)
    (folder / "site").mkdir()
    for name, content in files.items():
        (folder / "site" / name).write_text(content)
    for which in ("path", "debian"):
        found = normal(render(folder / "site", which))
        images = {c["image"] for _, t in pods(list(found.values())) for c in containers(t)}
        (settings,) = [
            each["data"] for (kind, _, name), each in found.items() if (kind, name) == ("ConfigMap", "autoscorer")
        ]
        assert settings["FLOW_IMAGE"] in images and settings["FLOW_IMAGE"].startswith("registry.example.com/")
        assert not [image for image in images if image.startswith("autoscorer:")]
        assert json.loads(settings["AUTOSCORER_SECURITY__ALLOWED_IMAGES"]) == ["registry.example.com/models/*"]
        claim = found["PersistentVolumeClaim", "autoscorer", "autoscorer-data"]
        assert claim["spec"]["storageClassName"] == "shared"
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


# --- secrets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_without_secrets_of_its_own_nothing_is_rendered(overlay: str, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    done = subprocess.run([kubectl(), "kustomize", str(folder / overlay)], capture_output=True, text=True)
    assert done.returncode != 0
    assert re.search(r"tokens\.env|ledger\.env|metrics-token", done.stderr), done.stderr


def test_secrets_are_random_private_and_stay(tmp_path: Path) -> None:
    first, second = (copy(tmp_path / name) for name in ("first", "second"))
    for folder in (first, second):
        done = subprocess.run([folder / "make-secrets", "production"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    made = sorted((first / "production" / "secrets").glob("*[!l]"))  # not kustomization.yaml
    assert len(made) == 7
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        other = (second / "production" / "secrets" / path.name).read_text()
        assert path.read_text() != other, path.name
        for word in re.findall(r"[0-9a-f]{40,}", path.read_text()):
            assert word not in other and word not in done.stdout + done.stderr
    before = {path: path.read_bytes() for path in made}
    again = subprocess.run([first / "make-secrets", "production"], capture_output=True, text=True)
    assert again.returncode == 0 and again.stderr.count("is there and stays") == 7
    assert {path: path.read_bytes() for path in made} == before
    wrong = subprocess.run([first / "make-secrets", "staging"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "dev|production" in wrong.stderr


def test_no_secret_gets_into_git_the_image_or_a_package() -> None:
    import tomllib

    names = ["tokens.env", "prefect-auth.env", "ledger.env", "postgres.env", "metrics-token"]
    for name in names:
        path = f"deployments/kubernetes/production/secrets/{name}"
        assert subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT).returncode == 0, path
    assert (
        subprocess.run(
            ["git", "check-ignore", "--quiet", "deployments/kubernetes/production/secrets/kustomization.yaml"], cwd=ROOT
        ).returncode
        == 1
    )
    patterns = {"kubernetes/*/secrets/*.env", "kubernetes/*/secrets/metrics-token"}
    assert {f"deployments/{each}" for each in patterns} <= set((ROOT / ".dockerignore").read_text().split())
    excluded: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert patterns <= set(excluded["exclude-package-data"]["autoscorer.deployments"])


def test_who_has_no_need_of_a_password_is_not_given_it() -> None:
    given: dict[str, set[str]] = {}
    for name, template in pods(rendered("production")):
        for each in containers(template):
            for key in environment("production", each):
                given.setdefault(key, set()).add(name.partition("/")[2])
    assert given["AUTOSCORER_API_TOKENS"] == {"api"}
    assert given["AUTOSCORER_LEDGER_URL"] == {"api", "worker", "database"}
    assert given["PREFECT_API_DATABASE_CONNECTION_URL"] == {"prefect-server", "prefect-services", "database"}
    assert given["POSTGRES_PASSWORD"] == {"postgres"}
    assert given["REDISCLI_AUTH"] == {"redis"}
    assert given["PREFECT_SERVER_API_AUTH_STRING"] == {"prefect-server", "prefect-services"}
