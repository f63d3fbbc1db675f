"""An OpenAI-compatible server for tests: real HTTP on loopback, in a thread of its own, the same in every run.

What it does wrong is decided by the digest of the request's body and by how often that body has come, so that equal
runs meet equal faults. Benchmarks make a ``StubJudge`` of their own; tests take the fixture ``stub``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

__all__ = ["Faults", "StubJudge", "filled", "stub"]

Answer = Callable[[str, Mapping[str, Any]], Any]
_SCHEMA = "JSON object of this JSON schema and nothing else: "


@dataclass
class Faults:
    """Shares of requests that go wrong, each from 0 to 1; together at most 1.

    Args:
        rate_limited: 429, with ``retry_after`` where that is given.
        server_error: 500.
        closed: The connection ends in the middle of the answer.
        hang: No answer comes.
        garbage: 200 with something that is no JSON.
        truncated: The answer is cut at half, and says so.
        empty: The answer holds no text.
        wrong_schema: The answer is an object that lacks everything.
        invalid_json: The answer is half of an object.
        refusal: The model declines.
        first_tries: A request goes wrong so often at most; None for no end.
    """

    rate_limited: float = 0
    server_error: float = 0
    closed: float = 0
    hang: float = 0
    garbage: float = 0
    truncated: float = 0
    empty: float = 0
    wrong_schema: float = 0
    invalid_json: float = 0
    refusal: float = 0
    first_tries: int | None = None

    _names = ("rate_limited", "server_error", "closed", "hang", "garbage", "truncated", "empty", "wrong_schema",
              "invalid_json", "refusal")  # fmt: skip

    def of(self, body: bytes, attempt: int) -> str | None:
        """What goes wrong with the nth attempt at a request, counted from 0; None for nothing."""
        if self.first_tries is not None and attempt >= self.first_tries:
            return None
        digest = hashlib.sha256(body + attempt.to_bytes(4, "big")).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64
        for name in self._names:
            drawn -= getattr(self, name)
            if drawn < 0:
                return name
        return None


@dataclass
class StubJudge:
    """The server, from ``start`` to ``stop``.

    Args:
        answer: From the prompt (all messages, joined) and the schema to the answer's value; ``filled`` when absent.
        data: From texts to what stands in ``data`` of their embeddings; vectors of their digests when absent.
        latency: Seconds before each answer.
        faults: What goes wrong.
        retry_after: The header of a 429; none when absent.
        refused_forms: Types of ``response_format`` that are answered with 400; ``maxLength`` refuses schemas with it.
        refused_fields: Fields of the body that are answered with 400, each with the message.
        tells_usage: Whether tokens are counted.
        instead: Status and JSON of every answer, in place of what would be answered.
        tls: Its certificate, where it is asked over HTTPS.
        wraps: Put around each answer's text; ``{}`` is the text.
        base64_vectors: Whether vectors are sent so.
        dimensions: Of vectors.

    Attributes:
        bodies: Every request to the chat and to embeddings, decoded, in their order.
        headers: Their headers.
        most: The most that were under way at a time.
        twins: Whether two equal ones ever were.
    """

    answer: Answer | None = None
    data: Callable[[list[str]], Any] | None = None
    latency: float = 0
    faults: Faults = field(default_factory=Faults)
    retry_after: str | None = None
    refused_forms: frozenset[str] = frozenset()
    refused_fields: dict[str, str] = field(default_factory=dict)
    tells_usage: bool = True
    instead: tuple[int, Any] | None = None
    tls: ssl.SSLContext | None = None
    wraps: str = "{}"
    base64_vectors: bool = False
    dimensions: int = 8
    models: tuple[str, ...] = ("large", "small")

    def __post_init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.most = 0
        self.twins = False
        self._tries: Counter[bytes] = Counter()
        self._under_way: Counter[bytes] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The base URL, with its ``/v1``."""
        return f"http{'' if self.tls is None else 's'}://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> int:
        """How many requests have come."""
        return len(self.bodies)

    def start(self) -> StubJudge:
        self._thread.start()
        assert self._ready.wait(300) and self.port, self._failed
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(300)

    def _serve(self) -> None:
        try:
            runner = self._loop.run_until_complete(self._listen())
        except BaseException as error:
            self._failed = error
            raise
        finally:
            self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _listen(self) -> web.AppRunner:
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._list)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._counted(request, self._completion)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self._counted(request, self._vectors)

    async def _counted(
        self, request: web.Request, respond: Callable[[dict[str, Any], str | None], dict[str, Any]]
    ) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        attempt = self._tries[raw]
        self._tries[raw] += 1
        self._under_way[raw] += 1
        self.most = max(self.most, self._under_way.total())
        self.twins = self.twins or self._under_way[raw] > 1
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            response = await self._answered(request, body, self.faults.of(raw, attempt), respond)
        finally:
            self._under_way[raw] -= 1
        self.statuses.append(response.status)
        return response

    async def _answered(
        self,
        request: web.Request,
        body: dict[str, Any],
        fault: str | None,
        respond: Callable[[dict[str, Any], str | None], dict[str, Any]],
    ) -> web.StreamResponse:
        if self.instead is not None:
            return web.json_response(self.instead[1], status=self.instead[0])
        refused = self._refused(body)
        if refused is not None:
            return _error(400, refused)
        match fault:
            case "hang":
                await asyncio.sleep(3600)
            case "rate_limited":
                headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
                return _error(429, "too many requests", headers)
            case "server_error":
                return _error(500, "it broke")
            case "garbage":
                return web.Response(text="<html>no JSON</html>", content_type="text/html")
            case "closed":
                response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
                await response.prepare(request)
                await response.write(b'{"choices": [')
                assert request.transport is not None
                request.transport.close()
                return response
        return web.json_response(respond(body, fault))

    def _refused(self, body: dict[str, Any]) -> str | None:
        for name, message in self.refused_fields.items():
            if name in body:
                return message
        form = body.get("response_format", {})
        if form.get("type") in self.refused_forms:
            return f"response_format {form['type']} is not supported"
        if "maxLength" in self.refused_forms and "maxLength" in json.dumps(form):
            return "maxLength is not permitted"
        return None

    def _completion(self, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        prompt = "\n".join(message["content"] for message in body["messages"])
        schema = _schema_of(body)
        if self.answer is not None:
            value = self.answer(prompt, schema)
        else:
            assert schema, "no schema in the request"
            value = filled(prompt, schema)
        text = value if isinstance(value, str) else self.wraps.replace("{}", json.dumps(value, ensure_ascii=False))
        finish, message = "stop", {"role": "assistant", "content": text}
        match fault:
            case "truncated":
                finish, message["content"] = "length", text[: len(text) // 2]
            case "empty":
                message["content"] = ""
            case "wrong_schema":
                message["content"] = "{}"
            case "invalid_json":
                message["content"] = text[: len(text) // 2]
            case "refusal":
                message = {"role": "assistant", "content": "", "refusal": "I can't help with that."}
        answer = {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        }
        if self.tells_usage:
            answer["usage"] = _usage(len(prompt) // 4, len(message["content"]) // 4)
        return answer

    def _vectors(self, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data: Any = []
        for index, text in enumerate(texts):
            vector: Any = _vector(text, self.dimensions)
            if self.base64_vectors:
                vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        if fault == "wrong_schema":
            data = data[1:]
        # In another order than that of the texts: the index says which is whose.
        data = data[::-1] if self.data is None else self.data(texts)
        answer = {"object": "list", "model": body["model"], "data": data}
        if self.tells_usage:
            tokens = sum(len(text) for text in texts) // 4
            answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        return answer


def filled(prompt: str, schema: Mapping[str, Any]) -> Any:
    """A value that follows a schema, the same for equal prompts."""
    match schema.get("type"):
        case "object":
            return {name: filled(prompt + name, below) for name, below in schema["properties"].items()}
        case "array":
            number = max(schema.get("minItems", 0), min(2, schema["maxItems"]))
            return [filled(f"{prompt}{index}", schema["items"]) for index in range(number)]
        case "boolean":
            return _drawn(prompt, 2) == 1
        case "string":
            if "enum" in schema:
                return schema["enum"][_drawn(prompt, len(schema["enum"]))]
            return f"text {hashlib.sha256(prompt.encode()).hexdigest()}"[: schema.get("maxLength", 20)]
    raise AssertionError(schema)


def _drawn(prompt: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") % number


def _vector(text: str, dimensions: int) -> list[float]:
    digests = b"".join(hashlib.sha256(f"{place} {text}".encode()).digest() for place in range(dimensions))
    raw = [int.from_bytes(digests[32 * place :][:4], "big", signed=True) / 2**31 for place in range(dimensions)]
    length = math.sqrt(sum(number * number for number in raw))
    return [number / length for number in raw]


def _schema_of(body: dict[str, Any]) -> dict[str, Any]:
    form = body.get("response_format", {})
    if form.get("type") == "json_schema":
        schema: dict[str, Any] = form["json_schema"]["schema"]
        return schema
    for message in reversed(body["messages"]):
        if _SCHEMA in message["content"]:
            return dict(json.loads(message["content"].rpartition(_SCHEMA)[2]))
    return {}


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "error"}}, status=status, headers=headers)


@pytest.fixture
def stub() -> Iterator[StubJudge]:
    """A server that does nothing wrong until a test tells it to."""
    one = StubJudge().start()
    yield one
    one.stop()
