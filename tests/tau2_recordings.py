"""Tasks of tau2 as the example agent really did them, as recordings."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.tau2_world import Tau2Server, running_agent, tau2_gateway
from turnout.domain.models import Release
from turnout.domain.recordings import RecordedRequest, Recording, record_tool

from recorded_tasks import Task  # isort: skip  # from the folder of the example

RING = "production"


def record_tasks(source: Path, server: Tau2Server, release: Release, tasks: Sequence[Task]) -> list[Recording]:
    """What the agent in a folder does with each task, through a gateway, at the real server. A task is known by its id."""
    found = []
    with tau2_gateway(server.as_tool_server()) as gateway, running_agent(source, gateway.url) as agent:
        for task in tasks:
            request = _ask(agent.url, task.id)
            calls, gateway.calls[:] = list(gateway.calls), []
            tools = tuple(record_tool(call, whole=call.result is not None) for call in calls)
            names = (release.agent, RING, release.digest, release.version, task.id)
            found.append(Recording(*names, request.at, (request,), tools, (), failed=None, intervened=None, cost=None))
    return found


def _ask(url: str, task: str) -> RecordedRequest:
    body = json.dumps({"task": task}).encode()
    at, began = time.time(), time.monotonic()
    headers = {"x-turnout-task": task, "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/invocations", body, headers), timeout=60) as response:
        answer = response.read()
    return RecordedRequest("POST", "/invocations", body, 200, answer, at, time.monotonic() - began)
