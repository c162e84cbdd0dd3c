"""The HTTP client of a registry: authenticated, bounded, patient with what may pass, clear about what will not."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote

import httpx

from turnout.artifacts.registry.answers import Answer, TryAgain, broken_connection, not_a_registry, refusal
from turnout.artifacts.registry.auth import SCOPES, Credentials, RegistryAuth
from turnout.artifacts.registry.location import RegistryLocation
from turnout.domain.addresses import is_loopback
from turnout.domain.errors import Retryable, SetupFailed, TurnoutError

TRIES = 6
FIRST_PAUSE = 0.2  # seconds; doubled with every try
LONGEST_PAUSE = 30.0  # a registry that asks for more is given up
_CONNECTIONS = 8
_TIMEOUT = httpx.Timeout(connect=5.0, read=300.0, write=60.0, pool=120.0)  # closing a large upload takes its time
_LONGEST_BODY = 8 << 20  # manifests and lists; blobs are streamed
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next\b')
OK = frozenset({200})
FOUND = frozenset({200, 404})


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `url`: a path below the registry, or the whole URL where the registry named it."""

    method: str
    url: str
    expected: frozenset[int] = OK
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | Iterable[bytes] | None = field(default=None, repr=False)
    writes: bool = False
    mount_from: str | None = None


class RegistryClient:
    """Talks to one repository of a registry. Safe to share between threads.

    `transport`, `sleep` and `monotonic` are given by tests.
    """

    def __init__(
        self,
        location: RegistryLocation,
        credentials: Credentials | None = None,
        ca_file: Path | None = None,
        *,
        connections: int = _CONNECTIONS,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.location = location
        self.connections = connections
        self._sleep = sleep
        self._auth = RegistryAuth(location, credentials, monotonic)
        self._client = httpx.Client(
            auth=self._auth,
            base_url=location.origin,
            headers={"User-Agent": "turnout", "Accept-Encoding": "identity"},
            verify=_tls(ca_file) if ca_file else _usual_tls(),  # also for http: tokens may come from elsewhere
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
            trust_env=not is_loopback(location.host),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def path(self, kind: str, reference: str) -> str:
        """The path of a blob, a manifest or a list of this repository."""
        return f"/v2/{self.location.repository}/{kind}/{quote(reference, safe=':/')}"

    def send(self, ask: Ask) -> Answer:
        """Send, again if need be; the status of the answer is one of the expected.

        Only for what may be sent twice. Raises `Retryable` when all tries failed; `Forbidden`, `NotFound`, `StorageFull`,
        `InvalidRequest`, `SetupFailed` for what the registry refuses.
        """
        failures = 0
        while True:
            try:
                return self.attempt(ask)
            except TryAgain as again:
                failures += 1
                self.wait(again, failures)

    def attempt(self, ask: Ask) -> Answer:
        """Send once. Raises `TryAgain` for what may pass."""
        with self.stream(ask) as response:
            return _read(response)

    @contextmanager
    def stream(self, ask: Ask) -> Iterator[httpx.Response]:
        """Send once and leave the body to be read in the block. Raises `TryAgain` for what may pass, also in the block."""
        host = self.location.host
        try:
            response = self._client.send(
                self._request(ask), stream=True, follow_redirects=ask.method in ("GET", "HEAD")
            )
            with closing(response):
                if response.status_code not in ask.expected:
                    raise self.refusal(_read(response))
                yield response
        except httpx.PoolTimeout:
            raise Retryable(
                f"all {self.connections} connections to the registry {host} are in use", hint="try again in a moment"
            ) from None
        except httpx.HTTPError as error:
            raise broken_connection(error, host) from None
        except httpx.InvalidURL as error:
            raise SetupFailed(f"the registry {host} names a place that is none: {error}") from None

    def pages(self, path: str) -> Iterator[Answer]:
        """The pages of a list, following `Link`; none when the registry answers 404."""
        following: str | None = self.location.origin + path
        seen = set()
        while following and following not in seen:
            seen.add(following)
            answer = self.send(Ask("GET", following, FOUND if len(seen) == 1 else OK))
            if answer.status == 404:
                return
            yield answer
            link = _NEXT.search(answer.headers.get("link", ""))
            following = self.resolve(answer, link[1]) if link else None

    def wait(self, again: TryAgain, failures: int) -> None:
        """Pause before the next try. Raises the error when enough was tried, or the registry wants too long a pause."""
        if failures >= TRIES or (again.pause or 0.0) > LONGEST_PAUSE:
            raise again.error from None
        self._sleep(FIRST_PAUSE * 2 ** (failures - 1) if again.pause is None else again.pause)

    def refusal(self, answer: Answer) -> TurnoutError | TryAgain:
        """What an answer that was not hoped for means."""
        return refusal(answer, self._auth.redact)

    def location_of(self, answer: Answer) -> str:
        """The URL that an answer names. Raises `SetupFailed` if it names none."""
        return self.resolve(answer, answer.headers.get("location", ""))

    def resolve(self, answer: Answer, reference: str) -> str:
        """A URL that an answer names. Behind a proxy a registry may not know that it is spoken to with TLS."""
        try:
            url = answer.url.join(reference)
        except httpx.InvalidURL:
            raise not_a_registry(answer) from None
        if not reference or url.scheme not in ("http", "https"):
            raise not_a_registry(answer)
        ours = httpx.URL(self.location.origin)
        if ours.scheme == "https" and url.scheme == "http" and url.host == ours.host:
            url = url.copy_with(scheme="https", port=ours.port)
        return str(url)

    def _request(self, ask: Ask) -> httpx.Request:
        actions = "pull,push" if ask.writes else "pull"
        scopes = [f"repository:{self.location.repository}:{actions}"]
        if ask.mount_from:
            scopes.append(f"repository:{ask.mount_from}:pull")
        request = self._client.build_request(ask.method, ask.url, headers=ask.headers, content=ask.content)
        request.extensions[SCOPES] = tuple(scopes)
        return request


def _read(response: httpx.Response) -> Answer:
    """Read what should be small. Raises `SetupFailed` for an endless answer."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _LONGEST_BODY:
            break
    answer = Answer(response.request.method, response.url, response.status_code, response.headers, bytes(body))
    if len(body) > _LONGEST_BODY:
        raise not_a_registry(answer)
    return answer


@cache
def _usual_tls() -> ssl.SSLContext:
    """The usual authorities. Reading them takes a while."""
    return httpx.create_ssl_context()


def _tls(ca_file: Path) -> ssl.SSLContext:
    """The usual authorities and the own one."""
    context = httpx.create_ssl_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise SetupFailed(
            f"the CA file {ca_file} cannot be used: {error.strerror or error}",
            hint="name a readable file of certificates in PEM form",
        ) from None
    return context
