from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.gateway import sse
from turnout.gateway.sse import EventSplitter

STREAM = (
    b": comment\n\n"
    b"event: message_start\r\ndata: {}\r\n\r\n"
    b"data: one\ndata: two\n\n"
    b"data:three\r\r"
    b"id: 4\ndata\n\n"
    b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    splitter, events, at = EventSplitter(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        events += splitter.feed(STREAM[at:cut])
        at = cut
    events += splitter.close()
    assert b"".join(event.raw for event in events) == STREAM
    assert [event.data for event in events] == [None, b"{}", b"one\ntwo", b"three", b"", b"[DONE]"]
    assert events[1].name == b"message_start"


@pytest.mark.parametrize("event", [b"data: " + b"x" * (4 << 20) + b"\n\n", b"data:\n" * 500_000 + b"\n"])
def test_a_large_event_in_small_parts_takes_little_time(event: bytes) -> None:
    splitter, began = EventSplitter(), time.process_time()
    found = [one for at in range(0, len(event), 1_460) for one in splitter.feed(event[at : at + 1_460])]
    assert [one.raw for one in found] == [event]
    assert time.process_time() - began < 1.0


def test_an_event_without_its_end_comes_when_the_stream_closes() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: [DONE]\n") == []
    (event,) = splitter.close()
    assert event.data == b"[DONE]"
    assert splitter.close() == []


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST_EVENT", 100)
    splitter = EventSplitter()
    splitter.feed(b"data: " + b"x" * 90)
    with pytest.raises(ValueError, match="longer"):
        splitter.feed(b"x" * 20)
