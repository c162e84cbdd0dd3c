"""What the verbs that steer and show a rollout print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from tests.unit.cli.test_following import view
from tests.unit.domain.judge.streams import feed, stream
from turnout.cli.main import VERBS
from turnout.cli.rollout import rollout
from turnout.client import ServerEvent
from turnout.domain.judge import Judge, view_evidence

HERE = ("support", "--ring", "production")


class Steered:
    """An instance with a canary that is steered. It answers with what is true from then on."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def steer(self, agent: str, ring: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body["action"])
        paused = body["action"] == "pause"
        return view("validating", condition=("paused", "until `turnout rollout resume`") if paused else None)


def test_a_pause_and_its_end_say_what_is_true_now(turnout: CommandLine) -> None:
    instance = Steered()
    turnout.speaks_to(instance)
    go_on = "turnout rollout resume support --ring production"
    here = "support v2 in production:"
    paused = turnout("rollout", "pause", *HERE).out
    assert paused == f"{here} paused at canary step 1 of 2 (10 %); it goes on with `{go_on}`  [dep_1]\n"
    assert turnout("rollout", "resume", *HERE).out == f"{here} goes on at canary step 1 of 2 (10 %)  [dep_1]\n"
    assert instance.asked == ["pause", "resume"]
    assert turnout("rollout", "pause", *HERE, "--json").json()["condition"]["type"] == "paused"
    assert turnout("rollout", "resume", *HERE, "--json").json()["condition"] is None


@pytest.mark.parametrize("paused", [True, False])
def test_leaving_a_step_says_where_the_rollout_is_now(turnout: CommandLine, paused: bool) -> None:
    class Advanced(Steered):
        now = view("validating", step=2, weight=50.0)

        def follow_deployment(self, deployment: str) -> Iterator[ServerEvent]:
            yield ServerEvent("rollout.stepped", {"data": {"step": 2}})

        def deployment(self, deployment: str) -> dict[str, Any]:
            return self.now

        def rollout(self, agent: str, ring: str) -> dict[str, Any]:
            return {"paused": paused}

    turnout.speaks_to(Advanced())
    stays = "; it stays paused, and goes on with `turnout rollout resume support --ring production`" if paused else ""
    assert turnout("rollout", "advance", *HERE).out == (
        f"support v2 in production: now at canary step 2 of 2 (50 %){stays}  [dep_1]\n"
    )
    assert turnout("rollout", "advance", *HERE, "--json").json()["step"] == 2
    Advanced.now = view("active", step=2, weight=0.0)
    assert turnout("rollout", "advance", *HERE).out == "support v2 in production: active  [dep_1]\n"


def test_the_list_of_verbs_names_what_can_be_done_with_a_rollout() -> None:
    line = VERBS["rollout"][2].lower()
    assert [word for word in rollout.commands if word not in line.replace("show", "status")] == []


@pytest.mark.parametrize("running", [True, False])
def test_a_status_says_where_reports_are_of_unknown_tasks_and_what_is_needed_while_it_runs(
    turnout: CommandLine, running: bool
) -> None:
    judge = Judge()
    feed(judge, stream(2, units=50))

    class Running:
        def rollout(self, agent: str, ring: str) -> dict[str, Any]:
            shown = {"deployment": view("validating"), "baking": False, "holdback": 0.0, "running": running}
            return {**shown, "unknown_reports": 1, "verdict": view_evidence(judge.verdict(1e4))}

    turnout.speaks_to(Running())
    out = turnout("rollout", "status", *HERE).out
    assert "  1 report in this instance names a task that nobody has seen\n" in out
    assert ("still needed for a pass" in out) is running


def planned(ramp: str, *steps: dict[str, Any], decides: bool = True, **more: Any) -> Any:
    """An instance that plans so."""

    class Planning:
        def plan_rollout(self, agent: str, ring: str, release: str | None) -> dict[str, Any]:
            return {
                "tasks_per_hour": 360.0,
                "rates": {"failure": 0.01},
                "seen": 500,
                "assumed": False,
                "ramp": ramp,
                "limit_hours": 72.0,
                "decides": decides,
                "hours_to_pass": 4.0,
                "over_after_hours": None,
                "bake_hours": 0.0,
                "steps": list(steps),
                "detections": [],
                **more,
            }

    return Planning()


