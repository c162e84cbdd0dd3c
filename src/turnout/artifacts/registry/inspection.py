"""Reading everything that a repository records, releases and what refers to them; see `inventory.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from turnout.artifacts.inventory import Recorded, find_damages
from turnout.artifacts.registry.answers import RegistryFault
from turnout.artifacts.registry.client import RegistryClient
from turnout.artifacts.registry.downloads import read_small, verified_chunks
from turnout.artifacts.registry.listing import Listed
from turnout.artifacts.registry.referrers import Referrers
from turnout.domain.errors import DamagedContent, NotFound
from turnout.domain.models import Digest, short_digest
from turnout.ports import Referrer


@dataclass(frozen=True, slots=True)
class RepositoryInspection:
    """What `find_damages` asks. A registry has no list of its blobs, so only what is recorded is read."""

    client: RegistryClient
    referrers: Referrers
    listed: tuple[Listed, ...]

    def damages(self, release: Digest | None = None) -> Iterator[tuple[Digest, str]]:
        """Each blob that is damaged or missing, with a sentence that says which and why."""
        for item in self.listed:
            if item.manifest is None and release in (None, item.release):
                yield (
                    item.release,
                    f"release {short_digest(item.release)}: its manifest and its document cannot be read",
                )
        yield from find_damages(self, release)

    def recorded(self) -> tuple[Recorded, ...]:
        """All releases whose manifest is known."""
        return tuple(Recorded(item.release, item.manifest, item.tags) for item in self.listed if item.manifest)

    def stored(self) -> Iterable[Digest]:
        """Nothing beyond what is recorded."""
        return ()

    def read_all(self, digest: Digest, limit: int = 16 << 20) -> bytes:
        """See `ArtifactStore`."""
        return read_small(self.client, digest, limit)

    def fault(self, digest: Digest) -> str | None:
        """Read a blob; None when it has its digest, else what is wrong with it."""
        try:
            for _ in verified_chunks(self.client, digest):
                pass
        except (DamagedContent, NotFound, RegistryFault) as error:
            return error.message
        return None

    def attached(self, manifest: Digest) -> tuple[Referrer, ...]:
        """What refers to a manifest."""
        return self.referrers.find(manifest)
