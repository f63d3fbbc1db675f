"""Hostile submissions: one suite, unchanged for every sealed backend.

Each case is a model that attacks; each ends in its stated code, and after each the host is as it was: no container,
no process, no staged folder, input untouched. The last two are checked after every single case by the fixture.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.workspace import Workspace
from autoscorer.executors.docker.container_config import LABEL
from autoscorer.executors.stage import staged_at
from autoscorer.executors.supervise import RunReport
from autoscorer.executors.uids import DEFAULT_RANGE
from autoscorer.tasks.run import run_workspace

from ..support.markdown import BASE_IMAGE
from ..support.prefect_server import eventually
from ..support.sealed_backends import (
    HOSTILE_BACKENDS,
    BubblewrapBackend,
    DockerBackend,
    KubernetesBackend,
    SealedBackend,
)

pytestmark = pytest.mark.docker

Attack = Callable[..., RunReport]


@pytest.fixture(scope="module", params=HOSTILE_BACKENDS)
def sealed(
    request: pytest.FixtureRequest, docker_client: Any, busybox: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SealedBackend]:
    """The backend that is attacked: Docker, then bubblewrap; or the cluster of ``scripts/test-kubernetes``."""
    if request.param == "docker":
        yield DockerBackend(docker_client)
    elif request.param == "bubblewrap":
        yield BubblewrapBackend(docker_client, tmp_path_factory.mktemp("images"))
    else:
        with KubernetesBackend.with_namespace(busybox) as cluster:
            yield cluster


@pytest.fixture
def backend(sealed: SealedBackend) -> str:
    return sealed.name


@pytest.fixture(autouse=True)
def configured(home: Path, sealed: SealedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration that the backend needs, before anything reads it."""
    if isinstance(sealed, KubernetesBackend):
        for key, value in sealed.environment.items():
            monkeypatch.setenv(key, value)


@pytest.fixture
def attack(
    backend: str,
    sealed: SealedBackend,
    busybox: str,
    docker_client: Any,
    make_workspace: Callable[..., Path],
    settings: Settings,
    tmp_path: Path,
) -> Iterator[Attack]:
    """Run a shell script as the model, and check afterwards that nothing of it is left."""
    volumes: set[str] = set()

    def run(script: str, *, timeout: float = 20, labels: dict[str, str] | None = None, **meta: Any) -> RunReport:
        resources = {"memory": "64Mi", "disk": "20Mi", **meta.pop("resources", {})}
        container = {"image": busybox, "cmd": ["sh", "-c", script], **meta.pop("container", {})}
        root = make_workspace(container=container, resources=resources, timeout=timeout, **meta)
        sealed.give(root, container["image"])
        before = _digest(root / "input")
        volumes.update(_volumes(docker_client))
        free = shutil.disk_usage(root).free
        report = run_workspace(root, settings=settings, backend=backend)
        assert _digest(root / "input") == before, "the model changed its input"
        # Of ten gigabytes; another test builds the image of the root meanwhile, which takes several.
        assert shutil.disk_usage(root).free > free - 8 * 1024**3, "the model filled the host's disk"
        left = {path.name for path in Workspace(root).scratch.iterdir()}
        assert "lock" in left and left <= {"lock", "artifacts"}, "staged files were left"
        for place in (Path("/var/tmp"), settings.home / "stage"):
            assert not staged_at(place, report.run_id).exists(), "staged files were left"
        return report

    yield run
    assert sealed.left() == [], "a container was left"
    # Those of other tests' containers come and go.
    eventually(lambda: not _volumes(docker_client) - volumes)
    assert not list((settings.home / "runs").glob("*")), "a run record was left"


def _volumes(client: Any) -> set[str]:
    """Volumes that no container has."""
    found = client.volumes(filters={"dangling": True})["Volumes"] or []
    return {volume["Name"] for volume in found}


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() + oct(path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _output(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "ws" / "output").iterdir())


