"""``autoscorer tokens``: made, listed and revoked by a person and by a program."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli import tokens
from autoscorer.cli.main import main
from autoscorer.core.tokens import TOKENS_FILE, TokenFile


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["tokens", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_a_token_is_shown_once_and_then_never_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = answered(capsys, "new", "--role", "submit", "--team", "team-a", "--note", "Ada")
    made = answer["data"]
    assert code == 0 and made["token"].startswith("as_") and (made["team"], made["note"]) == ("team-a", "Ada")
    _, answer = answered(capsys, "list")
    (listed,) = answer["data"]["tokens"]
    assert listed == {key: value for key, value in made.items() if key != "token"}
    assert made["token"] not in (home / TOKENS_FILE).read_text() and "sha256" not in listed
    code, answer = answered(capsys, "revoke", made["id"])
    assert code == 0 and answer["data"]["id"] == made["id"]
    assert TokenFile(home).records() == ()
    code, answer = answered(capsys, "revoke", made["id"])
    assert code == 2 and answer["error"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "arguments",
    [
        ("new",),
        ("new", "--role", "nobody"),
        ("new", "--role", "submit", "--team", "Team A"),
        ("new", "--role", "organiser"),
        ("new", "--role", "admin", "--benchmark", "flowers"),
        ("revoke",),
        (),
    ],
)
def test_wrong_usage_makes_nothing(home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    code, answer = answered(capsys, *arguments)
    assert code == 2 and answer["error"]["code"] == "INVALID_REQUEST"
    assert not (home / TOKENS_FILE).exists()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a person is shown of what a command answers."""
    _, answer = answered(capsys, *arguments)
    tokens.render(answer["data"], Namespace(action=arguments[0]))
    return capsys.readouterr().out


def test_a_person_is_told_in_lines(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "There are no tokens" in said(capsys, "list")
    made = said(capsys, "new", "--role", "organiser", "--benchmark", "flowers", "--benchmark", "round/cats")
    token, about = made.splitlines()
    assert token.startswith("as_") and "organiser of flowers, round/cats" in about and "this once" in about
    (record,) = TokenFile(home).records()
    assert said(capsys, "list").split()[0] == record.id
    assert said(capsys, "revoke", record.id) == f"Revoked {record.id}: organiser of flowers, round/cats.\n"
    assert "team team-a" in said(capsys, "new", "--role", "submit", "--team", "team-a")
