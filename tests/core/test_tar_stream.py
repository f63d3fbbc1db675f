"""Headers of tars are read as Python's own ``tarfile`` reads them."""

from __future__ import annotations

import io
import tarfile

import pytest
from autoscorer.core.tar_stream import TarSource, members
from hypothesis import given, settings
from hypothesis import strategies as st

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]
KINDS = [b"\0", b"0", b"1", b"2", b"5", b"7", b"S", b"Z"]
NAMES = st.text(alphabet="ab/é.", min_size=1, max_size=45)


def read(block: bytes) -> tarfile.TarInfo | None:
    """The header as it is read; None where it is refused."""
    try:
        return next(members(TarSource(io.BytesIO(block), 10**12), 1), None)
    except (ValueError, tarfile.TarError, EOFError):
        return None


def facts(info: tarfile.TarInfo) -> tuple[object, ...]:
    size = info.size if info.isreg() else 0
    return info.name, info.type, info.mode, info.mtime, info.linkname, size


@settings(deadline=None)
@given(st.data())
def test_a_header_says_what_it_says_to_tarfile(data: st.DataObject) -> None:
    info = tarfile.TarInfo(data.draw(NAMES))
    info.type, info.linkname = data.draw(st.sampled_from(KINDS)), data.draw(NAMES)
    form = data.draw(st.sampled_from(FORMATS))
    # What is larger than eleven octal digits, GNU writes in another way.
    most = 8**11 - 1 if form == tarfile.USTAR_FORMAT else 10**11
    info.size, info.mtime = data.draw(st.integers(0, most)), data.draw(st.integers(0, most))
    info.mode = data.draw(st.integers(0, 0o7777))
    block = bytearray(info.tobuf(form)[-512:])
    for _ in range(data.draw(st.integers(0, 3))):
        block[data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    found = read(bytes(block))
    try:
        expected = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
    except tarfile.TarError:
        return  # an owner or a device may be what it stumbles over
    if expected.type in (b"L", b"K", b"x", b"g") or (expected.isreg() and not 0 <= expected.size <= 10**12):
        return
    assert found is not None and facts(found) == facts(expected)


@pytest.mark.parametrize("field", [slice(100, 108), slice(124, 136), slice(136, 148), slice(148, 156)])
def test_a_number_that_is_none_is_refused(field: slice) -> None:
    block = bytearray(tarfile.TarInfo("name").tobuf(tarfile.USTAR_FORMAT))
    block[field] = b"9" * (field.stop - field.start)
    if field.start != 148:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    assert read(bytes(block)) is None


def test_a_wrong_checksum_is_refused() -> None:
    block = bytearray(tarfile.TarInfo("name").tobuf(tarfile.USTAR_FORMAT))
    assert read(bytes(block)) is not None
    block[0] ^= 1
    assert read(bytes(block)) is None
