"""Rollouts that are decided by what becomes of tasks, on the real thing."""

from __future__ import annotations

import itertools
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.callers import ask
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import await_condition, await_state, deploy, push_agent, push_tiny
from tests.live import LiveInstance, live_instance, wait_until

JUDGED = """
[rings.dev]
canary = [{ weight = 50 }]

[rings.dev.judge]
ramp = "evidence"
ages = ["1s", "2s", "4s"]
limit = "1h"
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstance]:
    with live_instance(tmp_path_factory.mktemp("judged")) as started:
        yield started


def call(instance: LiveInstance, agent: str, task: str | None = None) -> int:
    """One request. Without a task it is one of its own, and decided by its answer."""
    headers = {"x-turnout-task": task} if task else {}
    request = urllib.request.Request(f"{instance.traffic}/{agent}/dev/", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def call_until(instance: LiveInstance, agent: str, met: Callable[[], bool], most: int = 3000) -> int:
    """New tasks, one after the other, until something is so. How many."""
    for number in itertools.count(1):
        call(instance, agent)
        if number % 5 == 0 and met():
            return number
        assert number < most, instance.json("rollout", "status", agent, "--ring", "dev")
    raise AssertionError


def test_a_release_that_fails_its_tasks_is_taken_back_by_itself(instance: LiveInstance, tmp_path: Path) -> None:
    good = push_tiny(instance, tmp_path / "agent", agent="failing", rings=JUDGED)
    deploy(instance, "failing", good)
    bad = push_agent(instance, write_agent(tmp_path / "agent", agent="failing", rings=JUDGED, behaviour="wrong"))
    started = instance.client().deploy("failing", "dev", {"release": bad})
    await_state(instance, started["id"], {"validating"})
    wait_until(lambda: instance.ring("failing", "dev")["candidate"] == bad, 20)

    call_until(instance, "failing", lambda: instance.ring("failing", "dev")["candidate"] is None)

    done = await_state(instance, started["id"], {"rolled_back"})
    transitions = instance.client().deployment(started["id"])["transitions"]
    assert "the judge says fail: failure" in transitions[-2]["reason"], done
    release = instance.client().release("failing", bad)
    assert "the judge says fail" in (release["quarantine"] or "")
    view = instance.client().rollout("failing", "dev")
    assert view["verdict"] is not None
    assert view["verdict"]["kind"] == "fail"
    assert view["decided"] == "fail"


def deploy_two(
    instance: LiveInstance, folder: Path, agent: str, first: dict[str, str], second: dict[str, str]
) -> tuple[str, str, str]:
    """The first release is active, the second in its canary or past it: (first digest, second digest, deployment)."""
    good = push_tiny(instance, folder, agent=agent, **first)
    deploy(instance, agent, good)
    other = push_tiny(instance, folder, "two", agent=agent, **second)
    started = instance.client().deploy(agent, "dev", {"release": other})
    wait_until(lambda: other in (instance.ring(agent, "dev")[place] for place in ("candidate", "stable")), 30)
    return good, other, started["id"]


def test_an_equal_release_is_promoted_by_evidence(instance: LiveInstance, tmp_path: Path) -> None:
    _, other, deployment = deploy_two(instance, tmp_path / "agent", "equal", {"rings": JUDGED}, {"rings": JUDGED})
    call_until(instance, "equal", lambda: instance.ring("equal", "dev")["stable"] == other)
    done = await_state(instance, deployment, {"active"})
    reason = instance.client().deployment(deployment)["transitions"][-1]["reason"]
    assert "proven no worse than stable" in reason, done


def test_a_conversation_that_fails_later_is_a_failure(instance: LiveInstance, tmp_path: Path) -> None:
    both = {"rings": JUDGED, "behaviour": "second"}
    _, other, deployment = deploy_two(instance, tmp_path / "agent", "forgetful", {"rings": JUDGED}, both)
    for number in itertools.count():
        for _ in range(2):
            call(instance, "forgetful", f"conversation-{number}")
        if number % 5 == 0 and instance.ring("forgetful", "dev")["candidate"] is None:
            break
        assert number < 1_000, instance.json("rollout", "status", "forgetful", "--ring", "dev")
    await_state(instance, deployment, {"rolled_back"})
    assert "failure" in (instance.client().release("forgetful", other)["quarantine"] or "")


def test_a_release_that_costs_more_is_taken_back(instance: LiveInstance, tmp_path: Path) -> None:
    rings = JUDGED + "ceiling = 2.0\n"
    fair, dear = {"rings": rings, "behaviour": "fair"}, {"rings": rings, "behaviour": "dear"}
    _, other, deployment = deploy_two(instance, tmp_path / "agent", "costly", fair, dear)
    tasks = call_until(instance, "costly", lambda: instance.ring("costly", "dev")["candidate"] is None)
    await_state(instance, deployment, {"rolled_back"})
    assert "cost" in (instance.client().release("costly", other)["quarantine"] or "")
    assert tasks < 400


def test_reports_decide_where_the_ring_says_so(instance: LiveInstance, tmp_path: Path) -> None:
    def reported(folder: Path, note: str) -> str:
        write_agent(folder, note, agent="reported", rings=JUDGED)
        manifest = folder / "turnout.toml"
        manifest.write_text(manifest.read_text().replace("[health]", '[outcomes]\nsuccess = "report"\n\n[health]'))
        return push_agent(instance, folder)

    deploy(instance, "reported", reported(tmp_path / "agent", "one"))
    other = reported(tmp_path / "agent", "two")
    started = instance.client().deploy("reported", "dev", {"release": other})
    wait_until(lambda: instance.ring("reported", "dev")["candidate"] == other, 30)
    for number in range(400):
        answer = ask(instance, "/reported/dev/", {"x-turnout-task": f"reported-{number}"})
        failed = answer.release == other
        instance.client().report(f"reported-{number}", {"success": not failed})
        if number % 5 == 0 and instance.ring("reported", "dev")["candidate"] is None:
            break
    done = await_state(instance, started["id"], {"rolled_back"})
    assert "the judge says fail: failure" in instance.client().deployment(done["id"])["transitions"][-2]["reason"]


def test_a_paused_rollout_stays_and_a_worse_release_goes_all_the_same(instance: LiveInstance, tmp_path: Path) -> None:
    rings = "[rings.dev]\ncanary = [{ weight = 50, tasks = 5 }]\n"
    bad = {"rings": rings, "behaviour": "wrong"}
    _, other, deployment = deploy_two(instance, tmp_path / "agent", "paused", {"rings": rings}, bad)
    instance.run("rollout", "pause", "paused", "--ring", "dev")
    assert "paused" in instance.run("rollout", "status", "paused", "--ring", "dev").stdout
    call_until(instance, "paused", lambda: instance.ring("paused", "dev")["candidate"] is None)
    await_state(instance, deployment, {"rolled_back"})
    assert instance.client().release("paused", other)["quarantine"]


def test_a_rollout_without_tasks_is_inconclusive_and_never_promoted(instance: LiveInstance, tmp_path: Path) -> None:
    for policy, agent in (("hold", "silent-hold"), ("back", "silent-back")):
        rings = JUDGED.replace("1h", "500ms") + f'inconclusive = "{policy}"\n'
        good, _, deployment = deploy_two(instance, tmp_path / agent, agent, {"rings": rings}, {"rings": rings})
        if policy == "back":
            await_state(instance, deployment, {"rolled_back"})
        else:
            await_condition(instance, deployment, "inconclusive")
            instance.run("rollout", "abort", agent, "--ring", "dev")
        assert instance.ring(agent, "dev")["stable"] == good


def test_a_release_that_turns_bad_while_it_bakes_is_rolled_back_by_itself(
    instance: LiveInstance, tmp_path: Path
) -> None:
    rings = JUDGED.replace('"evidence"', '"watch"') + 'bake = "1h"\nholdback = 50\n'
    good, other, deployment = deploy_two(
        instance, tmp_path / "agent", "baking", {"rings": rings}, {"rings": rings, "behaviour": "wrong"}
    )
    wait_until(lambda: instance.ring("baking", "dev")["stable"] == other, 30)
    assert "still judged" in instance.run("rollout", "status", "baking", "--ring", "dev").stdout
    call_until(instance, "baking", lambda: instance.ring("baking", "dev")["stable"] == good)
    await_state(instance, deployment, {"rolled_back"})
    assert "the judge says fail" in (instance.client().release("baking", other)["quarantine"] or "")


@pytest.mark.parametrize("scope", ["run", "deployment"])
def test_a_breaker_takes_the_active_release_back(instance: LiveInstance, tmp_path: Path, scope: str) -> None:
    check_breaker(instance, tmp_path, scope)


def test_a_breaker_over_everything_takes_the_worst_release_back(tmp_path: Path) -> None:
    with live_instance(tmp_path / "state") as instance:
        bystander = push_tiny(instance, tmp_path / "bystander", agent="bystander")
        deploy(instance, "bystander", bystander)
        for _ in range(10):
            call(instance, "bystander")
        check_breaker(instance, tmp_path, "workspace")
        assert instance.ring("bystander", "dev")["stable"] == bystander


def check_breaker(instance: LiveInstance, tmp_path: Path, scope: str) -> None:
    agent, above = f"broken-{scope}", 3 if scope == "run" else 0.5
    rule = f'[[rings.dev.breakers]]\nscope = "{scope}"\nmetric = "error_rate"\nabove = {above}\ntasks = 10\n'
    rings = f"[rings.dev]\n\n{rule}"
    good = push_tiny(instance, tmp_path / "agent", agent=agent, rings=rings)
    deploy(instance, agent, good)
    bad = push_tiny(instance, tmp_path / "agent", agent=agent, rings=rings, behaviour="wrong")
    deploy(instance, agent, bad)
    for number in itertools.count():
        call(instance, agent, "one task" if scope == "run" else None)
        if number % 10 == 9 and instance.ring(agent, "dev")["stable"] == good:
            break
        assert number < 500
    assert "breaker" in (instance.client().release(agent, bad)["quarantine"] or "")
    types = [event["type"] for event in instance.client().events(agent=agent)["events"]]
    assert "breaker.tripped" in types


def test_a_breaker_with_nothing_to_go_back_to_says_so_once(instance: LiveInstance, tmp_path: Path) -> None:
    rule = '[rings.dev]\n\n[[rings.dev.breakers]]\nmetric = "error_rate"\nabove = 0.5\ntasks = 5\n'
    only = push_tiny(instance, tmp_path / "agent", agent="alone", rings=rule, behaviour="wrong")
    deploy(instance, "alone", only)

    def trips() -> int:
        events = instance.client().events(agent="alone", limit=500)["events"]
        return sum(event["type"] == "breaker.tripped" for event in events)

    call_until(instance, "alone", lambda: trips() > 0)
    for _ in range(50):
        call(instance, "alone")
    assert trips() == 1
    assert instance.ring("alone", "dev")["stable"] == only
