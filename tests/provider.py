"""A provider of models that goes wrong on demand: a real HTTP server that speaks as OpenAI and as Anthropic do.

    python -m tests.provider --port 9000 [--fault NAME]

A fault is chosen for each request: by its header `x-fault`, else by the next entry of `Provider.schedule`, else
`Provider.fault`. The header `x-words` tells how long the answer is, `x-pace` how many seconds pass between its pieces.
`refused_port()` and `deaf_port()` are providers that cannot be connected to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.provider_answers import events, whole

HOST = "127.0.0.1"
WORDS = 8

# Of the server; two more need no server.
FAULTS = (
    "rate_limited",  # 429 with Retry-After
    "rate_limited_bare",  # 429 without
    "error_500",
    "error_503",
    "silent",  # no byte comes
    "silent_midway",
    "cut_midway",
    "malformed_event",  # no JSON in the middle of a stream; of a whole answer, at its end
    "broken_chunking",
    "truncated_json",
    "short_length",  # content-length is larger than what comes
    "wrong_type",  # HTML with status 200
    "empty",  # status 200 and no body
    "trickle",  # one byte at a time, for ever
    "flapping",  # every second request fails
    "usage_missing",
    "usage_negative",
    "usage_absurd",
    "error_event",  # an error in a stream with status 200
    "wrong_key",  # 401, and the answer repeats the key
    "bad_request",  # 400
    "closed",  # the connection ends without an answer
    "chatter",  # something follows the end of a stream
    "pings",  # nothing but comments from the middle of a stream on
    "unfinished",  # a stream ends properly, and does not say why its answer does
)


@dataclass(frozen=True)
class Request:
    """What came."""

    endpoint: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes


@dataclass
class Provider:
    """A provider that runs in a thread; its lists may be read, and its faults set, from the outside."""

    port: int = 0
    fault: str = ""
    schedule: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # endpoints of answers whose caller hung up in the middle
    connections: int = 0  # that were made to it
    keep: bool = True  # whether requests are kept
    sound: bool = False  # whether it answers well whatever `x-fault` says

    @property
    def url(self) -> str:
        """For a route."""
        return f"http://{HOST}:{self.port}/v1"

    async def serve(self, ready: threading.Event | None = None, until: asyncio.Event | None = None) -> None:
        """Answer until the event, or for ever."""
        server = await asyncio.start_server(self._converse, HOST, self.port, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        if ready is not None:
            ready.set()
        self._tasks: set[asyncio.Task[None]] = set()
        await (until.wait() if until is not None else server.serve_forever())
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        task.add_done_callback(self._tasks.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer. Returns whether the connection goes on."""
        request = await _read(reader)
        if request is None:
            return False
        if self.keep:
            self.requests.append(request)
        asked = "" if self.sound else request.headers.get("x-fault", "")
        fault = asked or (self.schedule.pop(0) if self.schedule else self.fault)
        if fault == "flapping":
            self._odd = not getattr(self, "_odd", False)
            fault = "error_500" if self._odd else ""
        answer = _Answer(request, fault, reader, writer)
        try:
            return await answer.send()
        except ConnectionError:
            self.gone.append(request.endpoint)
            raise


@contextmanager
def provider(fault: str = "", port: int = 0, *, sound: bool = False) -> Iterator[Provider]:
    """A provider in a thread of this process."""
    running, ready = Provider(port=port, fault=fault, sound=sound), threading.Event()
    loop = asyncio.new_event_loop()
    until = asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(running.serve(ready, until))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield running
    finally:
        loop.call_soon_threadsafe(until.set)
        thread.join(10)


@contextmanager
def refused_port() -> Iterator[str]:
    """The URL of a port at which nothing listens, and which nobody else takes meanwhile."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        yield f"http://{HOST}:{bound.getsockname()[1]}/v1"


@contextmanager
def deaf_port() -> Iterator[str]:
    """The URL of a socket that takes no more connections: connecting to it takes for ever."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for probe in waiting:
            probe.setblocking(False)
            probe.connect_ex(address)
        try:
            yield f"http://{HOST}:{address[1]}/v1"
        finally:
            for probe in waiting:
                probe.close()


