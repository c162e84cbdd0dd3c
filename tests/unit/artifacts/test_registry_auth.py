"""Showing a registry who asks: tokens, passwords, and where they never appear."""

from __future__ import annotations

import base64
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest

from tests.unit.artifacts.registry_fake import Clock, FakeRegistry, open_client, refuse
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.registry import Credentials, OciRegistryStore
from turnout.artifacts.registry.auth import find_challenge
from turnout.artifacts.registry.client import TRIES, Ask, RegistryClient
from turnout.artifacts.registry.uploads import blob_size, mount_blob
from turnout.domain.errors import Forbidden, InvalidRequest, Retryable, TurnoutError

PASSWORD = "geheim-7d1f"
CREDENTIALS = Credentials("bob", PASSWORD)
BASIC = "Basic " + base64.b64encode(f"bob:{PASSWORD}".encode()).decode()
DIGEST = sha256_digest(b"x")
PULL, PUSH = "repository:team/releases:pull", "repository:team/releases:pull,push"


@dataclass
class TokenRegistry:
    """A registry that wants bearer tokens, and the endpoint that gives them."""

    registry: FakeRegistry = field(default_factory=FakeRegistry)
    life: int | None = 300
    given: list[httpx.Request] = field(default_factory=list)
    valid: dict[str, set[str]] = field(default_factory=dict)
    endpoint_status: int = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "tokens.example":
            return self._give(request)
        writes = request.method not in ("GET", "HEAD")
        needed = PUSH if writes else PULL
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not {needed, PUSH} & self.valid.get(token, set()):
            challenge = f'Bearer realm="https://tokens.example/token",service="registry.example",scope="{needed}"'
            return refuse(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})
        return self.registry(request)

    def _give(self, request: httpx.Request) -> httpx.Response:
        self.given.append(request)
        if self.endpoint_status != 200:
            return httpx.Response(self.endpoint_status)
        if request.headers.get("authorization") != BASIC:
            return httpx.Response(401)
        token = f"token-{len(self.given)}"
        self.valid[token] = set(request.url.params.get_list("scope"))
        return httpx.Response(200, json={"token": token} | ({"expires_in": self.life} if self.life else {}))


def test_a_token_is_got_for_the_scope_and_used_until_it_ends() -> None:
    registry, clock = TokenRegistry(), Clock()
    client = open_client(registry, clock, CREDENTIALS)
    assert blob_size(client, DIGEST) is None
    assert blob_size(client, DIGEST) is None
    (asked,) = registry.given
    assert asked.url.params.multi_items() == [("service", "registry.example"), ("scope", PULL)]
    clock.passed += 301
    assert blob_size(client, DIGEST) is None
    assert len(registry.given) == 2


def test_reading_and_writing_have_their_own_tokens() -> None:
    registry = TokenRegistry()
    client = open_client(registry, credentials=CREDENTIALS)
    store = OciRegistryStore(client.location, client=client)
    digest = store.write([b"content"])
    assert store.read_all(digest) == b"content"
    assert [request.url.params.get_list("scope") for request in registry.given] == [[PULL], [PUSH]]


def test_a_mount_asks_for_both_repositories() -> None:
    registry = TokenRegistry()
    client = open_client(registry, credentials=CREDENTIALS)
    assert mount_blob(client, DIGEST, "other/releases") is False
    assert registry.given[0].url.params.get_list("scope") == [PUSH, "repository:other/releases:pull"]
    assert registry.registry.uploads == {}, "the upload that was begun instead is cancelled"


def test_a_token_without_a_life_lives_a_minute() -> None:
    registry, clock = TokenRegistry(life=None), Clock()
    client = open_client(registry, clock, CREDENTIALS)
    blob_size(client, DIGEST)
    clock.passed += 45
    blob_size(client, DIGEST)
    assert len(registry.given) == 1
    clock.passed += 10
    blob_size(client, DIGEST)
    assert len(registry.given) == 2


