"""Pushing and pulling over a bad line and from bad registries: everything arrives whole, or a clear error is raised."""

from __future__ import annotations

import email.utils
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.unit.artifacts.registry_fake import Clock, FakeRegistry, open_client, open_store, refuse
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.registry import OciRegistryStore, parse_location, uploads
from turnout.artifacts.registry.client import TRIES, RegistryClient
from turnout.artifacts.registry.uploads import blob_size
from turnout.domain.errors import (
    DamagedContent,
    Forbidden,
    InvalidRequest,
    NotFound,
    Retryable,
    SetupFailed,
    StorageFull,
    TurnoutError,
)

CONTENT = bytes(range(100))
DIGEST = sha256_digest(CONTENT)


class Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx.ReadError("connection reset by peer")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 30)


def once(
    act: Callable[[httpx.Request], httpx.Response | None], method: str, number: int = 0
) -> Callable[[httpx.Request], httpx.Response | None]:
    """Intercept one request of a method, counted from 0."""
    seen = 0

    def intercept(request: httpx.Request) -> httpx.Response | None:
        nonlocal seen
        if request.method != method:
            return None
        seen += 1
        return act(request) if seen == number + 1 else None

    return intercept


# --- uploads ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
def test_a_blob_is_sent_in_chunks() -> None:
    registry = FakeRegistry()
    assert open_store(registry).write([CONTENT]) == DIGEST
    assert registry.blobs == {DIGEST: CONTENT}
    sent = [request for request in registry.requests if request.method in ("PATCH", "PUT")]
    assert [request.headers["content-range"] for request in sent] == ["0-29", "30-59", "60-89", "90-99"]
    assert [request.method for request in sent] == ["PATCH", "PATCH", "PATCH", "PUT"]


def test_what_the_registry_has_is_not_sent() -> None:
    registry = FakeRegistry(blobs={DIGEST: CONTENT})
    assert open_store(registry).write([CONTENT], DIGEST) == DIGEST
    assert {request.method for request in registry.requests} == {"HEAD"}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("arrived", [0, 1, 2, 15, 29, 30])
def test_a_cut_chunk_goes_on_where_the_registry_stopped(number: int, arrived: int) -> None:
    registry = FakeRegistry()

    def cut(request: httpx.Request) -> httpx.Response | None:
        registry.uploads[request.url.path.rpartition("/")[2]] += request.content[:arrived]
        raise httpx.WriteError("broken pipe")

    registry.intercept = once(cut, "PATCH", number)
    assert open_store(registry).write([CONTENT]) == DIGEST
    assert registry.blobs == {DIGEST: CONTENT}
    begun = registry.sent("POST")
    assert len(begun) == (2 if number == 0 and arrived < 2 else 1), "0-0 may mean no byte or one"


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("number", [0, 2])
def test_an_upload_that_the_registry_forgot_begins_anew(number: int) -> None:
    registry = FakeRegistry()

    def forget(request: httpx.Request) -> httpx.Response | None:
        registry.uploads.clear()
        return None

    registry.intercept = once(forget, "PATCH", number)
    assert open_store(registry).write([CONTENT]) == DIGEST
    assert registry.blobs == {DIGEST: CONTENT}
    assert len(registry.sent("POST")) == 2


def test_a_lost_answer_to_the_last_request_is_noticed() -> None:
    registry = FakeRegistry()

    def lose(request: httpx.Request) -> httpx.Response | None:
        registry.answer(request)
        raise httpx.ReadError("connection reset by peer")

    registry.intercept = once(lose, "PUT")
    assert open_store(registry).write([CONTENT]) == DIGEST
    assert len(registry.sent("POST")) == 1


def test_other_bytes_in_the_registry_are_sent_again_and_in_the_end_an_error() -> None:
    registry = FakeRegistry()
    registry.intercept = once(lambda _: refuse(400, "DIGEST_INVALID"), "PUT")
    assert open_store(registry).write([CONTENT]) == DIGEST

    broken = FakeRegistry(intercept=lambda request: refuse(400, "DIGEST_INVALID") if request.method == "PUT" else None)
    with pytest.raises(DamagedContent, match="other bytes"):
        open_store(broken).write([CONTENT])
    assert broken.blobs == {}


@pytest.mark.usefixtures("small_chunks")
def test_tries_are_counted_anew_with_every_byte_won() -> None:
    """Every second chunk breaks; more often in all than a request is tried."""
    registry, clock, seen = FakeRegistry(), Clock(), 0

    def flaky(request: httpx.Request) -> httpx.Response | None:
        nonlocal seen
        seen += request.method == "PATCH"
        if request.method == "PATCH" and seen % 2:
            raise httpx.WriteTimeout("too slow")
        return None

    registry.intercept = flaky
    content = bytes(30 * 20)
    assert open_store(registry, clock).write([content]) == sha256_digest(content)
    assert len(clock.pauses) > TRIES
    assert len(registry.sent("POST")) == 2, "nothing had arrived when the first chunk broke"


