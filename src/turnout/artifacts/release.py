"""A stored release, read back: its document, its spec, and its files in a folder."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from turnout.artifacts.chunks.fetch import DataReader
from turnout.artifacts.chunks.index import read_index
from turnout.artifacts.document import TAR_COMPONENTS, check_release_document, read_image
from turnout.artifacts.faults import disk_errors
from turnout.artifacts.unpack import unpack
from turnout.domain.errors import InvalidRequest, UnsafeArchive
from turnout.domain.models import ComponentRef, Digest, ReleaseSpec
from turnout.durable import sync_folder
from turnout.manifest.config import parse_config
from turnout.ports import ArtifactStore

__all__ = ["StoredRelease", "check_release_document", "open_data", "read_release", "unpack_release"]

_UNPACKED = (*TAR_COMPONENTS, "tools", "data", "config")


class StoredRelease(NamedTuple):
    """What a store knows of a release: components in their fixed order, the spec, the document as JSON."""

    components: Mapping[str, ComponentRef]
    spec: ReleaseSpec
    document: dict[str, Any]


def read_release(store: ArtifactStore, digest: Digest) -> StoredRelease:
    """Read a release's document and config, verified.

    Raises `NotFound`, `DamagedContent`, `InvalidRequest` when the digest is of something else or its config is malformed.
    """
    document = check_release_document(store.read_all(digest), digest)
    spec = parse_config(store.read_all(document.components["config"].digest))
    if spec.agent != document.agent:
        raise InvalidRequest(f"{digest} is of agent {document.agent}, its config of agent {spec.agent}")
    return StoredRelease(document.components, spec, document.as_json())


def unpack_release(store: ArtifactStore, digest: Digest, target: Path) -> None:
    """Unpack code, prompts, data and the tool manifest into one new folder, as they were in the agent's folder.

    The folder appears complete or not at all; one that is there is left as it is. Files are read-only. Several processes
    may do the same at once. Raises `NotFound`, `DamagedContent`, `UnsafeArchive`, `StorageFull`.
    """
    if _is_complete(target):
        return
    release = read_release(store, digest)
    with disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _partial_folder(target) as partial:
        if partial is None:
            return
        _fill(store, digest, release, partial)
        with disk_errors(target.parent):
            _sync_tree(partial)
            partial.rename(target)
            sync_folder(target.parent)


def _is_complete(target: Path) -> bool:
    return target.is_dir() and any(target.iterdir())


@contextmanager
def _partial_folder(target: Path) -> Iterator[Path | None]:
    """An empty folder beside the target that only this process fills; None when another has filled it meanwhile.

    The lock is on the folder itself, so it ends with the process, and what a killed one left is taken over.
    """
    partial = target.with_name(f".{target.name}.partial")
    while True:
        with disk_errors(target.parent):
            with suppress(FileExistsError):
                partial.mkdir()
            descriptor = _open_locked(partial)
        if descriptor is not None:
            break
    try:
        if _is_complete(target):
            shutil.rmtree(partial)
            yield None
            return
        _empty(partial)
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def _open_locked(folder: Path) -> int | None:
    """Lock a folder; None when it is another one, or gone, by the time the lock is held."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    held = os.fstat(descriptor)
    try:
        current = folder.stat()
    except FileNotFoundError:
        current = None
    if current is None or (current.st_dev, current.st_ino) != (held.st_dev, held.st_ino):
        os.close(descriptor)
        return None
    return descriptor


def _empty(folder: Path) -> None:
    with disk_errors(folder):
        for item in folder.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            else:
                item.unlink()


def open_data(store: ArtifactStore, digest: Digest, data: ComponentRef) -> DataReader:
    """The data of a release, to be read. Raises `NotFound`, `DamagedContent`."""
    bundles = read_image(store.release_manifest(digest)).bundles
    return DataReader(store, read_index(store, data.digest), [bundle.digest for bundle in bundles])


def _fill(store: ArtifactStore, digest: Digest, release: StoredRelease, folder: Path) -> None:
    for name, found in release.components.items():
        if name not in _UNPACKED:  # it must be intact too
            for _ in store.read(found.digest):
                pass
    for name in TAR_COMPONENTS:
        ref = release.components.get(name)
        if ref:
            unpack(store.read(ref.digest), folder, size=ref.size)
    tools = release.components.get("tools")
    path = release.spec.paths.get("tools")
    if tools and path:
        _write_tools(store.read_all(tools.digest), folder, path)
    data = release.components.get("data")
    if data:
        open_data(store, digest, data).unpack(folder)


def _write_tools(content: bytes, folder: Path, path: str) -> None:
    place = folder / path
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise UnsafeArchive(f"the tool manifest {path} leaves the release's folder")
    with disk_errors(folder):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            raise UnsafeArchive(f"the release holds {path} twice")
        with place.open("xb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o444)
            file.flush()
            os.fsync(file.fileno())


def _sync_tree(folder: Path) -> None:
    """Make the names in a tree last; its files were made to last when they were written."""
    for place, _, _ in os.walk(folder):
        sync_folder(Path(place))
