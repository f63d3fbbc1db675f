"""AutoScorer: a workspace goes in, a trustworthy Result comes out.

The public names below are loaded on first use: ``import autoscorer`` must stay cheap, because every
command, every worker and every hot-reloaded scorer pays for it. Importing this package never imports
Prefect, pandas or scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .core.version import __version__

_EXPORTS = {
    "AutoScorerError": "core.errors",
    "Client": "client",
    "ErrorCode": "core.errors",
    "Settings": "core.config",
    "load_settings": "core.config",
    "Job": "schemas.job",
    "Result": "schemas.result",
    "BaseScorer": "scorers.base",
    "BaseCSVScorer": "scorers.base_csv",
    "register": "scorers.registry",
    "validate_workspace": "tasks.validate",
    "run_workspace": "tasks.run",
    "score": "tasks.score_files",
    "score_workspace": "tasks.score",
    "run_pipeline": "tasks.pipeline",
}

__all__ = [
    "AutoScorerError",
    "BaseCSVScorer",
    "BaseScorer",
    "Client",
    "ErrorCode",
    "Job",
    "Result",
    "Settings",
    "__version__",
    "load_settings",
    "register",
    "run_pipeline",
    "run_workspace",
    "score",
    "score_workspace",
    "validate_workspace",
]

if TYPE_CHECKING:
    from .client import Client
    from .core.config import Settings, load_settings
    from .core.errors import AutoScorerError, ErrorCode
    from .schemas.job import Job
    from .schemas.result import Result
    from .scorers.base import BaseScorer
    from .scorers.base_csv import BaseCSVScorer
    from .scorers.registry import register
    from .tasks.pipeline import run_pipeline
    from .tasks.run import run_workspace
    from .tasks.score import score_workspace
    from .tasks.score_files import score
    from .tasks.validate import validate_workspace


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
