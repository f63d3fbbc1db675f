"""deployments/kubernetes: who may do what at the API server, who reaches whom, what models are left with."""

from __future__ import annotations

import pytest
from autoscorer.executors.kubernetes.rights import RIGHTS

from ..support.kustomize import OVERLAYS, Json, normal, pods, rendered

Granted = set[tuple[str, str, str]]
# Flow runs in pods of their own: deployments/kubernetes.json.
FLOW_RUN = {"app.kubernetes.io/name": "autoscorer", "app.kubernetes.io/component": "flow-run"}
# Whoever else is in the cluster.
STRANGER = {"app": "stranger"}


def granted(role: Json) -> Granted:
    """Verb, group and resource of everything that a role allows."""
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def roles(overlay: str) -> dict[str, dict[str, Granted]]:
    """What each account is allowed, by namespace; that of the whole cluster under an empty name."""
    there = normal(rendered(overlay))
    found: dict[str, dict[str, Granted]] = {}
    for (kind, namespace, _), each in there.items():
        if kind not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        role = each["roleRef"]
        assert role["kind"] == kind.removesuffix("Binding")
        for subject in each["subjects"]:
            assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", "autoscorer")
            assert ("ServiceAccount", "autoscorer", subject["name"]) in there
            found.setdefault(subject["name"], {})[namespace] = granted(there[role["kind"], namespace, role["name"]])
    return found


# --- rights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_runs_models_may_do_what_the_executor_asks_for_and_nothing_else(overlay: str) -> None:
    asked = {
        (right.verb, right.group, right.resource + (f"/{right.subresource}" if right.subresource else ""))
        for right in RIGHTS
    }
    assert roles(overlay)["autoscorer-runner"] == {"autoscorer-runs": asked, "": {("list", "", "nodes")}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_may_remove_models_and_start_none(overlay: str) -> None:
    (namespace,) = roles(overlay)["autoscorer-api"]
    assert namespace == "autoscorer-runs"
    assert {verb for verb, _, _ in roles(overlay)["autoscorer-api"][namespace]} == {"get", "list", "delete"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_reads_secrets_or_changes_rights(overlay: str) -> None:
    everything = [right for by_space in roles(overlay).values() for found in by_space.values() for right in found]
    assert everything
    for verb, group, resource in everything:
        assert "*" not in (verb, group, resource)
        assert resource not in ("secrets", "configmaps", "serviceaccounts", "pods/attach", "pods/ephemeralcontainers")
        assert group in ("", "batch", "metrics.k8s.io")
        assert verb not in ("bind", "escalate", "impersonate", "update", "deletecollection")
    # Prefect's worker starts AutoScorer's own flows, and no model: that would be strangers' code beside the workspaces.
    assert set(roles(overlay)["prefect-worker"]) == {"autoscorer"}


# --- the models' namespace ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_models_have_no_network_and_a_share_of_the_cluster(overlay: str) -> None:
    found = {
        kind: each for (kind, namespace, _), each in normal(rendered(overlay)).items() if namespace == "autoscorer-runs"
    }
    # Nothing runs there but what a run starts; no volume, no Secret, no account is there for it.
    assert set(found) == {"NetworkPolicy", "ResourceQuota", "LimitRange", "Role", "RoleBinding"}
    assert found["NetworkPolicy"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    quota = found["ResourceQuota"]["spec"]["hard"]
    for resource in ("cpu", "memory", "ephemeral-storage"):
        assert f"requests.{resource}" in quota and f"limits.{resource}" in quota
    (limit,) = found["LimitRange"]["spec"]["limits"]
    assert set(limit["default"]) == set(limit["defaultRequest"]) == {"cpu", "memory", "ephemeral-storage"}


# --- the network --------------------------------------------------------------------------------------------------


def chosen(selector: Json, labels: dict[str, str]) -> bool:
    """Whether a label selector chooses a pod with these labels."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", [])
    )


def reaches(overlay: str, source: dict[str, str], target: dict[str, str], port: int, protocol: str = "TCP") -> bool:
    """Whether a pod reaches another one of the namespace autoscorer, for which both their policies must allow it."""
    policies = [
        each["spec"]
        for (kind, namespace, _), each in normal(rendered(overlay)).items()
        if (kind, namespace) == ("NetworkPolicy", "autoscorer")
    ]

    def allowed(direction: str, here: dict[str, str], there: dict[str, str]) -> bool:
        ours = [each for each in policies if direction in each["policyTypes"] and chosen(each["podSelector"], here)]
        assert ours, "every pod is chosen by deny-all"
        key, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
        return any(
            {"protocol": protocol, "port": port} in rule["ports"]
            and (peers not in rule or any(chosen(peer["podSelector"], there) for peer in rule[peers]))
            for each in ours
            for rule in each.get(key, [])
        )

    if source == STRANGER:
        return allowed("Ingress", target, source)
    return allowed("Egress", source, target) and allowed("Ingress", target, source)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_reaches_what_it_needs_and_nothing_else(overlay: str) -> None:
    labels = {name.partition("/")[2]: each["metadata"]["labels"] for name, each in pods(rendered(overlay))}
    everybody = {**labels, "flow-run": FLOW_RUN, "stranger": STRANGER}

    def who(target: str, port: int) -> set[str]:
        return {
            name for name, each in everybody.items() if name != target and reaches(overlay, each, labels[target], port)
        }

    assert who("prefect-server", 4200) == {"api", "worker", "prefect-worker", "flow-run", "setup"}
    assert "stranger" in who("api", 8000), "an Ingress and Prometheus are in namespaces of their own"
    if overlay == "production":
        assert who("postgres", 5432) == {"api", "worker", "database", "prefect-server", "prefect-services"}
        assert who("redis", 6379) == {"prefect-server", "prefect-services"}
    for each in labels.values():
        for port in (22, 80, 2379, 10250):
            assert not any(reaches(overlay, source, each, port) for source in everybody.values())


def test_flow_runs_have_the_labels_that_the_policies_name() -> None:
    import json

    from ..support.kustomize import FOLDER

    template = json.loads((FOLDER.parent / "kubernetes.json").read_text())
    assert FLOW_RUN.items() <= template["variables"]["properties"]["labels"]["default"].items()
