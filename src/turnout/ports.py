"""What turnout asks of the outside, one narrow Protocol each.

Adapters implement these and are built in `server.py` only. Each port has one contract suite in `tests/contract/` that runs
on every implementation, the fake included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from turnout.domain.models import (
    Digest,
    HealthCheck,
    Release,
    ReplicaSpec,
    ReplicaStatus,
    Routes,
    SmokeResult,
    SmokeTask,
)


class Clock(Protocol):
    """The time, as an argument of everything else."""

    def now(self) -> float:
        """Seconds since the epoch."""


class ArtifactStore(Protocol):
    """Content-addressed blobs and the tags that name releases. Every read is verified against its digest."""

    def has(self, digest: Digest) -> bool:
        """Whether a blob is stored under the digest (its bytes are checked when they are read)."""

    def size(self, digest: Digest) -> int:
        """Number of bytes. Raises `NotFound`."""

    def write(self, chunks: Iterable[bytes], expected: Digest | None = None) -> Digest:
        """Store a blob and return its digest. Atomic: a reader sees all of it or nothing.

        Raises `DamagedContent` when the bytes do not have the expected digest, `StorageFull` when the disk is full;
        nothing is kept then. Writing what is already there changes nothing.
        """

    def read(self, digest: Digest) -> Iterator[bytes]:
        """The bytes in chunks. Raises `NotFound`; `DamagedContent` at the latest before the last chunk is given out."""

    def read_all(self, digest: Digest, limit: int = 16 << 20) -> bytes:
        """A small blob, verified before it is returned. Raises `NotFound`, `DamagedContent`, `InvalidRequest` if larger."""

    def put_release(self, manifest: bytes, release: Digest, tags: Iterable[str] = ()) -> None:
        """Record an OCI image manifest for a release (all its blobs must be stored) and let the tags name it.

        Raises `NotFound` naming the first missing blob, `DamagedContent` for a manifest that is not of that release.
        """

    def releases(self) -> dict[Digest, tuple[str, ...]]:
        """Every recorded release and its tags."""

    def damages(self) -> Iterator[tuple[Digest, str]]:
        """Read everything; give each blob that is damaged or missing with a sentence that says which and why."""


class Runtime(Protocol):
    """Runs replicas. Survives a restart of the server: what ran goes on running and is observed again."""

    def prepare(self, release: Release) -> None:
        """Unpack the release and build its locked environment. Blocking, idempotent, safe to repeat after a crash.

        Raises `BuildFailed` (a dependency does not install), `StorageFull`, `DamagedContent`.
        """

    def start(self, replica: ReplicaSpec) -> None:
        """Start a replica that was prepared; returns at once. Idempotent per (id, attempt). Raises `RuntimeUnavailable`."""

    def stop(self, replica_id: str, grace: float) -> None:
        """Ask a replica to end, and end it by force after `grace` seconds; returns at once. Idempotent.

        A stopped replica leaves `observe()` once it has ended.
        """

    def observe(self) -> tuple[ReplicaStatus, ...]:
        """All replicas that run here, or that ended without being stopped. Cheap: called several times a second."""

    def log_files(self, agent: str, ring: str) -> tuple[Path, ...]:
        """The log files of a ring's replicas, oldest first."""


class Router(Protocol):
    """The proxy in the callers' path."""

    def apply(self, routes: Routes) -> None:
        """Route so; returns when the proxy serves it. Make before break: a backend is known before a route names it.

        Idempotent. Raises `RouterUnavailable`; the proxy then keeps what it had.
        """

    def active_requests(self, agent: str, ring: str, digest: Digest) -> int:
        """Requests, streams and upgraded connections under way on a backend; 0 for one it does not know."""


class Prober(Protocol):
    """Asks replicas over HTTP."""

    def healthy(self, address: str, check: HealthCheck) -> str | None:
        """None when the health endpoint answers 2xx, else why not."""

    def smoke(self, address: str, tasks: tuple[SmokeTask, ...]) -> SmokeResult:
        """Run the smoke tasks in order until one fails. Blocking."""


@dataclass(frozen=True, slots=True)
class AccessLogChunk:
    """Complete lines of the proxy's access log and the cursor after them."""

    lines: tuple[bytes, ...]
    cursor: str


class AccessLog(Protocol):
    """The proxy's durable record of every request."""

    def read(self, cursor: str | None, limit: int = 5_000) -> AccessLogChunk:
        """Complete lines after the cursor (None: from the oldest kept). Survives rotation."""
