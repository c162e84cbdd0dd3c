"""The few pieces of ASGI that the gateway needs: heads, bodies, answers, and whether the caller is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, cast

from turnout.domain.errors import CallRefused
from turnout.gateway.protocols.errors import Problem, error_body
from turnout.gateway.values import Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

UPLOAD_PATIENCE = 60.0  # seconds for the body of a request

_ONCE = frozenset((b"authorization", b"x-api-key", b"content-length", b"content-type", b"transfer-encoding", b"host"))
_ONCE_TOO = frozenset((b"x-turnout-task", b"idempotency-key"))


def read_head(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request. Raises `CallRefused` where two of them may be read in two ways."""
    head: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in head:
            if name in _ONCE or name in _ONCE_TOO:
                raise CallRefused(f"the header {name.decode('latin-1')} is there twice", status=400, code="bad_header")
            head[name] += b", " + value
        else:
            head[name] = value
    if b"transfer-encoding" in head and b"content-length" in head:
        raise CallRefused(
            "a request has a content-length or a transfer-encoding, not both", status=400, code="bad_header"
        )
    return head


class Room:
    """The bytes of all bodies that a process holds at once, so that no number of large ones takes its memory."""

    def __init__(self, most: int) -> None:
        self.left = most


class Share:
    """What one call has of a room, until it is closed."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken = 0

    def take(self, size: int) -> None:
        """Raises `CallRefused` where there is not so much left."""
        if size > self._room.left:
            message = "the gateway holds as many bodies of calls as it can: try again in a moment"
            raise CallRefused(message, status=503, code="overloaded", retry_after=1)
        self._room.left -= size
        self._taken += size

    def close(self) -> None:
        """Give it back."""
        self._room.left += self._taken
        self._taken = 0


async def read_body(receive: Receive, head: dict[bytes, bytes], largest: int, share: Share) -> bytes | None:
    """The body of a request; None where the caller hung up.

    Raises `CallRefused` for one that is too large or too slow, and where there is no room for it.
    """
    refusal = CallRefused(f"the body is larger than {largest} bytes", status=413, code="request_too_large")
    told = head.get(b"content-length", b"0")
    if told.isdigit() and int(told) > largest:
        raise refusal
    parts: list[bytes] = []
    size, until = 0, asyncio.get_running_loop().time() + UPLOAD_PATIENCE
    try:
        message = await receive()
        while True:
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > largest:
                raise refusal
            share.take(len(part))
            parts.append(part)
            if not message.get("more_body"):
                return part if len(parts) == 1 else b"".join(parts)
            async with asyncio.timeout_at(until):
                message = await receive()
    except TimeoutError:
        raise CallRefused("the body did not come in time", status=408, code="request_timeout") from None


async def send_answer(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    """A whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def send_problem(
    send: Send, protocol: Protocol, problem: Problem, more: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """An error in the caller's protocol."""
    headers: RawHeaders = [(b"content-type", b"application/json"), *more]
    headers.append((b"x-should-retry", b"true" if problem.retry else b"false"))
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(max(1, -int(-problem.retry_after // 1))).encode()))
    if problem.status in (408, 413) or problem.code == "overloaded":
        headers.append((b"connection", b"close"))  # what is left of the body is not read
    await send_answer(send, problem.status, headers, error_body(protocol, problem))


class Presence:
    """Cancels the task that made it when the caller hangs up. Begun after the body was read."""

    def __init__(self, receive: Receive) -> None:
        self._task = cast("asyncio.Task[None]", asyncio.current_task())
        self.gone = False
        self._receive = receive
        self._watch: asyncio.Future[Message] | None = None
        # Once the call waits for something: that it goes out comes first.
        self._begin = self._task.get_loop().call_soon(self._look)

    def stop(self) -> None:
        """Watch no longer: the last of the answer is about to be sent."""
        self._begin.cancel()
        if self._watch is not None:
            self._watch.remove_done_callback(self._leave)
            self._watch.cancel()

    def forgive(self) -> None:
        """The cancellation was ours and has done its work."""
        self._task.uncancel()

    def _look(self) -> None:
        self._watch = asyncio.ensure_future(self._receive())
        self._watch.add_done_callback(self._leave)

    def _leave(self, watch: asyncio.Future[Message]) -> None:
        if not watch.cancelled():
            self.gone = True
            self._task.cancel()
