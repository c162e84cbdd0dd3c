"""Pushing a blob: chunk by chunk, going on after a cut where the registry says that it stopped.

A registry that forgot the upload, or does not take it up again (distribution does not after a chunk that was cut), gets all
of it once more; that is why the bytes must be in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import httpx

from turnout.artifacts.registry.answers import Answer, RegistryFault, TryAgain, content_length, error_codes
from turnout.artifacts.registry.client import FOUND, Ask, RegistryClient
from turnout.domain.errors import DamagedContent, Retryable, TurnoutError
from turnout.domain.models import Digest

CHUNK = 16 << 20  # a request; proxies in front of registries limit the size of one
_PIECE = 256 << 10  # what is in memory at once
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,15})")
_BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Session:
    """An upload as the registry knows it. `offset`: the bytes that it has; `chunk`: the bytes to send at once."""

    url: str
    offset: int
    chunk: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of a file as the body of a request, which can be sent more than once."""

    file: IO[bytes]
    offset: int
    length: int

    def headers(self) -> dict[str, str]:
        """What the registry is told of them; a blob that comes in one piece has no range."""
        headers = {"Content-Type": _BYTES, "Content-Length": str(self.length)}
        if self.offset and self.length:
            headers["Content-Range"] = f"{self.offset}-{self.offset + self.length - 1}"
        return headers

    def __iter__(self) -> Iterator[bytes]:
        self.file.seek(self.offset)
        left = self.length
        while left and (piece := self.file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece


def blob_size(client: RegistryClient, digest: Digest) -> int | None:
    """Bytes of a blob in the repository; None when it is not there."""
    answer = client.send(Ask("HEAD", client.path("blobs", digest), FOUND))
    return content_length(answer) if answer.status == 200 else None


def mount_blob(client: RegistryClient, digest: Digest, source: str) -> bool:
    """Let the repository have a blob of another one of the same registry. False when the registry does not do it."""
    path = client.path("blobs", "uploads/")
    ask = Ask(
        "POST",
        f"{path}?{httpx.QueryParams({'mount': digest, 'from': source})}",
        frozenset({201, 202}),
        writes=True,
        mount_from=source,
    )
    answer = client.send(ask)
    if answer.status == 201:
        return True
    _cancel(client, client.location_of(answer))
    return False


def push_blob(client: RegistryClient, file: IO[bytes], size: int, digest: Digest) -> None:
    """Upload a file of `size` bytes. Cut uploads go on; the tries are counted anew with every byte won.

    Raises `DamagedContent` when the registry got other bytes each time, and what `RegistryClient.send` raises.
    """
    session: Session | None = None
    failures = furthest = 0
    try:
        while True:
            try:
                session = session or _start(client)
                while size - session.offset > session.chunk:
                    session = _send_chunk(client, session, FilePart(file, session.offset, session.chunk))
                return _finish(client, session, FilePart(file, session.offset, size - session.offset), digest)
            except TryAgain as again:
                if session and session.offset > furthest:
                    failures, furthest = 0, session.offset
                failures += 1
                client.wait(again, failures)
                if blob_size(client, digest) is not None:  # it was finished, only the answer was lost
                    return None
                session = _resume(client, session, size) if session else None
    except TurnoutError:
        if session:
            _cancel(client, session.url)
        raise


def _start(client: RegistryClient) -> Session:
    answer = client.attempt(Ask("POST", client.path("blobs", "uploads/"), frozenset({202}), writes=True))
    least = answer.headers.get("oci-chunk-min-length", "")
    return Session(client.location_of(answer), 0, max(CHUNK, int(least) if least.isdecimal() else 0))


def _send_chunk(client: RegistryClient, session: Session, part: FilePart) -> Session:
    end = part.offset + part.length
    headers = part.headers() | {"Content-Range": f"{part.offset}-{end - 1}"}
    ask = Ask("PATCH", session.url, frozenset({202, 404, 416}), headers, part, writes=True)
    answer = client.attempt(ask)
    received = _received(answer) or end
    if answer.status != 202 or not session.offset < received <= end:
        raise TryAgain(Retryable(f"the registry {client.location.host} has lost an upload"), pause=0.0)
    return Session(client.location_of(answer), received, session.chunk)


def _finish(client: RegistryClient, session: Session, part: FilePart, digest: Digest) -> None:
    url = httpx.URL(session.url).copy_merge_params({"digest": digest})
    ask = Ask("PUT", str(url), frozenset({201, 204, 400, 404, 416}), part.headers(), part, writes=True)
    answer = client.attempt(ask)
    if answer.status in (201, 204):
        return
    if answer.status == 400 and "DIGEST_INVALID" not in error_codes(answer):
        raise client.refusal(answer)
    if answer.status == 400:
        text = f"the registry {client.location.host} got other bytes than those of {digest}"
        raise TryAgain(DamagedContent(text, hint="the network or its memory is faulty"), pause=0.0)
    raise TryAgain(Retryable(f"the registry {client.location.host} has lost an upload"), pause=0.0)


def _resume(client: RegistryClient, session: Session, size: int) -> Session | None:
    """Where the registry says that the upload stands; None when it has to be begun anew."""
    try:
        answer = client.send(Ask("GET", session.url, frozenset({200, 202, 204}), writes=True))
    except TurnoutError as error:
        if isinstance(error, Retryable) and not isinstance(error, RegistryFault):
            raise
        return None  # each registry has its own way to say that it does not know the upload any more
    offset = _received(answer)
    if not offset or offset > size:
        _cancel(client, session.url)
        return None
    url = client.location_of(answer) if "location" in answer.headers else session.url
    return Session(url, offset, session.chunk)


def _received(answer: Answer) -> int:
    """Bytes that the registry has. `0-0` may mean none or one: none, then, and the upload begins anew."""
    match = _RANGE.fullmatch(answer.headers.get("range", ""))
    last = int(match[1]) if match else 0
    return last + 1 if last else 0


def _cancel(client: RegistryClient, url: str) -> None:
    """Let the registry forget an upload. It would in time; nothing depends on it."""
    with suppress(TurnoutError, TryAgain):
        client.attempt(Ask("DELETE", url, frozenset({202, 204, 404}), writes=True))
