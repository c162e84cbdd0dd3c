"""What ends a deployment before it is active, and what takes an active one back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.callers import SteadyCaller
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import await_condition, await_ring, await_state, deploy, push_tiny
from tests.live import LiveInstance

LONG_CANARY = '[rings.dev]\ncanary = [{ weight = 50, time = "1h" }]\n'


def test_a_release_that_fails_its_smoke_task_never_becomes_active(instance: LiveInstance, tmp_path: Path) -> None:
    good = deploy(instance, "broken", push_tiny(instance, tmp_path, "good", agent="broken", smoke=True))
    write_agent(tmp_path, "bad", agent="broken", behaviour="wrong", smoke=True)
    with SteadyCaller(instance, "/broken/dev/") as caller:
        ended = instance.run("deploy", str(tmp_path), "--json", check=False)
        caller.check()
    assert ended.returncode == 8
    assert "smoke task 'answers'" in ended.stderr
    assert "answered 500" in ended.stderr
    assert set(caller.releases) == {good["digest"]}
    (newest,) = instance.json("deployments", "list", "broken", "--limit", "1")["deployments"]
    shown = instance.json("deployments", "status", newest["id"])
    assert [step["to"] for step in shown["transitions"]] == [
        *("queued", "building", "deploying", "validating"),
        *("rolling_back", "rolled_back"),
    ]
    ring = await_ring(instance, "broken", "dev", lambda ring: len(ring["replicas"]) == 1)
    assert (ring["stable"], ring["active_deployment"]) == (good["digest"], good["id"])


def test_a_rollback_during_a_canary_takes_the_candidate_out(instance: LiveInstance, tmp_path: Path) -> None:
    stable, candidate = _begin_canary(instance, tmp_path, "canaried")
    with SteadyCaller(instance, "/canaried/dev/") as caller:
        ended = instance.run("rollback", "canaried", "--ring", "dev", "--reason", "looks odd", "--json")
        caller.check()
    assert ended.returncode == 0
    assert '"rolled_back"' in ended.stdout
    ring = instance.ring("canaried", "dev")
    assert (ring["stable"], ring["candidate"], ring["active_deployment"]) == (stable["digest"], None, stable["id"])
    late = instance.run("rollback", "canaried", "--ring", "dev", check=False)
    assert late.returncode == 5
    assert "was taken back" in late.stderr
    assert "(aborted by admin: looks odd), and v1 serves dev" in late.stderr
    refused = instance.run("deploy", str(tmp_path), check=False)
    assert refused.returncode == 5
    assert "quarantine" in refused.stderr
    assert "looks odd" in refused.stderr
    assert instance.client().deployment(candidate["id"])["state"] == "rolled_back"


def test_an_abort_ends_a_canary_without_quarantine(instance: LiveInstance, tmp_path: Path) -> None:
    stable, candidate = _begin_canary(instance, tmp_path, "aborted")
    ended = instance.json("rollout", "abort", "aborted", "--ring", "dev", "--reason", "another day")
    assert (ended["id"], ended["state"]) == (candidate["id"], "rolled_back")
    assert instance.ring("aborted", "dev")["stable"] == stable["digest"]
    nothing = instance.run("rollout", "abort", "aborted", "--ring", "dev", check=False)
    assert nothing.returncode == 5
    assert "turnout rollback aborted --ring dev" in nothing.stderr
    again = instance.json("deploy", str(tmp_path), "--no-wait")
    assert again["digest"] == candidate["digest"]


def test_a_rejected_promotion_fails_and_says_by_whom(instance: LiveInstance, tmp_path: Path) -> None:
    rings = "[rings.dev]\n\n[rings.production]\napprovals = 1\n"
    deploy(instance, "rejected", push_tiny(instance, tmp_path, "one", agent="rejected", rings=rings))
    waiting = instance.json("promote", "rejected", "--to", "production")
    assert waiting["condition"]["type"] == "awaiting_approval"
    instance.run("reject", "rejected", "--ring", "production", "--comment", "not now")
    ended = await_state(instance, waiting["id"], {"failed"})
    assert ended["transitions"][-1]["reason"] == "rejected by admin"
    assert instance.ring("rejected", "production")["stable"] is None


def test_a_rollback_to_a_cold_version_validates_it_while_the_stable_one_serves(
    instance: LiveInstance, tmp_path: Path
) -> None:
    settings = {"agent": "archived", "rings": '[rings.dev]\nwarm = "1s"\ndrain = "1s"\n', "smoke": True}
    first, _, third = (
        deploy(instance, "archived", push_tiny(instance, tmp_path, note, **settings))["digest"]
        for note in ("one", "two", "three")
    )
    cold = await_ring(instance, "archived", "dev", lambda ring: len(ring["replicas"]) == 2 and not ring["retired"])
    assert first not in {replica["digest"] for replica in cold["replicas"]}
    with SteadyCaller(instance, "/archived/dev/") as caller:
        done = instance.json("rollback", "archived", "--ring", "dev", "--version", "v1")
        caller.check()
    assert [step["to"] for step in done["transitions"]] == ["queued", "building", "deploying", "validating", "active"]
    assert done["kind"] == "rollback"
    assert set(caller.releases) <= {first, third}
    ring = instance.ring("archived", "dev")
    assert (ring["stable"], ring["last_good"]) == (first, None)
    unknown = instance.run("rollback", "archived", "--ring", "dev", "--version", "v77", check=False)
    assert unknown.returncode == 4
    assert "turnout history archived --releases" in unknown.stderr


def test_a_rollback_goes_before_a_promotion_that_waits_and_its_release_needs_an_override_to_return(
    instance: LiveInstance, tmp_path: Path
) -> None:
    rings = "[rings.dev]\napprovals = 0\n\n[rings.production]\n"
    first, second = (
        deploy(instance, "hurried", push_tiny(instance, tmp_path, note, agent="hurried", rings=rings))["digest"]
        for note in ("one", "two")
    )
    gated = push_tiny(instance, tmp_path, "three", agent="hurried", rings="[rings.dev]\napprovals = 1\n")
    waiting = instance.client().deploy("hurried", "dev", {"release": gated})
    await_condition(instance, waiting["id"], "awaiting_approval")
    done = instance.json("rollback", "hurried", "--ring", "dev", "--reason", "two is wrong")
    assert (done["state"], done["digest"]) == ("active", first)
    why = instance.run("why", "hurried", "--ring", "dev").stdout
    assert why.startswith("hurried dev: v2 was taken back by admin\n")
    assert await_state(instance, waiting["id"], {"failed"})["transitions"][-1]["reason"].endswith("two is wrong")

    refused = instance.run("rollback", "hurried", "--ring", "dev", "--version", "v2", check=False)
    assert refused.returncode == 5
    assert "quarantine" in refused.stderr
    assert "--override" in refused.stderr
    back = instance.json("rollback", "hurried", "--ring", "dev", "--version", "v2", "--override", "two was right")
    assert (back["state"], back["digest"]) == ("active", second)


def _begin_canary(instance: LiveInstance, folder: Path, agent: str) -> tuple[Any, Any]:
    """A stable release in dev, and a candidate beside it that waits in its canary step."""
    stable = deploy(instance, agent, push_tiny(instance, folder, "one", agent=agent, rings=LONG_CANARY))
    digest = push_tiny(instance, folder, "two", agent=agent, rings=LONG_CANARY)
    candidate = instance.client().deploy(agent, "dev", {"release": digest})
    await_condition(instance, candidate["id"], "canary")
    return stable, candidate
