"""``autoscorer doctor``: what works here, and what to do about what does not."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.version import __version__

if TYPE_CHECKING:
    from ..executors.base import Watched


class Check(NamedTuple):
    """One thing looked at. ``fail`` stops the main job, ``warn`` only something beside it."""

    name: str
    state: str
    detail: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--probe",
        action="store_true",
        help="also run two small pods in the cluster, to see whether the models' network is closed (takes a minute)",
    )
    parser.add_argument(
        "--prove",
        action="store_true",
        help="attack each backend of this machine from inside, and show which attacks it holds against (a minute)",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        choices=("bubblewrap", "docker", "kubernetes", "process"),
        help="with --prove: this backend; may be given several times (default: those that are configured)",
    )
    parser.add_argument(
        "--image",
        metavar="IMAGE",
        help="with --prove: an image with Python for docker and kubernetes (default for docker: one that is made of "
        "this machine's own Python, and removed afterwards)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.prove:
        from .proof import run_proof

        return run_proof(args)
    if args.backend or args.image is not None:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, "--backend and --image go with --prove.")
    checks: list[Check] = []
    looks: tuple[tuple[str, Callable[[Settings], Iterator[Check]]], ...] = (
        ("python", _python),
        ("home", _home),
        ("docker", _docker),
        ("bubblewrap", _bubblewrap),
        ("kubernetes", partial(_kubernetes, probe=args.probe)),
        ("gpus", _gpus),
        ("leftovers", _leftovers),
        ("config", _config),
        ("images", _images),
        ("scorers", _scorers),
        ("prefect", _prefect),
    )
    for name, look in looks:
        try:
            checks.extend(look(args.settings))
        except AutoScorerError as error:
            checks.append(Check(name, "fail", error.message))
    return {"ok": all(check.state != "fail" for check in checks), "checks": [check._asdict() for check in checks]}


def exit_code(data: dict[str, Any]) -> int:
    """3 when something that the main job needs does not work; of a proof 1 when something promised does not hold."""
    if "attacks" in data and not data["holds"]:
        return 1
    return 0 if data["ok"] else 3


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    if "attacks" in data:
        from .proof import render_proof

        render_proof(data)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    style = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for check in data["checks"]:
        mark = {"ok": "✓", "warn": "!", "fail": "✗"}[check["state"]]
        console.print(
            Text.assemble((f"{mark} ", style[check["state"]]), (f"{check['name']:<10}", "bold"), check["detail"])
        )
        if check["advice"]:
            console.print(Text(" " * 12 + check["advice"], style="dim"))


def _python(settings: Settings) -> Iterator[Check]:
    yield Check("python", "ok", f"Python {platform.python_version()}, AutoScorer {__version__}, {os.cpu_count()} CPUs")


def _home(settings: Settings) -> Iterator[Check]:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe = settings.home / ".doctor"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield Check(
            "home", "fail", f"{settings.home}: {error.strerror}", "Set AUTOSCORER_HOME to a folder you may write."
        )
        return
    free = shutil.disk_usage(settings.home).free
    enough = free > 5 * 1024**3
    yield Check(
        "home",
        "ok" if enough else "warn",
        f"{settings.home}, {free / 1024**3:.0f} GiB free",
        "" if enough else "Images and outputs need room; free some, or set AUTOSCORER_HOME.",
    )


def _config(settings: Settings) -> Iterator[Check]:
    for note in settings.notes:
        yield Check("config", "warn", note)


def _images(settings: Settings) -> Iterator[Check]:
    from ..executors.images.policy import which_images

    security = settings.security
    advice = ""
    if not security.allowed_images:
        advice = 'Name those that may be run; ["*"] says that all of them are meant, and ["none"] allows no image.'
    yield Check("images", "warn" if advice else "ok", which_images(settings), advice)


def _docker(settings: Settings) -> Iterator[Check]:
    from ..executors.docker.executor import DockerExecutor

    executor = DockerExecutor(settings)
    try:
        detail = executor.check()
        missing = executor.missing_limits()
        unwatched = executor.unwatched_here()
    except AutoScorerError as error:
        yield Check(
            "docker",
            # Where models run elsewhere, or bubblewrap takes its place, nothing here needs it.
            "fail" if settings.executors.default == "docker" else "warn",
            error.message,
            "Install and start Docker Engine (Debian, Ubuntu: apt-get install docker.io), and join the group docker. "
            "Without it no Dockerfile is built; bubblewrap runs the rest.",
        )
        return
    finally:
        executor.close()
    yield Check("docker", "ok", detail)
    if missing:
        yield Check(
            "docker",
            "fail",
            f"The kernel can't limit {', '.join(missing)}, so a run would not be sealed.",
            "Enable these control groups; for memory and swap boot with cgroup_enable=memory swapaccount=1.",
        )

    yield _watch(settings, unwatched)


def _bubblewrap(settings: Settings) -> Iterator[Check]:
    from ..executors.bubblewrap.executor import BubblewrapExecutor, limits_held

    executor = BubblewrapExecutor(settings)
    try:
        yield Check("bubblewrap", "ok", f"{executor.check()}; limits are held by {limits_held()}")
    except AutoScorerError as error:
        # Alone, it is what stands between models and this machine; beside Docker it is a second choice.
        needed = settings.executors.default == "bubblewrap" or not _something_seals(settings)
        yield Check("bubblewrap", "fail" if needed else "warn", error.message)
    finally:
        executor.close()


def _something_seals(settings: Settings) -> bool:
    """Whether the default backend, where it is a choice of several, comes to any of them."""
    from ..executors.backends import chosen_backend

    try:
        chosen_backend(settings.executors.default, settings)
    except AutoScorerError:
        return False
    return True


def _kubernetes(settings: Settings, *, probe: bool) -> Iterator[Check]:
    """Nothing where no cluster is configured: most installations have none."""
    if not settings.executors.uses_kubernetes:
        return
    from ..executors.kubernetes.diagnosis import missing_rights, namespace_is_missing
    from ..executors.kubernetes.executor import KubernetesExecutor

    executor = KubernetesExecutor(settings)
    try:
        detail = executor.ask()
        if namespace_is_missing(settings):
            namespace = settings.executors.kubernetes.namespace
            yield Check(
                "kubernetes",
                "fail",
                f"the cluster has no namespace {namespace}",
                "deployments/kubernetes/ makes it, or set executors.kubernetes.namespace.",
            )
            return
        missing = missing_rights(settings)
    finally:
        executor.close()
    needed = [str(right) for right in missing if not right.optional]
    if needed:
        advice = "Bind the Role of deployments/kubernetes/ to this account, in the runs' namespace."
        yield Check("kubernetes", "fail", f"{detail}; this account may not {', '.join(needed)}", advice)
        return
    more = "; how much memory models use is not known" if missing else ""
    yield Check("kubernetes", "ok", f"{detail}, all rights are there{more}")
    yield _network(settings, probe=probe)


def _network(settings: Settings, *, probe: bool) -> Check:
    """Whether models really have no network: that is for the cluster to hold."""
    from ..executors.kubernetes.diagnosis import Network, probe_network

    if settings.executors.kubernetes.helper_image is None:
        return Check("network", "warn", "not tried: executors.kubernetes.helper_image is not set")
    if not probe:
        return Check(
            "network",
            "ok",
            "whether the models' pods have no network was not tried",
            "Run `autoscorer doctor --probe`.",
        )
    found = probe_network(settings)
    if found is Network.CLOSED:
        return Check("network", "ok", "a pod of the runs' namespace reached neither another one nor the API server")
    advice = (
        "Apply the NetworkPolicy of deployments/kubernetes/ to the runs' namespace, and use a network plugin that "
        "enforces it (Calico, Cilium)."
    )
    if found is Network.OPEN:
        detail = "a pod of the runs' namespace reached another one, or the API server: models have a network"
        return Check("network", "fail", detail, advice)
    return Check("network", "warn", "could not be tried: the helper image has no nc that listens", advice)


def _gpus(settings: Settings) -> Iterator[Check]:
    """Nothing where neither the machine nor the configuration has any."""
    from ..executors.gpu.inventory import take_inventory
    from ..executors.gpu.lease import lease_folder

    try:
        found = take_inventory(settings)
    except AutoScorerError as error:
        configured = settings.executors.gpu.devices != "auto" or settings.security.defaults.gpu > 0
        if configured and settings.executors.default != "kubernetes":
            yield Check("gpus", "warn", error.message, "Jobs that ask for GPUs fail here until then (docs/gpus.md).")
        return
    for line in found.left_out:
        advice = "Repair it, or name the devices that models get in executors.gpu.devices (docs/gpus.md)."
        yield Check("gpus", "warn", f"not given out: {line}", advice)
    if not found.gpus:
        return
    types = [gpu.type or "a GPU of a type that nobody tells" for gpu in found.gpus]
    told = ", ".join(f"{types.count(name)} × {name}" for name in dict.fromkeys(types))
    advice = "" if found.is_seen else "pip install 'autoscorer[gpu]' brings what measures them and sees other users."
    yield Check("gpus", "ok" if found.is_seen else "warn", f"{told}; leases lie in {lease_folder(settings)}", advice)


def _watch(settings: Settings, unwatched: frozenset[Watched]) -> Check:
    """Which limits that AutoScorer holds itself can't be held from here."""
    from ..executors.docker.watch import BLIND_ADVICE

    if not unwatched:
        return Check("watch", "ok", "a model's deleted files and refused processes can be watched from here")
    names = ", ".join(str(what).replace("_", " ") for what in sorted(unwatched))
    if settings.executors.docker.require_full_watch:
        detail = f"can't be watched from here: {names}; every run is refused (executors.docker.require_full_watch)"
        return Check("watch", "fail", detail, BLIND_ADVICE)
    detail = f"not held, because it can't be watched from here: {names}"
    return Check("watch", "warn", detail, BLIND_ADVICE)


