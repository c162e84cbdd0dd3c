"""How much a request may send, before anything of it is read or anybody is known."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 4 << 20  # bytes; blobs are streamed, after their sender is known, and have no limit


class BodyLimit:
    """Answers 413 to a body that is larger than any request of this API is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting what it sends."""
        if scope["type"] != "http" or _is_upload(scope):
            await self._app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_BODY:
                raise _TooLargeError
            return message

        async def answered(message: Message) -> None:
            # The application may take the error for one of its own, and answer that.
            if received <= LARGEST_BODY:
                await send(message)

        if _declared(scope) > LARGEST_BODY:
            await _refuse(send)
            return
        with contextlib.suppress(_TooLargeError):
            await self._app(scope, counted, answered)
        if received > LARGEST_BODY:
            await _refuse(send)


class _TooLargeError(Exception):
    pass


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "PUT" and "/blobs/" in scope["path"]


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _refuse(send: Send) -> None:
    problem: dict[str, Any] = {
        "type": "urn:turnout:problem:invalid_request",
        "title": "invalid request",
        "status": 413,
        "detail": f"the body is larger than {LARGEST_BODY:,} bytes",
    }
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})
