"""Tokens of a home: kept as digests, changed whole or not at all, heeded at once, refused where others may write."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.tokens import TOKENS_FILE, TokenFile, needs_tokens
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st


def test_a_token_is_kept_nowhere(home: Path) -> None:
    file = TokenFile(home)
    token, record = file.add("submit", team="team-a", note="Ada, for the finals")
    assert len(token) >= 43 and token.startswith("as_") and not {",", "@", ":"} & set(token)
    path = home / TOKENS_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()
    assert record.digest == hashlib.sha256(token.encode()).digest()
    assert TokenFile(home).records() == (record,)
    assert record.sha256 not in repr(record)


def test_what_another_process_changes_is_seen_without_a_restart(home: Path) -> None:
    reading, writing = TokenFile(home), TokenFile(home)
    assert reading.records() == () and not reading.changed() and not reading.exists()
    _, first = writing.add("submit", team="a")
    assert reading.changed() and reading.records() == (first,) and not reading.changed()
    _, second = writing.add("organiser", benchmarks=["flowers", "flowers", "round-1/cats"])
    assert second.benchmarks == ("flowers", "round-1/cats")
    assert reading.records() == (first, second)
    assert writing.revoke(first.id) == first
    assert reading.records() == (second,)
    writing.revoke(second.id)
    # A file without tokens still says that they are needed.
    assert reading.records() == () and reading.exists()
    (home / TOKENS_FILE).unlink()
    assert reading.records() == () and not reading.exists()


def test_a_change_of_the_same_size_in_the_same_moment_is_seen(home: Path) -> None:
    file, other = TokenFile(home), TokenFile(home)
    file.add("submit", team="a")
    (before,) = other.records()
    status = (home / TOKENS_FILE).stat()
    text = (home / TOKENS_FILE).read_text().replace('"a"', '"b"')
    fresh = home / "fresh"
    fresh.write_text(text)
    fresh.chmod(0o600)
    os.utime(fresh, ns=(status.st_atime_ns, status.st_mtime_ns))
    fresh.rename(home / TOKENS_FILE)
    (after,) = other.records()
    assert (before.team, after.team) == ("a", "b")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"role": "submit", "team": "Team A"}, "a team has 1 to 64 of"),
        ({"role": "submit", "team": ""}, "a team has 1 to 64 of"),
        ({"role": "admin", "team": "a"}, "a team goes with the role submit"),
        ({"role": "organiser"}, "needs at least one"),
        ({"role": "submit", "benchmarks": ["flowers"]}, "benchmarks go with the role organiser"),
        ({"role": "organiser", "benchmarks": ["../flowers"]}, "a benchmark is named by its path"),
        ({"role": "submit", "note": "two\nlines"}, "a note is one line"),
        ({"role": "submit", "note": "x" * 201}, "at most 200"),
    ],
)
def test_what_does_not_go_together_makes_no_token(home: Path, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(AutoScorerError, match=why) as caught:
        TokenFile(home).add(asked.pop("role"), **asked)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert not (home / TOKENS_FILE).exists()


def test_revoking_what_is_not_there_changes_nothing(home: Path) -> None:
    file = TokenFile(home)
    file.add("admin")
    before = (home / TOKENS_FILE).read_bytes()
    with pytest.raises(AutoScorerError, match="autoscorer tokens list") as caught:
        file.revoke("0" * 12)
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert (home / TOKENS_FILE).read_bytes() == before


def test_many_who_change_it_at_the_same_time_lose_nothing(home: Path) -> None:
    made: list[str] = []

    def add(number: int) -> None:
        made.append(TokenFile(home).add("submit", team=f"team-{number}")[1].id)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = TokenFile(home).records()
    assert {record.id for record in records} == set(made) and len(records) == 8


@pytest.mark.parametrize("mode", [0o620, 0o604, 0o602, 0o666])
def test_a_file_that_others_may_change_or_read_is_not_used(home: Path, mode: int) -> None:
    file = TokenFile(home)
    file.add("admin")
    (home / TOKENS_FILE).chmod(mode)
    with pytest.raises(AutoScorerError, match="by others") as caught:
        file.records()
    assert caught.value.code is ErrorCode.INVALID_REQUEST and str(home) not in caught.value.message
    # Told once, and none of its tokens counts until it is repaired.
    assert file.records() == ()
    (home / TOKENS_FILE).chmod(0o640)  # as a mounted secret may be
    assert len(file.records()) == 1


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "role", "team", "sha256", "x"]), inner, max_size=5)
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_stands_in_the_file_is_read_or_told_in_words(home: Path, content: bytes) -> None:
    path = home / TOKENS_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        assert TokenFile(home).records() == ()
    except AutoScorerError as error:
        assert error.code is ErrorCode.INVALID_REQUEST and "autoscorer tokens new" in error.message


def test_an_id_stands_once(home: Path) -> None:
    file = TokenFile(home)
    file.add("admin")
    path = home / TOKENS_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))
    with pytest.raises(AutoScorerError, match="appears twice"):
        file.records()


def test_a_file_of_tokens_means_that_they_are_needed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not needs_tokens(settings)
    file = TokenFile(settings.home)
    _, record = file.add("submit")
    assert needs_tokens(settings)
    file.revoke(record.id)
    assert needs_tokens(settings)
