"""Scorers of installed packages: the entry-point group ``autoscorer.scorers``.

A package declares either a scorer class under its id, or a module whose import registers its scorers::

    [project.entry-points."autoscorer.scorers"]
    my_scorer = "my_package.scorers:MyScorer"
    my_package = "my_package.scorers"
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType

from ...core.errors import AutoScorerError, ErrorCode
from .entry import Registration, check_scorer
from .loader import current_capture

__all__ = ["GROUP", "Plugin", "discover"]

GROUP = "autoscorer.scorers"


@dataclass
class _CaptureAll:
    """Accepts whatever the import of a plugin registers, in whichever of its modules."""

    registrations: list[Registration] = field(default_factory=list)

    def accept(self, registration: Registration) -> bool:
        self.registrations.append(registration)
        return True


@dataclass(frozen=True)
class Plugin:
    """One entry point, not loaded yet."""

    entry_point: metadata.EntryPoint

    @property
    def name(self) -> str:
        return self.entry_point.name

    @property
    def source(self) -> str:
        """Which entry point of which package, for people."""
        dist = self.entry_point.dist
        package = f" of {dist.name} {dist.version}" if dist is not None else ""
        return f"entry point {self.name} = {self.entry_point.value}{package}"

    def load(self, declared: dict[str, dict[str, Registration]]) -> list[Registration]:
        """Import it.

        Args:
            declared: What modules have registered in this process so far, for one that was imported before.

        Returns:
            Its registrations.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR``; whatever the package raises ends here.
        """
        try:
            return self._load(declared)
        except (Exception, SystemExit) as error:
            if isinstance(error, AutoScorerError):
                why = error.message
            else:
                why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise AutoScorerError(
                ErrorCode.SCORER_LOAD_ERROR,
                f"{self.source} does not load: {why.rstrip('.')}.",
                details={"entry_point": self.name, "value": self.entry_point.value},
            ) from None

    def _load(self, declared: dict[str, dict[str, Registration]]) -> list[Registration]:
        capture = _CaptureAll()
        token = current_capture.set(capture)
        try:
            loaded = self.entry_point.load()
        finally:
            current_capture.reset(token)
        found = {r.scorer_id: r for r in (*self._declared_before(loaded, declared), *capture.registrations)}
        if isinstance(loaded, ModuleType):
            if not found:
                raise ImportError("the module registers no scorer")
        elif not any(r.scorer_class is loaded for r in found.values()):
            check_scorer(self.name, loaded)
            assert isinstance(loaded, type)
            found[self.name] = _registration_of(self.name, loaded)
        return list(found.values())

    @staticmethod
    def _declared_before(loaded: object, declared: dict[str, dict[str, Registration]]) -> list[Registration]:
        if isinstance(loaded, ModuleType):
            name = loaded.__name__
            return [r for m in declared if m == name or m.startswith(name + ".") for r in declared[m].values()]
        if isinstance(loaded, type):
            return [r for r in declared.get(loaded.__module__, {}).values() if r.scorer_class is loaded]
        return []


def discover() -> list[Plugin]:
    """The entry points of the group in name order; reads package metadata, imports none of them."""
    return [Plugin(point) for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: (p.name, p.value))]


def _registration_of(scorer_id: str, scorer: type) -> Registration:
    try:
        path, line = Path(inspect.getfile(scorer)), inspect.getsourcelines(scorer)[1]
    except (OSError, TypeError):
        return Registration(scorer_id, scorer, scorer.__module__, None, None)
    return Registration(scorer_id, scorer, scorer.__module__, path, line)
