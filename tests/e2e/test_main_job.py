"""The main job on the sample agent: one digest through all rings, a canary, a rollback, quarantine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.callers import ask
from tests.e2e.workshop import await_condition, await_deployment, await_ring
from tests.live import LiveInstance, change_agent, copy_agent

AGENT = "docs-assistant"
RINGS = """[rings.dev]

[rings.staging]

[rings.production]
approvals = 1
canary = [{ weight = 40, time = "200ms", tasks = 3 }, { weight = 60, time = "1h" }]
drain = "2s"
stop_grace = "2s"
"""
QUESTION = {"prompt": "how do I format a string"}


@pytest.fixture(scope="module")
def approver(instance: LiveInstance) -> str:
    """The token of somebody who is not the author."""
    return str(instance.json("tokens", "create", "bob", "--role", "approver")["token"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_agent(tmp_path_factory.mktemp("sample") / "agent", rings=RINGS)


@pytest.fixture(scope="module")
def first(instance: LiveInstance, approver: str, folder: Path) -> str:
    """The digest of v1, taken through all rings."""
    digest = _bring_to_staging(instance, folder)
    waiting = instance.json("promote", AGENT, "--to", "production", "--reason", "first release")
    assert (waiting["state"], waiting["condition"]["type"]) == ("building", "awaiting_approval")
    own = instance.json("approve", AGENT, "--ring", "production")
    assert (own["satisfied"], own["approvers"]) == (False, ["admin"])
    given = instance.json("approve", AGENT, "--ring", "production", "--comment", "fine", token=approver)
    assert (given["satisfied"], given["approvers"]) == (True, ["admin", "bob"])
    done = await_deployment(instance, waiting["id"], lambda view: view["state"] == "active")
    assert [step["to"] for step in done["transitions"]] == ["queued", "building", "deploying", "validating", "active"]
    assert done["transitions"][2]["reason"] == "approved by admin, bob"
    return digest


@pytest.fixture(scope="module")
def second(instance: LiveInstance, approver: str, folder: Path, first: str) -> str:
    """The digest of v2: promoted through the canary, while callers ask."""
    change_agent(folder, "Answer in one sentence.")
    digest = _bring_to_staging(instance, folder)
    assert digest != first
    instance.run("approve", AGENT, "--ring", "production", "--release", digest, token=approver)
    started = instance.json("promote", AGENT, "--to", "production")
    await_condition(instance, started["id"], "canary")
    _pass_first_step(instance, started["id"], first, digest)
    advanced = instance.json("rollout", "advance", AGENT, "--ring", "production")
    assert advanced["id"] == started["id"]
    done = await_deployment(instance, started["id"], lambda view: view["state"] == "active")
    assert done["transitions"][-1]["reason"] == "the last canary step was left by hand"
    return digest


def test_the_same_digest_is_stable_in_every_ring(instance: LiveInstance, first: str) -> None:
    for ring in ("dev", "staging", "production"):
        answer = ask(instance, f"/{AGENT}/{ring}/invocations", body=QUESTION)
        assert (answer.status, answer.release) == (200, first)
        assert "formatstrings" in answer.text


def test_the_canary_ends_with_the_new_release_stable_and_the_old_one_warm(
    instance: LiveInstance, first: str, second: str
) -> None:
    ring = instance.ring(AGENT, "production")
    assert (ring["stable"], ring["last_good"], ring["candidate"], ring["weight"]) == (second, first, None, 0)
    assert {replica["digest"]: replica["state"] for replica in ring["replicas"]} == {first: "ready", second: "ready"}


def test_answers_name_their_release_and_task_and_keep_the_callers_own_task(instance: LiveInstance, second: str) -> None:
    named = ask(instance, f"/{AGENT}/production/ping", {"x-turnout-task": "order-17"})
    assert (named.release, named.task) == (second, "order-17")
    unnamed = [ask(instance, f"/{AGENT}/production/ping").task for _ in range(2)]
    assert all(unnamed)
    assert unnamed[0] != unnamed[1]


def test_a_warm_release_can_be_pinned_and_a_cold_one_cannot(instance: LiveInstance, first: str, second: str) -> None:
    for digest in (first, second):
        pinned = ask(instance, f"/{AGENT}/production/invocations", {"x-turnout-release": digest}, QUESTION)
        assert (pinned.status, pinned.release) == (200, digest)
        assert pinned.fields["release"]["digest"] == digest
    refused = ask(instance, f"/{AGENT}/production/ping", {"x-turnout-release": "sha256:" + "0" * 64})
    assert refused.status == 409
    assert "not warm" in refused.text


def test_a_ring_answers_under_its_host_name(instance: LiveInstance, second: str) -> None:
    host = f"production.{AGENT}.localhost:{instance.traffic_port}"
    answer = ask(instance, "/invocations", {"host": host}, QUESTION)
    assert (answer.status, answer.release) == (200, second)
    assert ask(instance, "/nobody/nowhere/", {}).status == 404


def test_a_rollback_flips_to_last_good_and_quarantine_asks_for_an_override(
    instance: LiveInstance, approver: str, first: str, second: str
) -> None:
    flipped = instance.json("rollback", AGENT, "--ring", "production", "--reason", "wrong sources")
    assert (flipped["state"], flipped["kind"], flipped["digest"]) == ("active", "rollback", first)
    assert ask(instance, f"/{AGENT}/production/ping").release == first

    refused = instance.run("promote", AGENT, "--to", "production", check=False)
    assert refused.returncode == 5
    assert "quarantine" in refused.stderr
    assert "wrong sources" in refused.stderr
    assert "--override" in refused.stderr
    operator = instance.json("tokens", "create", "olga", "--role", "operator")["token"]
    forbidden = instance.run("promote", AGENT, "--to", "production", "--override", "fixed", check=False, token=operator)
    assert forbidden.returncode == 6

    started = instance.json("promote", AGENT, "--to", "production", "--override", "the sources are right after all")
    await_condition(instance, started["id"], "canary")
    events = instance.json("history", AGENT, "--ring", "production")["events"]
    overridden = [event for event in events if event["type"] == "policy.overridden"]
    assert [event["deployment"] for event in overridden] == [started["id"]]

    aborted = instance.json("rollout", "abort", AGENT, "--ring", "production", "--reason", "enough")
    assert (aborted["id"], aborted["state"]) == (started["id"], "rolled_back")
    ring = await_ring(instance, AGENT, "production", lambda ring: ring["in_progress"] is None)
    assert (ring["stable"], ring["candidate"], ring["weight"]) == (first, None, 0)


def _bring_to_staging(instance: LiveInstance, folder: Path) -> str:
    deployed = instance.json("deploy", str(folder), "--ring", "dev")
    assert deployed["state"] == "active"
    promoted = instance.json("promote", AGENT, "--to", "staging")
    assert (promoted["state"], promoted["kind"], promoted["digest"]) == ("active", "promote", deployed["digest"])
    return str(promoted["digest"])


def _pass_first_step(instance: LiveInstance, deployment: str, stable: str, candidate: str) -> None:
    """Ask until the candidate had its tasks; then the second step, which only a person ends, begins."""
    answered = set()
    for number in range(200):
        answered.add(ask(instance, f"/{AGENT}/production/ping", {"x-turnout-task": f"task-{number}"}).release)
        if number > 40 and instance.ring(AGENT, "production")["weight"] == 60:
            break
    assert answered == {stable, candidate}
    view = await_deployment(instance, deployment, lambda view: view["step"] == 2)
    assert (view["state"], view["steps"], view["weight"]) == ("validating", 2, 60)
