"""A small agent that starts quickly: answers with its note, streams, takes its time, and misbehaves when it is told to.

BEHAVIOUR in the environment: `sick` (never healthy), `exit` (ends at once), `hang` (never answers), `wrong` (answers 500),
`flood` (prints forty megabytes), `late` (listens after two seconds), `dear` (says that each task cost 0.9), `fair` (0.1),
`second` (answers 500 from the second request of a task on).
Standard library only. SIGTERM lets requests finish.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
import urllib.parse
from pathlib import Path

BEHAVIOUR = os.environ.get("BEHAVIOUR", "")
FACTS = {
    "note": Path("prompts/note.md").read_text(encoding="utf-8").strip(),
    "release": os.environ.get("TURNOUT_RELEASE", ""),
    "ring": os.environ.get("TURNOUT_RING", ""),
    "colour": os.environ.get("FEATURE_COLOUR", ""),
    "pid": os.getpid(),
}
SEEN: set[str] = set()  # tasks that had an answer
REASONS = {200: "OK", 500: "Internal Server Error", 503: "Service Unavailable"}


class Connection(asyncio.Protocol):
    """The requests of one connection, one after the other."""

    open: set[Connection] = set()  # noqa: RUF012  (shared on purpose)
    stopping = False

    def __init__(self) -> None:
        self._received = b""
        self._answering: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self)
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def close_when_idle(self) -> None:
        """End the connection unless a request is under way."""
        if self._answering is None:
            self._transport.close()

    def _next(self) -> None:
        if self._answering is not None:
            return
        head, complete, rest = self._received.partition(b"\r\n\r\n")
        if not complete:
            return
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._received = rest[length:]
        target = urllib.parse.urlsplit(request.split(" ")[1])
        query = dict(urllib.parse.parse_qsl(target.query))
        if target.path in ("/slow", "/stream") or (BEHAVIOUR == "hang" and target.path != "/ping"):
            self._answering = asyncio.ensure_future(self._take_time(target.path, query))
        else:
            self._answer(target.path, headers)

    async def _take_time(self, path: str, query: dict[str, str]) -> None:
        if path == "/stream":
            await self._stream(Path(query["until"]))
        else:
            await asyncio.sleep(float(query.get("seconds", "3600")))
            self._send(200, {**FACTS, "path": path})
        self._answering = None
        if self.stopping:
            self._transport.close()
        else:
            self._next()

    async def _stream(self, end: Path) -> None:
        """Numbered events until the file `end` is there."""
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self._transport.write(head.encode())
        for number in itertools.count():
            event = f"data: {number}\n\n".encode()
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            if end.exists():
                break
            await asyncio.sleep(0.02)
        self._transport.write(b"0\r\n\r\n")

    def _answer(self, path: str, headers: dict[str, str]) -> None:
        if path == "/ping":
            self._send(503 if BEHAVIOUR == "sick" else 200, {"status": BEHAVIOUR or "well"})
        elif BEHAVIOUR == "wrong":
            self._send(500, {"error": "this release gives wrong answers"})
        elif BEHAVIOUR == "second" and headers.get("x-turnout-task") in SEEN:
            self._send(500, {"error": "this release forgets what was said"})
        elif BEHAVIOUR in ("dear", "fair"):
            cost = 0.9 if BEHAVIOUR == "dear" else 0.1
            self._send(200, FACTS, {"x-turnout-outcome": f"success; cost={cost}"})
        else:
            SEEN.add(headers.get("x-turnout-task", ""))
            self._send(200, {**FACTS, "path": path, "host": headers.get("host", "")})
        if self.stopping:
            self._transport.close()
        else:
            self._next()

    def _send(self, status: int, content: dict[str, object], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._transport.write(head.encode() + (b"connection: close\r\n\r\n" if self.stopping else b"\r\n") + body)


async def main() -> None:
    """Serve until SIGTERM; then until every request under way is answered."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, os.environ["HOST"], int(os.environ["PORT"]))
    print(f"{FACTS['note']} listens", flush=True)
    if BEHAVIOUR == "flood":
        for _ in range(40_960):
            os.write(1, b"x" * 1023 + b"\n")
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    Connection.stopping = True
    for connection in list(Connection.open):
        connection.close_when_idle()
    while Connection.open:
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    if BEHAVIOUR == "late":
        time.sleep(2)
    if BEHAVIOUR == "exit":
        sys.exit("the index of this agent is missing")
    asyncio.run(main())
