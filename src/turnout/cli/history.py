"""`turnout history`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.tables import local_time, show_table
from turnout.client import Client
from turnout.domain.models import short_digest
from turnout.schemas import EventView


@click.command()
@click.argument("agent")
@click.option("--ring", help="Only of this ring.")
@click.option("--releases", is_flag=True, help="List the releases instead of the events.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="At most so many events.")
@connected
def history(client: Client, agent: str, ring: str | None, releases: bool, limit: int, as_json: bool) -> None:
    """Show what happened to AGENT, newest last: who did what, when and why."""
    if releases:
        _show_releases(client, agent, as_json=as_json)
        return
    found = client.events(agent=agent, ring=ring, newest_first=True, limit=limit)["events"][::-1]
    if as_json:
        print_json({"events": found})
        return
    show_table(
        ("AT", "RING", "EVENT", "BY", "WHAT"),
        [
            (local_time(event["at"]), event["ring"] or "-", event["type"], event["actor"], _describe(event))
            for event in found
        ],
    )


def _show_releases(client: Client, agent: str, *, as_json: bool) -> None:
    found = client.releases(agent)
    if as_json:
        print_json(found)
        return
    show_table(
        ("VERSION", "DIGEST", "BY", "AT", "GIT", "NOTE"),
        [
            (
                ", ".join(release["tags"]),
                short_digest(release["digest"]),
                release["author"],
                local_time(release["created_at"]),
                (release["git_sha"] or "-")[:12],
                f"in quarantine: {release['quarantine']}" if release["quarantine"] else "",
            )
            for release in found["releases"]
        ],
    )


def _describe(event: EventView) -> str:
    data = event["data"]
    match event["type"]:
        case "deployment.transitioned":
            return f"{data['from']} → {data['to']}: {data['reason']}"
        case "pointer.changed":
            stable = short_digest(data["stable"] or "-")
            candidate = (
                f", {short_digest(data['candidate'])} at {data['weight'] / 100:g} %" if data["candidate"] else ""
            )
            return f"stable {stable}{candidate}: {data['reason']}"
        case "deployment.waiting":
            return str(data["message"])
        case "rollout.stepped":
            return f"step {data['step']}: {data['weight']:g} %"
    shown = {name: value for name, value in data.items() if value not in (None, "")}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
