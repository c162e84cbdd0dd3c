"""An agent that calls one tool and goes."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types
from fastmcp import Client

from tests.mcp_servers import KEY, Gateway


def call(gateway: Gateway, tool: str, arguments: dict[str, Any] | None = None, **how: Any) -> mcp_types.CallToolResult:
    return calls(gateway, (tool, arguments or {}), **how)[0]


def calls(
    gateway: Gateway, *wanted: tuple[str, dict[str, Any]], key: str = KEY, mode: Any = "auto", **headers: str
) -> list[mcp_types.CallToolResult]:
    """The results of some calls of one client, one after the other."""

    async def run() -> list[mcp_types.CallToolResult]:
        async with Client(gateway.transport(key, **headers), mode=mode) as client:
            return [await client.call_tool_mcp(tool, arguments) for tool, arguments in wanted]

    return asyncio.run(run())


def listed(gateway: Gateway, key: str = KEY) -> list[mcp_types.Tool]:
    async def run() -> list[mcp_types.Tool]:
        async with Client(gateway.transport(key)) as client:
            tools: list[mcp_types.Tool] = await client.list_tools()
            return tools

    return asyncio.run(run())


def text(result: mcp_types.CallToolResult) -> str:
    block = result.content[0]
    assert isinstance(block, mcp_types.TextContent)
    return block.text
