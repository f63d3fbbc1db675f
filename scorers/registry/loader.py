"""Loading a scorer file: one read of its bytes, one fresh module, nothing registered unless all of it ran.

Every load has a package of its own, ``_autoscorer_file_<n>``, that holds the file's module. A file may import
what lies beside it with ``from .helpers import …``: the sibling is then loaded into the same package, fresh and
from its bytes, so two versions of a helper never mix and two folders with a ``helpers.py`` never meet. Plain
``import helpers`` does not find siblings, because that name is shared by the whole process.

Nothing here reads or writes ``.pyc`` files: they are keyed by a time stamp in seconds, and two saves within one
second would run the first one's code.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import itertools
import linecache
import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Protocol

from ...core.errors import AutoScorerError, ErrorCode
from .entry import Registration
from .files import read_source

__all__ = ["Capture", "LoadAttempt", "current_capture", "is_ctrl_c", "load_error", "load_source", "module_frame"]

_MAX_TEXT = 600
_TRACEBACK_FRAMES = 6
_CO_OPTIMIZED = 0x1  # set on functions, never on the code of a module

_serial = itertools.count(1)
_loads: dict[str, _Load] = {}


class Capture(Protocol):
    """Accepts the registrations of a load that is under way."""

    def accept(self, registration: Registration) -> bool:
        """True when the registration belongs to this load."""


current_capture: ContextVar[Capture | None] = ContextVar("autoscorer_capture", default=None)


@dataclass
class LoadAttempt:
    """What came of a load.

    Args:
        path: The file.
        sha256: Of the bytes that were read, in hex; "" when the file could not be read.
        files: Everything the outcome depends on: ``path`` and the siblings asked for, each with its sha256
            ("" for one that is not there).
        registrations: What it registered; empty when it failed.
        error: ``SCORER_LOAD_ERROR``, or None.
        handle: Keeps the modules importable while it is referenced.
        sources: The bytes of ``path`` and the siblings as they were run; empty when it failed.
        found: What it registered, id to version, where it was loaded in another process (``trial``).
    """

    path: Path
    sha256: str = ""
    files: dict[Path, str] = field(default_factory=dict)
    registrations: list[Registration] = field(default_factory=list)
    error: AutoScorerError | None = None
    handle: object = None
    sources: dict[Path, bytes] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)

    @property
    def siblings(self) -> dict[str, str]:
        """Name to sha256 of the sibling files that were imported."""
        return {path.name: sha256 for path, sha256 in sorted(self.files.items()) if path != self.path}


class _Handle:
    """Dies with the last entry of a load; its finalizer then forgets the load's modules."""


@dataclass
class _Load:
    """A load under way or done: the package, the file's module in it, and what it has read."""

    attempt: LoadAttempt
    package: str
    main: str
    copies: Mapping[Path, bytes] | None = None
    open: bool = True
    sources: dict[str, bytes] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def accept(self, registration: Registration) -> bool:
        if registration.module == self.main:
            self.attempt.registrations.append(registration)
            return True
        # A sibling that is a scorer file too: what it registers is its own file's to register.
        return registration.module.startswith(self.package + ".")


def _bytes_of(path: Path, copies: Mapping[Path, bytes] | None) -> bytes:
    if copies is None:
        return read_source(path)
    if path not in copies:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return copies[path]


def load_source(path: Path, copies: Mapping[Path, bytes] | None = None) -> LoadAttempt:
    """Run a scorer file in a fresh module and collect what it registers. Never raises for the file's faults.

    Args:
        path: Absolute path of the file.
        copies: Its bytes and those of its siblings, instead of what lies on the disk.

    Returns:
        The attempt; its ``error`` is set when the file can't be read or run, or registers nothing.
    """
    attempt = LoadAttempt(path, files={path: ""})
    try:
        data = _bytes_of(path, copies)
    except OSError as error:
        attempt.error = load_error(f"{path} can't be read: {error.strerror or error}.", path)
        return attempt
    attempt.sha256 = attempt.files[path] = hashlib.sha256(data).hexdigest()

    package = f"_autoscorer_file_{next(_serial)}"
    load = _Load(attempt, package, f"{package}.{path.stem.replace('.', '_')}", copies)
    _loads[package] = load
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    parent = ModuleType(package)
    parent.__path__ = []
    sys.modules[package] = parent
    handle = _Handle()
    weakref.finalize(handle, _forget, package).atexit = False

    token = current_capture.set(load)
    try:
        _finder.execute(load, load.main, path, data)
        if not attempt.registrations:
            attempt.error = load_error(
                f"{path} registers no scorer. Put @register('my_scorer') on its class; "
                "a file that only helps others has a name that begins with _.",
                path,
            )
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        attempt.error = _describe(load, error)
    finally:
        current_capture.reset(token)
        load.open = False
    if attempt.error is None:
        _show_lines(load)
        sources = {Path(name): source for name, source in load.sources.items()}
        load.sources.clear()
        # A copy: the load itself must not hold what keeps it alive.
        return replace(attempt, sources=sources, handle=handle)
    attempt.registrations.clear()
    return attempt


