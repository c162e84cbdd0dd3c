"""What differs between two releases, down to files and values."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from turnout.artifacts.document import TAR_COMPONENTS
from turnout.domain.models import COMPONENT_NAMES, Digest, Release
from turnout.ports import ArtifactStore
from turnout.schemas import ComponentDiff, FileChange

_LONGEST_TEXT = 64 << 10  # a larger file is named, its lines are not shown
_MOST_LINES = 400


def diff_releases(store: ArtifactStore, a: Release, b: Release) -> list[ComponentDiff]:
    """The components that differ from `a` to `b`, each with its changes. Empty for the same release."""
    found: list[ComponentDiff] = []
    for name in COMPONENT_NAMES:
        before, after = a.components.get(name), b.components.get(name)
        before_digest = before.digest if before else None
        after_digest = after.digest if after else None
        if before_digest == after_digest:
            continue
        read = _read_files if name in TAR_COMPONENTS else _read_values
        changes = list(_changes(read(store, before_digest), read(store, after_digest)))
        found.append({"component": name, "a": before_digest, "b": after_digest, "changes": changes})
    return found


def _changes(before: Mapping[str, str | bytes], after: Mapping[str, str | bytes]) -> Iterator[FileChange]:
    """By path. A text is shown as a unified diff, what is not text (bytes: its digest) is only named."""
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        change = "added" if old is None else "removed" if new is None else "changed"
        shown: FileChange = {"path": path, "change": change}
        if not isinstance(old, bytes) and not isinstance(new, bytes):
            shown["diff"] = _unified(old or "", new or "")
        yield shown


def _unified(old: str, new: str) -> str:
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=3))[2:]
    cut = [f"… {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
    return "\n".join([*lines[:_MOST_LINES], *cut])


def _read_files(store: ArtifactStore, digest: Digest | None) -> dict[str, str | bytes]:
    """Path → text, or for what is large or not text its SHA-256 as bytes."""
    if digest is None:
        return {}
    files: dict[str, str | bytes] = {}
    with tarfile.open(fileobj=_Chunks(store.read(digest)), mode="r|") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                files[member.name] = _content(stream, member.size)
    return files


def _content(stream: Any, size: int) -> str | bytes:
    if size > _LONGEST_TEXT:
        return hashlib.file_digest(stream, "sha256").digest()
    content: bytes = stream.read()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return hashlib.sha256(content).digest()
    return hashlib.sha256(content).digest() if "\0" in text else text


def _read_values(store: ArtifactStore, digest: Digest | None) -> dict[str, str | bytes]:
    """Dotted path → value as JSON text, for a component that is one JSON document."""
    return {} if digest is None else dict(_flatten(json.loads(store.read_all(digest)), ""))


def _flatten(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            # Named things are told apart by their name: a tool added in front does not change all that follow.
            name = item.get("name", index) if isinstance(item, dict) else index
            yield from _flatten(item, f"{path}[{name}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)


class _Chunks(io.RawIOBase):
    """Chunks as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; 0 at the end."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)
