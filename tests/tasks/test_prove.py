"""``doctor --prove`` on real backends: what it says of those that seal, of one that does not, and of broken ones."""

from __future__ import annotations

import itertools
import json
import os
import re
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.bubblewrap import executor as bubblewrap
from autoscorer.executors.bubblewrap.executor import BubblewrapExecutor
from autoscorer.executors.docker import executor as docker_executor
from autoscorer.tasks.prove import column as column_module
from autoscorer.tasks.prove.attacks import ATTACKS, EVERYTHING, NEIGHBOURS
from autoscorer.tasks.prove.matrix import prove
from autoscorer.tasks.prove.outside import outside
from autoscorer.tasks.prove.python_image import write_python_image

CALLS = {attack.name for attack in ATTACKS if attack.tries in ("calls", "other_doors")}
Seal = Callable[..., list[str]]


@pytest.fixture
def clean(settings: Settings) -> Iterator[None]:
    """Afterwards nothing is left: no folder, no run, no process, no mark, no variable."""
    yield
    assert not (settings.home / "prove").exists(), "the proof's folder was left"
    assert not list((settings.home / "runs").glob("*")), "a run record was left"
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run"):
        assert not list(Path(folder).glob("autoscorer-prove-*")), "a model's mark was left"
    assert "PROVE_SECRET" not in os.environ
    assert not _running(str(settings.home)), "a process was left"


@pytest.fixture
def sandbox(settings: Settings) -> None:
    """Bubblewrap, where this kernel lets it seal."""
    BubblewrapExecutor(settings).check()


def _running(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "bystander.py" in " ".join(words) and words[4:5] == [str(os.getpid())]:
            found.append(" ".join(words))
    return found


def states(proof: dict[str, Any], backend: str) -> dict[str, set[str]]:
    """State to the attacks that have it."""
    found: dict[str, set[str]] = {"held": set(), "not held": set(), "not tried": set()}
    for row in proof["attacks"]:
        found[row["outcomes"][backend]["state"]].add(row["attack"])
    return found


@pytest.mark.slow
def test_docker_holds_and_its_image_is_gone(docker_client: Any, settings: Settings, clean: None) -> None:
    before = {image["Id"] for image in docker_client.images()}
    proof = prove(settings, backends=["docker"]).to_dict()
    assert states(proof, "docker")["not held"] == set()
    # Where this test runs everything can be tried.
    assert states(proof, "docker")["not tried"] == set()
    assert proof["ok"] and proof["backends"][0]["image"] == "this machine's Python"
    ours = docker_client.images(filters={"label": "io.autoscorer.proof"})
    assert [image for image in ours if image["Id"] not in before] == [], "the image was left"


@pytest.mark.slow
def test_an_image_that_is_given_needs_no_permission_of_submissions(
    docker_client: Any, python_image: str, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOWED_IMAGES", '["none"]')
    monkeypatch.setattr(column_module, "ATTACKS", _quick("user", "filter"))
    proof = prove(load_settings(), backends=["docker"], image=python_image).to_dict()
    assert proof["backends"][0]["image"] == python_image
    assert {name for name, cell in _cells(proof, "docker").items() if cell["state"] == "held"} == {"user", "filter"}
    assert load_settings().security.image_patterns == ()


@pytest.mark.slow
def test_an_image_without_python_proves_nothing(
    docker_client: Any, busybox: str, settings: Settings, clean: None
) -> None:
    proof = prove(settings, backends=["docker"], image=busybox).to_dict()
    assert proof["holds"] and not proof["ok"], "what was not tried is no proof"
    assert {cell["state"] for cell in _cells(proof, "docker").values()} == {"not tried"}
    assert "CONTAINER_FAILED" in _cells(proof, "docker")["user"]["why"]


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


def _quick(*names: str) -> tuple[Any, ...]:
    """Attacks of one run."""
    return tuple(attack for attack in ATTACKS if attack.name in names or (not names and attack.run == EVERYTHING))


def _cells(proof: dict[str, Any], backend: str) -> dict[str, dict[str, Any]]:
    return {row["attack"]: row["outcomes"][backend] for row in proof["attacks"] if backend in row["outcomes"]}


def _shares_the_network(real: Seal) -> Seal:
    spaces = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]

    def seal(*args: Any, **kwargs: Any) -> list[str]:
        options = real(*args, **kwargs)
        at = options.index("--unshare-all")
        return [*options[:at], *spaces, *options[at + 1 :]]

    return seal


def _has_a_writable_root(real: Seal) -> Seal:
    def seal(*args: Any, **kwargs: Any) -> list[str]:
        options = real(*args, **kwargs)
        (at,) = [at for at, pair in enumerate(itertools.pairwise(options)) if pair == ("--remount-ro", "/")]
        return options[:at] + options[at + 2 :]

    return seal


def _shows_the_workspace(real: Seal) -> Seal:
    def seal(spec: Any, *args: Any, seen: Any, **kwargs: Any) -> list[str]:
        options = real(spec, *args, seen=seen, **kwargs)
        at = options.index("--dev")
        return [*options[:at], "--ro-bind", seen(spec.workspace.root), "/mnt", *options[at:]]

    return seal


def _hands_on_the_environment(real: Seal) -> Seal:
    def seal(*args: Any, **kwargs: Any) -> list[str]:
        return [*real(*args, **kwargs), "--setenv", "PROVE_SECRET", os.environ["PROVE_SECRET"]]

    return seal


def _keeps_the_processes(real: Seal) -> Seal:
    spaces = ["--unshare-user", "--unshare-ipc", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]

    def seal(*args: Any, **kwargs: Any) -> list[str]:
        options = real(*args, **kwargs)
        at = options.index("--unshare-all")
        return [*options[:at], *spaces, *options[at + 1 :]]

    return seal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weaken", "told", "also"),
    [
        (_shares_the_network, {"network", "interfaces", "abstract-sockets"}, {"dns"}),
        (_has_a_writable_root, {"root-files"}, set()),
        (_shows_the_workspace, {"ground-truth", "mounts"}, {"input-files"}),
        (_hands_on_the_environment, {"environment"}, set()),
        (_keeps_the_processes, {"host-processes"}, {"tracing", "environment", "first-process"}),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_weakened_seal_is_told_by_its_line(
    sandbox: None,
    settings: Settings,
    clean: None,
    monkeypatch: pytest.MonkeyPatch,
    weaken: Callable[[Seal], Seal],
    told: set[str],
    also: set[str],
) -> None:
    monkeypatch.setattr(bubblewrap, "seal", weaken(bubblewrap.seal))
    monkeypatch.setattr(column_module, "ATTACKS", _quick())
    proof = prove(settings, backends=["bubblewrap"])
    broken = {name for name, cell in _cells(proof.to_dict(), "bubblewrap").items() if cell["state"] == "not held"}
    assert told <= broken <= told | also
    assert not proof.holds


def _without(key: str, text: str) -> Callable[[dict[str, Any]], None]:
    def change(host: dict[str, Any]) -> None:
        host[key] = [each for each in host[key] if not each.startswith(text)]

    return change


def _with(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(host: dict[str, Any]) -> None:
        host[key] = value

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told", "also"),
    [
        pytest.param(_without("SecurityOpt", "no-new"), {"filter", "setuid"}, set(), id="new-privileges"),
        pytest.param(_with("CapDrop", []), {"capabilities"}, set(), id="capabilities"),
        pytest.param(
            _with("NetworkMode", "host"),
            {"interfaces", "network", "abstract-sockets"},
            {"dns", "kernel-settings"},
            id="the-hosts-network",
        ),
        pytest.param(
            _with("PidMode", "host"), {"host-processes"}, {"tracing", "first-process"}, id="the-hosts-processes"
        ),
    ],
)
def test_a_weakened_container_is_told_by_its_line(
    docker_client: Any,
    settings: Settings,
    clean: None,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], None],
    told: set[str],
    also: set[str],
) -> None:
    real = docker_executor.container_config

    def config(*args: Any, **kwargs: Any) -> dict[str, Any]:
        made = real(*args, **kwargs)
        change(made["HostConfig"])
        return made

    monkeypatch.setattr(docker_executor, "container_config", config)
    monkeypatch.setattr(column_module, "ATTACKS", _quick())
    cells = _cells(prove(settings, backends=["docker"]).to_dict(), "docker")
    broken = {name for name, cell in cells.items() if cell["state"] == "not held"}
    assert told <= broken <= told | also, cells


