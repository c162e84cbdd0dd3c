"""One process of the gateway: where its parts are built and served. Started by the server, which it outlives."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from turnout.clock import SystemClock
from turnout.db.ledger import open_ledger
from turnout.gateway.accounts import Accounts
from turnout.gateway.asgi import Application, Message, Receive, Scope, Send
from turnout.gateway.config import ConfigFile, find_ledger, resolve_secret
from turnout.gateway.drain import Drain
from turnout.gateway.grants import GrantsFile
from turnout.gateway.handover import Offer
from turnout.gateway.heartbeat import with_heartbeat
from turnout.gateway.journal import Journal
from turnout.gateway.keys import keep_secret
from turnout.gateway.launch import DRAIN_SECONDS, FOLDER, GatewayLaunch
from turnout.gateway.serve import build_server, ease_collector
from turnout.processes import PASSED, KnownProcess, start_mark

HEALTH_PATH = "/healthz"


def main() -> None:
    """Serve on the socket that was passed until SIGTERM; calls under way then have their time to end."""
    launch = _read_command_line(sys.argv[1:])
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    for chatty in ("httpx", "httpcore", "uvicorn.error", "mcp", "fastmcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    os.umask(0o077)
    sys.setswitchinterval(0.0005)  # a call must not wait 5 ms for the thread that settles others
    listener = socket.socket(fileno=PASSED)
    listener.set_inheritable(False)  # tool servers are its children
    listener.setblocking(False)
    offer = Offer(launch.offer_path, listener.dup(), keep_secret(launch.state / FOLDER))
    drain = Drain(offer.close)
    app = drain.wrap(with_heartbeat(build_app(launch, offer.open), launch.log_path.parent))
    server = build_server(app, drain=int(DRAIN_SECONDS), fast=launch.kind == "model")
    ease_collector()
    drain.attach(server)
    server.run([listener])


def build_app(launch: GatewayLaunch, on_start: Callable[[], None] = lambda: None) -> Application:
    """The application of this kind of process, with all it needs. Raises `SetupFailed`, `LedgerUnavailable`.

    `on_start` is called when it can serve, before it says so.
    """
    own = KnownProcess(os.getpid(), start_mark(os.getpid()) or "")
    config = ConfigFile(launch.config, os.environ)
    grants = GrantsFile(launch.grants_path)
    journal = Journal(launch.journal_folder, f"{launch.kind}-{launch.index}")
    accounts = Accounts(open_ledger(find_ledger(config.current, os.environ, launch.ledger_url)))
    build = _build_model_app if launch.kind == "model" else _build_tool_app
    app = build(launch, config, grants, accounts, journal)

    def start() -> None:
        on_start()
        launch.say_ready(own)

    async def end() -> None:
        await accounts.close()
        journal.close()

    return with_health(with_life(app, start, end), launch)


def with_life(app: Application, on_start: Callable[[], None], on_end: Callable[[], Awaitable[None]]) -> Application:
    """The application, and what is to be done once it has started, and when it has ended."""

    def live(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await on_end()
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                on_start()

        return app(scope, receive, tell)

    return lambda scope, receive, send: (live if scope["type"] == "lifespan" else app)(scope, receive, send)


def with_health(app: Application, launch: GatewayLaunch) -> Application:
    """The application, and beside it `/healthz`, which says who answers."""
    content = {
        "status": "ok",
        "kind": launch.kind,
        "index": launch.index,
        "pid": os.getpid(),
        "version": importlib.metadata.version("turnout"),
    }
    body = json.dumps(content).encode()

    async def tell(send: Send, *, head: bool) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else body})

    def answer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["path"] == HEALTH_PATH:
            return tell(send, head=scope["method"] == "HEAD")
        return app(scope, receive, send)

    return answer


def _build_model_app(
    launch: GatewayLaunch,  # noqa: ARG001
    config: ConfigFile,
    grants: GrantsFile,
    accounts: Accounts,
    journal: Journal,
) -> Application:
    from turnout.gateway.model_app import create_model_app

    return create_model_app(
        grants,
        lambda: config.current,
        accounts,
        journal,
        SystemClock(),
        _secret_of,
        on_route=journal.tell,
    )


def _build_tool_app(
    launch: GatewayLaunch, config: ConfigFile, grants: GrantsFile, accounts: Accounts, journal: Journal
) -> Application:
    from turnout.gateway.tools.app import build_tool_app
    from turnout.gateway.tools.calls import ToolCalls
    from turnout.gateway.tools.upstream import Upstreams

    upstreams = Upstreams(lambda: config.current.tool_servers, _secret_of, logs=launch.log_path.parent / "tools")
    return build_tool_app(grants, ToolCalls(upstreams, accounts, journal), upstreams)


def _secret_of(reference: str) -> str:
    return resolve_secret(reference, os.environ)


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


if __name__ == "__main__":
    main()
