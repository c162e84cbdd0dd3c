"""The agent over HTTP: POST /invocations answers a question, GET /ping says that the agent is up.

Standard library only. SIGTERM ends it gracefully: no new connection is accepted, requests under way are answered, idle
connections are closed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assistant import Answer, Assistant, ToolNotPermitted, split_sentences
from model import ModelFailed

FOLDER = Path(__file__).parent
LARGEST_REQUEST = 1 << 20  # bytes
THREAD_STACK = 1 << 20  # bytes; the usual eight million a thread would fill the memory limit of the release


class BadRequest(Exception):
    """The request cannot be understood."""


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="The documentation assistant.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")), help="0 picks a free one")
    arguments = parser.parse_args()
    data = Path(os.environ.get("TURNOUT_DATA_DIR") or FOLDER / "index")
    try:
        assistant = Assistant(
            FOLDER, data / "docs.sqlite3", citations=os.environ.get("FEATURE_CITATIONS", "true").lower() == "true"
        )
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"the agent cannot start: {type(error).__name__}: {error}")
    threading.stack_size(THREAD_STACK)
    server = AgentServer(
        (arguments.host, arguments.port), assistant, threads=int(os.environ.get("DOCS_THREADS", "128"))
    )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    acceptor = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    acceptor.start()
    print(f"listening on {arguments.host}:{server.server_port}", flush=True)
    stopped.wait()
    server.finish()
    print("stopped", flush=True)


class AgentServer(ThreadingHTTPServer):
    """One thread a connection, up to a cap; further connections wait in the backlog."""

    daemon_threads = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], assistant: Assistant, *, threads: int) -> None:
        super().__init__(address, Handler)
        self.assistant = assistant
        self.release = {"digest": os.environ.get("TURNOUT_RELEASE"), "version": os.environ.get("TURNOUT_VERSION")}
        self.price = float(os.environ.get("DOCS_PRICE", "0"))  # of a character: what the proxy is told an answer cost
        self.stopping = False
        self._slots = threading.BoundedSemaphore(threads)
        self._lock = threading.Lock()
        self._idle: set[socket.socket] = set()

    def finish(self) -> None:
        """Stop accepting, wake idle connections so that they close, and wait until the busy ones have answered."""
        with self._lock:
            self.stopping = True
            for connection in self._idle:
                _stop_reading(connection)
        self.shutdown()
        self.server_close()

    def mark_idle(self, connection: socket.socket) -> None:
        """The connection waits for its next request."""
        with self._lock:
            self._idle.add(connection)
            if self.stopping:
                _stop_reading(connection)

    def mark_busy(self, connection: socket.socket) -> None:
        """The connection has a request under way, or is about to close."""
        with self._lock:
            self._idle.discard(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Wait for a free slot before the connection gets its thread; a stop ends the wait."""
        while not self._slots.acquire(timeout=0.1):
            if self.stopping:
                self.shutdown_request(request)
                return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection and give its slot back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection, one after the other."""

    server: AgentServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet

    def handle_one_request(self) -> None:
        """Wait for a request and answer it; meanwhile the server knows whether this connection is idle."""
        self.server.mark_idle(self.connection)
        try:
            super().handle_one_request()
        except ConnectionError:  # the caller went away
            self.close_connection = True
        finally:
            self.server.mark_busy(self.connection)

    def parse_request(self) -> bool:
        """The first line has arrived: from here on the request is under way."""
        self.server.mark_busy(self.connection)
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        """The caller sends its body when it reads this, so it must not stay in the buffer."""
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == "/ping":
            self._send_json(HTTPStatus.OK, {"status": "healthy"})
        else:
            self._send_problem(HTTPStatus.NOT_FOUND, f"there is nothing at {self.path}")

    def do_POST(self) -> None:
        try:
            body = self._read_body()
            if self.path.partition("?")[0] != "/invocations":
                self._send_problem(HTTPStatus.NOT_FOUND, f"there is nothing at {self.path}")
                return
            prompt, stream = _read_invocation(body)
            answer = self.server.assistant.answer(prompt, self.headers.get("x-turnout-task"))
        except BadRequest as error:
            self._send_problem(HTTPStatus.BAD_REQUEST, str(error))
        except ToolNotPermitted as error:
            self._send_problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except ModelFailed as error:
            self._send_problem(HTTPStatus.BAD_GATEWAY, f"the model gave no answer: {error}")
        else:
            price = self.server.price * len(answer.text)
            cost = {"x-turnout-outcome": f"cost={price:.6f}"} if price else {}  # else the gateway knows what it cost
            if stream:
                self._send_events(answer, cost)
            else:
                self._send_json(HTTPStatus.OK, self._answer_fields(answer), headers=cost)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The proxy keeps the access log."""

    def _read_body(self) -> bytes:
        """The body; a request whose body is not read would leave it in the way of the next."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_REQUEST:
            self.close_connection = True
            raise BadRequest(f"a body of at most {LARGEST_REQUEST} bytes with a Content-Length is needed")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionAbortedError("the caller left in the middle of its request")
        return body

    def _answer_fields(self, answer: Answer) -> dict[str, Any]:
        return {
            "answer": answer.text,
            "sources": answer.sources,
            "tool_calls": answer.tool_calls,
            "success": True,
            "release": self.server.release,
        }

    def _send_json(
        self,
        status: HTTPStatus,
        value: dict[str, Any],
        content_type: str = "application/json",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        body = json.dumps(value, ensure_ascii=False).encode()
        self._send_head(status, content_type, {"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def _send_problem(self, status: HTTPStatus, detail: str) -> None:
        problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        self._send_json(
            status, {**problem, "success": False, "release": self.server.release}, "application/problem+json"
        )

    def _send_events(self, answer: Answer, headers: Mapping[str, str]) -> None:
        """One event a sentence, and at the end an event `done` with the whole answer."""
        chunked = self.request_version != "HTTP/1.0"
        self.close_connection |= not chunked
        self._send_head(
            HTTPStatus.OK,
            "text/event-stream",
            {"Cache-Control": "no-store", **headers} | ({"Transfer-Encoding": "chunked"} if chunked else {}),
        )
        events = [_event({"text": sentence}) for sentence in split_sentences(answer.text)]
        for event in [*events, _event(self._answer_fields(answer), name="done")]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event) if chunked else event)
            self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, status: HTTPStatus, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.stopping or self.close_connection:
            self.send_header("Connection", "close")  # also makes this the connection's last request
        self.end_headers()


def _read_invocation(body: bytes) -> tuple[str, bool]:
    """The question, and whether to stream the answer."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from error
    prompt = request.get("prompt") if isinstance(request, dict) else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadRequest('the body needs a text under "prompt"')
    stream = request.get("stream", False)
    if not isinstance(stream, bool):
        raise BadRequest('"stream" is true or false')
    return prompt, stream


def _event(value: dict[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def _stop_reading(connection: socket.socket) -> None:
    """Let a waiting read return. A request that is already in the buffer is still read."""
    with contextlib.suppress(OSError):  # the caller was faster
        connection.shutdown(socket.SHUT_RD)


if __name__ == "__main__":
    main()
