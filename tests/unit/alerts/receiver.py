"""A receiver of webhooks, as somebody would run it: verifies each signature and writes down what came, in order.

In this process for most tests; as a process of its own where it has to be down for a while.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from tests.live import free_port, wait_until

SECRET = "whsec_" + base64.b64encode(b"a secret of tests, 32 bytes long").decode()


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """What came, and how it is answered: `status` is asked with each request."""

    port: int
    got: list[Got] = field(default_factory=list)
    status: Callable[[Got], int] = lambda _: 204
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def receiving(port: int | None = None) -> Iterator[Receiver]:
    """A receiver in this process."""
    receiver = Receiver(port or free_port())
    server = HTTPServer(("127.0.0.1", receiver.port), _handler(receiver))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def receiver_process(port: int, written: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A receiver in a process of its own; it writes a line of JSON for every request to `written`."""
    process = subprocess.Popen([sys.executable, "-m", "tests.unit.alerts.receiver", str(port), str(written)])
    try:
        wait_until(written.exists, 20)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def is_signed(headers: dict[str, str], body: bytes, secret: str = SECRET) -> bool:
    """What a receiver checks, written from the specification of Standard Webhooks alone."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(wanted, given) for given in headers["webhook-signature"].split())


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            receiver.got.append(got)
            self.send_response(receiver.status(got))
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def main(port: int, path: Path) -> None:
    """Serve until it is ended."""
    receiver = Receiver(port)
    server = HTTPServer(("127.0.0.1", port), _handler(receiver))
    with path.open("w") as file:

        def note(got: Got) -> int:
            signed = is_signed(got.headers, got.body)
            event = got.event
            line = {"at": time.time(), "id": event["id"], "sequence": event.get("sequence"), "signed": signed}
            file.write(json.dumps(line) + "\n")
            file.flush()
            return 204 if signed else 401

        receiver.status = note
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
