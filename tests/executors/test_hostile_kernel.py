"""Models that ask the shared kernel for what it should refuse, on a real Docker Engine and under bubblewrap.

What a shell can do is in test_hostile.py; here the model is Python and makes the system calls itself.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.workspace import Workspace
from autoscorer.executors import stage
from autoscorer.tasks.run import run_workspace

from ..support.sealed_backends import BubblewrapBackend, DockerBackend, SealedBackend

pytestmark = pytest.mark.docker

Ask = Callable[..., Any]

REFUSED = {errno.EPERM, errno.ENOSYS}

# Name: (number on x86_64, number on aarch64, arguments that a kernel without the profile would not refuse like this).
CALLS = {
    "io_uring_setup": (425, 425, (8, 0)),
    "io_uring_enter": (426, 426, (-1, 0, 0, 0)),
    "io_uring_register": (427, 427, (-1, 0, 0, 0)),
    "userfaultfd": (323, 282, (1,)),
    "keyctl": (250, 219, (0, -3, 1)),
    "add_key": (248, 217, (0, 0, 0, 0, -3)),
    "request_key": (249, 218, (0, 0, 0, -3)),
    "unshare (user namespace)": (272, 97, (0x10000000,)),
    "clone (user namespace)": (56, 220, (0x10000011, 0, 0, 0, 0)),
    "clone3": (435, 435, (0, 0)),
    "setns": (308, 268, (-1, 0)),
    "mount": (165, 40, (0, 0, 0, 0, 0)),
    "fsopen": (430, 430, (0, 0)),
    "open_tree": (428, 428, (-100, 0, 0)),
    "bpf": (321, 280, (-1, 0, 0)),
    "perf_event_open": (298, 241, (0, 0, -1, -1, 0)),
    "kexec_load": (246, 104, (0, 0, 0, 0)),
    "init_module": (175, 105, (0, 0, 0)),
    "open_by_handle_at": (304, 265, (-1, 0, 0)),
    "swapon": (167, 224, (0, 0)),
    "acct": (163, 89, (0,)),
    "socket (AF_ALG)": (41, 198, (38, 5, 0)),
    "socket (AF_VSOCK)": (41, 198, (40, 1, 0)),
}

CALL = """
import ctypes, json
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    answer = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return ctypes.get_errno() if answer == -1 else -answer
"""


@pytest.fixture(scope="module", params=["docker", "bubblewrap"])
def sealed(
    request: pytest.FixtureRequest, docker_client: Any, tmp_path_factory: pytest.TempPathFactory
) -> SealedBackend:
    """The backend that is asked. A cluster's nodes have a kernel of their own."""
    if request.param == "docker":
        return DockerBackend(docker_client)
    return BubblewrapBackend(docker_client, tmp_path_factory.mktemp("images"))


@pytest.fixture
def ask(sealed: SealedBackend, python_image: str, make_workspace: Callable[..., Path], settings: Settings) -> Ask:
    """Run Python as the model; what it writes to ``answer`` comes back as JSON."""

    def run(script: str, name: str = "ws") -> Any:
        code = script + "\nopen('/workspace/output/answer', 'w').write(json.dumps(answer))"
        root = make_workspace(name, container={"image": python_image, "cmd": ["python3", "-c", code]}, timeout=60)
        sealed.give(root, python_image)
        report = run_workspace(root, settings=settings, backend=sealed.name)
        assert report.error is None, report.error.to_dict()
        return json.loads((root / "output" / "answer").read_text())

    return run


def _number(name: str) -> int:
    machines = {"x86_64": 0, "aarch64": 1}
    if platform.machine() not in machines:
        pytest.skip("the numbers of system calls are known for x86_64 and aarch64 only")
    return CALLS[name][machines[platform.machine()]]


def test_system_calls_that_led_out_of_containers_are_refused(ask: Ask) -> None:
    wanted = {name: (_number(name), *arguments) for name, (*_, arguments) in CALLS.items()}
    answer = ask(CALL + f"answer = {{name: call(*given) for name, given in {wanted!r}.items()}}")
    allowed = {name: errno.errorcode.get(code, code) for name, code in answer.items() if code not in REFUSED}
    assert allowed == {}
    assert answer.keys() == CALLS.keys()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these other ways into the kernel are of x86_64")
