"""Links that open a task's artifacts for a short time without a token: a browser that follows one sends none.

The signature covers the task, whoever asked for the link (the role, and the team or the task's benchmark), and the
moment until which it is good. Its key lies in the home, so every API of the home knows it; homes that share a ledger
have the same (``shared_secrets.py``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import cast

from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.secret_file import LINK_KEY as KEY_FILE
from ..core.secret_file import UnusableSecret, home_secret
from ..schemas.task import Role
from .policy import Caller, Subject

__all__ = ["GOOD_FOR", "KEY_FILE", "SignedLinks"]

# Seconds: long enough to read a report and to follow its links, short enough to be worth nothing where it is found.
GOOD_FOR = 600

_SIGNATURE = re.compile(r"([0-9]{1,12})-(submit|organiser|admin)(?:\.([A-Za-z0-9_-]+))?-([0-9a-f]{64})", re.ASCII)


class SignedLinks:
    """Signs links and reads them, with a key in the home that is made at the first use."""

    def __init__(self, home: Path) -> None:
        self._path = home / KEY_FILE

    def sign(self, task_id: str, caller: Caller, subject: Subject, *, now: float | None = None) -> tuple[str, int]:
        """A signature, and when it ends, in seconds since 1970 as ``now``.

        Args:
            task_id: The task.
            caller: Who asks for the link, and may see the task's artifacts.
            subject: Whose the task is: of an organiser's benchmarks the link knows this one's alone.
            now: Seconds since 1970.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` when the key can't be made or read.
        """
        expires = int(time.time() if now is None else now) + GOOD_FOR
        of = caller.team if caller.role != "organiser" else subject.benchmark
        bound = f".{_encoded(of)}" if of is not None else ""
        return f"{expires}-{caller.role}{bound}-{self._mac(task_id, caller.role, of, expires)}", expires

    def check(self, task_id: str, signature: str, *, now: float | None = None) -> Caller:
        """Whose link it is: who may see no more than whoever asked for it.

        Raises:
            AutoScorerError: ``FORBIDDEN`` for a signature that is not ours, of another task, or no longer good.
        """
        found = _SIGNATURE.fullmatch(signature)
        role = cast(Role, found[2]) if found is not None else "submit"
        of = _decoded(found[3]) if found is not None and found[3] is not None else None
        expires = int(found[1]) if found is not None else 0
        if found is None or not hmac.compare_digest(self._mac(task_id, role, of, expires), found[4]):
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
        if role == "organiser":
            return Caller("link-organiser", role, benchmarks=frozenset() if of is None else frozenset({of}))
        return Caller(f"link-{role}", role, of)

    def _mac(self, task_id: str, role: Role, of: str | None, expires: int) -> str:
        bound = "" if of is None else f"\n{_encoded(of)}"
        text = f"autoscorer link 1\n{task_id}\n{role}\n{expires}{bound}"
        return hmac.new(self._key(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def _key(self) -> bytes:
        try:
            return home_secret(self._path)
        except UnusableSecret as why:
            message = f"Links can't be signed: {why}."
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, message, stage=Stage.CONFIG) from None


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii").rstrip("=")


def _decoded(text: str) -> str:
    """What was encoded; any other text for what was not: the signature says so then."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "surrogatepass")
    except ValueError:
        return ""
