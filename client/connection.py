"""A connection to the REST API: one envelope in, its data or its error out."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Self
from urllib.parse import quote, urlsplit

import httpx

from ..core.errors import AutoScorerError, ErrorCode
from ..core.version import __version__

__all__ = ["ANSWER", "LOOPBACK", "ApiAway", "ApiBusy", "Connection", "checked_host", "task_path"]

Json = dict[str, Any]

# This machine's own names.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
CONNECT = 5.0
ANSWER = 60.0
# An archive of gigabytes is unpacked and synced before there is an answer.
UNPACKED = 1800.0
# A stream that is silent for longer has ended without a word: it sends a heartbeat every few seconds.
SILENCE = 60.0
# Seconds between further tries of a request whose answer was lost; with its Idempotency-Key a task is accepted once.
LOST = (0.5, 1.0, 2.0, 4.0)


class ApiAway(AutoScorerError):
    """The API does not answer; asking again later may help.

    Args:
        url: The API's address.
        why: What happened instead.
        was_sent: Whether the request may have reached it all the same.
        after: Seconds to wait before asking again, where it said so.
    """

    def __init__(self, url: str, why: str, *, was_sent: bool = False, after: float | None = None) -> None:
        super().__init__(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"No AutoScorer API answers at {url}: {why}. Start one with `autoscorer up` or `autoscorer serve`, or name "
            "another by --api, by api_url in the configuration or by AUTOSCORER_API_URL.",
            stage="api",
            details={"url": url},
        )
        self.was_sent, self.after = was_sent, after


class Connection:
    """A connection to the API; use it with ``with``.

    Args:
        url: Its address.
        token: What it is shown, if anything.
        timeout: Seconds that an answer may take.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when the address is not a plain http(s) address.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = ANSWER) -> None:
        self.url = url.rstrip("/")
        host = checked_host(url)
        headers = {"user-agent": f"autoscorer/{__version__}", "accept": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=httpx.Timeout(timeout, connect=CONNECT),
                # A proxy of the environment leads to other machines, not to this one.
                trust_env=host not in LOOPBACK,
            )
        except (UnicodeError, ValueError):
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST, "The API token holds characters that no HTTP header can; it must be ASCII."
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The data of a GET.

        Raises:
            ApiAway: Nobody answers, or somebody who is no AutoScorer.
            AutoScorerError: What the API answered instead.
        """
        return self._data(self._send("GET", path, params=dict(params or {}))[0])

    def post(self, path: str, body: Json | None = None) -> Any:
        """The data of a POST that may be sent again without harm.

        Raises:
            ApiAway: As for ``get``.
            AutoScorerError: As for ``get``.
        """
        return self._data(self._send("POST", path, json=body)[0])

    def delete(self, path: str) -> Any:
        """The data of a DELETE.

        Raises:
            ApiAway: As for ``get``.
            AutoScorerError: As for ``get``.
        """
        return self._data(self._send("DELETE", path)[0])

    def submit(self, path: str, body: Json | None, key: str | None = None) -> tuple[Json, bool]:
        """Submit a task. Where the answer is lost it is sent again, and is accepted once all the same.

        Args:
            path: ``/submit``, ``/batch``, or a task's ``/retry``.
            body: JSON.
            key: The Idempotency-Key; one of its own when None.

        Returns:
            The task, and whether this request has made it; False where there was one already.

        Raises:
            ApiAway: As for ``get``.
            AutoScorerError: As for ``get``.
        """
        headers = {"idempotency-key": key or uuid.uuid4().hex}
        response, again = self._send("POST", path, json=body, headers=headers)
        task: Json = self._data(response)
        # After a lost answer the task that is there may be ours.
        return task, again or response.headers.get("x-task-created") != "false"

    def send_file(
        self,
        path: str,
        file: IO[bytes],
        filename: str,
        fields: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The data of a POST of one file, which is sent once, as it is read.

        Raises:
            ApiAway: As for ``get``; with ``was_sent`` it may have been taken all the same.
            AutoScorerError: As for ``get``.
        """
        try:
            response = self._http.post(
                path,
                data=dict(fields),
                headers=dict(headers or {}),
                files={"file": (filename, file, "application/octet-stream")},
                # What was received is unpacked before it answers.
                timeout=httpx.Timeout(UNPACKED, connect=CONNECT),
            )
        except httpx.HTTPError as error:
            raise self._away(error) from None
        return self._data(response)

    def stream(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """The JSON lines of a stream, as they come.

        Raises:
            ApiAway: As for ``get``, also in the middle.
            AutoScorerError: As for ``get``.
        """
        with self._streamed(path, params, {"accept": "application/x-ndjson"}) as response:
            for line in response.iter_lines():
                if line.strip():
                    yield self._line(line)

    def parts(
        self, path: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[bytes]:
        """The bytes of a stream, as they come.

        Raises:
            ApiAway: As for ``get``, also in the middle.
            AutoScorerError: As for ``get``.
        """
        with self._streamed(path, params, headers or {}) as response:
            yield from response.iter_bytes()

    @contextmanager
    def _streamed(
        self, path: str, params: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(
                "GET",
                path,
                params=dict(params or {}),
                headers=dict(headers),
                timeout=httpx.Timeout(SILENCE, connect=CONNECT),
            ) as response:
                if response.status_code != 200:
                    response.read()
                    self._data(response)
                yield response
        except httpx.HTTPError as error:
            raise self._away(error) from None

    def _send(self, method: str, path: str, **options: Any) -> tuple[httpx.Response, bool]:
        """The answer to a request that may be sent again without harm, and whether it was."""
        lost = False
        # Whoever looks again and again says so when nobody answers, so a GET is only spared a connection that was idle
        # for too long.
        for pause in (*(LOST if method == "POST" else LOST[:1]), None):
            try:
                return self._http.request(method, path, **options), lost
            except httpx.HTTPError as error:
                away = self._away(error)
                # Once a request may have arrived, an API that is being started anew is waited for.
                lost = lost or away.was_sent
                if not lost or pause is None:
                    raise away from None
                time.sleep(pause)
            except UnicodeEncodeError:
                raise AutoScorerError(
                    ErrorCode.INVALID_REQUEST, "A value holds characters that can't be sent."
                ) from None
        raise AssertionError("unreachable")

    def _data(self, response: httpx.Response) -> Any:
        try:
            envelope = response.json()
            if envelope["ok"] is True:
                return envelope["data"]
            error = AutoScorerError.from_dict(envelope["error"])
        except (ValueError, KeyError, TypeError):
            why = f"the server there is not AutoScorer (status {response.status_code})"
            raise ApiAway(self.url, why) from None
        if error.code is ErrorCode.RATE_LIMITED:
            raise ApiBusy(error, _seconds(response.headers.get("retry-after")))
        raise error

    def _line(self, line: str) -> Json:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ApiAway(self.url, "its stream is not JSON")
        return value

    def _away(self, error: httpx.HTTPError) -> ApiAway:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ApiAway(self.url, "no connection" if isinstance(error, httpx.ConnectTimeout) else _why(error))
        if isinstance(error, httpx.TimeoutException):
            return ApiAway(self.url, "no answer in time", was_sent=True)
        return ApiAway(self.url, "the connection broke", was_sent=True)


class ApiBusy(AutoScorerError):
    """The API asks for a pause.

    Args:
        error: What it answered.
        after: For how many seconds, where it said so.
    """

    def __init__(self, error: AutoScorerError, after: float | None) -> None:
        super().__init__(error.code, error.message, stage=error.stage, details=error.details)
        self.after = after


def task_path(task_id: str, below: str = "") -> str:
    """The path of a task, whatever somebody typed as its id.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when it can be no id.
    """
    # A path of dots would be another address.
    if not task_id.strip(".") or len(task_id) > 200:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"Expected a task id, got {task_id[:200]!r}.")
    return f"/tasks/{quote(task_id, safe='')}{below}"


def checked_host(url: str) -> str:
    def fail(why: str) -> AutoScorerError:
        # Without the address: a password may stand in it.
        return AutoScorerError(ErrorCode.INVALID_REQUEST, f"The API's address {why}; expected http(s)://host:port.")

    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise fail("is not a valid URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise fail("must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise fail("must hold no user name or password (the token comes from AUTOSCORER_API_TOKEN)")
    if parts.query or parts.fragment:
        raise fail("must end before any ? or #")
    return host


def _why(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError):
            return "the connection was refused"
        seen = seen.__cause__ or seen.__context__
    return f"no connection ({error})"


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else None
