"""container.log: everything where it fits, head and tail where it does not, whole at every moment, bounded always."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from autoscorer.executors.log import CappedLog
from hypothesis import given, settings
from hypothesis import strategies as st

settings.register_profile("autoscorer", deadline=None)
settings.load_profile("autoscorer")

MARKER = re.compile(rb"\n\[\.\.\. (\d+) bytes left out \.\.\.\]\n")
MARKER_SIZE = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "container.log"


def check(content: bytes, stream: bytes, cap: int) -> None:
    half = max(cap // 2, 1)
    if len(stream) <= 2 * half:
        assert content == stream
        return
    left_out = len(stream) - 2 * half
    assert content == stream[:half] + b"\n[... %d bytes left out ...]\n" % left_out + stream[-half:]
    assert len(content) <= 2 * half + MARKER_SIZE


# Bytes that differ everywhere, so that a wrong cut shows.
STREAM = b"".join(b"%06d\n" % number for number in range(2000))


@given(
    cap=st.integers(0, 300),
    chunks=st.lists(st.integers(0, 400), max_size=30),
    flush_every=st.integers(1, 5),
)
def test_whatever_the_chunks_the_file_is_all_or_head_and_tail(
    path: Path, cap: int, chunks: list[int], flush_every: int
) -> None:
    written = 0
    with CappedLog(path, cap) as log:
        for number, size in enumerate(chunks):
            log.write(STREAM[written : written + size])
            written += min(size, len(STREAM) - written)
            if number % flush_every == 0:
                log.flush()
                check(path.read_bytes(), STREAM[:written], cap)  # readable while the run goes on
        assert log.total == written
    check(path.read_bytes(), STREAM[:written], cap)


@given(cap=st.integers(2, 200), chunks=st.lists(st.integers(1, 300), max_size=12), size=st.integers(1, 300))
def test_the_tail_is_the_end_of_the_stream(path: Path, cap: int, chunks: list[int], size: int) -> None:
    written = 0
    with CappedLog(path, cap) as log:
        for chunk in chunks:
            log.write(STREAM[written : written + chunk])
            written += chunk
        stream = STREAM[:written]
        tail = log.tail(size).encode()
        assert stream.endswith(tail)
        assert len(tail) >= min(size, cap // 2, len(stream))
        if len(stream) <= 2 * (cap // 2):
            assert tail == stream[-size:]
        log.close()
        after = log.tail(size).encode()
        assert stream.endswith(after) and len(after) >= min(size, cap // 2, len(stream))


def test_many_tiny_writes_are_the_same_as_one(path: Path) -> None:
    with CappedLog(path, 1000) as log:
        for byte in STREAM[:5000]:
            log.write(bytes([byte]))
    check(path.read_bytes(), STREAM[:5000], 1000)


@given(
    text=st.text(st.characters(exclude_characters="\r")),
    noise=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_lines_come_clean_however_the_bytes_are_cut(path: Path, text: str, noise: bytes, cuts: list[int]) -> None:
    stream = text.encode("utf-8", "replace") + b"\n" + noise
    lines: list[str] = []
    with CappedLog(path, 10_000, lines.append) as log:
        begin = 0
        for cut in [*sorted(cuts), len(stream)]:
            log.write(stream[begin : max(begin, cut)])
            begin = max(begin, cut)
    assert path.read_bytes() == stream
    whole: list[str] = []
    with CappedLog(path, 10_000, whole.append) as log:
        log.write(stream)
    assert lines == whole
    for line in lines:
        assert line.strip()
        assert not any((c < " " and c != "\t") or "\x7f" <= c <= "\x9f" for c in line)
        line.encode()  # text, no half characters


def test_invalid_utf_8_is_replaced_and_the_file_keeps_the_bytes(path: Path) -> None:
    lines: list[str] = []
    with CappedLog(path, 1000, lines.append) as log:
        log.write(b"a\xff\xfeb\n\xc3")
        log.write(b"\xa9\n\xe2\x82")
    assert lines[:2] == ["a\ufffd\ufffdb", "é"]
    assert path.read_bytes() == b"a\xff\xfeb\n\xc3\xa9\n\xe2\x82"


def test_carriage_returns_end_a_line_and_the_unfinished_one_comes_at_the_end(path: Path) -> None:
    lines: list[str] = []
    with CappedLog(path, 1000, lines.append) as log:
        log.write(b"10%\r50%\r100%\r\n\n \n\x1b[31m\x1b[0m\n\x1b[1mdone\x1b[0m\nunfinished")
        assert lines == ["10%", "50%", "100%", "done"]
    assert lines[-1] == "unfinished"


def test_lines_are_bounded_in_number_between_flushes(path: Path) -> None:
    lines: list[str] = []
    with CappedLog(path, 1000, lines.append) as log:
        for _ in range(100):
            log.write(b"line\n" * 100)
        assert len(lines) == log.lines_per_flush
        log.flush()
        log.write(b"more\n" * 1000)
        assert len(lines) == 2 * log.lines_per_flush


def test_lines_are_bounded_in_length(path: Path) -> None:
    lines: list[str] = []
    with CappedLog(path, 1000, lines.append) as log:
        log.write(b"x" * 200_000 + b"\n")
        for _ in range(300):
            log.write(b"y" * 1000)
        log.write(b"\n")
    assert lines and all(len(line) <= 2000 for line in lines)


def test_the_halves_of_two_lines_are_never_glued_to_one(path: Path) -> None:
    lines: list[str] = []
    with CappedLog(path, 1000, lines.append) as log:
        log.write(b"line\n" * log.lines_per_flush + b"begun")
        log.write(b" and left out\nother ")  # past what is told between two flushes
        log.flush()
        log.write(b"end\nnext\n")
    assert "begunend" not in lines and "next" in lines
    lines.clear()
    with CappedLog(path, 1000, lines.append) as log:
        log.write(b"z" * 65_530 + b"\nbegun" + b"x" * 100_000 + b"\n")
        log.write(b"end\n")
    assert not any("begun" in line and "end" in line for line in lines)


def plant_link(path: Path) -> None:
    path.symlink_to(path.parent / "victim")


def plant_full_folder(path: Path) -> None:
    (path / "a" / "b").mkdir(parents=True)
    (path / "a" / "b" / "c").write_text("x")


@pytest.mark.parametrize("plant", [plant_link, plant_full_folder, os.mkfifo, lambda path: path.write_text("old")])
def test_what_was_planted_in_its_place_is_replaced_and_not_followed(
    tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    (tmp_path / "victim").write_text("mine")
    plant(tmp_path / "container.log")
    with CappedLog(tmp_path / "container.log", 100) as log:
        log.write(b"new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "container.log").read_bytes() == b"new"
    assert not (tmp_path / "container.log").is_symlink()


def test_writing_after_the_end_and_closing_twice_do_nothing(path: Path) -> None:
    log = CappedLog(path, 100)
    log.write(b"a")
    log.close()
    log.close()
    log.write(b"b")
    log.flush()
    assert path.read_bytes() == b"a"


def test_two_threads_lose_nothing(path: Path) -> None:
    with CappedLog(path, 1_000_000) as log:
        threads = [
            threading.Thread(target=lambda mark=mark: [log.write(mark * 9 + b"\n") for _ in range(500)])
            for mark in (b"a", b"b")
        ]
        for thread in threads:
            thread.start()
        for _ in range(20):
            log.flush()
        for thread in threads:
            thread.join()
    lines = path.read_bytes().splitlines()
    assert sorted(lines) == [b"a" * 9] * 500 + [b"b" * 9] * 500


def test_a_full_disk_costs_lines_and_never_the_run(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from autoscorer.executors.log import CappedLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lines = []
log = CappedLog(Path(sys.argv[1]), 100_000, lines.append)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for number in range(1000):
    log.write(b"line %06d\\n" % number)
    log.flush()
assert log.tail(50).endswith("line 000999\\n"), log.tail(50)
log.close()
assert len(lines) == 1000
"""
    path = tmp_path / "container.log"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes().startswith(b"line 000000\n")
    assert path.stat().st_size <= 1000


@pytest.mark.slow
def test_a_long_stream_is_held_in_bounded_memory(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from autoscorer.executors.log import CappedLog
cap = 4 * 1024 * 1024
lines = 0
def count(line):
    global lines
    lines += 1
with CappedLog(Path(sys.argv[1]), cap, count) as log:
    tiny, large = b"x\\n", b"0123456789abcde\\n" * 4096
    for _ in range(200_000): log.write(tiny)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(3200):
        log.write(large)
        if n % 300 == 0: log.flush()
    print(log.total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, lines)
"""
    path = tmp_path / "container.log"
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=300
    )
    total, grown_kib, lines = map(int, done.stdout.split())
    assert total == 400_000 + 3200 * 65536
    assert grown_kib < 32 * 1024
    assert lines <= 200 * 12
    assert path.stat().st_size <= 4 * 1024**2 + MARKER_SIZE
    found = MARKER.search(path.read_bytes())
    assert found is not None and int(found[1]) == total - 4 * 1024**2