def _log(tmp_path: Path) -> str:
    return (tmp_path / "ws" / "logs" / "container.log").read_text(errors="replace")


def _code(report: RunReport) -> str | None:
    return report.error.code.value if report.error else None


def _resource(report: RunReport) -> str | None:
    assert report.error is not None and report.error.code == "RESOURCE_ERROR", report.error
    return str(report.error.details["resource"])


def test_an_honest_model_succeeds(attack: Attack, sealed: SealedBackend, tmp_path: Path) -> None:
    report = attack("cat /workspace/input/data/x.csv > /workspace/output/pred.csv; sleep 0.5")
    assert report.error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_text() == "id,x\na,1\nb,2\n"
    assert report.resources.exit_code == 0
    if sealed.measures:
        assert report.resources.peak_memory_bytes and report.resources.cpu_seconds is not None


def test_the_ground_truth_is_nowhere(attack: Attack, tmp_path: Path) -> None:
    report = attack(
        "cat /workspace/input/gt.csv /workspace/../workspace/input/gt.* /workspace/input/data/../gt.csv; "
        "for p in 1 $$; do ls -laR /proc/$p/root/workspace /proc/$p/cwd; cat /proc/$p/root/workspace/input/gt*; done; "
        "find / -xdev -name 'gt*' 2>/dev/null; cat /proc/self/mountinfo; "
        "grep -rs SECRET-[T]RUTH /workspace /tmp /dev/shm /etc /run /var /home /root /mnt 2>/dev/null; true"
    )
    assert report.error is None
    assert "SECRET-TRUTH" not in _log(tmp_path)
    assert "/workspace/input/data" in _log(tmp_path), "the attack itself did not run"


def test_scorer_params_are_not_told(attack: Attack, tmp_path: Path) -> None:
    attack("cat /workspace/meta.json", params={"pass_threshold": 0.8125})
    assert "0.8125" not in _log(tmp_path)
    assert "classification_f1" not in _log(tmp_path)


def test_there_is_no_network(attack: Attack, sealed: SealedBackend, tmp_path: Path) -> None:
    report = attack(
        "echo interfaces: $(ls /sys/class/net || tail -n +3 /proc/net/dev | cut -d: -f1); "
        "wget -T 3 -O- http://127.0.0.1:9 ; nslookup example.com; "
        "ping -c1 -W1 172.17.0.1"
    )
    assert _code(report) == "CONTAINER_FAILED"
    # Not necessarily the first line: stdout and stderr come in two streams.
    assert not sealed.has_no_interface or "interfaces: lo" in _log(tmp_path).split("\n")


def test_the_seal_as_the_model_sees_it(attack: Attack, sealed: SealedBackend, tmp_path: Path) -> None:
    attack("id; cat /proc/self/status; mount; ulimit -c; ulimit -n; env; cat /proc/1/cmdline")
    log = _log(tmp_path)
    assert "uid=0" not in log
    assert "CapEff:\t0000000000000000" in log and "CapBnd:\t0000000000000000" in log
    assert "NoNewPrivs:\t1" in log and "Seccomp:\t2" in log
    assert re.search(r" on / type \w+ \(ro[,)]", log)
    assert "HOME=/tmp" in log and "AUTOSCORER_WORKSPACE=/workspace" in log
    assert not sealed.has_init or "init" in log.splitlines()[-1], "no init process"


