"""Progress of a deployment, for the verbs that start one."""

from __future__ import annotations

from typing import Any

import click

from turnout.cli.connection import note, print_json
from turnout.cli.exits import EXIT_CODES
from turnout.client import Client
from turnout.schemas import DeploymentView

_STYLES = {"active": "green", "failed": "red", "rolling_back": "yellow", "rolled_back": "yellow"}


def follow(
    client: Client,
    deployment: DeploymentView,
    *,
    wait: bool,
    no_wait: bool,
    as_json: bool,
    wished: str = "active",
) -> None:
    """Show how a deployment walks its states, print it, and exit with 8 if it ended otherwise than wished.

    Returns when it is settled; unless `wait`, also when it waits for somebody's approval or for canary traffic.
    """
    shown = deployment if no_wait else _watch(client, deployment, wait=wait)
    if as_json:
        print_json(shown)
    else:
        click.echo(describe(shown))
        for line in next_steps(shown):
            note(line)
    if not no_wait and shown["state"] in {"failed", "rolled_back", "superseded"} - {wished}:
        raise click.exceptions.Exit(EXIT_CODES["deployment_ended"])


def describe(deployment: DeploymentView) -> str:
    """One line for a person."""
    line = f"{deployment['agent']} {deployment['version']} in {deployment['ring']}: {deployment['state']}"
    condition = deployment["condition"]
    if condition:
        line += f" ({condition['type']}: {condition['message']})"
    transitions = deployment.get("transitions", [])
    if deployment["state"] in {"failed", "rolled_back", "rolling_back"} and transitions:
        reasons = [item["reason"] for item in transitions if item["to"] in {"failed", "rolling_back"}]
        line += f" ({reasons[-1]})" if reasons else ""
    return f"{line}  [{deployment['id']}]"


def next_steps(deployment: DeploymentView) -> list[str]:
    """What somebody can do now."""
    condition = deployment["condition"]
    agent, ring = deployment["agent"], deployment["ring"]
    if condition and condition["type"] == "awaiting_approval":
        return [f"to approve it: turnout approve {agent} --ring {ring}   (or reject; not by its author alone)"]
    if condition and condition["type"] == "awaiting_evals":
        return [f"to run them: turnout eval {deployment['version']}   in the agent's folder"]
    if condition and condition["type"] == "canary":
        return [
            f"to go on without waiting: turnout rollout advance {agent} --ring {ring}",
            f"to take it back:          turnout rollback {agent} --ring {ring}",
        ]
    return []


def _watch(client: Client, deployment: DeploymentView, *, wait: bool) -> DeploymentView:
    for event in client.follow_deployment(deployment["id"]):
        if event.name == "settled":
            settled: DeploymentView = event.data
            return settled
        _show(event.name, event.data)
        waits = event.name == "deployment.waiting" and event.data["data"]["condition"] in (
            "awaiting_approval",
            "awaiting_evals",
            "canary",
        )
        if waits and not wait:
            return client.deployment(deployment["id"])
    raise AssertionError("the stream of a deployment ends with `settled`")


def _show(name: str, event: dict[str, Any]) -> None:
    data = event["data"]
    at = event["at"][11:19]
    match name:
        case "deployment.transitioned":
            state = click.style(f"{data['to']:<12}", fg=_STYLES.get(data["to"]))
            note(f"{at}  {state} {data['reason']}")
        case "deployment.waiting":
            note(f"{at}  {'':<12} … {data['message']}")
        case "rollout.stepped":
            note(f"{at}  {'':<12} canary step {data['step']}: {data['weight']:g} %")
