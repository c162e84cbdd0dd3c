"""The artifact store in memory, for tests; it passes the same contract suite as the one on disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator

from turnout.artifacts.digest import digest_from_hex, hex_digits, sha256_digest
from turnout.artifacts.document import check_recordable
from turnout.artifacts.index import check_tags
from turnout.artifacts.inventory import Recorded, find_damages
from turnout.artifacts.links import describe_referrer, referrer_blobs
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest
from turnout.ports import Referrer

_CHUNK = 1 << 16


class MemoryArtifactStore:
    """Implements `ArtifactStore`. `blobs` can be changed by a test to play a damaged disk."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self._manifests: dict[Digest, Digest] = {}
        self._tags: dict[str, Digest] = {}
        self._referrers: dict[Digest, dict[Digest, Referrer]] = {}
        self._lock = threading.Lock()

    def has(self, digest: Digest) -> bool:
        """See `ArtifactStore`."""
        hex_digits(digest)
        return digest in self.blobs

    def size(self, digest: Digest) -> int:
        """See `ArtifactStore`."""
        return len(self._content(digest))

    def write(self, chunks: Iterable[bytes], expected: Digest | None = None) -> Digest:
        """See `ArtifactStore`."""
        if expected is not None:
            hex_digits(expected)
        content = b"".join(chunks)
        digest = digest_from_hex(hashlib.sha256(content).hexdigest())
        if expected is not None and digest != expected:
            raise DamagedContent(f"the bytes for {expected} have the digest {digest}; nothing was stored")
        self.blobs[digest] = content
        return digest

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `ArtifactStore`."""
        self._content(digest)
        return self._chunks(digest)

    def read_all(self, digest: Digest, limit: int = 16 << 20) -> bytes:
        """See `ArtifactStore`."""
        if self.size(digest) > limit:
            raise InvalidRequest(f"the blob {digest} is larger than {limit} bytes")
        return b"".join(self._chunks(digest))

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """See `ArtifactStore`."""
        content = self._content(digest)[offset : offset + length]
        if len(content) < length:
            raise DamagedContent(f"the blob {digest} is damaged: it ends before byte {offset + length}")
        return content

    def put_release(self, manifest: bytes, release: Digest, tags: Iterable[str] = ()) -> None:
        """See `ArtifactStore`."""
        tags = check_tags(tags)
        check_recordable(self, manifest, release)
        with self._lock:
            self._manifests[release] = self.write([manifest], sha256_digest(manifest))
            self._tags.update(dict.fromkeys(tags, release))

    def release_manifest(self, release: Digest) -> bytes:
        """See `ArtifactStore`."""
        if release not in self._manifests:
            raise NotFound(f"the release {release} is not recorded")
        return self.read_all(self._manifests[release])

    def releases(self) -> dict[Digest, tuple[str, ...]]:
        """See `ArtifactStore`."""
        return {recorded.release: recorded.tags for recorded in self.recorded()}

    def put_referrer(self, subject: Digest, manifest: bytes) -> Digest:
        """See `ArtifactStore`."""
        referrer = describe_referrer(manifest, subject)
        for blob in referrer_blobs(manifest):
            self.size(blob)
        self.write([manifest], referrer.digest)
        with self._lock:
            self._referrers.setdefault(subject, {})[referrer.digest] = referrer
        return referrer.digest

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Referrer, ...]:
        """See `ArtifactStore`."""
        found = [item for item in self.attached(subject) if artifact_type in (None, item.artifact_type)]
        return tuple(sorted(found, key=lambda referrer: referrer.digest))

    def damages(self, release: Digest | None = None) -> Iterator[tuple[Digest, str]]:
        """See `ArtifactStore`."""
        return find_damages(self, release)

    def recorded(self) -> tuple[Recorded, ...]:
        """All recorded releases."""
        with self._lock:
            return tuple(
                Recorded(release, manifest, tuple(sorted(tag for tag, named in self._tags.items() if named == release)))
                for release, manifest in sorted(self._manifests.items())
            )

    def stored(self) -> tuple[Digest, ...]:
        """The digests that blobs are stored under."""
        return tuple(self.blobs)

    def attached(self, manifest: Digest) -> tuple[Referrer, ...]:
        """What refers to a manifest."""
        return tuple(self._referrers.get(manifest, {}).values())

    def fault(self, digest: Digest) -> str | None:
        """Read a blob; None when it has its digest, else what is wrong with it."""
        try:
            for _ in self.read(digest):
                pass
        except (DamagedContent, NotFound) as error:
            return error.message
        return None

    def _content(self, digest: Digest) -> bytes:
        hex_digits(digest)
        try:
            return self.blobs[digest]
        except KeyError:
            raise NotFound(f"the blob {digest} is not stored") from None

    def _chunks(self, digest: Digest) -> Iterator[bytes]:
        content = self._content(digest)
        actual = sha256_digest(content)
        if actual != digest:
            raise DamagedContent(f"the blob {digest} is damaged: its bytes have the digest {actual}")
        for start in range(0, len(content), _CHUNK):
            yield content[start : start + _CHUNK]
