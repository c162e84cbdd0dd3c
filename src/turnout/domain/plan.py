"""plan(view, now) → actions: what to do next for one ring. Pure, and the only place that decides.

Level-triggered: it looks at what is wanted and what is observed, never at what was done before. Applying its actions and
planning again converges; a converged ring plans nothing. A rollback is planned before everything else.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from turnout.domain.actions import (
    Action,
    Activate,
    BeginDrain,
    ForgetRetired,
    MarkPrepared,
    MarkSmokePassed,
    Move,
    Prepare,
    Retreat,
    RunReplay,
    RunSmoke,
    StartReplica,
    StopReplica,
    Verify,
    wait,
)
from turnout.domain.evidence import find_needs
from turnout.domain.models import (
    Deployment,
    Digest,
    Kind,
    ReplicaState,
    ReplicaStatus,
    RingSettings,
    short_digest,
)
from turnout.domain.phases import Phase
from turnout.domain.policy import approvals_needed, assess_approvals, attestations_needed
from turnout.domain.ramp import plan_canary, plan_verdicts
from turnout.domain.replay_gate import replay_asked, replay_fault
from turnout.domain.replicas import describe_exit, in_crash_loop, next_attempt
from turnout.domain.routes import warm_digests
from turnout.domain.view import RingView

# --- deciding --------------------------------------------------------------------------------------------------------


def plan(view: RingView, now: float) -> tuple[Action, ...]:
    """What to do now, in order. Empty: nothing until something changes or time passes."""
    actions: list[Action] = []
    if view.rollback is not None:
        actions.extend(_plan_rollback(view, view.rollback, now))
    else:
        actions.extend(plan_verdicts(view, now))
    if view.deployment is not None and not any(isinstance(action, Retreat) for action in actions):
        actions.extend(_plan_deployment(view, view.deployment, now))
    if view.routed:
        actions.extend(
            Move(deployment.id, Phase.ROLLED_BACK, f"{_version(view, view.pointer.stable)} serves {deployment.ring}")
            for deployment in view.rolling_back
        )
    actions.extend(_plan_retired(view, now))
    actions.extend(_plan_starts(view, now))
    actions.extend(_plan_stops(view, now))
    return tuple(actions)


def _plan_rollback(view: RingView, rollback: Deployment, now: float) -> Iterator[Action]:
    """To a warm release at once; to one that is not, through the states of a deployment, without gates and canary."""
    if rollback.abort is None and _is_warm(view, rollback.digest):
        yield Activate(rollback.id, rollback.reason or "rolled back")
        return
    yield from _plan_deployment(view, rollback, now)


def _plan_deployment(view: RingView, deployment: Deployment, now: float) -> Iterator[Action]:
    if deployment.abort is not None:
        reason = f"aborted by {deployment.abort.actor}: {deployment.abort.reason}"
        yield _plan_end(deployment, reason, quarantine=deployment.abort.quarantine)
        return
    doubt = view.quarantine if deployment.kind is not Kind.ROLLBACK else None
    if doubt is not None and not doubt.is_answered_for(deployment):
        # It was fine when it was asked for, and was taken back for a fault elsewhere since.
        yield _plan_end(deployment, f"in quarantine: {doubt.reason}", quarantine=False)
        return
    by_phase = {
        Phase.QUEUED: _plan_queued,
        Phase.BUILDING: _plan_building,
        Phase.DEPLOYING: _plan_deploying,
        Phase.VALIDATING: _plan_validating,
    }
    yield from by_phase[deployment.phase](view, deployment, now)


def _plan_end(deployment: Deployment, reason: str, *, quarantine: bool) -> Action:
    """Each state has its own way out."""
    if deployment.phase is Phase.QUEUED:
        return Move(deployment.id, Phase.BUILDING, reason)
    if deployment.phase is Phase.VALIDATING:
        had_traffic = deployment.rollout.step >= 0
        return Retreat(deployment.id, reason, quarantine=quarantine and had_traffic)
    return Move(deployment.id, Phase.FAILED, reason)


def _plan_queued(view: RingView, deployment: Deployment, now: float) -> Iterator[Action]:
    if view.slot_free or deployment.kind is Kind.ROLLBACK:
        yield Move(deployment.id, Phase.BUILDING, "a build slot is free")
    else:
        yield from wait(deployment, "build_slot", "waiting for a build slot", now)


def _plan_building(view: RingView, deployment: Deployment, now: float) -> Iterator[Action]:
    if not deployment.prepared:
        job = view.preparations.get(deployment.id)
        if job is None:
            yield Prepare(deployment.id, deployment.digest)
            yield from wait(deployment, "preparing", "unpacking the release and building its environment", now)
        elif not job.over:
            yield from wait(deployment, "preparing", "unpacking the release and building its environment", now)
        elif job.error is not None:
            yield Move(deployment.id, Phase.FAILED, job.error)
        else:
            yield MarkPrepared(deployment.id)
        return
    if deployment.kind is Kind.ROLLBACK:
        yield from _plan_verification(view, deployment, "a rollback needs no approval", now)
        return
    if (yield from _plan_replay(view, deployment, now)):
        yield from _plan_approval(view, deployment, now)


def _plan_replay(view: RingView, deployment: Deployment, now: float) -> Generator[Action, None, bool]:
    """Whether the way is free. What was found is kept: nothing is asked again while approvals are waited for."""
    candidate = view.releases[deployment.digest]
    stable = view.releases.get(view.pointer.stable) if view.pointer.stable else None
    asked = replay_asked(candidate, stable, deployment.ring) if deployment.override is None else None
    if asked is None:
        return True
    if view.replay is not None:
        fault = replay_fault(asked, view.replay, deployment.ring)
    else:
        job = view.replays.get(deployment.id)
        if job is None:
            yield RunReplay(deployment.id, deployment.digest, asked)
        if job is None or not job.over:
            message = (job.message if job is not None else "") or f"replaying recorded tasks of {asked.source}"
            yield from wait(deployment, "replaying", message, now)
            return False
        fault = job.error if asked.changed is not None else None
    if fault is None:
        return True
    yield Move(deployment.id, Phase.FAILED, fault)
    return False


def _plan_approval(view: RingView, deployment: Deployment, now: float) -> Iterator[Action]:
    candidate = view.releases[deployment.digest]
    stable = view.releases.get(view.pointer.stable) if view.pointer.stable else None
    if view.unproven and deployment.override is None:  # it was fine when it was asked for, and has grown old since
        yield from wait(deployment, "awaiting_evals", "; ".join(view.unproven), now)
        return
    needed, groups = (
        approvals_needed(candidate, stable, deployment.ring),
        find_needs(candidate, stable, deployment.ring),
    )
    status = assess_approvals(needed, candidate.author, view.approvals, now, groups.approvers)
    if status.rejected_by is not None:
        yield Move(deployment.id, Phase.FAILED, status.describe())
    elif status.satisfied:
        reason = f"approved by {', '.join(status.approvers)}" if needed else "no approval is needed"
        yield from _plan_verification(view, deployment, reason, now)
    else:
        yield from wait(deployment, "awaiting_approval", status.describe(), now)


def _plan_verification(view: RingView, deployment: Deployment, reason: str, now: float) -> Iterator[Action]:
    """Approvals and promotion are attested in any case; only where the ring demands attestations does anything wait."""
    candidate = view.releases[deployment.digest]
    stable = view.releases.get(view.pointer.stable) if view.pointer.stable else None
    demanded = attestations_needed(candidate, stable, deployment.ring) if deployment.override is None else ()
    if deployment.kind is Kind.ROLLBACK:
        demanded = tuple(kind for kind in demanded if kind != "approval")
    job = view.verifications.get(deployment.id)
    if job is None:
        yield Verify(deployment.id, deployment.digest, demanded)
    if not demanded:
        yield Move(deployment.id, Phase.DEPLOYING, reason)
    elif job is None or not job.over:
        yield from wait(deployment, "verifying", f"verifying {', '.join(demanded)}", now)
    elif job.error is not None:
        yield Move(deployment.id, Phase.FAILED, job.error)
    else:
        yield Move(deployment.id, Phase.DEPLOYING, f"{reason}; {', '.join(demanded)} verified")


def _plan_deploying(view: RingView, deployment: Deployment, now: float) -> Iterator[Action]:
    settings = view.settings(deployment.digest)
    replicas = [replica for replica in view.replicas if replica.digest == deployment.digest]
    ready = sum(replica.state is ReplicaState.READY for replica in replicas)
    if ready >= settings.replicas:
        yield Move(deployment.id, Phase.VALIDATING, f"{ready} of {settings.replicas} replicas are ready")
        return
    looping = next((replica for replica in replicas if in_crash_loop(replica)), None)
    limit = view.releases[deployment.digest].spec.health.start_timeout
    if looping is not None:
        yield Move(deployment.id, Phase.FAILED, f"replica {looping.index} keeps ending: {describe_exit(looping)}")
    elif now - deployment.phase_at > limit:
        yield Move(deployment.id, Phase.FAILED, f"not ready within {limit:g} s: {_describe_unready(replicas)}")
    else:
        message = f"waiting until {settings.replicas} replicas are ready"
        yield from wait(deployment, "starting", message, now)


def _plan_validating(view: RingView, deployment: Deployment, now: float) -> Iterator[Action]:
    replicas = [replica for replica in view.replicas if replica.digest == deployment.digest]
    looping = next((replica for replica in replicas if in_crash_loop(replica)), None)
    if looping is not None:
        reason = f"replica {looping.index} keeps ending: {describe_exit(looping)}"
        yield Retreat(deployment.id, reason, quarantine=deployment.rollout.step >= 0)
    elif not deployment.smoke_passed:
        yield from _plan_smoke(view, deployment, replicas, now)
    elif not any(replica.state is ReplicaState.READY for replica in replicas):
        yield from _plan_unready(view, deployment, replicas, now)
    elif not view.routed:
        yield from wait(deployment, "proxy", "waiting until the proxy takes the routes", now)
    else:
        yield from plan_canary(view, deployment, now)


def _plan_unready(
    view: RingView, deployment: Deployment, replicas: list[ReplicaStatus], now: float
) -> Iterator[Action]:
    """A candidate that answers no more goes no further; when it stays so, it goes back."""
    condition = deployment.condition
    limit = view.releases[deployment.digest].spec.health.start_timeout
    if condition is not None and condition.type == "unready" and now - condition.since > limit:
        reason = f"no replica is ready: {_describe_unready(replicas)}"
        yield Retreat(deployment.id, reason, quarantine=deployment.rollout.step >= 0)
    else:
        yield from wait(deployment, "unready", "no replica of the candidate is ready", now)


def _plan_smoke(view: RingView, deployment: Deployment, replicas: list[ReplicaStatus], now: float) -> Iterator[Action]:
    tasks = view.releases[deployment.digest].spec.smoke
    job = view.smoke.get(deployment.id)
    ready = next((replica for replica in replicas if replica.state is ReplicaState.READY), None)
    if not tasks or (job is not None and job.over and job.error is None):
        yield MarkSmokePassed(deployment.id)
    elif job is not None and job.over:
        yield Retreat(deployment.id, str(job.error), quarantine=False)
    elif job is None and ready is not None and ready.address is not None:
        yield RunSmoke(deployment.id, deployment.digest, ready.address)
        yield from wait(deployment, "smoke", f"running {len(tasks)} smoke tasks", now)
    elif now - deployment.phase_at > view.releases[deployment.digest].spec.health.start_timeout and ready is None:
        yield Retreat(deployment.id, f"no replica is ready: {_describe_unready(replicas)}", quarantine=False)


# --- replicas --------------------------------------------------------------------------------------------------------


def _plan_retired(view: RingView, now: float) -> Iterator[Action]:
    in_use = {deployment.digest for deployment in (view.deployment, view.rollback) if deployment is not None}
    for retired in view.pointer.retired:
        if retired.digest not in in_use and now - retired.at >= view.settings(retired.digest).warm:
            yield ForgetRetired(retired.digest)


def _plan_starts(view: RingView, now: float) -> Iterator[Action]:
    observed = {(replica.digest, replica.index): replica for replica in view.replicas}
    for digest in wanted_digests(view):
        for index in range(view.settings(digest).replicas):
            replica = observed.get((digest, index))
            if replica is None:
                yield StartReplica(digest, index, 1)
            elif replica.state is ReplicaState.EXITED:
                attempt, earliest = next_attempt(replica)
                if now >= earliest:
                    yield StartReplica(digest, index, attempt)


def _plan_stops(view: RingView, now: float) -> Iterator[Action]:
    """A replica that nobody wants is stopped once it is out of the routes and has finished what it was doing."""
    wanted = set(wanted_digests(view))
    for replica in view.replicas:
        release = view.releases.get(replica.digest)
        settings = release.spec.ring(replica.ring) if release is not None else None
        if replica.digest in wanted and replica.index < view.settings(replica.digest).replicas:
            continue
        grace = settings.stop_grace if settings else RingSettings(replica.ring).stop_grace
        drain = settings.drain if settings else RingSettings(replica.ring).drain
        since = view.draining_since.get(replica.id)
        if replica.state is ReplicaState.STOPPING or not view.routed:
            continue
        if replica.state is ReplicaState.EXITED:
            yield StopReplica(replica.id, grace)
        elif since is None:
            yield BeginDrain(replica.id)
        elif now - since >= drain or not view.active_requests.get(replica.digest, 0):
            yield StopReplica(replica.id, grace)


def wanted_digests(view: RingView) -> tuple[Digest, ...]:
    """The releases that must run: those the pointer names, and those being deployed."""
    started = (Phase.DEPLOYING, Phase.VALIDATING)
    deployed = [
        deployment.digest
        for deployment in (view.deployment, view.rollback)
        if deployment is not None and deployment.phase in started and deployment.abort is None
    ]
    return tuple(dict.fromkeys([*warm_digests(view.pointer), *deployed]))


def _is_warm(view: RingView, digest: Digest) -> bool:
    return digest in warm_digests(view.pointer) and any(
        replica.digest == digest and replica.state is ReplicaState.READY for replica in view.replicas
    )


# --- words -----------------------------------------------------------------------------------------------------------


def _version(view: RingView, digest: Digest | None) -> str:
    if digest is None:
        return "nothing"
    release = view.releases.get(digest)
    return release.version if release is not None else short_digest(digest)


def _describe_unready(replicas: list[ReplicaStatus]) -> str:
    unready = [replica for replica in replicas if replica.state is not ReplicaState.READY]
    if not unready:
        return "no replica could be started"
    first = unready[0]
    if first.state is ReplicaState.EXITED:
        return f"replica {first.index} {describe_exit(first)}"
    return f"replica {first.index}: {first.message or 'no answer from its health endpoint'}"
