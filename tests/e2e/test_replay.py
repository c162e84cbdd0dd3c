"""Tasks that production recorded, asked of the next release: from the command line, and by the gate of a ring."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway_world import PROVIDER_KEY, fake_provider, write_config
from tests.e2e.shop_agent import AGENT, TOOLS, write_shop
from tests.e2e.workshop import SETTLED, await_state, deploy, push_agent
from tests.live import LiveInstance, free_port, live_instance, wait_until
from tests.mcp_servers import STDIO_SERVER
from turnout.cli.exits import EXIT_CODES

TASKS = 6
RINGS = """[rings.dev]
[rings.dev.replay]
from = "production"
tasks = 10
changed = 0.5
parallel = 2
timeout = "10s"

[rings.production]
[rings.production.record]
"""


@dataclass
class Shop:
    """An instance whose agent has served tasks in production."""

    instance: LiveInstance
    log: Path  # of the tool server
    folder: Path

    def release(self, name: str, **how: str) -> str:
        folder = write_shop(self.folder / name, rings=RINGS, note=name, **how)
        return push_agent(self.instance, folder, tag=name)

    def reached(self) -> int:
        """How many calls of tools reached the server."""
        return sum(json.loads(line)["method"] == "tools/call" for line in self.log.read_text().splitlines())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "turnout.cli.main", *arguments, "--state", str(self.instance.state)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    state, folder = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("shop")
    log, tools = folder / "messages.jsonl", folder / "listed.json"
    tools.write_text(json.dumps(TOOLS))
    flags = ("--gateway-port", str(free_port()), "--tool-port", str(free_port()), "--record-settle", "100ms")
    with fake_provider() as provider:
        write_config(state / "gateway.toml", provider.url)
        with (state / "gateway.toml").open("a") as config:
            command = json.dumps([sys.executable, str(STDIO_SERVER)])
            variables = '{ MCP_LOG = "env:SHOP_LOG", MCP_TOOLS = "env:SHOP_TOOLS" }'
            config.write(f"\n[tools.shop]\ncommand = {command}\nenv = {variables}\n")
        env = {"PROVIDER_KEY": PROVIDER_KEY, "SHOP_LOG": str(log), "SHOP_TOOLS": str(tools)}
        with live_instance(state, flags=flags, env=env) as instance:
            shop = Shop(instance, log, folder)
            deploy(instance, AGENT, shop.release("v1"))  # nothing serves in production yet: the gate is open
            promoted = instance.client().promote(AGENT, "production", {"source": "dev"})
            await_state(instance, promoted["id"], SETTLED)
            for number in range(TASKS):
                serve(instance, number)
            wait_until(lambda: len(instance.client().recordings(AGENT)["recordings"]) == TASKS, 20)
            yield shop


def serve(instance: LiveInstance, number: int) -> None:
    """One task of production."""
    calls = [["find", {"order": number}], ["refund", {"order": number, "amount": 5}]]
    body = json.dumps({"calls": calls, "think": f"order {number}"}).encode()
    headers = {"x-turnout-task": f"t{number}", "content-type": "application/json"}
    request = urllib.request.Request(f"{instance.traffic}/{AGENT}/production/ask", body, headers)
    with urllib.request.urlopen(request, timeout=20) as response:
        assert json.load(response)["said"][-1] == "an answer"


def test_a_release_is_asked_from_the_command_line_what_production_was_asked(shop: Shop) -> None:
    served = shop.reached()
    shop.release("v2", odd="t3", does="other")

    other = shop.run("replay", "ring:production", "v2", "--agent", AGENT, "--answers", "--max-changed", "0.3")
    shown = shop.run("replay", "show", "latest", "t3", "--agent", AGENT)
    (listed,) = shop.instance.client().replays(AGENT)["replays"]

    assert other.returncode == EXIT_CODES["replay_not_held"]
    assert f"{TASKS - 1} of {TASKS} tasks came out the same, 1 changed" in other.stdout
    assert '{"amount":5,"order":3}' in shown.stdout
    assert '{"amount":1000,"order":3}' in shown.stdout
    assert "(arguments)" in shown.stdout
    assert (listed["candidate_version"], listed["summary"]["divergences"]) == ("v2", 1)
    assert shop.reached() == served == 2 * TASKS


def test_the_gate_of_a_ring_refuses_what_changes_too_much(shop: Shop) -> None:
    served = shop.reached()
    client = shop.instance.client()
    document = next((shop.instance.state / "recordings").rglob("*.zst"))
    document.unlink()  # a missing blob is one unusable task

    much = client.deploy(AGENT, "dev", {"release": shop.release("v3", odd="t1,t2,t3,t4", does="other")})
    refused: Any = await_state(shop.instance, much["id"], SETTLED)

    assert refused["state"] == "failed"
    assert "the replay does not show that at most 50% of the tasks change" in refused["transitions"][-1]["reason"]
    kept = refused["replay"]
    assert (kept["actor"], kept["deployment"], kept["summary"]["tasks"]) == ("turnout", much["id"], TASKS)
    assert (kept["summary"]["unusable"], kept["summary"]["failed"]) == (1, 0)
    assert shop.reached() == served
