"""The names by which Prefect and its integrations take settings from the environment."""

from __future__ import annotations

import functools
import warnings
from typing import Any

__all__ = ["known_variables"]


@functools.cache
def known_variables() -> frozenset[str]:
    """All of them, in small letters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the integrations' own, while they are imported
        from prefect.settings import Settings
        from prefect_kubernetes.settings import KubernetesSettings
        from prefect_redis.cleanup_queue import RedisWorkerCleanupQueueSettings
        from prefect_redis.client import RedisMessagingSettings
    known = names_of(Settings) | names_of(KubernetesSettings, "prefect_integrations_kubernetes")
    known |= {f"prefect_redis_messaging_{field}" for field in RedisMessagingSettings.model_fields}
    known |= {f"prefect_redis_worker_cleanup_queue_{field}" for field in RedisWorkerCleanupQueueSettings.model_fields}
    return frozenset(name.lower() for name in known)


def names_of(model: Any, prefix: str = "prefect") -> set[str]:
    """Every name in the environment of a model's settings, those of its parts among them."""
    found = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if hasattr(inner, "model_fields"):
            found |= names_of(inner, f"{prefix}_{name}")
        alias = field.validation_alias
        found |= {choice for choice in getattr(alias, "choices", [alias]) if isinstance(choice, str)}
        found.add(f"{prefix}_{name}")
    return found
