"""A release that spends too much: its calls stop, the ring is back on last-good, and all of it can be looked up."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway_world import MODEL, PROVIDER_KEY, fake_provider, write_config
from tests.e2e.test_gateway import World
from tests.live import free_port, live_instance, wait_until

AGENT, TASK = "spending", "a-task-that-never-ends"
CALL = 0.000_075  # dollars for the tokens of one answer of the fake provider
RINGS = f"""[rings.dev]
[[rings.dev.breakers]]
scope = "run"
metric = "cost"
above = {5.5 * CALL:.7f}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    state = tmp_path_factory.mktemp("limits")
    port = free_port()
    flags = ("--gateway-port", str(port), "--tool-port", str(free_port()))
    with fake_provider() as provider:
        write_config(state / "gateway.toml", provider.url)
        with live_instance(state, flags=flags, env={"PROVIDER_KEY": PROVIDER_KEY}) as instance:
            yield World(instance, provider, port)


def ask(world: World) -> int:
    """One turn of the task."""
    request = urllib.request.Request(f"{world.instance.traffic}/{AGENT}/dev/ask", headers={"x-turnout-task": TASK})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def breakers(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.instance.json("breakers", "list", AGENT)["breakers"]
    return found


def test_a_task_that_spends_too_much_stops_its_release_and_is_in_the_lineage(world: World, tmp_path: Path) -> None:
    first = world.deploy(tmp_path, AGENT, note="one", rings=RINGS)["OPENAI_API_KEY"]
    second = world.deploy(tmp_path, AGENT, note="two", rings=RINGS)["OPENAI_API_KEY"]
    good, bad = world.instance.ring(AGENT, "dev")["last_good"], world.instance.ring(AGENT, "dev")["stable"]
    assert [ask(world) for _ in range(6)] == [200] * 6
    began = time.monotonic()
    wait_until(lambda: world.instance.ring(AGENT, "dev")["stable"] == good, 10, lambda: str(breakers(world)))
    assert time.monotonic() - began < 3.0
    wait_until(lambda: world.models(second)[0] == 403, 5, lambda: "calls of the release go on")
    assert world.models(first)[0] == 200
    (opened,) = [item for item in breakers(world) if item["state"] == "open"]
    assert (opened["digest"], opened["metric"], opened["task"]) == (bad, "cost", TASK)

    view = world.instance.json("lineage", TASK)
    assert [call["ended"] for call in view["model_calls"]] == ["done"] * 6
    assert {call["answered_by"] for call in view["model_calls"]} == {MODEL}
    assert view["metered"]["cost"] == view["outcome"]["cost"] == pytest.approx(6 * CALL)
    assert "model calls" in world.instance.run("lineage", TASK).stdout

    world.instance.run("breakers", "reset", AGENT, "dev", "--half-open", "--reason", "a test")
    wait_until(lambda: world.models(second)[0] == 200, 5, lambda: "calls are not let through again")
    assert world.instance.ring(AGENT, "dev")["stable"] == good


def test_a_budget_of_the_instance_refuses_the_call_that_would_exceed_it(world: World, tmp_path: Path) -> None:
    world.deploy(tmp_path, AGENT, note="three")
    world.instance.run("budgets", "set", "--limit", "3", "--unit", "calls", "--window", "1h", "--agent", AGENT)
    wait_until(lambda: world.visit(AGENT, "/ask")[0] == 429, 10, lambda: "no call is refused")
    found = world.instance.json("budgets", "list")
    (account,) = [item for item in found["accounts"] if item["name"].startswith(f"agent/{AGENT}/calls")]
    assert (account["settled"], account["held"], account["limit"]) == (3.0, 0.0, 3.0)
    world.instance.run("budgets", "unset", "--unit", "calls", "--window", "1h", "--agent", AGENT)
    wait_until(lambda: world.visit(AGENT, "/ask")[0] == 200, 10, lambda: "calls are still refused")
