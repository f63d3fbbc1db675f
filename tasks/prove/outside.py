"""What is true outside of the model while it attacks: secrets, a process that listens, and a folder for workspaces."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.locks import acquire, held, is_locked
from ...core.storage import writing_home
from ...executors.files import remove_tree
from . import bystander
from .judgement import Facts

__all__ = ["Outside", "outside"]

_INSIDE = Path(__file__).parent / "inside"
_SIOCGIFADDR = 0x8915
# Files that are somebody's own: keys, passwords, histories.
_OWN = (".bash_history", ".netrc", ".pgpass", ".git-credentials", ".docker/config.json", ".aws/credentials")
_SYSTEM = ("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh/ssh_host_ed25519_key", "/etc/krb5.keytab")
_MARKED_FOLDERS = ("/tmp", "/dev/shm", "/var/tmp", "/run", "/var/lock")
_START = (
    "import os, sys; sys.path.insert(0, os.path.join(os.environ['AUTOSCORER_WORKSPACE'], 'input', 'data')); "
    "from inside.main import main; main(sys.argv[1])"
)


@dataclass(frozen=True)
class Outside:
    """One proof's surroundings.

    Args:
        folder: Where its workspaces are made.
        token: What is in every name that it uses.
        facts: What the judges must know, but for what is a backend's own.
        told: What the model is told of it, so that it knows what to look for.
        keys: Key of the shared memory of each of two models.
    """

    folder: Path
    token: str
    facts: Facts
    told: dict[str, Any]
    keys: dict[str, int] = field(default_factory=dict)

    def workspace(
        self, name: str, program: tuple[str, ...], job: Mapping[str, Any], told: Mapping[str, Any], archive: Path | None
    ) -> Path:
        """Make a workspace whose model is ``inside``.

        Args:
            name: What its folder is called, beside what no other has.
            program: What ``inside.main`` is called with.
            job: Of its meta.json, beside the command.
            told: What the model is told, beside what all are.
            archive: Its image.
        """
        root = self.folder / f"{name}-{self.facts.workspace}"
        data = root / "input" / "data"
        data.mkdir(parents=True)
        (root / "input" / "gt.csv").write_text(f"id,label\na,{self.facts.truth}\nb,y\n")
        (data / "x.csv").write_text("id,x\na,1\nb,2\n")
        shutil.copytree(_INSIDE, data / "inside", ignore=shutil.ignore_patterns("__pycache__"))
        (data / "told.json").write_text(json.dumps({**self.told, "workspace": str(root), **told}))
        for path in (data, *data.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        container = {
            **job.get("container", {}),
            "cmd": ["python3", "-I", "-S", "-c", _START, *program],
            "working_dir": "/workspace",
        }
        meta = {
            "task_type": "classification",
            "scorer": "classification_f1",
            "params": {"pass_threshold": self.facts.threshold},
            **job,
            "container": container,
        }
        (root / "meta.json").write_text(json.dumps(meta))
        if archive is not None:
            os.link(archive, root / "image.tar")
        return root


@contextlib.contextmanager
def outside(settings: Settings) -> Iterator[Outside]:
    """Plant secrets, start a process that listens, and make a folder in the home; nothing is left of them."""
    top = settings.home / "prove"
    token = secrets.token_hex(8)
    folder = top / token
    with contextlib.ExitStack() as stack:
        with writing_home(settings.home), held(settings.home / "prove.lock"):
            _sweep(top)
            folder.mkdir(parents=True)
            lock = acquire(folder / "lock")
        stack.callback(_leave, top, folder, lock)
        planted = f"PROVE-HOST-{secrets.token_hex(8)}"
        (folder / "secret").write_text(planted)
        (folder / "secret").chmod(0o600)
        # What is in this process's environment must not reach a model, whoever starts it.
        stack.enter_context(_variable("PROVE_SECRET", planted))
        mark = f"prove-mark-{token}"
        port = stack.enter_context(_bystander(mark))
        keys = {name: 1 + secrets.randbelow(1 << 30) for name in (f"first-{token}", f"second-{token}")}
        stack.callback(_forget, keys)
        facts = Facts(
            truth=f"PROVE-TRUTH-{secrets.token_hex(8)}",
            planted=planted,
            workspace=f"ws-{token}",
            threshold=round(0.5 + secrets.randbelow(10**9) / 10**10, 10),
            nofile=settings.security.limits.nofile,
        )
        told = {
            "host_files": [str(path) for path in _somebodys_files(settings)],
            "planted": str(folder / "secret"),
            "mark": mark,
            "port": port,
            "addresses": _addresses(),
            "abstract": [bystander.abstract_name(mark)],
            "nofile": facts.nofile,
            "keys": keys,
        }
        yield Outside(folder, token, facts, told, keys)


def _sweep(top: Path) -> None:
    """Remove what proofs left that were killed."""
    for left in top.glob("*"):
        if not is_locked(left / "lock"):
            remove_tree(left)


def _leave(top: Path, folder: Path, lock: int | None) -> None:
    with held(top.with_suffix(".lock")):
        remove_tree(folder)
        with contextlib.suppress(OSError):  # another proof's is there
            top.rmdir()
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _bystander(mark: str) -> Iterator[int]:
    """A process that must not be reached; its port."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", bystander.__file__, str(os.getpid()), mark],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline() or b"0")
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _somebodys_files(settings: Settings) -> list[Path]:
    home = Path.home()
    found = [Path(path) for path in _SYSTEM] + [home / name for name in _OWN]
    with contextlib.suppress(OSError):
        found += sorted((home / ".ssh").iterdir())
    found += [settings.home / name for name in ("api-token", "tokens.json", "ledger.sqlite3", "config.yaml")]
    return [path for path in found if path.is_file()]


def _addresses() -> list[str]:
    """This host's own."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]


def _forget(keys: Mapping[str, int]) -> None:
    """Remove marks of models that nothing kept in a place of their own, and that were killed."""
    libc = ctypes.CDLL(None)
    for name, key in keys.items():
        for folder in _MARKED_FOLDERS:
            with contextlib.suppress(OSError):
                Path(folder, f"autoscorer-prove-{name}").unlink()
        memory = libc.shmget(ctypes.c_int(key), ctypes.c_size_t(0), 0)
        if memory >= 0:
            libc.shmctl(memory, 0, None)
