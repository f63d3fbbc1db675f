"""A batch's journal: which workspaces it has, what became of each, and from where a second attempt goes on."""

from __future__ import annotations

import os
from collections.abc import Callable

from ...core.errors import AutoScorerError
from ...core.flowruns import FlowRunFiles
from .expand import Entry
from .outcome import Outcome, duplicate_outcome, failed_outcome, kept_outcomes

__all__ = ["BatchJournal"]


class BatchJournal:
    """The outcomes of a batch, in the order given.

    What needs no work has its outcome at once: folders that were named twice, names of no workspace, and what an
    earlier attempt of this flow run has settled.

    Args:
        entries: What the batch was given.
        files: The flow run's files; they hold the journal. None outside of any: then there is no second attempt.
        warn: Told once when the journal can't be written. The work goes on: only a second attempt would miss it.
    """

    def __init__(self, entries: list[Entry], files: FlowRunFiles | None, *, warn: Callable[[str], None]) -> None:
        self._entries = entries
        self._files = files
        self._warn: Callable[[str], None] | None = warn
        work = [os.path.abspath(entry.path) for entry in entries if entry.is_work]
        kept = kept_outcomes(files, work) if files is not None else {}
        self.resumed = len(kept)
        self.outcomes: dict[int, Outcome] = {}
        self._positions: dict[str, int] = {}
        for position, entry in enumerate(entries):
            path = os.path.abspath(entry.path)
            if entry.error is not None:
                self.outcomes[position] = failed_outcome(path, entry.error)
            elif entry.duplicate_of is not None:
                self.outcomes[position] = duplicate_outcome(path, entry.duplicate_of)
            elif path in kept:
                self.outcomes[position] = kept[path]
            else:
                self._positions[path] = position
        self._write(lambda files: files.keep_member_outcomes(self.outcomes.values()))
        self._write(lambda files: files.set_total(len(entries)))

    @property
    def total(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def left(self) -> list[str]:
        """The workspaces that have no outcome yet."""
        return [path for path, position in self._positions.items() if position not in self.outcomes]

    def add(self, workspace: str, outcome: Outcome) -> None:
        """Note the outcome of a workspace, and journal it."""
        self.outcomes[self._positions[workspace]] = outcome
        self._write(lambda files: files.add_member_outcome(outcome))

    def close(self, error: AutoScorerError | None) -> list[Outcome]:
        """Every outcome, in the order given.

        Args:
            error: Why the batch ended before it came to all of them; it is the outcome of those.
        """
        for workspace in self.left():
            assert error is not None, workspace
            # Not journaled: whoever goes on does these.
            self.outcomes[self._positions[workspace]] = failed_outcome(workspace, error)
        return [self.outcomes[position] for position in range(len(self._entries))]

    def _write(self, write: Callable[[FlowRunFiles], None]) -> None:
        if self._files is None:
            return
        try:
            write(self._files)
        except OSError as error:  # a full disk
            if self._warn is not None:
                self._warn(f"The batch's journal can't be written ({error}); a second attempt would begin anew.")
                self._warn = None
