"""Spellings of the first system, which work beside our own. An alias is never a second behaviour: it is replaced by our
spelling where it comes in, and nothing behind that knows it. ``docs/compatibility.md`` shows the same table to people.
"""

from __future__ import annotations

__all__ = ["SECTIONS", "SETTINGS", "UNREAD_SETTINGS"]

# --- commands and HTTP bodies ---

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
    "executors.kubernetes.enabled",
    "executors.kubernetes.namespace",
)
# Sections that hold nothing but such keys.
SECTIONS: tuple[str, ...] = (
    "celery",
    "executors.docker.resources",
    "executors.kubernetes",
    "security.resource_limits",
)

# --- meta.json ---

# --- scorers and metrics ---
