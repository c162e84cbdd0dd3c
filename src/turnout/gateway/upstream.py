"""Requests to providers: one try at one route, with every way in which it can fail told as `RouteFailed`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from turnout.domain.errors import RouteFailed
from turnout.gateway.connection import Response
from turnout.gateway.http_client import HttpClient
from turnout.gateway.values import Route

LARGEST_ANSWER = 128 * 1024 * 1024  # bytes, of one that is read whole
LARGEST_ERROR = 256 * 1024
DRAIN_PATIENCE = 0.5  # seconds, for what follows the last event of a stream
LONGEST_PAUSE = 3_600.0  # seconds; a provider that asks for a longer one means this one
_TRY_ANOTHER = frozenset((401, 403, 408, 409, 425, 429))  # statuses that another route may not have


class Upstream:
    """The connections of one process to all providers."""

    def __init__(self) -> None:
        self._client = HttpClient()
        self._draining: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End what is still open."""
        await asyncio.gather(*self._draining)
        self._client.close()

    async def post(self, route: Route, path: str, body: bytes, headers: Mapping[bytes, bytes]) -> Response:
        """Send a call, and give the head of the answer; whoever gets it closes it, and sets it a limit of time.

        Raises `RouteFailed` where there is none, or one with which another route may help.
        """
        response = await self._client.post(route.url + path, headers, body, route.connect_timeout)
        try:
            _check_status(response)
        except RouteFailed:
            response.close()
            raise
        return response

    def let_go(self, response: Response, *, whole: bool) -> None:
        """Done with an answer. After a whole one the few bytes left are read, so that its connection is used again."""
        if not whole or response.at_end():
            response.close()
            return
        task = asyncio.ensure_future(_drain(response))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


async def read_whole(response: Response, largest: int = LARGEST_ANSWER) -> bytes:
    """The body of an answer. Raises `RouteFailed` for one that breaks off, or does not end."""
    parts: list[bytes] = []
    size = 0
    while part := await response.read():
        parts.append(part)
        size += len(part)
        if size > largest:
            raise RouteFailed(f"the answer is larger than {largest} bytes", answered=response.status, sent=True)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_part(response: Response, patience: float) -> bytes:
    """What came next of a stream; b"" at its end. Raises `RouteFailed` for silence, and where it breaks off."""
    try:
        async with asyncio.timeout(patience):
            return await response.read()
    except TimeoutError:
        message = f"silence for {patience:g} s in the middle of the answer"
        raise RouteFailed(message, answered=response.status, sent=True, timeout=True) from None


def parse_retry_after(response: Response, now: datetime | None = None) -> float | None:
    """Seconds to wait, of `retry-after-ms` or `Retry-After`, a number or a date; None where neither makes sense."""
    try:
        if milliseconds := response.header(b"retry-after-ms"):
            return _believable(float(milliseconds) / 1_000)
        text = response.header(b"retry-after").decode("latin-1")
        if text[:1].isdigit() or text[:1] in "+-.":
            return _believable(float(text))
        return _believable((parsedate_to_datetime(text) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


async def _drain(response: Response) -> None:
    try:
        async with asyncio.timeout(DRAIN_PATIENCE):
            await read_whole(response, LARGEST_ERROR)
    except (RouteFailed, TimeoutError):
        pass
    finally:
        response.close()


def _check_status(response: Response) -> None:
    status = response.status
    if status in (401, 403):
        # What the provider says of the key is not for the agent.
        raise RouteFailed(f"the provider refused the key of the route with status {status}", answered=status)
    if status == 429:
        pause = parse_retry_after(response)
        raise RouteFailed("the provider is asked too often", answered=status, retry_after=pause)
    if status >= 500 or status in _TRY_ANOTHER or status < 200 or 300 <= status < 400:
        raise RouteFailed(f"status {status} of the provider", answered=status, retry_after=parse_retry_after(response))


def _believable(seconds: float) -> float | None:
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), LONGEST_PAUSE)
