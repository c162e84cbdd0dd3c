"""Reading a blob: verified while it is given out, going on after a cut where it stopped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import httpx

from turnout.artifacts.digest import digest_from_hex
from turnout.artifacts.registry.answers import TryAgain
from turnout.artifacts.registry.client import Ask, RegistryClient
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest

CHUNK = 1 << 20
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "*/*",
    )
)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


def verified_chunks(client: RegistryClient, digest: Digest) -> Iterator[bytes]:
    """The bytes of a blob, or of a manifest. The last chunk is held back until all were verified.

    Raises `NotFound`, `DamagedContent`, and what `RegistryClient.send` raises.
    """
    kind, seen, held, offset, failures = "blobs", hashlib.sha256(), b"", 0, 0
    while True:
        try:
            for chunk in _chunks_from(client, kind, digest, offset):
                seen.update(chunk)
                offset += len(chunk)
                failures = 0
                if held:
                    yield held
                held = chunk
            break
        except NotFound:
            if offset or kind == "manifests":
                raise
            kind = "manifests"
        except TryAgain as again:
            failures += 1
            client.wait(again, failures)
    actual = digest_from_hex(seen.hexdigest())
    if actual != digest:
        raise DamagedContent(
            f"the blob {digest} is damaged: the registry {client.location.host} gives bytes with the digest {actual}",
            hint="a registry keeps the bytes that it has: restore this blob in its storage, or push to another repository",
        )
    if held:
        yield held


def read_small(client: RegistryClient, digest: Digest, limit: int) -> bytes:
    """A blob in memory, verified. Raises `InvalidRequest` when it has more than `limit` bytes, and as `verified_chunks`."""
    content = bytearray()
    for chunk in verified_chunks(client, digest):
        content += chunk
        if len(content) > limit:
            raise InvalidRequest(f"the blob {digest} is larger than {limit} bytes")
    return bytes(content)


def read_part(client: RegistryClient, digest: Digest, offset: int, length: int) -> bytes:
    """Some bytes of a blob, not verified. Raises `NotFound`; `DamagedContent` when the blob ends before."""
    content, failures = bytearray(), 0
    while len(content) < length:
        try:
            for chunk in _chunks_from(client, "blobs", digest, offset + len(content), offset + length - 1):
                content += chunk
                failures = 0
            break
        except TryAgain as again:
            failures += 1
            client.wait(again, failures)
    if len(content) < length:
        raise DamagedContent(f"the blob {digest} is damaged: it ends before byte {offset + length}")
    return bytes(content[:length])


def not_stored(digest: Digest) -> NotFound:
    """What to raise for a blob that is not there."""
    return NotFound(f"the blob {digest} is not stored")


def _chunks_from(
    client: RegistryClient, kind: str, digest: Digest, offset: int, last: int | None = None
) -> Iterator[bytes]:
    """The bytes from `offset` on, up to `last` (with it) if it is given, or more."""
    wanted = f"bytes={offset}-{'' if last is None else last}"
    headers = {"Accept": ACCEPT} | ({"Range": wanted} if offset or last is not None else {})
    with client.stream(Ask("GET", client.path(kind, digest), frozenset({200, 206, 404, 416}), headers)) as response:
        if response.status_code == 404:
            raise not_stored(digest)
        if response.status_code == 416:  # nothing comes after what was read
            return
        skip = offset - _first_byte(response)
        for chunk in response.iter_bytes(CHUNK):
            rest = chunk[max(skip, 0) :]
            skip -= len(chunk)
            if rest:
                yield rest


def _first_byte(response: httpx.Response) -> int:
    """A registry may give more than it was asked for, never less."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    return int(match[1]) if match and response.status_code == 206 else 0
