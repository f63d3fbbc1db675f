"""What the image starts unless it is told otherwise: all of AutoScorer, on port 8000, for whoever shows a token."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.home_token import TOKEN_FILE
from autoscorer.core.secret_file import EmptySecret, make_secret, read_secret

__all__ = ["main"]

CONFIG = Path("/app/config.yaml")


def main() -> None:
    """Become ``autoscorer up``, with the mounted configuration, and with a token where none is configured."""
    config = ["--config", str(CONFIG)] if CONFIG.exists() else []
    # What is wrong with it is told by the command.
    with contextlib.suppress(AutoScorerError):
        settings = load_settings(CONFIG if config else None)
        if not settings.tokens:
            os.environ["AUTOSCORER_API_TOKENS"] = f"admin:{_token_of(settings.home / TOKEN_FILE)}"
    command = ["autoscorer", "up", "--host", "0.0.0.0", "--api-port", "8000", *config]  # noqa: S104
    os.execv(sys.executable, [sys.executable, "-P", "-m", *command])  # noqa: S606 - no shell is what we want


def _token_of(path: Path) -> str:
    """The token in the home, made at the first start."""
    try:
        if not path.exists():
            make_secret(path)
        token = read_secret(path).decode("ascii")
    except (OSError, EmptySecret, UnicodeDecodeError) as error:
        sys.exit(f"No tokens are configured, and {path} can't be used ({error!r}). Set AUTOSCORER_API_TOKENS.")
    sys.stderr.write(
        "No tokens are configured, so one with the role admin was made and is kept in the home. Show it with "
        f"`docker exec CONTAINER cat {path}`, or set your own: AUTOSCORER_API_TOKENS=submit:…,admin:…\n"
    )
    return token


if __name__ == "__main__":
    main()
