"""Who is served: whoever shows a configured token; without any, this process's own user alone.

Whether the kernel tells users apart is found out once, when the application is made. Where it does not, a token is
made at the first start and kept in the home.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.home_token import TOKEN_FILE
from ..core.secret_file import EmptySecret, make_secret, read_secret
from ..core.tokens import needs_tokens
from .peer import Lookup, uid_of_peer, way_to_tell

__all__ = ["Access", "access_of"]


@dataclass(frozen=True)
class Access:
    """Who is served.

    Args:
        uid: The one user who is served, without a token; None where a token is needed.
        lookup: How that user is told from others.
        home_token: The token of the home, where none are configured and users can't be told apart.
        is_new: Whether that token was made just now: it is shown this once.
        home: Where it is kept.
    """

    uid: int | None = None
    lookup: Lookup | None = None
    home_token: str | None = field(default=None, repr=False)
    is_new: bool = False
    home: Path | None = None

    @property
    def sentence(self) -> str:
        """Who is served, in words."""
        if self.uid is not None:
            return f"your own user alone (uid {self.uid}), without a token"
        if self.home_token is None:
            return "whoever shows one of the tokens of the configuration or the home"
        return f"whoever shows the token in {self.home}/{TOKEN_FILE}: here users can't be told apart"

    def peer_uid(self, client: Any, server: Any) -> int | None:
        """Whose a connection is, by its two addresses, where that decides; None where it can't be told."""
        return None if self.lookup is None else uid_of_peer(self.lookup, client, server)

    def sign_in(self, url: str) -> str | None:
        """A link that signs the records page in, where the token has just been made.

        Args:
            url: The API's address.
        """
        # Behind the #: browsers keep that part to themselves.
        return f"{url}/#token={self.home_token}" if self.is_new else None


def access_of(settings: Settings) -> Access:
    """Who is served with this configuration, by this process. Makes the token of the home where one is needed.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` at stage ``config`` when the home's token can't be made or used.
    """
    if needs_tokens(settings):
        return Access()
    lookup = way_to_tell()
    if lookup is not None:
        return Access(uid=os.geteuid(), lookup=lookup)
    path = settings.home / TOKEN_FILE
    try:
        is_new = not path.exists() and make_secret(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise _unusable(f"others may read {TOKEN_FILE} in the home; delete it, and a new one is made")
        token = read_secret(path).decode("ascii")
    except (EmptySecret, UnicodeDecodeError):
        raise _unusable(f"{TOKEN_FILE} in the home holds no token; delete it, and a new one is made") from None
    except OSError as error:
        raise _unusable(f"{TOKEN_FILE} in the home can't be used ({error.strerror})") from None
    return Access(home_token=token, is_new=is_new, home=settings.home)


def _unusable(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"No tokens are configured, this system does not tell users apart, and {why}. Or set AUTOSCORER_API_TOKENS "
        "(role:token, the roles are submit, organiser and admin).",
        stage=Stage.CONFIG,
    )
