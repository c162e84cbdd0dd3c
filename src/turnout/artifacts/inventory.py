"""Read everything that a store holds, and name each blob that is damaged or missing by the part that it plays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from turnout.artifacts.document import Image, check_release_document, read_image
from turnout.artifacts.links import referrer_blobs
from turnout.domain.errors import TurnoutError
from turnout.domain.models import ComponentRef, Digest, short_digest
from turnout.ports import Referrer


@dataclass(frozen=True, slots=True)
class Recorded:
    """A release that a store has recorded, the image manifest that carries it, and its tags."""

    release: Digest
    manifest: Digest
    tags: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its short digest and tags, for people."""
        return " ".join((short_digest(self.release), *(f"({tag})" for tag in self.tags)))


class Inspected(Protocol):
    """What a store must answer to be inspected."""

    def recorded(self) -> tuple[Recorded, ...]:
        """All recorded releases."""

    def stored(self) -> Iterable[Digest]:
        """The digests that blobs are stored under."""

    def fault(self, digest: Digest) -> str | None:
        """Read a blob; None when it has its digest, else what is wrong with it."""

    def attached(self, manifest: Digest) -> tuple[Referrer, ...]:
        """What refers to a manifest."""

    def read_all(self, digest: Digest, limit: int = 16 << 20) -> bytes:
        """See `ArtifactStore`."""


def find_damages(store: Inspected, release: Digest | None = None) -> Iterator[tuple[Digest, str]]:
    """Each blob that is damaged or missing, with a sentence that says which part of which release it is, and why.

    Of one release if it is given, else of all of them and of what no release names.
    """
    parts: dict[Digest, list[str]] = {}
    for recorded in store.recorded():
        if release not in (None, recorded.release):
            continue
        manifest, document, components = _inspect(store, recorded)
        parts.setdefault(recorded.manifest, []).append(f"the image manifest of release {recorded.name}")
        parts.setdefault(recorded.release, []).append(f"the document of release {recorded.name}")
        for name, ref in components.items():
            parts.setdefault(ref.digest, []).append(f"component {name} of release {recorded.name}")
        for bundle in manifest.bundles if manifest else ():
            parts.setdefault(bundle.digest, []).append(f"a bundle of the data of release {recorded.name}")
        for digest, name in _attached(store, recorded):
            parts.setdefault(digest, []).append(name)
        if manifest and document and manifest[:2] != document:
            yield (
                recorded.manifest,
                f"the image manifest of release {recorded.name} names another release or components",
            )
    for digest, names in parts.items():
        fault = store.fault(digest)
        if fault:
            yield digest, f"{', '.join(names)}: {fault}"
    for digest in sorted(set(store.stored()) - set(parts)) if release is None else ():
        fault = store.fault(digest)
        if fault:
            yield digest, f"a blob that no readable release names: {fault}"


def _attached(store: Inspected, recorded: Recorded) -> Iterator[tuple[Digest, str]]:
    """The manifests that refer to a release, and their blobs as far as they can be told."""
    for referrer in store.attached(recorded.manifest):
        name = f"the {referrer.artifact_type or 'referrer'} of release {recorded.name}"
        yield referrer.digest, name
        with suppress(TurnoutError):  # a damaged one is named when all are read
            for blob in referrer_blobs(store.read_all(referrer.digest)):
                yield blob, f"a blob of {name}"


def _inspect(
    store: Inspected, recorded: Recorded
) -> tuple[Image | None, tuple[Digest, Mapping[str, ComponentRef]] | None, Mapping[str, ComponentRef]]:
    """What the image manifest and the release document say, as far as they can be read, and the components from either."""
    manifest: Image | None = None
    document: tuple[Digest, Mapping[str, ComponentRef]] | None = None
    with suppress(TurnoutError):  # a damaged blob is named when all are read
        manifest = read_image(store.read_all(recorded.manifest))
    with suppress(TurnoutError):
        checked = check_release_document(store.read_all(recorded.release), recorded.release)
        document = recorded.release, checked.components
    if document:
        return manifest, document, document[1]
    return manifest, document, manifest.components if manifest else {}
