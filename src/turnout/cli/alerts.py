"""`turnout alerts`."""

from __future__ import annotations

import time

import click

from turnout.cli.connection import connected, note, print_json
from turnout.cli.tables import local_time, show_table
from turnout.client import Client
from turnout.domain.errors import Retryable
from turnout.schemas import AlertView

_TEST_SECONDS = 45.0  # longer than a courier needs to come by and a receiver may take to answer
_POLL_SECONDS = 0.25


@click.group()
def alerts() -> None:
    """Show whom this instance tells what happens, test a target, send again. Targets are in `alerts.toml`."""


@alerts.command("list")
@connected
def list_(client: Client, as_json: bool) -> None:
    """List the targets: how far each is, and what went wrong last."""
    found = client.alerts()
    if as_json:
        print_json(found)
        return
    if not found["alerts"]:
        note("no target is configured: see docs/guides/alerts.md")
        return
    show_table(
        ("TARGET", "KIND", "TO", "STATE", "CURSOR", "LAG", "SENT", "NOTE"),
        [
            (
                item["name"],
                item["kind"],
                item["to"],
                _coloured(item["state"]),
                "-" if item["cursor"] is None else str(item["cursor"]),
                f"{item['lag']} ({item['lag_seconds']:.0f} s)" if item["lag"] else "0",
                str(item["sent"]),
                _note(item),
            )
            for item in found["alerts"]
        ],
    )


@alerts.command(short_help="Send a target a message that says that nothing happened.")
@click.argument("name")
@connected
def test(client: Client, name: str, as_json: bool) -> None:
    """Send the target NAME a message that says that nothing happened, and tell whether it arrived."""
    asked = client.test_alerts(name)["id"]
    deadline = time.monotonic() + _TEST_SECONDS
    while time.monotonic() < deadline:
        view = next((item for item in client.alerts()["alerts"] if item["name"] == name), None)
        if view is not None and view["test"] == asked:
            if as_json:
                print_json({"name": name, "arrived": view["test_error"] is None, "error": view["test_error"]})
            elif view["test_error"] is None:
                click.echo(f"{name} took the test")
            if view["test_error"] is not None:
                raise Retryable(f"{name} did not get the test: {view['test_error']}", hint="see `turnout alerts list`")
            return
        time.sleep(_POLL_SECONDS)
    raise Retryable(f"nobody serves {name} just now", hint="see the log of the server; the test is sent when it is")


@alerts.command(short_help="Send a target again what followed an event.")
@click.argument("name")
@click.option("--after", required=True, type=click.IntRange(0), help="Sequence number of an event; 0: everything.")
@connected
def replay(client: Client, name: str, after: int, as_json: bool) -> None:
    """Send the target NAME again every event that it wants and that followed the one with the sequence number --after.

    `turnout history AGENT --all --json` shows the numbers. Receivers know by their ids what they have already.
    """
    asked = client.replay_alerts(name, after)
    if as_json:
        print_json(asked)
    else:
        click.echo(f"{name} is sent again what followed event {after}")


def _coloured(state: str) -> str:
    colour = {"delivering": "green", "behind": "yellow", "failing": "red"}.get(state)
    return click.style(state, fg=colour) if colour else state


def _note(item: AlertView) -> str:
    if item["failing_since"] is not None:
        return f"since {local_time(item['failing_since'])}: {item['error']}"
    if item["skipped"]:
        return f"{item['skipped']} given up; last: {item['skipped_note']}"
    return f"last {local_time(item['sent_at'])}" if item["sent_at"] else ""
