"""What a process of the service says in its log when it starts."""

from __future__ import annotations

import logging

from ..core.config import Settings
from ..executors.images.policy import which_images

__all__ = ["tell_configuration"]


def tell_configuration(settings: Settings) -> None:
    """Say at a start what an operator must know of the configuration: which images may be run, and what is not read."""
    logger = logging.getLogger("autoscorer.configuration")
    # Whoever wrote an empty list may have meant that nothing is allowed.
    level = logging.INFO if settings.security.allowed_images else logging.WARNING
    logger.log(level, "%s", which_images(settings))
    for note in settings.notes:
        logger.warning("%s", note)
