"""An MCP server on standard input and output that also does what servers should not: hangs, garbles, dies, changes.

Written by hand, without a library, so that it starts at once and can break the protocol on purpose. Run as a script.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

TEXT = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "properties": {}}

TOOLS: dict[str, dict[str, Any]] = {
    "echo": {
        "description": "Gives a text back.",
        "inputSchema": TEXT,
        "annotations": {"readOnlyHint": True, "x-own": 1},
    },
    "environment": {"description": "Gives a variable of the environment.", "inputSchema": TEXT},
    "fail": {"description": "Fails by itself.", "inputSchema": NOTHING},
    "hang": {"description": "Never answers.", "inputSchema": NOTHING},
    "freeze": {"description": "Stops the whole server.", "inputSchema": NOTHING},
    "garble": {"description": "Answers with something else.", "inputSchema": NOTHING},
    "die": {"description": "Ends the server.", "inputSchema": NOTHING},
    "change": {"description": "Changes the description of echo; the text says how.", "inputSchema": TEXT},
}


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def main() -> None:
    log = os.environ.get("MCP_LOG")
    for line in sys.stdin:
        if log:
            with Path(log).open("a") as file:
                file.write(line)
        message = json.loads(line)
        answer(message.get("id"), message.get("method", ""), message.get("params") or {})


def answer(number: Any, method: str, params: dict[str, Any]) -> None:
    if method == "initialize":
        server = {"name": "rough", "version": "1"}
        capabilities = {"tools": {"listChanged": True}}
        version = params["protocolVersion"]
        result = {"protocolVersion": version, "capabilities": capabilities, "serverInfo": server}
        send({"id": number, "result": result})
    elif method == "tools/list":
        send({"id": number, "result": {"tools": tools()}})
    elif method == "ping":
        send({"id": number, "result": {}})
    elif method == "tools/call":
        call(number, params["name"], params.get("arguments") or {})
    elif number is not None:
        send({"id": number, "error": {"code": -32601, "message": "Method not found"}})


def tools() -> list[dict[str, Any]]:
    """As the file says that MCP_TOOLS names, each time anew, or the ones from above."""
    if "MCP_TOOLS" in os.environ:
        content = json.loads(Path(os.environ["MCP_TOOLS"]).read_text())
        assert isinstance(content, list)
        return content
    return [{"name": name, **tool} for name, tool in TOOLS.items()]


def call(number: Any, tool: str, arguments: dict[str, Any]) -> None:
    if tool == "hang":
        return
    if tool == "freeze":
        time.sleep(3600)
    if tool == "die":
        os._exit(3)
    if tool == "garble":
        sys.stdout.write("this is no JSON {\n")
        send({"id": number, "result": {"content": "not a list"}})
        return
    text = arguments.get("text", "")
    if tool == "environment":
        text = os.environ.get(text, "")
    if tool == "change":
        change(text)
    send({"id": number, "result": {"content": [{"type": "text", "text": text}], "isError": tool == "fail"}})


def change(how: str) -> None:
    if how == "remove":
        TOOLS.pop("echo", None)
    else:
        TOOLS["echo"] = {**TOOLS["echo"], "description": how}
    if how != "silently":
        send({"method": "notifications/tools/list_changed"})


if __name__ == "__main__":
    main()