@dataclass
class _Answer:
    request: Request
    fault: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self) -> bool:
        """Returns whether the connection goes on."""
        if "model" not in self.request.body:
            return await self._error(404, "there is nothing here")
        request, number = self.request, int(self.request.headers.get("x-words", WORDS))
        if (early := await self._fail_early()) is not None:
            return early
        if request.body.get("stream"):
            return await self._stream(number)
        body = whole(request.endpoint, request.body, number, self.fault)
        return await self._whole(body)

    async def _fail_early(self) -> bool | None:
        """The faults that are the same whether an answer is streamed or not; None: none of them."""
        match self.fault:
            case "rate_limited":
                return await self._error(429, "slow down", "retry-after: 1\r\n")
            case "rate_limited_bare":
                return await self._error(429, "slow down")
            case "error_500":
                return await self._error(500, "it broke")
            case "error_503":
                return await self._error(503, "overloaded")
            case "wrong_key":
                key = self.request.headers.get("authorization", "") + self.request.headers.get("x-api-key", "")
                return await self._error(401, f"Incorrect API key provided: {key}")
            case "bad_request":
                key = self.request.headers.get("authorization", "") + self.request.headers.get("x-api-key", "")
                return await self._error(400, f"temperature is out of range (your key: {key})")
            case "closed":
                return False
            case "silent":
                await self._wait_for_ever()
            case "wrong_type":
                return await self._plain(200, b"<html>Sign in to the hotel network</html>", "text/html")
            case "empty":
                kind = "text/event-stream" if self.request.body.get("stream") else "application/json"
                return await self._plain(200, b"", kind)
        return None

    async def _whole(self, body: bytes) -> bool:
        half = len(body) // 2
        head = _head(200, "application/json", len(body))
        match self.fault:
            case "truncated_json" | "malformed_event":
                return await self._plain(200, body[:half])
            case "error_event":
                error = {"error": {"message": "the model fell over", "type": "server_error", "code": None}}
                return await self._plain(200, json.dumps(error).encode())
            case "short_length" | "cut_midway":
                await self._write(head + body[:half])
                return False
            case "silent_midway":
                await self._write(head + body[:half])
                await self._wait_for_ever()
            case "trickle":
                await self._write(head)
                await self._trickle(body)
            case "broken_chunking":
                await self._write(_head(200, "application/json", None) + b"%x\r\n" % half + body[:half] + b"\r\nzz\r\n")
                return False
        return await self._plain(200, body)

    async def _stream(self, number: int) -> bool:
        pace = float(self.request.headers.get("x-pace", 0))
        pieces = list(events(self.request.endpoint, self.request.body, number, self.fault))
        breaks = int(self.request.headers.get("x-break", len(pieces) // 2))
        await self._write(_head(200, "text/event-stream", None))
        if self.fault == "trickle":
            await self._trickle(b"".join(pieces))
        for index, piece in enumerate(pieces):
            if index == breaks and (ends := await self._break(piece)) is not None:
                return ends
            await self._write(_chunk(piece))
            if pace:
                await asyncio.sleep(pace)
        if self.fault == "chatter":
            await self._write(_chunk(b"data: nonsense\n\n"))
        await self._write(b"0\r\n\r\n")
        return True

    async def _break(self, piece: bytes) -> bool | None:
        """The faults in the middle of a stream; None: none of them."""
        match self.fault:
            case "silent_midway":
                await self._wait_for_ever()
            case "cut_midway" | "short_length":
                return False
            case "truncated_json":
                await self._write(_chunk(piece[: len(piece) // 2]) + b"0\r\n\r\n")
                return True
            case "malformed_event":
                await self._write(_chunk(b'data: {"choices": [{"delta": \n\n'))
            case "broken_chunking":
                await self._write(b"zz\r\n" + piece + b"\r\n")
                return False
            case "pings":
                while True:
                    await self._write(_chunk(b": still here\n\n"))
                    await asyncio.sleep(0.05)
            case "error_event":
                error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
                name = b"event: error\n" if self.request.endpoint != "chat/completions" else b""
                await self._write(_chunk(name + b"data: " + json.dumps(error).encode() + b"\n\n") + b"0\r\n\r\n")
                return True
        return None

    async def _error(self, status: int, message: str, more: str = "") -> bool:
        error: dict[str, Any] = {"error": {"message": message, "type": "provider_error", "param": None, "code": None}}
        if self.request.endpoint == "messages":
            error = {"type": "error", "error": {"type": "api_error", "message": message}}
        return await self._plain(status, json.dumps(error).encode(), more=more)

    async def _plain(self, status: int, body: bytes, kind: str = "application/json", more: str = "") -> bool:
        await self._write(_head(status, kind, len(body), more) + body)
        return True

    async def _trickle(self, body: bytes) -> None:
        """Never to the end. Of a stream, the bytes are chunks."""
        streamed = bool(self.request.body.get("stream"))
        for byte in body[:-1]:
            piece = bytes((byte,))
            await self._write(_chunk(piece) if streamed else piece)
            await asyncio.sleep(0.05)
        await self._wait_for_ever()

    async def _wait_for_ever(self) -> None:
        """Until the caller hangs up."""
        while True:
            await asyncio.sleep(0.02)
            self._check_caller()

    async def _write(self, data: bytes) -> None:
        self._check_caller()
        self.writer.write(data)
        await self.writer.drain()

    def _check_caller(self) -> None:
        if self.writer.is_closing() or self.reader.at_eof():
            raise ConnectionResetError


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}
    raw = await _read_chunks(reader) if "chunked" in headers.get("transfer-encoding", "") else b""
    raw = raw or await reader.readexactly(int(headers.get("content-length", 0)))
    path = first.split(" ")[1]
    return Request(path.removeprefix("/v1/"), headers, json.loads(raw) if raw else {}, raw)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def _head(status: int, kind: str, length: int | None, more: str = "") -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nx-request-id: req_1\r\n{more}{framing}\r\n\r\n".encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def main() -> None:
    """Serve in the foreground; prints the port."""
    parser = argparse.ArgumentParser(description="a provider of models that goes wrong on demand")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fault", default="", choices=("", *FAULTS))
    options = parser.parse_args()
    serving = Provider(port=options.port, fault=options.fault, keep=False)
    with suppress(KeyboardInterrupt):
        import uvloop

        uvloop.run(serving.serve())


if __name__ == "__main__":
    main()