def test_the_hosts_environment_does_not_reach_it(
    attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOP_SECRET_TOKEN", "hunter2")
    attack("env", container={"env": {"MODE": "fast"}})
    assert "hunter2" not in _log(tmp_path) and "MODE=fast" in _log(tmp_path)


def test_a_fork_bomb(attack: Attack, sealed: SealedBackend) -> None:
    report = attack("bomb() { bomb | bomb & }; bomb; sleep 60", timeout=8)
    assert _resource(report) in _processes(sealed)


def test_a_fork_bomb_of_sleepers(attack: Attack, sealed: SealedBackend) -> None:
    report = attack("while true; do sleep 60 & done", timeout=10)
    assert _resource(report) in _processes(sealed)


def _processes(sealed: SealedBackend) -> tuple[str, ...]:
    # Without a limit of its own, a bomb ends at its memory or at what the node allows a pod.
    return ("processes",) if sealed.limits_each_run else ("processes", "memory")


def test_ten_gigabytes_of_memory(attack: Attack) -> None:
    report = attack("dd if=/dev/zero of=/dev/null bs=10G count=1")
    assert _resource(report) == "memory"


def test_memory_through_dev_shm(attack: Attack) -> None:
    report = attack("dd if=/dev/zero of=/dev/shm/x bs=1M count=10000", container={"shm_size": "4Gi"})
    assert _resource(report) in ("memory", "disk")


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/tmp/x", "RESOURCE_ERROR"), ("/workspace/output/x", "RESOURCE_ERROR"), ("/x", "CONTAINER_FAILED")],
)
def test_ten_gigabytes_to(attack: Attack, sealed: SealedBackend, target: str, expected: str) -> None:
    report = attack(f"dd if=/dev/zero of={target} bs=1M count=10240", resources={"memory": "512Mi"})
    assert _code(report) == expected
    if expected == "RESOURCE_ERROR":
        # Servers before 1.22 size no folder in memory, which then counts as memory alone.
        in_memory = target == "/tmp/x" and not sealed.limits_each_run
        assert _resource(report) in (("disk", "memory") if in_memory else ("disk",))


def test_many_files_that_fill_the_disk_together(attack: Attack) -> None:
    report = attack(
        "i=0; while true; do i=$((i+1)); dd if=/dev/zero of=/workspace/output/$i bs=1M count=5 2>/dev/null; done"
    )
    assert _resource(report) == "disk"


def test_deleted_files_that_fill_the_disk(attack: Attack, sealed: SealedBackend) -> None:
    """No folder shows a file that was deleted while it is open, and it fills the disk all the same."""
    report = attack(
        "cd /workspace/output; "
        + "".join(f"exec {n}>x{n}; rm x{n}; dd if=/dev/zero bs=1M count=15 >&{n} 2>/dev/null; " for n in range(3, 8))
        + "sleep 15"
    )
    _held_or_told(report, sealed)


def _held_or_told(report: RunReport, sealed: SealedBackend) -> None:
    """Where deleted files can't be seen, the Result says so."""
    if sealed.limits_each_run:
        assert _resource(report) == "disk"
    else:
        assert report.error is None and "deleted_files" in report.unwatched


def test_deleted_files_of_a_process_whose_first_thread_has_ended(attack: Attack, sealed: SealedBackend) -> None:
    """Such a process shows no open files, and its other threads hold them all the same."""
    report = attack(
        "",
        container={"image": BASE_IMAGE, "cmd": ["python3", "-c", DELETED_BY_A_THREAD]},
        resources={"memory": "256Mi"},
    )
    _held_or_told(report, sealed)


DELETED_BY_A_THREAD = """
import ctypes, os, threading, time
held = []
for number in range(5):
    held.append(open("/workspace/output/x", "wb"))
    os.unlink("/workspace/output/x")
    held[-1].write(bytes(15_000_000))
    held[-1].flush()
threading.Thread(target=time.sleep, args=(15,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit: this thread alone
"""


def test_an_image_volume_is_no_way_to_the_disk(
    attack: Attack, sealed: SealedBackend, docker_client: Any, busybox: str, tmp_path: Path
) -> None:
    tag = _image(
        docker_client, tmp_path, f"FROM {busybox}\nVOLUME /scratch\nVOLUME /workspace\nVOLUME /workspace/extra\n"
    )
    report = attack(
        "mount; for d in /scratch /workspace /workspace/extra; do "
        "dd if=/dev/zero of=$d/x bs=1M count=600; done; exit 3",
        container={"image": tag},
        resources={"memory": "1Gi"},
    )
    if not sealed.limits_each_run:
        # For the nodes' runtime to refuse (docs/sealed-run.md): nothing tells a cluster what is in an image.
        assert _code(report) in ("CONTAINER_FAILED", "RESOURCE_ERROR")
        return
    assert _resource(report) == "disk"
    log = _log(tmp_path)
    assert "tmpfs on /scratch type tmpfs" in log
    assert "/dev/" not in "".join(line for line in log.splitlines() if " on /scratch " in line)


