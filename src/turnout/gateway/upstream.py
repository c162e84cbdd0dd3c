"""Requests to providers: one try at one route, with every way in which it can fail told as `RouteFailed`."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from turnout.domain.errors import RouteFailed
from turnout.gateway.values import Route

LARGEST_ANSWER = 128 * 1024 * 1024  # bytes, of one that is read whole
LARGEST_ERROR = 256 * 1024
DRAIN_PATIENCE = 0.5  # seconds, for what follows the last event of a stream
LONGEST_PAUSE = 3_600.0  # seconds; a provider that asks for a longer one means this one
_LARGE_BODY = 512 * 1024  # bytes, from which a body is sent in parts
_TRY_ANOTHER = frozenset((401, 403, 408, 409, 425, 429))  # statuses that another route may not have
# What may go wrong: first the special, then the general; and whether the provider may have worked on the call.
_FAULTS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str, bool], ...] = (
    (aiohttp.ConnectionTimeoutError, "no connection in time", False),
    (aiohttp.ClientConnectorError, "no connection", False),
    (aiohttp.ServerDisconnectedError, "the connection was closed without an answer", True),
    (aiohttp.ClientPayloadError, "the answer broke off", True),
    (aiohttp.ClientResponseError, "the answer is no proper HTTP", True),
    (aiohttp.InvalidURL, "the URL of the route is none", False),
)


class Upstream:
    """The connections of one process to all providers."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._draining: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End what is still open."""
        await asyncio.gather(*self._draining)
        if self._session is not None:
            await self._session.close()

    async def post(self, route: Route, path: str, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send a call, and give the head of the answer; whoever gets it closes it, and sets it a limit of time.

        Raises `RouteFailed` where there is none, or one with which another route may help.
        """
        response = await self._send(route, path, body, headers)
        try:
            _check_status(response)
        except RouteFailed:
            response.close()
            raise
        return response

    def let_go(self, response: aiohttp.ClientResponse, *, whole: bool) -> None:
        """Done with an answer. After a whole one the few bytes left are read, so that its connection is used again."""
        if not whole or response.content.at_eof():
            response.close()
            return
        task = asyncio.ensure_future(_drain(response))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _send(self, route: Route, path: str, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        try:
            try:
                return await self._request(route, path, body, headers)
            except aiohttp.ServerDisconnectedError:
                # Mostly a kept connection that the provider closed meanwhile; the key of the call makes it safe.
                return await self._request(route, path, body, headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _as_fault(error) from None

    async def _request(
        self, route: Route, path: str, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = _open_session()
        url = self._urls.get(route.url + path)
        if url is None:
            url = self._urls[route.url + path] = URL(route.url + path)
        timeout = self._timeouts.get(route.connect_timeout)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=route.connect_timeout)
            self._timeouts[route.connect_timeout] = timeout
        return await self._session.post(
            url,
            data=io.BytesIO(body) if len(body) > _LARGE_BODY else body,
            headers=headers,
            allow_redirects=False,
            timeout=timeout,
        )


async def read_whole(response: aiohttp.ClientResponse, largest: int = LARGEST_ANSWER) -> bytes:
    """The body of an answer. Raises `RouteFailed` for one that breaks off, or does not end."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > largest:
                raise RouteFailed(f"the answer is larger than {largest} bytes", answered=response.status, sent=True)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _as_fault(error, answered=response.status) from None
    return b"".join(parts)


async def read_part(response: aiohttp.ClientResponse, patience: float) -> bytes:
    """What came next of a stream; b"" at its end. Raises `RouteFailed` for silence, and where it breaks off."""
    try:
        async with asyncio.timeout(patience):
            return await response.content.readany()
    except TimeoutError:
        message = f"silence for {patience:g} s in the middle of the answer"
        raise RouteFailed(message, answered=response.status, sent=True, timeout=True) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _as_fault(error, answered=response.status) from None


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait, of `retry-after-ms` or `Retry-After`, a number or a date; None where neither makes sense."""
    try:
        if (text := headers.get("retry-after-ms")) is not None:
            return _believable(float(text) / 1_000)
        text = headers.get("retry-after", "")
        if text[:1].isdigit() or text[:1] in "+-.":
            return _believable(float(text))
        return _believable((parsedate_to_datetime(text) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


async def _drain(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(DRAIN_PATIENCE):
            await read_whole(response, LARGEST_ERROR)
    except (RouteFailed, TimeoutError):
        pass
    finally:
        response.close()


def _check_status(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status in (401, 403):
        # What the provider says of the key is not for the agent.
        raise RouteFailed(f"the provider refused the key of the route with status {status}", answered=status)
    if status == 429:
        pause = parse_retry_after(response.headers)
        raise RouteFailed("the provider is asked too often", answered=status, retry_after=pause)
    if status >= 500 or status in _TRY_ANOTHER or status < 200 or 300 <= status < 400:
        raise RouteFailed(
            f"status {status} of the provider", answered=status, retry_after=parse_retry_after(response.headers)
        )


def _believable(seconds: float) -> float | None:
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def _as_fault(error: BaseException, answered: int | None = None) -> RouteFailed:
    """The text of the error stays here: it may name addresses."""
    for kinds, message, sent in _FAULTS:
        if isinstance(error, kinds):
            return RouteFailed(message, answered=answered, sent=sent, timeout=isinstance(error, TimeoutError))
    return RouteFailed(f"the connection broke ({type(error).__name__})", answered=answered, sent=True)


def _open_session() -> aiohttp.ClientSession:
    """In the event loop that makes the calls."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )
