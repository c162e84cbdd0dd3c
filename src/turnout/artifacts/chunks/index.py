"""The index of the data: which chunks make which files. Its canonical JSON is the data component of a release.

`{"schemaVersion": 1, "chunking": …, "files": [{"path", "executable", "chunks": [[hexadecimal digits, length], …]}]}`,
the files sorted by the bytes of their paths. Nothing in it says where the chunks are stored, so the same data has the
same digest wherever it was built and pushed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from turnout.artifacts.chunks.cut import MAX_CHUNK, SCHEME
from turnout.domain.errors import InvalidRequest, UnsafeArchive
from turnout.domain.models import Digest
from turnout.manifest.values import path_fault
from turnout.ports import ArtifactStore

LONGEST_INDEX = 256 << 20  # bytes; of about 200 GB of data


class ChunkRef(NamedTuple):
    """A chunk: the SHA-256 of its bytes (32 bytes), and their number."""

    digest: bytes
    length: int


class Place(NamedTuple):
    """Where a chunk belongs: the number of the file in the index, and the offset in it."""

    file: int
    offset: int


@dataclass(frozen=True, slots=True)
class FileChunks:
    """A file of the data; its content is its chunks one after the other."""

    path: str
    executable: bool
    chunks: tuple[ChunkRef, ...]

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(chunk.length for chunk in self.chunks)


@dataclass(frozen=True)
class DataIndex:
    """The files, sorted by path."""

    files: tuple[FileChunks, ...]

    @cached_property
    def places(self) -> dict[ChunkRef, list[Place]]:
        """Each distinct chunk, in the order in which they first appear, with all its places."""
        found: dict[ChunkRef, list[Place]] = {}
        for number, file in enumerate(self.files):
            offset = 0
            for chunk in file.chunks:
                found.setdefault(chunk, []).append(Place(number, offset))
                offset += chunk.length
        return found

    @cached_property
    def size(self) -> int:
        """Number of bytes of all files."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> FileChunks | None:
        """One file."""
        return next((file for file in self.files if file.path == path), None)


def write_index(index: DataIndex) -> bytes:
    """The canonical JSON (RFC 8785): its keys are ASCII and given in order, its numbers are small integers."""
    files = [
        {
            "chunks": [(chunk.digest.hex(), chunk.length) for chunk in file.chunks],
            "executable": file.executable,
            "path": file.path,
        }
        for file in index.files
    ]
    document = {"chunking": SCHEME, "files": files, "schemaVersion": 1}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def read_index(store: ArtifactStore, digest: Digest) -> DataIndex:
    """A stored index. Raises `NotFound`, `DamagedContent`, and as `parse_index`."""
    return parse_index(store.read_all(digest, LONGEST_INDEX))


def parse_index(content: bytes) -> DataIndex:
    """Raises `InvalidRequest` for what is no index, `UnsafeArchive` for paths that would leave the release's folder."""
    try:
        parsed = _Index.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidRequest(f"this is no index of data: {place}: {first['msg']}") from None
    index = DataIndex(
        tuple(
            FileChunks(
                file.path,
                file.executable,
                tuple(ChunkRef(bytes.fromhex(digits), length) for digits, length in file.chunks),
            )
            for file in parsed.files
        )
    )
    _check_paths(index)
    if write_index(index) != content:
        raise InvalidRequest("this is no index of data: it is not canonical JSON")
    return index


def _check_paths(index: DataIndex) -> None:
    before: str | None = None
    for file in index.files:
        fault = "its name holds a NUL" if "\0" in file.path else path_fault(file.path)
        if fault or file.path != os.path.normpath(file.path):
            raise UnsafeArchive(f"the data holds {file.path!r}: {fault or 'its path is not in plain form'}")
        if before is not None and os.fsencode(before) >= os.fsencode(file.path):
            raise InvalidRequest(f"this is no index of data: {file.path!r} is there twice, or not in its place")
        before = file.path


# --- the strict shapes -----------------------------------------------------------------------------------------------

_Digits = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Length = Annotated[int, Field(ge=1, le=MAX_CHUNK)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str
    executable: bool
    chunks: tuple[tuple[_Digits, _Length], ...]


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1] = Field(alias="schemaVersion")
    chunking: str = Field(max_length=200)
    files: tuple[_File, ...]
