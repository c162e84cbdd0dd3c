"""Short ways to what a test needs before it begins: releases and deployments, made in this process through the API."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.tiny_agent import write_agent
from tests.live import LiveInstance, wait_until
from turnout.artifacts.build import build_parts
from turnout.cli.building import build_store, push
from turnout.cli.signing import Signing
from turnout.client import Problem
from turnout.domain.phases import TERMINAL
from turnout.manifest import load_manifest

SETTLED = {"active", *(phase.value for phase in TERMINAL)}
PATIENCE = 30.0


def push_agent(instance: LiveInstance, folder: Path, tag: str | None = None) -> str:
    """Build the agent in a folder and push it. Returns the digest."""
    manifest = load_manifest(folder)
    with build_store(folder, throw_away=True) as store:
        parts = build_parts(folder, manifest, store)
        unsigned = Signing(folder, None, 0.0, wanted=False)
        client, spool = instance.client(), Path(tempfile.gettempdir())
        return push(client, store, parts, unsigned, spool=spool, tag=tag, verify=False)["digest"]


def push_tiny(instance: LiveInstance, folder: Path, note: str = "one", **settings: Any) -> str:
    """Push a release of the small agent; settings as in `write_agent`."""
    return push_agent(instance, write_agent(folder, note, **settings))


def deploy(instance: LiveInstance, agent: str, digest: str, ring: str = "dev", **wish: Any) -> Any:
    """Deploy a pushed release and wait until it is active and callers are routed to it."""
    client = instance.client()
    started = client.deploy(agent, ring, {"release": digest, **wish})
    done = await_state(instance, started["id"], SETTLED)
    assert done["state"] == "active", done
    *_, settled = client.follow_deployment(started["id"])
    return settled.data


def await_state(instance: LiveInstance, deployment: str, states: set[str], timeout: float = PATIENCE) -> Any:
    """Wait until a deployment is in one of the states."""
    return await_deployment(instance, deployment, lambda view: view["state"] in states, timeout)


def await_condition(instance: LiveInstance, deployment: str, condition: str, timeout: float = PATIENCE) -> Any:
    """Wait until a deployment waits for something of this type."""
    return await_deployment(
        instance, deployment, lambda view: (view["condition"] or {}).get("type") == condition, timeout
    )


def await_deployment(
    instance: LiveInstance, deployment: str, met: Callable[[Any], bool], timeout: float = PATIENCE
) -> Any:
    """Wait until what the API shows of a deployment is as wished, and return it."""
    client = instance.client()
    seen: list[Any] = [None]

    def look() -> bool:
        seen[0] = client.deployment(deployment)
        return met(seen[0])

    wait_until(look, timeout, lambda: str(seen[0]))
    return seen[0]


def await_lineage(instance: LiveInstance, task: str, met: Callable[[Any], bool]) -> Any:
    """Wait until a task was seen and what the API shows of it is as wished, and return it."""
    client = instance.client()
    seen: list[Any] = [None]

    def look() -> bool:
        try:
            seen[0] = client.lineage(task)
        except Problem as problem:
            if problem.code != "not_found":
                raise
            return False
        return bool(seen[0]["requests"]) and met(seen[0])

    wait_until(look, PATIENCE, lambda: str(seen[0]))
    return seen[0]


def await_ring(instance: LiveInstance, agent: str, ring: str, met: Callable[[Any], bool]) -> Any:
    """Wait until what the API shows of a ring is as wished, and return it."""
    client = instance.client()
    seen: list[Any] = [None]

    def look() -> bool:
        seen[0] = next(item for item in client.agent(agent)["rings"] if item["ring"] == ring)
        return met(seen[0])

    wait_until(look, PATIENCE, lambda: str(seen[0]))
    return seen[0]
