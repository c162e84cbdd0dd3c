"""What the verbs that steer and show a rollout print."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.command import CommandLine
from tests.unit.cli.test_following import view

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
