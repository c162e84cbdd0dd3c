"""A release as one file: an OCI image layout in an archive, with everything that refers to the release.

Other tools read it (`skopeo inspect --raw oci-archive:FILE:VERSION`), and the same release makes the same bytes. Reading
one trusts nothing: the archive is extracted by the strict reader, and every blob is verified where it is taken from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from turnout.artifacts.archive import END, member_size, write_member
from turnout.artifacts.digest import hex_digits, sha256_digest
from turnout.artifacts.document import read_image
from turnout.artifacts.faults import disk_errors
from turnout.artifacts.index import build_index
from turnout.artifacts.layout import LAYOUT, OciLayoutStore
from turnout.artifacts.links import referrer_blobs
from turnout.artifacts.unpack import unpack
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest
from turnout.ports import ArtifactStore

_CHUNK = 1 << 20


class Handover(NamedTuple):
    """An archive that is ready to be written: its size in bytes, and its content."""

    size: int
    content: Iterator[bytes]


def hand_over(store: ArtifactStore, release: Digest, tag: str) -> Handover:
    """The archive of a release under a version. Raises `NotFound`, `DamagedContent` (also while it is read)."""
    manifest = store.release_manifest(release)
    image = read_image(manifest)
    subject = sha256_digest(manifest)
    referrers = store.referrers(subject)
    blobs = {subject, release, *(ref.digest for ref in image.components.values())}
    blobs.update(bundle.digest for bundle in image.bundles)
    for referrer in referrers:
        blobs.update((referrer.digest, *referrer_blobs(store.read_all(referrer.digest))))
    index = build_index(release, manifest, tag, referrers)
    files = {"index.json": index, "oci-layout": LAYOUT}
    sizes = {digest: store.size(digest) for digest in sorted(blobs)}
    total = sum(member_size(_path(digest), size) for digest, size in sizes.items())
    total += sum(member_size(name, len(content)) for name, content in files.items()) + len(END)

    def content() -> Iterator[bytes]:
        for digest, size in sizes.items():
            yield from write_member(_path(digest), size, store.read(digest))
        for name, text in files.items():
            yield from write_member(name, len(text), [text])
        yield END

    return Handover(total, content())


class Received(NamedTuple):
    """What an archive holds: one release in a layout of its own."""

    store: OciLayoutStore
    release: Digest
    tags: tuple[str, ...]


def receive(source: Path, folder: Path) -> Received:
    """Bring an archive, or an OCI image layout in a folder, into a new folder. Other tools may have made either.

    Nothing in it is believed yet: reading from the store verifies it.
    Raises `UnsafeArchive` for anything but plain files, `InvalidRequest` when it does not hold exactly one release,
    `DamagedContent`, `StorageFull`.
    """
    if source.is_dir():
        _copy(source, folder)
    else:
        with disk_errors(source):
            size = source.stat().st_size
        unpack(_read(source), folder, size=size, foreign=True)
    if not (folder / "oci-layout").is_file():
        raise InvalidRequest(f"{source} holds no release", hint="make a file with `turnout release export`")
    store = OciLayoutStore(folder)
    recorded = store.recorded()
    if len(recorded) != 1:
        hint = "copy one of them to a place of its own"
        raise InvalidRequest(f"{source} holds {len(recorded)} releases, not one", hint=hint)
    return Received(store, recorded[0].release, recorded[0].tags)


def _copy(layout: Path, folder: Path) -> None:
    """The files of a layout: what it is made of, and nothing else that lies there."""
    if not (layout / "oci-layout").is_file():
        raise InvalidRequest(f"{layout} is no OCI image layout: it has no file oci-layout")
    with disk_errors(folder):
        (folder / "blobs").mkdir(parents=True)
        shutil.copytree(layout / "blobs" / "sha256", folder / "blobs" / "sha256")
        for name in ("oci-layout", "index.json"):
            shutil.copyfile(layout / name, folder / name)


def _read(path: Path) -> Iterator[bytes]:
    with disk_errors(path), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _path(digest: Digest) -> str:
    return f"blobs/sha256/{hex_digits(digest)}"
