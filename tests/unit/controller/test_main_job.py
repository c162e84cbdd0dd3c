"""The main job without the outside: deploy, promote, approve, canary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.controller.rings import ONE, RINGS, SLOW, SMOKED, TWO, to_production
from tests.unit.controller.stage import Stage, replica_of, staged
from turnout.domain.errors import BuildFailed, PolicyRefused
from turnout.domain.events import EventType
from turnout.domain.models import FULL_WEIGHT
from turnout.domain.policy import Role
from turnout.services.office import Actor


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO, SMOKED, SLOW)) as stage:
        yield stage


# --- deploy and promote ----------------------------------------------------------------------------------------------


def test_a_first_deployment_walks_its_states_and_serves(stage: Stage) -> None:
    name = stage.deploy(ONE)
    assert stage.transitions(name) == [
        ("building", "a build slot is free"),
        ("deploying", "no approval is needed"),
        ("validating", "1 of 1 replicas are ready"),
        ("active", "replicas are healthy"),
    ]
    assert stage.answers() == (200, ONE.digest)
    assert stage.pointer().active_deployment == name


def test_nobody_is_served_before_the_release_is_active(stage: Stage) -> None:
    seen: list[tuple[str, int]] = []
    stage.on_effect = lambda effect: seen.append((effect, stage.answers()[0]))
    stage.deploy(ONE)
    assert ("after Activate", 503) in seen or ("after Activate", 404) in seen, "the proxy is told after the commit"
    assert {status for _, status in seen} <= {404, 503}
    assert stage.answers()[0] == 200


def test_the_next_release_replaces_it_and_the_old_one_stays_warm(stage: Stage) -> None:
    first, second = stage.deploy(ONE), stage.deploy(TWO)
    assert (stage.state(first), stage.state(second)) == ("superseded", "active")
    assert stage.answers() == (200, TWO.digest)
    assert stage.pointer().last_good == ONE.digest
    assert stage.running() == sorted([replica_of(ONE), replica_of(TWO)])


def test_deploying_what_is_active_changes_nothing_unless_forced(stage: Stage) -> None:
    first = stage.deploy(ONE)
    assert stage.deploy(ONE) == first
    forced = stage.deploy(ONE, force=True)
    assert (stage.state(first), stage.state(forced)) == ("superseded", "active")
    assert stage.runtime.calls.count(("start", replica_of(ONE))) == 1


def test_promotion_takes_the_same_digest_ring_by_ring_and_asks_before_production(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.promote("dev", "staging")
    name = stage.promote("staging", "production")
    assert stage.state(name) == "building: awaiting_approval"
    stage.approve("production")
    stage.look("production")
    assert stage.state(name) == "active"
    assert stage.answers("production") == (200, ONE.digest)
    assert ("deploying", "approved by bob") in stage.transitions(name)


def test_a_promotion_from_a_ring_whose_replicas_are_down_is_refused(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.runtime.set_ready(replica_of(ONE), ready=False)
    stage.look(times=1)
    with pytest.raises(PolicyRefused, match="not healthy in dev"):
        stage.promote("dev", "staging")


# --- approval --------------------------------------------------------------------------------------------------------


def test_a_rejection_fails_the_promotion_and_nothing_else_changes(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.promote("dev", "staging")
    name = stage.promote("staging", "production")
    stage.approve("production", approved=False)
    stage.look("production")
    assert stage.transitions(name)[-1] == ("failed", "rejected by bob")
    assert stage.pointer("production").stable is None
    assert stage.running("production") == []


def test_the_author_cannot_approve_alone(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.promote("dev", "staging")
    name = stage.promote("staging", "production")
    stage.approve("production", Actor("ann", Role.ADMIN))
    stage.look("production")
    assert stage.state(name) == "building: awaiting_approval"
    condition = stage.deployment(name).condition
    assert condition is not None
    assert "other than the release's author" in condition.message


def test_an_approval_that_expired_does_not_count(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.promote("dev", "staging")
    name = stage.promote("staging", "production", look=False)
    stage.approve("production")
    stage.pass_time(RINGS[2].approval_expiry, "production")
    assert stage.state(name) == "building: awaiting_approval"


# --- canary ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def canary(stage: Stage) -> Stage:
    """v1 is active in production, and v2 has entered its first step there as the deployment `dep_6`."""
    to_production(stage, ONE, TWO)
    assert stage.state("dep_6") == "validating: canary"
    return stage


def test_a_canary_gives_the_candidate_its_share(canary: Stage) -> None:
    pointer = canary.pointer("production")
    assert (pointer.stable, pointer.candidate, pointer.weight) == (ONE.digest, TWO.digest, 1_000)
    served = [canary.router.route("support", "production", f"task {number}").release for number in range(1_000)]
    assert 50 < served.count(TWO.digest) < 200


def test_a_step_needs_both_its_time_and_its_tasks(canary: Stage) -> None:
    canary.pass_time(60.0, "production")
    assert canary.pointer("production").weight == 1_000
    canary.serve(TWO, ["a", "b", "b", "b"], "production")
    canary.look("production")
    assert canary.pointer("production").weight == 1_000
    canary.serve(ONE, ["c", "d"], "production")
    canary.look("production")
    assert canary.pointer("production").weight == 1_000, "tasks of the stable release say nothing of the candidate"
    canary.serve(TWO, ["c"], "production")
    canary.look("production")
    assert canary.pointer("production").weight == 1_000, (
        "a task that began on the stable release is none of the candidate"
    )
    canary.serve(TWO, ["e"], "production")
    canary.look("production")
    assert canary.pointer("production").weight == 5_000


def test_tasks_alone_do_not_end_a_step(canary: Stage) -> None:
    canary.serve(TWO, list("abcdef"), "production")
    canary.pass_time(59.0, "production")
    assert canary.pointer("production").weight == 1_000


def test_after_the_last_step_the_candidate_is_active_and_last_good_is_warm(canary: Stage) -> None:
    canary.serve(TWO, list("abc"), "production")
    canary.pass_time(60.0, "production")
    canary.pass_time(120.0, "production")
    assert canary.state("dep_6") == "active"
    pointer = canary.pointer("production")
    assert (pointer.stable, pointer.candidate, pointer.last_good) == (TWO.digest, None, ONE.digest)
    assert len(canary.running("production")) == 4


def test_a_crash_loop_in_the_canary_takes_the_candidate_back_and_into_quarantine(canary: Stage) -> None:
    for _ in range(4):
        for index in (0, 1):
            canary.runtime.exit(replica_of(TWO, "production", index), 3)
        canary.pass_time(31.0, "production")
    assert canary.state("dep_6") == "rolled_back"
    assert canary.answers("production") == (200, ONE.digest)
    quarantine = canary.quarantine(TWO)
    assert quarantine is not None
    assert "keeps ending" in quarantine.reason
    with canary.store.snapshot() as snapshot:
        restarts = [
            item.event for item in snapshot.events(limit=1_000) if item.event.type is EventType.REPLICA_RESTARTED
        ]
    assert {(event.ring, event.data["digest"]) for event in restarts} == {("production", TWO.digest)}
    assert [(event.data["replica"], event.data["message"]) for event in restarts][:2] == [
        (0, "exit code 3 after 1 start (exited with code 3)"),
        (1, "exit code 3 after 1 start (exited with code 3)"),
    ]


def test_a_quarantined_release_needs_an_override(canary: Stage) -> None:
    canary.roll_back("production")
    with pytest.raises(PolicyRefused, match="in quarantine"):
        canary.promote("staging", "production")
    name = canary.promote("staging", "production", override="it was not its fault")
    assert canary.deployment(name).override == "it was not its fault"


def test_weights_always_add_up(canary: Stage) -> None:
    for routes in canary.router.applied:
        for ring in routes.rings:
            assert sum(weight for _, weight in ring.weights) in (0, FULL_WEIGHT)


# --- what goes wrong before ------------------------------------------------------------------------------------------


def test_a_release_that_cannot_be_built_fails_and_the_old_one_serves_on(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.runtime.fails_to_prepare[TWO.digest] = BuildFailed("no such package: leftpad", hint="mend requirements.txt")
    name = stage.deploy(TWO)
    assert stage.transitions(name)[-1] == ("failed", "no such package: leftpad (mend requirements.txt)")
    assert stage.answers() == (200, ONE.digest)
    assert stage.running() == [replica_of(ONE)]


def test_a_release_that_never_is_healthy_fails_and_is_cleared_away(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.runtime.never_ready.add(SLOW.digest)
    name = stage.deploy(SLOW)
    assert stage.state(name) == "deploying: starting"
    stage.pass_time(20.1)
    assert stage.transitions(name)[-1] == ("failed", "not ready within 20 s: replica 0: GET /ping answered 503")
    assert stage.answers() == (200, ONE.digest)
    assert stage.running() == [replica_of(ONE)]


def test_a_release_that_keeps_ending_fails_after_a_few_starts(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.runtime.exits_at_once[TWO.digest] = 3
    name = stage.deploy(TWO)
    for _ in range(4):
        stage.pass_time(4.1)
    assert stage.state(name) == "failed"
    assert "keeps ending: exit code 3 after 4 starts" in stage.transitions(name)[-1][1]
    assert stage.runtime.calls.count(("start", replica_of(TWO))) == 4
    assert stage.answers() == (200, ONE.digest)


def test_smoke_tasks_that_fail_take_the_candidate_back_without_quarantine(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.prober.failing["greet"] = "answered 500"
    name = stage.deploy(SMOKED)
    assert stage.states(name)[-2:] == ["rolling_back", "rolled_back"]
    assert "greet" in stage.transitions(name)[-2][1]
    assert stage.quarantine(SMOKED) is None
    assert stage.answers() == (200, ONE.digest)


def test_smoke_tasks_are_run_once_before_the_release_is_active(stage: Stage) -> None:
    name = stage.deploy(SMOKED)
    assert stage.state(name) == "active"
    assert [tasks for _, tasks in stage.prober.smoked] == [("greet",)]
