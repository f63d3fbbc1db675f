"""A multipart form with one file, written where it belongs while it comes.

The parser is python-multipart's. The forms that it and Starlette build on it keep files under the system's temporary
folder, often in memory; an archive of a gigabyte belongs on the disk it will be unpacked on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from ..core.errors import AutoScorerError, ErrorCode

__all__ = ["Form", "receive_form"]

_MAX_FIELD = 4096


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
        AutoScorerError: ``INVALID_REQUEST`` for what is not such a form.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise _wrong("the body must be multipart/form-data, such as `curl -F file=@team-a.zip` sends")
    form = Form(file_field, known)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.on_part_begin,
                "on_header_field": form.on_header_field,
                "on_header_value": form.on_header_value,
                "on_header_end": form.on_header_end,
                "on_headers_finished": form.on_headers_finished,
                "on_part_data": form.on_part_data,
                "on_part_end": form.on_part_end,
                "on_end": form.on_end,
            },
        )
        async for chunk in request.stream():
            parser.write(chunk)
            for data in form.arrived:
                await write(data)
            form.arrived.clear()
        parser.finalize()
    except FormParserError:
        raise _wrong("the body is not well-formed multipart/form-data") from None
    except ClientDisconnect:
        raise AutoScorerError(ErrorCode.CANCELLED, "The client went away while it sent the archive.") from None
    if not form.has_ended:
        raise _wrong("the form ends too early")
    if not form.has_file:
        raise _wrong(f"the field {file_field!r} with the archive is missing")
    return form


class Form:
    """A form as the parser's callbacks tell of it.

    Attributes:
        fields: The plain fields.
        filename: The file's own name, as the caller gave it.
        has_file: Whether a file came.
        arrived: Bytes of the file that are to be written.
        has_ended: Whether its end was seen.
    """

    def __init__(self, file_field: str, known: frozenset[str]) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.has_file = self.has_ended = False
        self.arrived: list[bytes] = []
        self._file_field, self._known = file_field, known

    def on_part_begin(self) -> None:
        self._header, self._value, self._disposition = b"", b"", b""
        self._field, self._text = "", b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if name == self._file_field and not self.has_file:
            self.has_file = True
            filename = options.get(b"filename")
            self.filename = filename.decode("utf-8", "replace") if filename is not None else None
        elif name not in self._known or name in self.fields:
            raise _wrong(
                f"the field {name[:100]!r} is unknown or appears in the form twice; known are "
                f"{', '.join(sorted({self._file_field, *self._known}))}"
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == self._file_field:
            self.arrived.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MAX_FIELD:
            raise _wrong(f"the field {self._field!r} is longer than {_MAX_FIELD} bytes")

    def on_part_end(self) -> None:
        if self._field != self._file_field:
            try:
                self.fields[self._field] = self._text.decode()
            except UnicodeDecodeError:
                raise _wrong(f"the field {self._field!r} is not UTF-8") from None

    def on_end(self) -> None:
        self.has_ended = True


def _wrong(why: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.INVALID_REQUEST, f"The upload can't be read: {why}.")
