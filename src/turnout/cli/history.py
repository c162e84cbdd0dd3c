"""`turnout history`."""

from __future__ import annotations

from collections.abc import Mapping

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.tables import local_time, release_label, show_table
from turnout.client import Client
from turnout.schemas import EventView, ReleaseList

# What somebody decided, what came of it, and what broke; the steps between are shown with --all.
_DECISIONS = {
    "release.pushed",
    "release.quarantined",
    "release.cleared",
    "deployment.created",
    "deployment.abort_requested",
    "rollout.advance_requested",
    "rollout.paused",
    "rollout.resumed",
    "approval.given",
    "approval.rejected",
    "policy.overridden",
    "pointer.changed",
    "replica.restarted",
}
_ENDS = {"failed", "rolled_back"}


@click.command()
@click.argument("agent")
@click.option("--ring", help="Only of this ring.")
@click.option("--all", "everything", is_flag=True, help="Every event, also each transition of each deployment.")
@click.option("--releases", is_flag=True, help="List the releases instead of the events.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="At most so many events.")
@connected
def history(
    client: Client, agent: str, ring: str | None, everything: bool, releases: bool, limit: int, as_json: bool
) -> None:
    """Show what happened to AGENT, newest last: who did what, when and why."""
    listed = client.releases(agent)
    if releases:
        if as_json:
            print_json(listed)
        else:
            _show_releases(listed)
        return
    asked = limit if everything else 1000
    found = client.events(agent=agent, ring=ring, newest_first=True, limit=asked)["events"]
    shown = [event for event in found if everything or _is_decision(event)][:limit][::-1]
    if as_json:
        print_json({"events": shown})
        return
    names = {release["digest"]: release_label(release["version"], release["digest"]) for release in listed["releases"]}
    show_table(
        ("AT", "RING", "EVENT", "BY", "WHAT"),
        [
            (local_time(event["at"]), event["ring"] or "-", event["type"], event["actor"], _describe(event, names))
            for event in shown
        ],
    )


def _is_decision(event: EventView) -> bool:
    ended = event["type"] == "deployment.transitioned" and event["data"]["to"] in _ENDS
    return ended or event["type"] in _DECISIONS


def _show_releases(found: ReleaseList) -> None:
    show_table(
        ("RELEASE", "TAGS", "BY", "AT", "GIT", "NOTE"),
        [
            (
                release_label(release["version"], release["digest"]),
                ", ".join(release["tags"]),
                release["author"],
                local_time(release["created_at"]),
                (release["git_sha"] or "-")[:12],
                f"in quarantine: {release['quarantine']}" if release["quarantine"] else "",
            )
            for release in found["releases"]
        ],
    )


def _describe(event: EventView, names: Mapping[str, str]) -> str:
    data = event["data"]
    match event["type"]:
        case "deployment.created":
            reason = f": {data['reason']}" if data["reason"] else ""
            return f"{data['kind']} of {names.get(data['digest'], '?')}{reason}"
        case "deployment.transitioned":
            return f"{data['from']} → {data['to']}: {data['reason']}"
        case "pointer.changed":
            share = f", {names.get(data['candidate'], '?')} at {data['weight'] / 100:g} %" if data["candidate"] else ""
            return f"stable {names.get(data['stable'], '-')}{share}: {data['reason']}"
        case "release.quarantined" | "release.cleared":
            return f"{names.get(data['digest'], '?')}: {data['reason']}"
        case "replica.restarted":
            return f"replica {data['replica']} of {names.get(data['digest'], '?')} {data['message']}"
        case "release.pushed":
            return names.get(data["digest"], "?") + (f" of commit {data['git_sha'][:12]}" if data["git_sha"] else "")
        case "deployment.waiting":
            return str(data["message"])
        case "rollout.advance_requested" | "rollout.paused" | "rollout.resumed":
            return f"at step {data['step']}"
        case "rollout.stepped":
            return f"step {data['step']}: {data['weight']:g} %"
        case "approval.given" | "approval.rejected":
            return names.get(data["digest"], "?") + (f": {data['comment']}" if data["comment"] else "")
    shown = {name: names.get(str(value), value) for name, value in data.items() if value not in (None, "", False)}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
