"""The artifact store on disk: an OCI image layout that other tools (skopeo, oras, crane) can read.

A blob is written beside its place and renamed into it, so it is there as a whole or not at all, also after a power cut. The
index is replaced in the same way, under a lock, so several processes can share a layout.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from turnout.artifacts.digest import digest_from_hex, hex_digits, sha256_digest
from turnout.artifacts.document import check_recordable, is_release, read_image
from turnout.artifacts.faults import disk_error, disk_errors
from turnout.artifacts.index import LayoutIndex, check_tags, manifest_of, release_of, subject_of
from turnout.artifacts.inventory import Recorded, find_damages
from turnout.artifacts.links import describe_referrer, named_blobs, referrer_blobs
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest
from turnout.durable import replace_file, sync_folder
from turnout.ports import Referrer

CHUNK = 1 << 20
_LONGEST_MANIFEST = 8 << 20
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
FRESH = 24 * 3_600.0  # seconds in which a blob is not collected, because a push may be under way
_STALE_AFTER = 3_600.0  # seconds without a write until an unfinished blob counts as left behind


class Collected(NamedTuple):
    """What was removed, or would be: releases, and the number and bytes of blobs."""

    releases: tuple[Digest, ...]
    blobs: int
    size: int


class OciLayoutStore:
    """Implements `ArtifactStore` in a folder, which is created when it is not there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs" / "sha256"
        self._partial = root / "partial"
        self._index = LayoutIndex(root)
        with disk_errors(root):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._partial.mkdir(exist_ok=True)
            self._remove_stale()
            self._mark_layout()

    def has(self, digest: Digest) -> bool:
        """See `ArtifactStore`. What is asked for is not collected for a while: a push counts on it."""
        path = self._path(digest)
        try:
            if time.time() - path.stat().st_mtime > FRESH / 2:
                os.utime(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise disk_error(error, self._root) from error
        return path.is_file()

    def size(self, digest: Digest) -> int:
        """See `ArtifactStore`."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            raise _not_found(digest) from None
        except OSError as error:
            raise disk_error(error, self._root) from error

    def write(self, chunks: Iterable[bytes], expected: Digest | None = None) -> Digest:
        """See `ArtifactStore`. A stored blob that is intact stays as it is; a damaged one is replaced."""
        if expected is not None:
            hex_digits(expected)
        with disk_errors(self._root):
            descriptor, name = tempfile.mkstemp(dir=self._partial)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                digest = self._take_in(file.fileno(), chunks)
                if expected is not None and digest != expected:
                    raise DamagedContent(f"the bytes for {expected} have the digest {digest}; nothing was stored")
                if not self.has(digest) or self.fault(digest):
                    self._keep(file.fileno(), partial, digest)
            with disk_errors(self._root):
                sync_folder(self._blobs)  # of one that is there too: who wrote it may not have come to this yet
        finally:
            partial.unlink(missing_ok=True)
        return digest

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `ArtifactStore`."""
        self.size(digest)
        return self._verified_chunks(digest)

    def read_all(self, digest: Digest, limit: int = 16 << 20) -> bytes:
        """See `ArtifactStore`."""
        if self.size(digest) > limit:
            raise InvalidRequest(f"the blob {digest} is larger than {limit} bytes")
        return b"".join(self._verified_chunks(digest))

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """See `ArtifactStore`."""
        size = self.size(digest)
        with disk_errors(self._root), self._path(digest).open("rb", buffering=0) as file:
            content = os.pread(file.fileno(), length, offset)
        if len(content) < length:
            raise DamagedContent(f"the blob {digest} is damaged: it has {size} bytes, not {offset + length}")
        return content

    def put_release(self, manifest: bytes, release: Digest, tags: Iterable[str] = ()) -> None:
        """See `ArtifactStore`. A tag that named another release moves to this one."""
        tags = check_tags(tags)

        def check() -> None:
            check_recordable(self, manifest, release)
            self.write([manifest], sha256_digest(manifest))

        self._index.record(release, manifest, tags, check)

    def release_manifest(self, release: Digest) -> bytes:
        """See `ArtifactStore`."""
        recorded = next((item for item in self.recorded() if item.release == release), None)
        if recorded is None:
            raise NotFound(f"the release {release} is not recorded in {self._root}")
        return self.read_all(recorded.manifest)

    def releases(self) -> dict[Digest, tuple[str, ...]]:
        """See `ArtifactStore`. Raises `DamagedContent` when the index cannot be read."""
        return {recorded.release: recorded.tags for recorded in self.recorded()}

    def put_referrer(self, subject: Digest, manifest: bytes) -> Digest:
        """See `ArtifactStore`."""
        referrer = describe_referrer(manifest, subject)
        for blob in referrer_blobs(manifest):
            self.size(blob)
        self.write([manifest], referrer.digest)
        self._index.attach(subject, referrer)
        return referrer.digest

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Referrer, ...]:
        """See `ArtifactStore`."""
        found = [item for item in self.attached(subject) if artifact_type in (None, item.artifact_type)]
        return tuple(sorted(found, key=lambda referrer: referrer.digest))

    def damages(self, release: Digest | None = None) -> Iterator[tuple[Digest, str]]:
        """See `ArtifactStore`. Raises `DamagedContent` when the index cannot be read."""
        return find_damages(self, release)

    # --- what an inspection asks ----------------------------------------------------------------------------------

    def recorded(self) -> tuple[Recorded, ...]:
        """All recorded releases, those that another tool has copied here included."""
        ours = self._index.read()
        return ours + tuple(self._copied({item.release for item in ours}))

    def stored(self) -> Iterator[Digest]:
        """The digests that blobs are stored under."""
        with disk_errors(self._root):
            names = os.listdir(self._blobs)  # noqa: PTH208  # names only, many of them
        for name in names:
            with suppress(InvalidRequest):
                hex_digits(digest_from_hex(name))
                yield digest_from_hex(name)

    def attached(self, manifest: Digest) -> tuple[Referrer, ...]:
        """What refers to a manifest."""
        return self._index.attached(manifest)

    def fault(self, digest: Digest) -> str | None:
        """Read a blob; None when it has its digest, else what is wrong with it."""
        try:
            for _ in self.read(digest):
                pass
        except (DamagedContent, NotFound) as error:
            return error.message
        return None

    def _copied(self, known: set[Digest]) -> Iterator[Recorded]:
        found: dict[Digest, tuple[Digest, set[str]]] = {}
        for manifest, tag in self._index.others():
            with suppress(DamagedContent, InvalidRequest, NotFound):
                content = self.read_all(manifest, _LONGEST_MANIFEST)
                if is_release(content):
                    found.setdefault(read_image(content).release, (manifest, set()))[1].add(tag)
        for release in sorted(set(found) - known):
            manifest, tags = found[release]
            yield Recorded(release, manifest, tuple(sorted(tag for tag in tags if tag and tag != hex_digits(release))))

    def collect(self, keep: Container[Digest], *, fresh: float = FRESH, dry_run: bool = False) -> Collected:
        """Remove the releases that are not to be kept, and every blob that nothing needs, unless it is fresh (seconds).

        What other tools recorded here stays, with all that it names. Nothing can be recorded meanwhile.
        """
        oldest = time.time() - fresh
        removed: list[Digest] = []
        blobs: list[tuple[Digest, int]] = []

        def choose(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            kept = [entry for entry in entries if not self._can_go(entry, keep, oldest)]
            manifests = {manifest_of(entry) for entry in kept}
            kept = [entry for entry in kept if subject_of(entry) is None or subject_of(entry) in manifests]
            removed.extend(
                sorted({release for entry in entries if entry not in kept and (release := release_of(entry))})
            )
            needed = self._needed(kept)
            blobs.extend((blob, size) for blob, size in self._aged(oldest) if blob not in needed)
            return entries if dry_run else kept

        self._index.collect(choose)
        if not dry_run:
            self._remove_blobs([blob for blob, _ in blobs], oldest)
        return Collected(tuple(removed), len(blobs), sum(size for _, size in blobs))

    def _can_go(self, entry: dict[str, Any], keep: Container[Digest], oldest: float) -> bool:
        release = release_of(entry)
        if release is None or release in keep:
            return False
        try:
            return self._path(manifest_of(entry)).stat().st_mtime < oldest
        except FileNotFoundError:
            return True

    def _needed(self, entries: Iterable[dict[str, Any]]) -> set[Digest]:
        """Every blob that the manifests of these entries name. Raises `DamagedContent` for one that cannot be read."""
        needed: set[Digest] = set()
        manifests = [manifest_of(entry) for entry in entries]
        while manifests:
            manifest = manifests.pop()
            if manifest not in needed:
                needed.add(manifest)
                blobs, inner = named_blobs(self.read_all(manifest, _LONGEST_MANIFEST))
                needed.update(blobs)
                manifests.extend(inner)
        return needed

    def _aged(self, oldest: float) -> Iterator[tuple[Digest, int]]:
        for digest in self.stored():
            with suppress(FileNotFoundError):
                status = self._path(digest).stat()
                if status.st_mtime < oldest:
                    yield digest, status.st_size

    def _remove_blobs(self, blobs: Iterable[Digest], oldest: float) -> None:
        for digest in blobs:
            path = self._path(digest)
            with disk_errors(self._root), suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:  # nobody has asked for it since
                    path.unlink()
        with disk_errors(self._root):
            sync_folder(self._blobs)

    # --- files ----------------------------------------------------------------------------------------------------

    def _path(self, digest: Digest) -> Path:
        return self._blobs / hex_digits(digest)

    def _take_in(self, descriptor: int, chunks: Iterable[bytes]) -> Digest:
        """Only the writing is translated: an error of the source says itself what it is."""
        seen = hashlib.sha256()
        for chunk in chunks:
            seen.update(chunk)
            with disk_errors(self._root):
                _write_whole(descriptor, chunk)
        return digest_from_hex(seen.hexdigest())

    def _keep(self, descriptor: int, partial: Path, digest: Digest) -> None:
        """Flush what was written, and give it its name. Flushing may wait for what others write: it is done once a blob."""
        with disk_errors(self._root):
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
            partial.replace(self._path(digest))

    def _verified_chunks(self, digest: Digest) -> Iterator[bytes]:
        """Each chunk is held back until the next is there; the last is given out after the digest was checked."""
        seen, held = hashlib.sha256(), b""
        try:
            file = self._path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise _not_found(digest) from None
        except OSError as error:
            raise disk_error(error, self._root) from error
        with file:
            while True:
                with disk_errors(self._root):
                    chunk = file.read(CHUNK)
                if not chunk:
                    break
                seen.update(chunk)
                if held:
                    yield held
                held = chunk
        actual = digest_from_hex(seen.hexdigest())
        if actual != digest:
            raise DamagedContent(
                f"the blob {digest} is damaged: its bytes have the digest {actual}",
                hint="build or push the release again, which stores it anew",
            )
        if held:
            yield held

    def _mark_layout(self) -> None:
        """The marker comes last: a layout that has it and no index has lost its index."""
        marker = self._root / "oci-layout"
        if marker.exists():
            return
        self._index.create()
        replace_file(marker, LAYOUT)

    def _remove_stale(self) -> None:
        """What a killed writer left behind."""
        oldest = time.time() - _STALE_AFTER
        for path in self._partial.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _write_whole(descriptor: int, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(descriptor, left) :]


def _not_found(digest: Digest) -> NotFound:
    return NotFound(f"the blob {digest} is not stored")
