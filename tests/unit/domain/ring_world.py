"""One ring in memory: an interpreter of the actions of a plan, and everything that can happen to a ring from outside.

It changes the pointer by `domain.pointers` and states by the transition table, as the controller's ledger does, and checks
the invariants of a ring after every single action: a crash may come after any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.domain.values import AGENT, RING, make_approval, make_replica
from turnout.domain.actions import (
    Action,
    Activate,
    BeginDrain,
    EndBake,
    EnterStep,
    ForgetRetired,
    MarkPrepared,
    MarkSmokePassed,
    MarkTripped,
    Move,
    Prepare,
    Retreat,
    RunSmoke,
    StartReplica,
    StopReplica,
    TakeBack,
    Wait,
)
from turnout.domain.breakers import Trip
from turnout.domain.models import (
    FULL_WEIGHT,
    Abort,
    Approval,
    Breaker,
    BreakerScope,
    Deployment,
    Digest,
    Judgement,
    Kind,
    Pointer,
    Quarantine,
    Release,
    ReplicaState,
    ReplicaStatus,
    replica_id,
)
from turnout.domain.phases import IN_PROGRESS, TERMINAL, Phase, check_transition
from turnout.domain.plan import plan, wanted_digests
from turnout.domain.pointers import (
    MOST_RETIRED,
    activate,
    end_bake,
    forget_retired,
    roll_back,
    shift_traffic,
    withdraw_candidate,
)
from turnout.domain.routes import ring_weights, warm_digests
from turnout.domain.view import Job, RingView

MOST_ROUNDS = 50
LEVELS = 3
BREAKER = Breaker(BreakerScope.DEPLOYMENT, "error_rate", 0.3)
_WAY_TO_ACTIVE = (Phase.QUEUED, Phase.BUILDING, Phase.DEPLOYING, Phase.VALIDATING, Phase.ACTIVE)
_WAY_OUT = {
    Phase.QUEUED: (Phase.BUILDING, Phase.FAILED),
    Phase.BUILDING: (Phase.FAILED,),
    Phase.DEPLOYING: (Phase.FAILED,),
    Phase.VALIDATING: (Phase.ROLLING_BACK,),
}


@dataclass
class RingWorld:
    """The ring of `RING`, its deployments, its replicas, and what is known of each."""

    releases: dict[Digest, Release]
    now: float = 1_000.0
    pointer: Pointer = field(default_factory=lambda: Pointer(AGENT, RING))
    deployments: dict[str, Deployment] = field(default_factory=dict)
    approvals: list[Approval] = field(default_factory=list)
    replicas: dict[str, ReplicaStatus] = field(default_factory=dict)
    preparations: dict[str, Job] = field(default_factory=dict)
    smoke: dict[str, Job] = field(default_factory=dict)
    draining: dict[str, float] = field(default_factory=dict)
    active_requests: dict[Digest, int] = field(default_factory=dict)
    tasks: int = 0
    slot_free: bool = True
    routed: bool = True
    ever_ready: set[Digest] = field(default_factory=set)
    once_active: set[Digest] = field(default_factory=set)
    quarantined: set[Digest] = field(default_factory=set)
    had_traffic: set[Digest] = field(default_factory=set)
    said: dict[str, tuple[str, int]] = field(default_factory=dict)  # by rollout: the kind of verdict, levels proven
    taken_back: set[int] = field(default_factory=set)  # generations of the pointer
    tripped: Digest | None = None  # the release that a breaker complains about

    # --- looking

    def view(self) -> RingView:
        """What the controller would load."""
        running = self.in_progress()
        rollback = next((item for item in running if item.kind is Kind.ROLLBACK), None)
        deployment = next((item for item in running if item.kind is not Kind.ROLLBACK), None)
        return RingView(
            pointer=self.pointer,
            releases=self.releases,
            deployment=deployment,
            rollback=rollback,
            rolling_back=tuple(item for item in self.deployments.values() if item.phase is Phase.ROLLING_BACK),
            approvals=tuple(self.approvals),
            replicas=tuple(self.replicas.values()),
            preparations=dict(self.preparations),
            smoke=dict(self.smoke),
            slot_free=self.slot_free,
            quarantine=self._doubt(deployment) if deployment and deployment.digest in self.quarantined else None,
            tasks=self.tasks,
            routed=self.routed,
            active_requests=dict(self.active_requests),
            draining_since=dict(self.draining),
            **self._verdicts(),
        )

    def _verdicts(self) -> dict[str, Any]:
        """What judge and breakers say now."""
        active = self.deployments.get(self.pointer.active_deployment or "")
        rollout = self.pointer.rollout
        watched = self.tripped in (self.pointer.stable, self.pointer.candidate)
        trip = Trip(BREAKER, self.tripped, 0.5) if self.tripped is not None and watched else None
        taken_back = self.pointer.generation in self.taken_back
        given: dict[str, Any] = {"active": active, "trip": trip, "taken_back": taken_back}
        if rollout is None:
            return given
        kind, proven = self.said.get(rollout, ("inconclusive", 0))
        return given | {
            "judgement": Judgement(kind, "failure", proven, LEVELS, 1.0, f"it says {kind}"),
            "baking": active if active is not None and active.id == rollout else None,
        }

    def in_progress(self) -> list[Deployment]:
        """What deploys, promotes or rolls back now."""
        return [item for item in self.deployments.values() if item.phase in IN_PROGRESS]

    def ready(self, digest: Digest) -> bool:
        """Whether a replica of the release is ready now."""
        return any(item.digest == digest and item.state is ReplicaState.READY for item in self.replicas.values())

    # --- the controller

    def reconcile(self) -> None:
        """Plan and apply until nothing is planned. Fails when that takes too many rounds."""
        for _ in range(MOST_ROUNDS):
            if not self.run_round():
                return
        raise AssertionError(f"no rest after {MOST_ROUNDS} rounds; still planned: {plan(self.view(), self.now)}")

    def run_round(self, most: int | None = None) -> tuple[Action, ...]:
        """One plan, applied; with `most` only its first actions, as if the process had ended there."""
        view = self.view()
        actions = plan(view, self.now)
        assert actions == plan(view, self.now)
        for action in actions[:most]:
            self.apply(action)
            self.check()
        self._forget_drains()
        return actions

    def crash(self) -> None:
        """The controller starts anew: what it kept in memory is lost."""
        self.preparations.clear()
        self.smoke.clear()
        self.draining.clear()

    def apply(self, action: Action) -> None:
        """Do one action, as the controller does."""
        match action:
            case Move():
                self._move(action.deployment, action.target)
            case Wait():
                self._save(replace(self._open(action.deployment), condition=action.condition))
            case Prepare():
                self.preparations.setdefault(action.deployment, Job())
            case MarkPrepared():
                self._save(replace(self._open(action.deployment), prepared=True, condition=None))
            case RunSmoke():
                assert self.ready(action.digest), "smoke tasks against a release that is not ready"
                self.smoke.setdefault(action.deployment, Job())
            case MarkSmokePassed():
                self._save(replace(self._open(action.deployment), smoke_passed=True, condition=None))
            case EnterStep():
                self._enter_step(action)
            case Activate():
                self._activate(action)
            case Retreat():
                self._retreat(action)
            case TakeBack():
                self._take_back(action)
            case MarkTripped():
                active = self.deployments[action.deployment]
                quiet = self.now - active.rollout.tripped_at
                assert active.rollout.tripped is None or quiet >= 3_600.0, "what tripped is told again and again"
                rollout = replace(active.rollout, tripped=action.cause.breaker.metric, tripped_at=self.now)
                self._save(replace(active, rollout=rollout))
            case EndBake():
                assert self.pointer.rollout == action.deployment == self.pointer.active_deployment
                self._point(end_bake(self.pointer, self.now))
            case ForgetRetired():
                self._point(forget_retired(self.pointer, action.digest, self.now))
            case StartReplica():
                self._start(action)
            case BeginDrain():
                assert action.replica not in self.draining
                self.draining[action.replica] = self.now
            case StopReplica():
                self._stop(action)

    def _doubt(self, deployment: Deployment) -> Quarantine:
        return Quarantine(deployment.agent, deployment.digest, deployment.ring, "it lied", "turnout", 0.0)

    def _activate(self, action: Activate) -> None:
        deployment = self._open(action.deployment)
        rollback = deployment.kind is Kind.ROLLBACK
        assert self.ready(deployment.digest), "a release became active while none of its replicas was ready"
        if self.pointer.active_deployment:
            self._move(self.pointer.active_deployment, Phase.ROLLING_BACK if rollback else Phase.SUPERSEDED)
        left = self.pointer.stable
        if rollback and deployment.quarantine and left is not None and left != deployment.digest:
            self.quarantined.add(left)
        for phase in _WAY_TO_ACTIVE[_WAY_TO_ACTIVE.index(deployment.phase) + 1 :]:
            self._move(deployment.id, phase)
        if rollback:
            changed = roll_back(self.pointer, deployment.digest, deployment.id, self.now)
        else:
            changed = activate(
                self.pointer, deployment.digest, deployment.id, self.now, action.holdback, bakes=action.bakes
            )
        self._point(changed)
        self.once_active.add(deployment.digest)

    def _take_back(self, action: TakeBack) -> None:
        assert self.pointer.stable == action.digest, "something else was to go"
        assert self.pointer.last_good is not None
        for item in self.in_progress():
            assert item.kind is not Kind.ROLLBACK, "a rollback was under way"
            self._save(replace(item, abort=item.abort or Abort("turnout", action.reason)))
        assert self.pointer.generation not in self.taken_back, "a rollback by itself that failed is tried again"
        self.taken_back.add(self.pointer.generation)
        self._add(self.pointer.last_good, Kind.ROLLBACK, quarantine=True)

    def _retreat(self, action: Retreat) -> None:
        deployment = self.deployments[action.deployment]
        self._move(deployment.id, Phase.ROLLING_BACK)
        if self.pointer.candidate == deployment.digest:
            self._point(withdraw_candidate(self.pointer, self.now))
        if action.quarantine:
            assert deployment.digest in self.had_traffic, "quarantine of a release that no caller ever reached"
            self.quarantined.add(deployment.digest)

    def _enter_step(self, action: EnterStep) -> None:
        deployment = self._open(action.deployment)
        assert self.ready(deployment.digest), "a canary step for a release none of whose replicas is ready"
        assert action.step == deployment.rollout.step + 1, "a canary step was skipped or repeated"
        began_at = deployment.rollout.began_at or self.now
        rollout = replace(deployment.rollout, step=action.step, entered_at=self.now, advance=False, began_at=began_at)
        self._save(replace(deployment, rollout=rollout, condition=None))
        self._point(shift_traffic(self.pointer, deployment.digest, action.weight, deployment.id, self.now))
        self.tasks = 0

    def _start(self, action: StartReplica) -> None:
        name = replica_id(AGENT, RING, action.digest, action.index)
        known = self.replicas.get(name)
        assert known is None or known.state is ReplicaState.EXITED, "a second start of a replica that runs"
        assert known is None or action.attempt > known.attempt, "a runtime takes a start that it has seen for done"
        release = self.releases[action.digest]
        self.replicas[name] = make_replica(
            release, ReplicaState.STARTING, action.index, attempt=action.attempt, started_at=self.now
        )

    def _stop(self, action: StopReplica) -> None:
        replica = self.replicas[action.replica]
        self.draining.pop(action.replica, None)
        assert replica.digest not in warm_digests(self.pointer), "a replica that the pointer keeps warm was stopped"
        if replica.state is ReplicaState.EXITED:
            del self.replicas[action.replica]
        else:
            self.replicas[action.replica] = replace(replica, state=ReplicaState.STOPPING)

    def _move(self, name: str, target: Phase) -> None:
        deployment = self.deployments[name]
        check_transition(deployment.phase, target)
        self._save(replace(deployment, phase=target, phase_at=self.now, condition=None))

    def _save(self, deployment: Deployment) -> None:
        self.deployments[deployment.id] = deployment

    def _open(self, name: str) -> Deployment:
        deployment = self.deployments[name]
        assert deployment.phase in IN_PROGRESS, f"an action on {name}, which is over"
        return deployment

    def _point(self, pointer: Pointer) -> None:
        assert pointer.generation == self.pointer.generation + 1
        self.pointer = pointer
        self.had_traffic.update(digest for digest, _ in ring_weights(pointer))

    def _forget_drains(self) -> None:
        wanted = wanted_digests(self.view())
        for name in list(self.draining):
            if name not in self.replicas or self.replicas[name].digest in wanted:
                del self.draining[name]

    # --- what people ask for

    def ask_deploy(self, release: Release, override: str | None = None) -> Deployment:
        """A deployment is accepted. Allowed when nothing is in progress; a release in quarantine needs an override."""
        assert not self.in_progress()
        return self._add(release.digest, Kind.DEPLOY, override=override)

    def ask_rollback(self, target: Digest | None, *, quarantine: bool = True) -> Deployment | None:
        """Undo the last change: abort what runs; without a target a canary is all that is undone."""
        canary = self.pointer.candidate
        for item in self.in_progress():
            if item.kind is Kind.ROLLBACK:  # there is one in progress at a time: the new one takes its place
                for phase in _WAY_OUT[item.phase]:
                    self._move(item.id, phase)
        self.ask_abort(quarantine=quarantine)
        digest = target or self.pointer.last_good
        if (canary is not None and target is None) or digest is None or digest == self.pointer.stable:
            return None
        return self._add(digest, Kind.ROLLBACK, quarantine=quarantine)

    def ask_abort(self, *, quarantine: bool = False) -> None:
        """End everything that is in progress."""
        for item in self.in_progress():
            self._save(replace(item, abort=item.abort or Abort("bob", "no", quarantine)))

    def ask_advance(self) -> None:
        """Leave the canary step."""
        for item in self.in_progress():
            if item.rollout.step >= 0:
                self._save(replace(item, rollout=replace(item.rollout, advance=True)))

    def ask_pause(self) -> None:
        """Keep a canary at its step."""
        for item in self.in_progress():
            if item.rollout.step >= 0:
                self._save(replace(item, rollout=replace(item.rollout, paused=True)))

    def ask_approval(self, approver: str, *, approved: bool = True) -> None:
        """Somebody decides about what is in progress."""
        for item in self.in_progress():
            release = self.releases[item.digest]
            self.approvals.append(make_approval(release, approver, approved=approved, at=self.now))

    def _add(self, digest: Digest, kind: Kind, **fields: Any) -> Deployment:
        name = f"dep_{len(self.deployments) + 1}"
        deployment = Deployment(name, AGENT, RING, digest, kind, Phase.QUEUED, "ann", self.now, self.now, **fields)
        self.approvals = []
        self._save(deployment)
        return deployment

    # --- what happens by itself

    def set_state(self, name: str, state: ReplicaState) -> None:
        """A replica becomes ready, or unready, or ends, or was stopped and is gone."""
        replica = self.replicas[name]
        if replica.state is ReplicaState.STOPPING:
            del self.replicas[name]
            self.draining.pop(name, None)
        elif state is ReplicaState.EXITED:
            self.replicas[name] = replace(replica, state=state, address=None, exited_at=self.now, exit_code=1)
        elif replica.state is not ReplicaState.EXITED:
            self.replicas[name] = replace(replica, state=state)
            if state is ReplicaState.READY:
                self.ever_ready.add(replica.digest)

    def finish_jobs(self, error: str | None) -> None:
        """What is being prepared or smoke-tested comes to its end."""
        for jobs in (self.preparations, self.smoke):
            jobs.update({name: Job(over=True, error=error) for name, job in jobs.items() if not job.over})

    def settle(self) -> None:
        """Everything goes well until nothing is in progress."""
        self.routed = self.slot_free = True
        self.active_requests = {}
        self.tripped = None
        for _ in range(100):
            self.reconcile()
            unsettled = [item for item in self.deployments.values() if item.phase not in TERMINAL | {Phase.ACTIVE}]
            moving = [item for item in self.replicas.values() if item.state is not ReplicaState.READY]
            if not unsettled and not moving:
                return
            self._go_well()
        raise AssertionError(f"not settled although everything goes well: {unsettled} {moving}")

    def _go_well(self) -> None:
        self.finish_jobs(None)
        for approver in ("ben", "cid", "dan"):
            self.ask_approval(approver)
        for name in list(self.replicas):
            self.set_state(name, ReplicaState.READY)
        self.tasks += 100
        self.now += 40.0
        if self.pointer.rollout is not None:
            self.said[self.pointer.rollout] = ("pass", LEVELS)
        for item in self.in_progress():
            if item.rollout.paused:
                self._save(replace(item, rollout=replace(item.rollout, paused=False)))

    # --- what always holds

    def check(self) -> None:
        """The invariants of a ring."""
        active = [item for item in self.deployments.values() if item.phase is Phase.ACTIVE]
        assert [item.id for item in active] == ([self.pointer.active_deployment] if self.once_active else [])
        assert [item.digest for item in active] == ([self.pointer.stable] if self.once_active else [])
        self._check_weights()
        retired = [item.digest for item in self.pointer.retired]
        assert len(retired) <= MOST_RETIRED
        assert not {self.pointer.stable, self.pointer.candidate, self.pointer.last_good} & set(retired)
        assert self.pointer.last_good is None or self.pointer.last_good != self.pointer.stable

    def _check_weights(self) -> None:
        weights = ring_weights(self.pointer)
        assert not weights or sum(weight for _, weight in weights) == FULL_WEIGHT
        for digest, _ in weights:
            assert digest in self.ever_ready, "a release that never was ready has a weight"
        if self.pointer.candidate is not None:
            trying = [item.phase for item in self.in_progress() if item.digest == self.pointer.candidate]
            assert Phase.VALIDATING in trying, "a candidate that no deployment tries"
