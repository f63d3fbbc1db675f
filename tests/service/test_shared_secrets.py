"""Homes with one ledger have the same secrets, and an installation that is moved to another ledger keeps them."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from autoscorer.cli.main import main
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.secret_file import CALLBACK_SECRET, LINK_KEY
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.links import SignedLinks
from autoscorer.service.policy import Caller, Subject
from autoscorer.service.shared_secrets import share_secrets
from autoscorer.service.webhooks.signatures import callback_secret
from pydantic import SecretStr

from ..support.ledger import opened
from ..support.postgres import postgres as postgres

NAMES = (CALLBACK_SECRET, LINK_KEY)


@pytest.fixture
def homes(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> list[Settings]:
    url = SecretStr(request.getfixturevalue("postgres").ledger_url())
    found = [settings.model_copy(update={"ledger_url": url, "home": tmp_path / f"home-{n}"}) for n in range(4)]
    asyncio.run(upgrade_ledger(found[0]))
    return found


async def start(settings: Settings) -> None:
    async with opened(settings) as ledger:
        await share_secrets(ledger, settings)


def secrets_of(settings: Settings) -> list[bytes]:
    return [(settings.home / name).read_bytes().strip() for name in NAMES]


@pytest.mark.slow
def test_homes_that_start_at_once_have_the_same_secrets(homes: list[Settings]) -> None:
    async def work() -> None:
        await asyncio.gather(*(start(home) for home in homes))

    asyncio.run(work())
    assert len({tuple(secrets_of(home)) for home in homes}) == 1
    assert {stat.S_IMODE((home.home / name).stat().st_mode) for home in homes for name in NAMES} == {0o600}
    assert len({callback_secret(home) for home in homes}) == 1
    signature, _ = SignedLinks(homes[0].home).sign("task", Caller("c", "admin"), Subject())
    assert SignedLinks(homes[3].home).check("task", signature).role == "admin"
    # A home that lost them, or comes later, gets the same.
    before = secrets_of(homes[0])
    for name in NAMES:
        (homes[1].home / name).unlink()
    asyncio.run(start(homes[1]))
    assert secrets_of(homes[1]) == before


@pytest.mark.slow
def test_the_first_home_brings_its_secrets_along_and_a_configured_one_is_stronger(homes: list[Settings]) -> None:
    homes[0].home.mkdir()
    (homes[0].home / CALLBACK_SECRET).write_bytes("knöwn to receivers\n".encode())
    asyncio.run(start(homes[0]))
    asyncio.run(start(homes[1]))
    assert callback_secret(homes[0]) == callback_secret(homes[1]) == "knöwn to receivers".encode()
    given = homes[2].callbacks.model_copy(update={"secret": SecretStr("given")})
    configured = homes[2].model_copy(update={"callbacks": given})
    asyncio.run(start(configured))
    assert callback_secret(configured) == b"given" and not (configured.home / CALLBACK_SECRET).exists()
    assert callback_secret(homes[0]) == "knöwn to receivers".encode()
    homes[3].home.mkdir()
    (homes[3].home / LINK_KEY).write_bytes(b"")
    with pytest.raises(AutoScorerError, match=r"link-key can't be shared .* is empty") as caught:
        asyncio.run(start(homes[3]))
    assert str(homes[3].home) not in caught.value.message


def test_a_home_alone_keeps_its_own(settings: Settings) -> None:
    asyncio.run(start(settings))
    assert not any((settings.home / name).exists() for name in NAMES)


@pytest.mark.slow
def test_an_installation_that_is_moved_keeps_its_secrets(
    homes: list[Settings], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asyncio.run(upgrade_ledger(settings))
    ours, _ = callback_secret(settings), SignedLinks(settings.home).sign("task", Caller("c", "admin"), Subject())
    before = secrets_of(settings)
    file = str(tmp_path / "ledger.jsonl")
    assert main(["ledger", "export", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["secrets"] == 2
    # Another home was there before, and signed with its own.
    asyncio.run(start(homes[0]))
    assert callback_secret(homes[0]) != ours
    assert homes[0].ledger_url is not None
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", homes[0].ledger_url.get_secret_value())
    assert main(["ledger", "import", file, "--json"]) == 0
    for home in homes:
        asyncio.run(start(home))
        assert secrets_of(home) == before
    # And back, into a file and the home of its API.
    assert main(["ledger", "export", file, "--json"]) == 0
    monkeypatch.delenv("AUTOSCORER_LEDGER_URL")
    monkeypatch.setenv("AUTOSCORER_HOME", str(tmp_path / "new"))
    assert main(["ledger", "import", file, "--json"]) == 0
    moved = load_settings()
    assert secrets_of(moved) == before and callback_secret(moved) == ours
    assert stat.S_IMODE((moved.home / CALLBACK_SECRET).stat().st_mode) == 0o600
