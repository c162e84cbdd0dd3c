"""How requests show who sends them: basic credentials, or a bearer token from where the registry says to get one.

A secret is sent to the registry's own origin and to the token endpoint that it names, never to where a redirect or an upload
location leads, and never unencrypted but to this machine.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

import httpx

from turnout.artifacts.registry.answers import REPEATABLE
from turnout.artifacts.registry.location import RegistryLocation
from turnout.domain.addresses import is_loopback
from turnout.domain.errors import Forbidden, InvalidRequest

SCOPES = "turnout.scopes"  # the extension of a request that names the scopes it needs
_DEFAULT_LIFE = 60.0  # seconds that a token lives when its endpoint does not say
_SLACK = 10.0  # a token is renewed this long before it ends, or at half its life
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_CHALLENGE = re.compile(r"(?:^|,)\s*(Basic|Bearer)\s+", re.IGNORECASE)
_HINT = "give credentials that may pull from and push to this repository"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of a registry. The password does not show in `repr`."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry asks for in `WWW-Authenticate`."""

    scheme: str
    realm: str = ""
    service: str = ""
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    until: float


class RegistryAuth(httpx.Auth):
    """Answers the challenges of one registry. Safe to share between threads."""

    def __init__(
        self, location: RegistryLocation, credentials: Credentials | None, monotonic: Callable[[], float]
    ) -> None:
        if credentials and ":" in credentials.username:
            raise InvalidRequest("the user name of a registry cannot hold a colon")
        if credentials and location.scheme != "https" and not is_loopback(location.host):
            raise InvalidRequest(
                f"the password for {location.host} would be sent unencrypted",
                hint="use https://, with a CA file if the certificate is your own",
            )
        self._origin = _origin(httpx.URL(location.origin))
        self._basic = _basic(credentials) if credentials else None
        self._secrets = (
            [credentials.password, self._basic.removeprefix("Basic ")] if credentials and self._basic else []
        )
        self._monotonic = monotonic
        self._uses_basic = False
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._lock = threading.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send with what is held; when the registry asks for more, get it and send once more. See `httpx.Auth`.

        Raises `Forbidden` when the token endpoint refuses.
        """
        if _origin(request.url) != self._origin:
            yield request
            return
        scopes = tuple(request.extensions.get(SCOPES, ()))
        sent = self._held(scopes)
        if sent:
            request.headers["Authorization"] = sent
        response = yield request
        if response.status_code != 401 or _origin(response.request.url) != self._origin:
            return
        challenge = find_challenge(response.headers.get_list("www-authenticate"))
        if challenge is None:
            return
        response.read()  # gives its connection back before this waits for another request
        if challenge.scheme == "basic":
            if self._basic and sent != self._basic:
                self._uses_basic = True
                request.headers["Authorization"] = self._basic
                yield request
            return
        with self._lock:
            held = self._held(scopes)
            if held is None or held == sent:
                answer = yield self._token_request(challenge, scopes, request)
                if answer.status_code in REPEATABLE:
                    return
                self._tokens[scopes] = self._read_token(answer)
                held = self._held(scopes)
        if held:
            request.headers["Authorization"] = held
            yield request

    def redact(self, text: str) -> str:
        """The text without the secrets that are held: a registry may repeat what it was sent."""
        for secret in (*self._secrets, *(token.value for token in tuple(self._tokens.values()))):
            if secret:
                text = text.replace(secret, "***")
        return text

    def _held(self, scopes: tuple[str, ...]) -> str | None:
        if self._uses_basic:
            return self._basic
        token = self._tokens.get(scopes)
        return f"Bearer {token.value}" if token and self._monotonic() < token.until else None

    def _token_request(self, challenge: Challenge, scopes: Iterable[str], request: httpx.Request) -> httpx.Request:
        try:
            realm = httpx.URL(challenge.realm)
        except httpx.InvalidURL:
            realm = httpx.URL("")
        if realm.scheme not in ("http", "https") or not realm.host:
            raise Forbidden(
                "the registry wants a token, but does not say from where", hint="check the registry's set-up"
            )
        if self._basic and realm.scheme != "https" and not is_loopback(realm.host):
            raise Forbidden(
                f"the registry wants the password to be sent unencrypted to {realm.host}",
                hint="let the registry name a token endpoint with https",
            )
        wanted = dict.fromkeys((*challenge.scopes, *scopes))
        query = [("service", challenge.service)] if challenge.service else []
        return httpx.Request(
            "GET",
            realm.copy_merge_params(httpx.QueryParams([*query, *(("scope", scope) for scope in wanted)])),
            headers={"Authorization": self._basic} if self._basic else {},
            extensions={"timeout": request.extensions.get("timeout", {})},
        )

    def _read_token(self, answer: httpx.Response) -> _Token:
        host = answer.url.host
        if answer.status_code != 200:
            raise Forbidden(f"the token endpoint {host} answers {answer.status_code}", hint=_HINT)
        answer.read()
        try:
            body = answer.json()
            value = body.get("token") or body["access_token"]
            life = float(body.get("expires_in") or _DEFAULT_LIFE)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Forbidden(f"the token endpoint {host} gives no token that can be understood", hint=_HINT) from None
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise Forbidden(f"the token endpoint {host} gives no token that can be understood", hint=_HINT)
        return _Token(value, self._monotonic() + max(life - _SLACK, life / 2))


def find_challenge(headers: Iterable[str]) -> Challenge | None:
    """The challenge to answer: bearer before basic. None when there is neither."""
    found = [challenge for header in headers for challenge in _challenges(header)]
    return min(found, key=lambda challenge: challenge.scheme != "bearer", default=None)


def _challenges(header: str) -> Iterable[Challenge]:
    """One header may hold several challenges; a quoted parameter may hold anything."""
    blank = re.sub(r'"(?:[^"\\]|\\.)*"', lambda quoted: "_" * len(quoted[0]), header)
    starts = list(_CHALLENGE.finditer(blank))
    ends = [start.start() for start in starts[1:]] + [len(header)]
    for start, end in zip(starts, ends, strict=False):
        text = header[start.end() : end]
        given = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(text)}
        scopes = tuple(given.get("scope", "").split())
        yield Challenge(start[1].lower(), given.get("realm", ""), given.get("service", ""), scopes)


def _basic(credentials: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
