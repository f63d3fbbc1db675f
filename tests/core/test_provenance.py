"""What a Result says of where it comes from has its forms."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from autoscorer.core.provenance import sha256_file, utc_now


def test_digest_and_time_have_their_forms(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).digest()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", utc_now())
