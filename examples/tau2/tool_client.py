"""A small MCP client over streamable HTTP: calls tools, keeps one session, and uses connections again.

Standard library only.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PROTOCOL = "2025-06-18"
TIMEOUT = 60.0  # seconds for one call
IDLE = 2.0  # seconds after which a connection is not used again: the other side may be about to close it


class ToolsUnreachable(Exception):
    """The endpoint does not answer, or not with MCP."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool answered. `failed`: it, or the gateway before it, said that it did not work."""

    text: str
    failed: bool


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    session: str | None
    result: Mapping[str, Any]
    error: Mapping[str, Any] | None


class ToolClient:
    """Calls tools at one endpoint. Safe to use from many threads."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"expected an http URL, not {url!r}")
        self._host, self._port, self._path = parts.hostname, parts.port or 80, parts.path or "/"
        self._key = key
        self._ids = itertools.count(1)
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self._opened = False
        self._session: str | None = None

    def call(self, tool: str, arguments: Mapping[str, Any], task: str | None) -> Result:
        """Call a tool for a task; None: no task is named. Raises `ToolsUnreachable`. A call is made once at most."""
        self._open()
        reply = self._send("tools/call", {"name": tool, "arguments": dict(arguments)}, task)
        if reply.status == http.client.NOT_FOUND and self._session is not None:  # it forgot the session, not the tool
            self._opened = False
            self._open()
            reply = self._send("tools/call", {"name": tool, "arguments": dict(arguments)}, task)
        if reply.error is not None:
            return Result(str(reply.error.get("message", reply.error)), failed=True)
        texts = [part.get("text", "") for part in reply.result.get("content", []) if isinstance(part, dict)]
        return Result("\n".join(texts), bool(reply.result.get("isError")))

    def _open(self) -> None:
        """Begin the session, once."""
        with self._lock:
            if self._opened:
                return
            self._session = None
            about = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "tau2", "version": "1"}}
            reply = self._send("initialize", about, None)
            if reply.error is not None:
                raise ToolsUnreachable(f"no session: {reply.error.get('message', reply.error)}")
            self._session = reply.session
            self._send("notifications/initialized", None, None)
            self._opened = True

    def _send(self, method: str, params: Mapping[str, Any] | None, task: str | None) -> _Reply:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message |= {"id": next(self._ids), "params": params}
        connection = self._connection()
        try:
            connection.request("POST", self._path, json.dumps(message).encode(), self._headers(task))
            response = connection.getresponse()
            reply = _read(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise ToolsUnreachable(f"{self._host}:{self._port}: {type(error).__name__}: {error}") from error
        if response.will_close:
            connection.close()
        else:
            self._idle.append((time.monotonic(), connection))  # a list's append and pop are atomic
        return reply

    def _headers(self, task: str | None) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": PROTOCOL,
        }
        if self._session is not None:
            headers["Mcp-Session-Id"] = self._session
        if task:
            headers["x-turnout-task"] = task
        return headers

    def _connection(self) -> http.client.HTTPConnection:
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since < IDLE:
                return connection
            connection.close()
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)


def _read(response: http.client.HTTPResponse) -> _Reply:
    """Raises `ValueError` for what is no message of MCP."""
    body = response.read()
    session = response.getheader("Mcp-Session-Id")
    if not body:
        return _Reply(response.status, session, {}, None)
    if response.getheader("Content-Type", "").startswith("text/event-stream"):
        lines = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and b'"id"' in line]
        body = lines[-1] if lines else b""
    message = json.loads(body)
    if not isinstance(message, dict):
        raise ValueError("the answer is no message of JSON-RPC")
    return _Reply(response.status, session, message.get("result") or {}, message.get("error"))
