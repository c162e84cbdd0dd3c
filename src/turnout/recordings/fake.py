"""The store of recordings in memory, for tests."""

from __future__ import annotations

import hashlib

from turnout.domain.errors import DamagedContent, NotFound
from turnout.domain.models import Digest


class MemoryRecordings:
    """Implements `RecordingStore`. `contents` can be damaged by a test."""

    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}

    def put(self, content: bytes) -> Digest:
        """See `RecordingStore`."""
        digest = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
        self.contents[digest] = content
        return digest

    def read(self, digest: Digest) -> bytes:
        """See `RecordingStore`."""
        content = self.contents.get(digest)
        if content is None:
            raise NotFound(f"the recording {digest} is not there")
        if hashlib.sha256(content).hexdigest() != digest.removeprefix("sha256:"):
            raise DamagedContent(f"the recording {digest} is damaged")
        return content

    def delete(self, digest: Digest) -> None:
        """See `RecordingStore`."""
        self.contents.pop(digest, None)

    def digests(self) -> tuple[Digest, ...]:
        """See `RecordingStore`."""
        return tuple(sorted(self.contents))
