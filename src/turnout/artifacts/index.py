"""`index.json` of an OCI image layout: which releases it has, and which tags name them.

Each tag is an entry of its own, as the specification wants it, with the release's digest in an annotation. Every release
also has an entry under the hexadecimal digits of its digest, so that other tools can address it. Entries that are not
turnout's are kept as they are.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnout.artifacts.digest import canonical_json, hex_digits, parse_digest, sha256_digest
from turnout.artifacts.document import ARTIFACT_TYPE, IMAGE_MANIFEST_TYPE
from turnout.artifacts.faults import disk_errors
from turnout.artifacts.inventory import Recorded
from turnout.domain.errors import DamagedContent, InvalidRequest
from turnout.domain.models import Digest
from turnout.durable import replace_file
from turnout.ports import Referrer

REF_NAME = "org.opencontainers.image.ref.name"
RELEASE = "vnd.turnout.release"
SUBJECT = "vnd.turnout.subject"  # a layout has no list of referrers: the entry says what it refers to
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_TAG = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@/+]|--)[A-Za-z0-9]+)*")  # the grammar of ref.name
_DIGEST_TAG = re.compile(r"(?:[0-9a-f]{32}\.)?[0-9a-f]{64}")  # the second form is used in registries
_HINT = "restore index.json from a backup, or push the releases again into an empty folder"


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags. Raises `InvalidRequest` for one that a layout cannot hold, or that looks like a digest."""
    checked = tuple(tags)
    for tag in checked:
        if not _TAG.fullmatch(tag) or len(tag) > 255 or _DIGEST_TAG.fullmatch(tag):
            raise InvalidRequest(
                f'"{tag[:80]}" cannot be a tag', hint="letters and digits, joined by single . _ - / + : or @"
            )
    return checked


def build_index(release: Digest, manifest: bytes, tag: str, referrers: Iterable[Referrer]) -> bytes:
    """The index of a layout that holds one release, and what refers to it."""
    subject = sha256_digest(manifest)
    entries = [_entry(release, manifest, name) for name in sorted({*check_tags([tag]), hex_digits(release)})]
    return _index([*entries, *(_referrer_entry(subject, referrer) for referrer in referrers)])