@pytest.mark.parametrize(
    "line",
    [
        "VOLUME /workspace/input/gt.csv",
        "VOLUME /workspace/input/data/x.csv",
        "VOLUME /workspace/meta.json/x",
        "VOLUME /workspace/output/x",
        "VOLUME /",
        "VOLUME /proc",
        "VOLUME /proc/sys",
        "VOLUME /sys/fs/cgroup",
        "VOLUME /dev/null",
        "VOLUME relative",
        "VOLUME ../../x",
        'VOLUME ["/a\\nb"]',
        "VOLUME " + " ".join(f"/v{number}" for number in range(1000)),
        "WORKDIR /workspace/input/new",
        "WORKDIR /proc/self/x",
    ],
)
def test_an_image_that_no_container_starts_from_is_the_submissions_fault(
    attack: Attack, sealed: SealedBackend, docker_client: Any, busybox: str, tmp_path: Path, line: str
) -> None:
    """The engine answers 500 to many of these, as if it were to blame, and so the run would be tried again."""
    tag = _image(docker_client, tmp_path, f"FROM {busybox}\n{line}\n")
    report = attack("true", container={"image": tag})
    if not sealed.limits_each_run and report.error is None:
        return  # a runtime that makes nothing of such a volume
    assert _code(report) == "CONTAINER_FAILED"
    assert report.error is not None and report.error.exit_code == 1


def test_volumes_where_something_is_mounted_give_way(
    attack: Attack, sealed: SealedBackend, docker_client: Any, busybox: str, tmp_path: Path
) -> None:
    tag = _image(
        docker_client,
        tmp_path,
        f"FROM {busybox}\nVOLUME /workspace/input /workspace/input/data /workspace/output /workspace/meta.json /tmp\n"
        "VOLUME /a /a/../b //c /dev/shm\n",
    )
    report = attack("cat /workspace/input/data/x.csv > /workspace/output/pred.csv; mount", container={"image": tag})
    if not sealed.limits_each_run and _code(report) == "CONTAINER_FAILED":
        return  # the runtime mounts them all the same, and can't; the image is to blame
    assert report.error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_text().startswith("id,x")
    for folder in ("/a", "/b", "/c") if sealed.limits_each_run else ():
        assert f"tmpfs on {folder} type tmpfs" in _log(tmp_path)


def test_an_image_cannot_choose_its_user_or_health_check(
    attack: Attack, backend: str, docker_client: Any, busybox: str, tmp_path: Path
) -> None:
    tag = _image(
        docker_client,
        tmp_path,
        f"FROM {busybox}\nUSER 0:0\nHEALTHCHECK --interval=1s CMD touch /tmp/healthy\n"
        f"LABEL {LABEL}owner=nobody {LABEL}deadline=1\nSTOPSIGNAL SIGWINCH\n",
    )
    report = attack("id -u; sleep 3; ls /tmp", container={"image": tag})
    assert report.error is None
    info = json.loads((tmp_path / "ws" / "logs" / "run_info.json").read_text())
    assert int(_log(tmp_path)) == info["uid"] == info["gid"] != 0
    # Only root can hand folders to others, and so give each model a uid of its own.
    assert info["uid"] in DEFAULT_RANGE if os.geteuid() == 0 or backend == "kubernetes" else info["uid"] == os.geteuid()


