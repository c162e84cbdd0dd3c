"""Streaming calls over HTTP that race for a budget through four real processes of the gateway, and who else looks at it.

The processes are started as the server starts them: grants and configuration in files, one port for all, one ledger on the
disk. The provider of this module does with each call what the call asks for in its field `user`. In some races a process of
the gateway is killed in the middle.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import random
import re
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from tests.live import free_port

from benchmarks.gateway_budget import CAP, WORST, RaceResult, await_reap, observe, spawn
from benchmarks.gateway_races import CutOff, End, Plan, Refused, Tally, plan_calls, race
from turnout.db.ledger import open_ledger
from turnout.domain.budget import NANOS, Budget, BudgetScope
from turnout.domain.grants import Grant, Grants, ModelPin
from turnout.domain.models import Digest
from turnout.gateway.grants import write_grants
from turnout.gateway.keys import key_digest
from turnout.gateway.launch import FOLDER, GatewayLaunch, ledger_url
from turnout.gateway.serve import listen
from turnout.processes import KnownProcess

PROCESSES = 4
KEY = "tk_of-the-race"
MODEL = "racer"
TOKENS = 1_000  # out, at most: the worst case of a call; tokens in cost nothing here
PATIENCE = 30.0  # seconds that a refused caller tries again
REAPED_WITHIN = 90.0  # seconds after a kill
BUDGETS = (Budget(BudgetScope.TASK, CAP), Budget(BudgetScope.RING, CAP, window=3_600.0))
GATEWAY = """
[[providers.local.routes]]
name = "race"
url = "http://127.0.0.1:{port}/v1"
limit_parameter = "max_tokens"

[prices."local/{model}"]
input = 0.0
output = {price}
"""
_MONEY = re.compile(r"take \$(\S+): \$(\S+) spent, \$(\S+) held")
_ROUNDED = 1e-5  # of the numbers in a message


def run_http_race(seed: int, calls: int) -> RaceResult:
    """One race on a gateway of its own."""
    result = RaceResult(seed, killed=seed % 4 == 3)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="race-") as name, gateway(Path(name)) as (port, processes):
        url = ledger_url(Path(name))
        stop = multiprocessing.get_context("forkserver").Event()
        watching, seen = spawn(observe, url, stop)
        seen.recv()
        racer, done = spawn(_race, port, seed, calls)
        done.recv()
        if result.killed:
            time.sleep(random.Random(seed).uniform(0.5, 1.5))
            processes[seed // 4 % PROCESSES].send(signal.SIGKILL)
        result.tally = done.recv()
        racer.join()
        asyncio.run(_take_the_rest(url, port, result))
        stop.set()
        result.looks, result.most, result.over = seen.recv()
        watching.join()
    result.seconds = time.monotonic() - began
    return result


@contextmanager
def gateway(state: Path) -> Iterator[tuple[int, list[KnownProcess]]]:
    """Four processes on one port, before a provider that does what it is asked to."""
    release = Digest("sha256:" + "0" * 64)
    pin = ModelPin("local", MODEL)
    grant = Grant(key_digest(KEY), "support", "production", release, "v1", models=(pin,), budgets=BUDGETS)
    provider, ready = spawn(_provide)
    try:
        config = GATEWAY.format(port=ready.recv(), model=MODEL, price=WORST / TOKENS * 1e6 / NANOS)
        with started(state, config, grant, PROCESSES) as running:
            yield running
    finally:
        provider.kill()
        provider.join()


@contextmanager
def started(state: Path, config: str, allowed: Grant, count: int = 1) -> Iterator[tuple[int, list[KnownProcess]]]:
    """So many processes on one port, as the server starts them. `config`: what gateway.toml says."""
    (state / FOLDER).mkdir(parents=True)
    file, port = state / "gateway.toml", free_port()
    file.write_text(config)
    launches = [GatewayLaunch("model", index, state, "127.0.0.1", port, file, "measured") for index in range(count)]
    write_grants(launches[0].grants_path, "measured", Grants({allowed.key: allowed}))
    processes: list[KnownProcess] = []
    try:
        with listen("127.0.0.1", port) as listener:
            for launch in launches:
                processes.append(launch.spawn(listener))
        for launch, process in zip(launches, processes, strict=True):
            launch.await_ready(process)
        yield port, processes
    finally:
        for process in processes:
            process.end(0)


# --- the caller ------------------------------------------------------------------------------------------------------


def _race(connection: Connection, port: int, seed: int, calls: int) -> None:
    async def run() -> Tally:
        async with session() as client:
            return await race(plan_calls(seed, calls), Streams(client, port).open, PATIENCE)

    connection.send("ready")
    connection.send(asyncio.run(run()))


def session() -> aiohttp.ClientSession:
    """A connection for each call, so that all processes get some."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=aiohttp.ClientTimeout(total=120)
    )


