"""`turnout report`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, note, print_json
from turnout.cli.exits import EXIT_CODES
from turnout.client import Client

_NOT_TAKEN = {"contradicts", "foreign", "refused"}
_AS_WISHED = {"counted", "repeated"}


@click.command()
@click.argument("task")
@click.option("--success/--failure", default=None, help="Whether the task did what it should.")
@click.option("--intervention", is_flag=True, default=None, help="A person took over, corrected or rejected.")
@click.option("--cost", type=float, help="What the task cost.")
@click.option("--detail", help="For people: why, in a sentence.")
@click.option("--agent", help="Where the task was: a task of another agent does not count.")
@click.option("--ring", help="In which ring it was.")
@connected
def report(
    client: Client,
    task: str,
    success: bool | None,
    intervention: bool | None,
    cost: float | None,
    detail: str | None,
    agent: str | None,
    ring: str | None,
    as_json: bool,
) -> None:
    """Say what became of TASK; its id is in the header x-turnout-task of the answer.

    Saying the same again changes nothing. Of each value the first report counts; where nothing of a report does, this
    ends with 5.
    """
    if success is None and intervention is None and cost is None:
        raise click.UsageError("say what became of it: --success or --failure, --intervention, --cost")
    said = {"success": success, "intervention": intervention, "cost": cost}
    taken = client.report(task, {**said, "detail": detail, "agent": agent, "ring": ring})
    if as_json:
        print_json(taken)
    else:
        click.echo(f"{taken['state']}: {taken['message']}")
    if taken["state"] not in _AS_WISHED and not as_json:
        note(f"to see all reports of it: turnout lineage {task}")
    if taken["state"] in _NOT_TAKEN:
        raise click.exceptions.Exit(EXIT_CODES["conflict"])
