"""Rolling back: at once where the release is warm, whatever else goes on in the ring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.controller.rings import ONE, THREE, TWO, finish_canary, to_production
from tests.unit.controller.stage import ADMIN, Stage, staged
from tests.unit.controller.test_judging import events
from tests.unit.domain.values import AGENT
from turnout.domain.errors import Conflict, PolicyRefused
from turnout.domain.events import EventType
from turnout.domain.routes import warm_digests
from turnout.services.rollbacks import RollbackWish, preview_rollback

REASON = "rolled back in dev: it is wrong (by ann)"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO, THREE)) as stage:
        yield stage


@pytest.fixture
def canary(stage: Stage) -> Stage:
    """v1 is active in production, and v2 has entered its first step there as the deployment `dep_6`."""
    to_production(stage, ONE, TWO)
    assert stage.state("dep_6") == "validating: canary"
    return stage


def test_a_rollback_flips_to_the_warm_release_in_one_look_and_moves_no_process(stage: Stage) -> None:
    stage.deploy(ONE)
    bad = stage.deploy(TWO)
    before = list(stage.runtime.calls)
    name = stage.roll_back(look=False)
    stage.look(times=1)
    assert stage.answers() == (200, ONE.digest)
    assert (stage.state(name), stage.state(bad)) == ("active", "rolled_back")
    assert stage.runtime.calls == before
    assert stage.quarantine(TWO) is not None


def test_rolling_back_twice_never_returns_to_the_bad_release(stage: Stage) -> None:
    for release in (ONE, TWO, THREE):
        stage.deploy(release)
    stage.roll_back()
    assert (stage.pointer().stable, stage.pointer().last_good) == (TWO.digest, None)
    stage.roll_back()
    assert stage.pointer().stable == ONE.digest
    with pytest.raises(Conflict, match="no release to go back to"):
        stage.roll_back()


def test_a_rollback_during_a_canary_takes_the_candidate_out(canary: Stage) -> None:
    name = canary.roll_back("production", look=False)
    assert name == "dep_6"
    canary.look("production", times=1)
    assert canary.answers("production") == (200, ONE.digest)
    assert canary.state("dep_6") == "rolled_back"
    assert canary.pointer("production").candidate is None
    assert canary.quarantine(TWO) is not None


def test_a_rollback_while_a_gate_waits_ends_the_promotion_and_flips(stage: Stage) -> None:
    finish_canary(stage, *to_production(stage, ONE, TWO))
    stage.deploy(THREE)
    stage.promote("dev", "staging")
    waiting = stage.promote("staging", "production")
    assert stage.state(waiting) == "building: awaiting_approval"
    stage.roll_back("production", look=False)
    stage.look("production", times=1)
    assert stage.answers("production") == (200, ONE.digest)
    assert stage.state(waiting) == "failed"


def test_a_rollback_while_another_deployment_is_queued_flips_at_once(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.deploy(TWO)
    crowded = stage.another_server("one", build_slots=0)
    queued = crowded.deploy(THREE)
    assert crowded.state(queued) == "queued: build_slot"
    crowded.roll_back(look=False)
    crowded.look(times=1)
    assert crowded.answers() == (200, ONE.digest)
    assert crowded.state(queued) == "failed"


def test_a_rollback_to_a_version_that_is_no_longer_warm_deploys_it_first(stage: Stage) -> None:
    stage.deploy(ONE, "dev")
    stage.promote("dev", "staging")
    for release in (TWO, THREE):
        stage.deploy(release)
        stage.promote("dev", "staging")
    stage.pass_time(50.0, "staging")
    assert ONE.digest not in warm_digests(stage.pointer("staging"))
    served = set()
    stage.on_effect = lambda effect: served.add(stage.answers("staging"))
    name = stage.roll_back("staging", version="v1")
    assert served >= {(200, THREE.digest)}, "what is stable serves until the other is ready"
    assert served <= {(200, THREE.digest), (200, ONE.digest)}
    assert stage.answers("staging") == (200, ONE.digest)
    assert stage.states(name) == ["building", "deploying", "validating", "active"]


def test_a_rollback_to_what_was_never_active_is_refused(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.deploy(TWO)
    with pytest.raises(Conflict, match="never active"):
        stage.roll_back(version="v3")
    with pytest.raises(Conflict, match="already the stable"):
        stage.roll_back(version="v2")


def test_a_rollback_to_the_candidate_makes_it_stable_and_puts_only_the_other_into_quarantine(stage: Stage) -> None:
    finish_canary(stage, *to_production(stage, ONE, TWO))
    stage.deploy(ONE)
    stage.promote("dev", "staging")
    stage.promote("staging", "production")
    stage.approve("production")
    stage.look("production")
    assert stage.pointer("production").candidate == ONE.digest
    stage.roll_back("production", version="v1")
    assert stage.answers("production") == (200, ONE.digest)
    assert stage.quarantine(TWO) is not None
    assert stage.quarantine(ONE) is None


def test_a_second_rollback_takes_the_place_of_one_that_is_not_over(stage: Stage) -> None:
    for release in (ONE, TWO, THREE):
        stage.deploy(release)
    stage.pass_time(600.0)
    assert ONE.digest not in warm_digests(stage.pointer())
    stage.runtime.never_ready.add(ONE.digest)
    slow = stage.roll_back(version="v1")
    assert stage.state(slow) == "deploying: starting"
    quick = stage.roll_back(version="v2", look=False)
    stage.look(times=1)
    assert stage.answers() == (200, TWO.digest)
    assert (stage.state(slow), stage.state(quick)) == ("failed", "active")


def test_a_rollback_is_bound_to_what_was_seen(canary: Stage) -> None:
    canary.roll_back("production", leaving=TWO.digest)
    with pytest.raises(Conflict, match="changed meanwhile"):
        canary.roll_back("production", leaving=TWO.digest)
    assert canary.answers("production") == (200, ONE.digest)


def test_who_wants_stable_to_leave_is_told_of_the_canary_that_runs(canary: Stage) -> None:
    """Nothing has changed: a rollback takes out the candidate, and more only for who names where to go."""
    with pytest.raises(Conflict, match="a canary of v2 runs in production of support") as refused:
        canary.roll_back("production", leaving=ONE.digest)
    assert "--version VERSION" in str(refused.value.hint)
    assert canary.pointer("production").candidate == TWO.digest


def test_a_release_that_another_ring_took_back_goes_no_further_when_its_approval_comes(stage: Stage) -> None:
    to_production(stage, ONE)
    stage.deploy(TWO)
    stage.promote("dev", "staging")
    waiting = stage.promote("staging", "production")
    stage.roll_back("staging")
    stage.approve("production")
    stage.look("production")
    assert stage.state(waiting) == "failed"
    assert "in quarantine" in stage.transitions(waiting)[-1][1]
    assert stage.answers("production") == (200, ONE.digest)


def test_an_override_does_not_pass_over_what_nobody_knew_when_it_was_given(canary: Stage) -> None:
    canary.roll_back("production")
    canary.deploy(THREE)
    hurried = canary.promote("dev", "production", override="skip staging")
    canary.look("production")
    canary.roll_back("dev")
    canary.look("production")
    held = canary.quarantine(THREE)
    assert held is not None
    assert held.ring == "dev"
    assert canary.state(hurried) in ("rolled_back", "failed")
    assert "in quarantine: rolled back in dev" in str(canary.transitions(hurried))


def test_who_lets_a_release_serve_again_answers_for_it(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.deploy(TWO)
    stage.roll_back()
    with pytest.raises(PolicyRefused, match="v2 is in quarantine"):
        stage.roll_back(version="v2")
    stage.roll_back(version="v2", override="v2 was fine", quarantine=False)
    assert (stage.pointer().stable, stage.quarantine(TWO)) == (TWO.digest, None)
    (told,) = events(stage, EventType.POLICY_OVERRIDDEN)
    assert (told["reason"], told["overridden"]) == ("v2 was fine", ["v2 is in quarantine: " + REASON])
    assert [item["reason"] for item in events(stage, EventType.RELEASE_CLEARED)] == ["v2 was fine"]
    stage.deploy(THREE)
    stage.roll_back()
    assert stage.pointer().stable == TWO.digest, "the next rollback returns to it"


def test_a_preview_names_what_an_override_passes_over(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.deploy(TWO)
    stage.roll_back()
    wish = RollbackWish(AGENT, "dev", version="v2", override="v2 was fine")
    assert preview_rollback(stage.office, ADMIN, wish)["overrides"] == ["v2 is in quarantine: " + REASON]


def test_an_override_in_an_earlier_ring_lets_nothing_out_of_quarantine(canary: Stage) -> None:
    canary.roll_back("production")
    held = canary.quarantine(TWO)
    canary.roll_back("dev", version="v1", quarantine=False)
    canary.deploy(TWO, override="to see the fault")
    assert canary.pointer("dev").stable == TWO.digest
    assert held is not None
    assert canary.quarantine(TWO) == held
    again = canary.promote("dev", "staging", override="it was the caller's fault")
    assert canary.state(again) == "active"
    assert canary.quarantine(TWO) == held
    last = canary.promote("staging", "production", override="it was the caller's fault")
    finish_canary(canary, last)
    assert canary.quarantine(TWO) is None
