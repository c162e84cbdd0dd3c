"""Agents reach their models through the gateway, by their environment alone; and the gateway outlives the server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway_world import (
    MODEL,
    PROVIDER_KEY,
    FakeProvider,
    fake_provider,
    write_config,
    write_model_agent,
)
from tests.e2e.workshop import await_lineage, deploy, push_agent
from tests.live import LiveInstance, free_port, live_instance, wait_until


@dataclass
class World:
    instance: LiveInstance
    provider: FakeProvider
    port: int  # of the gateway

    def models(self, key: str) -> tuple[int, Any]:
        """Ask /v1/models with a key."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/models", headers={"x-api-key": key})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def visit(self, agent: str, path: str, task: str | None = None) -> tuple[int, Any]:
        """Ask an agent in dev."""
        headers = {"x-turnout-task": task} if task is not None else {}
        request = urllib.request.Request(f"{self.instance.traffic}/{agent}/dev{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def deploy(self, folder: Path, agent: str, **changes: Any) -> dict[str, str]:
        """Release an agent to dev, and return its environment."""
        deploy(self.instance, agent, push_agent(self.instance, write_model_agent(folder, agent, **changes)))
        wait_until(lambda: self.visit(agent, "/environment")[0] == 200, 10)
        return dict(self.visit(agent, "/environment")[1])

    def pid(self, kind: str = "model") -> int:
        """The process that serves."""
        return int(json.loads((self.instance.state / "gateway" / f"{kind}-0.json").read_text())["pid"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    state = tmp_path_factory.mktemp("gateway")
    port = free_port()
    flags = ("--gateway-port", str(port), "--tool-port", str(free_port()))
    with fake_provider() as provider:
        write_config(state / "gateway.toml", provider.url)
        with live_instance(state, flags=flags, env={"PROVIDER_KEY": PROVIDER_KEY}) as instance:
            yield World(instance, provider, port)


def test_an_agent_calls_its_model_before_it_is_ready_and_never_sees_the_provider_s_key(
    world: World, tmp_path: Path
) -> None:
    environment = world.deploy(tmp_path, "asking")
    assert world.provider.keys == [f"Bearer {PROVIDER_KEY}"]  # its smoke task
    key = environment["OPENAI_API_KEY"]
    assert environment["OPENAI_BASE_URL"] == f"http://127.0.0.1:{world.port}/v1"
    assert environment["ANTHROPIC_BASE_URL"] == environment["TURNOUT_GATEWAY_URL"] == f"http://127.0.0.1:{world.port}"
    assert environment["ANTHROPIC_API_KEY"] == environment["TURNOUT_GATEWAY_KEY"] == key
    assert "TURNOUT_MCP_URL" not in environment  # it has no tools
    status, listed = world.models(key)
    assert (status, [model["id"] for model in listed["data"]]) == (200, [MODEL])
    assert world.visit("asking", "/ask") == (200, "an answer")
    assert world.models(key[:-1])[0] == 401
    private = (world.instance.state / "gateway" / "grants.json", world.instance.state / "gateway" / "secret")
    assert [path.stat().st_mode & 0o777 for path in private] == [0o600, 0o600]
    told = world.instance.server_log() + private[0].read_text() + world.instance.run("status", "--json").stdout
    assert key not in told
    assert PROVIDER_KEY not in told


def test_a_call_belongs_to_the_task_that_the_agent_was_asked_for_and_to_its_budget(
    world: World, tmp_path: Path
) -> None:
    rings = '[rings.dev]\n[[rings.dev.budgets]]\nscope = "task"\nunit = "calls"\nlimit = 2\n'
    world.deploy(tmp_path, "frugal", rings=rings)
    task = "one task, 100% of it"
    answers = [world.visit("frugal", "/ask", task) for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert "budget" in answers[2][1]["error"]["message"]
    assert world.visit("frugal", "/ask", "another") == (200, "an answer")
    lineage = await_lineage(world.instance, task, lambda view: len(view["model_calls"]) == 3)
    assert [call["ended"] for call in lineage["model_calls"]] == ["done", "done", "refused"]
    made = lineage["model_calls"][:2]
    assert [(call["agent"], call["provider"], call["model"]) for call in made] == [("frugal", "openai", MODEL)] * 2


def test_an_instrumented_agent_passes_its_task_on_without_a_line_of_code(world: World, tmp_path: Path) -> None:
    agent, task = "instrumented", "a task that nobody's code names"
    folder = shutil.copytree(Path(__file__).parent / agent, tmp_path / agent)
    deploy(world.instance, agent, push_agent(world.instance, folder))
    assert [world.visit(agent, "/ask", task)[0] for _ in range(3)] == [200, 200, 429]
    assert world.visit(agent, "/ask", "another")[0] == 200
    lineage = await_lineage(world.instance, task, lambda view: len(view["model_calls"]) == 3)
    assert [call["ended"] for call in lineage["model_calls"]] == ["done", "done", "refused"]


def test_an_agent_with_tools_is_given_the_way_to_them_with_the_same_key(world: World, tmp_path: Path) -> None:
    environment = world.deploy(tmp_path, "handy", tools=True)
    url, key = environment["TURNOUT_MCP_URL"], environment["TURNOUT_GATEWAY_KEY"]
    assert list_tools(url, key) == (200, [])
    assert list_tools(url, "tk_wrong")[0] == 401


def list_tools(url: str, key: str) -> tuple[int, Any]:
    """Ask an MCP server for its tools."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-06-18",
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as response:
            return response.status, json.load(response)["result"]["tools"]
    except urllib.error.HTTPError as error:
        return error.code, None


def test_the_key_of_a_release_that_was_stopped_is_refused_within_seconds(world: World, tmp_path: Path) -> None:
    rings = '[rings.dev]\nwarm = "0s"\ndrain = "100ms"\nstop_grace = "200ms"\n'
    keys = [
        world.deploy(tmp_path, "changing", note=note, rings=rings)["OPENAI_API_KEY"] for note in ("one", "two", "three")
    ]
    assert len(set(keys)) == 3
    assert [world.models(key)[0] for key in keys[1:]] == [200, 200]  # active and last-good
    wait_until(lambda: world.models(keys[0])[0] == 401, 10, lambda: "the key of the first release still counts")


def test_the_gateway_outlives_the_server_and_is_healed_and_renewed_by_the_next_one(
    world: World, tmp_path: Path
) -> None:
    key = world.deploy(tmp_path, "lasting")["OPENAI_API_KEY"]
    before = (world.pid(), world.pid("tool"))
    world.instance.kill()
    assert world.visit("lasting", "/ask") == (200, "an answer")
    world.instance.start()
    assert (world.pid(), world.pid("tool")) == before

    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: world.pid() != before[0], 20, lambda: world.instance.server_log()[-2_000:])
    assert world.models(key)[0] == 200
    told = world.instance.client().instance()["gateway"]
    assert [(item["kind"], item["running"], item["restarts"]) for item in told] == [
        ("model", True, 1),
        ("tool", True, 0),
    ]

    healed = world.pid()
    world.instance.run("down", "--server-only")
    assert world.visit("lasting", "/ask") == (200, "an answer")
    world.instance.env["PROVIDER_KEY"] = "sk-renewed"  # which a process that runs cannot see
    world.instance.start()
    assert world.pid() != healed
    wait_until(lambda: not _runs(healed), 20, lambda: "the old process goes on")
    assert world.visit("lasting", "/ask") == (200, "an answer")
    assert world.provider.keys[-1] == "Bearer sk-renewed"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
