"""The secrets that homes with one ledger have in common: receivers of callbacks know one of them, whoever sends."""

from __future__ import annotations

import asyncio

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.secret_file import CALLBACK_SECRET, LINK_KEY, UnusableSecret, home_secret
from ..core.workspace import write_atomic
from .ledger.ledger import Ledger

__all__ = ["share_secrets"]


async def share_secrets(ledger: Ledger, settings: Settings) -> None:
    """Have this home's secrets be the installation's; for the start of an API, before anything is signed.

    The ledger has those of the home that came first. They are in this home's files from then on, where operators find
    them. A ledger in a file is of one home, which keeps its own.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when a secret of this home can't be read or written.
    """
    if not ledger.is_shared:
        return
    for name in (CALLBACK_SECRET, LINK_KEY):
        if name == CALLBACK_SECRET and settings.callbacks.secret is not None:
            continue
        place = settings.home / name
        try:
            ours = await asyncio.to_thread(home_secret, place)
            # Whatever bytes somebody has put there; PostgreSQL takes text.
            common = (await ledger.secret(name, ours.decode("latin-1"))).encode("latin-1")
            if common != ours:
                await asyncio.to_thread(write_atomic, place, common + b"\n", mode=0o600)
        except (UnusableSecret, OSError) as why:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"The secret {name} can't be shared with the other homes of this ledger: "
                f"{why if isinstance(why, UnusableSecret) else why.strerror}.",
                stage=Stage.CONFIG,
            ) from None
