"""The recorded requests of a task, sent to a release in their order."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from turnout.domain.recordings import RecordedRequest, Recording

TASK_HEADER = "x-turnout-task"
LARGEST_ANSWER = 16 << 20  # bytes
_PART = 1 << 16


class Broken(Exception):
    """The release did not answer. The text says how, for people; `refused`: nothing listened."""

    def __init__(self, how: str, *, refused: bool = False) -> None:
        super().__init__(how)
        self.refused = refused


def ask_task(url: str, recording: Recording, timeout: float) -> Iterator[RecordedRequest]:
    """Each request with the answer that it got now. `timeout`: seconds for all of them. Raises `Broken`."""
    until = time.monotonic() + timeout
    for request in recording.requests:
        yield _ask(url, recording.task, request, until, timeout)


def _ask(url: str, task: str, request: RecordedRequest, until: float, timeout: float) -> RecordedRequest:
    at, began = time.time(), time.monotonic()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    headers = {TASK_HEADER: _as_header(task), "accept": "*/*", "connection": "close"}
    if request.content_type and request.body:
        headers["content-type"] = request.content_type
    try:
        connection.timeout = _left(until, timeout)
        connection.request(request.method, request.path, request.body or b"", headers)
        response = connection.getresponse()
        answer = b"".join(_parts(connection, response, until, timeout))
    except TimeoutError:
        raise Broken(f"{request.method} {request.path} got no answer within {timeout:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        how = f"{request.method} {request.path} got no answer: {error or type(error).__name__}"
        raise Broken(how, refused=isinstance(error, ConnectionRefusedError)) from None
    finally:
        connection.close()
    kept, whole = answer[:LARGEST_ANSWER], len(answer) <= LARGEST_ANSWER
    duration = time.monotonic() - began
    return replace(
        request, status=response.status, answer=kept, answer_whole=whole, at=at, duration=duration, redacted=False
    )


def _parts(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse, until: float, timeout: float
) -> Iterator[bytes]:
    """An answer that comes in drops ends with the time too."""
    size = 0
    while size <= LARGEST_ANSWER:
        if connection.sock is not None:
            connection.sock.settimeout(_left(until, timeout))
        part = response.read1(_PART)
        if not part:
            break
        _left(until, timeout)
        size += len(part)
        yield part


def _left(until: float, timeout: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"{timeout:g} s are over")
    return left


def _as_header(task: str) -> str:
    """The bytes of the proxy: UTF-8, which the HTTP client takes as Latin-1."""
    return task.encode(errors="replace").decode("latin-1")