def test_a_token_that_is_no_longer_taken_is_replaced() -> None:
    registry = TokenRegistry()
    client = open_client(registry, credentials=CREDENTIALS)
    blob_size(client, DIGEST)
    registry.valid.clear()
    assert blob_size(client, DIGEST) is None
    assert len(registry.given) == 2


def test_without_a_password_a_token_may_still_be_given() -> None:
    def registry(request: httpx.Request) -> httpx.Response:
        if request.url.host == "tokens.example":
            assert "authorization" not in request.headers
            return httpx.Response(200, json={"access_token": "public"})
        if request.headers.get("authorization") == "Bearer public":
            return httpx.Response(404)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="https://tokens.example/t"'})

    assert blob_size(open_client(registry), DIGEST) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_an_endpoint_that_refuses_is_forbidden_and_never_not_found(status: int) -> None:
    client = open_client(TokenRegistry(endpoint_status=status), credentials=CREDENTIALS)
    with pytest.raises(Forbidden, match=rf"tokens\.example answers {status}") as caught:
        blob_size(client, DIGEST)
    assert "credentials" in (caught.value.hint or "")


def test_an_endpoint_that_is_busy_is_asked_again() -> None:
    registry, clock = TokenRegistry(endpoint_status=503), Clock()
    with pytest.raises(Retryable, match="503"):
        blob_size(open_client(registry, clock, CREDENTIALS), DIGEST)
    assert len(clock.pauses) == TRIES - 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token": 3}', b'{"token": "a\\nb"}', b'{"token": ""}', b"{"])
def test_a_token_that_cannot_be_understood_is_refused(body: bytes) -> None:
    def registry(request: httpx.Request) -> httpx.Response:
        if request.url.host == "tokens.example":
            return httpx.Response(200, content=body)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="https://tokens.example/t"'})

    with pytest.raises(Forbidden, match="no token that can be understood"):
        blob_size(open_client(registry), DIGEST)


def basic_registry(request: httpx.Request) -> httpx.Response:
    if request.headers.get("authorization") == BASIC:
        return httpx.Response(404)
    return refuse(401, "UNAUTHORIZED", headers={"WWW-Authenticate": 'Basic realm="registry"'})


def test_a_password_is_sent_when_the_registry_asks_and_from_then_on() -> None:
    seen = []

    def registry(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return basic_registry(request)

    client = open_client(registry, credentials=CREDENTIALS)
    blob_size(client, DIGEST)
    blob_size(client, DIGEST)
    assert seen == [None, BASIC, BASIC]


@pytest.mark.parametrize("credentials", [None, Credentials("bob", "wrong")])
def test_a_wrong_or_missing_password_is_forbidden_at_once(credentials: Credentials | None) -> None:
    clock = Clock()
    with pytest.raises(Forbidden, match="401") as caught:
        blob_size(open_client(basic_registry, clock, credentials), DIGEST)
    assert "credentials" in (caught.value.hint or "")
    assert clock.pauses == []


def test_a_secret_never_goes_to_where_a_redirect_or_an_upload_leads() -> None:
    elsewhere = []

    def registry(request: httpx.Request) -> httpx.Response:
        if request.url.host == "storage.example":
            elsewhere.append(request)
            return httpx.Response(200 if request.method == "GET" else 201, content=b"x")
        if request.headers.get("authorization") != BASIC:
            return basic_registry(request)
        if request.method == "POST":
            return httpx.Response(202, headers={"Location": "https://storage.example/upload?signature=s"})
        if request.method == "GET":
            return httpx.Response(307, headers={"Location": "https://storage.example/blob?signature=s"})
        return httpx.Response(404)

    client = open_client(registry, credentials=CREDENTIALS)
    store = OciRegistryStore(client.location, client=client)
    store.write([b"x"])
    assert store.read_all(DIGEST) == b"x"
    assert [request.method for request in elsewhere] == ["PUT", "GET"]
    assert all("authorization" not in request.headers for request in elsewhere)


def test_a_challenge_from_where_a_redirect_leads_is_not_answered() -> None:
    def registry(request: httpx.Request) -> httpx.Response:
        assert request.url.host != "thief.example"
        if request.url.host == "storage.example":
            return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="https://thief.example/t"'})
        return httpx.Response(307, headers={"Location": "https://storage.example/blob"})

    with pytest.raises(Forbidden, match="401"):
        blob_size(open_client(registry, credentials=CREDENTIALS), DIGEST)


def test_a_password_is_never_sent_unencrypted_over_a_network() -> None:
    with pytest.raises(InvalidRequest, match="unencrypted"):
        open_client(basic_registry, credentials=CREDENTIALS, url="registry+http://registry.example")
    assert (
        blob_size(open_client(basic_registry, credentials=CREDENTIALS, url="registry+http://[::1]:5000"), DIGEST)
        is None
    )

    def registry(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "registry.example"
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="http://tokens.example/t"'})

    with pytest.raises(Forbidden, match="unencrypted"):
        blob_size(open_client(registry, credentials=CREDENTIALS), DIGEST)


@pytest.mark.parametrize("realm", ["", "nonsense", "file:///etc/passwd", "https://", "//x"])
def test_an_endpoint_that_is_no_place_is_refused(realm: str) -> None:
    def registry(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    with pytest.raises(Forbidden, match="does not say from where"):
        blob_size(open_client(registry, credentials=CREDENTIALS), DIGEST)


def test_challenges_are_told_apart() -> None:
    both = 'Basic realm="a, Bearer realm=b", Bearer realm="https://t/x",service="s",scope="repository:a:pull,push b"'
    found = find_challenge([both])
    assert found is not None
    assert (found.scheme, found.realm, found.service) == ("bearer", "https://t/x", "s")
    assert found.scopes == ("repository:a:pull,push", "b")
    basic = find_challenge(['Negotiate, Basic realm="x"'])
    assert basic is not None
    assert basic.scheme == "basic"
    assert find_challenge(["Negotiate", ""]) is None
    assert find_challenge([]) is None


def test_no_secret_shows_in_logs_errors_or_reprs(caplog: pytest.LogCaptureFixture) -> None:
    """The registry repeats everything that it is sent."""
    caplog.set_level(logging.DEBUG)
    registry = TokenRegistry()
    secrets = [PASSWORD, BASIC.removeprefix("Basic ")]

    def repeating(request: httpx.Request) -> httpx.Response:
        answer = registry(request)
        if answer.status_code == 401 or request.url.host == "tokens.example":
            return answer
        sent = request.headers["authorization"]
        secrets.append(sent.removeprefix("Bearer "))
        return refuse(403, "DENIED", f"you sent {sent} as bob:{PASSWORD}")

    client = open_client(repeating, credentials=CREDENTIALS)
    with pytest.raises(Forbidden) as caught:
        client.send(Ask("GET", "/v2/?_state=hidden"))
    shown = [caught.value.message, caught.value.hint, repr(caught.value), repr(caught.value.__cause__)]
    shown += [repr(CREDENTIALS), str(CREDENTIALS), repr(client.location), repr(client.__dict__), caplog.text]
    assert "you sent Bearer *** as bob:***" in caught.value.message
    assert "hidden" not in caught.value.message
    assert len(secrets) > 2
    assert not [text for text in shown for secret in secrets if secret in str(text)]


def test_a_user_name_with_a_colon_is_refused() -> None:
    with pytest.raises(TurnoutError, match="colon"):
        open_client(basic_registry, credentials=Credentials("a:b", "c"))


def test_many_threads_get_one_token() -> None:
    registry = TokenRegistry()
    client: RegistryClient = open_client(registry, credentials=CREDENTIALS)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: blob_size(client, DIGEST), range(40))) == [None] * 40
    assert len(registry.given) == 1
