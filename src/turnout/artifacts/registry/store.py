"""The artifact store in an OCI registry, which several instances can share and other tools (skopeo, oras, crane) can read.

A release is an image manifest under the tag of its digest; its document and components are the manifest's blobs. A blob is
written to a file first: its digest says whether the registry has it, and a cut upload can begin anew.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from turnout.artifacts.digest import digest_from_hex, hex_digits
from turnout.artifacts.document import IMAGE_MANIFEST_TYPE, check_recordable, read_image
from turnout.artifacts.faults import disk_errors
from turnout.artifacts.registry.auth import Credentials
from turnout.artifacts.registry.client import RegistryClient
from turnout.artifacts.registry.downloads import not_stored, read_part, read_small, verified_chunks
from turnout.artifacts.registry.inspection import RepositoryInspection
from turnout.artifacts.registry.listing import list_releases
from turnout.artifacts.registry.location import RegistryLocation
from turnout.artifacts.registry.manifests import FoundManifest, find_manifest, get_manifest, manifest_size, put_manifest
from turnout.artifacts.registry.referrers import Referrers
from turnout.artifacts.registry.tags import encode_tags, manifest_tag, release_tag
from turnout.artifacts.registry.uploads import blob_size, mount_blob, push_blob
from turnout.domain.errors import DamagedContent, NotFound
from turnout.domain.models import Digest
from turnout.ports import Referrer

_LONGEST_MANIFEST = 8 << 20
_IN_MEMORY = 4 << 20  # a blob up to this many bytes needs no file on the way to the registry


class OciRegistryStore:
    """Implements `ArtifactStore` in one repository of a registry; see `RegistryLocation`. Safe to share between threads.

    `spool`: the folder for blobs on their way (the system's temporary folder if None). `mount_from`: other repositories of
    the same registry to take a missing blob from before it is pushed. `client` is given by tests.
    """

    def __init__(
        self,
        location: RegistryLocation,
        credentials: Credentials | None = None,
        ca_file: Path | None = None,
        *,
        spool: Path | None = None,
        mount_from: Iterable[str] = (),
        client: RegistryClient | None = None,
    ) -> None:
        self._client = client or RegistryClient(location, credentials, ca_file)
        self._referrers = Referrers(self._client)
        self._spool = spool or Path(tempfile.gettempdir())
        self._mount_from = tuple(mount_from)
        with disk_errors(self._spool):
            self._spool.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Close the connections to the registry."""
        self._client.close()

    def has(self, digest: Digest) -> bool:
        """See `ArtifactStore`. Manifests count as blobs, though a registry keeps them apart."""
        return self._find_size(digest) is not None

    def size(self, digest: Digest) -> int:
        """See `ArtifactStore`."""
        size = self._find_size(digest)
        if size is None:
            raise not_stored(digest)
        return size

    def write(self, chunks: Iterable[bytes], expected: Digest | None = None) -> Digest:
        """See `ArtifactStore`. What the registry has is not sent again; one that has damaged bytes keeps them."""
        if expected is not None:
            hex_digits(expected)
        with disk_errors(self._spool):
            file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._spool))  # noqa: SIM115  (closed below)
        with file:
            digest, size = self._take_in(file, chunks)
            if expected is not None and digest != expected:
                raise DamagedContent(f"the bytes for {expected} have the digest {digest}; nothing was stored")
            self._push(file, size, digest)
        return digest

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `ArtifactStore`."""
        self.size(digest)
        return verified_chunks(self._client, digest)

    def read_all(self, digest: Digest, limit: int = 16 << 20) -> bytes:
        """See `ArtifactStore`."""
        hex_digits(digest)
        return read_small(self._client, digest, limit)

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """See `ArtifactStore`."""
        hex_digits(digest)
        return read_part(self._client, digest, offset, length)

    def put_release(self, manifest: bytes, release: Digest, tags: Iterable[str] = ()) -> None:
        """See `ArtifactStore`. A tag that named another release moves to this one.

        The manifest is stored as a blob too: some registries give out a damaged manifest only so.
        """
        names = encode_tags(tags)
        check_recordable(_AskedOnce(self), manifest, release)
        digest = self.write([manifest])
        told = [manifest_tag(release, digest)] if read_image(manifest).bundles else []
        for name in (*told, release_tag(release), *names):
            if find_manifest(self._client, name) != digest:
                put_manifest(self._client, name, manifest, IMAGE_MANIFEST_TYPE)

    def releases(self) -> dict[Digest, tuple[str, ...]]:
        """See `ArtifactStore`. Raises `DamagedContent` when a tag names a manifest that is lost."""
        return {item.release: item.tags for item in list_releases(self._client)}

    def damages(self, release: Digest | None = None) -> Iterator[tuple[Digest, str]]:
        """See `ArtifactStore`. Reads what releases and their referrers name: a registry has no list of its blobs."""
        return RepositoryInspection(self._client, self._referrers, list_releases(self._client)).damages(release)

    def release_manifest(self, release: Digest) -> bytes:
        """See `ArtifactStore`."""
        found = get_manifest(self._client, release_tag(release)) or self._find_copied(release)
        if found is None:
            raise NotFound(f"the release {release} is not recorded in {self._client.location.name}")
        if read_image(found.content).release != release:
            raise DamagedContent(f"the manifest {found.digest} is not of release {release}, whose tag names it")
        return found.content

    def put_referrer(self, subject: Digest, manifest: bytes) -> Digest:
        """See `ArtifactStore`."""
        return self._referrers.put(subject, manifest)

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Referrer, ...]:
        """See `ArtifactStore`."""
        return self._referrers.find(subject, artifact_type)

    def _find_copied(self, release: Digest) -> FoundManifest | None:
        """Another tool that copied the release here has left it under a version tag alone."""
        for item in list_releases(self._client):
            if item.release == release and item.manifest:
                return FoundManifest(item.manifest, read_small(self._client, item.manifest, _LONGEST_MANIFEST))
        return None

    # --- blobs ----------------------------------------------------------------------------------------------------

    def _find_size(self, digest: Digest) -> int | None:
        hex_digits(digest)
        size = blob_size(self._client, digest)
        return size if size is not None else manifest_size(self._client, digest)

    def _take_in(self, file: IO[bytes], chunks: Iterable[bytes]) -> tuple[Digest, int]:
        """Only the writing is translated: an error of the source says itself what it is."""
        seen, size = hashlib.sha256(), 0
        for chunk in chunks:
            seen.update(chunk)
            size += len(chunk)
            with disk_errors(self._spool):
                file.write(chunk)
        return digest_from_hex(seen.hexdigest()), size

    def _push(self, file: IO[bytes], size: int, digest: Digest) -> None:
        if blob_size(self._client, digest) is not None:
            return
        if not any(mount_blob(self._client, digest, source) for source in self._mount_from):
            push_blob(self._client, file, size, digest)


class _AskedOnce(OciRegistryStore):
    """The same store, which asks the registry once for each blob: for a moment in which nothing is removed."""

    def __init__(self, store: OciRegistryStore) -> None:
        self._client = store._client
        self._sizes: dict[Digest, int | None] = {}

    def _find_size(self, digest: Digest) -> int | None:
        if digest not in self._sizes:
            self._sizes[digest] = super()._find_size(digest)
        return self._sizes[digest]
