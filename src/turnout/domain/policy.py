"""Who may do what, and which gates a deployment must pass before it starts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from turnout.domain.errors import Conflict, Forbidden, NotFound, PolicyRefused
from turnout.domain.evidence import find_needs
from turnout.domain.models import (
    ATTESTATION_KINDS,
    Approval,
    Deployment,
    Digest,
    Pointer,
    Quarantine,
    Release,
    ReplicaState,
    ReplicaStatus,
    short_digest,
)


class Role(StrEnum):
    """What a token may be used for."""

    ADMIN = "admin"
    OPERATOR = "operator"
    DEVELOPER = "developer"
    APPROVER = "approver"
    VIEWER = "viewer"
    REPORTER = "reporter"  # for agents and callers: says what became of tasks, and sees nothing


class Verb(StrEnum):
    """What somebody wants to do."""

    READ = "read"
    BUILD = "build"
    DEPLOY = "deploy"
    APPROVE = "approve"
    ROLL_BACK = "roll back"
    STEER = "steer breakers and budgets"
    OVERRIDE = "override a policy"
    ADMINISTER = "administer"
    REPORT = "report outcomes"


_ALLOWED: dict[Role, frozenset[Verb]] = {
    Role.ADMIN: frozenset(Verb),
    Role.OPERATOR: frozenset(
        {Verb.READ, Verb.BUILD, Verb.DEPLOY, Verb.APPROVE, Verb.ROLL_BACK, Verb.STEER, Verb.REPORT}
    ),
    Role.DEVELOPER: frozenset({Verb.READ, Verb.BUILD, Verb.DEPLOY, Verb.REPORT}),
    Role.APPROVER: frozenset({Verb.READ, Verb.APPROVE}),
    Role.VIEWER: frozenset({Verb.READ}),
    Role.REPORTER: frozenset({Verb.REPORT}),
}


def is_allowed(role: Role, verb: Verb) -> bool:
    """Whether a role holds a verb."""
    return verb in _ALLOWED[role]


def check_allowed(actor: str, role: Role, verb: Verb, ring: str | None = None, *, last_ring: bool = False) -> None:
    """Raise `Forbidden` unless the role holds the verb. Developers do not deploy to the last ring."""
    if verb not in _ALLOWED[role] or (role is Role.DEVELOPER and verb is Verb.DEPLOY and last_ring):
        where = f" in {ring}" if ring else ""
        raise Forbidden(
            f"{actor} has the role {role} and may not {verb}{where}",
            hint="use a token with a role that may: `turnout tokens create NAME --role ROLE`",
        )


@dataclass(frozen=True, slots=True)
class ApprovalStatus:
    """How far the approvals of (digest, ring) have come."""

    needed: int
    approvers: tuple[str, ...]
    rejected_by: str | None
    author_alone: bool
    lacking: tuple[tuple[str, ...], ...] = ()  # groups of which nobody has approved

    @property
    def satisfied(self) -> bool:
        """Whether the gate is open."""
        enough = len(self.approvers) >= self.needed and not self.author_alone
        return self.rejected_by is None and enough and not self.lacking

    def describe(self) -> str:
        """What is missing, before what is there: "1 of 1 approvals" alone reads like enough."""
        if self.rejected_by is not None:
            return f"rejected by {self.rejected_by}"
        missing = list(self._list_missing())
        have = f"approved by {', '.join(self.approvers)}" if self.approvers else ""
        if not missing:
            return f"{have}; nothing is missing" if have else "no approval is needed"
        return "; ".join([*missing, f"so far {have}"] if have else missing)

    def _list_missing(self) -> Iterator[str]:
        missing = self.needed - len(self.approvers)
        if missing > 0:
            more = "more " if self.approvers else ""
            yield f"1 {more}approval is missing" if missing == 1 else f"{missing} {more}approvals are missing"
        if self.author_alone and self.approvers:
            yield "somebody other than the release's author has to approve"
        for group in self.lacking:
            yield f"{' or '.join(group)} has to approve"


def approvals_needed(candidate: Release, stable: Release | None, ring: str) -> int:
    """The larger of what the candidate and the stable release ask: a release cannot lower the bar it must pass.

    A ring that demands signed approvals asks for one at least. What changed may ask for more.
    """
    settings = [release.spec.ring(ring) for release in (candidate, stable) if release is not None]
    asked = max((ring_settings.approvals for ring_settings in settings if ring_settings is not None), default=0)
    asked = max(asked, find_needs(candidate, stable, ring).approvals)
    return max(asked, 1 if "approval" in attestations_needed(candidate, stable, ring) else 0)


def attestations_needed(candidate: Release, stable: Release | None, ring: str) -> tuple[str, ...]:
    """The kinds that either the candidate or the stable release demands: a release cannot lower the bar it must pass."""
    settings = [release.spec.ring(ring) for release in (candidate, stable) if release is not None]
    asked = {kind for ring_settings in settings if ring_settings is not None for kind in ring_settings.require}
    return tuple(kind for kind in ATTESTATION_KINDS if kind in asked)


def assess_approvals(
    needed: int, author: str, approvals: Iterable[Approval], now: float, groups: Iterable[tuple[str, ...]] = ()
) -> ApprovalStatus:
    """Count the unexpired decisions, given oldest first; each approver's latest holds. The author alone never suffices.

    `groups`: of each somebody must have approved.
    """
    latest: dict[str, Approval] = {}
    for approval in approvals:
        latest[approval.approver] = approval
    valid = [approval for approval in latest.values() if approval.expires_at > now]
    rejected = next((approval.approver for approval in valid if not approval.approved), None)
    approvers = tuple(sorted(approval.approver for approval in valid if approval.approved))
    lacking = tuple(group for group in groups if not set(group) & set(approvers))
    alone = needed > 0 and set(approvers) <= {author}
    return ApprovalStatus(needed, approvers, rejected, author_alone=alone, lacking=lacking)


class ReleaseFaults(NamedTuple):
    """What is wrong with a release itself, a sentence each, found by reading it."""

    floating: tuple[str, ...] = ()  # models whose name changes its meaning
    unattested: tuple[str, ...] = ()  # what the ring demands of its attestations and is not there
    unproven: tuple[str, ...] = ()  # suites that it has not passed


@dataclass(frozen=True, slots=True)
class RingFacts:
    """What the policy gate looks at before a deployment is accepted.

    `reference` is the release that serves now (in the ring, else in a later one, else in an earlier one): the order of
    the rings must hold by it too, so that a release cannot open a shorter way for itself.
    """

    release: Release
    ring: str
    pointers: tuple[Pointer, ...]  # of all rings of the agent
    in_progress: Deployment | None
    quarantine: Quarantine | None
    replicas: tuple[ReplicaStatus, ...]  # of the agent, in all rings
    reference: Release | None = None
    faults: ReleaseFaults = field(default_factory=ReleaseFaults)


def check_deploy(facts: RingFacts, override: str | None) -> tuple[str, ...]:
    """Whether a direct deployment may start. Returns what the override overrode; raises otherwise.

    The first ring takes any release; a later ring takes only what is active in the ring before it, by promotion.
    """
    _check_ring(facts)
    _check_idle(facts)
    broken = list(_release_problems(facts))
    mend = _mend(facts)
    before = [order[order.index(facts.ring) - 1] for order in _orders(facts) if order.index(facts.ring) > 0]
    if before:
        broken.append(f"{facts.ring} is not the first ring; releases come to it by promotion from {before[0]}")
        mend = f"deploy to {_orders(facts)[0][0]} and promote"
    return _overridden(broken, override, hint=f"{mend}; or give --override REASON as an admin")


def check_promotion(facts: RingFacts, source_ring: str, override: str | None) -> tuple[str, ...]:
    """Whether a promotion from `source_ring` may start: sequential, and the source is active and healthy."""
    _check_ring(facts)
    _check_idle(facts)
    broken = list(_release_problems(facts))
    source = next((pointer for pointer in facts.pointers if pointer.ring == source_ring), None)
    for order in _orders(facts):
        if source_ring not in order or order.index(source_ring) != order.index(facts.ring) - 1:
            broken.append(f"rings are passed in order ({' → '.join(order)}), not from {source_ring} to {facts.ring}")
            break
    if source is None or source.stable != facts.release.digest:
        broken.append(f"{facts.release.version} is not the active release of {source_ring}")
    elif not _healthy(facts, source_ring):
        broken.append(f"{facts.release.version} is not healthy in {source_ring}: none of its replicas is ready")
    mend = (
        _mend(facts) if len(_release_problems(facts)) == len(broken) else "promote it ring by ring, once it is healthy"
    )
    return _overridden(broken, override, hint=f"{mend}; or give --override REASON as an admin")


def is_last_ring(facts: RingFacts) -> bool:
    """Whether the ring ends the way, by the release or by the one that serves: that is production, whatever its name."""
    return facts.ring == "production" or any(len(order) > 1 and order[-1] == facts.ring for order in _orders(facts))


def choose_reference(rings: tuple[str, ...], ring: str, pointers: Iterable[Pointer]) -> Digest | None:
    """The stable release by which the order of rings is also checked: of the ring itself, a later, or an earlier one."""
    stable = {pointer.ring: pointer.stable for pointer in pointers if pointer.stable is not None}
    at = rings.index(ring) if ring in rings else 0
    ordered = [ring, *reversed(rings[at:]), *reversed(rings[:at]), *sorted(stable)]
    return next((stable[name] for name in ordered if name in stable), None)


def _orders(facts: RingFacts) -> list[list[str]]:
    """The orders of rings that count: of the release, and of the reference where it knows the ring."""
    releases = [facts.release] if facts.reference is None else [facts.release, facts.reference]
    orders = [[ring.name for ring in release.spec.rings] for release in releases]
    return [order for order in orders if facts.ring in order]


def _check_ring(facts: RingFacts) -> None:
    rings = [ring.name for ring in facts.release.spec.rings]
    if facts.ring not in rings:
        raise NotFound(
            f"release {facts.release.version} of {facts.release.agent} has no ring {facts.ring!r}",
            hint=f"its rings are {', '.join(rings)}; rings are declared in turnout.toml",
        )


def _check_idle(facts: RingFacts) -> None:
    running = facts.in_progress
    if running is not None:
        raise Conflict(
            f"deployment {running.id} of {short_digest(running.digest)} is in progress in {facts.ring} ({running.phase})",
            hint=f"wait for it (`turnout deployments status {running.id}`) or end it (`turnout rollout abort "
            f"{running.agent} --ring {running.ring}`)",
        )


def describe_quarantine(release: Release, quarantine: Quarantine) -> str:
    """Such as `v2 is in quarantine: rolled back in production: wrong greeting (by ann)`."""
    return f"{release.version} is in quarantine: {quarantine.reason} (by {quarantine.actor})"


def _release_problems(facts: RingFacts) -> Sequence[str]:
    """What only another release mends."""
    found = facts.quarantine
    held = () if found is None else (describe_quarantine(facts.release, found),)
    return (*held, *_floating_problems(facts), *facts.faults.unattested, *facts.faults.unproven)


def _mend(facts: RingFacts) -> str:
    """What to do about the problems of a release."""
    if facts.faults.unattested and len(_release_problems(facts)) == len(facts.faults.unattested):
        return "add what is missing: `turnout deploy --sign` signs how it was built"
    if facts.faults.unproven and len(_release_problems(facts)) == len(facts.faults.unproven):
        return f"run what is missing: `turnout eval {facts.release.version}` in the agent's folder"
    return "deploy a mended release"


def _floating_problems(facts: RingFacts) -> Sequence[str]:
    """Both the release and the one that serves must allow floating models: a release cannot lower its own bar."""
    asked = (facts.release.spec.ring(facts.ring), facts.reference.spec.ring(facts.ring) if facts.reference else None)
    if all(settings is None or settings.floating_models for settings in asked):
        return ()
    allow = f"or allow it with floating_models = true in [rings.{facts.ring}]"
    return tuple(f"{sentence}, {allow}" for sentence in facts.faults.floating)


def _healthy(facts: RingFacts, ring: str) -> bool:
    return any(
        replica.ring == ring and replica.digest == facts.release.digest and replica.state is ReplicaState.READY
        for replica in facts.replicas
    )


def _overridden(broken: list[str], override: str | None, *, hint: str) -> tuple[str, ...]:
    if broken and override is None:
        raise PolicyRefused("; ".join(broken), hint=hint)
    return tuple(broken)


def check_known_digest(digest: Digest | None, ring: str, agent: str) -> Digest:
    """The stable digest of a ring, or `Conflict` when the ring has none."""
    if digest is None:
        raise Conflict(f"ring {ring} of {agent} has no active release yet", hint="deploy or promote one to it first")
    return digest
