"""Deployments and promotions: what starts one, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from turnout.domain.errors import Conflict, NotFound, PolicyRefused
from turnout.domain.events import Event, EventType
from turnout.domain.evidence import changed_components, describe_evidence, find_needs, find_unproven_suites
from turnout.domain.models import Deployment, Kind, Release, ReleaseSpec, RingSettings
from turnout.domain.phases import IN_PROGRESS, TERMINAL, Phase
from turnout.domain.policy import (
    ReleaseFaults,
    RingFacts,
    Verb,
    approvals_needed,
    attestations_needed,
    check_deploy,
    check_promotion,
    choose_reference,
    is_last_ring,
)
from turnout.domain.replay_gate import replay_asked
from turnout.domain.rollout import choose_canary, describe_target
from turnout.manifest.models import floating_fault
from turnout.ports import Snapshot
from turnout.schemas import DeploymentList, DeploymentView, PreviewView
from turnout.services.office import Actor, Office, check_agent, check_ring, find_release
from turnout.services.verification import find_problems
from turnout.services.views import view_deployment

_NO_FAULTS = ReleaseFaults()


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants deployed. `source` is the ring to promote from; None for a direct deployment."""

    agent: str
    ring: str
    release: str | None = None  # version, digest or ring:NAME; None: what is active in the source ring
    source: str | None = None
    override: str | None = None
    reason: str = ""
    force: bool = False


def deploy(office: Office, actor: Actor, wish: Wish) -> DeploymentView:
    """Start a deployment or promotion, or return the active one if the ring runs that release already.

    Raises `NotFound`, `Conflict` (one is in progress), `PolicyRefused` (order of rings, quarantine, source unhealthy).
    """
    actor.check(Verb.DEPLOY, wish.ring)
    if wish.override is not None:
        actor.check(Verb.OVERRIDE, wish.ring)
    now = office.clock.now()
    with office.store.snapshot() as snapshot:
        wished = _find_wished(snapshot, wish)
    faults = _read_faults(office, wished, wish.ring)  # reads blobs, so it comes before the transaction
    with office.store.transaction() as transaction:
        release = _find_wished(transaction, wish)
        if release.digest != wished.digest:
            raise Conflict(f"another release became active in {wish.source} just now", hint="do the same again")
        active = _already_active(transaction, wish, release)
        if active is not None:
            return view_deployment(transaction, active)
        overridden = _check(transaction, actor, wish, release, faults)
        if wish.override is not None:
            overridden += _later_gates(transaction, release, wish.ring)
        deployment = Deployment(
            id=office.new_id("dep"),
            agent=wish.agent,
            ring=wish.ring,
            digest=release.digest,
            kind=Kind.PROMOTE if wish.source else Kind.DEPLOY,
            phase=Phase.QUEUED,
            actor=actor.name,
            created_at=now,
            phase_at=now,
            reason=wish.reason,
            source_ring=wish.source,
            override=wish.override if overridden else None,
        )
        transaction.add_deployment(deployment)
        if overridden:
            data = {"overridden": list(overridden), "reason": wish.override}
            transaction.emit(
                Event(EventType.POLICY_OVERRIDDEN, now, actor.name, wish.agent, wish.ring, deployment.id, data)
            )
        view = view_deployment(transaction, deployment)
    office.wake(wish.agent, wish.ring)
    return view


def _later_gates(snapshot: Snapshot, release: Release, ring: str) -> tuple[str, ...]:
    """What an override passes over that would be asked only while the deployment is under way."""
    asked = replay_asked(release, find_stable(snapshot, release.agent, ring), ring)
    return () if asked is None else (f"no recorded tasks of {asked.source} are replayed before {ring}",)


