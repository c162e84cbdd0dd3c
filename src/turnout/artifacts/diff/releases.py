"""Two stored releases → what differs between them, component by component."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from turnout.artifacts.chunks.fetch import DataReader
from turnout.artifacts.chunks.index import ChunkRef, DataIndex, read_index
from turnout.artifacts.diff.changes import Collected, collect, describe_counts
from turnout.artifacts.diff.data import Side as DataSide
from turnout.artifacts.diff.data import count_bytes, diff_data
from turnout.artifacts.diff.files import Side, diff_files
from turnout.artifacts.diff.settings import describe_pin, diff_config, diff_model
from turnout.artifacts.diff.tools import diff_tools
from turnout.artifacts.release import open_data
from turnout.artifacts.unpack import ArchivedFile, read_archive
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, UnsafeArchive
from turnout.domain.models import COMPONENT_NAMES, Release
from turnout.ports import ArtifactStore
from turnout.schemas import ByteCounts, ChangeView, ComponentDiff, ComponentSummary

_LONGEST_DOCUMENT = 32 << 20  # bytes of a component that is one JSON document
_MENDED = "build and push the release again, which stores anew what is damaged; `turnout verify` names all of it"


def diff_releases(store: ArtifactStore, a: Release, b: Release) -> list[ComponentDiff]:
    """The components that differ from `a` to `b`, each with its changes. Empty for the same release.

    Raises `DamagedContent` naming a blob that is damaged or not there, `InvalidRequest` for a component that cannot be read.
    """
    return [
        _diff_component(store, a, b, name) for name in COMPONENT_NAMES if _digest_of(a, name) != _digest_of(b, name)
    ]


def _diff_component(store: ArtifactStore, a: Release, b: Release, name: str) -> ComponentDiff:
    changes: Iterator[ChangeView]
    prefix: str | None = None
    counts: ByteCounts | None = None
    match name:
        case "code":
            before, after = (_files(store, release, name, lock=release.spec.lock) for release in (a, b))
            changes = diff_files(before, after, "file")
        case "prompts":
            before, after = (_files(store, release, name) for release in (a, b))
            changes = diff_files(before, after, "prompt")
        case "data":
            old_data, new_data = _data(store, a), _data(store, b)
            counts = count_bytes(old_data.index, new_data.index)
            changes = diff_data(old_data, new_data)
        case _:
            old, new = _document(store, a, name), _document(store, b, name)
            if name == "model":
                prefix = describe_pin(old, new)
            changes = {"model": diff_model, "tools": diff_tools, "config": diff_config}[name](old, new)
    try:
        found = collect(changes)
    except RecursionError:
        raise InvalidRequest(f"component {name} of {a.version} or {b.version} is nested too deeply") from None
    return {
        "component": name,
        "a": _digest_of(a, name),
        "b": _digest_of(b, name),
        "summary": _summarize(name, found, prefix, counts),
        "changes": found.listed,
        "left_out": found.left_out,
    }


def _summarize(name: str, found: Collected, pin: str | None, counts: ByteCounts | None) -> ComponentSummary:
    kinds = {kind: count for kind, count in found.kinds.items() if not (pin and kind in ("provider", "name"))}
    parts = [pin, describe_counts(kinds)]
    if counts:
        parts.append(f"{counts['share']:.1%} of the bytes")
    text = ", ".join(part for part in parts if part) or f"{name} is written in another way, nothing in it differs"
    summary: ComponentSummary = {"text": text, "kinds": found.kinds}
    if counts:
        summary["bytes"] = counts
    return summary


def _digest_of(release: Release, name: str) -> str | None:
    component = release.components.get(name)
    return component.digest if component else None


# --- reading a side --------------------------------------------------------------------------------------------------


def _files(store: ArtifactStore, release: Release, name: str, *, lock: str | None = None) -> Side:
    def read() -> Iterator[ArchivedFile]:
        component = release.components.get(name)
        if component is None:
            return
        with _reading(release, name):
            try:
                yield from read_archive(store.read(component.digest), size=component.size)
            except UnsafeArchive:
                for _ in store.read(component.digest):  # damaged bytes may be the reason
                    pass
                raise

    return Side(read, lock)


def _data(store: ArtifactStore, release: Release) -> DataSide:
    data = release.components.get("data")
    index = DataIndex(())
    if data:
        with _reading(release, "data"):
            index = read_index(store, data.digest)
    opened: list[DataReader] = []

    def read(chunk: ChunkRef) -> bytes:
        with _reading(release, "data"):
            if data and not opened:
                opened.append(open_data(store, release.digest, data))
            return opened[0].read_chunk(chunk)

    return DataSide(index, read)


def _document(store: ArtifactStore, release: Release, name: str) -> Any:
    component = release.components.get(name)
    if component is None:
        return {}
    with _reading(release, name):
        content = store.read_all(component.digest, _LONGEST_DOCUMENT)
    try:
        document = json.loads(content)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair could not be sent
    except (ValueError, RecursionError):
        raise _malformed(release, name, "JSON") from None
    if name != "tools" and not isinstance(document, dict):
        raise _malformed(release, name, "JSON object")
    return document


def _malformed(release: Release, name: str, form: str) -> InvalidRequest:
    digest = release.components[name].digest
    return InvalidRequest(f"component {name} of release {release.version} ({digest}) is no {form}")


@contextmanager
def _reading(release: Release, name: str) -> Iterator[None]:
    """Say of which component, of which release, a blob is that cannot be read."""
    try:
        yield
    except (DamagedContent, NotFound) as error:
        place = f"component {name} of release {release.version} cannot be read"
        raise DamagedContent(f"{place}: {error.message}", hint=error.hint or _MENDED) from error
