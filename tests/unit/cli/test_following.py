"""What the verbs that start something print, when they return, and with which code."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from tests.unit.domain.values import make_digest
from turnout.client import Problem, ServerEvent

ONE, TWO = make_digest("v1"), make_digest("v2")


def view(state: str, kind: str = "promote", condition: tuple[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "id": "dep_1",
        "agent": "support",
        "ring": "production",
        "digest": TWO,
        "version": "v2",
        "state": state,
        "kind": kind,
        "condition": {"type": condition[0], "message": condition[1], "since": "2026-01-01T00:00:00Z"}
        if condition
        else None,
        "actor": "ann",
        "reason": "",
        "created_at": "2026-01-01T00:00:00Z",
        "state_since": "2026-01-01T00:00:00Z",
        "step": 1,
        "steps": 2,
        "weight": 10.0,
        "tasks": 3,
    }
    return {**given, **fields}


def ring(name: str, **fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "ring": name,
        "stable": ONE,
        "candidate": None,
        "weight": 0.0,
        "last_good": None,
        "way_back": None,
        "active_deployment": "dep_0",
        "url": f"http://127.0.0.1:8080/support/{name}/",
        "stable_version": "v1",
        "candidate_version": None,
        "last_good_version": None,
        "way_back_version": None,
        "in_progress": None,
        "failed": None,
        "retired": [],
        "replicas": [{"state": "ready"}],
        "requests": {},
        "judged": None,
        "holdback": 0.0,
        "tripped": None,
    }
    return {**given, **fields}


CANARY = ring("production", candidate=TWO, candidate_version="v2", weight=10.0)


class Instance:
    """An instance in which one deployment goes its way."""

    def __init__(self, started: dict[str, Any], settled: dict[str, Any], *events: tuple[str, dict[str, Any]]) -> None:
        self.started = started
        self.settled = settled
        self.happened = events
        self.rings = [ring("staging", stable=TWO, stable_version="v2"), CANARY]
        self.config: list[str] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.history: list[dict[str, Any]] = []  # deployments of the ring, newest first

    def agent(self, agent: str) -> dict[str, Any]:
        return {"agent": agent, "rings": self.rings}

    def agents(self) -> dict[str, Any]:
        return {"agents": [self.agent("support")]}

    def instance(self) -> dict[str, Any]:
        return {"gateway": [gateway_process("model", running=True), gateway_process("tool", running=False)]}

    def preview(self, agent: str, ring: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((f"preview {what}", body))
        keys: dict[str, Any] = {"agent": agent, "ring": ring, "digest": TWO, "version": "v2", "kind": "promote"}
        lists = {"steps": ["approval: 1"], "overrides": [], "changed": ["prompts"], "config": self.config}
        return {**keys, **lists, "later": {"production": ["evals: answers was passed 1.0 hours ago"]}}

    def promote(self, agent: str, ring: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(("promote", body))
        return self.started

    def roll_back(self, agent: str, ring: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(("roll back", body))
        return self.started

    def deployments(self, agent: str, ring: str, limit: int) -> dict[str, Any]:
        without = [{key: item[key] for key in item if key != "transitions"} for item in self.history]
        return {"deployments": without[:limit]}

    def deployment(self, deployment: str) -> dict[str, Any]:
        return next((item for item in self.history if item["id"] == deployment), self.settled)

    def follow_deployment(self, deployment: str) -> Iterator[ServerEvent]:
        for name, data in self.happened:
            yield ServerEvent(name, {"at": "2026-01-01T12:34:56.000000Z", "data": data})
        yield ServerEvent("settled", self.settled)


PROMOTE = ("promote", "support", "--to", "production")
WAITS_FOR_APPROVAL = ("deployment.waiting", {"condition": "awaiting_approval", "message": "1 approval is missing"})
WAITS_FOR_BUILD = ("deployment.waiting", {"condition": "preparing", "message": "unpacking"})


@pytest.mark.parametrize(("state", "code"), [("active", 0), ("failed", 8), ("rolled_back", 8), ("superseded", 8)])
def test_a_promotion_ends_with_what_became_of_it(turnout: CommandLine, state: str, code: int) -> None:
    turnout.speaks_to(Instance(view("queued"), view(state)))
    done = turnout(*PROMOTE)
    assert done.code == code
    assert f"support v2 in production: {state}" in done.out


def test_the_way_is_shown_on_standard_error_and_the_result_alone_on_standard_output(turnout: CommandLine) -> None:
    moved = ("deployment.transitioned", {"to": "building", "reason": "a build slot is free"})
    instance = Instance(view("queued"), view("active"), moved, WAITS_FOR_BUILD)
    instance.config = ["replicas: 1 → 2"]
    turnout.speaks_to(instance)
    done = turnout(*PROMOTE, "--json")
    assert done.json() == view("active")
    assert "config   replicas: 1 → 2" in done.err
    assert "12:34:56  building     a build slot is free" in done.err
    assert "unpacking" in done.err


def test_a_promotion_that_waits_for_somebody_returns_and_says_what_to_do(turnout: CommandLine) -> None:
    waiting = view("building", condition=("awaiting_approval", "1 approval is missing"))
    turnout.speaks_to(Instance(view("queued"), waiting, WAITS_FOR_BUILD, WAITS_FOR_APPROVAL))
    done = turnout(*PROMOTE)
    assert done.code == 0
    assert "turnout approve support --ring production" in done.err


def test_who_wants_to_wait_waits(turnout: CommandLine) -> None:
    turnout.speaks_to(Instance(view("queued"), view("failed"), WAITS_FOR_APPROVAL))
    assert turnout(*PROMOTE, "--wait").code == 8


def test_who_does_not_want_to_wait_does_not(turnout: CommandLine) -> None:
    turnout.speaks_to(Instance(view("queued"), view("failed")))
    done = turnout(*PROMOTE, "--no-wait", "--json")
    assert (done.code, done.json()["state"]) == (0, "queued")


def test_a_promotion_comes_from_the_ring_before(turnout: CommandLine) -> None:
    instance = Instance(view("queued"), view("active"))
    turnout.speaks_to(instance)
    turnout(*PROMOTE)
    assert dict(instance.asked)["promote"]["source"] == "staging"
    for target in ("moon", "staging"):
        done = turnout("promote", "support", "--to", target)
        assert done.code == 4
        assert "hint:" in done.err


def test_a_dry_run_asks_for_a_preview_alone(turnout: CommandLine) -> None:
    instance = Instance(view("queued"), view("active"))
    turnout.speaks_to(instance)
    done = turnout(*PROMOTE, "--dry-run")
    assert done.code == 0
    assert "nothing was changed" in done.out
    assert "1. approval: 1" in done.out
    assert turnout(*PROMOTE, "--dry-run", "--json").json()["dry_run"] is True
    assert {name for name, _ in instance.asked} == {"preview promotions"}


ROLLBACK = ("rollback", "support", "--ring", "production")


def test_a_rollback_that_is_active_is_done(turnout: CommandLine) -> None:
    instance = Instance(view("queued", "rollback"), view("active", "rollback"))
    instance.rings = [ring("production", stable=TWO, stable_version="v2")]
    turnout.speaks_to(instance)
    done = turnout(*ROLLBACK, "--reason", "it lies")
    assert done.code == 0
    body = dict(instance.asked)["roll back"]
    assert (body["leaving"], body["reason"], body["quarantine"]) == (TWO, "it lies", True)


def test_a_canary_that_is_taken_back_is_what_was_wished(turnout: CommandLine) -> None:
    instance = Instance(view("validating"), view("rolled_back"))
    turnout.speaks_to(instance)
    assert turnout(*ROLLBACK).code == 0
    assert dict(instance.asked)["roll back"]["leaving"] == TWO


def test_a_rollback_that_failed_is_eight(turnout: CommandLine) -> None:
    turnout.speaks_to(Instance(view("queued", "rollback"), view("failed", "rollback")))
    assert turnout(*ROLLBACK).code == 8


def test_a_rollback_waits_through_everything(turnout: CommandLine) -> None:
    canary = ("deployment.waiting", {"condition": "canary", "message": "step 1 of 2"})
    turnout.speaks_to(Instance(view("queued", "rollback"), view("active", "rollback"), canary))
    assert "active" in turnout(*ROLLBACK).out


def test_where_a_rollback_goes_is_told_once_it_is_agreed(turnout: CommandLine) -> None:
    back = view("queued", "rollback", digest=make_digest("v0"), version="v0")
    instance = Instance(back, view("active", "rollback"))
    turnout.speaks_to(instance)
    v0, v1, v2 = (f"{name} ({make_digest(name)[7:14]})" for name in ("v0", "v1", "v2"))
    assert f"rollback support in production: {v2}, {v1} → {v0}\n" in turnout(*ROLLBACK, "--version", "v0").err
    instance.rings = [ring("production", last_good=TWO, last_good_version="v2")]
    assert f"rollback support in production: {v1} → {v0}\n" in turnout(*ROLLBACK).err
    turnout.speaks_to(Instance(view("validating"), view("rolled_back")))
    assert f"rollback support in production: {v2} → {v1}\n" in turnout(*ROLLBACK).err


def test_a_rollback_that_is_refused_says_nothing_of_a_release_that_leaves(turnout: CommandLine) -> None:
    class Refusing(Instance):
        def roll_back(self, agent: str, ring: str, body: dict[str, Any]) -> dict[str, Any]:
            raise Problem({"detail": "no release to go back to", "type": "urn:turnout:problem:conflict"}, 409)

    turnout.speaks_to(Refusing(view("queued"), view("active")))
    done = turnout(*ROLLBACK)
    assert (done.code, done.err) == (5, "error: no release to go back to\n")


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def taken_back(seconds: float = 150.0, **fields: Any) -> dict[str, Any]:
    """A canary of v2 that was taken back."""
    left = {
        "from": "validating",
        "to": "rolling_back",
        "at": ago(seconds),
        "actor": "turnout",
        "reason": "the judge says fail",
    }
    over = {**left, "from": "rolling_back", "to": "rolled_back", "actor": "turnout", "reason": "v1 serves production"}
    return view("rolled_back", **{"id": "dep_left", "transitions": [left, over], **fields})


WITHOUT_TRAFFIC = [
    view("queued", version="v3", step=0),
    view("building", version="v3", step=0),
    view("failed", version="v3", step=0),
    view("failed", "rollback", version="v0", actor="ann"),
]


def served_by_one(*history: dict[str, Any], **fields: Any) -> Instance:
    """An instance where v1 serves alone, and may be rolled back to v0."""
    instance = Instance(view("queued", "rollback"), view("active", "rollback"))
    instance.rings = [ring("production", last_good=make_digest("v0"), **fields)]
    instance.history = list(history)
    return instance


@pytest.mark.parametrize("since", [[], *[[one] for one in WITHOUT_TRAFFIC], WITHOUT_TRAFFIC])
def test_who_is_late_does_not_take_out_the_good_release(turnout: CommandLine, since: list[dict[str, Any]]) -> None:
    instance = served_by_one(*since, taken_back(), view("active", version="v1"))
    turnout.speaks_to(instance)
    for options in ((), ("--dry-run",), ("--reason", "it lies")):
        done = turnout(*ROLLBACK, *options)
        assert (done.code, instance.asked) == (5, [])
        assert "error: v2 was taken back 2 min " in done.err
        assert " ago (the judge says fail), and v1 serves production\n" in done.err
        assert "`--leaving v1`" in done.err
        assert "`turnout why support --ring production`" in done.err


@pytest.mark.parametrize("options", [("--leaving", "v1"), ("--leaving", ONE), ("--version", "v0")])
def test_who_names_a_release_rolls_back_in_one_step(turnout: CommandLine, options: tuple[str, ...]) -> None:
    instance = served_by_one(taken_back())
    turnout.speaks_to(instance)
    assert turnout(*ROLLBACK, *options).code == 0
    assert dict(instance.asked)["roll back"]["leaving"] == ONE


@pytest.mark.parametrize(
    "there",
    [
        served_by_one(),
        served_by_one(taken_back(3_700.0)),  # long ago
        served_by_one(taken_back(step=0)),  # no caller had met it
        served_by_one(view("active", version="v1"), taken_back()),  # came since
        served_by_one(view("superseded"), taken_back()),
        served_by_one(view("active", "rollback", version="v1", actor="ann"), taken_back()),  # knew what serves
        served_by_one(taken_back(), candidate=TWO, candidate_version="v2"),
    ],
)
def test_what_was_not_just_taken_back_hinders_no_rollback(turnout: CommandLine, there: Instance) -> None:
    turnout.speaks_to(there)
    assert turnout(*ROLLBACK).code == 0


@pytest.mark.parametrize(
    ("actor", "seconds", "code"), [("turnout", 150.0, 5), ("turnout", 3_700.0, 0), ("ann", 150.0, 0)]
)
def test_a_rollback_that_turnout_made_is_not_followed_by_another_by_accident(
    turnout: CommandLine, actor: str, seconds: float, code: int
) -> None:
    back = view("active", "rollback", version="v1", actor=actor, state_since=ago(seconds), reason="breaker: 100 %")
    turnout.speaks_to(served_by_one(*WITHOUT_TRAFFIC, back, view("rolled_back")))
    done = turnout(*ROLLBACK)
    assert done.code == code
    assert ("error: turnout went back to v1 2 min " in done.err) is (code == 5)
    assert (" ago (breaker: 100 %), and v1 serves production\n" in done.err) is (code == 5)


def test_what_leaves_may_be_named_by_any_of_its_names(turnout: CommandLine) -> None:
    class Tagged(Instance):
        def release(self, agent: str, ref: str) -> dict[str, Any]:
            return {"digest": make_digest(ref)}

    instance = Tagged(view("queued", "rollback"), view("active", "rollback"))
    turnout.speaks_to(instance)
    assert turnout(*ROLLBACK, "--leaving", "friday").code == 0
    assert dict(instance.asked)["roll back"]["leaving"] == make_digest("friday"), "the server refuses what is not there"


def test_a_failure_is_told_with_its_reason(turnout: CommandLine) -> None:
    transitions = [
        {"from": None, "to": "queued", "at": "", "actor": "ann", "reason": ""},
        {"from": "building", "to": "failed", "at": "", "actor": "turnout", "reason": "no such package"},
    ]
    turnout.speaks_to(Instance(view("queued"), view("failed", transitions=transitions)))
    assert "failed (no such package)" in turnout(*PROMOTE).out


def test_status_shows_what_is_where(turnout: CommandLine) -> None:
    instance = Instance(view("queued"), view("active"))
    retired = [
        {"digest": make_digest("v0"), "version": "v0", "quarantine": "it lied " * 20},
        {"digest": make_digest("v9"), "version": "v9", "quarantine": None},
    ]
    instance.rings = [
        ring("dev", failed=view("failed", ring="dev"), retired=retired, way_back=TWO, way_back_version="v2"),
        {
            **CANARY,
            "in_progress": view("validating", condition=("canary", "step 1 of 2")),
            "replicas": [{"state": "ready"}, {"state": "unready"}],
            "requests": {ONE: {"total": 1_200, "failed": 0}, TWO: {"total": 34, "failed": 5}},
        },
    ]
    turnout.speaks_to(instance)
    out = turnout("status", "support").out
    production = next(line for line in out.splitlines() if line.startswith("production"))
    for part in (f"v1 ({ONE[7:14]})", f"v2 ({TWO[7:14]}) 10 %", "1/2 ready", "1,234 (5 × 5xx)"):
        assert part in production
    assert "production: promote of v2 is validating (step 1 of 2); 3 tasks so far  [dep_1]" in out
    assert "dev: the last try failed: support v2 in dev: failed" in out
    assert "  dev: still warm: v0 (quarantine), v9\n" in out
    header, dev = out.splitlines()[1:3]
    assert dev[header.index("ROLLBACK TO") :].startswith(f"v2 ({TWO[7:14]})")
    shown = turnout("status", "--json").json()
    assert shown["agents"] == [{"agent": "support", "rings": instance.rings}]
    assert [process["running"] for process in shown["gateway"]] == [True, False]


def test_status_of_everything_shows_the_processes_of_the_gateway(turnout: CommandLine) -> None:
    instance = Instance(view("queued"), view("active"))
    instance.rings = [ring("dev")]
    turnout.speaks_to(instance)
    out = turnout("status").out
    assert "gateway: model process 0 on 127.0.0.1:7071 runs, started again 2 ×" in out
    assert "gateway: tool process 0 on 127.0.0.1:7071 does not run" in out


def gateway_process(kind: str, *, running: bool) -> dict[str, Any]:
    return {"kind": kind, "index": 0, "address": "127.0.0.1:7071", "running": running, "restarts": 2}


def test_status_of_nothing_says_what_to_do(turnout: CommandLine) -> None:
    class Empty:
        def agents(self) -> dict[str, Any]:
            return {"agents": []}

        def instance(self) -> dict[str, Any]:
            return {"gateway": []}

    turnout.speaks_to(Empty())
    assert "turnout deploy" in turnout("status").out


def test_what_an_agent_prints_does_not_act_on_the_terminal(turnout: CommandLine) -> None:
    class Logs:
        def follow_logs(self, agent: str, ring: str, *, lines: int, follow: bool) -> Iterator[ServerEvent]:
            yield ServerEvent("line", {"replica": "support.dev.0", "line": "\x1b]0;owned\x07 bell\tand tab"})

    turnout.speaks_to(Logs())
    out = turnout("logs", "support", "--ring", "dev").out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "bell\tand tab" in out
