"""The token that an API without configured tokens makes where it can't tell users apart, and where it is found."""

from __future__ import annotations

from .config import Settings
from .secret_file import EmptySecret, read_secret

__all__ = ["TOKEN_FILE", "home_token"]

TOKEN_FILE = "api-token"  # noqa: S105 - the name of a file


def home_token(settings: Settings) -> str | None:
    """The token in the home; None where there is none, or none that this user may read."""
    try:
        return read_secret(settings.home / TOKEN_FILE).decode("ascii")
    except (OSError, EmptySecret, UnicodeDecodeError):
        return None
