"""``doctor --prove`` on the fake cluster, which seals nothing: what it finds there, and what it needs to be tried."""

from __future__ import annotations

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.tasks.prove import column as column_module
from autoscorer.tasks.prove.matrix import prove

from ...support.fake_kubernetes import FakeKubernetes
from ...support.proofs import cells, some


@pytest.mark.slow
def test_a_cluster_is_attacked_as_any_backend(
    in_cluster: Settings, cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = some("user", "host-processes", "interfaces", "two-models", "links", "scorer-params")
    monkeypatch.setattr(column_module, "ATTACKS", tried)
    proof = prove(load_settings(), backends=["kubernetes"], image="python:3").to_dict()
    found = cells(proof, "kubernetes")
    # Its pods are processes of this host.
    assert found["host-processes"]["state"] == found["two-models"]["state"] == "not held", found
    assert found["scorer-params"]["state"] == found["links"]["state"] == "held", found
    # A pod always has an interface, and nobody promises otherwise.
    assert found["interfaces"] == {**found["interfaces"], "state": "not held", "promised": False}
    assert not proof["holds"] and proof["backends"][0]["image"] == "python:3"
    assert cluster.jobs() == [] and cluster.pods() == []


def test_a_cluster_needs_an_image(in_cluster: Settings, cluster: FakeKubernetes) -> None:
    with pytest.raises(AutoScorerError) as caught:
        prove(load_settings(), backends=["kubernetes"])
    assert caught.value.code == "BACKEND_UNAVAILABLE" and "--image" in caught.value.message
