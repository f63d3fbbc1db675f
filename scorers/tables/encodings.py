"""Text files in another encoding than UTF-8, read as if they were UTF-8, some bytes at a time.

The readers of tables and boxes know UTF-8 alone. A file that meta.json's ``data.encoding`` speaks of is decoded on its
way to them, exactly as Python decodes it; its digest is that of its own bytes.
"""

from __future__ import annotations

import codecs
import io
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, cast

from ...core.workspace import open_regular
from .block import bad_format

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["as_utf_8", "digest_of", "open_text"]

CHUNK_BYTES = 1 << 17
# Of which the readers drop a byte-order mark themselves.
_UTF_8 = ("utf-8", "utf-8-sig")


def open_text(path: Path, encoding: str) -> IO[bytes]:
    """Open a file of text so that it reads as UTF-8.

    Args:
        path: A plain file.
        encoding: As ``Job.data.encoding`` holds it. Parquet has one of its own, and is opened as it is.

    Raises:
        AutoScorerError: As ``open_regular``; and from reading, ``BAD_FORMAT`` at bytes that are no text in it.
    """
    return as_utf_8(open_regular(path), path, encoding)


def as_utf_8(file: IO[bytes], path: Path, encoding: str) -> IO[bytes]:
    """An open file, so that it reads as UTF-8.

    Args:
        file: At its start.
        path: For its suffix and its name.
        encoding: As for ``open_text``.
    """
    if path.suffix == ".parquet" or codecs.lookup(encoding).name in _UTF_8:
        return file
    return cast("IO[bytes]", io.BufferedReader(_Transcoded(file, path.name, encoding), CHUNK_BYTES))


def digest_of(file: IO[bytes], found: str) -> str:
    """The sha256 of a file's own bytes, once it was read to its end.

    Args:
        file: What ``open_text`` gave.
        found: The digest of what was read from it.
    """
    raw = getattr(file, "raw", None)
    return raw.sha256 if isinstance(raw, _Transcoded) else found


class _Transcoded(io.RawIOBase):
    """A file's text as UTF-8."""

    def __init__(self, file: IO[bytes], name: str, encoding: str) -> None:
        self._file = file
        self._name = name
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._digest = sha256()
        self._ready = memoryview(b"")
        self._lines = 0
        self._after_cr = False
        self._eof = False

    @property
    def sha256(self) -> str:
        """Of the file's own bytes, as far as they were read."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Of the file itself, whose size it tells."""
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._ready and not self._eof:
            self._decode(self._file.read(CHUNK_BYTES))
        with memoryview(buffer).cast("B") as view:
            count = min(len(view), len(self._ready))
            view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decode(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._eof = not chunk
        state = self._decoder.getstate()
        try:
            text = self._decoder.decode(chunk, final=self._eof)
            self._ready = memoryview(text.encode())
        except UnicodeEncodeError as error:  # half of a surrogate pair, which some codecs let pass
            self._refuse(text[: error.start])
        except UnicodeDecodeError as error:
            # The bytes before: the codec may have had some of them in hand, of the chunk before.
            before = max(0, len(chunk) - (len(error.object) - error.start))
            again = codecs.getincrementaldecoder(self._encoding)("replace")
            again.setstate(state)
            self._refuse(again.decode(chunk[:before]), error.object[error.start])
        else:
            self._count(text)

    def _count(self, text: str) -> None:
        if not text:
            return
        ends = text.count("\n") + text.count("\r") - text.count("\r\n")
        self._lines += ends - (self._after_cr and text[0] == "\n")
        self._after_cr = text[-1] == "\r"

    def _refuse(self, before: str, byte: int | None = None) -> NoReturn:
        self._count(before)
        what = "half of a character" if byte is None else f"the byte 0x{byte:02X}"
        raise bad_format(
            self._name,
            f"line {self._lines + 1}",
            f"{what} is not text in {self._encoding}, which meta.json names as data.encoding.",
        )
