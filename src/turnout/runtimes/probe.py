"""Asks replicas over HTTP: whether they are well, and whether they answer the smoke tasks as declared.

Every question has a deadline for the whole of it, however slowly the answer drips. No connection is kept: an idle one would
block an agent that serves one connection at a time.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any

import httpx

from turnout.domain.errors import RuntimeUnavailable
from turnout.domain.models import HealthCheck, SmokeResult, SmokeTask

BODY_LIMIT = 1 << 20  # bytes of an answer that are looked at
QUOTE = 200  # characters of an answer that a message quotes
CONNECTIONS = 64


class HttpProber:
    """Implements `ports.Prober`. May be called by several threads; the requests run in one thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="turnout-prober", daemon=True)
        self._thread.start()
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 - `_fetch` has a deadline
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0),
            headers={"user-agent": "turnout-probe", "connection": "close"},
        )

    def healthy(self, address: str, check: HealthCheck) -> str | None:
        """See `ports.Prober`."""
        request = self._client.build_request("GET", f"http://{address}{check.path}")
        try:
            status, _ = self._wait(self._fetch(request, check.timeout, 0))
        except TimeoutError:
            return f"GET {check.path} was not answered within {check.timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"GET {check.path}: {_explain(error)}"
        return None if 200 <= status < 300 else f"GET {check.path} answered {status}"

    def smoke(self, address: str, tasks: tuple[SmokeTask, ...]) -> SmokeResult:
        """See `ports.Prober`. The message names the task, what was expected and what was found."""
        for task in tasks:
            fault = self._run_smoke(address, task)
            if fault is not None:
                return SmokeResult(False, f"smoke task {task.name!r}: {task.method} {task.path} {fault}")
        return SmokeResult(True)

    def close(self) -> None:
        """Drop the requests under way and end the thread."""
        if self._loop.is_closed():
            return
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run_smoke(self, address: str, task: SmokeTask) -> str | None:
        headers = {name.lower(): value for name, value in task.headers.items()}
        if task.body is not None:
            headers.setdefault("content-type", _content_type(task.body))
        content = None if task.body is None else task.body.encode()
        try:
            request = self._client.build_request(
                task.method, f"http://{address}{task.path}", headers=headers, content=content
            )
            status, body = self._wait(self._fetch(request, task.timeout, BODY_LIMIT))
        except TimeoutError:
            return f"was not answered within {task.timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"failed: {_explain(error)}"
        text = body.decode(errors="replace")
        if status != task.expect_status:
            return f"answered {status}, expected {task.expect_status}: {_cut(text)}"
        if task.expect_text is not None and task.expect_text not in text:
            return f"answered without {task.expect_text!r}: {_cut(text)}"
        return None

    def _wait(self, coroutine: Coroutine[Any, Any, tuple[int, bytes]]) -> tuple[int, bytes]:
        """Raises `RuntimeUnavailable` once the prober is closed."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except (CancelledError, RuntimeError) as error:
            coroutine.close()
            raise RuntimeUnavailable("the prober is closed") from error

    async def _fetch(self, request: httpx.Request, timeout: float, limit: int) -> tuple[int, bytes]:
        """The status and the first `limit` bytes of the answer; nothing after them is read. Raises `TimeoutError`."""
        body = b""
        async with asyncio.timeout(timeout):
            response = await self._client.send(request, stream=True)
            try:
                if limit:
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) >= limit:
                            break
            finally:
                await response.aclose()
        return response.status_code, body[:limit]

    async def _close(self) -> tuple[int, bytes]:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._client.aclose()
        return 0, b""


def _content_type(body: str) -> str:
    try:
        json.loads(body)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"


def _explain(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return "nothing listens there yet"
    return str(error) or type(error).__name__


def _cut(text: str) -> str:
    if not text:
        return "an empty answer"
    return text if len(text) <= QUOTE else f"{text[:QUOTE]}…"
