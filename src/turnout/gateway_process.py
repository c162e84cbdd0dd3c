"""One process of the gateway: where its parts are built and served. Started by the server, which it outlives."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from turnout.gateway.launch import DRAIN_SECONDS, GatewayLaunch
from turnout.processes import KnownProcess, start_mark

log = logging.getLogger(__name__)

HEALTH_PATH = "/healthz"
BACKLOG = 2_048

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def main() -> None:
    """Serve until SIGTERM; calls under way then have their time to end."""
    launch = _read_command_line(sys.argv[1:])
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    for chatty in ("httpx", "httpcore", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    os.umask(0o077)
    serve(launch, with_health(build_app, launch))


async def build_app(scope: Scope, _receive: Receive, send: Send) -> None:
    """Nothing is served yet."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def with_health(app: App, launch: GatewayLaunch) -> App:
    """The application, and beside it `/healthz`, which says who answers."""
    content = {
        "status": "ok",
        "kind": launch.kind,
        "index": launch.index,
        "pid": os.getpid(),
        "version": importlib.metadata.version("turnout"),
    }
    body = json.dumps(content).encode()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != HEALTH_PATH:
            await app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return answer


def serve(launch: GatewayLaunch, app: App) -> None:
    """Listen on a port that other processes of the gateway may share, and answer until SIGTERM."""
    own = KnownProcess(os.getpid(), start_mark(os.getpid()) or "")
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(DRAIN_SECONDS),
        server_header=False,
        proxy_headers=False,
    )
    with listen(launch.host, launch.port) as listener:
        _Server(config, partial(launch.say_ready, own)).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that several processes may have on one address: each connection goes to one of them."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small answers at once instead of waiting for more to send.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


def _read_command_line(arguments: list[str]) -> GatewayLaunch:
    parser = argparse.ArgumentParser(prog="turnout.gateway_process")
    parser.add_argument("kind", choices=("model", "tool"))
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--identity", required=True)
    return GatewayLaunch(**vars(parser.parse_args(arguments)))


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        self._on_started()


if __name__ == "__main__":
    main()
