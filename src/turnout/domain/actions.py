"""What a plan decides to do, as values. The controller applies them; nothing here does anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from turnout.domain.breakers import Trip
from turnout.domain.models import Condition, Deployment, Digest, Judgement, ReplaySettings
from turnout.domain.phases import Phase


@dataclass(frozen=True, slots=True)
class Move:
    """Take a deployment into another state; nothing else changes."""

    deployment: str
    target: Phase
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Say what a deployment waits for."""

    deployment: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Prepare:
    """Start to unpack the release of a deployment and to build its environment."""

    deployment: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Verify:
    """Attest what led to a deployment, and check that its release has the attestations that are demanded."""

    deployment: str
    digest: Digest
    demanded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MarkPrepared:
    """The release of a deployment can be started."""

    deployment: str


@dataclass(frozen=True, slots=True)
class RunReplay:
    """Start to ask recorded tasks of the release of a deployment, apart from all traffic."""

    deployment: str
    digest: Digest
    asked: ReplaySettings


@dataclass(frozen=True, slots=True)
class RunSmoke:
    """Start the smoke tasks of a deployment against a ready replica of it."""

    deployment: str
    digest: Digest
    address: str


@dataclass(frozen=True, slots=True)
class MarkSmokePassed:
    """The smoke tasks of a deployment passed."""

    deployment: str


@dataclass(frozen=True, slots=True)
class EnterStep:
    """Give the candidate the weight of a canary step."""

    deployment: str
    step: int
    weight: int


@dataclass(frozen=True, slots=True)
class Activate:
    """Make the deployment the active one and flip the pointer, in one transaction.

    `bakes`: it is judged on; `holdback`: basis points that the release it replaces keeps meanwhile.
    """

    deployment: str
    reason: str
    bakes: bool = False
    holdback: int = 0


@dataclass(frozen=True, slots=True)
class Retreat:
    """Take a candidate out of the traffic and begin to restore what was stable."""

    deployment: str
    reason: str
    quarantine: bool
    cause: Judgement | Trip | None = None  # None: a person, or the release did not work at all


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Roll the active release back to last-good: it is worse than that, or a breaker tripped."""

    digest: Digest  # that has to go
    reason: str
    cause: Judgement | Trip


@dataclass(frozen=True, slots=True)
class MarkTripped:
    """A breaker tripped, and there is nothing to go back to: calls of the release are stopped; say so once."""

    deployment: str
    cause: Trip


@dataclass(frozen=True, slots=True)
class StopCalls:
    """A breaker that was half open tripped again, for a release that the ring does not route to."""

    cause: Trip


@dataclass(frozen=True, slots=True)
class EndBake:
    """The active release is judged no more."""

    deployment: str
    reason: str


@dataclass(frozen=True, slots=True)
class StartReplica:
    """Start a replica, for the first time or again."""

    digest: Digest
    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class BeginDrain:
    """Note since when a replica that nobody wants is being drained."""

    replica: str


@dataclass(frozen=True, slots=True)
class StopReplica:
    """Stop a replica."""

    replica: str
    grace: float


@dataclass(frozen=True, slots=True)
class ForgetRetired:
    """Stop keeping a release warm."""

    digest: Digest


Action = (
    Move
    | Wait
    | Prepare
    | Verify
    | MarkPrepared
    | RunReplay
    | RunSmoke
    | MarkSmokePassed
    | EnterStep
    | Activate
    | Retreat
    | TakeBack
    | MarkTripped
    | StopCalls
    | EndBake
    | StartReplica
    | BeginDrain
    | StopReplica
    | ForgetRetired
)


def wait(deployment: Deployment, type_: str, message: str, now: float) -> Iterator[Action]:
    """Only when it says something new, so that a ring at rest plans nothing."""
    current = deployment.condition
    if current is None or (current.type, current.message) != (type_, message):
        yield Wait(deployment.id, Condition(type_, message, now))
