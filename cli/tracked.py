"""``autoscorer pipeline --track``: the flow in this process, recorded at the configured Prefect server.

Prefect would start a server of its own where none is configured, which takes half a minute and records nothing that
anybody could look at later. So the server is looked for first, and its absence is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.workspace import Workspace
from ..schemas.result import Result
from .custom import command_scoring
from .progress import progress

__all__ = ["run_tracked"]

# Seconds that a server may take to say that it is well.
_PATIENCE = 3.0
_HOW = (
    "Start one with `prefect server start` and name it by prefect.api_url in the configuration or by PREFECT_API_URL "
    "(http://127.0.0.1:4200/api), or leave out --track."
)


def run_tracked(args: argparse.Namespace, params: dict[str, Any]) -> Result:
    """Run the pipeline as a flow of the configured Prefect server.

    Meant for a process of its own: it sets Prefect's environment before Prefect is imported.

    Args:
        args: The arguments of ``autoscorer pipeline``.
        params: Scorer params that add to and override meta.json's.

    Returns:
        The Result, as the plain pipeline gives it.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when no Prefect server answers; ``WORKSPACE_NOT_FOUND`` or
            ``CONFLICT``, when nothing was written.
    """
    # Before anything that takes seconds; absolute, so that the recorded parameter means something elsewhere.
    workspace = str(Workspace(args.workspace).root)
    _connect(args.settings)

    from prefect import tags
    from prefect.client.schemas.objects import State
    from prefect.utilities.urls import url_for

    from ..flows.engine_patch import kept_states_stand
    from ..flows.pipeline import pipeline
    from ..tasks.prefect.context import RunContext, use
    from ..tasks.results.failures import ScoringFailed

    cancelled = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def cancel(number: int, frame: Any) -> None:
        # The flag as well as the exception: Prefect's own code may swallow what is raised in the middle of it.
        cancelled.set()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    def on_running(flow: Any, flow_run: Any, state: Any) -> None:
        print(f"autoscorer: Prefect run {flow_run.name}: {url_for(flow_run)}", file=sys.stderr)
        # Not earlier: the flow's engine puts its own handler on SIGTERM, for which an ended run is a crashed one.
        for number in before:
            signal.signal(number, cancel)

    started = time.time()
    with progress(not args.json) as observer, command_scoring(args) as scoring:
        own = RunContext(settings=args.settings, observer=observer, cancelled=cancelled.is_set, scoring=scoring)
        try:
            with kept_states_stand(), use(own), tags("autoscorer", "cli"):
                state: State[Any] = pipeline.with_options(on_running=[on_running])(  # type: ignore[assignment]
                    workspace, scorer=args.scorer, params=params or None, backend=args.backend, return_state=True
                )
            answer = state.result(raise_on_failure=False)
        except AutoScorerError:
            raise
        except Exception as error:  # Prefect's client, in many ways: the server went away meanwhile
            return _saved_since(workspace, started, error)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if isinstance(answer, ScoringFailed):
        if answer.result is None:
            raise answer
        return Result.model_validate(answer.result)
    if isinstance(answer, BaseException):
        return _saved_since(workspace, started, answer)
    return Result.model_validate(answer)


def _saved_since(workspace: str, moment: float, error: BaseException) -> Result:
    """The Result that was written before Prefect failed; the work is not lost for a record of it."""
    space = Workspace(workspace)
    result = space.read_result()
    if result is not None and space.result_file.stat().st_mtime >= moment - 1:
        print(f"autoscorer: the Prefect run could not be recorded to its end: {error}", file=sys.stderr)
        return result
    raise AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"The Prefect run failed before there was a Result ({type(error).__name__}): {error}",
    ) from error


def _connect(settings: Settings) -> None:
    """Set Prefect up for this process, and make sure that its server answers.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    environment = {
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # What we say ourselves, and Prefect's records at the server, are enough for a terminal.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # A quarter of a minute for each request to a server that went away, not a whole one: somebody is waiting.
        "PREFECT_CLIENT_MAX_RETRIES": os.environ.get("PREFECT_CLIENT_MAX_RETRIES", "3"),
    }
    section = settings.prefect
    if section.api_url:
        environment["PREFECT_API_URL"] = section.api_url
    if section.api_key:
        environment["PREFECT_API_KEY"] = section.api_key.get_secret_value()
    os.environ.update(environment)
    api_url = os.environ.get("PREFECT_API_URL")
    if api_url:
        # Before the import, so that a server that is away is told at once.
        _check(api_url)
        return
    from prefect.settings import get_current_settings

    api_url = get_current_settings().api.url
    if not api_url:
        raise AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, f"No Prefect server is configured. {_HOW}")
    _check(api_url)


def _check(api_url: str) -> None:
    if not api_url.startswith(("http://", "https://")):
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE, f"The Prefect API URL must begin with http:// or https://, not {api_url!r}."
        )
    request = urllib.request.Request(api_url.rstrip("/") + "/health")  # noqa: S310 - the scheme was checked
    if key := os.environ.get("PREFECT_API_KEY"):
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:  # noqa: S310
            healthy = json.loads(response.read(1024)) is True
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return  # it is there, and Prefect's client knows credentials that we do not
        raise _unreachable(api_url, f"it answers HTTP {error.code}") from None
    except (OSError, ValueError) as error:
        raise _unreachable(api_url, str(getattr(error, "reason", None) or error)) from None
    if not healthy:
        raise _unreachable(api_url, "the server there is not a healthy Prefect server")


def _unreachable(api_url: str, why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"No Prefect server answers at {api_url}: {why}. {_HOW}",
        details={"url": api_url},
    )