def test_an_endless_log(attack: Attack, sealed: SealedBackend, tmp_path: Path) -> None:
    report = attack("yes all work and no play", timeout=4)
    assert _code(report) == "TIMEOUT_ERROR"
    assert (tmp_path / "ws" / "logs" / "container.log").stat().st_size < 5 * 1024**2
    # A cluster may hand it out more slowly than the model writes.
    assert "bytes left out" in _log(tmp_path) or not sealed.measures


def test_terminal_escapes_in_the_log_stay_there(attack: Attack) -> None:
    report = attack(r"printf '\033]0;owned\007\033[31mred\033[0m\n'; exit 1")
    assert report.error is not None
    assert report.error.details["log"] == ["red"]


def test_sleeping_past_the_deadline_and_ignoring_sigterm(attack: Attack, sealed: SealedBackend) -> None:
    started = time.monotonic()
    report = attack("trap '' TERM INT HUP; while true; do sleep 1; done", timeout=2)
    assert _code(report) == "TIMEOUT_ERROR"
    assert 2 <= time.monotonic() - started < 2 + sealed.overhead


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("ln -s /workspace/input/gt.csv pred.csv", id="link-to-ground-truth"),
        pytest.param("ln -s ../input/gt.csv pred.csv", id="relative-link-to-ground-truth"),
        pytest.param("ln -s /etc/shadow pred.csv", id="link-to-shadow"),
        pytest.param("ln -s . sub", id="link-to-itself"),
        pytest.param("mkfifo pred.csv", id="fifo"),
        pytest.param("mkdir -p a/b/c && mkfifo a/b/c/deep", id="fifo-deep-inside"),
        pytest.param("ln -s /dev/null pred.csv", id="link-to-device"),
    ],
)
def test_output_that_is_no_plain_file(attack: Attack, tmp_path: Path, command: str) -> None:
    report = attack(f"cd /workspace/output && {command}")
    assert _code(report) == "OUTPUT_REJECTED"
    assert _output(tmp_path) == ["artifacts", "result.json"], "something of a rejected output was delivered"


def test_a_device_in_output(attack: Attack) -> None:
    report = attack("mknod /workspace/output/pred.csv c 1 5")
    assert _code(report) == "CONTAINER_FAILED", "the model could make a device"


def test_predictions_as_a_folder(attack: Attack, tmp_path: Path, settings: Settings) -> None:
    from autoscorer.tasks.score import score_workspace

    report = attack("mkdir /workspace/output/pred.csv; echo 1 > /workspace/output/pred.csv/x")
    assert report.error is None, "a folder is no danger"
    result = score_workspace(tmp_path / "ws", settings=settings)
    assert result.error is not None and result.error.code == "OUTPUT_REJECTED"


def test_a_sparse_file_of_five_gigabytes(attack: Attack) -> None:
    report = attack("dd if=/dev/zero of=/workspace/output/pred.csv bs=1 count=1 seek=5368709119")
    assert _resource(report) == "disk"


def test_a_sparse_file_below_the_cap_of_one_file(attack: Attack) -> None:
    report = attack("for i in 1 2 3; do truncate -s 15M /workspace/output/$i; done")
    assert _resource(report) == "disk", "sparse files must count in full"


def test_a_forged_result(attack: Attack, tmp_path: Path) -> None:
    report = attack(
        'cd /workspace/output; echo \'{"summary": {"score": 1.0}}\' > result.json; mkdir artifacts history; '
        "echo x > artifacts/report.html; echo x > history/result-1.json; echo 1 > pred.csv"
    )
    assert report.error is None
    assert _output(tmp_path) == ["pred.csv"]
    assert len([note for note in report.notes if "The model wrote output/" in note]) == 3


def test_a_million_tiny_files(attack: Attack, tmp_path: Path) -> None:
    report = attack(
        "cd /workspace/output; for d in 1 2 3 4; do "
        "(mkdir $d; i=0; while [ $i -lt 250000 ]; do i=$((i+1)); : > $d/$i; done) & done; wait",
        timeout=120,
    )
    assert _resource(report) == "files"