def preview(office: Office, actor: Actor, wish: Wish, unpushed: Release | None = None) -> PreviewView:
    """What `deploy` would do, and every gate that it will meet. Changes nothing.

    `unpushed`: a release that was built and not yet pushed; only its spec and components are looked at.
    """
    actor.check(Verb.DEPLOY, wish.ring)
    with office.store.snapshot() as snapshot:
        known = snapshot.release(unpushed.digest) if unpushed else None
        release = known or unpushed or _find_wished(snapshot, wish)
        stored = known is not None or unpushed is None
        # The client checks the models of what it has not pushed; attestations come with the push.
        # What has to be shown is among the steps: a preview tells what is missing instead of ending there.
        faults = _read_faults(office, release, wish.ring)._replace(unproven=()) if stored else ReleaseFaults()
        active = _already_active(snapshot, wish, release)
        overridden = () if active else _check(snapshot, actor, wish, release, faults)
        if wish.override is not None and not active:
            overridden += _later_gates(snapshot, release, wish.ring)
        stable = find_stable(snapshot, wish.agent, wish.ring)
        steps = ["nothing: the ring runs it already"] if active else _steps(office, snapshot, release, wish.ring)
        rings = [ring.name for ring in release.spec.rings]
        later = rings[rings.index(wish.ring) + 1 :] if wish.ring in rings else []
        needs = {ring: gates for ring in later if (gates := describe_gates(office, snapshot, release, ring))}
    return {
        "agent": wish.agent,
        "ring": wish.ring,
        "digest": release.digest,
        "version": release.version,
        "kind": (Kind.PROMOTE if wish.source else Kind.DEPLOY).value,
        "steps": steps,
        "later": needs,
        "overrides": list(overridden),
        "changed": changed_components(stable, release),
        "config": list(diff_settings(release.spec, wish.source, wish.ring)),
    }


def _steps(office: Office, snapshot: Snapshot, release: Release, ring: str) -> list[str]:
    """The way of a release to active, gate by gate, in words."""
    spec: ReleaseSpec = release.spec
    settings = spec.ring(ring)
    if settings is None:
        return []
    stable = find_stable(snapshot, release.agent, ring)
    canary = choose_canary(settings, stable.spec.ring(ring) if stable else None)
    steps = [
        f"build: unpack the release, build its environment from {spec.lock}"
        if spec.lock
        else "build: unpack the release"
    ]
    steps += describe_gates(office, snapshot, release, ring)
    steps.append(f"deploy: start {settings.replicas} replicas, wait until GET {spec.health.path} answers")
    if spec.smoke:
        steps.append(f"smoke: {', '.join(task.name for task in spec.smoke)}")
    if stable is not None and stable.digest != release.digest:
        steps.extend(f"canary: {describe_target(step)}" for step in canary)
        steps.append(f"active: {stable.version} becomes last-good and stays warm")
    else:
        steps.append("active")
    return steps


def describe_gates(office: Office, snapshot: Snapshot, release: Release, ring: str) -> list[str]:
    """What a release has to show before it starts in a ring, and how far that is, in words."""
    stable = find_stable(snapshot, release.agent, ring)
    needs = find_needs(release, stable, ring)
    runs = snapshot.eval_runs(release.agent, release.digest) if needs.suites else ()
    before = snapshot.eval_runs(release.agent, stable.digest) if needs.suites and stable else ()
    gates = [f"evals: {text}" for text in describe_evidence(needs, runs, office.clock.now(), before)]
    asked = replay_asked(release, stable, ring)
    if asked is not None:
        most = "" if asked.changed is None else f", at most {asked.changed:.0%} may change"
        gates.append(f"replay: up to {asked.tasks} recorded tasks of {asked.source}{most}")
    needed = approvals_needed(release, stable, ring)
    if needed:
        groups = "".join(f", one by {' or '.join(group)}" for group in needs.approvers)
        gates.append(f"approval: {needed}, not by {release.author} alone{groups}")
    demanded = attestations_needed(release, stable, ring)
    if demanded:
        gates.append(f"verify: {', '.join(demanded)}, signed by keys that are trusted")
    return gates


def find_stable(snapshot: Snapshot, agent: str, ring: str) -> Release | None:
    """The release that serves a ring."""
    pointer = snapshot.pointer(agent, ring)
    return snapshot.release(pointer.stable) if pointer.stable else None


def diff_settings(spec: ReleaseSpec, source: str | None, ring: str) -> Iterator[str]:
    """What a release meets otherwise in the ring than in the one it comes from, such as `replicas: 1 → 2`."""
    before, after = spec.ring(source) if source else None, spec.ring(ring)
    if before is None or after is None:
        return
    for name in ("replicas", "approvals", "warm", "drain", "stop_grace"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name}: {old:g} → {new:g}"
    if before.floating_models != after.floating_models:
        yield f"floating models: {_taken(before)} → {_taken(after)}"
    for key in sorted({*before.env, *after.env}):
        if before.env.get(key) != after.env.get(key):
            yield f"env {key}: {before.env.get(key, '(none)')} → {after.env.get(key, '(none)')}"


def _taken(settings: RingSettings) -> str:
    return "accepted" if settings.floating_models else "refused"


