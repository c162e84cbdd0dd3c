"""Ends a gateway's server so that callers hardly notice: one that replaced it listens already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import FrameType

import uvicorn

from turnout.gateway.asgi import Application, Message, Receive, Scope, Send

FAREWELL = 1.0  # seconds in which callers that keep connections open are told to open others
_LOOK_AGAIN = 0.02


class Drain:
    """On SIGTERM nothing new is accepted, and every answer closes its connection; a moment later idle ones are closed too.

    Closed at once they would meet requests that are on their way. `on_begin` is called by the handler of the signal.
    """

    def __init__(self, on_begin: Callable[[], None] = lambda: None) -> None:
        self._on_begin = on_begin
        self._begun = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None

    def wrap(self, app: Application) -> Application:
        """The application, whose answers close their connections once the end has begun."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            async def tell(message: Message) -> None:
                if self._begun and message["type"] == "http.response.start":
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
                await send(message)

            self._loop = asyncio.get_running_loop()
            await app(scope, receive, tell if scope["type"] == "http" else send)

        return answer

    def attach(self, server: uvicorn.Server) -> None:
        """Let SIGTERM begin the end of a server that was not started yet; a second one ends it at once."""

        def begin(number: int, frame: FrameType | None) -> None:
            if self._begun or self._loop is None:
                uvicorn.Server.handle_exit(server, number, frame)
                return
            self._begun = True
            self._on_begin()
            self._loop.call_soon_threadsafe(finish, self._loop, number)

        def finish(loop: asyncio.AbstractEventLoop, number: int) -> None:
            self._ending = loop.create_task(_finish(server, number))

        server.handle_exit = begin  # type: ignore[assignment, method-assign]


async def _finish(server: uvicorn.Server, number: int) -> None:
    for listening in getattr(server, "servers", ()):  # none while it starts
        listening.close()
    now = asyncio.get_running_loop().time
    until = now() + FAREWELL
    while server.server_state.connections and now() < until:
        await asyncio.sleep(_LOOK_AGAIN)
    uvicorn.Server.handle_exit(server, number, None)
