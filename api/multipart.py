"""A multipart form with one file, written where it belongs while it comes.

Starlette's own form parser keeps files under the system's temporary folder, often in memory; an archive of a gigabyte
belongs on the disk it will be unpacked on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from ..core.errors import AutoScorerError, ErrorCode

__all__ = ["Form", "receive_form"]

_MAX_FIELD = 4096
_MAX_PARTS = 16


@dataclass
class Form:
    """What stood beside the file.

    Args:
        fields: The plain fields.
        filename: The file's own name, as the caller gave it.
        has_file: Whether a file came.
    """

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    has_file: bool = False


async def receive_form(
    request: Request, file_field: str, known: frozenset[str], write: Callable[[bytes], Awaitable[None]]
) -> Form:
    """Read the body of a request.

    Args:
        request: The request; its body has not been read.
        file_field: Name of the field that is the file.
        known: Names of the other fields that there may be.
        write: Takes the file's bytes as they come.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for what is no such form.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise _wrong("the body must be multipart/form-data, such as `curl -F file=@team-a.zip` sends")
    reader = _Reader(file_field, known)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.begin,
                "on_header_field": reader.header_name,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_end,
                "on_headers_finished": reader.headers_finished,
                "on_part_data": reader.data,
                "on_part_end": reader.end,
                "on_end": reader.finish,
            },
        )
        async for chunk in request.stream():
            parser.write(chunk)
            for data in reader.take():
                await write(data)
        parser.finalize()
    except FormParserError:
        raise _wrong("the body is not well-formed multipart/form-data") from None
    except ClientDisconnect:
        raise AutoScorerError(ErrorCode.CANCELLED, "The client went away while it sent the archive.") from None
    if not reader.finished:
        raise _wrong("the form ends too early")
    if not reader.form.has_file:
        raise _wrong(f"the field {file_field!r} with the archive is missing")
    return reader.form


class _Reader:
    """Takes the parser's callbacks; file data waits in ``take`` until it can be written."""

    def __init__(self, file_field: str, known: frozenset[str]) -> None:
        self.form = Form()
        self.finished = False
        self._file_field, self._known = file_field, known
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        self._field: str | None = None
        self._text = b""
        self._waiting: list[bytes] = []

    def take(self) -> list[bytes]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _wrong(f"the form has more than {_MAX_PARTS} fields")
        self._headers, self._field, self._text = {}, None, b""

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == self._file_field:
            if self.form.has_file:
                raise _wrong(f"the field {name!r} appears in the form twice")
            self.form.has_file = True
            filename = options.get(b"filename")
            self.form.filename = filename.decode("utf-8", "replace") if filename is not None else None
        elif name not in self._known or name in self.form.fields:
            raise _wrong(
                f"the field {name[:100]!r} is unknown or appears in the form twice; known are "
                f"{', '.join(sorted({self._file_field, *self._known}))}"
            )
        self._field = name

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._field == self._file_field:
            self._waiting.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MAX_FIELD:
            raise _wrong(f"the field {self._field!r} is longer than {_MAX_FIELD} bytes")

    def end(self) -> None:
        if self._field is not None and self._field != self._file_field:
            try:
                self.form.fields[self._field] = self._text.decode()
            except UnicodeDecodeError:
                raise _wrong(f"the field {self._field!r} is not UTF-8") from None

    def finish(self) -> None:
        self.finished = True


def _wrong(why: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.INVALID_REQUEST, f"The upload can't be read: {why}.")
