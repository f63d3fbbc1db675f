"""What is sent: nothing to whoever has the answer already, and compressed to whoever takes it so."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from autoscorer.client import Client
from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskState
from autoscorer.service.ledger.records import TaskEnd

from ..support.facade import ADMIN, SUBMIT, Answer, Facade, facade, facade_settings
from ..support.ledger import new, opened
from ..support.workspaces import write_workspace

# Each serves a facade of its own.
pytestmark = pytest.mark.slow

GZIP = {"Accept-Encoding": "gzip"}
MANY = "/tasks?limit=60"


@pytest.fixture
def api(settings: Settings, tmp_path: Path) -> Iterator[Facade]:
    async def fill() -> None:
        async with opened(settings) as ledger:
            for n in range(60):
                task, _ = await ledger.add(new(f"team-{n}", request={"workspace": f"team-{n}", "action": "score"}))
                result = {"summary": {"score": 0.123456, "f1": 0.123456, "higher_is_better": True}}
                await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED, result)])
            members = [{"workspace": f"team-{n}", "state": "completed", "score": n / 7} for n in range(3000)]
            batch, _ = await ledger.add(replace(new("digest", "batch", request={"workspaces": ["*"]}), workspace=None))
            await ledger.finish([TaskEnd(batch.id, TaskState.COMPLETED, {"outcomes": members, "total": 3000})])

    asyncio.run(fill())
    write_workspace(tmp_path / "root", "team-a")
    with facade(facade_settings(tmp_path / "root")) as running:
        running.token = ADMIN
        yield running


def unpacked(answer: Answer) -> Any:
    return json.loads(gzip.decompress(answer.body))


def addresses(api: Facade) -> list[str]:
    batch, task = (
        api.call("GET", f"/tasks?limit=1&action={action}").data["tasks"][0]["id"] for action in ("batch", "score")
    )
    of_batch = [f"/batch/{batch}", f"/batch/{batch}/leaderboard"]
    return [MANY, f"/tasks/{task}", *of_batch, "/workspaces", "/workspaces/team-a", "/benchmarks", "/scorers"]


# --- what somebody has already ----------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_sent_again(api: Facade) -> None:
    for address in addresses(api):
        first, second = api.call("GET", address), api.call("GET", address)
        tag = first.headers["etag"]
        assert tag.startswith('W/"') and tag == second.headers["etag"], address
        # A later answer has another time and another id.
        assert first.json["meta"] != second.json["meta"]
        again = api.call("GET", address, headers={"If-None-Match": tag})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag), address
        assert "content-type" not in again.headers and again.headers["cache-control"] == "no-store"
        assert again.headers["x-request-id"] and "Accept-Encoding" in again.headers["vary"]


def test_what_has_changed_is_sent(api: Facade) -> None:
    tag = api.call("GET", MANY).headers["etag"]
    api.call("POST", "/submit", {"action": "score", "workspace": "team-a"})
    changed = api.call("GET", MANY, headers={"If-None-Match": tag})
    assert changed.status == 200 and changed.headers["etag"] != tag and changed.data["total"] == 62
    # Another page, order or filter is another answer.
    tags = [api.call("GET", f"{MANY}{more}").headers["etag"] for more in ("", "&sort=score", "&state=completed")]
    assert len({*tags}) == 3


def test_a_tag_is_of_what_one_caller_is_told(api: Facade) -> None:
    # All are told the same of scorers and of a health check, and far from the same of scores.
    for address in (MANY, "/scorers", "/workspaces"):
        tags = {token: api.call("GET", address, token=token).headers["etag"] for token in (ADMIN, SUBMIT)}
        assert tags[ADMIN] != tags[SUBMIT], address
        other = api.call("GET", address, token=SUBMIT, headers={"If-None-Match": tags[ADMIN]})
        assert other.status == 200, address
    # And a tag lets nobody in.
    refused = api.call("GET", MANY, token="wrong-token", headers={"If-None-Match": "*"})
    assert refused.status == 401 and "etag" not in refused.headers


def test_tags_are_read_as_http_has_them(api: Facade) -> None:
    tag = api.call("GET", "/scorers").headers["etag"].removeprefix("W/")
    for asked in (tag, f"W/{tag}", f'"other", W/{tag}', f'W/"a,b",{tag} , "c"', "*"):
        assert api.call("GET", "/scorers", headers={"If-None-Match": asked}).status == 304, asked
    for asked in ('"other"', tag.strip('"'), "", '"', "W/", "* ,", '"*"'):
        assert api.call("GET", "/scorers", headers={"If-None-Match": asked}).status == 200, asked


def test_what_is_no_answer_to_a_question_has_no_tag(api: Facade) -> None:
    headers = {"If-None-Match": "*", **GZIP}
    made = api.call("POST", "/submit", {"action": "score", "workspace": "team-a"}, headers=headers)
    assert made.status == 202
    missing = api.call("GET", "/tasks/0190f2d4", headers=headers)
    assert missing.status == 404 and missing.error["code"] == "NOT_FOUND"
    for answer in (made, missing):
        assert not {"etag", "content-encoding"} & {*answer.headers}


# --- compressed -------------------------------------------------------------------------------------------------


def test_a_long_answer_is_compressed_for_whoever_takes_it_so(api: Facade) -> None:
    batch = addresses(api)[2]
    for address in (MANY, batch):
        plain, packed = api.call("GET", address), api.call("GET", address, headers=GZIP)
        assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body) / 5
        assert unpacked(packed)["data"] == plain.data
        assert packed.headers["etag"] == plain.headers["etag"]
        assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert len(plain.body) > 128 * 1024  # in pieces
    assert api.call("GET", f"{batch}/leaderboard", headers=GZIP).headers["vary"] == "Accept, Accept-Encoding"


def test_who_does_not_take_it_gets_it_as_it_is(api: Facade) -> None:
    for asked in ("gzip", "br, GZip ;q=0.5", "*", "deflate, *;q=0.1", "gzip;q=1.0"):
        assert unpacked(api.call("GET", MANY, headers={"Accept-Encoding": asked}))["ok"] is True, asked
    for asked in ("", "identity", "gzip;q=0", "gzip; q = 0.000, *", "*;q=0", "x-gzipped", ";;,,="):
        answer = api.call("GET", MANY, headers={"Accept-Encoding": asked})
        assert "content-encoding" not in answer.headers and answer.json["ok"] is True, asked


def test_what_is_short_or_streamed_or_a_file_or_holds_a_secret_is_not_compressed(api: Facade) -> None:
    task = addresses(api)[1]
    assert "content-encoding" not in api.call("GET", "/benchmarks", headers=GZIP).headers
    assert "content-encoding" not in api.call("GET", "/openapi.json", headers=GZIP).headers
    assert "content-encoding" not in api.call("GET", "/metrics", headers=GZIP).headers
    assert "content-encoding" not in api.call("GET", f"{task}/result.json", headers=GZIP).headers
    csv = api.call("GET", f"{addresses(api)[3]}?format=csv", headers=GZIP)
    stream = api.call("GET", f"{task}/logs?follow=true", headers=GZIP)
    assert csv.headers["content-type"].startswith("text/csv")
    assert stream.headers["content-type"].startswith("application/x-ndjson")
    for answer in (csv, stream):
        assert not {"etag", "content-encoding"} & {*answer.headers}


def test_the_client_reads_what_is_compressed(api: Facade) -> None:
    with Client(api.url, ADMIN) as client:
        assert len(client.tasks(limit=60).tasks) == 60
        assert client.tasks(limit=60).total == 61