def test_an_upload_that_never_succeeds_ends_and_is_given_back() -> None:
    registry, clock = FakeRegistry(), Clock()
    registry.intercept = lambda request: httpx.Response(503) if request.method == "PUT" else None
    with pytest.raises(Retryable, match="503"):
        open_store(registry, clock).write([CONTENT])
    assert len(clock.pauses) == TRIES - 1
    assert (registry.blobs, registry.uploads) == ({}, {})


def test_a_refused_upload_is_cancelled() -> None:
    registry = FakeRegistry()
    registry.intercept = lambda request: refuse(403, "DENIED") if request.method == "PUT" else None
    with pytest.raises(Forbidden):
        open_store(registry).write([CONTENT])
    assert registry.uploads == {}


@pytest.mark.usefixtures("small_chunks")
def test_a_registry_can_want_larger_chunks() -> None:
    registry = FakeRegistry()

    def start(request: httpx.Request) -> httpx.Response:
        answer = registry.answer(request)
        answer.headers["OCI-Chunk-Min-Length"] = "64"
        return answer

    registry.intercept = lambda request: start(request) if request.method == "POST" else None
    open_store(registry).write([CONTENT])
    assert [len(request.content) for request in registry.requests if request.method in ("PATCH", "PUT")] == [64, 36]


def test_a_blob_is_mounted_from_another_repository_where_it_is() -> None:
    registry, mounted = FakeRegistry(), []

    def mount(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST" and request.url.params.get("from") == "old/releases":
            mounted.append(request.url.params["mount"])
            return httpx.Response(201)
        return None

    registry.intercept = mount
    client = open_client(registry)
    store = OciRegistryStore(client.location, client=client, mount_from=["foreign/x", "old/releases"])
    assert store.write([CONTENT]) == DIGEST
    assert mounted == [DIGEST]
    assert registry.sent("PUT") == []
    assert registry.uploads == {}


def test_an_upload_location_without_tls_is_spoken_to_with_tls() -> None:
    registry = FakeRegistry()

    def plain(request: httpx.Request) -> httpx.Response | None:
        assert request.url.scheme == "https"
        if request.method != "POST":
            return None
        answer = registry.answer(request)
        answer.headers["Location"] = "http://registry.example:80" + answer.headers["Location"]
        return answer

    registry.intercept = plain
    assert open_store(registry).write([CONTENT]) == DIGEST


def test_a_full_disk_on_the_way_to_the_registry_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = FakeRegistry()
    client = open_client(registry)
    store = OciRegistryStore(client.location, client=client, spool=tmp_path / "spool")
    monkeypatch.setattr("turnout.artifacts.registry.store._IN_MEMORY", 10)
    full = Path("/dev/full")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *_, **__: full.open("wb", buffering=0))
    with pytest.raises(StorageFull, match="spool"):
        store.write([CONTENT])
    assert registry.requests == []


# --- downloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 50, 99, 100])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_goes_on_where_it_stopped(position: int, ranges: bool) -> None:
    registry = FakeRegistry(blobs={DIGEST: CONTENT})
    cut = once(lambda _: httpx.Response(200, stream=Cut(CONTENT[:position])), "GET")

    def intercept(request: httpx.Request) -> httpx.Response | None:
        if not ranges:
            request.headers.pop("range", None)
        return cut(request)

    registry.intercept = intercept
    assert b"".join(open_store(registry).read(DIGEST)) == CONTENT


def test_a_download_that_wins_nothing_ends() -> None:
    registry, clock = FakeRegistry(blobs={DIGEST: CONTENT}), Clock()
    registry.intercept = lambda request: (
        httpx.Response(200, stream=Cut(CONTENT[:40])) if request.method == "GET" else None
    )
    with pytest.raises(Retryable, match="connection reset"):
        list(open_store(registry, clock).read(DIGEST))
    assert len(clock.pauses) == TRIES - 1


@pytest.mark.parametrize("served", [b"", CONTENT[:-1], CONTENT + b"x", bytes(100)])
def test_other_bytes_than_asked_for_are_damage(served: bytes) -> None:
    registry = FakeRegistry(blobs={DIGEST: CONTENT})
    registry.intercept = lambda request: httpx.Response(200, content=served) if request.method == "GET" else None
    store = open_store(registry)
    with pytest.raises(DamagedContent, match=DIGEST) as caught:
        list(store.read(DIGEST))
    assert "restore this blob" in (caught.value.hint or "")
    with pytest.raises(DamagedContent):
        store.read_all(DIGEST)


def test_an_endless_answer_is_not_read_into_memory() -> None:
    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield bytes(1 << 20)

    store = open_store(lambda request: httpx.Response(200, stream=Endless()))
    with pytest.raises(InvalidRequest, match="larger than 5 bytes"):
        store.read_all(DIGEST, limit=5)
    with pytest.raises(SetupFailed, match="not as an OCI registry"):
        store.releases()


