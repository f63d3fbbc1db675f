"""The Result of a member of a batch: the very one that its batch tells of, as long as it lies in its workspace.

The ledger keeps what the batch says of it, and the sha256 of the whole. So it is never another run's, whoever has
written what into the workspace since, and ten thousand members cost no more than their lines.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

from ..core.errors import AutoScorerError
from .ledger.records import StoredResult, TaskRow
from .workspaces.history import result_of_digest
from .workspaces.roots import WorkspaceRoots

__all__ = ["whole"]


def whole(left: StoredResult | None, member: TaskRow, roots: WorkspaceRoots) -> StoredResult | None:
    """What a member left, with its whole Result where that is to be had. Looks at the disk.

    Args:
        left: As the ledger keeps it.
        member: Whose it is.
        roots: Where workspaces lie.
    """
    if left is None or left.result_sha256 is None:
        return left
    with contextlib.suppress(AutoScorerError):
        found = result_of_digest(roots.workspace(json.loads(member.request)["workspace"]), left.result_sha256)
        if found is not None:
            return replace(left, result=json.dumps(roots.redact(found.to_dict()), allow_nan=False))
    return left
