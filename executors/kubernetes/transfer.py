"""Input into the pod and output out of it, through the API server, as often as it takes."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable

from ...core.errors import AutoScorerError, ErrorCode
from ..base import RunLimits, Staged
from ..files import rejected, remove_tree, too_much
from .api import FIRST, MOST, PATIENCE, KubernetesApi
from .errors import ApiError, unavailable
from .exec import Exec, ExecFailed
from .names import INPUT, KEEPER
from .pack import PackedInput
from .scripts import GIVE, SOCKET, TAKE, shell
from .unpack import TarReader

__all__ = ["PodFiles"]

# Bytes of a tar beside the files' own, for each entry (headers of a long name, padding) and for its end.
_PER_ENTRY, _END = 32 * 1024, 1024**2


class PodFiles:
    """The helper's containers of one pod.

    Args:
        api: The API server.
        namespace: The pod's.
        pod: Its name.
        cancelled: Asked while bytes move.
    """

    def __init__(self, api: KubernetesApi, namespace: str, pod: str, cancelled: Callable[[], bool]) -> None:
        self._api, self._namespace, self._pod, self._cancelled = api, namespace, pod, cancelled

    def send(self, packed: PackedInput, has_taken: Callable[[], bool]) -> None:
        """Send the input, whole.

        Args:
            packed: The input.
            has_taken: Whether the container has it: the news of that may be cut off.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``, ``CANCELLED``, and what ``PackedInput.chunks`` raises.
        """
        digest = packed.sha256

        def once(attempt: int) -> None:
            command = shell(TAKE, str(packed.size), digest, str(attempt))
            with self._exec(INPUT, command) as run:
                run.send(packed.chunks())
                run.finish()

        self._again_and_again(once, has_taken)

    def bring(self, staged: Staged, limits: RunLimits) -> None:
        """Read the output into ``staged.output``, whole.

        Args:
            staged: The staged run.
            limits: Nothing beyond them is taken.

        Raises:
            AutoScorerError: ``OUTPUT_REJECTED``, ``RESOURCE_ERROR``, ``BACKEND_UNAVAILABLE``.
        """

        def once(attempt: int) -> None:
            remove_tree(staged.output)
            staged.output.mkdir(mode=0o700)
            try:
                with self._exec(KEEPER, shell(GIVE, str(attempt))) as run:
                    _read(run, staged, limits)
            except ExecFailed as error:
                if error.command_code == SOCKET:
                    raise rejected("a file", "a socket") from error
                raise

        self._again_and_again(once, lambda: False)

    def _exec(self, container: str, command: list[str]) -> Exec:
        return Exec(self._api, self._namespace, self._pod, container, command, cancelled=self._cancelled)

    def _again_and_again(self, once: Callable[[int], None], is_done: Callable[[], bool]) -> None:
        """Try until it is done: a connection may be cut, and the API server be away for a while."""
        end = time.monotonic() + PATIENCE
        pause, attempt = FIRST, 0
        while True:
            attempt += 1
            began = time.monotonic()
            try:
                once(attempt)
                return
            except ExecFailed as error:
                if is_done():
                    return
                if error.command_code is not None or time.monotonic() > end:
                    raise
            except ApiError:
                if is_done():
                    return
                # Time in which bytes moved is no time in which the server was away.
                end += min(time.monotonic() - began, PATIENCE) / 2
                if time.monotonic() > end:
                    raise
            if self._cancelled():
                raise AutoScorerError(ErrorCode.CANCELLED, "The run was cancelled.")
            time.sleep(pause)
            pause = min(2 * pause, MOST)


def _read(run: Exec, staged: Staged, limits: RunLimits) -> None:
    digest = hashlib.sha256()
    most = limits.disk + limits.output_files * _PER_ENTRY + _END
    reader = TarReader(staged.output, limits)
    acknowledged, size = False, 0
    try:
        for data in run.output():
            size += len(data)
            if size > most:
                raise too_much("disk", f"more than {limits.disk:,} bytes")
            digest.update(data)
            reader.feed(data)
            told = re.search(rb"^sha256 ([0-9a-f]{64})$", run.stderr, re.MULTILINE)
            # The last bytes may come after the word that there are no more.
            if told is not None and told[1].decode() == digest.hexdigest():
                if not reader.done:
                    raise unavailable("What came out of the model's pod is no whole tar.")
                acknowledged = True
                break
    finally:
        reader.close()
    if not acknowledged:
        raise unavailable("The output ended before all of it came.")
    # It is here; that the other end hears of it lets that end by itself, and no more.
    with contextlib.suppress(ApiError):
        run.send([b"taken\n"])
        run.finish()
