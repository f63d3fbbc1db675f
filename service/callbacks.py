"""The documented import path of ``verify``, for receivers of callbacks; it stands in ``webhooks/signatures.py``."""

from .webhooks.signatures import verify

__all__ = ["verify"]
