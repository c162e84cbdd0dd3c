"""The HTTP prober against agents that answer badly, slowly, or never."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from turnout.domain.errors import RuntimeUnavailable
from turnout.domain.models import HealthCheck, SmokeTask
from turnout.runtimes.probe import HttpProber

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def prober() -> Iterator[HttpProber]:
    prober = HttpProber()
    yield prober
    prober.close()


@contextmanager
def agent(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[tuple[str, list[bytes]]]:
    """An agent that reads the head of a request and then does what it likes; its address and the requests it got."""
    got: list[bytes] = []
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                if over.is_set():
                    return
                got.append(connection.recv(65536))
                answer(connection, over)

    thread = threading.Thread(target=serve)
    thread.start()
    host, port = listener.getsockname()
    try:
        yield f"{host}:{port}", got
    finally:
        over.set()
        with suppress(OSError):
            socket.create_connection((host, port)).close()
        thread.join()
        listener.close()


def drip(data: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Send something every 50 ms, without end."""

    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(OK)
        while not over.wait(0.05):
            connection.sendall(data)

    return answer


def say(data: bytes) -> Callable[[socket.socket, threading.Event], None]:
    return lambda connection, _: connection.sendall(data)


def test_an_address_where_nobody_listens_is_not_healthy(prober: HttpProber) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert prober.healthy(f"127.0.0.1:{port}", HealthCheck()) == "GET /ping: nothing listens there yet"


@pytest.mark.parametrize("answer", [drip(b"x-more: header\r\n"), lambda _, over: over.wait()], ids=["drips", "hangs"])
def test_the_deadline_is_for_the_whole_answer(
    prober: HttpProber, answer: Callable[[socket.socket, threading.Event], None]
) -> None:
    with agent(answer) as (address, _):
        begin = time.monotonic()
        assert prober.healthy(address, HealthCheck(timeout=0.3)) == "GET /ping was not answered within 0.3 s"
        result = prober.smoke(address, (SmokeTask("greet", "/ask", timeout=0.3),))
        assert result.message == "smoke task 'greet': POST /ask was not answered within 0.3 s"
        assert time.monotonic() - begin < 3.0


def test_an_answer_without_end_is_cut(prober: HttpProber) -> None:
    def flood(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(OK + b"\r\n")
        while not over.is_set():
            connection.sendall(b"x" * 65536)

    with agent(flood) as (address, _):
        result = prober.smoke(address, (SmokeTask("greet", "/", expect_text="hello"),))
    assert result.message == f"smoke task 'greet': POST / answered without 'hello': {'x' * 200}…"


def test_a_redirect_is_not_followed_and_not_healthy(prober: HttpProber) -> None:
    with agent(say(b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n")) as (address, got):
        assert prober.healthy(address, HealthCheck()) == "GET /ping answered 302"
    assert len(got) == 1


def test_an_answer_that_is_not_http_is_explained(prober: HttpProber) -> None:
    with agent(say(b"SSH-2.0-OpenSSH\r\n")) as (address, _):
        error = prober.healthy(address, HealthCheck())
        result = prober.smoke(address, (SmokeTask("greet", "/"),))
    assert error is not None
    assert error.startswith("GET /ping: ")
    assert result.message.startswith("smoke task 'greet': POST / failed: ")


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (SmokeTask("a", "/", body='{"a": 1}'), b"content-type: application/json"),
        (SmokeTask("a", "/", body="plain words"), b"content-type: text/plain; charset=utf-8"),
        (SmokeTask("a", "/", body="{}", headers={"Content-Type": "text/x"}), b"content-type: text/x"),
        (SmokeTask("a", "/", method="PUT", headers={"X-Key": "k"}), b"x-key: k"),
    ],
)
def test_a_smoke_task_is_sent_as_declared(prober: HttpProber, task: SmokeTask, expected: bytes) -> None:
    with agent(say(OK + b"content-length: 0\r\n\r\n")) as (address, got):
        assert prober.smoke(address, (task,)).passed
    (request,) = got
    assert request.startswith(task.method.encode() + b" / HTTP/1.1\r\n")
    assert expected in request.lower().replace(b"\r\n", b"\n").split(b"\n")
    assert b"connection: close" in request.lower()


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    prober = HttpProber()
    with agent(say(OK + b"content-length: 0\r\n\r\n")) as (address, _):
        assert prober.healthy(address, HealthCheck()) is None
    prober.close()


def test_closing_ends_what_is_under_way_and_a_closed_prober_says_so() -> None:
    prober, raised = HttpProber(), []

    def ask(address: str) -> None:
        try:
            prober.healthy(address, HealthCheck(timeout=60.0))
        except RuntimeUnavailable as error:
            raised.append(error)

    with agent(lambda _, over: over.wait()) as (address, got):  # type: ignore[arg-type]
        thread = threading.Thread(target=ask, args=(address,))
        thread.start()
        while not got:
            time.sleep(0.01)
        prober.close()
        prober.close()
        thread.join(5.0)
    assert len(raised) == 1
    with pytest.raises(RuntimeUnavailable):
        prober.healthy("127.0.0.1:1", HealthCheck())