def show_deployment(office: Office, actor: Actor, deployment_id: str) -> DeploymentView:
    """One deployment with its transitions."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        deployment = snapshot.deployment(deployment_id)
        if deployment is None:
            raise NotFound(f"there is no deployment {deployment_id!r}", hint="`turnout deployments list` shows them")
        return view_deployment(snapshot, deployment, transitions=True)


def is_settled(office: Office, shown: DeploymentView) -> bool:
    """Whether a deployment has come to its end; one that is active has when callers are routed to it."""
    phase = Phase(shown["state"])
    if phase is not Phase.ACTIVE:
        return phase in TERMINAL
    with office.store.snapshot() as snapshot:
        return office.serves(snapshot.pointer(shown["agent"], shown["ring"]))


def list_deployments(office: Office, actor: Actor, agent: str | None, ring: str | None, limit: int) -> DeploymentList:
    """Deployments, newest first."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        if agent is not None:
            check_agent(snapshot, agent)
            if ring is not None:
                check_ring(snapshot, agent, ring)
        found = snapshot.deployments(agent, ring, limit)
        return {"deployments": [view_deployment(snapshot, deployment) for deployment in found]}


def _find_wished(snapshot: Snapshot, wish: Wish) -> Release:
    if wish.release is not None:
        return find_release(snapshot, wish.agent, wish.release)
    if wish.source is None:
        raise NotFound("no release was named", hint="name a version or a digest")
    check_ring(snapshot, wish.agent, wish.source)
    stable = snapshot.pointer(wish.agent, wish.source).stable
    release = snapshot.release(stable) if stable else None
    if release is None:
        raise PolicyRefused(
            f"nothing is active in {wish.source} of {wish.agent}",
            hint=f"deploy or promote a release to {wish.source} first",
        )
    return release


def gather_facts(
    snapshot: Snapshot, agent: str, ring: str, release: Release, faults: ReleaseFaults = _NO_FAULTS
) -> RingFacts:
    """What the policy gate looks at for a release in a ring."""
    pointers = snapshot.pointers(agent)
    reference = choose_reference(tuple(item.name for item in release.spec.rings), ring, pointers)
    return RingFacts(
        release=release,
        ring=ring,
        pointers=pointers,
        in_progress=_in_progress(snapshot, agent, ring),
        quarantine=snapshot.quarantine(agent, release.digest),
        replicas=snapshot.replicas(agent),
        reference=snapshot.release(reference) if reference else None,
        faults=faults,
    )


def _read_faults(office: Office, release: Release, ring: str) -> ReleaseFaults:
    """What the release itself says against it."""
    with office.store.snapshot() as snapshot:
        stable = find_stable(snapshot, release.agent, ring)
        runs_of = partial(snapshot.eval_runs, release.agent)
        unproven = find_unproven_suites(release, stable, ring, runs_of, office.clock.now())
    return ReleaseFaults(_floating(office, release), find_problems(office, release, ring), unproven)


def _floating(office: Office, release: Release) -> tuple[str, ...]:
    """A sentence for each model of the release that floats."""
    ref = release.components.get("model")
    if ref is None:
        return ()
    model = json.loads(office.artifacts.read_all(ref.digest))
    callable_models = (model, *model["fallbacks"], *model.get("others", ()))
    faults = (floating_fault(item["provider"], item["name"]) for item in callable_models)
    return tuple(fault for fault in faults if fault)


def _check(snapshot: Snapshot, actor: Actor, wish: Wish, release: Release, faults: ReleaseFaults) -> tuple[str, ...]:
    facts = gather_facts(snapshot, wish.agent, wish.ring, release, faults)
    actor.check(Verb.DEPLOY, wish.ring, last_ring=is_last_ring(facts))
    if wish.source is None:
        return check_deploy(facts, wish.override)
    return check_promotion(facts, wish.source, wish.override)


def _already_active(snapshot: Snapshot, wish: Wish, release: Release) -> Deployment | None:
    """The active deployment of the ring, if it is of this release, nothing else is under way, and nobody insists."""
    pointer = snapshot.pointer(wish.agent, wish.ring)
    if wish.force or pointer.stable != release.digest or pointer.active_deployment is None:
        return None
    return None if _in_progress(snapshot, wish.agent, wish.ring) else snapshot.deployment(pointer.active_deployment)


def _in_progress(snapshot: Snapshot, agent: str, ring: str) -> Deployment | None:
    unfinished = snapshot.unfinished(agent, ring)
    return next((item for item in unfinished if item.phase in IN_PROGRESS), None)