def step(share: float, hours: float | None, seconds: float = 0.0, tasks: int = 0, slowest: str | None = None) -> Any:
    """A step of a plan; with a slowest metric it waits for proof."""
    proof = slowest is not None
    return {
        "share": share,
        "seconds": seconds,
        "tasks": tasks,
        "proof": proof,
        "leaves_at_hours": hours,
        "slowest": slowest,
    }


def test_a_plan_says_what_each_step_waits_for_and_when_the_release_is_active(turnout: CommandLine) -> None:
    turnout.speaks_to(planned("watch", step(0.1, 1 / 60, 60.0), step(0.5, 4 / 60, 60.0, 50), decides=False))
    lines = turnout("rollout", "plan", *HERE).out.splitlines()
    assert lines[2].startswith("ramp watch: its steps wait for time and tasks, never for proof")
    assert [line.split("  ") for line in map(squeezed, lines[3:])] == [
        ["an equal release is at", "after", "and waits there for"],
        ["10%", "at once", "1 min"],
        ["50%", "1 min", "1 min, 50 tasks of it"],
        ["active", "4 min", "-"],
    ]


def test_a_plan_by_evidence_names_what_takes_longest_and_what_cannot_be_proven(turnout: CommandLine) -> None:
    turnout.speaks_to(
        planned("evidence", step(0.1, 2.0, slowest="failure"), step(0.5, None, slowest="cost"), decides=False)
    )
    out = turnout("rollout", "plan", *HERE).out
    lines = [squeezed(line) for line in out.splitlines()]
    assert "10%  at once  proof that it is no worse (failure takes longest)" in lines
    assert "50%  2.0 h  proof that it is no worse (cost takes longest)" in lines
    assert "active  not within the limit  -" in lines
    assert lines[-1].endswith("within the limit of 72 h: expect inconclusive")


def test_a_plan_promises_no_detection_that_the_canary_leaves_no_time_for(turnout: CommandLine) -> None:
    late = {"metric": "failure", "effect": 0.1, "tasks": 18, "hours": 3.0, "in_time": False}
    step_ = step(0.1, 2 / 60, 120.0)
    turnout.speaks_to(planned("watch", step_, over_after_hours=2 / 60, detections=[late]))
    lines = [squeezed(line) for line in turnout("rollout", "plan", *HERE).out.splitlines()]
    assert lines[2] == "failure +10 points  18  - (would need 3.0 h)"
    assert lines[3].startswith("the canary is over after 2 min, and nothing is compared after it")
    assert "`bake`" in lines[3]
    turnout.speaks_to(planned("watch", step_, over_after_hours=2 / 60, bake_hours=1.0, detections=[late]))
    assert "the canary is over after 2 min, its bake 1.0 h later" in turnout("rollout", "plan", *HERE).out
    turnout.speaks_to(planned("watch", step_, over_after_hours=9.0, detections=[{**late, "in_time": True}]))
    out = turnout("rollout", "plan", *HERE).out
    assert "is over after" not in out
    assert "failure +10 points  18  3.0 h\n" in squeezed(out)


def test_a_plan_by_too_few_tasks_says_that_its_rates_are_assumed(turnout: CommandLine) -> None:
    turnout.speaks_to(planned("watch", step(0.1, 1.0, 60.0), seen=2, assumed=True))
    first = turnout("rollout", "plan", *HERE).out.splitlines()[0]
    assert first == (
        "360 tasks an hour; 2 tasks of the release that serves are too few to say how often it fails; "
        "assumed: failure 1.0%"
    )


def squeezed(line: str) -> str:
    """A line of a table with its columns two spaces apart."""
    return re.sub(r" {2,}", "  ", line)


def test_a_pause_is_in_the_history_with_who_made_it(turnout: CommandLine) -> None:
    class Past:
        def releases(self, agent: str) -> dict[str, Any]:
            return {"releases": []}

        def events(self, **_: object) -> dict[str, Any]:
            return {"events": [happened("rollout.resumed", "bob"), happened("rollout.paused", "ann")]}

    turnout.speaks_to(Past())
    paused, resumed = turnout("history", "support").out.splitlines()[1:]
    assert ("rollout.paused" in paused, "ann" in paused, paused.endswith("at step 1")) == (True, True, True)
    assert ("rollout.resumed" in resumed, "bob" in resumed) == (True, True)


def happened(type_: str, actor: str) -> dict[str, Any]:
    return {"type": type_, "actor": actor, "at": "2026-01-01T00:00:00Z", "ring": "production", "data": {"step": 1}}
