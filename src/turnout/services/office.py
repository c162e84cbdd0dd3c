"""What every use case needs, and who asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from turnout.domain.errors import NotFound
from turnout.domain.models import ComponentRef, Digest, Pointer, Release, ReleaseSpec
from turnout.domain.policy import Role, Verb, check_allowed
from turnout.ports import Account, ArtifactStore, Clock, Intake, Notary, Runtime, Snapshot, Store, StoredRecording
from turnout.schemas import ComponentDiff, GatewayProcessView, PromptView


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, known by a token."""

    name: str
    role: Role

    def check(self, verb: Verb, ring: str | None = None, *, last_ring: bool = False) -> None:
        """Raise `Forbidden` unless the actor may."""
        check_allowed(self.name, self.role, verb, ring, last_ring=last_ring)


@dataclass(frozen=True, slots=True)
class ReadRelease:
    """A release as its artifact tells of it."""

    components: Mapping[str, ComponentRef]
    spec: ReleaseSpec
    config: bytes


class RecordingDesk(Protocol):
    """Recordings and their documents."""

    def keep(self, agent: str, task: str, ring: str | None, actor: str) -> StoredRecording:
        """Record a task now, whatever the sample. Raises `NotFound`, `Conflict` for one that is under way."""

    def read(self, digest: Digest) -> bytes:
        """A document. Raises `NotFound`, `DamagedContent`."""

    def forget(self, recordings: Sequence[StoredRecording], actor: str) -> None:
        """Forget recordings, and their documents if nothing else refers to them."""


@dataclass(frozen=True, slots=True)
class Office:
    """The ports and functions that the use cases work with."""

    store: Store
    artifacts: ArtifactStore
    intake: Intake
    notary: Notary
    runtime: Runtime
    clock: Clock
    wake: Callable[[str, str], None]  # tells the controller that a ring has changed
    serves: Callable[[Pointer], bool]  # whether callers are routed as a pointer says
    new_id: Callable[[str], str]  # prefix → unique id
    read_release: Callable[[Digest], ReadRelease]  # from the artifact store, verified
    diff: Callable[[Release, Release], list[ComponentDiff]]
    read_texts: Callable[[ComponentRef], list[PromptView]]  # the files of a component that is an archive
    traffic_url: str  # such as http://127.0.0.1:8080
    recordings: RecordingDesk
    accounts: Callable[[], tuple[Account, ...]] = tuple  # what calls have spent; none without a gateway
    gateway: Callable[[], list[GatewayProcessView]] = list  # its processes; none without a gateway


def find_release(snapshot: Snapshot, agent: str, ref: str) -> Release:
    """A release by digest, by the first digits of one, by version tag, or as `ring:NAME`. Raises `NotFound`."""
    if ref.startswith("ring:"):
        ring = ref.removeprefix("ring:")
        check_ring(snapshot, agent, ring)
        stable = snapshot.pointer(agent, ring).stable
        if stable is None:
            raise NotFound(f"nothing is active in {ring} of {agent}", hint="deploy or promote a release to it first")
        found = snapshot.release(stable)
    elif ref.startswith("sha256:") and len(ref) == 71:
        found = snapshot.release(Digest(ref))
    else:
        found = snapshot.release_tagged(agent, ref)
        if found is None and len(ref.removeprefix("sha256:")) >= 6:
            digits = f"sha256:{ref.removeprefix('sha256:')}"
            matching = [release for release in snapshot.releases(agent) if release.digest.startswith(digits)]
            found = matching[0] if len(matching) == 1 else None
    if found is None or found.agent != agent:
        check_agent(snapshot, agent)
        raise NotFound(
            f"agent {agent} has no release {ref!r}",
            hint=f"`turnout history {agent} --releases` lists them; a release is named by version, digest or ring:NAME",
        )
    return found


def check_agent(snapshot: Snapshot, agent: str) -> None:
    """Raise `NotFound` for an agent that nobody has released."""
    agents = snapshot.agents()
    if agent not in agents:
        known = f"known agents: {', '.join(agents)}" if agents else "no agent has been released yet"
        raise NotFound(f"there is no agent {agent!r}", hint=f"{known}; `turnout deploy` in its folder makes it known")


def ring_names(snapshot: Snapshot, agent: str) -> tuple[str, ...]:
    """The rings of an agent in promotion order, as its newest release declares them; rings in use are never left out."""
    check_agent(snapshot, agent)
    newest = snapshot.releases(agent)[:1]
    declared = [ring.name for release in newest for ring in release.spec.rings]
    in_use = [pointer.ring for pointer in snapshot.pointers(agent)]
    return tuple(dict.fromkeys([*declared, *in_use]))


def check_ring(snapshot: Snapshot, agent: str, ring: str) -> None:
    """Raise `NotFound` for an agent or ring that is not known."""
    rings = ring_names(snapshot, agent)
    if ring not in rings:
        raise NotFound(f"agent {agent} has no ring {ring!r}", hint=f"its rings are {', '.join(rings)}")


def find_way_back(snapshot: Snapshot, pointer: Pointer) -> Digest | None:
    """Last-good, unless a fault of it was seen elsewhere since; else what was active before stable was, newest first, and
    is not in quarantine.
    """
    good, stable = pointer.last_good, pointer.stable
    if good is not None and snapshot.quarantine(pointer.agent, good) is None:
        return good
    history = snapshot.activations(pointer.agent, pointer.ring)
    first = len(history) - 1 - history[::-1].index(stable) if stable in history else -1
    for digest in dict.fromkeys(history[first + 1 :]):
        if digest != stable and snapshot.quarantine(pointer.agent, digest) is None:
            return digest
    return None
