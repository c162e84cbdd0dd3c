"""Folder + manifest → release: the components, the release document and the image manifest, stored.

The same inputs give the same digest on any machine: nothing of the clock, the user, the path or the order of files is in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.artifacts.archive import FileEntry, pack
from turnout.artifacts.chunks.bundle import file_chunks, write_bundles
from turnout.artifacts.chunks.cache import ChunkCache
from turnout.artifacts.chunks.catalog import chunks_of
from turnout.artifacts.chunks.index import write_index
from turnout.artifacts.chunks.source import DataSource, index_files
from turnout.artifacts.digest import canonical_json
from turnout.artifacts.document import ReleaseDocument, media_type
from turnout.artifacts.intake import Intake
from turnout.artifacts.select import Selection, select_files
from turnout.domain.errors import BuildFailed
from turnout.domain.models import ComponentRef, Digest, ReleaseSpec
from turnout.manifest.config import build_config, parse_config
from turnout.manifest.schema import Manifest
from turnout.manifest.tool_manifest import parse_tools
from turnout.ports import ArtifactStore


@dataclass(frozen=True)
class ReleaseParts:
    """A release whose document and components are stored. The chunks of its data are still where they were found."""

    digest: Digest
    components: Mapping[str, ComponentRef]
    spec: ReleaseSpec
    data: DataSource | None


@dataclass(frozen=True)
class BuiltRelease(ReleaseParts):
    """A release that is stored as a whole and recorded. `manifest` is its OCI image manifest."""

    manifest: bytes


def build_parts(
    folder: Path,
    manifest: Manifest,
    store: ArtifactStore,
    *,
    data_folder: Path | None = None,
    cache: Path | None = None,
    cached: bool = True,
    scan: Callable[[Selection], None] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> ReleaseParts:
    """Store the document and the components of a release. `on_progress` is called before each component.

    `scan` looks through the files at the same time; what it raises ends the build.

    `data_folder` is what `run_data_build` returned; without it the data is taken from its path in `folder`. `cache`: a file
    that remembers the data's chunks, so that data which has not changed is not read again.
    Raises `BuildFailed` (a file changes, cannot be read, is a link to elsewhere), `ManifestError`, `StorageFull`.
    """
    selection = select_files(folder, manifest, data_folder=data_folder)
    config = canonical_json(build_config(manifest))
    known = ChunkCache(cache, trusted=cached)
    with ThreadPoolExecutor(1, thread_name_prefix="scan") as beside:
        scanned = beside.submit(scan, selection) if scan else None
        data = index_files(selection.data, known) if selection.data else None
        components = {}
        for name, chunks in _contents(manifest, selection, data, config):
            if on_progress:
                on_progress(name)
            components[name] = _store_component(store, name, chunks)
        if scanned:
            scanned.result()
    known.save()
    document = canonical_json(ReleaseDocument(manifest.agent, components).as_json())
    return ReleaseParts(store.write([document]), components, parse_config(config), data)


def build_release(
    folder: Path,
    manifest: Manifest,
    store: ArtifactStore,
    *,
    data_folder: Path | None = None,
    cache: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> BuiltRelease:
    """The same, and store the chunks of the data and record the release, untagged."""
    parts = build_parts(folder, manifest, store, data_folder=data_folder, cache=cache, on_progress=on_progress)
    return record_parts(parts, store)


def record_parts(parts: ReleaseParts, store: ArtifactStore) -> BuiltRelease:
    """Store the chunks of the data that the store does not have, and record the release, so that it can be unpacked."""
    intake, known = Intake(store), list(store.releases())
    bundles: list[Digest] = []
    if parts.data:
        missing = intake.missing_chunks(parts.components["data"].digest, known)
        with tempfile.TemporaryDirectory(prefix="turnout-bundles-") as spool:
            for bundle in write_bundles(parts.data.read(chunks_of(parts.data.index, missing)), Path(spool)):
                bundles.append(store.write(file_chunks(bundle.file), bundle.ref.digest))
    image = intake.record(parts.digest, bundles, known)
    return BuiltRelease(parts.digest, parts.components, parts.spec, parts.data, image)


def _contents(
    manifest: Manifest, selection: Selection, data: DataSource | None, config: bytes
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The components that the release has, in their fixed order, each as chunks that are made when they are read."""
    yield "code", pack(selection.code)
    if manifest.model:
        yield "model", [canonical_json(_model_document(manifest))]
    if selection.prompts:
        yield "prompts", pack(selection.prompts)
    if selection.tools:
        yield "tools", [_canonical_tools(selection.tools)]
    if data:
        yield "data", [write_index(data.index)]
    yield "config", [config]


def _store_component(store: ArtifactStore, name: str, chunks: Iterable[bytes]) -> ComponentRef:
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            yield chunk

    return ComponentRef(store.write(counted()), media_type(name), size)


def _model_document(manifest: Manifest) -> dict[str, Any]:
    """The pin itself; whether a floating name is accepted is a rule of each ring.

    What came later is left out where it says nothing, so that the component of before keeps its digest.
    """
    if manifest.model is None:
        return {}
    document = manifest.model.model_dump()
    unsaid = [name for name in ("others", "restart_streams") if not document[name]]
    return {name: value for name, value in document.items() if name not in unsaid}


def _canonical_tools(entry: FileEntry) -> bytes:
    try:
        return canonical_json(parse_tools(entry.source.read_bytes()))
    except OSError as error:
        raise BuildFailed(f"{entry.path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BuildFailed(f"{entry.path} cannot be used: {error}") from None
