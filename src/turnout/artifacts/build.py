"""Folder + manifest → release: the components, the release document and the image manifest, stored.

The same inputs give the same digest on any machine: nothing of the clock, the user, the path or the order of files is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.artifacts.digest import canonical_json
from turnout.artifacts.document import ReleaseDocument, build_image_manifest, media_type
from turnout.artifacts.pack import FileEntry, pack
from turnout.artifacts.select import Selection, select_files
from turnout.domain.errors import BuildFailed
from turnout.domain.models import ComponentRef, Digest, ReleaseSpec
from turnout.manifest.config import build_config, parse_config
from turnout.manifest.files import parse_tools
from turnout.manifest.schema import Manifest
from turnout.ports import ArtifactStore


@dataclass(frozen=True, slots=True)
class BuiltRelease:
    """A release that was built and recorded in the store. `manifest` is its OCI image manifest."""

    digest: Digest
    components: Mapping[str, ComponentRef]
    manifest: bytes
    spec: ReleaseSpec


def build_release(
    folder: Path,
    manifest: Manifest,
    store: ArtifactStore,
    *,
    data_folder: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> BuiltRelease:
    """Store the components of a release and record it, untagged. `on_progress` is called before each component.

    `data_folder` is what `run_data_build` returned; without it the data is taken from its path in `folder`.
    Raises `BuildFailed` (a file changes, cannot be read, is a link to elsewhere), `ManifestError`, `StorageFull`.
    """
    selection = select_files(folder, manifest, data_folder=data_folder)
    config = canonical_json(build_config(manifest))
    components = {}
    for name, chunks in _contents(manifest, selection, config):
        if on_progress:
            on_progress(name)
        components[name] = _store_component(store, name, chunks)
    document = canonical_json(ReleaseDocument(manifest.agent, components).as_json())
    digest = store.write([document])
    image = build_image_manifest(document, components)
    store.put_release(image, digest)
    return BuiltRelease(digest, components, image, parse_config(config))


def _contents(manifest: Manifest, selection: Selection, config: bytes) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The components that the release has, in their fixed order, each as chunks that are made when they are read."""
    yield "code", pack(selection.code)
    if manifest.model:
        yield "model", [canonical_json(_model_document(manifest))]
    if selection.prompts:
        yield "prompts", pack(selection.prompts)
    if selection.tools:
        yield "tools", [_canonical_tools(selection.tools)]
    if selection.data:
        yield "data", pack(selection.data)
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
    """The pin itself; whether floating names were allowed is a rule of the build, not of the release."""
    return manifest.model.model_dump(exclude={"allow_floating"}) if manifest.model else {}


def _canonical_tools(entry: FileEntry) -> bytes:
    try:
        return canonical_json(parse_tools(entry.source.read_bytes()))
    except OSError as error:
        raise BuildFailed(f"{entry.path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BuildFailed(f"{entry.path} cannot be used: {error}") from None
