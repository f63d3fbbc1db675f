"""Where workspaces may lie, and how they are called outside: never by the host's own paths.

With one root a workspace's name is its path below that root. With several, the name begins with the root's own name, so
that one name never means two folders.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from .redaction import PathRedactor

__all__ = ["WorkspaceRoots", "workspace_not_found"]

_PATTERN = frozenset("*?[")


class WorkspaceRoots:
    """The folders that workspaces are taken from.

    Links in the roots themselves are resolved once, here.

    Args:
        settings: ``workspace_roots``, or the current folder when there are none.
    """

    def __init__(self, settings: Settings) -> None:
        given = settings.workspace_roots or (Path.cwd(),)
        self._roots: dict[str, Path] = {}
        for root in given:
            real = Path(os.path.realpath(root))
            if real not in self._roots.values():
                self._roots[_free(root.name or "root", self._roots)] = real
        # The longest first: the name of a workspace in a root within a root comes from the inner one.
        self._inner_first = sorted(self._roots.items(), key=lambda item: len(item[1].parts), reverse=True)
        self._redactor = PathRedactor(self._spelled(given), settings)

    @property
    def paths(self) -> list[Path]:
        """The roots, links resolved, in the order of the configuration."""
        return list(self._roots.values())

    def resolve(self, text: str) -> Path:
        """Find the workspace that a text means.

        Args:
            text: An absolute path, a path relative to a root, or what ``name`` gave.

        Returns:
            The folder, absolute, links resolved.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for what can be no path, ``FORBIDDEN`` for one that is under no root,
                ``WORKSPACE_NOT_FOUND`` for one that is not there.
        """
        path = self.locate(text)
        if not os.path.isdir(path):
            raise workspace_not_found(text)
        return path

    def workspace(self, text: str) -> Path:
        """As ``resolve``, for one workspace: a folder with a meta.json that lies in no other workspace.

        What lies inside a workspace came with it or was written by its model: a meta.json there makes no workspace,
        or it could show a Result or a log that nobody here made.

        Raises:
            AutoScorerError: As ``resolve``; ``WORKSPACE_NOT_FOUND`` without meta.json, ``FORBIDDEN`` inside another.
        """
        path = self._outermost(text, self.resolve(text))
        if not os.path.lexists(path / "meta.json"):
            raise workspace_not_found(text)
        return path

    def locate(self, text: str) -> Path:
        """As ``resolve``, for what need not be there (any more), and may be a file.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` or ``FORBIDDEN``.
        """
        _check(text)
        inside = [real for real in map(_real, self._candidates(text)) if self._holds(real)]
        if not inside:
            raise AutoScorerError(
                ErrorCode.FORBIDDEN,
                f"The workspace {_shown(text)} is under none of the workspace roots, or a link leads out of them. "
                "Name a folder relative to a root.",
                details={"roots": list(self._roots)},
            )
        path = next((real for real in inside if os.path.lexists(real)), inside[0])
        try:
            str(path).encode()
        except UnicodeEncodeError:  # a link led to a name that is not text: nobody could be told of it
            raise workspace_not_found(text) from None
        return path

    def resolve_item(self, text: str) -> str:
        """Find what one entry of a batch means: a folder, or a pattern whose fixed beginning is one.

        Nothing inside a workspace is one; what else a folder or a pattern finds there, ``expand`` leaves out.

        Returns:
            The folder's path, or a pattern that matches under the roots as far as no link leads out.

        Raises:
            AutoScorerError: As ``resolve``, and ``INVALID_REQUEST`` for a pattern with ``..`` or several ``**``.
        """
        _check(text)
        if not _PATTERN & set(text):
            return str(self._outermost(text, self.resolve(text)))
        located = self._located(text)
        if located is not None:  # a folder whose name happens to hold such a character
            return str(self._outermost(text, located))
        parts = Path(text).parts
        first = next(index for index, part in enumerate(parts) if _PATTERN & set(part))
        pattern = parts[first:]
        if ".." in pattern or pattern.count("**") > 1:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"The pattern {_shown(text)} holds .. or more than one **; give one without.",
            )
        if not first and len(self._roots) > 1:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"The pattern {_shown(text)} must begin with a folder: there are several workspace roots.",
                details={"roots": list(self._roots)},
            )
        base = self.resolve(os.path.join(*parts[:first])) if first else self.paths[0]
        return os.path.join(glob.escape(str(self._outermost(text, base / "*").parent)), *pattern)

    def locate_item(self, text: str) -> Path:
        """Where an entry of a batch begins to look: its folder, or that of its pattern; it need not be there.

        Raises:
            AutoScorerError: As ``locate``.
        """
        _check(text)
        if _PATTERN & set(text) and self._located(text) is None:
            parts = Path(text).parts
            first = next(index for index, part in enumerate(parts) if _PATTERN & set(part))
            return self.locate(os.path.join(*parts[:first])) if first else self.paths[0]
        return self.locate(text)

    def name(self, path: Path | str) -> str:
        """What a workspace is called outside; ``resolve(name(path)) == path``.

        Args:
            path: Absolute, links resolved.

        Raises:
            AutoScorerError: ``FORBIDDEN`` when it is under no root.
        """
        path = Path(path)
        for label, root in self._inner_first:
            if path.is_relative_to(root):
                relative = path.relative_to(root).as_posix()
                if len(self._roots) == 1:
                    return relative
                return label if relative == "." else f"{label}/{relative}"
        raise AutoScorerError(ErrorCode.FORBIDDEN, f"The workspace {path.name!r} is under none of the workspace roots.")

    def called(self, path: str) -> str:
        """What a workspace of a batch is called outside; of one that lies elsewhere, as a flow may, its last part.

        Args:
            path: Absolute, or what ``name`` gave.
        """
        if not path.startswith("/"):
            return path
        try:
            return self.name(path)
        except AutoScorerError:
            return Path(path).name

    def holds(self, path: Path | str) -> bool:
        """Whether a path lies under a root once its links are resolved."""
        return self._holds(_real(path))

    def located(self, error: Mapping[str, Any], workspace: Path | str) -> dict[str, Any]:
        """An error, as JSON, with ``details`` that say of which workspace it is and where its model's log lies.

        Args:
            error: The error.
            workspace: The workspace's absolute path; the error stays as it is where that is under no root.
        """
        try:
            name = self.name(_real(workspace))
        except AutoScorerError:
            return dict(error)
        log = os.path.join(workspace, "logs", "container.log")
        where = {"workspace": name, "logs_path": f"{name}/logs/container.log" if os.path.isfile(log) else None}
        return {**error, "details": {**(error.get("details") or {}), **where}}

    def redact(self, value: Any) -> Any:
        """Take the host's paths out of every string of a JSON value, keys included.

        What lies in a root becomes what ``name`` calls it; the home, the package's and the temporary folder become
        ``<home>``, ``<autoscorer>``, ``<tmp>``; of a folder of scorers its own name stays. What stands under the key
        ``traceback`` is left out. Half a character becomes its escape, so that any answer can be sent.
        """
        return self._redactor(value)

    def _outermost(self, text: str, path: Path) -> Path:
        """The path, if no folder above it, up to its root, is a workspace."""
        root = next(root for _, root in self._inner_first if path.is_relative_to(root))
        for parent in path.parents:
            if not parent.is_relative_to(root):
                break
            if os.path.lexists(parent / "meta.json"):
                raise AutoScorerError(
                    ErrorCode.FORBIDDEN,
                    f"{_shown(text)} lies inside a workspace and is not one itself. Name the folder that holds the "
                    "outermost meta.json.",
                )
        return path

    def _located(self, text: str) -> Path | None:
        try:
            path = self.locate(text)
        except AutoScorerError:
            return None
        return path if os.path.isdir(path) else None

    def _spelled(self, given: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """Every way to write a root, and how it is called."""
        for root in given:
            real = _real(root)
            label = next(label for label, known in self._roots.items() if known == real)
            for path in (root, real):
                yield path, "" if len(self._roots) == 1 else label

    def _candidates(self, text: str) -> Iterable[Path]:
        path = Path(text)
        if path.is_absolute():
            return [path]
        parts = path.parts
        # The name of a root goes before what a folder in a root happens to be called.
        if len(self._roots) > 1 and parts and parts[0] in self._roots:
            return [self._roots[parts[0]].joinpath(*parts[1:])]
        return [root / path for root in self._roots.values()]

    def _holds(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self._roots.values())


def _check(text: str) -> None:
    if not text or "\0" in text:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, "A workspace must be a path that is not empty, without NUL.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, "A workspace must be a path of whole characters.") from None


def _real(path: Path | str) -> Path:
    # realpath answers for any name: of what is too long, or may not be looked at, nothing is resolved further.
    return Path(os.path.realpath(path))


def _free(name: str, taken: dict[str, Path]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def workspace_not_found(text: str) -> AutoScorerError:
    """What is answered where there is no such workspace, also to those who may not know of it."""
    return AutoScorerError(
        ErrorCode.WORKSPACE_NOT_FOUND,
        f"There is no workspace {_shown(text)} under the workspace roots. Expected a folder with meta.json and input/.",
    )


def _shown(text: str) -> str:
    """The caller's own words, without folders that only an absolute path would tell."""
    shown = repr(os.path.basename(text.rstrip("/")) if text.startswith("/") else text)
    return shown if len(shown) <= 200 else shown[:199] + "…"
