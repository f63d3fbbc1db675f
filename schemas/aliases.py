"""Spellings of the first system, which work beside our own. An alias is never a second behaviour: it is replaced by our
spelling where it comes in, and nothing behind that knows it. ``docs/compatibility.md`` shows the same table to people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import overload

__all__ = ["META_KEYS", "META_URIS", "METRICS", "SCORERS", "metric_aliases", "our_scorer"]

# --- commands and HTTP bodies ---

# --- configuration ---

# --- meta.json ---

# Key by its path: ours. Those of one object come first, as they are folded in this order.
META_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "time_limit": "timeout",
        "scorer_params": "params",
        "container.network_policy": "network_policy",
        "resources.gpus": "resources.gpu",
        "container.gpus": "resources.gpu",
    }
)

# What input_uri and output_uri may say, with the folder's name in it: the workspace's own.
META_URIS = ("file://./{}", "file:///workspace/{}", "/workspace/{}", "./{}", "{}")

# --- scorers and metrics ---

# Id: ours. No file may register a scorer under the first system's id, as under no built-in's.
SCORERS: Mapping[str, str] = MappingProxyType({"classification_acc": "classification_accuracy"})

# By scorer, a metric's name: ours. ``*`` stands for a label. Names of the same number alone: the first system's mAP
# was another number than any of ours.
METRICS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "classification_accuracy": MappingProxyType({"acc_*": "recall/*"}),
        "classification_f1": MappingProxyType({"f1_*": "f1/*"}),
        "detection_map": MappingProxyType({"map_50_95": "map"}),
        "regression_rmse": MappingProxyType({"r_squared": "r2"}),
    }
)


@overload
def our_scorer(scorer_id: str) -> str: ...
@overload
def our_scorer(scorer_id: str | None) -> str | None: ...
def our_scorer(scorer_id: str | None) -> str | None:
    """A scorer's id in our spelling."""
    return scorer_id if scorer_id is None else SCORERS.get(scorer_id, scorer_id)


def metric_aliases(scorer: str, metrics: Iterable[str]) -> dict[str, str]:
    """The first system's names of a scorer's metrics, each with ours.

    Args:
        scorer: Id of a built-in scorer; others have none.
        metrics: Our names. None of them is an alias.
    """
    names = list(metrics)
    found: dict[str, str] = {}
    for alias, ours in METRICS.get(scorer, {}).items():
        prefix, star, _ = ours.partition("*")
        for name in names:
            if name == ours or (star and name.startswith(prefix)):
                found[alias.replace("*", name[len(prefix) :]) if star else alias] = name
    return {alias: name for alias, name in found.items() if alias not in names}
