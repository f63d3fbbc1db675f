"""Spellings of the first system, which work beside our own. An alias is never a second behaviour: it is replaced by our
spelling where it comes in, and nothing behind that knows it. ``docs/compatibility.md`` shows the same table to people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, overload

__all__ = [
    "BODY_KEYS",
    "FILE_OPTION",
    "META_KEYS",
    "META_URIS",
    "METRICS",
    "SCORERS",
    "SECTIONS",
    "SETTINGS",
    "UNREAD_SETTINGS",
    "in_our_words",
    "metric_aliases",
    "our_scorer",
]

# --- commands and HTTP bodies ---

# Keys of bodies and queries of /scorers/…: theirs, and ours.
BODY_KEYS: Mapping[str, str] = {"file_path": "path", "scorer_name": "scorer", "auto_watch": "watch"}
# Of the commands that take a scorer's file.
FILE_OPTION: Mapping[str, str] = {"--file-path": "FILE"}


def in_our_words(given: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """What was given, with our keys instead of theirs.

    Args:
        given: Values by key.
        aliases: Their keys, and ours.

    Raises:
        ValueError: Ours and theirs are both given, and differ.
    """
    ours = {key: value for key, value in given.items() if key not in aliases}
    for theirs, key in aliases.items():
        if theirs in given:
            if key in ours and ours[key] != given[theirs]:
                raise ValueError(f"{key} and {theirs} mean the same, and differ; give {key} alone")
            ours[key] = given[theirs]
    return ours


# --- configuration ---

# Keys of config.yaml, and of the variables of the same paths.
SETTINGS: dict[str, str] = {
    "executors.docker.host": "executors.docker.base_url",
    "executors.docker.timeout": "security.defaults.timeout",
    "executors.docker.resources.cpu": "security.defaults.cpu",
    "executors.docker.resources.memory": "security.defaults.memory",
    "executors.docker.resources.gpu": "security.defaults.gpu",
    "images.registry": "images.registry_prefix",
    "security.resource_limits.max_cpu": "security.limits.cpu",
    "security.resource_limits.max_memory": "security.limits.memory",
}
# Keys that are accepted and not read; what is said of them is in core/config_spellings.py.
UNREAD_SETTINGS: tuple[str, ...] = (
    "celery.broker",
    "celery.backend",
)
# Sections that hold nothing but such keys.
SECTIONS: tuple[str, ...] = (
    "celery",
    "executors.docker.resources",
    "security.resource_limits",
)

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
