"""Anything happens to a ring in any order, with crashes between any two actions: the plan keeps the invariants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.unit.domain.ring_world import LEVELS, RingWorld
from tests.unit.domain.values import CANARY, RING, make_release
from turnout.domain.actions import Activate
from turnout.domain.models import Digest, Inconclusive, JudgeSettings, Kind, Ramp, ReplicaState, RingSettings, SmokeTask
from turnout.domain.phases import Phase
from turnout.domain.plan import plan
from turnout.domain.routes import warm_digests

SMOKE = (SmokeTask("greet", "/greet"),)
JUDGED = JudgeSettings(Ramp.EVIDENCE, limit=600.0, inconclusive=Inconclusive.EXTEND, bake=80.0, holdback=200)
_ALL = (
    make_release("plain", rings=(RingSettings(RING, warm=60.0),)),
    make_release("two-replicas", rings=(RingSettings(RING, replicas=2, warm=60.0),)),
    make_release("careful", rings=(RingSettings(RING, canary=CANARY, warm=60.0, drain=50.0),), smoke=SMOKE),
    make_release("asked", rings=(RingSettings(RING, approvals=1, canary=CANARY[:1]),)),
    make_release("smoked", rings=(RingSettings(RING, warm=0.0, drain=0.0),), smoke=SMOKE),
    make_release("bare", rings=(RingSettings(RING, canary=CANARY),)),
    make_release("judged", rings=(RingSettings(RING, canary=CANARY, judge=JUDGED),)),
    make_release("timed", rings=(RingSettings(RING, judge=replace(JUDGED, ramp=Ramp.TIMED), canary=CANARY),)),
)
RELEASES = {release.version: release for release in _ALL}
LOOK = st.sampled_from([True, True, False])  # whether the controller comes by before the next thing happens
STATES = (ReplicaState.READY, ReplicaState.UNREADY, ReplicaState.EXITED)


class RingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = RingWorld({release.digest: release for release in _ALL})

    @initialize(starts_empty=st.booleans())
    def begin(self, starts_empty: bool) -> None:
        """Most rings have a history of two releases when something interesting happens to them."""
        if not starts_empty:
            for release in _ALL[:2]:
                self.world.ask_deploy(release)
                self.world.settle()

    # --- people

    @precondition(lambda self: not self.world.in_progress())
    @rule(version=st.sampled_from(sorted(RELEASES)), rounds=st.integers(0, 4))
    def deploy(self, version: str, rounds: int) -> None:
        in_doubt = RELEASES[version].digest in self.world.quarantined
        self.world.ask_deploy(RELEASES[version], "it did not lie" if in_doubt else None)
        self._go_on(rounds)

    @precondition(lambda self: self.world.pointer.stable)
    @rule(data=st.data(), named=st.booleans(), quarantine=st.booleans())
    def roll_back(self, data: Any, named: bool, quarantine: bool) -> None:
        targets = sorted(self.world.once_active - {self.world.pointer.stable})
        target: Digest | None = data.draw(st.sampled_from(targets)) if named and targets else None
        rollback = self.world.ask_rollback(target, quarantine=quarantine)
        if rollback is None:
            return
        left = self.world.pointer.stable
        if rollback.digest in warm_digests(self.world.pointer) and self.world.ready(rollback.digest):
            actions = self.world.run_round()
            assert isinstance(actions[0], Activate), "a rollback comes before everything else"
            assert self.world.pointer.stable == rollback.digest, "a warm rollback takes one round"
            assert self.world.pointer.last_good is None
            assert self.world.pointer.candidate is None
            assert left not in (self.world.pointer.stable, self.world.pointer.last_good)
            assert not quarantine or left in self.world.quarantined

    @rule(quarantine=st.booleans(), look=LOOK)
    def abort(self, quarantine: bool, look: bool) -> None:
        self.world.ask_abort(quarantine=quarantine)
        self._look(look)

    @rule(look=LOOK)
    def advance(self, look: bool) -> None:
        self.world.ask_advance()
        self._look(look)

    @rule(look=LOOK)
    def pause(self, look: bool) -> None:
        self.world.ask_pause()
        self._look(look)

    @precondition(lambda self: self.world.pointer.rollout)
    @rule(kind=st.sampled_from(["inconclusive", "hold", "pass", "fail"]), proven=st.integers(0, LEVELS), look=LOOK)
    def judge_says(self, kind: str, proven: int, look: bool) -> None:
        rollout, before = self.world.pointer.rollout, self.world.said.get(self.world.pointer.rollout or "")
        assert rollout is not None
        if before is not None and before[0] == "fail":
            return  # what was decided stays decided
        self.world.said[rollout] = (kind, LEVELS if kind == "pass" else proven)
        idle = not any(item.kind is Kind.ROLLBACK for item in self.world.in_progress())
        undoing = any(item.abort is not None for item in self.world.in_progress())
        if kind == "fail" and idle and not undoing and not self.world.tripped:
            tried = self.world.deployments[rollout].digest
            self.world.run_round()
            assert self.world.pointer.candidate != tried, "a bad candidate is out in one round"
            back = [item for item in self.world.in_progress() if item.kind is Kind.ROLLBACK]
            assert self.world.pointer.stable != tried or back or self.world.pointer.last_good is None
        self._look(look)

    @precondition(lambda self: self.world.pointer.stable)
    @rule(of_candidate=st.booleans(), look=LOOK)
    def breaker_trips(self, of_candidate: bool, look: bool) -> None:
        pointer = self.world.pointer
        self.world.tripped = pointer.candidate if of_candidate and pointer.candidate else pointer.stable
        self._look(look)

    @rule(approver=st.sampled_from(["ann", "bob", "cid"]), approved=st.sampled_from([True, True, False]), look=LOOK)
    def decide(self, approver: str, approved: bool, look: bool) -> None:
        self.world.ask_approval(approver, approved=approved)
        self._look(look)

    @rule(version=st.sampled_from(sorted(RELEASES)))
    def quarantine_elsewhere(self, version: str) -> None:
        """Another ring takes the release back for a fault."""
        self.world.quarantined.add(RELEASES[version].digest)

    # --- the world

    @precondition(lambda self: self.world.replicas)
    @rule(data=st.data(), state=st.sampled_from(STATES), look=LOOK)
    def replica_changes(self, data: Any, state: ReplicaState, look: bool) -> None:
        tried = {item.digest for item in self.world.in_progress()}
        names = sorted(self.world.replicas, key=lambda name: self.world.replicas[name].digest not in tried)
        self.world.set_state(data.draw(st.sampled_from(names)), state)
        self._look(look)

    @rule(error=st.sampled_from([None, "it broke"]), look=LOOK)
    def jobs_end(self, error: str | None, look: bool) -> None:
        self.world.finish_jobs(error)
        self._look(look)

    @rule(seconds=st.sampled_from([0.6, 10.0, 61.0, 150.0]), tasks=st.integers(0, 3), look=LOOK)
    def time_passes(self, seconds: float, tasks: int, look: bool) -> None:
        self.world.now += seconds
        self.world.tasks += tasks
        self._look(look)

    @rule(routed=st.booleans(), slot_free=st.booleans(), busy=st.sets(st.sampled_from(sorted(RELEASES)), max_size=3))
    def surroundings_change(self, routed: bool, slot_free: bool, busy: set[str]) -> None:
        self.world.routed, self.world.slot_free = routed, slot_free
        self.world.active_requests = {RELEASES[version].digest: 1 for version in busy}

    # --- the controller

    @rule(rounds=st.integers(0, 3))
    def things_go_on(self, rounds: int) -> None:
        self._go_on(rounds)

    @rule(most=st.integers(0, 3))
    def reconcile_and_crash(self, most: int) -> None:
        self.world.run_round(most)
        self.world.crash()

    @rule()
    def everything_goes_well(self) -> None:
        """From wherever it is, a ring comes to rest."""
        self.world.settle()
        assert self.world.in_progress() == []
        wanted = set(warm_digests(self.world.pointer))
        assert {item.digest for item in self.world.replicas.values()} == wanted

    def _look(self, look: bool) -> None:
        """The controller comes by: afterwards nothing is left to do."""
        if not look:
            return
        self.world.reconcile()
        assert plan(self.world.view(), self.world.now) == ()
        for item in self.world.in_progress():
            assert item.abort is None, "an abort ends what is in progress in one go"

    def _go_on(self, rounds: int) -> None:
        """The usual course, so that the unusual meets deployments that have come far; it ends before a look."""
        for _ in range(rounds):
            self._look(True)
            self.world.finish_jobs(None)
            for name in list(self.world.replicas):
                self.world.set_state(name, ReplicaState.READY)

    def teardown(self) -> None:
        self.world.settle()
        assert all(item.phase is not Phase.ROLLING_BACK for item in self.world.deployments.values())


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
