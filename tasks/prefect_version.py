"""Which Prefect the patches of its inside were made for; nothing of Prefect is imported to find out.

There are two patches: ``flows/engine_patch.py`` in the processes of ours that run Prefect's engine, and
``service/prefect/server.py`` in the server that ``autoscorer up`` starts. Both replace a method that Prefect promises
to nobody, so on another version they may do nothing, or harm.
"""

from __future__ import annotations

from importlib.metadata import version

from ..core.errors import AutoScorerError, ErrorCode

__all__ = ["PATCHED", "require_patched_version"]

# The versions that the patches were tested with. The tests hold it to the version that pyproject.toml pins.
PATCHED = ("3.9.1",)


def require_patched_version() -> None:
    """See that the installed Prefect is one that the patches were made for.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when it is not; names both versions.
    """
    found = version("prefect")
    if found not in PATCHED:
        made_for = " or ".join(PATCHED)
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"Prefect {found} is installed, and AutoScorer changes methods inside Prefect {made_for}: with another "
            f"version, runs could be lost. Install that one: pip install 'prefect=={PATCHED[-1]}'.",
            details={"installed": found, "made_for": list(PATCHED)},
        )