@pytest.mark.slow
def test_a_filter_that_lets_everything_through_is_told_by_the_calls(
    sandbox: None, settings: Settings, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
    monkeypatch.setattr(bubblewrap, "seccomp_program", lambda: allow)
    monkeypatch.setattr(bubblewrap, "_proven", set())
    monkeypatch.setattr(column_module, "ATTACKS", _quick())
    cells = _cells(prove(settings, backends=["bubblewrap"]).to_dict(), "bubblewrap")
    broken = {name for name, cell in cells.items() if cell["state"] == "not held"}
    assert {"io_uring", "userfaultfd", "keyrings"} <= broken <= CALLS
    assert cells["filter"]["state"] == "held", "there is one, and it does nothing"


@pytest.mark.slow
def test_no_filter_at_all_is_told(
    sandbox: None, settings: Settings, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bubblewrap.seal

    def seal(*args: Any, **kwargs: Any) -> list[str]:
        options = real(*args, **kwargs)
        at = options.index("--seccomp")
        return options[:at] + options[at + 2 :]

    monkeypatch.setattr(bubblewrap, "seal", seal)
    monkeypatch.setattr(column_module, "ATTACKS", _quick())
    cells = _cells(prove(settings, backends=["bubblewrap"]).to_dict(), "bubblewrap")
    broken = {name for name, cell in cells.items() if cell["state"] == "not held"}
    # Nobody closes the descriptor of a program that bubblewrap is not told of.
    assert {"filter", "io_uring", "descriptors"} <= broken <= {*CALLS, "filter", "descriptors"}


@pytest.mark.slow
def test_two_models_wait_for_one_place_for_nobody(sandbox: None, clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__BUBBLEWRAP__CONCURRENCY", "1")
    monkeypatch.setattr(column_module, "ATTACKS", _quick("user", "two-models"))
    cells = _cells(prove(load_settings(), backends=["bubblewrap"]).to_dict(), "bubblewrap")
    assert cells["two-models"]["state"] == "not tried" and "concurrency is 1" in cells["two-models"]["why"]
    assert cells["user"]["state"] == "held"


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(sandbox: None, settings: Settings, clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle, while two models run and limits are tried."""
    monkeypatch.setattr(column_module, "ATTACKS", _quick("user", "two-models", "long-time", "deleted-files"))
    real, begun = column_module.run_workspace, threading.Event()

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
    assert threading.active_count() < 4, "a run goes on"


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
