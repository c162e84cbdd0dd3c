"""Where to cut: FastCDC with pinned parameters. Another cut is another digest of the same data, so they never change.

Chunks have 64 KB on average: the library's `avg_size` counts from `min_size` on. Of the parameters with that average these
were the quickest, and the ones that send least after scattered changes: a large minimum costs nothing in looking for a
cut, and without normalization the cuts find back to the old ones soonest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from pyfastcdc import FastCDC

MIN_CHUNK = 32 << 10
AVERAGE_CHUNK = 64 << 10
MAX_CHUNK = 256 << 10
NORMALIZATION: Literal[0] = 0
SCHEME = f"fastcdc-2020/{MIN_CHUNK}/{AVERAGE_CHUNK}/{MAX_CHUNK}/{NORMALIZATION}"


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def cut(source: Readable) -> Iterator[bytes]:
    """The bytes of a source in chunks, none of them empty."""
    chunker = FastCDC(
        AVERAGE_CHUNK - MIN_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK, normalized_chunking=NORMALIZATION
    )
    for chunk in chunker.cut_stream(source):
        yield bytes(chunk.data)
