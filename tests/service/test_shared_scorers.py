"""Hosts with a home each and one ledger: what is loaded through one of them is what all of them show and score with."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.registry import ScorerRegistry
from autoscorer.scorers.registry.needed import Needed, find_needed
from autoscorer.service.flow_runs import FlowRuns
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.policy import Caller
from autoscorer.service.scorers.hot_reload import ScorerService
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.worker.shared_scorers import SharedScorers
from pydantic import SecretStr

from ..api.test_api_scorers import HELPED, SCORER, write
from ..support.ledger import opened
from ..support.postgres import Postgres
from ..support.postgres import own_postgres as own_postgres
from ..support.postgres import postgres as postgres
from ..support.workspaces import write_workspace

pytestmark = pytest.mark.slow


class Host:
    """An API, and beside it what a worker of another host does before each run."""

    def __init__(self, settings: Settings, service: ScorerService) -> None:
        self.settings, self.service = settings, service

    async def do(self, work: Callable[[ScorerService], Any]) -> Any:
        return await self.service.in_thread(lambda: work(self.service))

    async def load(self, path: Path, **options: Any) -> Any:
        return await self.do(lambda service: service.load(str(path), **options))

    async def shown(self) -> dict[str, str]:
        """Version by id, of what is loaded from files."""
        listed = await self.do(lambda service: service.listing())
        return {each.id: each.version for each in listed.scorers if each.origin in ("file", "directory")}

    async def shows(self, **versions: str) -> None:
        await until(lambda: self._shows(versions))

    async def _shows(self, versions: dict[str, str]) -> bool:
        return await self.shown() == versions


async def until(look: Callable[[], Awaitable[bool]], within: float = 300) -> None:
    deadline = time.monotonic() + within
    while not await look():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.05)


class Hosts:
    def __init__(self, tmp_path: Path, postgres: Postgres) -> None:
        self._folder = tmp_path
        self.root = tmp_path / "root"
        self.workspace = write_workspace(self.root, "ws")
        self.url = SecretStr(postgres.ledger_url())
        asyncio.run(upgrade_ledger(self.settings("a")))

    def settings(self, name: str, **changes: Any) -> Settings:
        given = {"home": self._folder / f"home-{name}", "workspace_roots": (self.root,), "ledger_url": self.url}
        return Settings().model_copy(update={**given, **changes})  # the environment has the one home of a test

    @asynccontextmanager
    async def api(self, name: str, **changes: Any) -> AsyncIterator[Host]:
        settings = self.settings(name, **changes)
        roots, registry = WorkspaceRoots(settings), ScorerRegistry(entry_points=False)
        async with (
            opened(settings) as ledger,
            ScorerService.running(settings, roots, ledger, registry) as service,
        ):
            yield Host(settings, service)

    @asynccontextmanager
    async def worker(self, name: str = "worker") -> AsyncIterator[Callable[[str], Awaitable[Needed]]]:
        """Gives what a run that is taken now gets for a scorer."""
        settings = self.settings(name)
        async with FlowRuns.opened(settings) as runs:
            scorers = SharedScorers(runs)

            async def needed(scorer_id: str) -> Needed:
                await scorers.up_to_date()
                return await asyncio.to_thread(find_needed, settings, scorer_id)

            yield needed


@pytest.fixture
def hosts(tmp_path: Path, postgres: Postgres) -> Hosts:
    return Hosts(tmp_path, postgres)


def bytes_of(needed: Needed) -> bytes | None:
    return None if needed.copy is None else needed.copy.files[needed.copy.path]


def test_what_one_host_loads_reloads_and_unloads_is_every_hosts(hosts: Hosts, tmp_path: Path) -> None:
    file = write(tmp_path / "disk-of-a" / "one.py", "one", version="1.0.0")

    async def work() -> None:
        async with hosts.api("a") as a, hosts.api("b") as b, hosts.worker() as needed:
            assert bytes_of(await needed("one")) is None
            await a.load(file)
            # The next run has it, on whichever host, and wherever the file is.
            first = file.read_bytes()
            assert bytes_of(await needed("one")) == first
            await b.shows(one="1.0.0")
            view = await b.do(lambda service: service.get("one"))
            assert view.sha256 == hashlib.sha256(first).hexdigest() and view.status == "ok"
            # The worker's host has no such file.
            file.rename(file.with_name("_moved"))
            assert bytes_of(await needed("one")) == first
            file.with_name("_moved").rename(file)

            write(file, "one", version="2.0.0")
            changes = await b.do(lambda service: service.reload("one"))
            assert [(each.id, each.change) for each in changes.changes] == [("one", "new version")]
            assert bytes_of(await needed("one")) == file.read_bytes()
            await a.shows(one="2.0.0")

            gone = await a.do(lambda service: service.unload("one"))
            assert gone.unloaded == ["one"] and file.exists()
            assert bytes_of(await needed("one")) is None
            await b.shows()

    asyncio.run(work())


def test_a_file_is_followed_by_the_host_that_loaded_it_and_a_broken_one_changes_nothing(
    hosts: Hosts, tmp_path: Path
) -> None:
    folder = tmp_path / "disk-of-a"
    file = write(folder / "one.py", "one")
    helper = folder / "_helper.py"
    helper.write_text("FACTOR = 2")

    async def work() -> None:
        async with hosts.api("a") as a, hosts.api("b") as b, hosts.worker() as needed:
            await a.load(file)
            await b.shows(one="1.0.0")
            good = write(file, "one", version="2.0.0").read_bytes()
            await b.shows(one="2.0.0")
            file.write_text("def (:")
            await until(lambda: is_stale(a))
            assert bytes_of(await needed("one")) == good and await b.shown() == {"one": "2.0.0"}
            with pytest.raises(AutoScorerError) as caught:
                await a.load(file)
            assert caught.value.code is ErrorCode.SCORER_LOAD_ERROR
            assert bytes_of(await needed("one")) == good

            # What it imports beside it is a part of it: a new version of that alone is a new version.
            text = SCORER.format(id="one", value="value", version="3.0.0", body="pass")
            file.write_text(text.replace("\nclass Params", HELPED))
            await b.shows(one="3.0.0")
            before = await needed("one")
            assert before.copy is not None and before.copy.files[helper] == b"FACTOR = 2"
            helper.write_text("FACTOR = 3")

            async def has_new_helper() -> bool:
                now = await needed("one")
                assert now.copy is not None
                return now.copy.files[helper] == b"FACTOR = 3"

            await until(has_new_helper)
            # Whoever else changes something meanwhile makes no host miss that.
            await b.load(write(tmp_path / "disk-of-b" / "other.py", "other"))
            wanted = hashlib.sha256(b"FACTOR = 3").hexdigest()
            await until(lambda: has_sibling(b, wanted))

    async def is_stale(host: Host) -> bool:
        return bool((await host.do(lambda service: service.get("one"))).status == "stale")

    async def has_sibling(host: Host, sha256: str) -> bool:
        return bool((await host.do(lambda service: service.get("one"))).siblings == {"_helper.py": sha256})

    asyncio.run(work())


def test_a_folder_that_one_host_watches_is_shown_and_let_go_by_any(hosts: Hosts, tmp_path: Path) -> None:
    folder = tmp_path / "disk-of-a"
    early = write(folder / "early.py", "early")

    async def work() -> None:
        async with hosts.api("a") as a, hosts.api("b") as b, hosts.worker() as needed:
            await a.do(lambda service: service.watch(str(folder)))
            assert bytes_of(await needed("early")) == early.read_bytes()
            late = write(folder / "late.py", "late")
            await b.shows(early="1.0.0", late="1.0.0")
            late.unlink()
            await b.shows(early="1.0.0")
            shown = await b.do(lambda service: service.watched())
            (place,) = shown.watched
            assert (place.origin, place.kind, place.scorers) == ("watched", "folder", ["early"])
            assert place.path.endswith("/disk-of-a") and str(tmp_path) not in place.path
            with pytest.raises(AutoScorerError, match="stop watching it first") as caught:
                await b.do(lambda service: service.unload("early"))
            assert caught.value.code is ErrorCode.CONFLICT
            left = await b.do(lambda service: service.unwatch(place.id))
            assert left.watched == []
            # It stays as it is, everywhere, until somebody unloads it.
            was = early.read_bytes()
            await until(lambda: follows_nothing(a))
            write(early, "early", version="2.0.0")
            marker = write(tmp_path / "marker.py", "marker")
            await a.load(marker)
            await b.shows(early="1.0.0", marker="1.0.0")
            await a.shows(early="1.0.0", marker="1.0.0")
            assert bytes_of(await needed("early")) == was
            await b.do(lambda service: service.unload("early"))
            await a.shows(marker="1.0.0")
            assert bytes_of(await needed("early")) is None

    async def follows_nothing(host: Host) -> bool:
        return not (await host.do(lambda service: service.watched())).watched

    asyncio.run(work())


def test_a_host_that_has_no_such_file_tries_and_shows_it_and_can_not_reload_it(hosts: Hosts, tmp_path: Path) -> None:
    file = write(tmp_path / "disk-of-a" / "one.py", "one", value=0.25)

    async def work() -> None:
        async with hosts.api("a") as a, hosts.api("b") as b:
            await a.load(file, watch=False)
            await b.shows(one="1.0.0")
            file.unlink()
            found = await b.do(
                lambda service: service.test("one", str(hosts.workspace), {}, caller=Caller("c", "admin"))
            )
            assert found.summary.score == 0.25
            with pytest.raises(AutoScorerError, match="through another host") as caught:
                await b.do(lambda service: service.reload("one"))
            assert caught.value.code is ErrorCode.INVALID_REQUEST and str(tmp_path) not in caught.value.message
            answer = await b.do(lambda service: service.reload())
            assert (answer.changes, answer.errors) == ([], [])
            assert await b.shown() == {"one": "1.0.0"}

    asyncio.run(work())


def test_a_file_that_loads_on_one_host_alone_takes_no_other_down(hosts: Hosts, tmp_path: Path) -> None:
    here = tmp_path / "only-on-a"
    here.touch()
    body = f"import os\nif not os.path.exists({str(here)!r}): os._exit(3)\n"
    file = tmp_path / "disk-of-a" / "one.py"
    file.parent.mkdir()

    async def work() -> None:
        async with hosts.api("a") as a:
            file.write_text(body + write(file, "one").read_text())
            await a.load(file)
            here.unlink()
            async with hosts.api("b") as b:
                await until(lambda: tells_of(b))
                assert await b.shown() == {}
                # The host is not to be looked at again for that: a good version goes everywhere.
                write(file, "one", version="2.0.0")
                await b.shows(one="2.0.0")
                assert not (await b.do(lambda service: service.listing())).errors

    async def tells_of(host: Host) -> bool:
        errors = (await host.do(lambda service: service.listing())).errors
        return any("exit" in each.error.message for each in errors)

    asyncio.run(work())


def test_of_two_hosts_that_load_one_id_at_once_the_first_has_it(hosts: Hosts, tmp_path: Path) -> None:
    files = [write(tmp_path / f"disk-of-{name}" / "one.py", "one") for name in "ab"]

    async def work() -> None:
        async with hosts.api("a") as a, hosts.api("b") as b:
            done = await asyncio.gather(a.load(files[0]), b.load(files[1]), return_exceptions=True)
            (failed,) = [each for each in done if isinstance(each, BaseException)]
            assert isinstance(failed, AutoScorerError) and failed.code is ErrorCode.SCORER_LOAD_ERROR, failed
            assert str(tmp_path) not in json.dumps([failed.message, failed.details])
            await a.shows(one="1.0.0")
            await b.shows(one="1.0.0")
            views = [await host.do(lambda service: service.get("one")) for host in (a, b)]
            assert views[0].sha256 == views[1].sha256

    asyncio.run(work())


def test_a_home_brings_what_it_has_along_and_a_host_that_was_away_catches_up(hosts: Hosts, tmp_path: Path) -> None:
    folder = tmp_path / "disk-of-a"
    followed, pinned = write(folder / "followed.py", "followed"), write(folder / "pinned.py", "pinned")
    watched = write(tmp_path / "watched" / "found.py", "found")

    async def work() -> None:
        async with hosts.api("a", ledger_url=None) as alone:
            await alone.load(followed)
            await alone.load(pinned, watch=False)
            await alone.do(lambda service: service.watch(str(watched.parent)))
        pinned.unlink()
        async with hosts.api("a") as a, hosts.worker() as needed:
            everything = {"followed": "1.0.0", "pinned": "1.0.0", "found": "1.0.0"}
            await a.shows(**everything)
            async with hosts.api("b") as b:
                await b.shows(**everything)
            for scorer_id in everything:
                assert (await needed(scorer_id)).copy is not None
            await a.do(lambda service: service.unload("pinned"))
            write(followed, "followed", version="2.0.0")
            await a.shows(followed="2.0.0", found="1.0.0")
            async with hosts.api("b") as b:
                await b.shows(followed="2.0.0", found="1.0.0")
        # A home alone again, it goes on with what it had.
        async with hosts.api("b", ledger_url=None) as b:
            await b.shows(followed="2.0.0", found="1.0.0")

    asyncio.run(work())


def test_a_ledger_that_is_moved_takes_the_scorers_along(
    hosts: Hosts, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, export = write(tmp_path / "disk-of-a" / "one.py", "one"), str(tmp_path / "ledger.jsonl")
    moved = SecretStr(postgres.ledger_url())

    async def load() -> None:
        async with hosts.api("a") as a:
            await a.load(file)

    async def look() -> None:
        file.unlink()
        async with hosts.api("a", ledger_url=moved) as a, hosts.api("b", ledger_url=moved) as b:
            await b.shows(one="1.0.0")
            # It is the same home there, and goes on following its file.
            write(file, "one", version="2.0.0")
            await b.shows(one="2.0.0")
            await a.shows(one="2.0.0")

    asyncio.run(load())
    for action, url in (("export", hosts.url), ("import", moved)):
        monkeypatch.setenv("AUTOSCORER_LEDGER_URL", url.get_secret_value())
        assert main(["ledger", action, export]) == 0
    asyncio.run(look())


def test_while_the_database_is_away_a_run_goes_on_with_what_the_home_has(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    hosts = Hosts(tmp_path, own_postgres)
    file = write(tmp_path / "disk-of-a" / "one.py", "one")

    async def work() -> None:
        async with hosts.api("a") as a, hosts.worker() as needed:
            await a.load(file)
            assert bytes_of(await needed("one")) == file.read_bytes()
            await asyncio.to_thread(own_postgres.stop)
            assert bytes_of(await needed("one")) == file.read_bytes()
            with pytest.raises(AutoScorerError) as caught:
                await a.load(write(file.with_name("two.py"), "two"))
            assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
            assert await a.shown() == {"one": "1.0.0"}
            await asyncio.to_thread(own_postgres.start)
            await a.load(file.with_name("two.py"))
            assert bytes_of(await needed("two")) == file.with_name("two.py").read_bytes()

    asyncio.run(work())


def test_a_command_loads_for_every_host(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "disk-of-c" / "one.py", "one")
    monkeypatch.setenv("AUTOSCORER_HOME", str(tmp_path / "home-c"))
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", hosts.url.get_secret_value())
    # Another registry than that of this process, which other tests use.
    monkeypatch.setattr("autoscorer.scorers.registry.registry._registry", ScorerRegistry(entry_points=False))

    def command(*arguments: str) -> dict[str, Any]:
        assert main(["scorers", *arguments, "--json"]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer["data"]

    async def work() -> None:
        async with hosts.api("a") as a, hosts.worker() as needed:
            await asyncio.to_thread(command, "load", str(file))
            assert bytes_of(await needed("one")) == file.read_bytes()
            await a.shows(one="1.0.0")
            write(file, "one", version="2.0.0")
            told = await asyncio.to_thread(command, "reload", str(file))
            assert told["changes"][0]["change"] == "new version"
            assert bytes_of(await needed("one")) == file.read_bytes()
            assert (await asyncio.to_thread(command, "unload", str(file)))["unloaded"] == ["one"]
            await a.shows()

    asyncio.run(work())
    assert os.path.exists(file)