class Streams:
    """Calls as an agent makes them."""

    def __init__(self, client: aiohttp.ClientSession, port: int) -> None:
        self._client = client
        self._url = f"http://127.0.0.1:{port}/v1/chat/completions"

    async def open(self, plan: Plan) -> AsyncGenerator[int, None]:
        """The chunks of one call. Raises `Refused`, `CutOff`."""
        body = {
            "model": MODEL,
            "stream": True,
            "max_tokens": TOKENS,
            "user": json.dumps(asdict(plan)),
            "messages": [{"role": "user", "content": "?"}],
        }
        headers = {"Authorization": f"Bearer {KEY}", "x-turnout-task": "one"}
        try:
            async with self._client.post(self._url, json=body, headers=headers) as answer:
                if answer.status == 429:
                    raise _refused(answer, (await answer.json())["error"])
                if answer.status != 200:
                    raise CutOff
                whole = False
                async for line in answer.content:
                    whole = whole or line.startswith(b"data: [DONE]")
                    if b'"error"' in line:
                        raise CutOff
                    if b'"content"' in line:
                        yield 1
                if not whole:
                    raise CutOff
        except aiohttp.ClientError as error:
            raise CutOff from error


def _refused(answer: aiohttp.ClientResponse, error: dict[str, Any]) -> Refused:
    found = _MONEY.search(error["message"])
    assert error["code"] == "budget_exceeded", error
    assert found is not None, error
    wanted, settled, held = (round(float(number.rstrip(",")) * NANOS) for number in found.groups())
    fits = wanted + settled + held <= CAP * (1 - _ROUNDED)
    return Refused(falsely=fits, lasting="Retry-After" not in answer.headers)


async def _take_the_rest(url: str, port: int, result: RaceResult) -> None:
    """Wait for the reap, then begin as many calls as there is room for, and one more."""
    with closing(open_ledger(url)) as ledger:
        room = result.note(await await_reap(ledger, REAPED_WITHIN))
        async with session() as client:
            streams = Streams(client, port)
            plan = Plan("rest", 0.0, 0.0, 60.0, 2, 0.0, End.DONE, 9)  # says a word, and no more for a while
            opened = [streams.open(plan) for _ in range(room)]
            for stream in opened:
                try:
                    await anext(stream)
                except Refused:
                    result.false_refusals += 1
            with suppress(Refused):
                beyond = streams.open(plan)
                await anext(beyond)
                opened.append(beyond)
                result.excess += 1
            for stream in opened:
                await stream.aclose()
        result.left += sum(account.held > 0 for account in await await_reap(ledger, 20.0))


# --- the provider ----------------------------------------------------------------------------------------------------


def _provide(connection: Connection) -> None:
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # callers that leave are no error here

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", _answer)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        server: Any = site._server
        connection.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(run())


async def _answer(request: web.Request) -> web.StreamResponse:
    """Chunks as the call asks for them, and what they took."""
    asked = json.loads((await request.json())["user"])
    await asyncio.sleep(asked["first_chunk"])
    if asked["end"] == End.EARLY:
        return web.json_response({"error": {"message": "not now", "type": "server_error"}}, status=500)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for chunk in range(asked["chunks"]):
        await response.write(_event({"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}))
        if asked["end"] == End.CUT and chunk >= asked["ends_after"]:
            assert request.transport is not None
            request.transport.abort()
            return response
        await asyncio.sleep(asked["gap"])
    await response.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    out = round(TOKENS * asked["share"])
    await response.write(
        _event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": out, "total_tokens": out + 1}})
    )
    await response.write(b"data: [DONE]\n\n")
    return response


def _event(content: dict[str, Any]) -> bytes:
    value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, **content}
    return b"data: " + json.dumps(value).encode() + b"\n\n"