def test_the_other_doors_into_an_x86_64_kernel_are_no_way_around(ask: Ask) -> None:
    """The same kernel takes calls in the x32 ABI (bit 30 of the number) and, by ``int 0x80``, in that of i386."""
    answer = ask(
        CALL
        + """
import mmap, os
X32 = 0x40000000
answer = {f"x32 {number}": call(X32 | number, 8, 0) for number in (425, 426, 427, 323, 250, 321)}
# push rbx; mov eax, edi; mov ebx, esi; xor the other arguments; int 0x80; pop rbx; ret
code = bytes.fromhex("53 89f8 89f3 31c9 31d2 31f6 31ff cd80 5b c3")
page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
enter = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_long, ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
for number, argument in ((425, 8), (426, -1), (427, -1), (374, 1), (288, 0), (357, 0), (310, 0x10000000)):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(-enter(number, argument)).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 99)
    os.waitpid(child, 0)
    # A kernel without 32-bit programs ends the process by a signal, and then there is nothing to read.
    answer[f"i386 {number}"] = int(told) if told else 38
"""
    )
    assert {name: code for name, code in answer.items() if code not in REFUSED} == {}
    assert len(answer) == 13


def test_what_models_need_of_the_kernel_is_there(ask: Ask) -> None:
    """Threads, processes, futexes, memory maps, locks, timers: the profile must not be one that honest models meet."""
    answer = ask(
        "import json, mmap, multiprocessing, os, select, socket, subprocess, threading\n"
        "threading.Thread(target=print).start()\n"
        "left, right = socket.socketpair(); left.send(b'x'); right.recv(1)\n"
        "select.epoll().close(); os.memfd_create('x'); mmap.mmap(-1, 4096)\n"
        "answer = [subprocess.run(['true']).returncode, multiprocessing.Pool(2).map(abs, [-1, -2])]"
    )
    assert answer == [0, [1, 2]]


def test_what_listens_on_this_host_does_not_hear_it(ask: Ask) -> None:
    """Sockets without a file have a name that all of a network namespace share, whatever is mounted."""
    name = f"\0autoscorer-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        listener.bind(name)
        listener.listen()
        port = other.getsockname()[1]
        answer = ask(
            "import errno, json, socket\n"
            "def tried(one, where):\n"
            "    try: one.connect(where)\n"
            "    except OSError as error: return errno.errorcode[error.errno]\n"
            "    return 'connected'\n"
            f"answer = [tried(socket.socket(socket.AF_UNIX), {name!r}),"
            f" tried(socket.socket(), ('127.0.0.1', {port}))]"
        )
    assert answer == ["ECONNREFUSED", "ECONNREFUSED"]


def test_it_has_no_terminal_to_type_into(ask: Ask) -> None:
    """TIOCSTI pushes characters into a terminal, as if its person had typed them."""
    answer = ask(
        "import errno, fcntl, json, os\n"
        "def tried(act):\n"
        "    try: act()\n"
        "    except OSError as error: return errno.errorcode[error.errno]\n"
        "    return 'done'\n"
        "answer = [tried(lambda fd=fd: fcntl.ioctl(fd, 0x5412, b'x')) for fd in range(3)]\n"
        "answer += [tried(lambda: os.open('/dev/tty', os.O_RDWR))]"
    )
    assert answer == ["ENOTTY", "ENOTTY", "ENOTTY", "ENXIO"]


def test_it_sees_and_traces_no_process_but_its_own(ask: Ask) -> None:
    answer = ask(
        CALL
        + f"""
import os
pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
outside = {os.getpid()}
answer = {{
    "pids": pids,
    "outside": os.path.exists(f"/proc/{{outside}}"),
    "roots": sorted({{os.path.realpath(f"/proc/{{pid}}/root") for pid in pids}}),
    "truth": [os.path.exists(f"/proc/{{pid}}/root/workspace/input/gt.csv") for pid in pids],
    # PTRACE_ATTACH to the first, process_vm_readv and kill of one that is not there.
    "kill": call(62, outside, 9),
}}
# Whatever it does to the first process here, that one has no more rights than it has itself.
status = open("/proc/1/status").read()
answer["first"] = [line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "Seccomp:", "NoNew"))]
"""
    )
    assert len(answer["pids"]) <= 4 and not answer["outside"], answer
    assert answer["roots"] == ["/"] and not any(answer["truth"])
    assert answer["kill"] == errno.ESRCH
    assert answer["first"] == ["0000000000000000", "1", "2"]


