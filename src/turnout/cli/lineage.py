"""`turnout lineage`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from turnout.cli.calls import show_calls
from turnout.cli.connection import connected, print_json
from turnout.cli.tables import local_time, plain, show_table
from turnout.cli.tasks import describe_outcome
from turnout.client import Client
from turnout.schemas import LineageRelease, LineageVerdict, LineageView, PayloadView, PromptView, RequestView

_LINES = 20  # of a prompt or payload, unless --full


@click.command()
@click.argument("task")
@click.option("--full", is_flag=True, help="Show prompts, captured payloads, arguments and results to their end.")
@connected
def lineage(client: Client, task: str, full: bool, as_json: bool) -> None:
    """Show everything that answered TASK: the id of a task, or of one of its requests.

    Release, components, model, prompts, settings, how the release came into the ring, how its rollout stood, its calls of
    models and tools, and every report of what became of the task.
    """
    view = client.lineage(task)
    if as_json:
        print_json(view)
        return
    click.echo(f"task {plain(view['task'])}: {describe_outcome(view['outcome'])}")
    _show_requests(view, full=full)
    for release in view["releases"]:
        click.echo()
        for line in _describe_release(release, full=full):
            click.echo(line)
    for verdict in view["verdicts"]:
        click.echo()
        for line in _describe_verdict(verdict):
            click.echo(line)
    show_calls(view, full=full)
    _show_reports(view)


def _show_requests(view: LineageView, *, full: bool) -> None:
    if not view["requests"]:
        click.echo("no request of it has been seen")
        return
    click.echo()
    show_table(
        ("AT", "REQUEST", "", "STATUS", "SECONDS", "IN", "OUT", "ARM", "SHARE"),
        [
            (
                local_time(item["at"]),
                plain(item["request"]),
                plain(f"{item['method']} {item['path']}"),
                str(item["status"]) if item["duration"] is not None else "…",
                f"{item['duration']:.3f}" if item["duration"] is not None else "…",
                str(item["bytes_in"]),
                str(item["bytes_out"]),
                item["arm"] or ("pinned" if item["pinned"] else "-"),
                f"{item['probability']:.2%}" if item["probability"] is not None else "-",
            )
            for item in view["requests"]
        ],
    )
    if view["more"]:
        click.echo("… and earlier ones")
    for item in view["requests"]:
        for line in _describe_payloads(item, full=full):
            click.echo(line)


def _describe_payloads(item: RequestView, *, full: bool) -> Iterator[str]:
    payloads: tuple[tuple[str, PayloadView | None], ...] = (("asked", item["question"]), ("answered", item["answer"]))
    for name, payload in payloads:
        if payload is None:
            continue
        cut = "" if payload["whole"] else ", not all of it"
        yield f"\n{name} ({plain(item['request'])}, {payload['bytes']} bytes{cut}):"
        yield from _indent(payload["text"] if payload["text"] is not None else "(not a text; see --json)", full=full)


def _describe_release(release: LineageRelease, *, full: bool) -> Iterator[str]:
    shown = release["release"]
    yield click.style(f"{release['agent']} {shown['version']} in {release['ring']}", bold=True)
    yield f"  digest     {shown['digest']}"
    yield f"  built by   {shown['author']}, {local_time(shown['created_at'])}" + (
        f", commit {shown['git_sha']}" if shown["git_sha"] else ""
    )
    if shown["quarantine"]:
        yield f"  quarantine {shown['quarantine']}"
    yield from (f"  {name:<10} {ref['digest']}" for name, ref in shown["components"].items())
    if release["model"]:
        pin = ", ".join(f"{name} {value}" for name, value in release["model"].items() if value not in (None, {}, []))
        yield f"  pinned     {pin}"
    yield from (f"  env        {name}={value}" for name, value in sorted(release["env"].items()))
    yield f"  success    {release['success']}"
    yield from _describe_admission(release)
    yield from (f"  problem    {problem}" for problem in release["problems"])
    for prompt in release["prompts"]:
        yield from _describe_prompt(prompt, full=full)


def _describe_admission(release: LineageRelease) -> Iterator[str]:
    admission = release["admission"]
    if admission is None:
        return
    source = f" from {admission['source_ring']}" if admission["source_ring"] else ""
    reason = f": {admission['reason']}" if admission["reason"] else ""
    yield f"  came by    {admission['kind']}{source} of {admission['actor']}, {local_time(admission['at'])}{reason}" + (
        f"  [{admission['deployment']}]"
    )
    for decision in admission["approvals"]:
        verb = "approved by" if decision["approved"] else "rejected by"
        comment = f": {decision['comment']}" if decision["comment"] else ""
        yield f"  {verb} {decision['approver']}, {local_time(decision['at'])}{comment}"
    for override in admission["overrides"]:
        yield f"  {override['actor']} passed over {', '.join(override['overridden'])}: {override['reason']}"


def _describe_prompt(prompt: PromptView, *, full: bool) -> Iterator[str]:
    yield f"\n  {prompt['path']}  {prompt['digest'][7:19]}  {prompt['size']} bytes"
    yield from _indent(prompt["text"] if prompt["text"] is not None else f"({prompt['note']})", full=full)


def _describe_verdict(verdict: LineageVerdict) -> Iterator[str]:
    where = f"step {verdict['step']}, {verdict['weight']:g} %" if verdict["weight"] is not None else "before a step"
    yield click.style(f"rollout {verdict['rollout']}", bold=True) + f" at {local_time(verdict['at'])}: {where}"
    evidence = ", ".join(f"{name} {value:.3g}" for name, value in verdict["against"].items()) or "none yet"
    yield f"  then       {verdict['kind'] or 'not judged'}; evidence against it: {evidence}"
    if verdict["latest"] and verdict["latest_at"]:
        decided = f"; acted on: {verdict['decided']}" if verdict["decided"] else ""
        yield f"  now        {verdict['latest']} at {local_time(verdict['latest_at'])}{decided}"
    yield from (f"  {local_time(event['at'])}  {event['type']} by {event['actor']}" for event in verdict["events"])


def _show_reports(view: LineageView) -> None:
    if not view["reports"]:
        return
    click.echo()
    show_table(
        ("AT", "ABOUT", "SOURCE", "BY", "SAID", "STATE", "COUNTS", "DETAIL"),
        [
            (
                local_time(item["at"]),
                f"{item['agent']} {item['ring']}" if item["agent"] and item["ring"] else "-",
                item["source"],
                plain(item["reporter"]),
                describe_outcome(
                    {"success": item["success"], "intervention": item["intervention"], "cost": item["cost"]}
                ),
                item["state"],
                ", ".join(item["counts"]) or "-",
                plain(item["detail"]),
            )
            for item in view["reports"]
        ],
    )


def _indent(text: str, *, full: bool) -> Iterator[str]:
    """Each line set off, and no more than a screen of it unless everything is wanted."""
    lines = text.splitlines()
    yield from (f"  | {plain(line)}" for line in (lines if full else lines[:_LINES]))
    if not full and len(lines) > _LINES:
        yield f"  | … {len(lines) - _LINES} more lines, with --full"
