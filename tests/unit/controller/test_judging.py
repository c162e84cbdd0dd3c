"""Rollouts that are decided by verdicts, without the outside: whatever happens to servers, one decision is made."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.unit.controller.stage import ADMIN, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from tests.unit.gateway.calls import model_call
from turnout.controller import judging
from turnout.controller.decisions import DecisionWriter
from turnout.db.snapshot import SqlSnapshot
from turnout.domain.actions import EnterStep
from turnout.domain.errors import Conflict, Retryable
from turnout.domain.events import EventType
from turnout.domain.models import CanaryStep, JudgeSettings, Ramp, Release, RingSettings
from turnout.domain.outcomes import Observation, Outcome, Source
from turnout.services import rollouts

STEPS = (CanaryStep(5_000),)
RINGS = (RingSettings("dev", canary=STEPS, judge=JudgeSettings(Ramp.EVIDENCE, (10.0, 20.0, 40.0))),)
BAKED = (RingSettings("dev", canary=STEPS, judge=JudgeSettings(Ramp.WATCH, bake=600.0, holdback=5_000)),)
ONE, TWO = (make_release(f"v{number}", rings=RINGS) for number in (1, 2))
FOUR, FIVE = (make_release(f"v{number}", rings=BAKED) for number in (4, 5))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO, FOUR, FIVE)) as stage:
        yield stage


@pytest.fixture
def canary(stage: Stage) -> str:
    """v2 runs its canary beside v1."""
    stage.deploy(ONE)
    return stage.deploy(TWO)


def serve_both(stage: Stage, first: int, last: int, failing: bool) -> None:
    """Tasks come to both arms; those of the candidate fail, or none does."""
    for number in range(first, last):
        if to_candidate(number):
            stage.serve(TWO, [f"t{number}"], status=500 if failing else 200)
        else:
            stage.serve(ONE, [f"t{number}"])


def fail_while_baking(stage: Stage, rollout: str) -> None:
    """Half of the callers come to v5, which is active and fails them; the others are held back at v4."""
    split: dict[str, Any] = {"rollout": rollout, "probability": 0.5}
    for number in range(60):
        if to_candidate(number):
            stage.serve_split(FIVE, [f"t{number}"], "candidate", status=500, **split)
        else:
            stage.serve_split(FOUR, [f"t{number}"], "stable", **split)


def to_candidate(number: int) -> bool:
    """By chance, as the router does it: half of them."""
    return random.Random(number).random() < 0.5


def verdict(stage: Stage) -> Any:
    """What the judge of the rollout said last."""
    return rollouts.show_rollout(stage.office, ADMIN, AGENT, "dev")["verdict"]


def events(stage: Stage, type_: EventType) -> list[dict[str, object]]:
    with stage.store.snapshot() as snapshot:
        return [dict(item.event.data) for item in snapshot.events(limit=10_000) if item.event.type is type_]


def test_a_fail_takes_the_candidate_back_into_quarantine_with_its_evidence(stage: Stage, canary: str) -> None:
    serve_both(stage, 0, 40, failing=True)
    stage.look()
    assert stage.state(canary) == "rolled_back"
    assert stage.pointer().candidate is None
    assert stage.answers() == (200, ONE.digest)
    with stage.store.snapshot() as snapshot:
        quarantine, judged = snapshot.quarantine(AGENT, TWO.digest), snapshot.judgement(canary)
    assert quarantine is not None
    assert "the judge says fail: failure" in quarantine.reason
    assert judged is not None
    assert (judged.decided, judged.verdict["kind"]) == ("fail", "fail")
    (told,) = events(stage, EventType.ROLLOUT_JUDGED)
    assert (told["kind"], told["metric"]) == ("fail", "failure")


def test_an_equal_release_becomes_active_when_it_is_proven(stage: Stage, canary: str) -> None:
    for batch in range(40):
        serve_both(stage, 100 * batch, 100 * (batch + 1), failing=False)
        stage.pass_time(10.0)
        if stage.state(canary) == "active":
            break
    assert stage.state(canary) == "active"
    assert "proven no worse than stable" in stage.transitions(canary)[-1][1]


def test_a_judge_goes_on_where_the_server_before_it_left(stage: Stage, canary: str) -> None:
    serve_both(stage, 0, 200, failing=False)
    stage.pass_time(10.0)
    said = rollouts.show_rollout(stage.office, ADMIN, AGENT, "dev")["verdict"]
    other = stage.another_server(stage.holder)
    other.pass_time(10.0)
    again = rollouts.show_rollout(stage.office, ADMIN, AGENT, "dev")["verdict"]
    assert said is not None
    assert again is not None
    assert again["ratio"] == said["ratio"], "nothing was heard twice, nothing was missed"
    serve_both(other, 200, 260, failing=True)
    other.look()
    assert other.state(canary) == "rolled_back"


def test_two_servers_that_race_make_one_decision(stage: Stage, canary: str) -> None:
    other = stage.another_server("two")
    serve_both(stage, 0, 40, failing=True)
    for _ in range(4):
        for server in (other, stage):
            server.reconciler.reconcile(AGENT, "dev")
    stage.look()
    assert stage.state(canary) == "rolled_back"
    assert len(events(stage, EventType.ROLLOUT_JUDGED)) == 1
    assert len(events(stage, EventType.RELEASE_QUARANTINED)) == 1


def test_a_server_with_another_clock_does_not_decide_otherwise(stage: Stage, canary: str) -> None:
    serve_both(stage, 0, 200, failing=False)
    stage.look()
    stage.clock.at -= 3_000.0  # the next server believes that it is earlier
    other = stage.another_server(stage.holder)
    serve_both(other, 200, 400, failing=False)
    other.look()
    assert other.state(canary).startswith("validating")
    stage.clock.at += 3_000.0 + 120.0
    other.look()
    assert other.state(canary) in ("active", "validating: evidence")
    assert other.pointer().stable in (ONE.digest, TWO.digest)


def test_a_release_that_turns_bad_while_it_bakes_is_rolled_back_and_last_good_serves(stage: Stage) -> None:
    stage.deploy(FOUR)
    name = stage.deploy(FIVE)
    stage.look()
    assert stage.state(name) == "active"
    assert (stage.pointer().rollout, stage.pointer().holdback) == (name, 5_000)
    fail_while_baking(stage, name)
    stage.look()
    assert stage.state(name) == "rolled_back"
    assert stage.pointer().stable == FOUR.digest
    assert (stage.pointer().rollout, stage.pointer().holdback) == (None, 0)
    assert stage.answers() == (200, FOUR.digest)


def test_a_bake_that_ends_well_gives_the_release_everything(stage: Stage) -> None:
    stage.deploy(FOUR)
    name = stage.deploy(FIVE)
    stage.pass_time(601.0)
    assert stage.state(name) == "active"
    assert (stage.pointer().rollout, stage.pointer().holdback) == (None, 0)
    assert events(stage, EventType.ROLLOUT_BAKED)


def test_interventions_decide_once_the_tasks_beside_them_have_reached_their_age(stage: Stage, canary: str) -> None:
    serve_both(stage, 0, 40, failing=False)
    stage.look()
    names = [f"t{number}" for number in range(40) if to_candidate(number)]
    with stage.store.transaction() as transaction:
        taken = transaction.add_outcomes(
            Outcome(name, Source.REPORT, stage.clock.at, intervened=True, reporter="ann") for name in names
        )
    assert {item.state for item in taken} == {"counted"}
    stage.look(times=2)
    assert stage.pointer().candidate == TWO.digest, "whether somebody intervenes in the others is not known yet"
    stage.pass_time(11.0)
    assert stage.pointer().candidate is None
    assert "intervention" in stage.transitions(canary)[-2][1]


def test_pausing_and_planning_need_something_to_pause_and_traffic_to_plan_with(stage: Stage) -> None:
    stage.deploy(ONE)
    with pytest.raises(Conflict, match="no canary runs"):
        rollouts.pause(stage.office, ADMIN, AGENT, "dev", paused=True)
    with pytest.raises(Conflict, match="nobody called"):
        rollouts.plan_rollout(stage.office, ADMIN, AGENT, "dev", None)
    with pytest.raises(Conflict, match="no rollout"):
        rollouts.show_rollout(stage.office, ADMIN, AGENT, "dev")
    stage.serve(ONE, [f"t{number}" for number in range(500)])
    stage.clock.at += 600.0
    plan = rollouts.plan_rollout(stage.office, ADMIN, AGENT, "dev", None)
    assert plan["tasks_per_hour"] == pytest.approx(3_000, rel=0.02)
    assert plan["decides"]
    assert [step["share"] for step in plan["steps"]][:1] == [0.5]


def test_an_automatic_rollback_that_fails_freezes_nothing(stage: Stage) -> None:
    stage.deploy(FOUR)
    name = stage.deploy(FIVE)
    stage.look()
    stage.runtime.exits_at_once[FOUR.digest] = 1
    for replica in stage.runtime.observe():
        if replica.digest == FOUR.digest:
            stage.runtime.exit(replica.id, 1)
    fail_while_baking(stage, name)
    stage.pass_time(120.0)
    stage.pass_time(120.0)
    assert stage.state(name) == "active", "there is nothing to go back to"
    mended = stage.deploy(ONE, override="it is the fix")
    stage.pass_time(1.0)
    assert stage.state(mended) != "queued"


def test_a_pause_that_comes_while_a_step_is_entered_is_kept(stage: Stage) -> None:
    stage.deploy(ONE)
    name = stage.deploy(TWO)
    rollouts.pause(stage.office, ADMIN, AGENT, "dev", paused=True)
    with stage.store.transaction() as transaction:
        lease = transaction.acquire_lease(f"ring/{AGENT}/dev", stage.holder, stage.clock.at, 60.0)
    assert lease is not None
    writer = DecisionWriter(stage.store, stage.clock, lease, 2)
    writer.write(AGENT, "dev", EnterStep(name, 1, 9_000))
    assert stage.deployment(name).rollout.step == 0
    assert stage.deployment(name).rollout.paused


def test_a_backlog_is_judged_as_if_it_had_been_read_at_once(stage: Stage, canary: str) -> None:
    stage.look()
    read_up_to = [stage.clock.at]
    late = stage.another_server(stage.holder, read_up_to=lambda: read_up_to[0])
    stage.clock.at += 7_200.0  # no server ran, and nobody read the log
    late.look()
    began = read_up_to[0]
    for number in range(400):
        stage.clock.at = began + number
        serve_both(stage, number, number + 1, failing=False)
    stage.clock.at = began + 7_200.0
    read_up_to[0] = stage.clock.at
    late.look()
    verdict = rollouts.show_rollout(stage.office, ADMIN, AGENT, "dev")["verdict"]
    assert verdict is not None
    metrics: Any = verdict["metrics"]
    assert metrics["failure"]["candidate"]["missing"] == 0
    assert verdict["kind"] != "fail"


def test_a_read_that_fails_loses_nothing_that_was_read_before_it(
    stage: Stage, canary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_BATCH", 50)
    serve_both(stage, 0, 60, failing=False)
    read, asked = SqlSnapshot.observations, count()

    def fail_once(self: SqlSnapshot, rollout: str, after: int = 0, limit: int = 5_000) -> tuple[Observation, ...]:
        if next(asked) == 1:
            raise Retryable("the database cannot be used just now")
        return read(self, rollout, after, limit)

    monkeypatch.setattr(SqlSnapshot, "observations", fail_once)
    with pytest.raises(Retryable):
        stage.reconciler.reconcile(AGENT, "dev")
    stage.pass_time(10.0)
    assert verdict(stage)["ratio"]["units"] == 60


def test_tasks_after_days_without_any_are_judged(stage: Stage, canary: str) -> None:
    stage.serve(ONE, ["first"])
    stage.pass_time(10.0)
    stage.clock.at += 2 * 86_400.0  # nobody called, and no server ran
    serve_both(stage, 0, 60, failing=True)
    back = stage.another_server(stage.holder)
    back.look()
    assert (verdict(back)["ratio"]["units"], verdict(back)["bad"]) == (61, {})
    assert back.state(canary) == "rolled_back"


def test_a_candidate_that_never_answers_is_not_proven_but_taken_back(stage: Stage, canary: str) -> None:
    for number in range(80):
        stage.clock.at += 1.0
        if to_candidate(number):
            stage.serve_open(TWO, f"hangs-{number}")
        else:
            stage.serve(ONE, [f"t{number}"])
        stage.look(times=2)
    stage.look()
    assert stage.state(canary) == "rolled_back"
    assert "failure" in stage.transitions(canary)[-2][1]


def test_the_next_server_tells_of_silences_that_the_last_could_not_know_of_yet(tmp_path: Path) -> None:
    settings = JudgeSettings(Ramp.EVIDENCE, (100.0, 200.0, 400.0))
    one, two = (make_release(f"v{n}", rings=(RingSettings("dev", canary=STEPS, judge=settings),)) for n in (1, 2))
    with staged(tmp_path, (one, two)) as stage:
        stage.deploy(one)
        canary = stage.deploy(two)
        began = stage.clock.at
        stage.serve_open(two, "hangs")
        last = stage.another_server(stage.holder, read_up_to=lambda: began + 355.0)
        last.clock.at = began + 375.0
        last.serve(one, ["heard of"])  # which takes the clock of the judge beyond what was read
        last.look()
        last.clock.at += 1.0
        stage.another_server(stage.holder).look()
        with stage.store.snapshot() as snapshot:
            told = [(item.task, item.at) for item in snapshot.observations(canary) if item.failed]
    assert told == [("hangs", began + 360.0)]


# --- costs that the gateway knows -------------------------------------------------------------------------------------


def costs(stage: Stage, canary: str) -> list[tuple[str, float, float | None]]:
    with stage.store.snapshot() as snapshot:
        return [(item.task, item.at, item.cost) for item in snapshot.observations(canary) if item.cost is not None]


def make_call(stage: Stage, release: Release, task: str, dollars: float) -> None:
    made = model_call(
        f"{task}-{stage.clock.at}",
        at=stage.clock.at,
        agent=AGENT,
        ring="dev",
        release=release.digest,
        task=task,
        nanos=round(dollars * 1e9),
        prices="sha256:table",
    )
    with stage.store.transaction() as transaction:
        transaction.add_calls([made], "calls/model-0.jsonl", "1:1")


def test_a_judge_hears_what_calls_cost_shortly_before_the_first_age_unless_somebody_said_so(
    stage: Stage, canary: str
) -> None:
    began = stage.clock.at
    stage.serve(TWO, ["metered", "reported", "silent"])
    make_call(stage, TWO, "metered", 0.25)
    make_call(stage, TWO, "reported", 0.25)
    stage.pass_time(5.0)
    make_call(stage, TWO, "metered", 0.5)
    with stage.store.transaction() as transaction:
        transaction.add_outcomes([Outcome("reported", Source.REPORT, stage.clock.at, cost=3.0, reporter="ann")])
    stage.pass_time(3.9)
    assert [task for task, _, _ in costs(stage, canary)] == ["reported"]
    stage.pass_time(0.2)
    make_call(stage, TWO, "metered", 9.0)
    stage.pass_time(20.0)
    assert costs(stage, canary)[1:] == [("metered", began + 9.0, 0.75)]
    with stage.store.snapshot() as snapshot:
        judged = snapshot.judgement(canary)
    assert judged is not None


def test_a_release_whose_calls_cost_more_is_taken_back(tmp_path: Path) -> None:
    settings = JudgeSettings(Ramp.EVIDENCE, (10.0, 20.0, 40.0), ceiling=2.0)
    one, two = (make_release(f"v{n}", rings=(RingSettings("dev", canary=STEPS, judge=settings),)) for n in (1, 2))
    with staged(tmp_path, (one, two)) as stage:
        stage.deploy(one)
        deployment = stage.deploy(two)
        for number in range(120):
            release = two if to_candidate(number) else one
            stage.serve(release, [f"t{number}"])
            make_call(stage, release, f"t{number}", 1.5 if release is two else 0.01)
        stage.look()
        assert stage.state(deployment).startswith("validating")
        stage.pass_time(9.0)
        stage.pass_time(10.0)
        assert stage.state(deployment) == "rolled_back"
        assert "cost" in stage.transitions(deployment)[-2][1]


def test_nothing_is_told_to_a_judge_before_the_records_were_read(stage: Stage) -> None:
    stage.deploy(ONE)
    canary = stage.deploy(TWO)
    blind = stage.another_server("two", read_up_to=lambda: -math.inf)
    stage.clock.at += 60.0
    stage.serve(TWO, ["t1"])
    make_call(stage, TWO, "t1", 0.5)
    blind.pass_time(30.0)
    assert costs(stage, canary) == []
    assert blind.state(canary).startswith("validating")
    stage.clock.at += 60.0
    stage.look()
    assert [cost for _, _, cost in costs(stage, canary)] == [0.5]


def test_costs_of_tasks_that_are_read_late_are_told_all_the_same(stage: Stage) -> None:
    stage.deploy(ONE)
    canary = stage.deploy(TWO)
    read_up_to = stage.clock.at
    slow = stage.another_server(stage.holder, read_up_to=lambda: read_up_to)
    for _ in range(5):
        slow.pass_time(10.0)  # nothing can be read meanwhile
    made, slow.clock.at = slow.clock.at, read_up_to + 1.0
    slow.serve(TWO, ["late"])
    make_call(slow, TWO, "late", 0.5)
    slow.clock.at = read_up_to = made
    slow.look()
    assert [(task, cost) for task, _, cost in costs(slow, canary)] == [("late", 0.5)]


def test_a_server_that_comes_back_tells_the_costs_of_the_time_without_one(stage: Stage) -> None:
    stage.deploy(ONE)
    canary = stage.deploy(TWO)
    stage.serve(TWO, ["before"])
    make_call(stage, TWO, "before", 0.25)
    stage.pass_time(10.0)
    stage.clock.at += 600.0  # nobody is there
    stage.serve(TWO, ["meanwhile"])
    make_call(stage, TWO, "meanwhile", 0.5)
    stage.clock.at += 600.0
    reading = -math.inf
    back = stage.another_server(stage.holder, read_up_to=lambda: reading)
    back.look()
    reading = math.inf
    back.look()
    assert [(task, cost) for task, _, cost in costs(stage, canary)] == [("before", 0.25), ("meanwhile", 0.5)]