def test_two_models_at_once_do_not_meet(ask: Ask) -> None:
    """Each leaves its name wherever it may, and looks for the other's."""

    def script(own: str, other: str) -> str:
        return f"""
import json, mmap, os, socket, time
for place in ("/tmp", "/dev/shm"):
    open(f"{{place}}/{own}", "w").write("{own}")
one = socket.socket(socket.AF_UNIX); one.bind("\\0{own}"); one.listen()
end, answer = time.monotonic() + 8, []
while time.monotonic() < end:
    for place in ("/tmp/{other}", "/dev/shm/{other}"):
        answer += [place] if os.path.exists(place) else []
    for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
        try: answer += [pid] if b"own = " b"'{other}'" in open(f"/proc/{{pid}}/cmdline", "rb").read() else []
        except OSError: pass
    try: socket.socket(socket.AF_UNIX).connect("\\0{other}"); answer += ["socket"]
    except OSError: pass
    time.sleep(0.05)
own = '{own}'
"""

    with ThreadPoolExecutor(2) as pool:
        told = [*pool.map(lambda names: ask(script(*names), names[0]), [("left", "right"), ("right", "left")])]
    assert told == [[], []]


def test_the_smallest_share_of_a_cpu_holds(
    busybox: str, make_workspace: Callable[..., Path], settings: Settings
) -> None:
    root = make_workspace(
        container={"image": busybox, "cmd": ["sh", "-c", "while true; do :; done & while true; do :; done"]},
        resources={"cpu": 0.01},
        timeout=3,
    )
    report = run_workspace(root, settings=settings, backend="docker")
    assert report.error is not None and report.error.code == "TIMEOUT_ERROR"
    used = report.resources.cpu_seconds
    assert used is not None and used < 0.5, "it was given more than its share"


