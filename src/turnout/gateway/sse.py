"""Server-sent events out of bytes as they come. Each event keeps the bytes that it was made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_EVENT = 16 * 1024 * 1024  # bytes

_gap = re.compile(rb"\r\n\r\n|\n\n|\r\r").search
_line_end = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `data` is None for a comment."""

    raw: bytes  # with the empty line that ends it
    name: bytes
    data: bytes | None


class EventSplitter:
    """Takes bytes, gives whole events."""

    def __init__(self) -> None:
        self._rest = bytearray()  # grows in place: a large event can come in thousands of parts

    def feed(self, received: bytes) -> list[Event]:
        """The events that are whole now. Raises ValueError for one that is too long."""
        look = max(len(self._rest) - 3, 0)  # the rest is known to hold no gap
        buffer: bytes | bytearray = received
        if self._rest:
            self._rest += received
            buffer = self._rest
        events, at = [], 0
        while gap := _gap(buffer, look):
            events.append(_read(bytes(buffer[at : gap.end()])))
            at = look = gap.end()
        if buffer is self._rest:
            del self._rest[:at]
        elif at < len(buffer):
            self._rest += buffer[at:]
        if len(self._rest) > LONGEST_EVENT:
            raise ValueError(f"an event is longer than {LONGEST_EVENT} bytes")
        return events

    def close(self) -> list[Event]:
        """What is left at the end: an event that lacks its empty line."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [_read(rest + b"\n\n")] if rest.strip() else []


def _read(raw: bytes) -> Event:
    name, data = b"", list[bytes]()
    for line in _line_end.split(raw):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(raw, name, b"\n".join(data) if data else None)
