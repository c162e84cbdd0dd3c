"""The door of the tool gateway: who asks, for which task, and whether the agent is still there.

It reads a request before MCP does. A client of older revisions of the protocol cancels a call with a message of its own,
which has to find the call: the door gives each client a mark (the session id of the protocol) and keeps nothing else, so
that any process can answer any request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnout.domain.grants import Grant
from turnout.gateway.asgi import UPLOAD_PATIENCE
from turnout.gateway.seams import GrantSource
from turnout.gateway.tasks import BAGGAGE_MEMBER, NO_TASK, TASK_HEADER, is_task, task_in_baggage

LARGEST_BODY = 1 << 20  # bytes of a request
INBOUND = "turnout.inbound"  # the key in an ASGI scope
_SESSION = "mcp-session-id"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inbound:
    """A request that is let in. `running` is what a cancellation ends."""

    grant: Grant
    headers: Headers
    client: tuple[str, str]  # the digest of the key, and the mark of the client
    running: dict[tuple[str, str, str], asyncio.Task[Any]]
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # set when the agent closed the connection
    calls: set[asyncio.Task[Any]] = field(default_factory=set)  # of this request; they end when the agent goes away

    def task_of(self, meta: Mapping[str, Any] | None) -> str | None:
        """The task that a call belongs to: its header, else the baggage of the request or of the call."""
        said = meta or {}
        headers = (",".join(self.headers.getlist("baggage")), said.get("baggage"))
        baggage = (task_in_baggage(value) for value in headers if isinstance(value, str))
        named = (self.headers.get(TASK_HEADER, "").strip(), *baggage, said.get(BAGGAGE_MEMBER))
        return next((task for task in named if isinstance(task, str) and is_task(task)), None)


class Door:
    """ASGI middleware that lets in whoever has a key, and hands an `Inbound` on."""

    def __init__(self, app: ASGIApp, grants: GrantSource, largest_body: int = LARGEST_BODY) -> None:
        self._app = app
        self._grants = grants
        self._largest_body = largest_body
        self._running: dict[tuple[str, str, str], asyncio.Task[Any]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        grant = _admitted(headers, self._grants)
        if isinstance(grant, Response):
            await grant(scope, receive, send)
            return
        if headers.get(TASK_HEADER) and not is_task(headers[TASK_HEADER].strip()):
            refusal = _refusal(400, NO_TASK)
            await refusal(scope, receive, send)
            return
        try:
            async with asyncio.timeout(UPLOAD_PATIENCE):
                body = await _read(receive, self._largest_body)
        except TimeoutError:
            refusal = _refusal(408, "the request did not come in time")
            await refusal(scope, receive, send)
            return
        if body is None:
            refusal = _refusal(413, f"the request is larger than {self._largest_body} bytes")
            await refusal(scope, receive, send)
            return
        await self._serve(scope, receive, send, headers, grant, body)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, grant: Grant, body: bytes
    ) -> None:
        mark = headers.get(_SESSION, "")
        inbound = Inbound(grant, headers, (grant.key, mark), self._running)
        if b"notifications/cancelled" in body:
            self._cancel(inbound, body)
        if b'"initialize"' in body:
            send = _marking(send)
        answered = asyncio.Event()
        watcher = asyncio.create_task(_watch(receive, inbound))
        try:
            await self._app({**scope, INBOUND: inbound}, _replay(body, inbound.gone, answered), send)
        finally:
            answered.set()
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    def _cancel(self, inbound: Inbound, body: bytes) -> None:
        with suppress(
            ValueError, RecursionError, AttributeError, KeyError, TypeError
        ):  # MCP says what is wrong with it
            message = json.loads(body)
            if message.get("method") == "notifications/cancelled":
                call = self._running.get((*inbound.client, str(message["params"]["requestId"])))
                if call is not None and inbound.client[1]:
                    call.cancel()


def _admitted(headers: Headers, grants: GrantSource) -> Grant | Response:
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return _refusal(403, "requests of web pages are not let in")
    scheme, _, key = headers.get("authorization", "").partition(" ")
    grant = grants.find(key.strip()) if scheme.lower() == "bearer" and key.strip() else None
    if grant is None:
        return _refusal(401, "the key of the gateway is missing, wrong, or of a release that no longer runs")
    return grant


def _refusal(status: int, message: str) -> Response:
    """In the shape of MCP. Not one that sends clients to look for a login."""
    headers = {"x-should-retry": "false"}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": message}}, status, headers)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The body; None for one that is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _watch(receive: Receive, inbound: Inbound) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    inbound.gone.set()
    for call in inbound.calls:
        call.cancel()


def _replay(body: bytes, gone: asyncio.Event, answered: asyncio.Event) -> Receive:
    given = False

    async def receive() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        waits = [asyncio.create_task(event.wait()) for event in (gone, answered)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return {"type": "http.disconnect"}

    return receive


def _marking(send: Send) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)[_SESSION] = uuid.uuid4().hex
        await send(message)

    return marked
