"""What ``autoscorer doctor`` says of a cluster, and what it asks for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from autoscorer.cli.doctor import _kubernetes
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.kubernetes.rights import RIGHTS, needed_rights
from autoscorer.executors.kubernetes.session import open_session
from autoscorer.service.readiness import _cluster

from ...support.fake_kubernetes import FakeKubernetes

pytestmark = pytest.mark.slow  # all together; each is quick


@pytest.fixture
def said(in_cluster: Settings, cluster: FakeKubernetes) -> Callable[..., dict[str, Any]]:
    cluster.store.add("namespaces", {"metadata": {"name": "runs"}})

    def look(*, probe: bool = False) -> dict[str, Any]:
        return {check.name: check for check in _kubernetes(load_settings(), probe=probe)}

    return look


def test_it_says_nothing_where_no_cluster_is_configured() -> None:
    assert list(_kubernetes(load_settings(), probe=True)) == []


def test_a_cluster_that_is_well(said: Callable[..., dict[str, Any]]) -> None:
    checks = said()
    assert checks["kubernetes"].state == "ok" and "v1.31.0-fake" in checks["kubernetes"].detail
    assert checks["network"].state == "ok" and "--probe" in checks["network"].advice


@pytest.mark.parametrize("right", [right for right in RIGHTS if not right.optional], ids=str)
def test_each_right_that_is_missing_is_named(
    said: Callable[..., dict[str, Any]], cluster: FakeKubernetes, right: Any
) -> None:
    below = f"/{right.subresource}" if right.subresource else ""
    cluster.denied = {f"{right.verb} {right.resource}{below}"}
    checks = said()
    assert checks["kubernetes"].state == "fail" and str(right) in checks["kubernetes"].detail


def test_the_rights_are_those_that_a_run_uses(cluster: FakeKubernetes, in_cluster: Settings) -> None:
    """What ``needed_rights`` says is what manifests grant: nothing of it is unused, and it is enough."""
    assert len({str(right) for right in RIGHTS}) == len(RIGHTS)
    with_volume = in_cluster.executors.kubernetes.model_copy(update={"transfer": "volume"})
    assert not [right for right in needed_rights(with_volume) if right.subresource == "exec"]


def test_a_namespace_that_is_not_there(
    in_cluster: Settings, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (check,) = _kubernetes(load_settings(), probe=False)
    assert check.state == "fail" and "no namespace runs" in check.detail
    cluster.denied = {"get namespaces"}  # most may not know
    cluster.store.add("namespaces", {"metadata": {"name": "runs"}})
    assert [check.state for check in _kubernetes(load_settings(), probe=False)] == ["ok", "ok"]


def test_a_cluster_that_is_away(
    said: Callable[..., dict[str, Any]], cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscorer.executors.kubernetes.session.PATIENCE_BEFORE", 0.3)
    open_session(load_settings()).version()  # known from before
    with cluster.away():
        with pytest.raises(AutoScorerError) as caught:
            said()
        assert caught.value.code == "BACKEND_UNAVAILABLE"
        assert _cluster(load_settings()).state == "unavailable"
    assert _cluster(load_settings()).state == "ok"


def test_pods_that_reach_each_other_are_found_out(said: Callable[..., dict[str, Any]], cluster: FakeKubernetes) -> None:
    """The fake's pods share the network of this host, so nothing is closed; and it must leave nothing behind."""
    import shutil

    if shutil.which("busybox") is None:
        pytest.skip("there is no busybox here")
    cluster.node.programs = {"nc": "busybox nc"}
    assert said(probe=True)["network"].state == "fail"
    assert cluster.jobs() == []


def test_without_nc_in_the_helper_image_nothing_is_claimed(
    said: Callable[..., dict[str, Any]], cluster: FakeKubernetes
) -> None:
    cluster.node.programs = {"nc": "false"}
    assert said(probe=True)["network"].state == "warn"
    assert cluster.jobs() == []
