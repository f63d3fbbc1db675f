"""``doctor --prove`` on real backends: what it says of those that seal, of one that does not, and of broken ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.processes import ProcessIdentity
from autoscorer.tasks.prove import column as column_module
from autoscorer.tasks.prove import python_image
from autoscorer.tasks.prove.attacks import ATTACKS, NEIGHBOURS
from autoscorer.tasks.prove.matrix import prove
from autoscorer.tasks.prove.outside import outside
from autoscorer.tasks.prove.python_image import remove_images, write_python_image

from ...support.proofs import cells, some


def states(proof: dict[str, Any], backend: str) -> dict[str, set[str]]:
    """State to the attacks that have it."""
    found: dict[str, set[str]] = {"held": set(), "not held": set(), "not tried": set()}
    for row in proof["attacks"]:
        found[row["outcomes"][backend]["state"]].add(row["attack"])
    return found


@pytest.mark.slow
def test_docker_holds_and_its_image_is_gone(docker_client: Any, settings: Settings, clean: None) -> None:
    proof = prove(settings, backends=["docker"]).to_dict()
    assert states(proof, "docker")["not held"] == set()
    # Where this test runs everything can be tried.
    assert states(proof, "docker")["not tried"] == set()
    assert proof["ok"] and proof["backends"][0]["image"] == "this machine's Python"
    ours = f"io.autoscorer.proof.owner={ProcessIdentity.current().text}"
    assert docker_client.images(filters={"label": ours}) == [], "the image was left"


@pytest.mark.slow
def test_an_image_that_is_given_needs_no_permission_of_submissions(
    docker_client: Any, python_image: str, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOWED_IMAGES", '["none"]')
    monkeypatch.setattr(column_module, "ATTACKS", some("user", "filter"))
    proof = prove(load_settings(), backends=["docker"], image=python_image).to_dict()
    assert proof["backends"][0]["image"] == python_image
    assert {name for name, cell in cells(proof, "docker").items() if cell["state"] == "held"} == {"user", "filter"}
    assert load_settings().security.image_patterns == ()


@pytest.mark.slow
def test_an_image_without_python_proves_nothing(
    docker_client: Any, busybox: str, settings: Settings, clean: None
) -> None:
    proof = prove(settings, backends=["docker"], image=busybox).to_dict()
    assert proof["holds"] and not proof["ok"], "what was not tried is no proof"
    assert {cell["state"] for cell in cells(proof, "docker").values()} == {"not tried"}
    assert "CONTAINER_FAILED" in cells(proof, "docker")["user"]["why"]


@pytest.mark.slow
def test_the_image_of_a_proof_that_was_killed_goes_with_the_next(
    docker_client: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.Popen(["sleep", "60"])
    identity = ProcessIdentity.of(killed.pid)
    killed.kill()
    killed.wait()
    with monkeypatch.context() as then:
        then.setattr(ProcessIdentity, "current", lambda: identity)
        write_python_image(tmp_path / "image.tar", "killed")
    with (tmp_path / "image.tar").open("rb") as file:
        assert not [event for event in docker_client.load_image(file) if "error" in event]
    assert docker_client.images(filters={"label": "io.autoscorer.proof=killed"})
    remove_images(settings, "the next")
    assert not docker_client.images(filters={"label": "io.autoscorer.proof=killed"})


def test_a_python_of_which_no_image_can_be_made(
    docker_client: Any, settings: Settings, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_image, "_LIST", "raise SystemExit(1)")
    proof = prove(settings, backends=["docker"]).to_dict()
    assert proof["holds"] and not proof["ok"] and "--image" in cells(proof, "docker")["user"]["why"]


@pytest.mark.slow
def test_bubblewrap_holds(sandbox: None, settings: Settings, clean: None) -> None:
    proof = prove(settings, backends=["bubblewrap"]).to_dict()
    found = states(proof, "bubblewrap")
    assert found["not held"] == set()
    # The host's own system may have no setuid program.
    assert found["not tried"] <= {"setuid"}


@pytest.mark.slow
def test_the_backend_that_seals_nothing_is_told(settings: Settings, clean: None) -> None:
    """That is how we know that the matrix can fail."""
    proof = prove(settings, backends=["process"]).to_dict()
    assert not proof["holds"]
    broken = states(proof, "process")["not held"]
    assert broken >= {
        *("ground-truth", "environment", "network", "interfaces", "abstract-sockets", "host-processes"),
        *("tracing", "filter", "io_uring", "user-namespaces", "root-files", "input-files", "two-models"),
    }
    assert "long-time" in states(proof, "process")["held"]


@pytest.mark.slow
def test_two_models_wait_for_one_place_for_nobody(sandbox: None, clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__CONCURRENCY", "1")
    monkeypatch.setattr(column_module, "ATTACKS", some("user", "two-models"))
    found = cells(prove(load_settings(), backends=["bubblewrap"]).to_dict(), "bubblewrap")
    assert found["two-models"]["state"] == "not tried" and "concurrency is 1" in found["two-models"]["why"]
    assert found["user"]["state"] == "held"


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(sandbox: None, settings: Settings, clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle, while two models run and limits are tried."""
    monkeypatch.setattr(column_module, "ATTACKS", some("user", "two-models", "long-time", "deleted-files"))
    real, begun, before = column_module.run_workspace, threading.Event(), set(threading.enumerate())

    def run(root: Path, **more: Any) -> Any:
        if "two-" in root.name:
            begun.set()
        return real(root, **more)

    def together(*heard: Any) -> float:
        if begun.is_set() and all(each.first is not None for each in heard):
            raise KeyboardInterrupt
        return 0.0

    monkeypatch.setattr(column_module, "run_workspace", run)
    monkeypatch.setattr(column_module, "_together", together)
    with pytest.raises(KeyboardInterrupt):
        prove(settings, backends=["bubblewrap"])
    begun_here = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in begun_here if name.startswith("autoscorer-prove")], "a run goes on"


