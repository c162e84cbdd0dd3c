"""The wheels of a release's dependencies, for an instance that reaches no package index: they refer to the release.

They are not part of it, and which files fit a machine is that machine's matter. But its lock must name each by its hash:
what it does not name is neither taken nor used, or somebody could slip code into a release that others signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from turnout.artifacts.digest import canonical_json, digest_from_hex, sha256_digest
from turnout.artifacts.document import EMPTY_CONFIG, EMPTY_TYPE, IMAGE_MANIFEST_TYPE, TITLE, descriptor
from turnout.artifacts.faults import disk_errors
from turnout.artifacts.links import titled_blobs
from turnout.artifacts.release import read_release
from turnout.artifacts.unpack import read_archive
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import ComponentRef, Digest, short_digest
from turnout.ports import ArtifactStore

WHEELS_TYPE = "application/vnd.turnout.wheels.v1"
_WHEEL_TYPE = "application/vnd.turnout.wheel.v1"
_LONGEST_LOCK = 16 << 20  # bytes
_HASH = re.compile(rb"sha256[:=]([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}\.(?:whl|tar\.gz)")


def attach_wheels(store: ArtifactStore, release: Digest, wheels: Mapping[str, Digest]) -> None:
    """Let stored wheels, by file name, refer to a release. Idempotent.

    Raises `InvalidRequest` for a name that no wheel has and for one that the release's lock does not name by its hash,
    `NotFound` for a blob or a release that is not stored.
    """
    locked = _locked(store, release)
    for name, digest in wheels.items():
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{name[:80]!r} is no file name of a wheel")
        if digest not in locked:
            raise InvalidRequest(
                f"the lock of release {short_digest(release)} does not name {name} by its hash",
                hint="lock with hashes, as `uv pip compile --generate-hashes` does, and add the packages that it names",
            )
    subject = store.release_manifest(release)
    layers = [
        {**descriptor(ComponentRef(digest, _WHEEL_TYPE, store.size(digest))), "annotations": {TITLE: name}}
        for name, digest in sorted(wheels.items())
    ]
    store.write([EMPTY_CONFIG])
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST_TYPE,
            "artifactType": WHEELS_TYPE,
            "config": descriptor(ComponentRef(sha256_digest(EMPTY_CONFIG), EMPTY_TYPE, len(EMPTY_CONFIG))),
            "layers": layers,
            "subject": descriptor(ComponentRef(sha256_digest(subject), IMAGE_MANIFEST_TYPE, len(subject))),
        }
    )
    store.put_referrer(sha256_digest(subject), manifest)


def find_wheels(store: ArtifactStore, release: Digest) -> dict[str, Digest]:
    """The wheels that refer to a release, by file name, as far as its lock names them."""
    subject = sha256_digest(store.release_manifest(release))
    found: dict[str, Digest] = {}
    for referrer in store.referrers(subject, WHEELS_TYPE):
        titled = titled_blobs(store.read_all(referrer.digest))
        found.update({name: digest for name, digest in titled.items() if _NAME.fullmatch(name)})
    locked = _locked(store, release) if found else frozenset()
    return {name: digest for name, digest in found.items() if digest in locked}


def _locked(store: ArtifactStore, release: Digest) -> frozenset[Digest]:
    """Every SHA-256 in the lock file of a release."""
    read = read_release(store, release)
    code = read.components["code"]
    for file in read_archive(store.read(code.digest), size=code.size):
        if file.path == read.spec.lock and file.size <= _LONGEST_LOCK:
            content = b"".join(file.content)
            return frozenset(digest_from_hex(digits.decode()) for digits in _HASH.findall(content))
    return frozenset()


def unpack_wheels(store: ArtifactStore, release: Digest, folder: Path) -> None:
    """Write the wheels of a release into a folder, which is not made when there are none. Safe to repeat.

    Raises `DamagedContent`, `StorageFull`.
    """
    for name, digest in find_wheels(store, release).items():
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        place = folder / name
        if place.exists():
            continue
        partial = place.with_name(f".{name}.partial")
        with partial.open("wb") as file:
            for chunk in store.read(digest):
                with disk_errors(folder):
                    file.write(chunk)
        with disk_errors(folder):
            partial.replace(place)
