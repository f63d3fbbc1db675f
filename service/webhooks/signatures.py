"""How a callback proves who sent it: HMAC-SHA256 over its time and its body.

The standard library only, so that a receiver may copy ``verify`` or import it.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.secret_file import CALLBACK_SECRET, UnusableSecret, home_secret

__all__ = ["callback_secret", "sign", "verify"]


def sign(secret: str | bytes, body: bytes, moment: int) -> str:
    """The value of the header ``X-AutoScorer-Signature``.

    Args:
        secret: The shared secret.
        body: The request's body.
        moment: When it is sent, in seconds since 1970.

    Returns:
        ``t=<moment>,v1=<hex HMAC-SHA256 of "<moment>.<body>">``.
    """
    return f"t={moment},v1={_mac(secret, body, str(moment))}"


def verify(
    secret: str | bytes, header: str | None, body: bytes, tolerance: float = 300, *, now: float | None = None
) -> bool:
    """Whether a callback comes from who knows the secret, and just now. For receivers.

    Args:
        secret: What ``callbacks.secret`` holds, or the file ``callback-secret`` in the sender's home.
        header: The header ``X-AutoScorer-Signature``; None when the request has none.
        body: The request's body, byte for byte as it came, not parsed and written again.
        tolerance: Seconds that the signature's time may lie from the receiver's clock. What is older may be a
            recorded request that somebody sends again.
        now: The receiver's clock in seconds since 1970; the system's when None.

    Returns:
        True when it may be trusted. Any malformed header is False, never an exception.
    """
    moments, macs = [], []
    for part in (header or "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            moments.append(value)
        elif name == "v1":
            macs.append(value)
    # Twelve digits reach past the year 30000; a longer number is not a time, and int() of a huge one is slow.
    if len(moments) != 1 or not (moments[0].isascii() and moments[0].isdigit() and len(moments[0]) <= 12):
        return False
    if abs((time.time() if now is None else now) - int(moments[0])) > tolerance:
        return False
    expected = _mac(secret, body, moments[0]).encode()
    # Compared in constant time; several v1 may stand there, one for each secret while it is changed.
    return any(hmac.compare_digest(expected, mac.encode(errors="replace")) for mac in macs)


def callback_secret(settings: Settings) -> bytes:
    """The secret of this installation: ``callbacks.secret``, else the home's, made once and readable by its owner.

    Where homes share a ledger, ``share_secrets`` has given them the same.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` at stage ``config`` when the secret is empty, or its file can't be read or
            made.
    """
    if settings.callbacks.secret is not None:
        given = settings.callbacks.secret.get_secret_value().encode()
        if not given.strip():
            raise _unusable("callbacks.secret is empty")
        return given
    try:
        return home_secret(settings.home / CALLBACK_SECRET)
    except UnusableSecret as why:
        raise _unusable(str(why)) from None


def _mac(secret: str | bytes, body: bytes, moment: str) -> str:
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, moment.encode() + b"." + body, hashlib.sha256).hexdigest()


def _unusable(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"Callbacks can't be signed: {why}. Set callbacks.secret to a long random text.",
        stage=Stage.CONFIG,
    )
