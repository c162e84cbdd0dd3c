"""Requests over connections that are kept, against servers that say exactly what a test tells them to."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import wraps
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.provider import deaf_port, refused_port
from turnout.domain.errors import RouteFailed
from turnout.gateway import connection, unpack
from turnout.gateway.connection import Connection, Response
from turnout.gateway.http_client import HttpClient, parse_target
from turnout.gateway.unpack import Unpacker

OK = b"HTTP/1.1 200 OK\r\n"
CODED = "the answer is coded in a way that nobody asked for"
HELLO = OK + b"content-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"


def pack(data: bytes) -> bytes:
    """The same whenever it is asked for."""
    return gzip.compress(data, mtime=0)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(**fixtures: object) -> None:
        asyncio.run(test(**fixtures))

    return run


@dataclass
class Server:
    """What a server of a test was sent, by connection."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/x"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The head and the body of one."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


@asynccontextmanager
async def server(*answers: Sequence[bytes], tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Gives each connection its answers in turn, the last connections those of the last; then it closes the connection.

    An answer of b"" closes it as well, and one that ends with "..." keeps it open and says no more.
    """
    running = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = running.connections
        running.connections += 1
        try:
            for answer in answers[min(number, len(answers) - 1)]:
                running.requests.append(await read_request(reader))
                writer.write(answer.removesuffix(b"..."))
                if answer.endswith(b"..."):
                    await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as listening:
        running.port = listening.sockets[0].getsockname()[1]
        yield running


@asynccontextmanager
async def client(kept: float = 30.0) -> AsyncIterator[HttpClient]:
    made = HttpClient(kept)
    try:
        yield made
    finally:
        made.close()


async def ask(http: HttpClient, url: str, body: bytes = b"{}", **headers: bytes) -> Response:
    return await http.post(url, {name.encode(): value for name, value in headers.items()}, body, 2.0)


async def read_all(response: Response) -> bytes:
    parts = []
    while part := await response.read():
        parts.append(part)
    return b"".join(parts)


async def whole(http: HttpClient, url: str, body: bytes = b"{}") -> bytes:
    return await read_all(await ask(http, url, body))


@in_loop
async def test_a_request_is_what_was_asked_for_and_a_connection_is_used_again() -> None:
    async with server([HELLO, HELLO, HELLO]) as there, client() as http:
        first = await ask(http, there.url, b'{"a":1}', accept=b"text/plain")
        assert (first.status, first.kind, await read_all(first), first.at_end()) == (200, "text/plain", b"hello", True)
        large = b"x" * 300_000
        assert [await whole(http, there.url, large), await whole(http, there.url)] == [b"hello", b"hello"]

        host = f"127.0.0.1:{there.port}".encode()
        head = b"POST /v1/x HTTP/1.1\r\nhost: " + host + b"\r\ncontent-length: 7\r\naccept: text/plain\r\n\r\n"
        assert there.requests[0] == head + b'{"a":1}'
        assert there.requests[1].endswith(b"\r\n\r\n" + large)
        assert there.connections == 1


@pytest.mark.parametrize(
    ("answer", "reused"),
    [
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + HELLO, True),
        (OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", False),
        (OK + b"\r\nhello", False),  # its end is that of the connection
        (OK + b"content-encoding: gzip\r\n\r\n" + pack(b"hello"), False),
        (OK + b"content-encoding: gzip\r\n\r\n" + pack(b"hel") + pack(b"lo"), False),
        (OK + b"content-encoding: deflate\r\n\r\n" + zlib.compress(b"hello"), False),
        (OK + b"content-encoding: deflate\r\n\r\n" + zlib.compress(b"hello")[2:-4], False),  # without its head
        (OK + b"content-encoding: utf-8\r\ncontent-length: 5\r\n\r\nhello", True),
        (OK + b"transfer-encoding: identity\r\n\r\nhello", False),
        (OK + b"transfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\nx: y\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", False),
        (HELLO + b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad", False),  # what nobody asked for is nobody's
    ],
)
@in_loop
async def test_a_body_ends_where_http_says_so(answer: bytes, reused: bool) -> None:
    first_answers = [answer, HELLO] if reused else [answer]
    async with server(first_answers, [HELLO]) as there, client() as http:
        first = await ask(http, there.url)
        assert await read_all(first) == b"hello"
        assert first.header(b"link") == b""
        assert await whole(http, there.url) == b"hello"
        assert there.connections == (1 if reused else 2)


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2), (1, 2, 3)])
@pytest.mark.parametrize("packed", [zlib.compress(b"hello"), zlib.compress(b"hello")[2:-4], pack(b"hello")])
def test_what_is_packed_may_come_in_any_parts(packed: bytes, cuts: tuple[int, ...]) -> None:
    unpacker = Unpacker()
    bounds = (0, *cuts, len(packed))
    assert b"".join(unpacker.feed(packed[start:end]) for start, end in pairwise(bounds)) == b"hello"
    assert unpacker.ended


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"content-length: 9\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n...",
        OK + b"content-encoding: gzip\r\n\r\n" + pack(b"hello") + pack(b"x")[:10],
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + b"a: b\r\n" * 200_000 + b"...",
    ],
)
@in_loop
async def test_what_came_of_an_answer_that_breaks_off_is_told_before_that_it_did(answer: bytes) -> None:
    async with server([answer]) as there, client() as http:
        response = await ask(http, there.url)
        assert await response.read() == b"hello"
        with pytest.raises(RouteFailed) as told:
            await response.read()
        assert (told.value.answered, told.value.sent) == (200, True)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH\r\n...", connection.NO_HTTP),
        (OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n...", connection.NO_HTTP),
        (OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi...", connection.NO_HTTP),
        (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n...", connection.NO_HTTP),
        (OK + b"a: b\r\n" * 20_000 + b"...", "the head of the answer is longer than 65536 bytes"),
        (OK + b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello", CODED),
        (OK + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n...", CODED),
        (b"HTTP/1.1 104 X\r\ncontent-length: 3\r\n\r\nbad" + HELLO + b"...", connection.NO_HTTP),
        (OK + b"content-le", connection.BROKE_OFF),
        (b"", "the connection was closed without an answer"),
    ],
)
@in_loop
async def test_what_is_no_answer_is_told_as_what_it_is(answer: bytes, message: str) -> None:
    async with server([answer]) as there, client() as http:
        with pytest.raises(RouteFailed) as told:
            await ask(http, there.url)
        assert (told.value.message, told.value.sent, told.value.answered) == (message, True, None)
        assert there.connections == 1


@in_loop
async def test_a_request_that_a_kept_connection_lost_is_sent_once_more() -> None:
    async with server([HELLO, b""], [HELLO]) as there, client() as http:
        assert await whole(http, there.url) == b"hello"
        assert await whole(http, there.url) == b"hello"
        assert (there.connections, len(there.requests)) == (2, 3)


@in_loop
async def test_a_connection_that_has_nothing_to_do_is_closed_in_time() -> None:
    async with server([HELLO, b"..."], [HELLO]) as there, client(kept=0.05) as http:
        assert await whole(http, there.url) == b"hello"
        [connection] = http._open
        connection.rested -= 1.0
        assert http._take(("127.0.0.1", there.port, False)) is None  # whether somebody has looked for old ones or not
        async with asyncio.timeout(5):
            while http._open:
                await asyncio.sleep(0.01)
        assert await whole(http, there.url) == b"hello"
        assert there.connections == 2


@in_loop
async def test_a_caller_that_gives_up_takes_its_connection_with_it() -> None:
    async with server([b"..."], [HELLO]) as there, client() as http:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await ask(http, there.url)
        assert await whole(http, there.url) == b"hello"
        assert there.connections == 2


@in_loop
async def test_no_more_is_taken_from_a_provider_than_somebody_reads() -> None:
    answer = OK + b"content-length: 50000000\r\n\r\n" + bytes(50_000_000)
    async with server([answer]) as there, client() as http:
        response = await ask(http, there.url)
        part = await response.read()
        await asyncio.sleep(0.2)  # nothing happens then, which no event tells
        waiting = response._size
        assert waiting < 2 * connection.ENOUGH
        assert len(part) + len(await read_all(response)) == 50_000_000


@in_loop
async def test_a_small_answer_is_not_unpacked_to_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "LARGEST_PART", 1_000)
    packed = pack(bytes(100_000))
    head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with server([head + packed], [head[:-4] + b"\r\n\r\n" + b"x" * len(packed)]) as there, client() as http:
        with pytest.raises(RouteFailed, match="too large when it is unpacked"):
            await whole(http, there.url)
        with pytest.raises(RouteFailed, match="cannot be unpacked"):
            await whole(http, there.url)


@in_loop
async def test_a_refusal_counts_even_where_its_text_cannot_be_read() -> None:
    head = b"HTTP/1.1 429 No\r\nretry-after: 7\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\nx"
    async with server([head]) as there, client() as http:
        response = await ask(http, there.url)
        assert (response.status, response.header(b"retry-after")) == (429, b"7")
        with pytest.raises(RouteFailed, match="packed in a way that nobody asked for"):
            await response.read()


@in_loop
async def test_all_who_ask_for_a_name_share_one_look_and_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, looks, slow = asyncio.get_running_loop(), 0, asyncio.Event()
    look = loop.getaddrinfo

    async def count(*arguments: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        await slow.wait()
        return await look(*arguments, **options)

    monkeypatch.setattr(loop, "getaddrinfo", count)
    async with server([HELLO]) as there, client() as http:
        with pytest.raises(RouteFailed, match="no connection in time"):
            await http.post(there.url, {}, b"", 0.05)
        asking = [asyncio.ensure_future(whole(http, there.url)) for _ in range(3)]
        await asyncio.sleep(0)
        slow.set()
        assert await asyncio.gather(*asking) == [b"hello"] * 3
        assert await whole(http, there.url) == b"hello"
        assert looks == 1
        with refused_port() as url, pytest.raises(RouteFailed):
            await http.post(url, {}, b"", 2.0)
        assert not [name for name in http._addresses._found if str(name[1]) in url]


@in_loop
async def test_a_header_that_would_be_two_is_not_sent_nor_told() -> None:
    async with server([HELLO]) as there, client() as http:
        with pytest.raises(RouteFailed) as told:
            await ask(http, there.url, authorization=b"Bearer secret\r\nx-evil: 1")
        assert "secret" not in told.value.message
        assert not there.requests


@in_loop
async def test_without_a_connection_nothing_was_sent() -> None:
    async with client() as http:
        with refused_port() as url, pytest.raises(RouteFailed) as refused:
            await http.post(url, {}, b"", 2.0)
        with deaf_port() as url, pytest.raises(RouteFailed) as deaf:
            await http.post(url, {}, b"", 0.1)
    assert (refused.value.message, refused.value.sent, refused.value.timeout) == ("no connection", False, False)
    assert (deaf.value.message, deaf.value.sent, deaf.value.timeout) == ("no connection in time", False, True)


@in_loop
async def test_tls_by_the_trust_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(make_certificate(tmp_path))
    async with server([HELLO], tls=tls) as there:
        url = there.url.replace("http:", "https:")
        async with client() as stranger:
            with pytest.raises(RouteFailed, match="the certificate of the provider is not trusted"):
                await ask(stranger, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))
        async with client() as friend:
            assert await whole(friend, url) == b"hello"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://api.openai.com/v1/x", ("api.openai.com", 443, True, b"api.openai.com", b"/v1/x")),
        ("http://[::1]:8080/v1/x", ("::1", 8080, False, b"[::1]:8080", b"/v1/x")),
        ("http://models", ("models", 80, False, b"models", b"/")),
    ],
)
def test_where_a_request_goes(url: str, target: tuple[object, ...]) -> None:
    assert parse_target(url) == target


class Wire:
    """A transport that only remembers."""

    def __init__(self) -> None:
        self.aborted = False

    def writelines(self, _request: list[bytes]) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0


@in_loop
async def test_whoever_gives_up_an_answer_that_is_whole_leaves_the_next_one_alone() -> None:
    wire, rested = Wire(), list[Connection]()
    made = Connection(rested.append, lambda _: None)
    made.connection_made(cast("Any", wire))
    first = asyncio.ensure_future(made.ask([b"1"]))
    await asyncio.sleep(0)
    made.data_received(HELLO)
    first.cancel()
    second = asyncio.ensure_future(made.ask([b"2"]))  # before the first knows
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (first.cancelled(), wire.aborted) == (True, False)
    made.data_received(HELLO)
    assert await read_all(await second) == b"hello"


@in_loop
async def test_a_connection_that_was_lost_is_no_end_of_a_body() -> None:
    made = Connection(lambda _: None, lambda _: None)
    made.connection_made(cast("Any", Wire()))
    asking = asyncio.ensure_future(made.ask([b"?"]))
    await asyncio.sleep(0)
    made.data_received(OK + b"\r\nhello")
    made.connection_lost(None)  # by TLS nobody said that this is the end
    response = await asking
    assert await response.read() == b"hello"
    with pytest.raises(RouteFailed, match=connection.BROKE_OFF):
        await response.read()


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(1, 400), max_size=30),
    st.booleans(),
)
def test_however_an_answer_is_cut_into_packets_it_is_the_same(
    parts: list[bytes], cuts: list[int], chunked: bool
) -> None:
    body = b"".join(parts)
    if chunked:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        answer = OK + b"transfer-encoding: chunked\r\nx: y\r\n\r\n" + chunks + b"0\r\n\r\n"
    else:
        answer = OK + b"content-length: %d\r\nx: y\r\n\r\n" % len(body) + body

    async def run() -> tuple[list[tuple[bytes, bytes]], bytes, list[Connection]]:
        rested: list[Connection] = []
        made = Connection(rested.append, lambda _: None)
        made.connection_made(cast("Any", Wire()))
        asking = asyncio.ensure_future(made.ask([b"?"]))
        await asyncio.sleep(0)
        at = 0
        for size in (*cuts, len(answer)):
            if at < len(answer):
                made.data_received(answer[at : at + size])
            at += size
        response = await asking
        return response.headers[1:], await read_all(response), rested

    headers, read, rested = asyncio.run(run())
    assert (headers, read, len(rested)) == ([(b"x", b"y")], body, 1)


def make_certificate(folder: Path) -> Path:
    """A key, and a certificate of its own making for 127.0.0.1, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / "both.pem"
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return path