def _leftovers(settings: Settings) -> Iterator[Check]:
    from ..executors.records import RunRecords

    dead = RunRecords(settings.home).dead()
    if dead:
        yield Check("leftovers", "warn", f"{len(dead)} runs of processes that died", "Run `autoscorer reap`.")
    else:
        yield Check("leftovers", "ok", "no process died and left something")


def _scorers(settings: Settings) -> Iterator[Check]:
    from ..scorers.registry import get_registry

    registry = get_registry()
    known = [entry.id for entry in registry.list()]
    yield Check("scorers", "ok", f"{len(known)}: {', '.join(known)}")
    for problem in registry.errors():
        yield Check("scorers", "warn", str(problem), "`autoscorer scorers list` shows the details.")


def _prefect(settings: Settings) -> Iterator[Check]:
    import urllib.error
    import urllib.request

    url = settings.prefect.api_url or os.environ.get("PREFECT_API_URL")
    advice = "Only needed for --track and deployments: `prefect server start`, then set PREFECT_API_URL."
    if not url:
        yield Check("prefect", "warn", "no Prefect server is configured", advice)
        return
    try:
        if not url.startswith(("http://", "https://")):
            raise ValueError("not an http address")
        with urllib.request.urlopen(url.rstrip("/") + "/health", timeout=5) as answer:  # noqa: S310
            healthy = answer.status == 200
    except (OSError, ValueError, urllib.error.URLError) as error:
        yield Check("prefect", "warn", f"{url} does not answer: {error}", advice)
        return
    yield Check("prefect", "ok" if healthy else "warn", f"{url} answers")