def test_where_nothing_seals_it_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__COMMAND", "/nowhere/bwrap")
    with pytest.raises(AutoScorerError) as caught:
        prove(load_settings())
    assert caught.value.code == "BACKEND_UNAVAILABLE" and caught.value.exit_code == 3
    assert "docker.io" in caught.value.message and "apt-get install bubblewrap" in caught.value.message


def test_what_is_planted_is_taken_away_and_what_a_kill_left_too(settings: Settings, clean: None) -> None:
    left = settings.home / "prove" / "killed"
    left.mkdir(parents=True)
    (left / "lock").touch()
    with outside(settings) as around:
        assert not left.exists(), "the folder of a proof that was killed"
        assert (around.folder / "secret").read_text() == around.facts.planted == os.environ["PROVE_SECRET"]
        root = around.workspace("x", ("everything",), {"timeout": 5}, {}, None)
        texts = b"".join(path.read_bytes() for path in (root / "input" / "data").rglob("*") if path.is_file())
        for secret in (around.facts.truth, around.facts.planted, str(around.facts.threshold)):
            assert secret.encode() not in texts, "the model is told what it looks for"
        with outside(settings) as other:
            assert other.token != around.token and around.folder.is_dir(), "two proofs at once disturb each other"


def test_an_image_of_this_machines_python(tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    write_python_image(target, "proof")
    with tarfile.open(target) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(archive.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        assert config["config"]["Labels"]["io.autoscorer.proof"] == "proof"
        with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
            members = {member.name: member for member in layer}
    assert len(members) == len({*members}) and target.stat().st_size < 60 * 1024**2
    assert members["autoscorer-prove/setuid-python"].mode == 0o4755
    assert {member.uid for member in members.values()} == {0}
    # Of the host's own there is its Python and what that needs.
    own = [name for name in members if re.search("site-packages|tasks/prove", name)]
    assert not own and not any(member.islnk() or member.isdev() for member in members.values())


def test_the_neighbours_are_one_attack() -> None:
    assert [attack.name for attack in ATTACKS if attack.run == NEIGHBOURS] == ["two-models"]
