"""Stands in for the tool server while the suite runs: nothing that the agent does there reaches the real one.

An MCP server on standard input and output with the standard library alone. It has the tools of `tools.json` beside it, as
they are pinned, and answers from the arguments: the same call gets the same answer, here as from the real server.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_DESCRIBED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


def main() -> None:
    """Answer each message, until there are no more."""
    tools = list(load_tools(Path(__file__).with_name("tools.json")))
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("id") is None:
            continue
        reply = {"jsonrpc": "2.0", "id": message["id"], **_reply(message["method"], message.get("params") or {}, tools)}
        print(json.dumps(reply, ensure_ascii=False), flush=True)


def load_tools(manifest: Path) -> Iterator[dict[str, Any]]:
    """The descriptions that a tool manifest pins. Raises `OSError`, `ValueError`, `KeyError`."""
    for server in json.loads(manifest.read_text(encoding="utf-8"))["servers"].values():
        for tool in server["tools"]:
            yield {name: tool[name] for name in _DESCRIBED if name in tool}


def answer(tool: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """What a tool answers to these arguments, always."""
    called = json.dumps([tool, arguments], sort_keys=True, ensure_ascii=False)
    return {"tool": tool, "record": hashlib.sha256(called.encode()).hexdigest()[:16]}


def _reply(method: str, params: Mapping[str, Any], tools: list[dict[str, Any]]) -> dict[str, Any]:
    if method == "initialize":
        about = {"name": "tau2-stand-in", "version": "1"}
        return {
            "result": {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": about,
            }
        }
    if method == "tools/list":
        return {"result": {"tools": tools}}
    if method == "tools/call":
        said = answer(params["name"], params.get("arguments") or {})
        content = [{"type": "text", "text": json.dumps(said)}]
        return {"result": {"content": content, "structuredContent": said, "isError": False}}
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": -32601, "message": "Method not found"}}


if __name__ == "__main__":
    main()