HOARDER = """
import ctypes, fcntl, os, time
libc = ctypes.CDLL(None, use_errno=True)
taken = 0
while libc.inotify_init1(0) >= 0:
    taken += 1
print("inotify", taken, ctypes.get_errno(), flush=True)
pipes = []
while fcntl.fcntl((pipes.append(os.pipe()) or pipes[-1])[0], 1032) == 65536 and len(pipes) < 1900:
    pass
print("pipes", len(pipes), "everything taken", flush=True)
time.sleep(60)
"""
NEIGHBOUR = """
import ctypes, fcntl, json, os
answer = {"inotify": ctypes.CDLL(None).inotify_init1(0) >= 0, "pipe": fcntl.fcntl(os.pipe()[0], 1032)}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give each model a uid of its own")
def test_one_model_takes_nothing_from_another_by_its_uid(
    ask: Ask, python_image: str, make_workspace: Callable[..., Path], settings: Settings
) -> None:
    """The kernel gives each uid 128 inotify instances, say, and a share of memory for pipes."""
    meta = {"container": {"image": python_image, "cmd": ["python3", "-c", HOARDER]}, "timeout": 60}
    hoarder, enough = make_workspace("hoarder", **meta), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_workspace, hoarder, settings=settings, backend="docker", cancelled=enough.is_set)
        try:
            while "everything taken" not in _log(hoarder):
                assert not run.done(), run.result().error
                time.sleep(0.05)
            answer = ask(NEIGHBOUR)
            assert not run.done(), "the other model was gone already"
        finally:
            enough.set()
    taken, code = map(int, _log(hoarder).split()[1:3])
    assert taken > 0 and code == errno.EMFILE, "it did not take everything"
    assert answer == {"inotify": True, "pipe": 65536}


TELLING = "cat /proc/self/mountinfo /proc/mounts /proc/self/mountstats /proc/self/maps /proc/1/mountinfo"


def _tell(busybox: str, root: Path, settings: Settings) -> dict[str, Any]:
    meta = json.loads((root / "meta.json").read_text())
    script = f"cd /workspace/input/data; {TELLING}; find /workspace; cat /workspace/meta.json; env; hostname"
    meta["container"] = {"image": busybox, "cmd": ["sh", "-c", script]}
    (root / "meta.json").write_text(json.dumps(meta))
    report = run_workspace(root, settings=settings, backend="docker")
    assert report.error is None, report.error.to_dict()
    assert "/workspace/input/data/deep/er/y" in _log(root), "the attack itself did not run"
    return dict(json.loads((root / "logs" / "run_info.json").read_text()))


def test_a_model_does_not_learn_where_its_workspace_lies_or_what_it_is_called(
    busybox: str, make_workspace: Callable[..., Path], settings: Settings, tmp_path: Path
) -> None:
    """The kernel tells in mountinfo from which folder of the host each mount comes."""
    root = make_workspace("team-of-alice")
    (root / "input" / "data" / "deep" / "er").mkdir(parents=True)
    (root / "input" / "data" / "deep" / "er" / "y").touch()
    (root / "input" / "notes.txt").write_text("for the model")
    info = _tell(busybox, root, settings)
    assert info["neutral_paths"] is True
    assert root.name not in _log(root) and str(tmp_path) not in _log(root)
    assert not list(Path("/var/tmp").glob(f"autoscorer-{info['run_id']}")), "staged files were left"
    assert not list((settings.home / "stage").glob("*")), "staged files were left"


def test_a_model_reads_input_that_only_its_owner_may_read(
    busybox: str, make_workspace: Callable[..., Path], settings: Settings
) -> None:
    script = "cat /workspace/input/data/x.csv /workspace/input/one > /workspace/output/pred.csv"
    root = make_workspace(container={"image": busybox, "cmd": ["sh", "-c", script]})
    (root / "input" / "one").write_text("one\n")
    for path in (root / "input" / "one", root / "input" / "data" / "x.csv"):
        path.chmod(0o600)
    (root / "input" / "data").chmod(0o700)
    report = run_workspace(root, settings=settings, backend="docker")
    assert report.error is None and report.neutral_paths
    assert (root / "output" / "pred.csv").read_text() == "id,x\na,1\nb,2\none\n"
    assert (root / "output" / "pred.csv").stat().st_uid == os.geteuid(), "the output was not collected back"
    assert (root / "input" / "one").stat().st_mode & 0o777 == 0o600
    assert (root / "input" / "data").stat().st_mode & 0o777 == 0o700


def test_an_operator_chooses_the_path_that_models_see(
    busybox: str,
    make_workspace: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root, place = make_workspace("team-of-alice"), tmp_path_factory.mktemp("neutral") / "runs"
    (root / "input" / "data" / "deep" / "er").mkdir(parents=True)
    (root / "input" / "data" / "deep" / "er" / "y").touch()
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DOCKER__STAGE_DIR", str(place))
    info = _tell(busybox, root, load_settings())
    assert f"{place}/autoscorer-{info['run_id']}/output" in _log(root)
    assert root.name not in _log(root)
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_workspaces_on_a_volume_of_their_own_are_not_told_either(
    busybox: str, make_workspace: Callable[..., Path], settings: Settings, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(volume)], check=True)
    try:
        root = Path(shutil.move(make_workspace("team-of-alice"), volume / "team-of-alice"))
        (root / "input" / "data" / "deep" / "er").mkdir(parents=True)
        (root / "input" / "data" / "deep" / "er" / "y").touch()
        info = _tell(busybox, root, settings)
        assert info["neutral_paths"] is True
        assert root.name not in _log(root) and str(tmp_path) not in _log(root)
        assert list((volume / ".autoscorer-runs").iterdir()) == [], "staged files were left"
    finally:
        subprocess.run(["umount", str(volume)], check=True)


def test_where_no_neutral_place_will_do_the_run_says_so(
    busybox: str, make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_workspace("team-of-alice")
    (root / "input" / "data" / "deep" / "er").mkdir(parents=True)
    (root / "input" / "data" / "deep" / "er" / "y").touch()
    # Another file system than any workspace's, to which no output can be renamed.
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DOCKER__STAGE_DIR", "/dev/shm/autoscorer-test")
    info = _tell(busybox, root, load_settings())
    assert info["neutral_paths"] is False
    assert root.name in _log(root)
    Path("/dev/shm/autoscorer-test").rmdir()


def test_what_becomes_a_link_meanwhile_is_not_followed(
    busybox: str, make_workspace: Callable[..., Path], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write to the workspace puts a link there between the check and the mount."""
    root = make_workspace(container={"image": busybox, "cmd": ["true"]})
    checked = stage.visible_inputs(Workspace(root))
    monkeypatch.setattr(stage, "visible_inputs", lambda workspace: checked)
    monkeypatch.setattr(stage, "refuse_exposure", lambda workspace: None)
    (root / "input" / "data").rename(root / "data")
    (root / "input" / "data").symlink_to("/etc")
    report = run_workspace(root, settings=settings, backend="docker")
    assert report.error is not None and report.error.code == "MISSING_FILE"
    assert not list(Path("/var/tmp").glob(f"autoscorer-{report.run_id}")), "staged files were left"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_an_engine_that_does_not_see_the_staged_folder_is_ours(
    busybox: str, make_workspace: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_workspace(container={"image": busybox, "cmd": ["true"]})
    unseen = tmp_path / "unseen"
    unseen.mkdir()
    script = 'mount -t tmpfs none "$1" && cp -r "$2" "$1/ws" && exec "$3" -m autoscorer run "$1/ws"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(unseen), str(root), sys.executable],
        capture_output=True,
        text=True,
        env={**os.environ, "AUTOSCORER_SECURITY__LIMITS__FREE_DISK": "1Mi"},
    )
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (3, "BACKEND_UNAVAILABLE"), done.stdout
    assert "stage_dir" in error["message"] and str(tmp_path) not in error["message"]


def _log(root: Path) -> str:
    path = root / "logs" / "container.log"
    return path.read_text() if path.exists() else ""
