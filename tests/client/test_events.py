"""Events are read as they were written, whatever pieces they come in, and heard once through streams that break."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from autoscorer import AutoScorerError, Client
from autoscorer.api.event_stream import written
from autoscorer.client import polling
from autoscorer.client.events import Event, read_events
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["\n\nevent: x\ndata: {}\n\n", "\u2028", "\r"]
)


@given(
    told=st.lists(st.tuples(st.sampled_from(["task", "gone"]), TEXTS, st.booleans())),
    cuts=st.lists(st.integers(0, 2000)),
)
def test_whatever_a_text_holds_and_wherever_a_stream_is_cut_into_pieces(
    told: list[tuple[str, str, bool]], cuts: list[int]
) -> None:
    stream, expected, last = b"retry: 2000\n", list[Event](), ""
    for number, (kind, text, has_id) in enumerate(told):
        last = str(number) if has_id else last
        stream += written(kind, {"text": text}) + (b"id: %d\n\n" % number if has_id else b"\n") + b": lives\n\n"
        expected.append(Event(kind, {"text": text}, last))
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    parts = [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    assert [*read_events(parts)] == expected
    # What is not whole is left out, and what an id stands for has come by then.
    assert [*read_events([stream, b"event: task\ndata: {}\nid: 999\n"])] == expected


def test_what_is_no_object_is_no_event() -> None:
    for wrong in (b"data: 3\n\n", b"data: {\n\n"):
        with pytest.raises(ValueError, match=r"object|Expecting"):
            next(read_events([wrong]))


Streams = list[bytes | int]


@contextmanager
def answering(streams: Streams) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """An API that answers with these, one after the other, a number being a status; and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["last-event-id"]))
            stream = streams.pop(0)
            self.send_response(stream if isinstance(stream, int) else 200)
            self.end_headers()
            error = {"code": "NOT_FOUND", "message": "Not there.", "stage": "api", "details": {}}
            self.wfile.write(json.dumps({"ok": False, "error": error}).encode() if isinstance(stream, int) else stream)

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def event(kind: str, at: str | None = None, **data: Any) -> bytes:
    return written(kind, data) + (b"\n" if at is None else b"id: %b\n\n" % at.encode())


def test_a_stream_that_breaks_goes_on_at_the_last_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "AWAY", 0.01)
    streams: Streams = [
        event("hello", "1") + event("task", n=1) + event("task", "2", n=2) + event("task", n=3)[:-4],
        event("hello") + event("task", "3", n=3) + b": lives\nid: 4\n\n" + event("end", reason="stopped"),
        b"",
        event("hello") + event("gone", "5", id="x"),
        404,
    ]
    with answering(streams) as (url, asked), Client(url, "token") as client:
        heard: list[tuple[str, Any, str]] = []
        with pytest.raises(AutoScorerError, match="Not there"):
            heard.extend((each.kind, each.data.get("n"), each.id) for each in client.events(after="0"))
    assert [told for told in heard if told[0] != "hello"] == [
        ("task", 1, "1"),
        ("task", 2, "2"),
        ("task", 3, "3"),
        ("gone", None, "5"),
    ]
    assert [last for _, last in asked] == ["0", "2", "4", "4", "5"]


def test_one_task_and_each_line_of_its_log_are_heard_once() -> None:
    def log(message: str) -> bytes:
        return event("log", time="…", level="info", source="flow", message=message)

    running, done = event("task", id="t", state="running"), event("task", id="t", state="completed")
    streams: Streams = [
        event("hello") + running + log("a") + log("same") + log("same"),
        event("hello") + running + log("same") + log("a") + event("end", state="running", reason="stopped"),
        event("hello") + done + log("same") + log("a") + log("same") + log("b") + event("end", state="completed"),
    ]
    with answering(streams) as (url, asked), Client(url, "token") as client:
        heard = [each for each in client.events("t") if each.kind != "hello"]
    assert [(each.kind, each.data.get("message") or each.data.get("state")) for each in heard] == [
        ("task", "running"),
        ("log", "a"),
        ("log", "same"),
        ("log", "same"),
        ("task", "completed"),
        ("log", "b"),
        ("end", "completed"),
    ]
    assert asked == [("/events?task=t", None)] * 3