class LayoutIndex:
    """The index file of a layout. Reads need no lock: the file is replaced as a whole."""

    def __init__(self, root: Path) -> None:
        self._path = root / "index.json"
        self._lock = root / "index.lock"

    def create(self) -> None:
        """Write an empty index unless there is one."""
        with self._locked(), disk_errors(self._path):
            if not self._path.exists():
                self._write([])

    def read(self) -> tuple[Recorded, ...]:
        """The recorded releases by digest. Raises `DamagedContent` when the file is missing or cannot be understood."""
        found: dict[Digest, tuple[Digest, set[str]]] = {}
        for entry in self._entries():
            release = release_of(entry)
            if release:
                found.setdefault(release, (manifest_of(entry), set()))[1].add(_tag_of(entry))
        return tuple(
            Recorded(release, manifest, tuple(sorted(tag for tag in tags if tag and tag != hex_digits(release))))
            for release, (manifest, tags) in sorted(found.items())
        )

    def others(self) -> tuple[tuple[Digest, str], ...]:
        """The manifests that other tools have put there, and their tags."""
        return tuple(
            (manifest_of(entry), _tag_of(entry))
            for entry in self._entries()
            if not {RELEASE, SUBJECT} & (entry.get("annotations") or {}).keys()
            and entry.get("mediaType") == IMAGE_MANIFEST_TYPE
        )

    def attached(self, subject: Digest) -> tuple[Referrer, ...]:
        """What refers to a manifest."""
        return tuple(
            Referrer(manifest_of(entry), entry["mediaType"], entry["size"], entry.get("artifactType", ""))
            for entry in self._entries()
            if (entry.get("annotations") or {}).get(SUBJECT) == subject
        )

    def attach(self, subject: Digest, referrer: Referrer) -> None:
        """List a manifest that refers to another. Safe against other processes."""
        entry = _referrer_entry(subject, referrer)
        with self._locked():
            entries = self._entries()
            if entry not in entries:
                with disk_errors(self._path):
                    self._write([*entries, entry])

    def record(
        self, release: Digest, manifest: bytes, tags: Iterable[str], check: Callable[[], None] = lambda: None
    ) -> None:
        """Let the tags name the release; those that it had stay. Safe against other processes.

        `check` is called while nothing can be collected.
        """
        with self._locked():
            check()
            entries = self._entries()
            kept = {_tag_of(entry) for entry in entries if release_of(entry) == release}
            named = {*tags, *kept, hex_digits(release)} - {""}
            others = [entry for entry in entries if release_of(entry) != release and _tag_of(entry) not in named]
            ours = [_entry(release, manifest, tag) for tag in sorted(named)]
            if entries != others + ours:
                with disk_errors(self._path):
                    self._write(others + ours)

    def collect(self, choose: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Keep the entries that are chosen. Nothing is recorded meanwhile."""
        with self._locked():
            entries = self._entries()
            kept = choose(entries)
            if kept != entries:
                with disk_errors(self._path):
                    self._write(kept)

    def _entries(self) -> list[dict[str, Any]]:
        try:
            with disk_errors(self._path):
                content = self._path.read_bytes() if self._path.exists() else None
            if content is None:
                raise DamagedContent(f"{self._path} is missing: the store has lost its list of releases", hint=_HINT)
            document = json.loads(content)
            entries = document["manifests"]
            for entry in entries:
                _check_entry(entry)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidRequest) as error:
            raise DamagedContent(f"{self._path} is damaged and cannot be read: {error}", hint=_HINT) from None
        return list(entries)

    def _write(self, entries: list[dict[str, Any]]) -> None:
        replace_file(self._path, _index(entries))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with disk_errors(self._lock):
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)


def _index(entries: list[dict[str, Any]]) -> bytes:
    return canonical_json({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries})


def _referrer_entry(subject: Digest, referrer: Referrer) -> dict[str, Any]:
    return {
        "mediaType": referrer.media_type,
        "artifactType": referrer.artifact_type,
        "digest": referrer.digest,
        "size": referrer.size,
        "annotations": {**referrer.annotations, SUBJECT: subject},
    }


def _entry(release: Digest, manifest: bytes, tag: str) -> dict[str, Any]:
    return {
        "mediaType": IMAGE_MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "digest": sha256_digest(manifest),
        "size": len(manifest),
        "annotations": {REF_NAME: tag, RELEASE: release},
    }


def _check_entry(entry: dict[str, Any]) -> None:
    """Raises one of the errors that `_entries` reports as damage."""
    parse_digest(entry["digest"])
    annotations = entry.get("annotations") or {}
    if not all(isinstance(value, str) for value in annotations.values()):
        raise ValueError("an annotation is not text")
    if RELEASE not in annotations:
        return
    if entry.get("artifactType") != ARTIFACT_TYPE or REF_NAME not in annotations:
        raise ValueError("an entry of a release lacks its type or its name")
    tag, release = annotations[REF_NAME], parse_digest(annotations[RELEASE])
    if _DIGEST_TAG.fullmatch(tag) and tag != hex_digits(release):
        raise ValueError(f"the entry {tag} names the release {release}")


def release_of(entry: dict[str, Any]) -> Digest | None:
    """The release that an entry names, if it is one of turnout's."""
    release = (entry.get("annotations") or {}).get(RELEASE)
    return Digest(release) if release else None


def subject_of(entry: dict[str, Any]) -> Digest | None:
    """The manifest that the manifest of an entry refers to."""
    subject = (entry.get("annotations") or {}).get(SUBJECT)
    return Digest(subject) if subject else None


def manifest_of(entry: dict[str, Any]) -> Digest:
    """The manifest that an entry names."""
    return Digest(entry["digest"])


def _tag_of(entry: dict[str, Any]) -> str:
    return str((entry.get("annotations") or {}).get(REF_NAME, ""))
