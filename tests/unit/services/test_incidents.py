"""Why a deployment is where it is, in every state and whatever decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.alerts.incident import judged
from tests.unit.controller.stage import ADMIN, BOB, Stage, staged
from tests.unit.domain.values import make_release
from turnout.alerts.page import build_page
from turnout.alerts.page_html import build_html_page
from turnout.domain.errors import DamagedContent, Forbidden, NotFound
from turnout.domain.events import Event, EventType
from turnout.domain.models import CanaryStep, Quarantine, Release, RingSettings
from turnout.domain.outcomes import Tally
from turnout.domain.phases import Phase
from turnout.domain.policy import Role
from turnout.ports import StoredJudgement
from turnout.schemas import ComponentDiff, WhyView
from turnout.services import rollouts
from turnout.services.agents import show_agent
from turnout.services.evidence import build_course
from turnout.services.incidents import why
from turnout.services.office import Actor

RINGS = (RingSettings("dev"), RingSettings("production", approvals=1, canary=(CanaryStep(1_000, duration=60.0),)))
ONE, TWO, THREE = (make_release(f"v{number}", rings=RINGS) for number in (1, 2, 3))
DIFF: list[ComponentDiff] = [
    {
        "component": "code",
        "a": "x",
        "b": "y",
        "summary": {"text": "1 file changed", "kinds": {}},
        "changes": [{"kind": "file", "path": "server.py", "change": "changed"}],
        "left_out": 0,
    },
    {
        "component": "prompts",
        "a": "x",
        "b": "y",
        "summary": {"text": "1 prompt changed", "kinds": {}},
        "changes": [
            {
                "kind": "prompt",
                "path": "system.md",
                "change": "changed",
                "diff": "--- a\n+++ b\n@@ -1 +1 @@\n-Be short.\n+Be long.",
            }
        ],
        "left_out": 0,
    },
]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """v1 is active in production, v2 in dev."""
    with staged(tmp_path, (ONE, TWO, THREE)) as stage:
        stage.office = replace(stage.office, diff=lambda _a, _b: DIFF)
        to_production(stage, ONE)
        stage.pass_time(60.0, "production")
        stage.deploy(TWO)
        yield stage


def to_production(stage: Stage, release: Release) -> str:
    """A promotion that was approved."""
    stage.deploy(release)
    name = stage.promote("dev", "production")
    stage.approve("production")
    stage.look("production")
    return name


def to_canary(stage: Stage) -> str:
    """v2 gets ten per cent of production."""
    name = stage.promote("dev", "production", reason="answers with sources")
    stage.approve("production")
    stage.look("production")
    assert stage.pointer("production").candidate == TWO.digest
    return name


def ask(stage: Stage, name: str) -> WhyView:
    """Why; and both pages of it can be made."""
    view = why(stage.office, ADMIN, name)
    assert all(len(line) <= 80 for line in build_page(view).splitlines() if not line.startswith("    turnout "))
    assert "</html>" in build_html_page(view)
    return view


def done(view: WhyView) -> list[str]:
    """What was done, in words."""
    return [step["what"] for step in view["done"]]


def commands(view: WhyView) -> list[str]:
    """What can be done next."""
    return [item["command"] for item in view["next"]]


def test_one_that_waits_says_for_what_and_who_can_help(stage: Stage) -> None:
    view = ask(stage, stage.promote("dev", "production"))
    assert view["headline"] == "support production: v2 is building"
    assert (view["cause"]["kind"], view["cause"]["text"]) == ("waiting", "1 approval is missing")
    assert commands(view)[:2] == [
        "turnout approve support --ring production",
        "turnout reject support --ring production",
    ]
    assert (view["serving"]["stable_version"], view["decision"], view["approvals"]) == ("v1", None, [])


def test_a_canary_shows_its_share_and_what_its_judge_says(stage: Stage) -> None:
    name = to_canary(stage)
    with stage.store.transaction() as transaction:
        transaction.save_judgement(name, StoredJudgement(stage.clock.at, 0, judged(failing=0.05, tasks=200), {}))
    view = ask(stage, name)
    assert (view["cause"]["kind"], view["serving"]["weight"]) == ("waiting", 10.0)
    assert view["evidence"] is not None
    assert view["evidence"]["kind"] != "fail"
    assert "turnout rollout advance support --ring production" in commands(view)
    assert "traffic: 10 % to v2" in done(view)
    assert view["approvals"] == [{**view["approvals"][0], "by": BOB.name, "approved": True}]


def test_one_that_is_active_says_how_to_undo_it(stage: Stage) -> None:
    name = to_canary(stage)
    stage.pass_time(61.0, "production")
    view = ask(stage, name)
    assert (view["headline"], view["cause"]["kind"]) == ("support production: v2 is active", "none")
    assert commands(view)[0] == "turnout rollback support --ring production --reason TEXT"
    assert view["diff"] is not None
    assert (view["diff"]["a_version"], view["diff"]["b_version"]) == ("v1", "v2")
    assert done(view)[-2].startswith("active: all canary steps passed")
    assert done(view)[-1] == "traffic: everything to v2"


def test_the_most_telling_of_a_difference_comes_first(stage: Stage) -> None:
    view = ask(stage, to_canary(stage))
    assert view["diff"] is not None
    assert view["diff"]["text"] == "code: 1 file changed; prompts: 1 prompt changed"
    assert view["diff"]["lines"] == [
        "prompts: changed prompt system.md",
        "  -Be short.",
        "  +Be long.",
        "code: changed file server.py",
    ]


def test_what_cannot_be_compared_takes_nothing_else_away(stage: Stage) -> None:
    def damaged(_a: Release, _b: Release) -> list[ComponentDiff]:
        raise DamagedContent("a blob is damaged")

    stage.office = replace(stage.office, diff=damaged)
    view = ask(stage, to_canary(stage))
    assert view["diff"] is not None
    assert view["diff"]["problem"] == "a blob is damaged"
    assert "it cannot be said: a blob is damaged" in build_page(view)


def test_one_that_was_followed_says_by_what(stage: Stage) -> None:
    first = stage.pointer("production").active_deployment or ""
    to_canary(stage)
    stage.pass_time(61.0, "production")
    view = ask(stage, first)
    assert (view["headline"], view["cause"]["kind"]) == ("support production: v1 was followed by v2", "none")
    assert done(view)[-1] == "traffic: everything to v2, nothing to v1"


def test_a_candidate_that_a_person_took_back(stage: Stage) -> None:
    name = to_canary(stage)
    stage.clock.at += 30.0
    stage.roll_back("production", reason="it lies")
    view = ask(stage, name)
    assert view["headline"] == "support production: v2 was taken back by ann"
    assert (view["cause"]["kind"], view["cause"]["text"], view["cause"]["by"]) == ("person", "it lies", "ann")
    assert view["decision"] is not None
    assert 30.0 <= view["decision"]["seconds"] < 31.0
    assert "v2 is put into quarantine" in done(view)
    assert "traffic: everything to v1, nothing to v2" in done(view)
    assert view["serving"]["stable_version"] == "v1"
    assert view["release"] is not None
    assert "it lies" in str(view["release"]["quarantine"])


def test_an_active_release_that_a_person_took_back_and_the_rollback_itself(stage: Stage) -> None:
    name = to_canary(stage)
    stage.pass_time(61.0, "production")
    rollback = stage.roll_back("production", reason="it lies")
    left, came = ask(stage, name), ask(stage, rollback)
    assert (left["headline"], left["cause"]["text"]) == ("support production: v2 was taken back by ann", "it lies")
    assert (came["headline"], came["cause"]["kind"]) == ("support production: v1 is active", "person")
    assert came["cause"]["text"] == "it lies"
    assert came["diff"] is not None
    assert (came["diff"]["a_version"], came["diff"]["b_version"]) == ("v2", "v1")


def test_a_rollback_leads_to_what_it_left_before_anything_else(stage: Stage) -> None:
    """Nothing but v2 was active before v1, and v2 is in quarantine: there is no way back."""
    name = to_canary(stage)
    stage.pass_time(61.0, "production")
    rollback = stage.roll_back("production", reason="it lies")
    found = commands(ask(stage, rollback))
    assert found[0] == f"turnout why {name}"
    assert found[-1] == "turnout deploy"
    assert not any(command.startswith("turnout rollback") for command in found)


def test_a_rollback_that_can_go_back_further_says_so_last_and_names_what_would_go(stage: Stage) -> None:
    to_canary(stage)
    stage.pass_time(61.0, "production")
    third = to_production(stage, THREE)
    stage.pass_time(61.0, "production")
    found = commands(ask(stage, stage.roll_back("production", reason="it lies")))
    assert found[0] == f"turnout why {third}"
    assert found[-1] == "turnout rollback support --ring production --leaving v2 --reason TEXT"


def test_what_has_nothing_before_it_is_told_of_no_rollback(stage: Stage) -> None:
    found = commands(ask(stage, stage.pointer("production").active_deployment or ""))
    assert found[-1] == "turnout deploy"
    assert not any(command.startswith("turnout rollback") for command in found)


def test_one_that_was_rejected_says_by_whom(stage: Stage) -> None:
    name = stage.promote("dev", "production")
    stage.approve("production", approved=False)
    stage.look("production")
    view = ask(stage, name)
    assert view["headline"] == "support production: v2 failed before it got any traffic"
    assert view["cause"]["text"] == f"rejected by {BOB.name}"
    assert view["approvals"][0]["approved"] is False


def test_one_that_did_not_pass_its_smoke_tasks(stage: Stage) -> None:
    name = stage.deploy(THREE, look=False)
    with stage.store.transaction() as transaction:
        deployment = transaction.deployment(name)
        assert deployment is not None
        for phase in (Phase.BUILDING, Phase.DEPLOYING, Phase.VALIDATING):
            deployment = transaction.move(deployment, phase, at=stage.clock.at, actor="turnout", reason="")
        transaction.move(
            deployment, Phase.ROLLING_BACK, at=stage.clock.at, actor="turnout", reason="smoke task 'a' failed"
        )
    view = ask(stage, name)
    assert view["headline"] == "support dev: v3 did not pass its checks"
    assert (view["cause"]["kind"], view["cause"]["text"]) == ("check", "smoke task 'a' failed")
    assert "turnout logs support --ring dev" in commands(view)


def take_back(stage: Stage, name: str, event: EventType, data: dict[str, object]) -> None:
    """As the controller does it: cause, state and quarantine in one transaction."""
    now = stage.clock.at
    with stage.store.transaction() as transaction:
        deployment = transaction.deployment(name)
        assert deployment is not None
        transaction.emit(Event(event, now, "turnout", "support", "production", name, data))
        transaction.move(deployment, Phase.ROLLING_BACK, at=now, actor="turnout", reason=str(data["message"]))
        transaction.add_quarantine(
            Quarantine("support", TWO.digest, "production", str(data["message"]), "turnout", now)
        )


def test_what_the_judge_took_back_shows_its_evidence(stage: Stage) -> None:
    name = to_canary(stage)
    stage.clock.at += 45.0
    verdict = judged()
    with stage.store.transaction() as transaction:
        transaction.save_judgement(name, StoredJudgement(stage.clock.at, 9, verdict, {}, "fail"))
    data: dict[str, object] = {
        "kind": "fail",
        "metric": "failure",
        "against": 42.0,
        "message": "the judge says fail: …",
    }
    take_back(stage, name, EventType.ROLLOUT_JUDGED, data)
    view = ask(stage, name)
    assert view["headline"] == "support production: v2 is being taken back by the judge"
    assert view["cause"] == {**view["cause"], "kind": "judge", "metric": "failure", "text": "the judge says fail: …"}
    assert view["evidence"] is not None
    assert view["decision"] is not None
    assert view["decision"]["tasks"] == view["evidence"]["candidates"] > 0
    assert 45.0 <= view["decision"]["seconds"] < 46.0
    assert len(view["series"]) > 5
    assert done(view)[-3:] == ["the judge says fail: …", "rolling_back", "v2 is put into quarantine"]
    assert f"turnout lineage {view['evidence']['tasks'][0]['task']}" in commands(view)
    stage.look("production")
    assert ask(stage, name)["headline"] == "support production: v2 was taken back by the judge"


def test_what_a_breaker_took_back_shows_what_it_saw(stage: Stage) -> None:
    name = to_canary(stage)
    stage.clock.at += 45.0
    data: dict[str, object] = {
        "scope": "deployment",
        "metric": "error_rate",
        "value": 0.4,
        "above": 0.2,
        "window": 60.0,
    }
    take_back(stage, name, EventType.BREAKER_TRIPPED, {**data, "digest": TWO.digest, "message": "breaker: 40 %"})
    view = ask(stage, name)
    assert view["headline"] == "support production: v2 is being taken back by a breaker"
    assert view["breaker"] is not None
    assert (view["breaker"]["value"], view["breaker"]["task"]) == (0.4, None)
    assert "failed tasks 40.0%, above 20.0% (deployment, 1 min)" in build_page(view)


def test_the_course_of_what_a_breaker_saw_is_drawn(stage: Stage) -> None:
    name = to_canary(stage)
    for moment in range(12):
        stage.serve(TWO, [f"good-{moment}-{number}" for number in range(4)], "production")
        if moment >= 6:
            stage.serve(TWO, [f"bad-{moment}-{number}" for number in range(4)], "production", status=503)
        stage.clock.at += 10.0
    data: dict[str, object] = {
        "scope": "deployment",
        "metric": "error_rate",
        "value": 0.4,
        "above": 0.2,
        "window": 60.0,
    }
    take_back(stage, name, EventType.BREAKER_TRIPPED, {**data, "digest": TWO.digest, "message": "breaker: 40 %"})
    values = [point["against"]["error_rate"] for point in ask(stage, name)["series"]]
    assert values == [0.0] * 6 + [0.5] * 6


def test_the_course_counts_the_good_answers_of_conversations_too() -> None:
    since = [Tally(requests=20, errors=2), Tally(requests=10, errors=1), Tally()]
    assert [point["against"] for point in build_course("error_rate", since)] == [{"error_rate": 0.1}] * 2


TRIP: dict[str, object] = {"metric": "error_rate", "message": "breaker: 40 %"}


def spent(stage: Stage, name: str) -> tuple[int, int | None]:
    """The seconds and the tasks that were needed to decide."""
    decision = ask(stage, name)["decision"]
    assert decision is not None
    return int(decision["seconds"]), decision["tasks"]


def test_a_breaker_counts_the_tasks_of_its_own_time_and_none_that_came_later(stage: Stage) -> None:
    name = to_canary(stage)
    stage.serve(TWO, ["a", "b", "c"], "production", status=503)
    stage.clock.at += 7.0
    take_back(stage, name, EventType.BREAKER_TRIPPED, TRIP)
    stage.serve(TWO, ["late"], "production")
    assert spent(stage, name) == (7, 3)


def test_a_breaker_of_an_active_release_counts_what_came_to_it_after_its_canary_too(stage: Stage) -> None:
    name = to_canary(stage)
    stage.serve(TWO, ["a", "b"], "production")
    stage.pass_time(61.0, "production")
    assert stage.state(name) == "active"
    stage.serve(TWO, [f"t{number}" for number in range(100)], "production", status=503)
    stage.clock.at += 7.0
    take_back(stage, name, EventType.BREAKER_TRIPPED, TRIP)
    seconds, tasks = spent(stage, name)
    assert (68 <= seconds <= 70, tasks) == (True, 102)


def test_time_and_tasks_of_what_became_active_end_there_whatever_came_in_its_bake(stage: Stage) -> None:
    name = to_canary(stage)
    stage.serve(TWO, ["a", "b"], "production")
    stage.pass_time(61.0, "production")
    later = [f"t{number}" for number in range(50)]
    stage.serve_split(TWO, later, "candidate", ring="production", probability=0.98, rollout=name)
    stage.clock.at += 600.0
    verdict = judged(failing=0.05, tasks=200) | {"at": stage.clock.at}
    with stage.store.transaction() as transaction:
        transaction.save_judgement(name, StoredJudgement(stage.clock.at, 0, verdict, {}))
    assert spent(stage, name) == (61, 2)


def test_a_pause_is_part_of_the_time_in_which_the_tasks_came(stage: Stage) -> None:
    name = to_canary(stage)
    stage.serve(TWO, ["a", "b"], "production")
    rollouts.pause(stage.office, ADMIN, "support", "production", paused=True)
    stage.clock.at += 600.0
    rollouts.pause(stage.office, ADMIN, "support", "production", paused=False)
    stage.clock.at += 10.0
    stage.roll_back("production", reason="it lies")
    assert spent(stage, name) == (610, 2)


def test_an_early_advance_is_not_said_to_have_been_judged_before_it_began(stage: Stage) -> None:
    name = to_canary(stage)
    stage.clock.at += 1.0
    verdict = judged() | {"at": stage.clock.at - 100.0, "ratio": {"units": 0, "candidates": 0}}
    with stage.store.transaction() as transaction:
        transaction.save_judgement(name, StoredJudgement(stage.clock.at, 0, verdict, {}))
    rollouts.advance(stage.office, ADMIN, "support", "production")
    stage.look("production")
    view = ask(stage, name)
    assert (view["headline"], spent(stage, name)) == ("support production: v2 is active", (1, 0))
    assert "  the judge has looked at no task yet\n" in build_page(view)


def test_who_spoke_first_decided(stage: Stage) -> None:
    name = to_canary(stage)
    with stage.store.transaction() as transaction:
        at = stage.clock.at
        data = {"reason": "it lies", "quarantine": True}
        transaction.emit(Event(EventType.DEPLOYMENT_ABORT_REQUESTED, at, "ann", "support", "production", name, data))
    take_back(stage, name, EventType.BREAKER_TRIPPED, {"metric": "cost", "message": "breaker"})
    assert ask(stage, name)["cause"]["kind"] == "person"


def test_a_rollout_that_could_not_be_decided_in_its_time_was_taken_back_by_the_judge(stage: Stage) -> None:
    name = to_canary(stage)
    data: dict[str, object] = {"kind": "inconclusive", "metric": "failure", "message": "not decided within 3 days"}
    take_back(stage, name, EventType.ROLLOUT_JUDGED, data)
    cause = ask(stage, name)["cause"]
    assert (cause["kind"], cause["text"]) == ("judge", "not decided within 3 days")


def test_an_override_is_told(stage: Stage) -> None:
    name = stage.deploy(THREE, ring="production", override="launch day")
    (over,) = ask(stage, name)["overrides"]
    assert (over["by"], over["reason"]) == ("ann", "launch day")
    assert "not the first ring" in over["overridden"][0]


@pytest.mark.parametrize(("task", "named"), [("x; rm -rf ~", "'x; rm -rf ~'"), ("--full", "-- --full")])
def test_a_task_id_cannot_be_a_command_nor_an_option(stage: Stage, task: str, named: str) -> None:
    name = to_canary(stage)
    verdict = judged()
    verdict["weighed"] = [{"task": task, "metric": "failure", "at": 1.0, "factor": 2.0}]
    with stage.store.transaction() as transaction:
        transaction.save_judgement(name, StoredJudgement(stage.clock.at, 9, verdict, {}))
    assert f"turnout lineage {named}" in commands(ask(stage, name))


def test_an_agent_shows_where_a_rollback_would_go_and_not_a_release_in_quarantine(stage: Stage) -> None:
    to_canary(stage)
    stage.pass_time(61.0, "production")
    to_production(stage, THREE)
    stage.pass_time(61.0, "production")
    assert ways_back(stage) == ("v2", "v2")
    with stage.store.transaction() as transaction:
        transaction.add_quarantine(Quarantine("support", TWO.digest, "dev", "it lies", "ann", stage.clock.at))
    assert ways_back(stage) == ("v2", "v1")
    stage.roll_back("production")
    assert stage.pointer("production").stable == ONE.digest
    assert ways_back(stage) == (None, None)


def ways_back(stage: Stage) -> tuple[str | None, str | None]:
    """Last-good of production, and where a rollback would go."""
    ring = show_agent(stage.office, ADMIN, "support")["rings"][1]
    return ring["last_good_version"], ring["way_back_version"]


def test_a_long_story_is_told_by_its_beginning_and_its_end(stage: Stage) -> None:
    name = to_canary(stage)
    with stage.store.transaction() as transaction:
        for number in range(1_200):
            data = {"step": number}
            event = Event(EventType.ROLLOUT_PAUSED, stage.clock.at, "bob", "support", "production", name, data)
            transaction.emit(event)
    stage.roll_back("production", reason="enough")
    view = ask(stage, name)
    assert len(view["done"]) == 40
    assert done(view)[0].startswith("promote asked for")
    assert done(view)[-1].startswith("rolled_back")


def test_what_is_not_known_is_not_found(stage: Stage) -> None:
    with pytest.raises(NotFound):
        why(stage.office, ADMIN, "dep_999")


def test_a_reporter_sees_nothing(stage: Stage) -> None:
    with pytest.raises(Forbidden):
        why(stage.office, Actor("agent", Role.REPORTER), "dep_1")
