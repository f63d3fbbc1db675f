"""What is told of a model's log says truly what it leaves out: how many lines, and where."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import pytest
from autoscorer.executors.log import CappedLog
from autoscorer.service.task_logs import _ContainerLog
from autoscorer.tasks.prefect import log as prefect_log
from autoscorer.tasks.prefect.log import RunLog
from hypothesis import given, settings
from hypothesis import strategies as st

settings.register_profile("autoscorer", deadline=None)
settings.load_profile("autoscorer")

GAP = re.compile(r"\[([0-9,]+) lines? left out here; see logs/container\.log]")
LAST = re.compile(r"\[the last (?:([0-9,]+) of them|of them):]")


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def told(records: Records, whole: list[str]) -> tuple[int, int]:
    """Walk through what was told beside the whole log; how many lines were told, and how many told to be left out."""
    position = shown = left_out = 0
    for line in [line for message in records.messages for line in message.split("\n")]:
        if found := GAP.fullmatch(line):
            count = int(found[1].replace(",", ""))
            position += count
            left_out += count
        elif found := LAST.fullmatch(line):
            count = int((found[1] or "1").replace(",", ""))
            position -= count
            left_out -= count
        elif line.startswith("model | "):
            assert line == "model | " + whole[position], (position, line)
            position += 1
            shown += 1
        else:
            assert line.startswith(("stage ", "[the log is too long")), line
    assert position == len(whole)
    return shown, left_out


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("told") / "container.log"


@given(
    bursts=st.lists(st.tuples(st.integers(0, 700), st.booleans(), st.booleans()), max_size=8),
    width=st.integers(0, 300),
    cut=st.integers(1, 4000),
)
def test_every_line_is_told_or_counted_where_it_is_missing(
    file: Path, bursts: list[tuple[int, bool, bool]], width: int, cut: int
) -> None:
    records, logger = Records(), logging.Logger("run")
    logger.addHandler(records)
    whole = [f"{number} {'x' * width}" for number in range(sum(size for size, _, _ in bursts))]
    lines = iter(whole)
    with RunLog(logger, file) as log, CappedLog(file, 10_000_000, log.log, log.left_out) as capped:
        for size, flushed, staged in bursts:
            data = "".join(next(lines) + "\n\n" for _ in range(size)).encode()
            for begin in range(0, len(data), cut):
                capped.write(data[begin : begin + cut])
            if flushed or staged:
                capped.flush()
            log.stage("next") if staged else log._send()  # as a second later
    shown, left_out = told(records, whole)
    assert shown + left_out == len(whole)
    if len(whole) <= 30:
        assert left_out == 0


def test_a_burst_and_then_a_pause_leave_their_mark_at_once(file: Path) -> None:
    records, logger = Records(), logging.Logger("run")
    logger.addHandler(records)
    whole = [f"line {number}" for number in range(1465)]
    with RunLog(logger, file) as log, CappedLog(file, 10_000_000, log.log, log.left_out) as capped:
        capped.write("".join(line + "\n" for line in whole[:1464]).encode())
        capped.flush()
        log._send()
        assert "[1,264 lines left out here; see logs/container.log]" in records.messages[0].split("\n")
        capped.write(b"line 1464\n")
    assert told(records, whole) == (201, 1264)


def test_past_the_megabyte_of_a_run_all_is_counted_and_the_end_is_told(file: Path) -> None:
    records, logger = Records(), logging.Logger("run")
    logger.addHandler(records)
    whole = [f"{number} {'x' * 500}" for number in range(20_000)]
    file.write_text("".join(line + "\n" for line in whole))
    with RunLog(logger, file) as log:
        for number, line in enumerate(whole):
            log.log(line)
            if number % 50 == 0:
                log._send()  # as a second later
    messages = records.messages
    assert sum(map(len, messages)) < prefect_log._RUN + 2 * prefect_log._RECORD + prefect_log._TAIL_BYTES + 10_000
    shown, left_out = told(records, whole)
    assert shown + left_out == 20_000 and left_out > 15_000
    assert messages[-1].endswith("model | " + whole[-1])


def test_a_line_that_was_cut_says_so(file: Path) -> None:
    lines: list[str] = []
    gaps: list[int] = []
    with CappedLog(file, 10_000_000, lines.append, gaps.append) as log:
        log.write(b"a" * 5000 + b"\nshort\n" + b"b" * 200_000)
        log.write(b"b" * 10 + b"\nlast\n")
    assert lines[0] == "a" * 1999 + "…" and lines[1] == "short" and lines[-1] == "last"
    assert len(lines) + sum(gaps) == 4


@given(st.lists(st.sampled_from([b"x", b"\n", b"\r", b"\r\n", b" ", b"y" * 70_000, b"line\n" * 150]), max_size=12))
def test_however_the_bytes_come_nothing_is_counted_twice(file: Path, parts: list[bytes]) -> None:
    lines: list[str] = []
    gaps: list[int] = []
    with CappedLog(file, 10_000_000, lines.append, gaps.append) as log:
        for part in parts:
            log.write(part)
    whole = [line for line in re.split(rb"[\r\n]", b"".join(parts)) if line.strip()]
    assert len(lines) + sum(gaps) == len(whole)


@pytest.mark.parametrize("lines", [10, 900, 2000, 40_000])
def test_a_log_that_is_followed_on_its_host_says_what_it_leaves_out(tmp_path: Path, lines: int) -> None:
    cap, file = 40_000, tmp_path / "container.log"
    whole = [f"line {number:06d} {'x' * 7}" for number in range(lines)]  # 20 bytes each with the end
    followed = _ContainerLog(file, "2000-01-01T00:00:00+00:00", cap // 2)
    records = []
    with CappedLog(file, cap) as log:
        for number, line in enumerate(whole):
            log.write(line.encode() + b"\n")
            if number % 400 == 0:
                log.flush()
                records += followed.more(at_end=False)
    for _ in range(3):
        records += followed.more(at_end=True)
    told = [record.message for record in records if record.message.startswith("line ")]
    assert told == whole[: len(told) - 30] + whole[-30:] if lines > 1000 else told == whole
    gaps = [record for record in records if record.left_out is not None]
    if lines <= 1000:
        assert not gaps
        return
    (gap,) = gaps
    dropped = 20 * lines - cap if 20 * lines > cap else 0
    assert (f"which itself leaves out {dropped:,} bytes" in gap.message) == (dropped > 0)
    # A line may be cut where the file's own gap is, on either side.
    assert abs(len(told) + (gap.left_out or 0) + dropped // 20 - lines) <= 2


def test_how_far_a_scoring_is_stands_in_the_log_now_and_then(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, logger = Records(), logging.Logger("run")
    logger.addHandler(records)
    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with RunLog(logger, file, member="team-7") as log:
        for second in range(25):
            now[0] = 50.0 + second
            log.progress(f"{second} of 25 rows")
    assert records.messages == ["[team-7] 10 of 25 rows", "[team-7] 20 of 25 rows"]
