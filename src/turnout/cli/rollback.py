"""`turnout rollback`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from turnout.cli.connection import connected, note
from turnout.cli.follow import follow
from turnout.cli.preview import show_preview
from turnout.cli.tables import plain, release_label, to_seconds
from turnout.client import Client
from turnout.domain.errors import Conflict, NotFound
from turnout.schemas import DeploymentView, RingView

_RECENT_SECONDS = 3_600.0  # so long a take-back may be what somebody was woken for
_LOOKED_AT = 20  # deployments
_SELF = "turnout"


@dataclass(frozen=True, slots=True)
class _TakeBack:
    """What has been undone already. `what`: such as `v4 was taken back`; `at` in seconds since the epoch.

    `reason` names the judge, the breaker or the person.
    """

    what: str
    at: float
    reason: str


@click.command()
@click.argument("agent")
@click.option("--ring", required=True, help="Ring to roll back.")
@click.option("--version", help="Version or digest to go back to. Default: last-good.")
@click.option("--leaving", help="Version or digest that has to go, as you saw it. Refused if another one would.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--override", help="Reason for going back to a version in quarantine; admins only.")
@click.option("--quarantine/--no-quarantine", default=True, help="Whether the release that is left is quarantined.")
@click.option("--dry-run", is_flag=True, help="Print what would happen and change nothing.")
@click.option("--no-wait", is_flag=True, help="Return at once.")
@connected
def rollback(
    client: Client,
    agent: str,
    ring: str,
    version: str | None,
    leaving: str | None,
    reason: str,
    override: str | None,
    quarantine: bool,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Undo the last change of a ring of AGENT.

    While a canary runs, the candidate is taken out. Otherwise the pointer flips to last-good, which is still warm. A
    version that is no longer warm is deployed and validated first; what is stable serves until then.

    What was taken back within the last hour is out of the traffic already. Then a release has to be named, --leaving or
    --version, so that nobody takes out the good one in its place.
    """
    shown = find_ring(client, agent, ring)
    if version is None and leaving is None:
        _check_not_done(client, shown, agent)
    # Bound to what is there now: if somebody was quicker, nothing more is undone.
    bound = _find_digest(client, agent, shown, leaving)
    body = {"version": version, "leaving": bound, "override": override, "reason": reason, "quarantine": quarantine}
    if dry_run:
        show_preview(client.preview(agent, ring, "rollbacks", body), [], as_json=as_json)
        return
    deployment = client.roll_back(agent, ring, body)
    note(f"rollback {agent} in {ring}: {_describe_flip(shown, deployment)}")
    # While a canary runs, what comes back is the deployment of its candidate, on its way out.
    wished = "active" if deployment["kind"] == "rollback" else "rolled_back"
    follow(client, deployment, wait=True, no_wait=no_wait, as_json=as_json, wished=wished)


def find_ring(client: Client, agent: str, ring: str) -> RingView:
    """What is where in a ring. Raises `NotFound`."""
    rings = client.agent(agent)["rings"]
    found = next((item for item in rings if item["ring"] == ring), None)
    if found is None:
        hint = f"its rings are {', '.join(item['ring'] for item in rings)}"
        raise NotFound(f"agent {agent} has no ring {ring!r}", hint=hint)
    return found


def _check_not_done(client: Client, shown: RingView, agent: str) -> None:
    """Raise `Conflict` if turnout or somebody else was quicker: what serves now is then what was good enough to stay."""
    done = None if shown["candidate"] else _find_take_back(client, agent, shown["ring"])
    ago = 0.0 if done is None else max(time.time() - done.at, 0.0)
    if done is None or ago > _RECENT_SECONDS:
        return
    from turnout.alerts.page import format_span

    serves, ring = shown["stable_version"], shown["ring"]
    reason = f" ({plain(done.reason)})" if done.reason else ""
    raise Conflict(
        f"{done.what} {format_span(ago)} ago{reason}, and {serves} serves {ring}",
        hint=f"if {serves} has to go too, name it: add `--leaving {serves}`; to see why: "
        f"`turnout why {agent} --ring {ring}`",
    )


def _find_take_back(client: Client, agent: str, ring: str) -> _TakeBack | None:
    """The newest change of a ring, if it took a release out of the traffic that nobody has replaced since.

    Deployments that wait, or that ended before a caller met them, changed nothing.
    """
    for item in client.deployments(agent, ring, _LOOKED_AT)["deployments"]:
        rollback, state = item["kind"] == "rollback", item["state"]
        if rollback and state == "active":
            if item["actor"] != _SELF:  # who went back by hand knows what serves
                return None
            return _TakeBack(f"turnout went back to {item['version']}", to_seconds(item["state_since"]), item["reason"])
        if state in ("active", "superseded"):
            return None
        if state in ("rolling_back", "rolled_back") and item["step"] and not rollback:
            transitions = client.deployment(item["id"])["transitions"]
            left = next(step for step in reversed(transitions) if step["to"] == "rolling_back")
            return _TakeBack(f"{item['version']} was taken back", to_seconds(left["at"]), left["reason"])
    return None


def _find_digest(client: Client, agent: str, shown: RingView, leaving: str | None) -> str | None:
    """What has to leave: what is there, or what somebody named. The server refuses what is not there."""
    there, name = shown["candidate"] or shown["stable"], shown["candidate_version"] or shown["stable_version"]
    if leaving is None or leaving in (there, name):
        return there
    return client.release(agent, leaving)["digest"]


def _describe_flip(shown: RingView, deployment: DeploymentView) -> str:
    """Such as `v3 (7297b81) → v1 (a1f6578)`."""
    stable = release_label(shown["stable_version"], shown["stable"])
    candidate = release_label(shown["candidate_version"], shown["candidate"])
    if deployment["kind"] != "rollback":
        return f"{candidate} → {stable}"
    left = f"{candidate}, {stable}" if shown["candidate"] else stable
    return f"{left} → {release_label(deployment['version'], deployment['digest'])}"
