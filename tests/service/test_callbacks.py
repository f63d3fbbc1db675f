"""Callbacks: what receivers get, how they check it, what is tried again, and where no request ever goes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from autoscorer.core.config import Settings
from autoscorer.core.config_sections import Api, Callbacks
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.logs import JsonFormatter
from autoscorer.schemas.task import Role, TaskState, TaskView
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import NewTask, TaskEnd
from autoscorer.service.webhooks.delivery import CallbackDelivery, check_callback_url, delivery_id, retry_delay, verify
from autoscorer.service.webhooks.http import Outbound, Unreachable, is_allowed
from autoscorer.service.webhooks.signatures import callback_secret, sign
from autoscorer.service.workspaces.roots import WorkspaceRoots
from hypothesis import given
from hypothesis import strategies as st

# --- receivers, and a ledger in memory ----------------------------------------------------------------------------


@dataclass
class Request:
    target: str
    headers: dict[str, str]
    body: bytes
    at: float


Answering = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


@dataclass
class Receiver:
    """A real HTTP server that does with each request what the test says."""

    answering: Answering
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    most_at_once: int = 0
    now: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append(Request(head[0].split(" ")[1], headers, body, time.time()))
                await self.answering(writer, len(self.requests))
                await writer.drain()
            finally:
                self.now -= 1
                writer.close()


@contextlib.asynccontextmanager
async def receiving(answering: Answering, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(answering)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


def answers(*lines: str) -> Answering:
    """Answer the nth request with the nth status line, the last one for ever."""

    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        line = lines[min(number, len(lines)) - 1]
        writer.write(f"HTTP/1.1 {line}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())

    return answer


@dataclass
class Due:
    task_id: str
    url: str
    attempts: int = 0
    next_at: float | None = 0.0
    delivered: bool = False
    error: str | None = None
    role: str = "submit"
    team: str | None = None


class Kept:
    """What the ledger promises, in memory."""

    def __init__(self, *urls: str) -> None:
        self.rows = {f"task-{number}": Due(f"task-{number}", url) for number, url in enumerate(urls)}

    async def due_callbacks(self, now: float) -> Sequence[Due]:
        return [row for row in self.rows.values() if row.next_at is not None and row.next_at <= now]

    async def callback_done(self, task_id: str, delivered: bool, error: str | None, next_at: float | None) -> None:
        row = self.rows[task_id]
        row.attempts += 1
        row.delivered, row.error, row.next_at = delivered, error, next_at

    async def view(self, task_id: str) -> TaskView:
        return TaskView(
            id=task_id,
            action="score",
            workspace="équipe-a",
            state=TaskState.COMPLETED,
            created_at="2026-11-22T21:00:00Z",
            result={"summary": {"score": 0.5}},
        )

    @property
    def ended(self) -> bool:
        return all(row.next_at is None for row in self.rows.values())

    def one(self) -> Due:
        (row,) = self.rows.values()
        return row


def callbacks_settings(home: Path, **section: Any) -> Settings:
    section = {"allow_private": True, "retry_delay": 0.02, "timeout": 5.0, **section}
    return Settings(home=home, callbacks=Callbacks(**section))


async def until(met: Callable[[], bool], seconds: float = 300.0) -> None:
    async with asyncio.timeout(seconds):
        while not met():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def delivering(settings: Settings, kept: Kept) -> AsyncIterator[CallbackDelivery]:
    callbacks = CallbackDelivery(settings, kept, WorkspaceRoots(settings))  # type: ignore[arg-type]
    loop = asyncio.create_task(callbacks.run())
    try:
        yield callbacks
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop


def deliver(settings: Settings, answering: Answering, path: str = "/hook") -> tuple[Due, list[Request]]:
    """Deliver one callback to a receiver until it is delivered or given up."""

    async def main() -> tuple[Due, list[Request]]:
        async with receiving(answering) as receiver:
            kept = Kept(f"http://127.0.0.1:{receiver.port}{path}")
            async with delivering(settings, kept):
                await until(lambda: kept.ended)
            return kept.one(), receiver.requests

    return asyncio.run(main())


# --- what a receiver gets -----------------------------------------------------------------------------------------


def test_a_receiver_gets_the_envelope_signed(home: Path) -> None:
    row, requests = deliver(callbacks_settings(home, secret="s3cret"), answers("204 No Content"), "/hook?key=a%20b")
    assert row.delivered and row.attempts == 1 and row.error is None
    (request,) = requests
    assert request.target == "/hook?key=a%20b"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-autoscorer-task"] == "task-0"
    envelope = json.loads(request.body)
    assert set(envelope) == {"ok", "data", "meta"} and envelope["ok"] is True
    assert envelope["data"]["id"] == "task-0" and envelope["data"]["workspace"] == "équipe-a"
    assert envelope["meta"]["request_id"] == request.headers["x-autoscorer-delivery"] == delivery_id("task-0")
    # Computed here as the documentation says, without the code under test.
    moment, mac = request.headers["x-autoscorer-signature"].removeprefix("t=").split(",v1=")
    assert mac == hmac.new(b"s3cret", moment.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert abs(int(moment) - request.at) < 60
    assert verify("s3cret", request.headers["x-autoscorer-signature"], request.body)


def test_a_failed_task_comes_in_the_same_shape(home: Path) -> None:
    class Failed(Kept):
        async def view(self, task_id: str) -> TaskView:
            error = {"code": "TIMEOUT_ERROR", "message": "m", "stage": "execution", "details": {}}
            return TaskView.model_validate(
                {**(await super().view(task_id)).model_dump(), "state": "failed", "result": None, "error": error}
            )

    async def main() -> bytes:
        async with receiving(answers("200 OK")) as receiver:
            kept = Failed(f"http://127.0.0.1:{receiver.port}/")
            async with delivering(callbacks_settings(home), kept):
                await until(lambda: kept.ended)
            return receiver.requests[0].body

    envelope = json.loads(asyncio.run(main()))
    assert envelope["ok"] is True and envelope["data"]["state"] == "failed"
    assert envelope["data"]["error"]["code"] == "TIMEOUT_ERROR"


@pytest.mark.parametrize("show_errors", [False, True])
def test_a_receiver_is_told_what_the_submitter_may_see(home: Path, show_errors: bool) -> None:
    result = {
        "summary": {"score": 0.123456, "f1_macro": 0.123456, "higher_is_better": True},
        "metrics": {"f1_macro": 0.123456, "f1/SECRET": 1.0},
        "notes": ["SECRET"],
    }

    def told(role: Role, team: str | None = None) -> Any:
        settings = callbacks_settings(home).model_copy(update={"api": Api(show_errors=show_errors)})

        async def main() -> bytes:
            async with receiving(answers("200 OK")) as receiver:
                ledger = await Ledger.open(settings)
                try:
                    task = NewTask(
                        f"t-{role}-{team}", "tester", "score", role, "ws", None, "normal", {"workspace": "ws"}, {}, 1.0,
                        callback_url=f"http://127.0.0.1:{receiver.port}/", role=role, team=team,
                    )  # fmt: skip
                    await ledger.add(task)
                    await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED, result=result)])
                    async with delivering(settings, ledger):  # type: ignore[arg-type]
                        await until(lambda: bool(receiver.requests))
                    return receiver.requests[0].body
                finally:
                    await ledger.close()

        return json.loads(asyncio.run(main()))["data"]["result"]

    assert told("admin") == result
    assert told("organiser", "a") == result
    if show_errors:
        assert told("submit") == result
    else:
        seen = told("submit")
        assert "SECRET" not in json.dumps(seen) and seen["summary"]["score"] == 0.1235
    # A team sees no ground truth, whatever others are shown.
    seen = told("submit", "a")
    assert "SECRET" not in json.dumps(seen) and seen["summary"]["score"] == 0.1235


# --- what is tried again ------------------------------------------------------------------------------------------


def test_500_then_200_is_delivered_with_the_same_delivery_id(home: Path) -> None:
    row, requests = deliver(callbacks_settings(home), answers("500 Oops", "503 Busy", "200 OK"))
    assert row.delivered and row.attempts == 3 and row.error is None
    assert len({request.headers["x-autoscorer-delivery"] for request in requests}) == 1


@pytest.mark.parametrize("status", ["404 Not Found", "429 Slow down", "307 There\r\nLocation: /elsewhere", "100 Go on"])
def test_attempts_are_bounded_and_the_last_error_is_kept(home: Path, status: str) -> None:
    # Of the last one nothing follows, so that its time is waited for.
    timeout = 0.3 if status.startswith("100") else 20
    row, requests = deliver(callbacks_settings(home, max_attempts=3, timeout=timeout), answers(status))
    assert not row.delivered and row.next_at is None and row.attempts == len(requests) == 3
    assert {request.target for request in requests} == {"/hook"}, "redirects are not followed"
    assert row.error and (status[:3] in row.error or status.startswith("100"))


def test_every_line_of_the_log_names_the_task(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "autoscorer"):
        deliver(callbacks_settings(home), answers("500 Oops", "200 OK"))
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert len(lines) == 2 and {line["task_id"] for line in lines} == {"task-0"}


def test_gone_is_final(home: Path) -> None:
    row, requests = deliver(callbacks_settings(home), answers("410 Gone"))
    assert not row.delivered and row.attempts == len(requests) == 1 and row.error == "the receiver answered 410"


def test_retry_after_makes_the_delay_longer_within_bounds(home: Path) -> None:
    async def main(value: str) -> float:
        async with receiving(answers(f"503 Busy\r\nRetry-After: {value}")) as receiver:
            kept = Kept(f"http://127.0.0.1:{receiver.port}/")
            started = time.time()
            async with delivering(callbacks_settings(home), kept):
                await until(lambda: kept.one().attempts == 1)
            next_at = kept.one().next_at
            assert next_at is not None
            return next_at - started

    assert asyncio.run(main("120")) >= 120
    assert asyncio.run(main("999999999")) < 3700
    assert asyncio.run(main("Fri, 31 Dec 1999 23:59:59 GMT")) < 60


@given(st.floats(0.001, 1e6), st.integers(1, 10_000))
def test_the_delay_doubles_up_to_an_hour(first: float, attempt: int) -> None:
    delay = retry_delay(first, attempt)
    plain = min(first * 2.0 ** (attempt - 1) if attempt < 60 else 3600.0, 3600.0)
    assert 0.5 * min(plain, 3600.0) <= delay <= 1.5 * 3600.0
    if attempt < 40:
        assert delay <= 1.5 * plain


def test_a_receiver_that_is_away_is_tried_again_and_named_without_its_address(home: Path) -> None:
    with socket.socket() as taken:  # bound but not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        kept = Kept(f"http://127.0.0.1:{port}/secret-path")

        async def main() -> None:
            async with delivering(callbacks_settings(home, max_attempts=2), kept):
                await until(lambda: kept.ended)

        asyncio.run(main())
    row = kept.one()
    assert row.attempts == 2 and row.error == "the connection was refused"


@pytest.mark.slow
def test_a_restart_in_the_middle_loses_nothing_and_counts_on(home: Path) -> None:
    async def main() -> None:
        async with receiving(answers("500 Oops", "500 Oops", "200 OK")) as receiver:
            kept = Kept(f"http://127.0.0.1:{receiver.port}/")
            settings = callbacks_settings(home, max_attempts=3)
            for attempts in (1, 2, 3):
                async with delivering(settings, kept):  # the API, started anew
                    await until(lambda: kept.one().attempts >= attempts)  # noqa: B023
            assert kept.one().delivered and kept.one().attempts == 3
            assert {r.headers["x-autoscorer-delivery"] for r in receiver.requests} == {delivery_id("task-0")}
            signatures = {
                verify(callback_secret(settings), r.headers["x-autoscorer-signature"], r.body)
                for r in receiver.requests
            }
            assert signatures == {True}, "the secret that was made once is the same after a restart"

    asyncio.run(main())


@pytest.mark.slow
def test_the_ledger_keeps_what_became_of_a_callback_over_restarts(home: Path) -> None:
    settings = callbacks_settings(home, max_attempts=3)

    async def attempt(until_state: str, url: str | None = None) -> TaskView:
        """One life of the API; with ``url`` it begins with a task that ends."""
        ledger = await Ledger.open(settings)
        try:
            if url is not None:
                row, _ = await ledger.add(
                    NewTask(
                        "t1",
                        "tester",
                        "score",
                        "ws",
                        "ws",
                        None,
                        "normal",
                        {"workspace": "ws"},
                        {},
                        time.time(),
                        callback_url=url,
                        role="admin",
                    )
                )
                assert (await ledger.view(row.id)).callback.state == "waiting"
                await ledger.finish([TaskEnd("t1", TaskState.COMPLETED, result={"summary": {"score": 1.0}})])
            callbacks = CallbackDelivery(settings, ledger, WorkspaceRoots(settings))
            loop = asyncio.create_task(callbacks.run())
            async with asyncio.timeout(300):
                while not (view := await ledger.view("t1")).callback.attempts or view.callback.state != until_state:
                    await asyncio.sleep(0.01)
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
            return view
        finally:
            await ledger.close()

    async def main() -> None:
        async with receiving(answers("500 Oops", "500 Oops", "200 OK")) as receiver:
            view = await attempt("pending", f"http://127.0.0.1:{receiver.port}/hook")
            assert view.callback.last_error == "the receiver answered 500" and view.callback.delivered_at is None
            view = await attempt("delivered")
            assert view.callback.attempts == 3 and view.callback.delivered_at and view.callback.last_error is None
            assert [json.loads(request.body)["data"]["result"] for request in receiver.requests] == [
                {"summary": {"score": 1.0}}
            ] * 3

    asyncio.run(main())


def test_what_is_under_way_at_the_end_is_sent_again(home: Path) -> None:
    async def silent(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 1:
            await asyncio.sleep(30)
        await answers("200 OK")(writer, number)

    async def main() -> None:
        async with receiving(silent) as receiver:
            kept = Kept(f"http://127.0.0.1:{receiver.port}/")
            async with delivering(callbacks_settings(home), kept):
                await until(lambda: len(receiver.requests) == 1)
            assert kept.one().attempts == 0 and kept.one().next_at is not None
            async with delivering(callbacks_settings(home), kept):
                await until(lambda: kept.one().delivered)
            assert len(receiver.requests) == 2

    asyncio.run(main())


@pytest.mark.slow
def test_a_ledger_that_fails_for_a_moment_stops_nothing(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Shaky(Kept):
        looks = 0

        async def due_callbacks(self, now: float) -> Sequence[Due]:
            self.looks += 1
            if self.looks == 1:
                raise OSError("disk full")
            return await super().due_callbacks(now)

    async def main() -> None:
        async with receiving(answers("200 OK")) as receiver:
            kept = Shaky(f"http://127.0.0.1:{receiver.port}/")
            async with delivering(callbacks_settings(home), kept):
                await until(lambda: kept.one().delivered)

    asyncio.run(main())
    assert "disk full" in caplog.text


# --- hostile receivers --------------------------------------------------------------------------------------------


async def _never(writer: asyncio.StreamWriter, number: int) -> None:
    await asyncio.sleep(60)


async def _dribble_headers(writer: asyncio.StreamWriter, number: int) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def _informational_for_ever(writer: asyncio.StreamWriter, number: int) -> None:
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def _endless_headers(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"a" * 10_000 + b"\r\n")
        await writer.drain()


async def _no_http(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")


async def _cut_off(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"HTTP/1.1 20")


@pytest.mark.parametrize(
    "answering", [_never, _dribble_headers, _informational_for_ever, _endless_headers, _no_http, _cut_off]
)
def test_no_receiver_holds_an_attempt_beyond_its_time(home: Path, answering: Answering) -> None:
    row, _ = deliver(callbacks_settings(home, timeout=0.4, max_attempts=1), answering)
    assert not row.delivered and row.attempts == 1
    assert row.error and len(row.error) < 100 and "127.0.0.1" not in row.error


async def _endless_body(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        writer.write(b"a" * 65536)
        await writer.drain()


async def _dribbled_body(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\na\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("answering", [_endless_body, _dribbled_body])
def test_the_status_is_the_answer_whatever_follows(home: Path, answering: Answering) -> None:
    row, requests = deliver(callbacks_settings(home), answering)
    assert row.delivered and len(requests) == 1


def test_one_slow_receiver_holds_up_no_other(home: Path) -> None:
    async def main() -> None:
        async with receiving(_never) as slow, receiving(answers("200 OK")) as quick:
            kept = Kept(
                *(f"http://127.0.0.1:{slow.port}/{number}" for number in range(200)),
                *(f"http://127.0.0.1:{quick.port}/{number}" for number in range(20)),
            )
            # The slow one's attempts take longer than the test may.
            async with delivering(callbacks_settings(home, timeout=60), kept):
                await until(lambda: len(quick.requests) == 20)
                await until(lambda: sum(row.delivered for row in kept.rows.values()) == 20)
            assert slow.most_at_once <= 4

    asyncio.run(main())


def test_many_are_delivered_each_once(home: Path) -> None:
    async def main() -> None:
        async with receiving(answers("200 OK")) as receiver:
            kept = Kept(*(f"http://127.0.0.1:{receiver.port}/{number}" for number in range(100)))
            async with delivering(callbacks_settings(home), kept) as callbacks:
                await until(lambda: callbacks.wake() or kept.ended)  # type: ignore[func-returns-value]
            assert sorted(int(request.target[1:]) for request in receiver.requests) == list(range(100))
            assert receiver.most_at_once <= 4

    asyncio.run(main())


def test_more_than_wait_in_memory_are_delivered_each_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscorer.service.webhooks.delivery.AHEAD", 7)

    async def main() -> None:
        async with receiving(_never) as slow, receiving(answers("200 OK")) as receiver:
            kept = Kept(
                *(f"http://127.0.0.1:{slow.port}/{number}" for number in range(30)),
                *(f"http://127.0.0.1:{receiver.port}/{number}" for number in range(30)),
            )
            async with delivering(callbacks_settings(home, timeout=60), kept) as callbacks:
                await until(
                    lambda: callbacks.wake() or sum(row.delivered for row in kept.rows.values()) == 30  # type: ignore[func-returns-value]
                )
            assert sorted(int(request.target[1:]) for request in receiver.requests) == list(range(30))

    asyncio.run(main())


# --- where no request goes ----------------------------------------------------------------------------------------

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "169.254.0.1",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "168.63.129.16", "100.100.100.200",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1",
    "100::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "2001:0:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "5f00::1", "4000::1",
]  # fmt: skip
ALLOWED = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1",
    "192.0.1.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_nothing_private_passes_by_the_standard_librarys_word(address: Any) -> None:
    if is_allowed(str(address)):
        inner = address
        if address.version == 6:
            inner = address.ipv4_mapped or (
                ipaddress.IPv4Address(address.packed[12:])
                if address in ipaddress.ip_network("64:ff9b::/96")
                else address
            )
            assert address.sixtofour is None and address.teredo is None
        assert inner.is_global and not (inner.is_private or inner.is_multicast or inner.is_reserved)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_an_ipv6_form_passes_only_where_it_would_itself(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:", "64:ff9b::"):
        assert is_allowed(prefix + str(address)) == is_allowed(str(address))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "2002:a9fe:a9fe::", "168.63.129.16"]
)
def test_metadata_services_are_refused_even_where_private_addresses_are_allowed(address: str) -> None:
    assert not is_allowed(address, allow_private=True)
    assert is_allowed("127.0.0.1", allow_private=True) and is_allowed("10.0.0.1", allow_private=True)


BAD_URLS = [
    "", "hook", "//example.com/x", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "http://",
    "http:///x", "http://user@example.com/", "http://user:word@example.com/", "http://:word@example.com/",
    "http://example.com:0/", "http://example.com:99999/", "http://example.com:abc/", "http://exa mple.com/",
    "http://example.com/\nX: y", "http://example.com\\@127.0.0.1/", "http://[::1/", "javascript:alert(1)",
    # Hosts that no name server can have an address for; the C library takes * for this machine.
    "http://*/", "http://*.example/", "http://a..b/", "http://.example/", "http://%6cocalhost/", "http://127.0.0.1%2e/",
    "http://a%2fb/", "http://1.2.3.4.5/", f"http://{'a' * 64}.example/", f"http://{'a.' * 127}a/", "http://xn--a/",
    "http://xn---/", "http://[::1%25lo]/", "http://[fe80::1%25eth0]/", "http://[fd00:ec2::254%25lo]/",
]  # fmt: skip
PRIVATE_URLS = [
    "http://127.0.0.1/", "https://127.0.0.1:8443/", "http://127.1/", "http://2130706433/", "http://0x7f000001/",
    "http://0177.0.0.1/", "http://0/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
    "http://localhost/", "http://LOCALHOST:9/", "http://localhost./", "http://a.localhost/", "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data/", "http://192.168.0.1/", "http://[fd00::1]/", "http://[fe80::1]/",
    "http://１２７.0.0.1/", "http://127。0。0。1/", "http://127.0.0.1./",
    # Names of this machine, wherever it stands.
    "http://ip6-localhost/", "http://ip6-loopback/", "http://localhost.localdomain/", "http://localhost6/",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS + PRIVATE_URLS)
def test_urls_that_can_not_be_used_are_refused_at_submit(home: Path, url: str) -> None:
    with pytest.raises(AutoScorerError) as caught:
        check_callback_url(callbacks_settings(home, allow_private=False), url)
    assert caught.value.code == "INVALID_REQUEST" and "callback_url" in caught.value.message


@pytest.mark.parametrize("url", BAD_URLS)
def test_allow_private_allows_no_malformed_url(home: Path, url: str) -> None:
    with pytest.raises(AutoScorerError):
        check_callback_url(callbacks_settings(home), url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?x=1#y",
        "http://example.com:8080",
        "https://hooks.bücher.example/ü",
        "http://[2606:4700::1]/",
    ],
)
def test_usable_urls_pass_without_asking_a_name_server(home: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = socket.getaddrinfo

    def numeric_only(*args: Any, flags: int = 0, **more: Any) -> Any:
        assert flags & socket.AI_NUMERICHOST
        return asked(*args, flags=flags, **more)

    monkeypatch.setattr(socket, "getaddrinfo", numeric_only)
    check_callback_url(callbacks_settings(home, allow_private=False), url)


def test_a_name_of_the_hosts_file_is_refused_at_submit_as_it_is_when_it_is_sent(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(
        b"127.0.0.1 localhost\n"
        b"10.0.0.7\tdatabase.internal  Database # 192.0.2.1 remark\n"
        b"93.184.215.14 both outside\nfe80::1%lo both\n"
        b"169.254.169.254 metadata.google.internal\n"
        b"nonsense wrong\n\xff\xfe\n# 127.0.0.1 outside remark\n"
    )
    monkeypatch.setattr("autoscorer.service.webhooks.hosts_file.HOSTS", hosts)
    inside, outside = callbacks_settings(home, allow_private=False), callbacks_settings(home)
    for name in ("database.internal", "DATABASE", "database.", "both", "metadata.google.internal"):
        with pytest.raises(AutoScorerError):
            check_callback_url(inside, f"http://{name}:8080/")
    for name in ("outside", "remark", "wrong", "elsewhere", "internal"):
        check_callback_url(inside, f"http://{name}/")
    check_callback_url(outside, "http://database/")
    with pytest.raises(AutoScorerError):
        check_callback_url(outside, "http://metadata.google.internal/")
    hosts.unlink()
    check_callback_url(inside, "http://database/")


HOSTS = (
    st.text("0123456789.xXaf:[]%*-_ ", max_size=24)
    | st.lists(st.sampled_from(["127", "0", "1", "0x7f", "*", "localhost", "a", "%25", "。", "１", "xn--a", ""])).map(
        ".".join
    )
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
    | st.builds("[{}%25{}]".format, st.ip_addresses(v=6), st.sampled_from(["lo", "eth0", "1", ""]))
    | st.text(max_size=12)
)


@given(host=HOSTS, allow_private=st.booleans())
def test_what_is_taken_at_submit_is_refused_when_it_is_sent_only_by_what_a_name_server_says(
    host: str, allow_private: bool
) -> None:
    url = f"http://{host}/hook"
    real = socket.getaddrinfo

    def without_names(name: Any, port: Any, *args: Any, **more: Any) -> Any:
        return real(name, port, *args, **{**more, "flags": socket.AI_NUMERICHOST})

    async def nowhere(*_: Any, **__: Any) -> Any:
        raise httpcore.ConnectError

    async def send() -> None:
        await Outbound(allow_private=allow_private, timeout=5).post(url, {}, b"")

    try:
        check_callback_url(Settings(callbacks=Callbacks(allow_private=allow_private)), url)
    except AutoScorerError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", without_names)
        patch.setattr(httpcore.AnyIOBackend, "connect_tcp", nowhere)
        patch.setattr(httpx, "create_ssl_context", lambda: None)
        with pytest.raises(Unreachable):
            asyncio.run(send())


@given(st.text(max_size=60) | st.builds("http://{}/".format, st.text(max_size=60)))
def test_any_text_is_refused_in_words_or_accepted(url: str) -> None:
    with contextlib.suppress(AutoScorerError):
        check_callback_url(Settings(callbacks=Callbacks()), url)


def _names(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """A name server of the test's own: the nth question is answered with the nth list, the last one for ever."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if not str(host).endswith(".test"):
            return real(host, port, *args, **more)
        if more.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror("not a number")
        asked.append(str(host))
        found = answers[min(len(asked), len(answers)) - 1]
        return [item for address in found for item in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"]])
def test_a_name_that_leads_inside_is_refused_for_good_when_it_is_sent(
    home: Path, monkeypatch: pytest.MonkeyPatch, found: list[str]
) -> None:
    _names(monkeypatch, found)

    async def main() -> tuple[Due, int]:
        async with receiving(answers("200 OK")) as receiver:
            kept = Kept(f"http://hook.test:{receiver.port}/")
            async with delivering(callbacks_settings(home, allow_private=False), kept):
                await until(lambda: kept.ended)
            return kept.one(), len(receiver.requests)

    row, requests = asyncio.run(main())
    assert requests == 0 and row.attempts == 1 and not row.delivered
    assert row.error and "not public" in row.error and "127" not in row.error


def test_the_connection_goes_to_the_address_that_was_checked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to another address when it is asked again (DNS rebinding) is asked only once."""
    asked = _names(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])

    async def main() -> Request:
        async with receiving(answers("200 OK")) as receiver:
            kept = Kept(f"http://hook.test:{receiver.port}/")
            async with delivering(callbacks_settings(home), kept):
                await until(lambda: kept.ended)
            assert kept.one().delivered
            assert receiver.requests[0].headers["host"] == f"hook.test:{receiver.port}"
            return receiver.requests[0]

    asyncio.run(main())
    assert asked == ["hook.test"]


def test_the_next_address_is_tried_when_the_first_refuses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _names(monkeypatch, ["127.0.0.9", "127.0.0.1"])  # receivers listen at the second only

    async def main() -> Due:
        async with receiving(answers("200 OK")) as receiver:
            kept = Kept(f"http://hook.test:{receiver.port}/")
            async with delivering(callbacks_settings(home, max_attempts=1), kept):
                await until(lambda: kept.ended)
            return kept.one()

    assert asyncio.run(main()).delivered


def test_a_name_without_an_address_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _names(monkeypatch, [], ["127.0.0.1"])

    async def main() -> Due:
        async with receiving(answers("200 OK")) as receiver:
            kept = Kept(f"http://hook.test:{receiver.port}/")
            async with delivering(callbacks_settings(home), kept):
                await until(lambda: kept.ended)
            return kept.one()

    row = asyncio.run(main())
    assert row.delivered and row.attempts == 2


def test_a_name_server_that_is_slow_holds_up_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _names(monkeypatch, ["127.0.0.1"])
    quick, over = socket.getaddrinfo, threading.Event()

    def slow(host: Any, *args: Any, **more: Any) -> Any:
        if str(host).startswith("slow") and not more.get("flags", 0) & socket.AI_NUMERICHOST:
            over.wait(300)
        return quick(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main() -> None:
        async with receiving(answers("200 OK")) as receiver:
            kept = Kept(
                *(f"http://slow-{number}.test:{receiver.port}/" for number in range(30)),
                f"http://hook.test:{receiver.port}/quick",
            )
            async with delivering(callbacks_settings(home, timeout=50, max_attempts=1), kept):
                try:
                    await until(lambda: any(row.delivered for row in kept.rows.values()), 40)
                finally:
                    over.set()

    asyncio.run(main())
    assert "hook.test" in asked


def test_no_proxy_of_the_environment_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    row, _ = deliver(callbacks_settings(home, max_attempts=1), answers("200 OK"))
    assert row.delivered


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hook.test with its key, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hook.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hook.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


def _deliver_tls(home: Path, certificate: Path, host: str) -> tuple[Due, list[Request]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def main() -> tuple[Due, list[Request]]:
        async with receiving(answers("200 OK"), tls=context) as receiver:
            kept = Kept(f"https://{host}:{receiver.port}/hook")
            async with delivering(callbacks_settings(home, max_attempts=1), kept):
                await until(lambda: kept.ended)
            return kept.one(), receiver.requests

    return asyncio.run(main())


def test_tls_verifies_the_name_of_the_url_at_the_checked_address(
    home: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _names(monkeypatch, ["127.0.0.1"])
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    row, requests = _deliver_tls(home, certificate, "hook.test")
    assert row.delivered and len(requests) == 1
    row, requests = _deliver_tls(home, certificate, "other.test")
    assert not row.delivered and not requests and row.error and "certificate" in row.error


def test_an_unknown_certificate_is_not_accepted(home: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _names(monkeypatch, ["127.0.0.1"])
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    row, requests = _deliver_tls(home, certificate, "hook.test")
    assert not row.delivered and not requests and row.error and "certificate was not accepted" in row.error


# --- signatures ---------------------------------------------------------------------------------------------------

NOW = 1_800_000_000


def test_verify_accepts_what_was_signed_and_nothing_else() -> None:
    header = sign("key", b"{}", NOW)
    assert verify("key", header, b"{}", 300, now=NOW + 299) and verify(b"key", header, b"{}", now=NOW - 299)
    assert not verify("key", header, b"{ }", now=NOW)
    assert not verify("yek", header, b"{}", now=NOW)
    assert not verify("key", header, b"{}", 300, now=NOW + 301), "a recorded request, sent again"
    assert not verify("key", header, b"{}", 300, now=NOW - 301)
    assert not verify("key", header.replace(f"t={NOW}", f"t={NOW + 1}"), b"{}", now=NOW)
    assert verify("key", f"t={NOW},v1=00,{header.split(',')[1]}", b"{}", now=NOW), "two secrets while one is changed"
    assert not verify("key", f"t={NOW},{header}", b"{}", now=NOW), "which time?"
    assert not verify("key", None, b"{}", now=NOW)


@given(st.text(max_size=100) | st.builds("t={},v1={}".format, st.text(max_size=30), st.text(max_size=30)))
def test_any_header_is_just_not_valid(header: str) -> None:
    assert not verify("key", header, b"{}", now=NOW)


def test_the_secret_is_made_once_and_is_its_owners(home: Path) -> None:
    settings = Settings(home=home)
    with ThreadPool(8) as pool:
        found = set(pool.map(lambda _: callback_secret(settings), range(32)))
    assert len(found) == 1 and len(found.pop()) >= 32
    file = home / "callback-secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(home) == ["callback-secret"], "nothing is left over"
    assert callback_secret(callbacks_settings(home, secret="given")) == b"given"


@pytest.mark.parametrize("secret", ["", "  "])
def test_an_empty_secret_is_refused(home: Path, secret: str) -> None:
    with pytest.raises(AutoScorerError) as caught:
        callback_secret(callbacks_settings(home, secret=secret))
    assert caught.value.stage == "config"


def test_a_secret_file_that_can_not_be_used_is_told(home: Path) -> None:
    (home / "callback-secret").mkdir()
    with pytest.raises(AutoScorerError) as caught:
        callback_secret(Settings(home=home))
    assert "callback-secret" in caught.value.message and str(home) not in caught.value.message
