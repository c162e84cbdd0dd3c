"""Taking a release in: which chunks of its data are stored already, and which bundles its manifest has to name."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from turnout.artifacts.chunks.bundle import BUNDLE_TYPE
from turnout.artifacts.chunks.catalog import Footers, choose_bundles, runs
from turnout.artifacts.chunks.index import read_index
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.document import Image, build_image_manifest, check_release_document, read_image
from turnout.artifacts.handover import hand_over
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.wheels import attach_wheels
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import ComponentRef, Digest
from turnout.ports import ArtifactStore

_LOOKED_AT = 20  # releases whose bundles are searched for chunks


class Intake:
    """The door of one artifact store for releases. `known`: releases in it, of the same agent, the likeliest first."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._footers = Footers(store)

    def missing_chunks(self, index: Digest, known: Iterable[Digest], *, verify: bool = False) -> list[tuple[int, int]]:
        """The chunks that have to be pushed, as (first, count) in the order of the index, which must be stored.

        `verify`: read the bundles, and do not count on those that are damaged. Without it, data that a release has already
        is only looked for and not read.
        """
        images: list[Image] = []
        for image in self._images(known):
            data = image.components.get("data")
            if not verify and data and data.digest == index and self._has_all(image):
                return []
            images.append(image)
        content = read_index(self._store, index)
        bundles = _bundles(images)
        if verify:
            self._footers.forget(bundles)
            bundles = [bundle for bundle in bundles if self._is_intact(bundle)]
        return runs(content, choose_bundles(content, self._footers.readable(bundles))[1])

    def record(self, release: Digest, bundles: Sequence[Digest], known: Iterable[Digest]) -> bytes:
        """Record a release whose document, components and new bundles are stored. Returns its image manifest.

        Raises `NotFound` when something of it is not stored, `InvalidRequest`, `DamagedContent`.
        """
        self._footers.forget(bundles)  # pushed just now, perhaps in place of damaged ones
        before = self._recorded(release)
        known = list(known)
        if before is not None and not bundles:
            if release not in known or not self._is_kept(before, release):
                self._store.put_release(before, release)  # which looks into everything
            return before
        content = self._store.read_all(release)
        components = check_release_document(content, release).components
        data = components.get("data")
        used: Iterable[Digest] = ()
        if data:
            index = read_index(self._store, data.digest)
            used = choose_bundles(index, self._footers.readable([*bundles, *_bundles(self._images(known))]))[0]
        refs = [ComponentRef(bundle, BUNDLE_TYPE, self._store.size(bundle)) for bundle in sorted(used)]
        manifest = build_image_manifest(content, components, refs)
        if before is None or before == manifest:
            self._store.put_release(manifest, release)
            return manifest
        # Here, because what signs takes long to import, and a build does without it.
        from turnout.artifacts.attest.notary import copy_attestations

        copy_attestations(self._store, before, self._store, manifest)  # before it is published: a crash must lose none
        self._store.put_release(manifest, release)
        copy_attestations(self._store, before, self._store, manifest)  # what was attached meanwhile
        return manifest

    def damages(self, release: Digest) -> Iterator[tuple[Digest, str]]:
        """Read everything of one release; give each blob that is damaged or missing with a sentence."""
        return self._store.damages(release)

    def hand_over(self, release: Digest, tag: str) -> tuple[int, Iterator[bytes]]:
        """See `ports.Intake`."""
        return hand_over(self._store, release, tag)

    def attach_wheels(self, release: Digest, wheels: Mapping[str, Digest]) -> None:
        """See `ports.Intake`."""
        attach_wheels(self._store, release, wheels)

    def collect(self, keep: Container[Digest], *, dry_run: bool) -> tuple[tuple[Digest, ...], int, int]:
        """See `ports.Intake`."""
        if not isinstance(self._store, OciLayoutStore):
            raise InvalidRequest(
                "the releases are in a registry, which others may use too: turnout removes nothing there",
                hint="remove tags and let the registry collect its garbage with its own tools",
            )
        return self._store.collect(keep, dry_run=dry_run)

    def _recorded(self, release: Digest) -> bytes | None:
        try:
            return self._store.release_manifest(release)
        except (NotFound, DamagedContent):
            return None

    def _images(self, known: Iterable[Digest]) -> Iterator[Image]:
        """What the likeliest releases are made of, as far as it can be read."""
        for release in islice(known, _LOOKED_AT):
            try:
                yield read_image(self._store.release_manifest(release))
            except (DamagedContent, InvalidRequest, NotFound):
                continue

    def _is_kept(self, manifest: bytes, release: Digest) -> bool:
        """Whether a release that was recorded here is there as a whole, and stays: what is asked for is not collected."""
        if not self._store.has(sha256_digest(manifest)) or not self._has_all(read_image(manifest)):
            return False
        return self._recorded(release) == manifest

    def _has_all(self, image: Image) -> bool:
        blobs = (image.release, *(ref.digest for ref in (*image.components.values(), *image.bundles)))
        return all(self._store.has(blob) for blob in blobs)

    def _is_intact(self, bundle: Digest) -> bool:
        try:
            for _ in self._store.read(bundle):
                pass
        except (DamagedContent, NotFound):
            return False
        return True


def _bundles(images: Iterable[Image]) -> list[Digest]:
    return list(dict.fromkeys(bundle.digest for image in images for bundle in image.bundles))
