"""One connection to a provider (HTTP/1.1): a request, then its answer as it comes, then perhaps the next request.

The parser is httptools, which the gateway's own server uses too. Whatever goes wrong is told as `RouteFailed`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any, cast

import httptools

from turnout.domain.errors import RouteFailed

LARGEST_HEAD = 64 * 1024  # bytes before a body, with what came before the head
_ENOUGH = 256 * 1024  # bytes that wait to be read, from which nothing more is taken from the provider
_LARGEST_PART = 32 * 1024 * 1024  # bytes that what came at once may be unpacked to
_PACKED = (b"gzip", b"x-gzip", b"deflate")  # which nobody asked for

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
        self._connection: Connection | None = connection
        self._parts: list[bytes] = []
        self._size = 0  # of the parts
        self._fault = ""
        self._waiting: asyncio.Future[None] | None = None
        self._unpack: Any = None

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
                data = self._unpacked(data) if self._unpack is not None else data
                if data:
                    return data
            elif self._fault:
                raise RouteFailed(self._fault, answered=self.status, sent=True)
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

    def begin(self, status: int) -> str:
        """The head is whole. Returns why the body cannot be read, "" where it can."""
        self.status = status
        packed = self.header(b"content-encoding").strip().lower()
        if packed in _PACKED:
            self._unpack = zlib.decompressobj(wbits=47)  # of gzip, or of zlib
        return "" if packed in (b"", b"identity", *_PACKED) else "the answer is packed in a way that nobody asked for"

    def add(self, part: bytes) -> bool:
        """A part of the body. Returns whether it is enough for now."""
        self._parts.append(part)
        self._size += len(part)
        self._wake()
        return self._size > _ENOUGH

    def end(self, fault: str = "") -> None:
        """The body is whole, or it broke off."""
        self._connection = None
        self.ended, self._fault = not fault, fault
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _unpacked(self, data: bytes) -> bytes:
        try:
            unpacked: bytes = self._unpack.decompress(data, _LARGEST_PART)
        except zlib.error:
            raise RouteFailed("the answer cannot be unpacked", answered=self.status, sent=True) from None
        if self._unpack.unconsumed_tail:
            raise RouteFailed("the answer is too large when it is unpacked", answered=self.status, sent=True)
        return unpacked


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
        self._got = 0  # bytes since the request, as long as the head is not whole
        self._to_the_end = False  # whether the end of the connection is that of the body
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
        self._response = Response(self)
        self._got, self._to_the_end, self._refusal = 0, False, ""
        self._head = asyncio.get_running_loop().create_future()
        transport.writelines(request)
        try:
            return await self._head
        except BaseException:
            self.abort()
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
        if self._head is not None and self._got > LARGEST_HEAD:
            self._refusal = f"the head of the answer is longer than {LARGEST_HEAD} bytes"
        if self._refusal:
            self._break(self._refusal)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        if self._to_the_end and self._response is not None:
            self._finish(reuse=False)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._on_lost(self)
        if self._response is None:
            return
        if self._head is not None and not self._got:
            self._fail_head(ClosedUnanswered())
        elif self._to_the_end and error is None:
            self._finish(reuse=False)
        else:
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
        if response is None or self._head is None:
            return
        if status < 200:
            response.headers.clear()
            return
        self._refusal = response.begin(status)
        if self._refusal:
            return
        chunked = response.header(b"transfer-encoding").strip().lower().endswith(b"chunked")
        self._to_the_end = not chunked and not response.header(b"content-length") and status not in (204, 304)
        head, self._head = self._head, None
        if not head.done():
            head.set_result(response)

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        if self._response is not None and self._response.add(part) and not self._paused:
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
