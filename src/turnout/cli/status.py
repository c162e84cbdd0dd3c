"""`turnout status`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.follow import describe
from turnout.cli.tables import release_label, show_table
from turnout.client import Client
from turnout.domain.models import short_digest
from turnout.schemas import AgentView, RetiredView, RingView


@click.command()
@click.argument("agent", required=False)
@connected
def status(client: Client, agent: str | None, as_json: bool) -> None:
    """Show what is where: of AGENT, or of all agents."""
    if agent is not None:
        view = client.agent(agent)
        if as_json:
            print_json(view)
        else:
            _show(view)
        return
    listed, gateway = client.agents(), client.instance()["gateway"]
    if as_json:
        print_json({**listed, "gateway": gateway})
    elif not listed["agents"]:
        click.echo("no agent has been released yet: `turnout deploy` in an agent's folder")
    for number, view in enumerate([] if as_json else listed["agents"]):
        if number:
            click.echo()
        _show(view)
    for process in [] if as_json else gateway:
        text = f"gateway: {process['kind']} process {process['index']} on {process['address']}"
        if not process["running"]:
            click.echo(click.style(f"{text} does not run", fg="red"))
        else:
            click.echo(f"{text} runs" + (f", started again {process['restarts']} ×" if process["restarts"] else ""))


def _show(view: AgentView) -> None:
    click.echo(click.style(view["agent"], bold=True, underline=True))
    show_table(
        ("RING", "STABLE", "CANDIDATE", "ROLLBACK TO", "REPLICAS", "REQUESTS", "URL"),
        [
            (
                ring["ring"],
                release_label(ring["stable_version"], ring["stable"]),
                _candidate(ring),
                release_label(ring["way_back_version"], ring["way_back"]),
                _replicas(ring),
                _requests(ring),
                ring["url"],
            )
            for ring in view["rings"]
        ],
    )
    for ring in view["rings"]:
        running = ring["in_progress"]
        if running is None:
            continue
        line = f"  {ring['ring']}: {running['kind']} of {running['version']} is {running['state']}"
        if running["condition"]:
            line += f" ({running['condition']['message']})"
        if running["step"]:
            line += f"; {running['tasks']} tasks so far"
        click.echo(f"{line}  [{running['id']}]")
    for ring in view["rings"]:
        if ring["in_progress"] is None and ring["judged"]:
            line = f"  {ring['ring']}: {ring['stable_version']} is active and still judged ({ring['judged']})"
            click.echo(line + (f"; last-good keeps {ring['holdback']:g} %" if ring["holdback"] else ""))
        if ring["tripped"]:
            text = f"{ring['ring']}: a breaker on {ring['tripped']} tripped, and there is nothing to go back to"
            reset = f"turnout breakers reset {view['agent']} {ring['ring']}"
            text += f": its calls of models and tools are stopped until `{reset}`"
            click.echo(click.style(f"  {text}", fg="red"))
    for ring in view["rings"]:
        if ring["failed"]:
            click.echo(f"  {ring['ring']}: the last try failed: {describe(ring['failed'])}")
        if ring["retired"]:
            click.echo(f"  {ring['ring']}: still warm: {', '.join(map(_warm, ring['retired']))}")


def _candidate(ring: RingView) -> str:
    name = release_label(ring["candidate_version"], ring["candidate"])
    return f"{name} {ring['weight']:g} %" if ring["candidate"] else name


def _replicas(ring: RingView) -> str:
    ready = sum(replica["state"] == "ready" for replica in ring["replicas"])
    text = f"{ready}/{len(ring['replicas'])} ready"
    return text if ready == len(ring["replicas"]) else click.style(text, fg="yellow")


def _requests(ring: RingView) -> str:
    total = sum(counts["total"] for counts in ring["requests"].values())
    failed = sum(counts["failed"] for counts in ring["requests"].values())
    return f"{total:,}" + (click.style(f" ({failed:,} × 5xx)", fg="red") if failed else "")


def _warm(retired: RetiredView) -> str:
    """Why it is in quarantine is told by `turnout why`."""
    name = retired["version"] or short_digest(retired["digest"])[:7]
    return f"{name} (quarantine)" if retired["quarantine"] else name
