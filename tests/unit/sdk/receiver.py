"""A server for reports that follows a script, and remembers what it got."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What a server answers: (status, headers) one after the other, then 200. `go`: it answers while this is set."""

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    batches: list[list[Any]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    go: threading.Event = field(default_factory=threading.Event)
    states: dict[str, str] = field(default_factory=dict)  # task → state of its report
    port: int = 0
    largest: int = 1 << 30  # bytes of a body; a larger one is refused
    unread: bool = False  # whether a body is refused before it is read, and the connection closed
    refused: int = 0
    sizes: list[int] = field(default_factory=list)  # bytes of the bodies that were read

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tasks(self) -> list[str]:
        """The tasks of all reports that came, in order."""
        return [report["task"] for batch in self.batches for report in batch]


@contextmanager
def receiving(*answers: tuple[int, dict[str, str]], port: int = 0) -> Iterator[Receiver]:
    """A receiver on a loopback port."""
    receiver = Receiver(list(answers))
    receiver.go.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            if size > receiver.largest:
                receiver.refused += 1
                if not receiver.unread:
                    self.rfile.read(size)
                self.send_error(413)
                return
            receiver.sizes.append(size)
            reports = json.loads(self.rfile.read(size))["outcomes"]
            receiver.go.wait(10)
            receiver.tokens.add(self.headers["Authorization"])
            receiver.paths.add(self.path)
            status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
            if status == 200:
                receiver.batches.append(reports)
            states = [{"state": receiver.states.get(report["task"], "counted")} for report in reports]
            body = json.dumps({"outcomes": states}).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        receiver.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.go.set()
            server.shutdown()
            thread.join()
