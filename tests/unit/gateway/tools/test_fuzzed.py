"""Random changes of a server's tools, and calls by all kinds of names: what is not pinned never gets to the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastmcp import Client

from tests.mcp_servers import build_grant, tool_gateway
from tests.tool_worlds import World
from turnout.domain.calls import Ended
from turnout.gateway.tools.upstream import Patience

STEPS = 60


@pytest.mark.parametrize("seed", range(3))
def test_every_call_of_an_unlisted_or_changed_tool_is_refused(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    let_through: list[str] = []
    wrong: list[str] = []
    with tool_gateway(build_grant(*world.pins), world.server, patience=Patience(refresh=0)) as gateway:

        async def run() -> None:
            async with Client(gateway.transport()) as client:
                for _ in range(STEPS):
                    step = world.step()
                    result = await client.call_tool_mcp(step.tool, {})
                    let_through.extend([step.tool] if step.allowed else [])
                    wrong.extend([step.tool] if result.is_error is step.allowed else [])

        asyncio.run(run())

    assert wrong == []
    assert world.reached() == let_through
    assert 0 < len(let_through) < STEPS
    assert sum(call.ended is Ended.REFUSED for call in gateway.calls) == STEPS - len(let_through)
