"""The agent that does tasks of tau2: as a process, through a real tool gateway, at a real tool server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.live import wait_until
from tests.mcp_servers import Gateway, pins_of
from tests.tau2_world import (
    EXAMPLE,
    PACKAGE,
    Tau2Server,
    evaluate,
    running_agent,
    tau2_gateway,
    tau2_pins,
    tau2_server,
    tau2_tasks,
    write_tau2_agent,
)
from turnout.gateway.values import ToolServer

from adapter import case  # isort: skip  # from the folder of the example
from evals.stand_in import answer as said  # isort: skip


@dataclass
class World:
    folder: Path
    server: Tau2Server
    gateway: Gateway

    def cases(self, *tasks: str, repeats: int = 1) -> list[dict[str, Any]]:
        return [{**case(task), "repeat": n} for task in tau2_tasks() if task.id in tasks for n in range(repeats)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tau2")
    with tau2_server(folder / "calls.jsonl") as server, tau2_gateway(server.as_tool_server()) as gateway:
        yield World(write_tau2_agent(folder / "agent"), server, gateway)


def ask(url: str, body: Any, **headers: str) -> tuple[int, dict[str, Any], str]:
    request = urllib.request.Request(f"{url}/invocations", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response), response.headers["x-turnout-outcome"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), ""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_task_is_done_through_the_gateway_under_its_id(world: World) -> None:
    world.gateway.calls.clear()
    before = world.server.counts.document()
    with running_agent(world.folder, world.gateway.url, CALL_PRICE="0.01") as agent:
        status, answer, outcome = ask(agent.url, {"task": "retail-0"}, **{"x-turnout-task": "t-1"})

    after = world.server.counts.document()
    recorded = next(task for task in tau2_tasks() if task.id == "retail-0")
    lines = (world.folder.parent / "calls.jsonl").read_text().splitlines()
    assert (status, outcome) == (200, "success; cost=0.050000")
    assert (answer["done"], answer["actions"], answer["cost"]) == (True, 5, 0.05)
    assert [(call.task, call.tool) for call in world.gateway.calls] == [("t-1", each.tool) for each in recorded.actions]
    assert [json.loads(line)["arguments"] for line in lines[-5:]] == [each.arguments for each in recorded.actions]
    assert (after["reads"] - before["reads"], after["writes"] - before["writes"]) == (4, 1)
    with urllib.request.urlopen(f"{world.server.url.removesuffix('/mcp')}/counts", timeout=10) as response:
        assert json.load(response) == after


def test_the_worker_of_the_suite_passes_a_right_agent_and_names_what_a_wrong_one_did(world: World) -> None:
    cases = world.cases("retail-0", "retail-24", "airline-6", repeats=2)
    with running_agent(world.folder, world.gateway.url) as agent:
        right = evaluate(world.folder, agent.url, cases)
    with running_agent(world.folder, world.gateway.url, PLANTED="retail-0:arguments,retail-24") as agent:
        wrong = evaluate(world.folder, agent.url, cases)

    assert [(each["id"], each["repeat"], each["passed"], each["score"]) for each in right] == [
        (each["id"], each["repeat"], True, 1.0) for each in cases
    ]
    assert all(0 < each["duration"] < 20 and each["cost"] == 0 and each["detail"] == "" for each in right)
    assert [each["passed"] for each in wrong] == [False, False, False, False, True, True]
    assert [each["score"] for each in wrong] == [0.8, 0.8, 0.0, 0.0, 1.0, 1.0]
    assert wrong[0]["detail"].startswith("call 5 is exchange_delivered_order_items")
    assert wrong[2]["detail"].startswith("call 1 is one too many: transfer_to_human_agents")


def test_the_worker_answers_bad_cases_and_a_dead_agent_with_results_that_have_not_passed(world: World) -> None:
    good = world.cases("airline-6")[0]
    with running_agent(world.folder, world.gateway.url) as agent:
        known = evaluate(world.folder, agent.url, [{"id": "x"}, {**good, "input": {"task": "no-such"}}, good])
    dead = evaluate(world.folder, agent.url, [good])  # which has ended

    assert [(each["id"], each["passed"]) for each in known] == [("x", False), ("airline-6", False), ("airline-6", True)]
    assert "there is no task 'no-such'" in known[1]["detail"]
    assert dead[0]["detail"].startswith("the agent did not answer")


def test_errors_come_by_chance_and_the_same_again(world: World) -> None:
    cases = world.cases("airline-6", repeats=20)
    found = []
    for _ in range(2):
        with running_agent(world.folder, world.gateway.url, ERROR_RATE="0.5", TOOLS="off") as agent:
            found.append([each["passed"] for each in evaluate(world.folder, agent.url, cases)])

    assert found[0] == found[1]
    assert 3 <= sum(found[0]) <= 17


def test_a_tool_that_is_refused_is_said_and_the_task_fails(world: World) -> None:
    grant = next(iter(world.gateway.grants.values()))
    fewer = tuple(pin for pin in tau2_pins() if pin.name != "get_reservation_details")
    world.gateway.grants[grant.key] = replace(grant, tools=fewer)
    try:
        with running_agent(world.folder, world.gateway.url) as agent:
            status, answer, outcome = ask(agent.url, {"task": "airline-6"})
    finally:
        world.gateway.grants[grant.key] = grant

    assert (status, answer["done"]) == (200, False)
    assert outcome.startswith("failure")
    assert "get_reservation_details" in answer["reply"]


def test_bad_requests_are_refused_and_the_agent_goes_on(world: World) -> None:
    with running_agent(world.folder, world.gateway.url, TOOLS="off") as agent:
        refused = [ask(agent.url, body)[:2] for body in ({"task": "no-such"}, {"task": 7}, [1])]
        status, *_ = ask(agent.url, {"task": "retail-24"})

    assert [code for code, _ in refused] == [400, 400, 400]
    assert refused[0][1]["detail"] == "there is no task 'no-such'"
    assert status == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ERROR_RATE": "7"}, "ERROR_RATE is a share between 0 and 1"),
        ({"PLANTED": "retail-900"}, "PLANTED names tasks that there are not: retail-900"),
        ({"TOOLS": "on"}, "TURNOUT_MCP_URL"),
    ],
)
def test_an_agent_with_wrong_settings_says_so_and_does_not_start(
    world: World, settings: dict[str, str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "agent.py"],
        cwd=world.folder,
        env={"TOOLS": "off", "PORT": "0", **settings},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 1
    assert said in done.stderr


def test_an_unreachable_gateway_is_an_error_of_the_agent(world: World) -> None:
    with running_agent(world.folder, "http://127.0.0.1:9/mcp") as agent:
        status, answer, _ = ask(agent.url, {"task": "airline-6"})

    assert (status, answer["done"]) == (502, False)
    assert "127.0.0.1:9" in answer["detail"]


def test_the_agent_answers_what_is_under_way_before_it_ends(world: World) -> None:
    body = json.dumps({"task": "retail-24"}).encode()
    with (
        running_agent(world.folder, world.gateway.url) as agent,
        socket.create_connection(("127.0.0.1", agent.port), 20) as caller,
    ):
        caller.sendall(b"POST /invocations HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n" % len(body))
        ask(agent.url, {"task": "retail-24"})  # answered later than the other request began
        agent.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not _listens(agent.port), 10)
        caller.sendall(body)
        answer = b"".join(iter(lambda: caller.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in answer


def test_over_standard_input_the_server_has_the_pinned_tools() -> None:
    command = (sys.executable, str(EXAMPLE / "tool_server.py"), "--package", str(PACKAGE))

    assert {pin.name: pin.schema for pin in pins_of(ToolServer("tau2", command=command))} == {
        pin.name: pin.schema for pin in tau2_pins()
    }


def test_over_standard_input_the_stand_in_of_the_suite_has_the_pinned_tools_and_answers_as_the_server(
    world: World,
) -> None:
    stand_in = ToolServer("tau2", command=(sys.executable, "-S", str(world.folder / "evals" / "stand_in.py")))
    task = next(task for task in tau2_tasks() if task.id == "retail-0")
    with tau2_gateway(stand_in) as gateway, running_agent(world.folder, gateway.url) as agent:
        status, answer, _ = ask(agent.url, {"task": task.id})

    assert {pin.name: pin.schema for pin in pins_of(stand_in)} == {pin.name: pin.schema for pin in tau2_pins()}
    assert (status, answer["done"]) == (200, True)
    results = [json.loads(call.result or "")["structuredContent"] for call in gateway.calls]
    assert results == [said(action.tool, action.arguments) for action in task.actions]
