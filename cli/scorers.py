"""``autoscorer scorers``: list, show, load, reload, unload, test and write scorers."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.aliases import FILE_OPTION, in_our_words
from ..scorers.registry import ScorerRegistry
from ..scorers.registry.entry import ScorerEntry
from ..scorers.registry.manifest import ManifestFile, ScorerManifest, load_configured
from .arguments import add_common, add_params, given_params

__all__ = ["add_arguments", "render", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add_common(added, of_action=True)
        return added

    action("list", "show the known scorers, and the files and packages that do not load")
    action("show", "show one scorer and its params").add_argument("id", metavar="ID")
    file_help = "Python file with one or more scorers"
    for name, text in (
        ("load", "load a scorer file, and remember it for every later command and server of this home"),
        ("reload", "run a scorer file again and say what changed"),
        ("unload", "forget a scorer file that was loaded; the file itself stays"),
    ):
        added = action(name, text)
        added.add_argument("file", metavar="FILE", type=Path, nargs="?", help=file_help)
        added.add_argument("--file-path", metavar="FILE", type=Path, help="the same, as the first system spells it")
    test = action("test", "validate and score a workspace with a scorer, and change nothing in the workspace")
    test.add_argument("--scorer-name", metavar="ID", help="scorer to try", required=True)
    test.add_argument("--workspace", metavar="WORKSPACE", required=True, help="folder with meta.json, input/, output/")
    add_params(test)
    new = action("new", "write a scorer that works as it is, and its test")
    new.add_argument("name", metavar="NAME", help="a Python identifier; the scorer's id and the file's name")
    new.add_argument("--into", metavar="FOLDER", type=Path, default=Path("."), help="where to write (default: here)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "new":
        from .scorer_templates import write_scorer

        return write_scorer(args.name, args.into)
    if args.action in ("load", "reload", "unload"):
        args.file = _the_file(args)
    with _manifest(args.settings, args.action) as args.manifest:
        registry = load_configured(args.settings, extra=[Path(folder) for folder in args.scorers_dirs])
        return _ACTIONS[args.action](args, registry)


def _manifest(settings: Settings, action: str) -> contextlib.AbstractContextManager[ScorerManifest]:
    """What is loaded: in this home, or in all that share its ledger."""
    if action not in ("load", "reload", "unload") or not settings.has_shared_ledger:
        return contextlib.nullcontext(ScorerManifest(settings.home))
    from ..service.scorers.shared import shared_manifest

    return shared_manifest(settings)


def _the_file(args: argparse.Namespace) -> Path:
    """FILE, or what stands for it."""
    given = {"FILE": args.file, "--file-path": args.file_path}
    try:
        file: Path | None = in_our_words(
            {key: path for key, path in given.items() if path is not None}, FILE_OPTION
        ).get("FILE")
    except ValueError as error:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"scorers {args.action}: {error}.") from None
    if file is None:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"Which file? Expected: autoscorer scorers {args.action} FILE. See `autoscorer scorers --help`.",
        )
    return file


def _list(args: argparse.Namespace, registry: ScorerRegistry) -> dict[str, Any]:
    return {
        "scorers": [entry.to_dict() for entry in registry.list()],
        "errors": [failure.to_dict() for failure in registry.errors()],
    }


def _show(args: argparse.Namespace, registry: ScorerRegistry) -> dict[str, Any]:
    return registry.get(args.id).to_dict()


def _load(args: argparse.Namespace, registry: ScorerRegistry) -> dict[str, Any]:
    path = _existing(args.file)
    entries = registry.load_file(path)
    record: ScorerManifest = args.manifest
    record.add(path, entries, followed=True)
    return {"file": str(path), "scorers": [e.to_dict() for e in entries], "recorded_in": str(record.path)}


def _reload(args: argparse.Namespace, registry: ScorerRegistry) -> dict[str, Any]:
    path = _existing(args.file)
    record: ScorerManifest = args.manifest
    before = record.read().get(path)
    if before is None and registry.source(path) is None:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, f"{path} is not loaded. Load it first: autoscorer scorers load {args.file}"
        )
    entries = registry.reload_file(path)
    if before is not None:
        record.add(path, entries)
    return {
        "file": str(path),
        "scorers": [entry.to_dict() for entry in entries],
        "changes": None if before is None else _changes(before, entries),
    }


def _changes(before: ManifestFile, entries: list[ScorerEntry]) -> list[dict[str, Any]]:
    """What a file registers now against what it registered when a command last loaded it."""
    now = {entry.id: entry.version for entry in entries}
    same_source = before.sha256 == entries[0].sha256
    changes = []
    for scorer_id in sorted({*before.scorers, *now}):
        old, new = before.scorers.get(scorer_id), now.get(scorer_id)
        if old is None or new is None:
            change = "added" if old is None else "removed"
        elif old != new:
            change = "new version"
        else:
            change = "unchanged" if same_source else "same version, other source"
        changes.append({"id": scorer_id, "change": change, "version_before": old, "version": new})
    return changes


def _unload(args: argparse.Namespace, registry: ScorerRegistry) -> dict[str, Any]:
    path = Path(os.path.abspath(args.file))
    record: ScorerManifest = args.manifest
    source = registry.source(path)
    gone = record.remove(path)
    watched = record.unwatch(path)
    if gone is None and not watched:
        why = "it lies in a watched or configured folder" if source is not None else f"{record.path} does not list it"
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{path} can't be unloaded: {why}.")
    registry.unload_file(path)
    return {"file": str(path), "unloaded": sorted(gone.scorers if gone else source.ids if source else ())}


def _test(args: argparse.Namespace, registry: ScorerRegistry) -> dict[str, Any]:
    from ..tasks.scoring.trial import try_scorer

    return try_scorer(registry.get(args.scorer_name), args.workspace, settings=args.settings, params=given_params(args))


_ACTIONS: dict[str, Callable[[argparse.Namespace, ScorerRegistry], dict[str, Any]]] = {
    "list": _list,
    "show": _show,
    "load": _load,
    "reload": _reload,
    "unload": _unload,
    "test": _test,
}


def _existing(file: Path) -> Path:
    path = Path(os.path.abspath(file))
    if not path.is_file():
        what = (
            "is a folder; name the file, or set scorers.dirs in the configuration" if path.is_dir() else "is not a file"
        )
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{path} {what}.")
    return path


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    from . import scorer_views

    scorer_views.VIEWS[args.action](data)
