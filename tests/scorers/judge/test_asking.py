"""Asking a judge over real HTTP: forms, repairs, retries, what is told of failures."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.scorers.judge.client import Judge
from autoscorer.scorers.judge.runtime import JudgeRuntime
from autoscorer.scorers.judge.transport import _retry_after
from autoscorer.scorers.judge.usage import Usage
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ...support.judges import KEY, SCHEMA, ask, prompt, run, settings_of
from ...support.ports import free_port
from ...support.stub_judge import Faults, StubJudge
from ...support.stub_judge import stub as stub

GOOD = {"verdict": True, "reason": "it is"}


def story(home: Path, stub: StubJudge, *, text: str = "Is it so?", **others: Any) -> tuple[Any, Usage]:
    """One question: the answer, or the error, and what it took."""
    usage = Usage()
    settings = settings_of(home, stub.url, **others)
    return run(settings, lambda runtime: ask(runtime, text, usage=usage)), usage


def reason(error: Any) -> str:
    assert isinstance(error, AutoScorerError), error
    assert error.code is ErrorCode.JUDGE_ERROR
    assert set(error.details) == {"reason", "profile", "model", "status", "retryable"}
    assert (error.details["profile"], error.details["model"]) == ("main", "large")
    return str(error.details["reason"])


def test_an_answer_follows_the_schema_and_its_tokens_are_counted(home: Path, stub: StubJudge) -> None:
    answer, usage = story(home, stub, judge={"price": {"prompt": 2, "completion": 10}})
    assert set(answer) == {"verdict", "reason"}
    body = stub.bodies[0]
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("large", 0, 0, 1024)
    assert body["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": SCHEMA}
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    tokens = (len("You judge.\nIs it so?") // 4, len(json.dumps(answer)) // 4)
    assert usage == Usage(1, 0, *tokens, cost=(tokens[0] * 2 + tokens[1] * 10) / 1_000_000)


def test_the_key_is_sent_in_one_header(home: Path, stub: StubJudge) -> None:
    story(home, stub)
    (headers,) = stub.headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert [name for name, value in headers.items() if KEY in value] == ["authorization"] and "cookie" not in headers


def test_an_unknown_price_makes_the_cost_unknown_and_not_zero(home: Path, stub: StubJudge) -> None:
    assert story(home, stub)[1].cost is None


def test_tokens_that_a_server_does_not_report_are_unknown(home: Path, stub: StubJudge) -> None:
    stub.tells_usage = False
    _, usage = story(home, stub, judge={"price": {"prompt": 1, "completion": 1}})
    assert (usage.calls, usage.tokens, usage.tokens_known, usage.cost) == (1, 0, False, None)


def test_sampling_that_a_server_does_not_take_can_be_left_out(home: Path, stub: StubJudge) -> None:
    story(home, stub, judge={"temperature": None, "seed": None})
    assert not {"temperature", "seed"} & stub.bodies[0].keys()


# --- forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "forms"),
    [
        ({"maxLength"}, ["json_schema", "json_schema"]),
        ({"json_schema"}, ["json_schema", "json_schema", "json_object"]),
        ({"json_schema", "json_object"}, ["json_schema", "json_schema", "json_object", None]),
    ],
)
def test_a_form_that_is_refused_is_not_tried_again(
    home: Path, stub: StubJudge, refused: set[str], forms: list[str | None]
) -> None:
    stub.refused_forms = frozenset(refused)

    async def two(runtime: JudgeRuntime) -> list[Any]:
        return [await ask(runtime, "One?"), await ask(runtime, "Two?")]

    answers = run(settings_of(home, stub.url), two)
    assert all(set(answer) == {"verdict", "reason"} for answer in answers)
    assert [body.get("response_format", {}).get("type") for body in stub.bodies] == [*forms, forms[-1]]


def test_a_form_that_is_configured_is_the_only_one(home: Path, stub: StubJudge) -> None:
    stub.refused_forms = frozenset({"json_object"})
    error, _ = story(home, stub, judge={"structured": "json_object"})
    assert reason(error) == "refused" and stub.calls == 1


def test_a_request_that_is_refused_in_every_form_teaches_nothing(home: Path, stub: StubJudge) -> None:
    stub.refused_fields = {"seed": "no seed here"}

    async def two(runtime: JudgeRuntime) -> list[Any]:
        first = await ask(runtime, "One?")
        stub.refused_fields = {}
        return [first, await ask(runtime, "Two?")]

    first, second = run(settings_of(home, stub.url), two)
    assert reason(first) == "refused" and set(second) == {"verdict", "reason"}
    assert stub.bodies[-1]["response_format"]["type"] == "json_schema"


def test_a_server_that_calls_the_limit_otherwise_is_understood(home: Path, stub: StubJudge) -> None:
    stub.refused_fields = {"max_tokens": "Unsupported parameter: use 'max_completion_tokens' instead."}
    answer, _ = story(home, stub)
    assert set(answer) == {"verdict", "reason"}
    assert stub.bodies[-1]["max_completion_tokens"] == 1024 and "max_tokens" not in stub.bodies[-1]


def test_text_around_the_object_is_accepted_where_only_text_can_be_asked_for(home: Path, stub: StubJudge) -> None:
    stub.wraps = "Here it is:\n```json\n{}\n```\nI hope it helps."
    answer, _ = story(home, stub, judge={"structured": "text"})
    assert set(answer) == {"verdict", "reason"} and stub.calls == 1


# --- answers that can't be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"verdict": "yes", "reason": ""}, "no JSON", '{"verdict": true, "verdict": true}'])
def test_a_wrong_answer_is_mended_once(home: Path, stub: StubJudge, wrong: Any) -> None:
    def answer(asked: str, schema: Mapping[str, Any]) -> Any:
        return GOOD if "can't be used" in asked else wrong

    stub.answer = answer
    value, usage = story(home, stub)
    assert value == GOOD and usage.calls == 2
    roles = [message["role"] for message in stub.bodies[1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


def test_one_that_stays_wrong_is_a_bad_answer_that_says_what_was_wrong(home: Path, stub: StubJudge) -> None:
    stub.answer = lambda asked, schema: {"verdict": True}
    error, usage = story(home, stub)
    assert reason(error) == "bad_answer" and "the answer lacks reason" in error.message
    assert usage.calls == stub.calls == 2


def test_an_answer_that_was_cut_is_asked_for_with_twice_the_tokens(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(truncated=1)
    error, usage = story(home, stub)
    assert reason(error) == "truncated" and error.details["retryable"]
    assert [body["max_tokens"] for body in stub.bodies] == [1024, 2048, 4096] and usage.calls == 3


def test_an_empty_answer_is_asked_for_again_with_another_seed(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(empty=1)
    error, _ = story(home, stub)
    assert reason(error) == "bad_answer" and "it is empty" in error.message
    assert len({body["seed"] for body in stub.bodies}) == stub.calls == 3


def test_a_model_that_declines_is_not_asked_again(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(refusal=1)
    error, usage = story(home, stub)
    assert reason(error) == "content_filtered" and not error.details["retryable"]
    assert usage.calls == stub.calls == 1


def test_garbage_in_place_of_an_answer_is_tried_again(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(garbage=1)
    error, usage = story(home, stub, judge={"max_attempts": 2})
    assert reason(error) == "bad_answer" and stub.calls == 2 and usage.calls == 0


# --- retries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["rate_limited", "server_error", "closed", "garbage"])
def test_what_may_pass_is_tried_again(home: Path, stub: StubJudge, fault: str) -> None:
    stub.faults = Faults(**{fault: 1}, first_tries=1)
    stub.retry_after = "0"
    answer, usage = story(home, stub)
    assert set(answer) == {"verdict", "reason"} and stub.calls == 2
    assert usage.calls == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "expected", "status"),
    [
        ("rate_limited", "rate_limited", 429),
        ("server_error", "server_error", 500),
        ("closed", "unreachable", None),
        ("hang", "timeout", None),
    ],
)
def test_what_stays_is_told_with_its_reason(
    home: Path, stub: StubJudge, fault: str, expected: str, status: int | None
) -> None:
    stub.faults = Faults(**{fault: 1})
    error, usage = story(home, stub, judge={"max_attempts": 2, "timeout": 0.3 if fault == "hang" else 20})
    assert reason(error) == expected and error.details["status"] == status and error.details["retryable"]
    assert stub.calls == 2 and usage == Usage()


def test_an_endpoint_that_nobody_listens_at_is_unreachable(home: Path) -> None:
    settings = settings_of(home, f"http://127.0.0.1:{free_port()}/v1", judge={"max_attempts": 2})
    assert reason(run(settings, ask)) == "unreachable"


def test_a_path_that_is_not_there_is_told_apart_and_not_tried_again(home: Path, stub: StubJudge) -> None:
    error = run(settings_of(home, stub.url + "/other"), ask)
    assert reason(error) == "not_found" and not error.details["retryable"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_the_key_goes_nowhere_else(home: Path, stub: StubJudge, status: int) -> None:
    with Redirect(stub.url, status) as redirect:
        error = run(settings_of(home, redirect.url), ask)
    assert reason(error) == "refused" and error.details["status"] == status and stub.calls == 0


def test_an_answer_without_end_is_given_up(home: Path) -> None:
    with Endless() as endless:
        error = run(settings_of(home, endless.url, judge={"max_attempts": 1}), ask)
    assert reason(error) == "bad_answer"


@pytest.mark.parametrize(
    ("status", "error", "expected", "told", "tries"),
    [
        (400, {"code": "content_filter"}, "content_filtered", 400, 1),
        (401, {"message": f"Incorrect API key provided: {KEY[:12]}***"}, "unauthorized", 401, 1),
        (403, {}, "unauthorized", 403, 1),
        (402, {"message": "pay"}, "refused", 402, 1),
        (413, "too large", "refused", 413, 1),
        (408, {}, "timeout", 408, 2),
        (409, {}, "server_error", 409, 2),
        (429, {"code": "insufficient_quota"}, "rate_limited", 429, 1),
        (503, {}, "server_error", 503, 2),
        # As routers of several providers say it.
        (200, {"code": 429, "message": "slow down"}, "rate_limited", 429, 2),
        (200, {"code": 400, "message": "no"}, "refused", 400, 4),
        (200, {"code": 1302, "message": "no"}, "bad_answer", 200, 2),
    ],
)
def test_what_a_server_says_is_final_or_may_pass(
    home: Path,
    stub: StubJudge,
    caplog: pytest.LogCaptureFixture,
    status: int,
    error: Any,
    expected: str,
    told: int,
    tries: int,
) -> None:
    stub.instead = (status, {"error": error or {"message": "no"}})
    found, _ = story(home, stub, judge={"max_attempts": 2})
    assert reason(found) == expected and found.details["status"] == told and stub.calls == tries
    assert KEY[:12] not in caplog.text


def test_a_certificate_that_nobody_vouches_for_is_refused(home: Path, tmp_path: Path) -> None:
    stub = StubJudge(tls=self_signed(tmp_path)).start()
    try:
        error = run(settings_of(home, stub.url), ask)
    finally:
        stub.stop()
    assert reason(error) == "unreachable" and not error.details["retryable"] and stub.calls == 0


def test_proxies_of_the_environment_are_not_used(home: Path, stub: StubJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    answer, _ = story(home, stub, judge={"max_attempts": 1})
    assert set(answer) == {"verdict", "reason"}


def test_retry_after_holds_seconds_or_a_date() -> None:
    assert _retry_after({}) is None and _retry_after({"Retry-After": "soon"}) is None
    assert _retry_after({"Retry-After": "1.5"}) == 1.5
    assert _retry_after({"Retry-After": "-3"}) == 0 and _retry_after({"Retry-After": "nan"}) is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 20 < (_retry_after({"Retry-After": later}) or 0) <= 30


@pytest.mark.slow
def test_retry_after_is_heeded_by_the_other_calls_of_the_profile_too(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(rate_limited=1)
    stub.retry_after = "60"

    async def two(runtime: JudgeRuntime) -> Any:
        first = asyncio.ensure_future(ask(runtime, "One?"))
        await asyncio.sleep(0)
        while runtime._endpoints["judge", "main"]._paused_until == 0:
            await asyncio.sleep(0.01)
        second = await ask(runtime, "Two?", deadline=1)
        first.cancel()
        return second

    assert reason(run(settings_of(home, stub.url), two)) == "deadline"
    assert stub.calls == 1


# --- deadline -------------------------------------------------------------------------------------------------------


def test_a_deadline_ends_calls_that_wait_for_an_answer(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(hang=1)
    error = run(settings_of(home, stub.url, deadline=0.3), ask)
    assert reason(error) == "deadline"


def test_a_deadline_ends_calls_that_wait_for_a_place(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(hang=1)

    async def two(runtime: JudgeRuntime) -> Any:
        # The first one keeps its place: were it to end at the same moment, the second could still get it.
        first = asyncio.ensure_future(ask(runtime, "One?"))
        while stub.calls == 0:
            await asyncio.sleep(0.01)
        second = await ask(runtime, "Two?", deadline=0.3)
        first.cancel()
        return second

    assert reason(run(settings_of(home, stub.url, judge={"concurrency": 1}), two)) == "deadline"
    assert stub.calls == 1


# --- what is told ---------------------------------------------------------------------------------------------------


def test_the_key_and_the_host_stand_nowhere(
    home: Path, stub: StubJudge, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    stub.refused_fields = {"max_tokens": f"refused: {KEY} at {stub.url}"}
    settings = settings_of(home, stub.url, judge={"max_attempts": 1})

    async def all_kinds(runtime: JudgeRuntime) -> list[Any]:
        told: list[Any] = [await ask(runtime, "One?")]
        stub.refused_fields = {}
        for fault in ("server_error", "closed", "garbage", "refusal", "wrong_schema", "rate_limited"):
            stub.faults = Faults(**{fault: 1})
            told.append(await ask(runtime, fault))
        stub.faults = Faults()
        session = runtime.session()
        told += [session, session.judge, session.embedder, runtime._endpoints]
        assert session.judge is not None and session.embedder is not None
        told += [await session.judge.ask(prompt("Two?"), SCHEMA, usage=Usage())]
        await session.embedder.embed(["text"], usage=Usage())
        return told

    told = run(settings, all_kinds)
    assert len([each for each in told if isinstance(each, AutoScorerError)]) == 7
    told += [each.to_dict() for each in told if isinstance(each, AutoScorerError)]
    told += [each.__context__ for each in told if isinstance(each, AutoScorerError)]
    shown = (
        " ".join(map(repr, told)) + " ".join(map(str, told)) + caplog.text + repr(settings) + str(settings.to_dict())
    )
    for file in home.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes()
    assert "It said: refused: … at …" in caplog.text
    assert KEY not in shown and KEY[:10] not in shown
    # The host is the operator's, and stands in the settings alone.
    assert str(stub.port) not in " ".join(map(repr, told))


def test_a_judge_says_which_it_is(home: Path, stub: StubJudge) -> None:
    async def sessions(runtime: JudgeRuntime) -> list[Judge | None]:
        return [runtime.session(judge=name).judge for name in (None, "main", "small", "large")]

    judges = run(settings_of(home, stub.url, judge={"votes": 3}), sessions)
    assert [(judge.name, judge.model, judge.votes) for judge in judges if judge is not None] == [
        ("main", "large", 3), ("main", "large", 3), ("main", "small", 3), ("main", "large", 3),
    ]  # fmt: skip


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "server.pem"
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


class Redirect:
    """Answers everything with a redirect."""

    head = "HTTP/1.1 {} Moved\r\nLocation: {}/chat/completions\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def __init__(self, to: str = "", status: int = 0) -> None:
        self._answer = self.head.format(status, to).encode()

    def __enter__(self) -> Redirect:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(300)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near:
                near.recv(65536)
                try:
                    self.send(near)
                except OSError:
                    continue

    def send(self, near: Any) -> None:
        near.sendall(self._answer)


class Endless(Redirect):
    """Answers everything with text that does not end."""

    def send(self, near: Any) -> None:
        near.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
        while True:
            near.sendall(b" " * 65536)
