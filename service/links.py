"""Links that open a task's artifacts for a short time without a token: a browser that follows one sends none.

The signature covers the task, the role of whoever asked for the link and the moment until which it is good. Its key
lies in the home, so every API of the home knows it; homes that share a ledger have the same (``shared_secrets.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from pathlib import Path

from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.secret_file import LINK_KEY as KEY_FILE
from ..core.secret_file import UnusableSecret, home_secret
from ..schemas.task import Role

__all__ = ["GOOD_FOR", "KEY_FILE", "SignedLinks"]

# Seconds: long enough to read a report and to follow its links, short enough to be worth nothing where it is found.
GOOD_FOR = 600

_SIGNATURE = re.compile(r"([0-9]{1,12})-(submit|admin)-([0-9a-f]{64})", re.ASCII)


class SignedLinks:
    """Signs links and reads them, with a key in the home that is made at the first use."""

    def __init__(self, home: Path) -> None:
        self._path = home / KEY_FILE

    def sign(self, task_id: str, role: Role, *, now: float | None = None) -> tuple[str, int]:
        """A signature, and when it ends, in seconds since 1970 as ``now``.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` when the key can't be made or read.
        """
        expires = int(time.time() if now is None else now) + GOOD_FOR
        return f"{expires}-{role}-{self._mac(task_id, role, expires)}", expires

    def check(self, task_id: str, signature: str, *, now: float | None = None) -> Role:
        """Whose link it is.

        Raises:
            AutoScorerError: ``FORBIDDEN`` for a signature that is not ours, of another task, or no longer good.
        """
        found = _SIGNATURE.fullmatch(signature)
        role: Role = "admin" if found is not None and found[2] == "admin" else "submit"
        expires = int(found[1]) if found is not None else 0
        if found is None or not hmac.compare_digest(self._mac(task_id, role, expires), found[3]):
            raise AutoScorerError(
                ErrorCode.FORBIDDEN,
                "This link is not valid: it was altered, belongs to another task, or was cut off. Open the task on the "
                "records page again, or ask POST /tasks/{task_id}/links for a new one.",
            )
        left = expires - (time.time() if now is None else now)
        # A clock that was put back must not make a link good for longer.
        if not 0 < left <= GOOD_FOR + 60:
            raise AutoScorerError(
                ErrorCode.FORBIDDEN,
                f"This link was valid for {GOOD_FOR // 60} minutes and has expired. Open the task on the records "
                "page again, or ask POST /tasks/{task_id}/links for a new one.",
            )
        return role

    def _mac(self, task_id: str, role: Role, expires: int) -> str:
        text = f"autoscorer link 1\n{task_id}\n{role}\n{expires}"
        return hmac.new(self._key(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def _key(self) -> bytes:
        try:
            return home_secret(self._path)
        except UnusableSecret as why:
            message = f"Links can't be signed: {why}."
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, message, stage=Stage.CONFIG) from None
