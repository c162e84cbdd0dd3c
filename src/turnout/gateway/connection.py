"""One connection to a provider (HTTP/1.1): a request, then its answer as it comes, then perhaps the next request.

The parser is httptools, which the gateway's own server uses too. Whatever goes wrong is told as `RouteFailed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

from turnout.domain.errors import RouteFailed
from turnout.gateway.unpack import Unpacker, unpacker_for

LARGEST_HEAD = 64 * 1024  # bytes before a body, with what came before the head; and of what comes without a body
# Bytes that wait to be read, from which nothing more is taken from the provider. More than uvloop reads in a turn: where a
# connection by TLS is closed while it is not read, uvloop loses what it has.
ENOUGH = 8 * 1024 * 1024

NO_HTTP = "the answer is no proper HTTP"
BROKE_OFF = "the answer broke off"


class ClosedUnanswered(Exception):
    """The provider closed the connection before it said anything."""


class Response:
    """The head of an answer, and its body as it comes. `headers`: names in lower case."""

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.ended = False  # whether all of the body is here
        self.to_the_end = False  # whether the end of the connection is that of the body
        self._connection: Connection | None = connection
        self._parts: list[bytes] = []
        self._size = 0  # of the parts
        self._fault = ""
        self._waiting: asyncio.Future[None] | None = None
        self._unpacker: Unpacker | None = None

    def header(self, name: bytes) -> bytes:
        """The first of this name; b"" for none."""
        return next((value for found, value in self.headers if found == name), b"")

    @property
    def kind(self) -> str:
        """The media type, without its parameters."""
        return self.header(b"content-type").partition(b";")[0].strip().lower().decode("latin-1")

    def at_end(self) -> bool:
        """Whether there is nothing left to read."""
        return self.ended and not self._parts

    async def read(self) -> bytes:
        """What came since the last time, as soon as there is something; b"" at the end. Raises `RouteFailed`."""
        while True:
            if self._parts:
                data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts, self._size = [], 0
                if self._connection is not None:
                    self._connection.go_on()
                data = self._unpacked(data) if self._unpacker is not None else data
                if data:
                    return data
            elif self.ended and self._unpacker is not None and not self._unpacker.ended:
                raise self._failed(BROKE_OFF)
            elif self._fault:
                raise self._failed(self._fault)
            elif self.ended:
                return b""
            else:
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting

    def close(self) -> None:
        """Done with it, whether it has ended or not."""
        if self._connection is not None:
            self._connection.abort()

    # --- for the connection ---------------------------------------------------------------------------------------

    def begin(self, status: int) -> None:
        """The head is whole. Raises ValueError where nobody could tell where the body ends."""
        self.status = status
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"], [b"identity"]):
            raise ValueError("the answer is coded in a way that nobody asked for")
        self.to_the_end = codings != [b"chunked"] and not self.header(b"content-length") and status not in (204, 304)
        try:
            self._unpacker = unpacker_for(self.header(b"content-encoding"))
        except ValueError as error:  # the status may be all that is needed
            self._fault = str(error)

    def add(self, part: bytes) -> bool:
        """A part of the body. Returns whether it is enough for now."""
        if not self._fault:
            self._parts.append(part)
            self._size += len(part)
        self._wake()
        return self._size > ENOUGH

    def end(self, fault: str = "") -> None:
        """The body is whole, or it broke off."""
        self._connection = None
        self.ended, self._fault = not fault, self._fault or fault
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _unpacked(self, data: bytes) -> bytes:
        try:
            return cast("Unpacker", self._unpacker).feed(data)
        except ValueError as error:
            raise self._failed(str(error)) from None

    def _failed(self, fault: str) -> RouteFailed:
        return RouteFailed(fault, answered=self.status, sent=True)


class Connection(asyncio.Protocol):
    """`on_rest` is told when the next request may be sent, `on_lost` when none can be any more."""

    def __init__(self, on_rest: Callable[[Connection], None], on_lost: Callable[[Connection], None]) -> None:
        self.rested = 0.0  # since when it has nothing to do, in the time of the event loop
        self._on_rest = on_rest
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._response: Response | None = None  # under way
        self._head: asyncio.Future[Response] | None = None  # that is waited for
        self._got = 0  # bytes since the request, or since the last of the body
        self._refusal = ""  # why no more is taken
        self._paused = False

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing() and self._response is None

    async def ask(self, request: list[bytes]) -> Response:
        """Send a request, and wait for the head of its answer. Raises `RouteFailed`, `ClosedUnanswered`."""
        transport = cast("asyncio.Transport", self._transport)
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)  # some servers write them
        self._response = response = Response(self)
        self._got, self._refusal = 0, ""
        self._head = asyncio.get_running_loop().create_future()
        transport.writelines(request)
        try:
            return await self._head
        except BaseException:
            response.close()  # and not the connection: the answer may be whole, and somebody else's on its way
            raise

    def abort(self) -> None:
        """Close it, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def go_on(self) -> None:
        """What came was read."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # --- of the transport -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._response is None:  # nobody asked for anything
            self.abort()
            return
        self._got += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refusal = NO_HTTP
        if self._response is not None and self._got > LARGEST_HEAD:
            what = "head" if self._head is not None else "end"
            self._refusal = f"the {what} of the answer is longer than {LARGEST_HEAD} bytes"
        if self._refusal:
            self._break(self._refusal)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        if self._response is not None and self._response.to_the_end:
            self._finish(reuse=False)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """See `asyncio.Protocol`."""
        self._on_lost(self)
        if self._response is None:
            return
        if self._head is not None and not self._got:
            self._fail_head(ClosedUnanswered())
        else:  # by TLS too the end of a connection is told, where it is one: a mere loss may be anybody's doing
            self._break(BROKE_OFF)

    # --- of the parser --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Another answer after the one that was asked for is nobody's."""
        if self._response is None:
            self._refusal = NO_HTTP

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, whole."""
        if self._response is not None and self._head is not None:
            self._response.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole; one that only says that the answer is on its way is left aside."""
        response, status = self._response, self._parser.get_status_code()
        if response is None or self._head is None or self._refusal:
            return
        if status < 200:
            response.headers.clear()
            return
        try:
            response.begin(status)
        except ValueError as error:
            self._refusal = str(error)
            return
        head, self._head = self._head, None
        if not head.done():
            head.set_result(response)

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._got = 0
        if self._head is not None:  # of one that only says that the answer is on its way
            self._refusal = self._refusal or NO_HTTP
        elif self._response is not None and self._response.add(part) and not self._paused:
            self._paused = True
            cast("asyncio.Transport", self._transport).pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was one that only said that it is on its way."""
        if self._head is None and self._response is not None:
            self._finish(reuse=self._parser.should_keep_alive())

    # --- ends -----------------------------------------------------------------------------------------------------

    def _finish(self, *, reuse: bool) -> None:
        response, self._response = cast("Response", self._response), None
        transport = cast("asyncio.Transport", self._transport)
        response.end()
        self.go_on()
        if reuse and not transport.is_closing() and not transport.get_write_buffer_size():
            self.rested = asyncio.get_running_loop().time()
            self._on_rest(self)
        else:
            transport.abort()

    def _break(self, fault: str) -> None:
        self.abort()
        response, self._response = self._response, None
        if self._head is not None:
            self._fail_head(RouteFailed(fault, sent=True))
        elif response is not None:
            response.end(fault)

    def _fail_head(self, error: Exception) -> None:
        head, self._head, self._response = self._head, None, None
        if head is not None and not head.done():
            head.set_exception(error)
