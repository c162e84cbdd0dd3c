from __future__ import annotations

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