def test_a_reader_that_stops_early_gives_its_connection_back() -> None:
    closed = threading.Event()

    class Body(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from [bytes(2 << 20)] * 4

        def close(self) -> None:
            closed.set()

    store = open_store(
        lambda request: (
            httpx.Response(200, headers={"Content-Length": "1"})
            if request.method == "HEAD"
            else httpx.Response(200, stream=Body())
        )
    )
    chunks = store.read(DIGEST)
    next(chunks)
    assert not closed.is_set()
    del chunks
    assert closed.is_set()


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_tried_again_with_growing_pauses(status: int) -> None:
    clock, answers = Clock(), iter([httpx.Response(status)] * 3 + [httpx.Response(404)] * 2)
    assert open_store(lambda _: next(answers), clock).has(DIGEST) is False
    assert clock.pauses == [0.2, 0.4, 0.8]


def test_a_registry_that_is_down_is_given_up() -> None:
    clock = Clock()

    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused")

    with pytest.raises(Retryable, match=r"registry\.example cannot be reached: .*refused") as caught:
        open_store(down, clock).has(DIGEST)
    assert caught.value.hint
    assert len(clock.pauses) == TRIES - 1


def test_the_pause_that_the_registry_wants_is_kept() -> None:
    clock, date = Clock(), email.utils.formatdate(time.time() + 20, usegmt=True)
    wanted = iter(["7", date, "soon", None])

    def registry(request: httpx.Request) -> httpx.Response:
        text = next(wanted, None)
        return httpx.Response(429, headers={"Retry-After": text}) if text else httpx.Response(404)

    assert open_store(registry, clock).has(DIGEST) is False
    assert clock.pauses[0] == 7
    assert clock.pauses[1] == pytest.approx(20, abs=3)
    assert clock.pauses[2] == 0.8, "a pause that cannot be read is the usual one"


def test_a_registry_that_wants_an_hour_is_given_up_at_once() -> None:
    clock = Clock()
    with pytest.raises(Retryable, match="429"):
        open_store(lambda _: httpx.Response(429, headers={"Retry-After": "3600"}), clock).has(DIGEST)
    assert clock.pauses == []


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (refuse(401, "UNAUTHORIZED"), Forbidden, "401"),
        (refuse(403, "DENIED", "no push for you"), Forbidden, "DENIED no push for you"),
        (refuse(404, "NAME_UNKNOWN"), NotFound, "NAME_UNKNOWN"),
        (httpx.Response(413, text="<html>"), InvalidRequest, "413"),
        (refuse(400, "NAME_INVALID"), InvalidRequest, "NAME_INVALID"),
        (httpx.Response(507), StorageFull, "is full"),
        (httpx.Response(500, json={"errors": [{"code": "UNKNOWN", "detail": {"Err": 28}}]}), StorageFull, "is full"),
        (httpx.Response(500, text="write: no space left on device"), StorageFull, "is full"),
        (httpx.Response(500, text="oh"), Retryable, "500"),
        (httpx.Response(200, text="<html>welcome</html>"), SetupFailed, "not as an OCI registry"),
        (httpx.Response(202), SetupFailed, "not as an OCI registry"),
        (httpx.Response(202, headers={"Location": "mailto:x"}), SetupFailed, "not as an OCI registry"),
        (httpx.Response(302, headers={"Location": "/login"}), SetupFailed, "not as an OCI registry"),
        (httpx.Response(403, content=b"[" * 100_000), Forbidden, "403"),
    ],
)
def test_each_refusal_has_its_error(answer: httpx.Response, error: type[TurnoutError], text: str) -> None:
    registry, clock = FakeRegistry(), Clock()
    registry.intercept = lambda request: answer if request.method == "POST" else None
    with pytest.raises(error, match=text) as caught:
        open_store(registry, clock).write([CONTENT])
    assert caught.value.hint or error is InvalidRequest
    assert clock.pauses == []
    assert registry.blobs == {}


def test_a_redirect_without_end_is_an_error() -> None:
    with pytest.raises(SetupFailed, match="does not answer as an OCI registry"):
        open_store(lambda request: httpx.Response(307, headers={"Location": str(request.url)})).has(DIGEST)


@pytest.mark.parametrize("body", [b"", b"{", b"3", b'{"tags": 3}', b'{"tags": [3]}', b"[" * 100_000, b"\xff"])
def test_a_list_that_cannot_be_read_is_an_error_and_never_empty(body: bytes) -> None:
    with pytest.raises(SetupFailed, match="not as an OCI registry"):
        open_store(lambda request: httpx.Response(200, content=body)).releases()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_cannot_be_used_is_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupFailed, match=r"ca\.pem cannot be used"):
        OciRegistryStore(parse_location("https://registry.example"), ca_file=path)


def test_connections_are_bounded() -> None:
    """More threads than connections: a real server counts those that it answers at once."""
    running = most = 0
    lock, all_in = threading.Lock(), threading.Event()

    class Counting(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                if running == 3:
                    all_in.set()
            all_in.wait(10)
            with lock:
                running -= 1
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        client = RegistryClient(parse_location(f"registry+http://127.0.0.1:{server.server_port}"), connections=3)
        try:
            with ThreadPoolExecutor(12) as pool:
                assert list(pool.map(lambda _: blob_size(client, DIGEST), range(24))) == [None] * 24
        finally:
            client.close()
            server.shutdown()
            thread.join()
    assert most == 3
