"""The ``autoscorer`` command: finds the subcommand, runs it, prints one envelope, exits honestly.

A subcommand is a module of this package with ``add_arguments(parser)``, ``run(args)`` (returns the data of the
success envelope, raises AutoScorerError), ``render(data, args)`` (a readable view for a terminal) and, where data
may be bad news, ``exit_code(data)``. A command that stays (``up``) says when it is ready with ``args.announce(data)``
and returns None. Modules are imported only when their command is used, so that ``--help`` and ``score`` start quickly.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from ..core.version import __version__

__all__ = ["api_entry", "entry", "main"]

COMMANDS = {
    "init": "write a workspace that runs as it is",
    "validate": "check a workspace; every problem at once",
    "run": "run the workspace's model in its sealed container",
    "score": "score a workspace's predictions, or two files",
    "benchmark": "write, check and show benchmarks, which many submissions share, and their leaderboards",
    "evaluate": "make a submission to a benchmark, run it and score it",
    "rescore": "score all kept predictions of a benchmark again, without running a model",
    "rag": "score one answer of a retrieval-augmented system by hand",
    "pipeline": "validate, run and score a workspace",
    "result": "show the Result that stands, or all that there were; needs no service",
    "judge": "hold a judge against people's labels, and list what is known of judges",
    "scorers": "list, show, load, reload, test and write scorers",
    "reap": "remove what a killed process left behind",
    "up": "start a whole installation: Prefect server, deployments, workers, API",
    "serve": "serve the REST API alone",
    "deploy": "register work pools and deployments with Prefect",
    "tokens": "make, list and revoke tokens of the API, also of teams and organisers",
    "ledger": "bring the database of accepted tasks up to date, or move it to another one",
    "jobs": "take over the jobs of the first system that score one answer",
    "worker": "work on due flow runs, each in a process forked from a warm one",
    "submit": "hand a workspace to the API",
    "status": "show a task of the API with its score (of a batch its leaderboard), or the newest ones",
    "cancel": "end a task of the API",
    "retry": "do once more what a task that has ended was asked for",
    "logs": "show a task's log",
    "samples": "show the rows of a task, the wrong ones first",
    "compare": "hold two tasks against each other: scores, params, versions, and the samples that differ",
    "batch": "work on many workspaces as one task of the API, or with --local here, and show who is best",
    "leaderboard": "show who of a batch is best, also while it goes on",
    "workspaces": "list the workspaces of the API, with what their last Result says",
    "upload": "send a folder or an archive to the API as a workspace",
    "doctor": "say what works here, and what to do about what does not",
    "demo": "run the three examples end to end",
    "config": "show the configuration, where it comes from, and whether it is right",
}


class _Usage(Exception):
    """Wrong usage, found by argparse."""


class _Once(argparse.Action):
    """Stores one value. A second one is an error; argparse takes the last, and says nothing."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        given: frozenset[str] = getattr(namespace, "given", frozenset())
        if option_string is not None and self.dest in given:
            parser.error(f"{option_string} was given twice")
        namespace.given = given | {self.dest}
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands: dict[str, _Parser] = {}
        for kind in (None, "store"):
            self.register("action", kind, _Once)

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong is not None:
            from ..core.errors import suggest

            message += suggest(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        end = "" if message.endswith("?") else "."
        raise _Usage(f"{message}{end} See `{self.prog} --help`.")

    def unknown(self, arguments: Sequence[str]) -> NoReturn:
        """Refuse arguments that this command does not have."""
        from ..core.errors import suggest

        options = [name for action in self._actions for name in action.option_strings]
        option = next((each.partition("=")[0] for each in arguments if each.startswith("-")), None)
        self.error(f"unrecognized arguments: {' '.join(arguments)}" + (suggest(option, options) if option else ""))


def entry() -> NoReturn:
    """The process of the ``autoscorer`` command: ``main``, and what only a short process may do to be shorter."""
    # OpenBLAS starts threads when numpy is imported, and scoring has no use for them: a tenth of its CPU time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imports make many objects that live to the end; looking through them again and again is a tenth of a short
    # command's time.
    gc.set_threshold(100_000, 20, 20)
    code = main()
    # And once more at exit: 0.1 s of nothing, unless they are declared to stay.
    gc.freeze()
    sys.exit(code)


def api_entry() -> NoReturn:
    """The process of ``autoscorer-api``, as the first system names it: ``autoscorer serve``, and its options."""
    sys.exit(main(["serve", *sys.argv[1:]]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; the process's own when None.

    Returns:
        The exit code: 0 success, 1 the submission failed, 2 wrong usage, 3 the system failed.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    started = time.monotonic()
    # Known before parsing, because a usage error has to be told in the right form as well.
    as_json = "--json" in arguments or not sys.stdout.isatty()
    try:
        try:
            args, unknown = parser.parse_known_args(arguments)
            if unknown:
                # Of the command that was given: its help says what there is.
                parser.commands.get(args.command, parser).unknown(unknown)
        except _Usage as usage:
            return _fail(_usage_error(str(usage)), as_json)
        if args.command is None:
            parser.print_help()
            return 2
        return _run(args, as_json, started)
    except BrokenPipeError:
        _reader_has_gone()
        return 0


def _reader_has_gone() -> None:
    """Whoever read our output has gone, which is no error; Python would complain once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(args: argparse.Namespace, as_json: bool, started: float) -> int:
    from ..core.errors import AutoScorerError, ErrorCode
    from .signals import cancel_on_signals

    module = _module(args.command)
    stdout = sys.stdout

    def announce(data: Any) -> None:
        with contextlib.redirect_stdout(stdout):
            if as_json:
                from .output import success

                success(data, time.monotonic() - started)
            else:
                module.render(data, args)
                sys.stdout.flush()

    args.announce = announce
    try:
        with cancel_on_signals(), contextlib.redirect_stdout(sys.stderr):
            if args.command != "init":
                # Of `config` it is the subject: it may be wrong.
                if args.command != "config":
                    from ..core.config import load_settings
                    from .arguments import tell_notes

                    args.settings = load_settings(args.config)
                    # Who keeps a log, and doctor, say it there.
                    if args.command not in ("up", "serve", "worker", "doctor"):
                        tell_notes(args.settings)
                _prepare(args)
            data = module.run(args)
    except AutoScorerError as error:
        return _fail(error, as_json)
    except KeyboardInterrupt:
        return _fail(AutoScorerError(ErrorCode.CANCELLED, "Cancelled."), as_json)
    except Exception as error:
        if os.environ.get("PYTHONDEVMODE") or sys.flags.dev_mode:
            raise
        from ..core.storage import fault_of

        settings = getattr(args, "settings", None)
        return _fail(fault_of(error, home=settings.home if settings else None), as_json)
    if data is None:
        return 0
    code = int(module.exit_code(data)) if hasattr(module, "exit_code") else 0
    try:
        announce(data)
    except BrokenPipeError:
        _reader_has_gone()
    return code


def _prepare(args: argparse.Namespace) -> None:
    """What a command does first: clear up after the dead, know the custom scorers where all of them are shown."""
    if args.command in ("validate", "run", "score", "pipeline", "evaluate", "demo") or getattr(args, "local", False):
        from ..executors.reaper import reap_if_needed

        reap_if_needed(args.settings)
    if args.scorers_dirs:
        from .custom import check_folders

        check_folders(args.scorers_dirs)
    if args.command in ("scorers", "doctor"):
        from .custom import load_custom_scorers

        load_custom_scorers(args.settings, args.scorers_dirs)


def _parser(arguments: Sequence[str]) -> _Parser:
    parser = _Parser(
        prog="autoscorer",
        description="Runs a workspace's model in a sealed container and scores what it wrote.",
        epilog="Exit codes: 0 success, 1 the submission failed, 2 wrong usage, 3 the system failed.",
    )
    parser.add_argument("--version", action="version", version=f"autoscorer {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    # Only the command that is used gets its arguments: building all would import every command.
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        parser.commands[name] = command
        if name == wanted:
            from .arguments import add_common

            _module(name).add_arguments(command)
            add_common(command)
    return parser


def _module(command: str) -> Any:
    return importlib.import_module(f".{command}", __package__)


def _usage_error(message: str) -> Any:
    from ..core.errors import AutoScorerError, ErrorCode

    return AutoScorerError(ErrorCode.INVALID_REQUEST, message)


def _fail(error: Any, as_json: bool) -> int:
    from .output import failure

    try:
        failure(error, as_json)
    except BrokenPipeError:
        _reader_has_gone()
    return int(error.exit_code)