def test_folders_deeper_than_any_path(attack: Attack) -> None:
    report = attack("cd /workspace/output; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); mkdir d && cd d || exit 0; done")
    assert _resource(report) == "files"


def test_setuid_files_lose_the_bit_and_the_owner(attack: Attack, tmp_path: Path) -> None:
    report = attack("cd /workspace/output; cp /bin/busybox pred.csv; chmod 6777 pred.csv; mkdir d; chmod 2777 d")
    assert report.error is None
    status = (tmp_path / "ws" / "output" / "pred.csv").stat()
    assert oct(status.st_mode) == "0o100644" and status.st_uid == os.geteuid()
    assert oct((tmp_path / "ws" / "output" / "d").stat().st_mode) == "0o40755"


def test_files_that_nobody_may_read(attack: Attack, tmp_path: Path) -> None:
    report = attack("cd /workspace/output; mkdir d; echo 1 > d/x; echo 2 > pred.csv; chmod 0 d/x d pred.csv")
    assert report.error is None
    assert (tmp_path / "ws" / "output" / "pred.csv").read_text() == "2\n"
    assert (tmp_path / "ws" / "output" / "d" / "x").read_text() == "1\n"


def test_names_that_hurt(attack: Attack, tmp_path: Path) -> None:
    report = attack(
        r"""cd /workspace/output; : > "$(printf 'a\nb\033[31m')"; : > "$(printf '\377\376')"; : > -rf; : > '$(id)'"""
    )
    assert report.error is None
    assert len(_output(tmp_path)) == 4


def test_a_process_that_outlives_its_parent(attack: Attack) -> None:
    report = attack(
        "setsid sh -c 'sleep 300' & setsid sh -c 'trap \"\" TERM; sleep 301' & echo 1 > /workspace/output/pred.csv"
    )
    assert report.error is None
    running = [
        Path(f"/proc/{pid}/cmdline").read_bytes() for pid in os.listdir("/proc") if pid.isdigit() and _alive(pid)
    ]
    assert not [line for line in running if b"sleep\x00300" in line or b"sleep\x00301" in line]


def _alive(pid: str) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists()


def test_writing_to_input(attack: Attack, tmp_path: Path) -> None:
    report = attack(
        "echo 1 > /workspace/input/data/x.csv; rm -rf /workspace/input/data; mv /workspace/input/data /workspace/d; "
        "touch /workspace/input/new; chmod 777 /workspace/input/data/x.csv; echo 1 > /workspace/meta.json; "
        "mount -o remount,rw /workspace/input; umount /workspace/input/data; true"
    )
    assert report.error is None
    assert "Read-only file system" in _log(tmp_path)


def test_a_command_that_does_not_exist(attack: Attack) -> None:
    report = attack("", container={"cmd": ["/no/such/program"]})
    assert _code(report) == "CONTAINER_FAILED"
    assert report.error is not None and report.error.details["exit_code"] == 127


def test_old_predictions_do_not_survive_a_failed_run(
    attack: Attack, busybox: str, backend: str, settings: Settings, tmp_path: Path
) -> None:
    assert attack("echo id > /workspace/output/pred.csv").error is None
    assert "pred.csv" in _output(tmp_path)
    meta = tmp_path / "ws" / "meta.json"
    meta.write_text(meta.read_text().replace("echo id > /workspace/output/pred.csv", "exit 1"))
    assert _code(run_workspace(tmp_path / "ws", settings=settings, backend=backend)) == "CONTAINER_FAILED"
    assert "pred.csv" not in _output(tmp_path)


def _image(client: Any, folder: Path, dockerfile: str) -> str:
    """Build a throw-away image; its name says what is in it."""
    context = folder / "image"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    tag = "autoscorer-test-hostile:" + hashlib.sha256(dockerfile.encode()).hexdigest()[:12]
    for event in client.build(path=str(context), tag=tag, rm=True, decode=True):
        assert "error" not in event, event
    return tag
