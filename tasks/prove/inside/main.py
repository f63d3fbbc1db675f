"""Begins: ``everything`` tries all that needs no limit; another name is one attack on a limit, or ``meet``."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal

from . import files, kernel, network, processes
from .files import root
from .limits import LIMITS
from .neighbours import meet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["find", "main"]

_MOST_SECONDS = 12.0


def main(name: str) -> None:
    """Try, and write what came of it to ``output/answers.json``."""
    descriptors = _open_descriptors()
    with open(os.path.join(root(), "input", "data", "told.json"), encoding="utf-8") as file:
        told: dict[str, Any] = {**json.load(file), "descriptors": descriptors}
    if name == "meet":
        meet(told)
        return
    if name == "everything":
        answers: dict[str, Any] = {key: _tried(told, tries, asks) for key, (tries, asks) in told["tries"].items()}
    else:
        LIMITS[name](told)
        answers = {"finished": True}
    with open(os.path.join(root(), "output", "answers.json"), "w", encoding="utf-8") as file:
        json.dump(answers, file)


def find(name: str) -> Any:
    """The function of an attack."""
    return next(found for each in (files, kernel, network, processes) if (found := getattr(each, name, None)))


def _tried(told: dict[str, Any], name: str, asks: list[str]) -> dict[str, Any]:
    """What an attack answered, in a process of its own: it may be ended, or never come back."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = {"answer": find(name)(told, *asks)}
        except Exception as error:
            said = {"failed": f"{type(error).__name__}: {error}"[:300]}
        with os.fdopen(writer, "wb") as file:
            file.write(json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    said_bytes, late = b"", False
    while not late:
        late = not select.select([reader], [], [], _MOST_SECONDS)[0]
        part = b"" if late else os.read(reader, 1 << 16)
        if not part:
            break
        said_bytes += part
    os.close(reader)
    if late:
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if late:
        return {"hung": _MOST_SECONDS}
    if os.WIFSIGNALED(status):
        return {"died": os.WTERMSIG(status)}
    answer: dict[str, Any] = json.loads(said_bytes or b'{"failed": "it said nothing"}')
    return answer


def _open_descriptors() -> list[str]:
    """What was handed to this program beside its output, before it opens anything itself."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        # One is that of this listing, which is gone by now.
        with contextlib.suppress(OSError):
            if int(name) > 2:
                found.append(os.readlink(f"/proc/self/fd/{name}"))
    return found
