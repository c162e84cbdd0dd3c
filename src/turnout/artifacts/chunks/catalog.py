"""Which bundles hold which chunks, learned from their footers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from turnout.artifacts.chunks.bundle import Stored, read_footer
from turnout.artifacts.chunks.index import ChunkRef, DataIndex
from turnout.domain.errors import DamagedContent, NotFound
from turnout.domain.models import Digest
from turnout.ports import ArtifactStore

_KEPT = 256  # footers in memory; a full bundle has about 40 KB of it


class Footers:
    """The footers of a store's bundles. They never change, so those used last are kept. Safe to share between threads."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._kept: OrderedDict[Digest, tuple[Stored, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, bundle: Digest) -> tuple[Stored, ...]:
        """What a bundle holds. Raises `NotFound`, `DamagedContent`."""
        with self._lock:
            if bundle in self._kept:
                self._kept.move_to_end(bundle)
                return self._kept[bundle]
        footer = read_footer(self._store, bundle)
        with self._lock:
            self._kept[bundle] = footer
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return footer

    def forget(self, bundles: Iterable[Digest]) -> None:
        """Read these again: they were damaged, or were written anew."""
        with self._lock:
            for bundle in bundles:
                self._kept.pop(bundle, None)

    def readable(self, bundles: Iterable[Digest]) -> dict[Digest, tuple[Stored, ...]]:
        """The footers of those bundles that are there and can be read."""
        found = {}
        for bundle in bundles:
            try:
                if self._store.has(bundle):
                    found[bundle] = self.read(bundle)
            except (DamagedContent, NotFound):
                continue
        return found


def choose_bundles(
    index: DataIndex, footers: Mapping[Digest, Sequence[Stored]]
) -> tuple[dict[Digest, list[Stored]], list[ChunkRef]]:
    """For each chunk of an index the first bundle that holds it: bundle → what to read there. And the chunks in none."""
    left = dict.fromkeys(index.places)
    chosen: dict[Digest, list[Stored]] = {}
    for bundle, footer in footers.items():
        for stored in footer:
            if stored.chunk in left:
                del left[stored.chunk]
                chosen.setdefault(bundle, []).append(stored)
    return chosen, list(left)


def runs(index: DataIndex, chunks: Iterable[ChunkRef]) -> list[tuple[int, int]]:
    """Chunks of an index as (first, count), by their numbers in `index.places`."""
    numbers = {chunk: number for number, chunk in enumerate(index.places)}
    found: list[tuple[int, int]] = []
    for number in sorted(numbers[chunk] for chunk in chunks):
        if found and sum(found[-1]) == number:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((number, 1))
    return found


def chunks_of(index: DataIndex, found: Iterable[tuple[int, int]]) -> list[ChunkRef]:
    """The chunks that `runs` named."""
    chunks = list(index.places)
    return [chunk for first, count in found for chunk in chunks[first : first + count]]
