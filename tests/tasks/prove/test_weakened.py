"""A seal that is weakened on purpose, by one line of it, is told by the attacks that this line is against."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.executors.bubblewrap import executor as bubblewrap
from autoscorer.executors.docker import executor as docker_executor
from autoscorer.tasks.prove import column as column_module
from autoscorer.tasks.prove.attacks import ATTACKS
from autoscorer.tasks.prove.matrix import prove

from ...support.proofs import cells, some

CALLS = {attack.name for attack in ATTACKS if attack.tries in ("calls", "other_doors")}
Seal = Callable[..., list[str]]


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
    monkeypatch.setattr(column_module, "ATTACKS", some())
    proof = prove(settings, backends=["bubblewrap"])
    broken = {name for name, cell in cells(proof.to_dict(), "bubblewrap").items() if cell["state"] == "not held"}
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
    monkeypatch.setattr(column_module, "ATTACKS", some())
    found = cells(prove(settings, backends=["docker"]).to_dict(), "docker")
    broken = {name for name, cell in found.items() if cell["state"] == "not held"}
    assert told <= broken <= told | also, found


@pytest.mark.slow
def test_a_filter_that_lets_everything_through_is_told_by_the_calls(
    sandbox: None, settings: Settings, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
    monkeypatch.setattr(bubblewrap, "seccomp_program", lambda: allow)
    monkeypatch.setattr(bubblewrap, "_proven", set())
    monkeypatch.setattr(column_module, "ATTACKS", some())
    found = cells(prove(settings, backends=["bubblewrap"]).to_dict(), "bubblewrap")
    broken = {name for name, cell in found.items() if cell["state"] == "not held"}
    assert {"io_uring", "userfaultfd", "keyrings"} <= broken <= CALLS
    assert found["filter"]["state"] == "held", "there is one, and it does nothing"


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
    monkeypatch.setattr(column_module, "ATTACKS", some())
    found = cells(prove(settings, backends=["bubblewrap"]).to_dict(), "bubblewrap")
    broken = {name for name, cell in found.items() if cell["state"] == "not held"}
    # Nobody closes the descriptor of a program that bubblewrap is not told of.
    assert {"filter", "io_uring", "descriptors"} <= broken <= {*CALLS, "filter", "descriptors"}
