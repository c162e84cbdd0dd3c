"""Taking a release in: which chunks of its data are stored already, and which bundles its manifest has to name."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from turnout.artifacts.attest.notary import copy_attestations
from turnout.artifacts.chunks.bundle import BUNDLE_TYPE
from turnout.artifacts.chunks.catalog import Footers, choose_bundles, runs
from turnout.artifacts.chunks.index import read_index
from turnout.artifacts.document import build_image_manifest, check_release_document, read_image
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

        `verify`: read the bundles, and do not count on those that are damaged.
        """
        content = read_index(self._store, index)
        known = list(known)
        if verify:
            self._footers.forget(self._bundles(known))
        bundles = [bundle for bundle in self._bundles(known) if not verify or self._is_intact(bundle)]
        return runs(content, choose_bundles(content, self._footers.readable(bundles))[1])

    def record(self, release: Digest, bundles: Sequence[Digest], known: Iterable[Digest]) -> bytes:
        """Record a release whose document, components and new bundles are stored. Returns its image manifest.

        Raises `NotFound` when something of it is not stored, `InvalidRequest`, `DamagedContent`.
        """
        self._footers.forget(bundles)  # pushed just now, perhaps in place of damaged ones
        before = self._recorded(release)
        if before is not None and not bundles:
            self._store.put_release(before, release)
            return before
        content = self._store.read_all(release)
        components = check_release_document(content, release).components
        data = components.get("data")
        used: Iterable[Digest] = ()
        if data:
            index = read_index(self._store, data.digest)
            used = choose_bundles(index, self._footers.readable([*bundles, *self._bundles(known)]))[0]
        refs = [ComponentRef(bundle, BUNDLE_TYPE, self._store.size(bundle)) for bundle in sorted(used)]
        manifest = build_image_manifest(content, components, refs)
        if before is None or before == manifest:
            self._store.put_release(manifest, release)
            return manifest
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

    def _bundles(self, known: Iterable[Digest]) -> list[Digest]:
        found: dict[Digest, None] = {}
        for _, release in zip(range(_LOOKED_AT), known, strict=False):
            found.update(dict.fromkeys(self._bundles_of(release)))
        return list(found)

    def _bundles_of(self, release: Digest) -> Iterator[Digest]:
        try:
            yield from (bundle.digest for bundle in read_image(self._store.release_manifest(release)).bundles)
        except (DamagedContent, InvalidRequest, NotFound):
            return

    def _is_intact(self, bundle: Digest) -> bool:
        try:
            for _ in self._store.read(bundle):
                pass
        except (DamagedContent, NotFound):
            return False
        return True
