"""`turnout rollout`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.follow import describe
from turnout.cli.tables import show_table
from turnout.client import Client
from turnout.schemas import DeploymentView, DetectionView, RolloutPlanView, RolloutStepView

_RAMPS = {
    "watch": "its steps wait for time and tasks, never for proof; the judge only takes back what is worse",
    "timed": "its steps wait for time and tasks, and the last one for proof too",
    "evidence": "its steps wait for time, tasks and proof, by margins that get finer",
}


@click.group()
def rollout() -> None:
    """Look at the rollout of a ring, plan one, steer it."""


@rollout.command(short_help="Leave the present canary step without waiting.")
@click.argument("agent")
@click.option("--ring", required=True, help="Ring whose canary goes on.")
@connected
def advance(client: Client, agent: str, ring: str, as_json: bool) -> None:
    """Leave the present canary step without waiting for its time and tasks. A paused rollout stays paused at the next."""
    before = client.steer(agent, ring, {"action": "advance"})
    for event in client.follow_deployment(before["id"]):
        if event.name == "rollout.stepped" and event.data["data"]["step"] > before["step"]:
            break
    view = client.deployment(before["id"])
    if not view["weight"]:
        _show_settled(view, as_json=as_json)
        return
    go_on = f"turnout rollout resume {agent} --ring {ring}"
    paused = not as_json and client.rollout(agent, ring)["paused"]
    stays = f"; it stays paused, and goes on with `{go_on}`" if paused else ""
    _show_steered(view, f"now {_place(view)}{stays}", as_json=as_json)


@rollout.command(short_help="End the deployment in progress in a ring.")
@click.argument("agent")
@click.option("--ring", required=True, help="Ring whose deployment in progress ends.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--quarantine", is_flag=True, help="Put the release into quarantine if callers had reached it.")
@connected
def abort(client: Client, agent: str, ring: str, reason: str, quarantine: bool, as_json: bool) -> None:
    """End the deployment in progress in a ring; what is stable goes on serving."""
    view = client.steer(agent, ring, {"action": "abort", "reason": reason, "quarantine": quarantine})
    for event in client.follow_deployment(view["id"]):
        if event.name == "settled":
            view = event.data
    _show_settled(view, as_json=as_json)


@rollout.command(short_help="Keep a rollout at its step.")
@click.argument("agent")
@click.option("--ring", required=True, help="Ring whose rollout waits.")
@connected
def pause(client: Client, agent: str, ring: str, as_json: bool) -> None:
    """Keep a rollout at its step until it is resumed. A release that is worse is taken back all the same."""
    view = client.steer(agent, ring, {"action": "pause"})
    go_on = f"turnout rollout resume {agent} --ring {ring}"
    _show_steered(view, f"paused {_place(view)}; it goes on with `{go_on}`", as_json=as_json)


@rollout.command(short_help="Let a paused rollout go on.")
@click.argument("agent")
@click.option("--ring", required=True, help="Ring whose rollout goes on.")
@connected
def resume(client: Client, agent: str, ring: str, as_json: bool) -> None:
    """Let a paused rollout go on."""
    view = client.steer(agent, ring, {"action": "resume"})
    _show_steered(view, f"goes on {_place(view)}", as_json=as_json)


@rollout.command(short_help="Show a rollout and what its judge says.")
@click.argument("agent")
@click.option("--ring", required=True, help="Ring whose rollout is shown.")
@connected
def status(client: Client, agent: str, ring: str, as_json: bool) -> None:
    """Show the rollout of a ring, the evidence of its judge, and what it waits for."""
    view = client.rollout(agent, ring)
    if as_json:
        print_json(view)
        return
    click.echo(describe(view["deployment"]))
    if view["deployment"]["condition"]:
        click.echo(f"  {view['deployment']['condition']['message']}")
    if view["baking"]:
        click.echo(f"  active, and still judged; last-good keeps {view['holdback']:g} % to compare with")
    if view["unknown_reports"]:
        click.echo(f"  {_unknown(view['unknown_reports'])} that nobody has seen")
    if view["verdict"] is None:
        click.echo("  the judge has said nothing yet")
        return
    from turnout.cli.evidence import show_evidence

    show_evidence(view["verdict"], running=view["running"])


@rollout.command(short_help="What a rollout could tell, and how soon.")
@click.argument("agent")
@click.option("--ring", required=True, help="Ring that the rollout would be in.")
@click.option("--release", default=None, help="Release whose rules count (default: the one that serves).")
@connected
def plan(client: Client, agent: str, ring: str, release: str | None, as_json: bool) -> None:
    """What a rollout could tell by the traffic of the last day: what it would take back, when it would pass."""
    view = client.plan_rollout(agent, ring, release)
    if as_json:
        print_json(view)
        return
    click.echo(f"{view['tasks_per_hour']:.0f} tasks an hour; {_rates(view)}")
    rows = [
        (
            f"{item['metric']} +{item['effect']:.0%}"
            if item["metric"] == "cost"
            else _points(item["metric"], item["effect"]),
            str(item["tasks"]) if item["tasks"] is not None else "-",
            _found_after(item),
        )
        for item in view["detections"]
    ]
    show_table(("a release that is worse by", "tasks of it", "is taken back after"), rows)
    if view["over_after_hours"] is not None and not all(item["in_time"] for item in view["detections"]):
        click.echo(_over_before(view, view["over_after_hours"]))
    click.echo(f"ramp {view['ramp']}: {_RAMPS[view['ramp']]}")
    show_table(("an equal release is at", "after", "and waits there for"), _ways(view["steps"]))
    if not view["decides"] and view["ramp"] != "watch":
        limit = f"{view['limit_hours']:g} h"
        click.echo(
            f"half of the equal releases could not be proven so within the limit of {limit}: expect inconclusive"
        )


def _rates(view: RolloutPlanView) -> str:
    rates = ", ".join(f"{name} {rate:.1%}" for name, rate in view["rates"].items())
    if not view["assumed"]:
        return f"of the release that serves: {rates}"
    tasks = "1 task" if view["seen"] == 1 else f"{view['seen']} tasks"
    return f"{tasks} of the release that serves are too few to say how often it fails; assumed: {rates}"


def _found_after(item: DetectionView) -> str:
    return (
        _hours(item["hours"]) if item["in_time"] or item["hours"] is None else f"- (would need {_hours(item['hours'])})"
    )


def _over_before(view: RolloutPlanView, canary: float) -> str:
    """Nothing promises a detection that a short canary leaves no time for."""
    over = f"the canary is over after {_hours(canary)}"
    if view["bake_hours"]:
        longer = "a longer canary or a longer `bake`"
        return (
            f"{over}, its bake {_hours(view['bake_hours'])} later: what needs more is not found; {longer} would find it"
        )
    longer = "a longer canary, or a `bake` in the ring's judge table,"
    return f"{over}, and nothing is compared after it: what needs more is not found; {longer} would find it"


def _unknown(reports: int) -> str:
    """It is not known of which ring they are."""
    return (
        "1 report in this instance names a task" if reports == 1 else f"{reports:,} reports in this instance name tasks"
    )


def _ways(steps: Sequence[RolloutStepView]) -> Iterator[tuple[str, str, str]]:
    """A line for each step, and one for the end of the last."""
    since = "at once"
    for step in steps:
        yield f"{step['share']:.0%}", since, _waits(step)
        since = _hours(step["leaves_at_hours"])
    yield "active", since, "-"


def _waits(step: RolloutStepView) -> str:
    from turnout.alerts.page import format_span

    waits = [format_span(step["seconds"])] if step["seconds"] else []
    waits += [f"{step['tasks']:,} tasks of it"] if step["tasks"] else []
    if step["proof"]:
        waits.append("proof that it is no worse" + (f" ({step['slowest']} takes longest)" if step["slowest"] else ""))
    return ", ".join(waits) or "nothing"


def _points(metric: str, effect: float) -> str:
    return f"{metric} +{effect * 100:g} points"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "not within the limit"
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def _place(view: DeploymentView) -> str:
    return f"at canary step {view['step']} of {view['steps']} ({view['weight']:g} %)"


def _show_settled(view: DeploymentView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        click.echo(describe(view))


def _show_steered(view: DeploymentView, now: str, *, as_json: bool) -> None:
    """`now`: what is true of it from now on."""
    if as_json:
        print_json(view)
    else:
        click.echo(f"{view['agent']} {view['version']} in {view['ring']}: {now}  [{view['id']}]")
