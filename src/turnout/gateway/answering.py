"""One try at one route: a whole answer that was checked, or a stream whose first event was."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from turnout.domain.errors import RouteFailed, SetupFailed
from turnout.gateway.asgi import RawHeaders
from turnout.gateway.connection import Response
from turnout.gateway.failover import Candidate, Journey
from turnout.gateway.protocols.answers import Said, read_answer
from turnout.gateway.protocols.streams import READERS, Kind, StreamReader
from turnout.gateway.requests import Asked, headers_for
from turnout.gateway.sse import Event, EventSplitter
from turnout.gateway.upstream import LARGEST_ERROR, Upstream, read_part, read_whole

Secrets = Callable[[str], str]

_log = logging.getLogger(__name__)

_DROPPED = frozenset(
    b"connection keep-alive proxy-authenticate te trailer transfer-encoding upgrade content-length content-encoding"
    b" set-cookie date server alt-svc strict-transport-security x-should-retry openai-organization openai-project"
    b" anthropic-organization-id".split()
)


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that was read to its end. `said` is None for a refusal of the provider, which is passed on."""

    candidate: Candidate
    status: int
    headers: RawHeaders
    body: bytes
    said: Said | None


@dataclass(slots=True)
class Stream:
    """An answer that goes on. `ready`: events that came and are not passed on yet."""

    candidate: Candidate
    response: Response
    headers: RawHeaders
    reader: StreamReader
    ready: list[tuple[Kind, Event]] = field(default_factory=list)
    ended: bool = False  # whether the answer did
    over: bool = False  # whether the connection did
    splitter: EventSplitter = field(default_factory=EventSplitter)

    async def read(self, patience: float) -> None:
        """Wait for what comes next. Raises `RouteFailed`."""
        part = await read_part(self.response, patience)
        self.over = not part
        try:
            events = self.splitter.feed(part) if part else self.splitter.close()
        except ValueError as error:
            raise RouteFailed(str(error), answered=200, sent=True) from None
        for event in events:
            kind = (
                Kind.SILENT if self.ended else self.reader.read(event)
            )  # what follows the end is no part of the answer
            self.ended = self.ended or kind is Kind.END
            self.ready.append((kind, event))


@dataclass(frozen=True, slots=True)
class Caller:
    """Makes the tries of one call. `head`: of the agent's request."""

    asked: Asked
    head: Mapping[bytes, bytes]
    idempotency_key: str
    limited: bool
    upstream: Upstream
    secrets: Secrets
    journey: Journey

    async def answer(self, candidate: Candidate) -> Whole | Stream:
        """Try one route. Raises `RouteFailed`."""
        patience = self.journey.patience(candidate, whole=not self.asked.stream)
        loop = asyncio.get_running_loop()
        until, response = loop.time() + patience, None
        try:
            async with asyncio.timeout_at(until):
                response = await self._post(candidate)
                if response.status >= 400:
                    return await self._pass_on(candidate, response)
                if not self.asked.stream:
                    return await self._read(candidate, response)
            return await self._open(candidate, response, until)
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, TimeoutError):
                raise _silence(response) from None
            raise

    async def _post(self, candidate: Candidate) -> Response:
        route = candidate.route
        try:
            key = self.secrets(route.key) if route.key is not None else None
        except SetupFailed as error:
            _tell_once(f"the key of the route {candidate.name} cannot be read: {error.message}")
            raise RouteFailed("the key of the route cannot be read; the log of the gateway says why") from None
        body = self.asked.body_for(candidate.model, route, limited=self.limited)
        headers = headers_for(self.head, route, key, self.idempotency_key)
        return await self.upstream.post(route, f"/{self.asked.endpoint}", body, headers)

    async def _read(self, candidate: Candidate, response: Response) -> Whole:
        _check_type(response, "application/json")
        body = await read_whole(response)
        said = read_answer(self.asked.endpoint, body)
        return Whole(candidate, response.status, passed_headers(response), body, said)

    async def _open(self, candidate: Candidate, response: Response, until: float) -> Stream:
        """Wait for the first event: until then another route can be tried, and the agent sees nothing of it."""
        _check_type(response, "text/event-stream")
        stream = Stream(
            candidate,
            response,
            passed_headers(response),
            READERS[self.asked.endpoint](strict=candidate.route.finish_reasons),
        )
        now = asyncio.get_running_loop().time
        while not stream.ready:
            if stream.over:
                raise RouteFailed("the stream ended before it began", answered=200, sent=True)
            await stream.read(max(until - now(), 0.0))
        return stream

    async def _pass_on(self, candidate: Candidate, response: Response) -> Whole:
        """A refusal of the provider that no other route would lift: a request that is wrong, a model that is unknown."""
        body = await read_whole(response, LARGEST_ERROR)
        if candidate.route.key is not None:
            body = body.replace(self.secrets(candidate.route.key).encode(), b"***")
        return Whole(candidate, response.status, passed_headers(response), body, None)


def passed_headers(response: Response) -> RawHeaders:
    """The headers of a provider that an agent gets."""
    return [header for header in response.headers if header[0] not in _DROPPED]


@lru_cache(maxsize=100)
def _tell_once(fault: str) -> None:
    """Where a secret is kept is for the log, and once."""
    _log.error("%s", fault)


def _silence(response: Response | None) -> RouteFailed:
    if response is None:
        return RouteFailed("silence before the answer", sent=True, timeout=True)
    return RouteFailed("the answer did not end in time", answered=response.status, sent=True, timeout=True)


def _check_type(response: Response, wanted: str) -> None:
    if response.kind != wanted:
        message = f"the answer is {response.kind[:60] or 'of no type'}, not {wanted}"
        raise RouteFailed(message, answered=response.status)
