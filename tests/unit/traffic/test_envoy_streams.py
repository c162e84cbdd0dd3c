"""What is under way goes on while routes and backends change."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Thread

from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.unit.traffic.support import (
    CANDIDATE,
    HOST,
    STABLE,
    Upstream,
    ask,
    ring_route,
    routes,
    until,
)
from turnout.domain.models import FULL_WEIGHT
from turnout.traffic.envoy import EnvoyRouter

Proxy = tuple[EnvoyRouter, int]


@contextmanager
def websocket_echo() -> Iterator[str]:
    """An agent that echoes over WebSockets; its address."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, HOST, 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"{HOST}:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def test_a_stream_goes_on_while_its_backend_grows_leaves_the_routes_and_is_removed(
    proxy: Proxy, stable: Upstream, candidate: Upstream
) -> None:
    router, port = proxy
    router.apply(routes(ring_route((STABLE, FULL_WEIGHT), stable=stable.address)))
    with closing(http.client.HTTPConnection(HOST, port, timeout=10)) as connection:
        connection.request("GET", "/support/production/sse")
        response = connection.getresponse()
        assert response.headers["x-turnout-release"] == STABLE
        assert router.active_requests("support", "production", STABLE) == 1

        both = f"{stable.address},{candidate.address}"
        steps = [
            ring_route((STABLE, FULL_WEIGHT), stable=both),
            ring_route((CANDIDATE, FULL_WEIGHT), stable=both, candidate=candidate.address),
            ring_route((CANDIDATE, FULL_WEIGHT), stable="", candidate=candidate.address),
            ring_route((CANDIDATE, FULL_WEIGHT), candidate=candidate.address),
        ]
        for number, step in enumerate(steps):
            router.apply(routes(step))
            stable.emit(f"after {number}")
            assert response.readline() == f"data: after {number}\n".encode()
            assert response.readline() == b"\n"
        assert ask(port).json["name"] == "candidate"
        stable.finish()
        assert response.read() == b""
    until(lambda: router.active_requests("support", "production", STABLE) == 0)


def test_a_websocket_goes_on_over_a_flip_and_counts_as_active(proxy: Proxy, candidate: Upstream) -> None:
    router, port = proxy
    with websocket_echo() as address:
        router.apply(routes(ring_route((STABLE, FULL_WEIGHT), stable=address, candidate=candidate.address)))
        with connect(f"ws://{HOST}:{port}/support/production/talk") as caller:
            caller.send("one")
            assert caller.recv(5) == "one"
            assert router.active_requests("support", "production", STABLE) == 1
            router.apply(routes(ring_route((CANDIDATE, FULL_WEIGHT), stable=address, candidate=candidate.address)))
            assert ask(port).json["name"] == "candidate"
            caller.send("two")
            assert caller.recv(5) == "two"
            assert router.active_requests("support", "production", STABLE) == 1
            assert router.active_requests("support", "production", CANDIDATE) == 0
        until(lambda: router.active_requests("support", "production", STABLE) == 0)


def test_no_request_meets_a_connection_that_the_agent_closes(proxy: Proxy) -> None:
    """Agents' servers close a connection that idled for two seconds; requests come right then."""
    router, port = proxy
    hasty = Upstream("hasty", idle_timeout=2.0)
    router.apply(routes(ring_route((STABLE, FULL_WEIGHT), stable=hasty.address)))

    async def caller(number: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection(HOST, port)
        statuses = []
        for pause in (1.98 + number / 5_000, 0.0):
            writer.write(b"GET /support/production/ HTTP/1.1\r\nhost: x\r\n\r\n")
            statuses.append((await reader.readline()).split()[1])
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.startswith(b"content-length"):
                    length = int(line.split()[1])
            await reader.readexactly(length)
            await asyncio.sleep(pause)
        writer.close()
        await writer.wait_closed()
        return statuses

    async def callers() -> list[list[bytes]]:
        return await asyncio.gather(*map(caller, range(200)))

    try:
        answers = asyncio.run(callers())
    finally:
        hasty.close()
    assert [status for statuses in answers for status in statuses] == [b"200"] * 400


def test_a_replica_that_died_costs_no_caller_a_request(proxy: Proxy, stable: Upstream) -> None:
    router, port = proxy
    gone = Upstream("gone")
    router.apply(routes(ring_route((STABLE, FULL_WEIGHT), stable=f"{stable.address},{gone.address}")))
    gone.close()
    assert {ask(port).status for _ in range(20)} == {200}
