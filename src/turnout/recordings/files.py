"""Documents of recordings as files of the state folder: compressed, under the SHA-256 of their uncompressed bytes.

They hold what callers wrote, so they are for the user alone that runs turnout.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, SetupFailed, StorageFull
from turnout.domain.models import Digest
from turnout.durable import PRIVATE, replace_file

FOLDER = "recordings"  # of the state folder
LARGEST = 256 << 20  # bytes of a document; more is never unpacked
_LEVEL = 6
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class RecordingFiles:
    """Implements `RecordingStore` in a folder, which is made when it is not there. One server uses it at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with _disk_errors(root):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for partial in root.glob("*/.*"):  # left behind by a crash
                partial.unlink(missing_ok=True)

    def put(self, content: bytes) -> Digest:
        """See `RecordingStore`."""
        if len(content) > LARGEST:
            raise InvalidRequest(f"the document has {len(content):,} bytes; at most {LARGEST:,} are kept")
        digest = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
        path = self._path(digest)
        with _disk_errors(self._root):
            path.parent.mkdir(exist_ok=True, mode=0o700)
            if not self._is_intact(digest):
                replace_file(path, zstandard.ZstdCompressor(level=_LEVEL).compress(content), PRIVATE)
        return digest

    def read(self, digest: Digest) -> bytes:
        """See `RecordingStore`."""
        path = self._path(digest)
        try:
            with _disk_errors(self._root):
                packed = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"the recording {digest} is not in {self._root}") from None
        content = _unpacked(packed)
        if content is None or f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise DamagedContent(f"the recording {digest} is damaged", hint=f"remove it, or restore {path}")
        return content

    def delete(self, digest: Digest) -> None:
        """See `RecordingStore`."""
        with _disk_errors(self._root):
            self._path(digest).unlink(missing_ok=True)

    def digests(self) -> tuple[Digest, ...]:
        """See `RecordingStore`."""
        with _disk_errors(self._root):
            names = sorted(path.name.removesuffix(".zst") for path in self._root.glob("*/*.zst"))
        return tuple(Digest(f"sha256:{name}") for name in names if _DIGEST.fullmatch(f"sha256:{name}"))

    def _path(self, digest: Digest) -> Path:
        found = _DIGEST.fullmatch(digest)
        if found is None:
            raise InvalidRequest(f"{digest[:80]!r} is not a digest")
        return self._root / found[1][:2] / f"{found[1]}.zst"

    def _is_intact(self, digest: Digest) -> bool:
        try:
            self.read(digest)
        except (NotFound, DamagedContent):
            return False
        return True


def _unpacked(packed: bytes) -> bytes | None:
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= LARGEST:
            return None
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except zstandard.ZstdError:
        return None


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """What the operating system says, as an error of turnout; that a file is not there passes through."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"the disk that holds {root} is full", hint="free some space there") from error
        if error.errno == errno.EIO:
            raise DamagedContent(f"the disk cannot read {error.filename or root}: {error.strerror}") from error
        raise SetupFailed(f"{error.filename or root} cannot be used: {error.strerror or error}") from error