class _Loader:
    """Runs given bytes as a module; keeps them, so that ``inspect`` and tracebacks show what ran."""

    def __init__(self, load: _Load, path: Path, data: bytes) -> None:
        self._load, self._path, self._data = load, path, data

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._load.sources[str(self._path)] = self._data
        code: CodeType = compile(self._data, str(self._path), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102  # running the operator's scorer is what this module is for

    def get_source(self, name: str) -> str:
        return importlib.util.decode_source(self._data)


class _Finder:
    """Finds siblings for the packages of ``_loads``, while their load is under way."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        load = _loads.get(package)
        if load is None:
            return None
        main = load.attempt.path
        if not load.open:
            # Read now, it could be of another version than the rest, and in no sha256 of the Result.
            raise ImportError(f"{main.name} must import .{name} at its top, not while it scores", name=fullname)
        sibling = main.with_name(f"{name}.py")
        load.attempt.files[sibling] = ""
        try:
            data = _bytes_of(sibling, load.copies)
        except FileNotFoundError:
            raise ModuleNotFoundError(f"no {sibling.name} lies beside {main.name}", name=fullname) from None
        except OSError as error:
            raise ImportError(f"{sibling.name} can't be read: {error.strerror or error}", name=fullname) from None
        load.attempt.files[sibling] = hashlib.sha256(data).hexdigest()
        return self._spec(load, fullname, sibling, data)

    def execute(self, load: _Load, name: str, path: Path, data: bytes) -> None:
        """Run the load's own file."""
        spec = self._spec(load, name, path, data)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        setattr(sys.modules[load.package], name.rpartition(".")[2], module)
        assert spec.loader is not None
        spec.loader.exec_module(module)

    @staticmethod
    def _spec(load: _Load, name: str, path: Path, data: bytes) -> ModuleSpec:
        spec = ModuleSpec(name, _Loader(load, path, data), origin=str(path))  # type: ignore[arg-type]
        spec.has_location = True
        return spec


_finder = _Finder()


def is_ctrl_c(error: BaseException) -> bool:
    """Whether it may be the user's Ctrl-C, and not something that a scorer raised.

    Python raises KeyboardInterrupt for a signal in the main thread only, and only where SIGINT has no other handler.
    """
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def module_frame() -> FrameType | None:
    """The innermost frame, from the caller on outwards, that runs a module's top-level code.

    It tells which module a registration belongs to: not where ``register`` is called (that may be a factory in
    a library) and not the class's ``__module__`` (a factory's too), but which file is being executed.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_flags & _CO_OPTIMIZED and frame.f_locals is frame.f_globals:
            return frame
        frame = frame.f_back
    return None


def _forget(package: str) -> None:
    load = _loads.pop(package, None)
    for name in [name for name in list(sys.modules) if name == package or name.startswith(package + ".")]:
        sys.modules.pop(name, None)
    for file_name, lines in load.lines.items() if load else ():
        cached = linecache.cache.get(file_name)
        if isinstance(cached, tuple) and len(cached) == 4 and cached[2] is lines:
            linecache.cache.pop(file_name, None)


def _show_lines(load: _Load) -> None:
    for file_name, source in load.sources.items():
        lines = importlib.util.decode_source(source).splitlines(keepends=True)
        load.lines[file_name] = lines
        # No time stamp (None): linecache then never replaces what ran by what is on disk now.
        linecache.cache[file_name] = (len(source), None, lines, file_name)


def _describe(load: _Load, error: BaseException) -> AutoScorerError:
    path = load.attempt.path
    place, line = _place(load, error)
    text = error.message if isinstance(error, AutoScorerError) else _text(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        beside = path.with_name(error.name.partition(".")[0] + ".py")
        if beside != path and not error.name.startswith(load.package) and beside.is_file():
            text += f" ({beside.name} lies beside it: write 'from .{beside.stem} import …')"
    missing = _missing(load, error, place)
    if missing:
        text += f". Add what it does not import: {'; '.join(missing)}"
    message = f"{place}:{line}: {text}" if line else f"{place}: {text}"
    if place != path:
        message += f" (imported by {path.name})"
    try:
        trace = traceback.format_exception(
            type(error), error, error.__traceback__, limit=-_TRACEBACK_FRAMES, chain=False
        )
    except Exception:  # a text or a source line that can't be had
        trace = []
    return load_error(message, place, line, "".join(trace).splitlines()[-3 * _TRACEBACK_FRAMES :], missing)


def _missing(load: _Load, error: BaseException, place: Path) -> list[str]:
    """The lines that would import what a file uses and does not define, or has looked for in the wrong module."""
    from .missing_names import import_lines, imported_names, undefined_names

    def source() -> str:
        # Some bytes compile, and run as far as the error, that can't be decoded as a whole.
        with contextlib.suppress(SyntaxError, UnicodeDecodeError):
            return importlib.util.decode_source(load.sources.get(str(place), b""))
        return ""

    if type(error) is NameError:
        return import_lines({*undefined_names(source(), str(place)), *([error.name] if error.name else [])})
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "autoscorer":
        # All of that statement: the next of its names would be the next error.
        return import_lines(imported_names(source(), error.name or ""))
    return []


def _place(load: _Load, error: BaseException) -> tuple[Path, int | None]:
    """The deepest place of the failure that lies in the scorer's own files."""
    if isinstance(error, SyntaxError) and error.filename in load.sources:
        return Path(error.filename), error.lineno
    place: tuple[Path, int | None] = (load.attempt.path, None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename in load.sources:
            place = (Path(frame.f_code.co_filename), line)
    return place


def _text(error: BaseException) -> str:
    try:
        # str() of a SyntaxError repeats file and line.
        said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    except Exception:
        said = "(its text can't be had)"
    if len(said) > _MAX_TEXT:
        said = said[:_MAX_TEXT] + " …"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def load_error(
    message: str, path: Path, line: int | None = None, trace: Sequence[str] = (), missing: Sequence[str] = ()
) -> AutoScorerError:
    """``SCORER_LOAD_ERROR`` of a file, at a line of it where one is to blame."""
    details: dict[str, object] = {"file": str(path), "line": line}
    if missing:
        details["missing_imports"] = [*missing]
    if trace:
        details["traceback"] = list(trace)
    return AutoScorerError(ErrorCode.SCORER_LOAD_ERROR, message, details=details)
