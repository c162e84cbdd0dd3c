"""One caller that asks again and again on a kept connection, and writes down when the answering release changes.

A process of its own, so that it does not share an interpreter with what runs the benchmark. Ends when its standard input
does. Standard output is JSON lines: `{"at", "release"}` for the first answer of each release, and at the end
`{"requests", "failed"}`. Times are seconds since the epoch, taken when the head of the answer has arrived.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time

HEADER = b"\r\nx-turnout-release: "
DIGEST_LENGTH = len("sha256:") + 64
LOOK_EVERY = 64  # requests between two looks at standard input


def main() -> None:
    """Poll until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--task", default="", help="id of the task that all requests belong to")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between an answer and the next request")
    arguments = parser.parse_args()
    task = f"x-turnout-task: {arguments.task}\r\n" if arguments.task else ""
    request = f"GET {arguments.path} HTTP/1.1\r\nHost: benchmark\r\n{task}\r\n".encode()
    requests = failed = 0
    release = b""
    connection = _connect(arguments.port)
    while requests % LOOK_EVERY or not select.select([sys.stdin], [], [], 0)[0]:
        requests += 1
        try:
            at, head = _ask(connection, request)
        except OSError:
            failed += 1
            connection = _connect(arguments.port)
            continue
        answered = _release_of(head)
        if not head.startswith(b"HTTP/1.1 200 ") or not answered:
            failed += 1
        elif answered != release:
            release = answered
            _tell({"at": at, "release": release.decode()})
        if arguments.pause:
            time.sleep(arguments.pause)
    _tell({"requests": requests, "failed": failed})


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _ask(connection: socket.socket, request: bytes) -> tuple[float, bytes]:
    """When the head of the answer arrived, and the head. The body is read to its end."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _receive(connection)
    at = time.time()
    head, _, body = answer.partition(b"\r\n\r\n")
    missing = _length_of(head) - len(body)
    while missing > 0:
        missing -= len(_receive(connection))
    return at, head


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(65_536)
    if not received:
        raise ConnectionError("the connection ended within an answer")
    return received


def _length_of(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length: ")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def _release_of(head: bytes) -> bytes:
    start = head.find(HEADER)
    return head[start + len(HEADER) :][:DIGEST_LENGTH] if start >= 0 else b""


def _tell(value: dict[str, object]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
