"""The tool gateway as an ASGI application: MCP at `/mcp`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import mcp_types
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools.base import Tool, ToolResult
from starlette.applications import Starlette
from starlette.types import ASGIApp

from turnout.domain.grants import ToolPin
from turnout.gateway.seams import GrantSource
from turnout.gateway.tools.calls import Answer, ToolCalls
from turnout.gateway.tools.inbound import INBOUND, LARGEST_BODY, Door, Inbound
from turnout.gateway.tools.upstream import Upstreams

_CHATTY = ("mcp", "fastmcp", "httpx2", "httpcore2")  # they log what agents and tools say, and a line for each request


def build_tool_app(
    grants: GrantSource, calls: ToolCalls, upstreams: Upstreams, *, largest_body: int = LARGEST_BODY
) -> ASGIApp:
    """The application. Its lifespan closes the sessions with the servers."""
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    server: FastMCP[Any] = FastMCP(
        "turnout tool gateway",
        middleware=[_PinnedTools(calls)],
        lifespan=_closing(upstreams),
        dereference_schemas=False,
        mask_error_details=True,
    )
    # Without this every call lists the tools first, to compare headers that repeat arguments; only the body counts here.
    server._mcp_server.get_tool_input_schema = lambda _: None
    app: Starlette = server.http_app(path="/mcp", stateless_http=True, json_response=True)
    return Door(app, grants, largest_body)


class PinnedTool(Tool):
    """A tool as it was pinned, whatever its server says of it now."""

    def to_mcp_tool(self, **_: Any) -> mcp_types.Tool:
        """The pinned description, to the letter."""
        return mcp_types.Tool.model_validate(self.parameters)


class _PinnedTools(Middleware):
    """Answers in the place of a server: FastMCP speaks the protocol, and what is said comes from the grant."""

    def __init__(self, calls: ToolCalls) -> None:
        self._calls = calls

    async def on_list_tools(
        self,
        context: MiddlewareContext[mcp_types.ListToolsRequest],  # noqa: ARG002  # the protocol of FastMCP
        call_next: CallNext[mcp_types.ListToolsRequest, Sequence[Tool]],  # noqa: ARG002
    ) -> Sequence[Tool]:
        """The tools of the release's manifest."""
        return [_listed(pin) for pin in _inbound().grant.tools if "inputSchema" in pin.description]

    async def on_call_tool(
        self,
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],  # noqa: ARG002
    ) -> ToolResult:
        """A call, unless the agent goes away."""
        inbound = _inbound()
        request = context.fastmcp_context.request_context if context.fastmcp_context else None
        meta = dict(request.meta or {}) if request else {}
        message = context.message
        task = inbound.task_of(meta)
        call = asyncio.create_task(self._calls.call(inbound.grant, task, message.name, message.arguments or {}))
        mark = (*inbound.client, str(request.request_id if request else ""))
        inbound.running[mark] = call
        inbound.calls.add(call)
        if inbound.gone.is_set():
            call.cancel()
        try:
            return _result(await _answer(call))
        finally:
            inbound.calls.discard(call)
            if inbound.running.get(mark) is call:
                del inbound.running[mark]


async def _answer(call: asyncio.Task[Answer]) -> Answer:
    """The answer of a call. One that was cancelled has an answer that nobody reads."""
    try:
        await asyncio.wait({call})
    finally:
        if not call.done():
            call.cancel()
            await asyncio.wait({call})
    return Answer(error="the call was cancelled") if call.cancelled() else call.result()


def _result(answer: Answer) -> ToolResult:
    if answer.result is None:
        text = mcp_types.TextContent(type="text", text=answer.error)
        return ToolResult.from_mcp_result(mcp_types.CallToolResult(content=[text], is_error=True))
    return ToolResult.from_mcp_result(mcp_types.CallToolResult.model_validate(answer.result))


def _listed(pin: ToolPin) -> PinnedTool:
    return PinnedTool(name=pin.name, parameters=dict(pin.description))


def _inbound() -> Inbound:
    inbound = get_http_request().scope[INBOUND]
    assert isinstance(inbound, Inbound)  # noqa: S101  # nothing gets past the door without one
    return inbound


def _closing(upstreams: Upstreams) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastMCP[Any]) -> AsyncIterator[Mapping[str, Any]]:
        try:
            yield {}
        finally:
            with suppress(asyncio.CancelledError):
                await upstreams.close()

    return lifespan
