"""Reconcile one ring: load what is wanted and observed, plan, apply; until there is nothing left to do now."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from turnout.controller.decisions import DecisionWriter
from turnout.controller.grants import GrantBook
from turnout.controller.jobs import Jobs
from turnout.controller.judging import Judging
from turnout.controller.lookups import compared_with, count_tasks, find_quarantine, find_replay, find_unproven
from turnout.controller.publish import Publisher
from turnout.controller.watching import find_tripped
from turnout.domain.actions import (
    Action,
    Activate,
    BeginDrain,
    EndBake,
    EnterStep,
    Prepare,
    Retreat,
    RunReplay,
    RunSmoke,
    StartReplica,
    StopReplica,
    TakeBack,
    Verify,
)
from turnout.domain.breakers import BreakerRecord, stopped_reasons
from turnout.domain.budget import budgets_for
from turnout.domain.errors import LeaseLost, RouterUnavailable, TurnoutError
from turnout.domain.grants import granted_digests
from turnout.domain.judge import JudgeConfig
from turnout.domain.models import (
    Deployment,
    Digest,
    Kind,
    Release,
    ReplaySettings,
    ReplicaStatus,
    RingSettings,
)
from turnout.domain.outcomes import Tally, TallyKey
from turnout.domain.phases import Phase
from turnout.domain.plan import plan, wanted_digests
from turnout.domain.pointers import take_back_id
from turnout.domain.replicas import build_replica_spec, find_restarts
from turnout.domain.routes import warm_digests
from turnout.domain.verdicts import build_judge_config, choose_judge
from turnout.domain.view import Job, RingView
from turnout.ports import Clock, Lease, Prober, Router, Runtime, Snapshot, Store

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
MOST_ROUNDS = 50  # a ring converges in a few; this bounds a fault of ours
BUSY_SECONDS = 0.25  # how soon a ring is looked at again without being woken, when something is under way
CALM_SECONDS = 2.0
PAST_SECONDS = 86_400.0  # of the stable release, to tune a judge with


@dataclass(frozen=True, slots=True)
class Parts:
    """What reconciling needs of the outside."""

    store: Store
    runtime: Runtime
    router: Router
    prober: Prober
    clock: Clock
    holder: str
    build_slots: int = 2
    on_effect: Callable[[str], None] = lambda _: None  # called around every side effect; tests stop the process there
    read_up_to: Callable[[], float] = lambda: math.inf  # the time up to which the access log has been read
    # Attests what led to a deployment and checks what is demanded of its release; returns what is missing.
    verify: Callable[[Deployment, Release, tuple[str, ...]], str | None] = lambda _deployment, _release, _demanded: None
    grants: GrantBook | None = None  # None: the instance has no gateway
    # Asks recorded tasks of the release of a deployment, says how far it is, and keeps what was found; returns a fault.
    replay: Callable[[Deployment, ReplaySettings, Callable[[str], None]], str | None] = lambda *_: None


class Reconciler:
    """Reconciles rings, one at a time each; different rings may be reconciled by different threads."""

    def __init__(self, parts: Parts, jobs: Jobs, publisher: Publisher, wake: Callable[[str, str], None]) -> None:
        self._parts = parts
        self._jobs = jobs
        self._publisher = publisher
        self._wake = wake
        self._releases: dict[Digest, Release] = {}  # immutable, so never out of date
        self._leases: dict[str, Lease] = {}
        self._draining: dict[str, float] = {}
        self._judging = Judging(parts.store, parts.clock, parts.read_up_to)
        self._judged: dict[tuple[str, str], str] = {}  # by ring: the rollout whose judge is at work
        self._recorded: dict[tuple[str, str], tuple[ReplicaStatus, ...]] = {}

    def reconcile(self, agent: str, ring: str) -> float:
        """Bring a ring as far as it can go now. Returns after how many seconds to look again."""
        lease = self._hold_lease(f"ring/{agent}/{ring}")
        if lease is None:
            return CALM_SECONDS
        writer = DecisionWriter(self._parts.store, self._parts.clock, lease, self._parts.build_slots)
        for _ in range(MOST_ROUNDS):
            routed = self._publisher.publish()
            self._settle(agent, ring, lease)
            view = self._load(agent, ring, routed=routed)
            if view.judgement is not None and view.pointer.rollout is not None:
                self._judging.save(view.pointer.rollout, view.judgement, lease)
            actions = plan(view, self._parts.clock.now())
            if not actions:
                return BUSY_SECONDS if _is_busy(view) else CALM_SECONDS
            if not self._apply_all(view, actions, writer):
                return BUSY_SECONDS
        log.warning("ring %s of %s did not come to rest in %d rounds", ring, agent, MOST_ROUNDS)
        return BUSY_SECONDS

    # --- load

    def _load(self, agent: str, ring: str, *, routed: bool) -> RingView:
        observed = tuple(
            replica for replica in self._parts.runtime.observe() if (replica.agent, replica.ring) == (agent, ring)
        )
        self._record(agent, ring, observed)
        with self._parts.store.snapshot() as snapshot:
            pointer = snapshot.pointer(agent, ring)
            unfinished = snapshot.unfinished(agent, ring)
            running = [item for item in unfinished if item.phase is not Phase.ROLLING_BACK]
            deployment = next((item for item in running if item.kind is not Kind.ROLLBACK), None)
            rollback = next((item for item in running if item.kind is Kind.ROLLBACK), None)
            named = granted_digests(pointer, unfinished, observed)
            records = snapshot.breakers(agent, ring)
            view = RingView(
                pointer=pointer,
                releases=self._load_releases(snapshot, {*named}),
                deployment=deployment,
                rollback=rollback,
                rolling_back=tuple(item for item in unfinished if item.phase is Phase.ROLLING_BACK),
                approvals=snapshot.approvals(agent, ring, deployment.digest) if deployment else (),
                unproven=find_unproven(snapshot, pointer, deployment, self._parts.clock.now()),
                replicas=observed,
                preparations=self._look("prepare", running),
                verifications=self._look("verify", running),
                smoke=self._look("smoke", running),
                replays=self._look("replay", running),
                replay=find_replay(snapshot, deployment),
                quarantine=find_quarantine(snapshot, deployment),
                slot_free=not running or snapshot.unprepared() < self._parts.build_slots,
                tasks=count_tasks(snapshot, deployment),
                routed=routed,
                active_requests=self._count_active(observed, {*warm_digests(pointer)}),
                active=snapshot.deployment(pointer.active_deployment) if pointer.active_deployment else None,
            )
            view = self._judge(snapshot, view, records)
            if view.trip is not None or view.judgement is not None:
                view = replace(view, taken_back=snapshot.deployment(take_back_id(pointer)) is not None)
            limits = budgets_for(snapshot.budgets(), agent, ring) if self._parts.grants is not None else ()
        if self._parts.grants is not None:
            stopped = {release: why for (_, _, release), why in stopped_reasons(records).items()}
            self._parts.grants.set_ring(agent, ring, tuple(view.releases.values()), limits, stopped)
        return replace(view, draining_since=self._drains(observed, wanted_digests(view)))

    def _settle(self, agent: str, ring: str, lease: Lease) -> None:
        with self._parts.store.snapshot() as snapshot:
            pointer = snapshot.pointer(agent, ring)
            judged = snapshot.deployment(pointer.rollout) if pointer.rollout is not None else None
            if judged is None:
                return
            other = compared_with(pointer, judged)
            releases = self._load_releases(snapshot, {judged.digest, *((other,) if other else ())})
        settings = {digest: release.spec.ring(ring) for digest, release in releases.items()}
        judge = choose_judge(settings.get(judged.digest) or RingSettings(ring), settings.get(other) if other else None)
        serving = releases.get(other or judged.digest) or releases.get(judged.digest)
        if serving is not None:
            self._judging.settle(judged.id, judge.ages, serving.spec.success, lease)

    def _judge(self, snapshot: Snapshot, view: RingView, records: tuple[BreakerRecord, ...]) -> RingView:
        """With what the judge and the breakers say."""
        pointer, active = view.pointer, view.active
        trip = find_tripped(snapshot, view, records, self._parts.clock.now())
        before = self._judged.get((pointer.agent, pointer.ring))
        if before is not None and before != pointer.rollout:
            self._judging.forget(before)
        if pointer.rollout is None:
            self._judged.pop((pointer.agent, pointer.ring), None)
            return replace(view, trip=trip)
        self._judged[pointer.agent, pointer.ring] = pointer.rollout
        baking = active if active is not None and active.id == pointer.rollout else None
        judged = baking or view.deployment
        if judged is None or judged.id != pointer.rollout:
            return replace(view, trip=trip)
        configure = partial(self._judge_config, snapshot, view, judged.digest, compared_with(pointer, judged))
        return replace(view, trip=trip, baking=baking, judgement=self._judging.look(snapshot, judged.id, configure))

    def _judge_config(self, snapshot: Snapshot, view: RingView, candidate: Digest, other: Digest | None) -> JudgeConfig:
        agent, ring = view.pointer.agent, view.pointer.ring
        past = Tally()
        if other is not None:
            seen = snapshot.tallies(self._parts.clock.now() - PAST_SECONDS, agent, ring)
            past = seen.get(TallyKey(agent, ring, other), past)
        # Both arms go by the rule of the release that serves: see `Task.judged_by`.
        serving = view.releases.get(other or candidate, view.releases[candidate])
        return build_judge_config(view.judge(candidate, other), serving.spec.success, past)

    def _record(self, agent: str, ring: str, observed: tuple[ReplicaStatus, ...]) -> None:
        """Write down what runs, for those who ask the API, before anything is decided on it."""
        before = self._recorded.get((agent, ring))
        if before != observed:
            with self._parts.store.transaction() as transaction:
                transaction.save_replicas(agent, ring, observed)
                for restarted in find_restarts(before or (), observed, self._parts.clock.now()):
                    transaction.emit(restarted)
            self._recorded[agent, ring] = observed

    def _load_releases(self, snapshot: Snapshot, digests: set[Digest]) -> dict[Digest, Release]:
        for digest in digests - self._releases.keys():
            release = snapshot.release(digest)
            if release is not None:
                self._releases[digest] = release
        return {digest: self._releases[digest] for digest in digests if digest in self._releases}

    def _look(self, kind: str, deployments: list[Deployment]) -> dict[str, Job]:
        looked = {item.id: self._jobs.look(kind, item.id) for item in deployments}
        return {name: job for name, job in looked.items() if job is not None}

    def _count_active(self, observed: tuple[ReplicaStatus, ...], warm: set[Digest]) -> dict[Digest, int]:
        leaving = {(item.agent, item.ring, item.digest) for item in observed if item.digest not in warm}
        return {digest: self._ask_active(agent, ring, digest) for agent, ring, digest in leaving}

    def _ask_active(self, agent: str, ring: str, digest: Digest) -> int:
        """A proxy that does not answer just now must hold up nothing; until it does, the backend counts as busy."""
        try:
            return self._parts.router.active_requests(agent, ring, digest)
        except RouterUnavailable:
            return 1

    def _drains(self, observed: tuple[ReplicaStatus, ...], wanted: tuple[Digest, ...]) -> dict[str, float]:
        """Since when the replicas that nobody wants are drained; one that is wanted again begins anew another time."""
        for item in observed:
            if item.digest in wanted:
                self._draining.pop(item.id, None)
        ids = {item.id for item in observed}
        return {name: since for name, since in self._draining.items() if name in ids}

    # --- apply

    def _apply_all(self, view: RingView, actions: tuple[Action, ...], writer: DecisionWriter) -> bool:
        """Apply in order, up to a change of the traffic: the proxy comes first. False when nothing worked."""
        worked = False
        for action in actions:
            try:
                worked = self._apply(view, action, writer) or worked
            except LeaseLost:
                raise
            except TurnoutError as error:
                # One decision that cannot be written keeps nobody from starting what has to run.
                log.warning("%s in %s: %s", type(action).__name__, view.pointer.ring, error.message)
                continue
            if isinstance(action, Activate | Retreat | TakeBack | EnterStep | EndBake):
                break
        return worked

    def _apply(self, view: RingView, action: Action, writer: DecisionWriter) -> bool:
        name = type(action).__name__
        worked = True
        self._parts.on_effect(f"before {name}")
        match action:
            case Prepare():
                self._start_preparing(view, action)
            case Verify():
                self._start_verifying(view, action)
            case RunReplay():
                self._start_replay(view, action)
            case RunSmoke():
                self._start_smoke(view, action)
            case StartReplica():
                worked = self._start_replica(view, action)
            case BeginDrain():
                self._draining[action.replica] = self._parts.clock.now()
            case StopReplica():
                self._draining.pop(action.replica, None)
                self._parts.runtime.stop(action.replica, action.grace)
            case _:
                writer.write(view.pointer.agent, view.pointer.ring, action)
        self._parts.on_effect(f"after {name}")
        return worked

    def _start_preparing(self, view: RingView, action: Prepare) -> None:
        release = view.releases[action.digest]

        def prepare() -> None:
            self._parts.runtime.prepare(release)

        self._jobs.start("prepare", action.deployment, prepare, self._waker(view))

    def _start_verifying(self, view: RingView, action: Verify) -> None:
        deployment = view.rollback if view.rollback and view.rollback.id == action.deployment else view.deployment

        def verify() -> str | None:
            if deployment is None:
                return None
            return self._parts.verify(deployment, view.releases[action.digest], action.demanded)

        self._jobs.start("verify", action.deployment, verify, self._waker(view))

    def _start_replay(self, view: RingView, action: RunReplay) -> None:
        deployment, wake = view.deployment, self._waker(view)

        def say(message: str) -> None:
            self._jobs.say("replay", action.deployment, message)
            wake()

        def ask() -> str | None:
            return self._parts.replay(deployment, action.asked, say) if deployment is not None else None

        self._jobs.start("replay", action.deployment, ask, wake)

    def _start_smoke(self, view: RingView, action: RunSmoke) -> None:
        tasks = view.releases[action.digest].spec.smoke

        def smoke() -> str | None:
            result = self._parts.prober.smoke(action.address, tasks)
            return None if result.passed else result.message

        self._jobs.start("smoke", action.deployment, smoke, self._waker(view))

    def _start_replica(self, view: RingView, action: StartReplica) -> bool:
        """False when it could not be started; it is planned again."""
        release = view.releases[action.digest]
        settings = view.settings(action.digest)
        try:
            if self._parts.grants is not None:
                self._parts.grants.check(release.agent, settings.name, release.digest)
            self._parts.runtime.start(build_replica_spec(release, settings, action.index, action.attempt))
        except TurnoutError as error:
            log.warning("replica %d of %s could not be started: %s", action.index, release.version, error.message)
            # What was unpacked may be gone, with a wiped folder or a new machine; it is tried again after each attempt.
            self._jobs.forget("restore", release.digest)
            self._jobs.start(
                "restore", release.digest, partial(self._parts.runtime.prepare, release), self._waker(view)
            )
            return False
        return True

    def _waker(self, view: RingView) -> Callable[[], None]:
        return partial(self._wake, view.pointer.agent, view.pointer.ring)

    # --- lease

    def _hold_lease(self, name: str) -> Lease | None:
        """The lease, renewed when half of its time is over."""
        now = self._parts.clock.now()
        held = self._leases.get(name)
        if held is not None and held.expires_at - now > LEASE_SECONDS / 2:
            return held
        with self._parts.store.transaction() as transaction:
            lease = transaction.acquire_lease(name, self._parts.holder, now, LEASE_SECONDS)
        if lease is None:
            self._leases.pop(name, None)
            return None
        self._leases[name] = lease
        return lease


def _is_busy(view: RingView) -> bool:
    return bool(view.deployment or view.rollback or view.rolling_back or view.draining_since or view.baking)
