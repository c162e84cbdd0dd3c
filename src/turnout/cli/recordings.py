"""`turnout recordings`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from turnout.cli.connection import connected, note, print_json
from turnout.cli.exits import EXIT_CODES
from turnout.cli.tables import local_time, plain, release_label, show_table
from turnout.client import Client
from turnout.domain.errors import InvalidRequest, NotFound, TurnoutError
from turnout.schemas import RecordingView

_PAGE = 1_000  # the most that one request may ask for
_OF_ONE = ("not_found", "damaged_content", "invalid_request")  # errors that are about one recording alone


@click.group()
def recordings() -> None:
    """List, show, keep, export and delete the tasks that are kept for replay."""


@recordings.command("list", short_help="List recordings, newest first.")
@click.argument("agent")
@click.option("--ring", help="Only of this ring.")
@click.option("--release", help="Only of this version or digest, or of ring:NAME.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _PAGE), help="At most so many.")
@connected
def list_(client: Client, agent: str, ring: str | None, release: str | None, limit: int, as_json: bool) -> None:
    """List the recordings of AGENT, newest first, and why one cannot be replayed.

    Exits with 1 when the document of one is missing or damaged.
    """
    found = client.recordings(agent, ring=ring, release=release, limit=limit)["recordings"]
    if as_json:
        print_json({"recordings": found})
    elif not found:
        click.echo("no task is recorded: [rings.NAME.record] in turnout.toml")
    else:
        show_table(
            ("AT", "TASK", "RING", "RELEASE", "REQUESTS", "TOOLS", "MODELS", "BYTES", "REPLAY"),
            [_row(item) for item in found],
        )
    _end([item for item in found if item["problem"]])


@recordings.command(short_help="Show what is in the recording of a task.")
@click.argument("agent")
@click.argument("task")
@click.option("--ring", help="The ring that the task came to, where it came to several.")
@connected
def show(client: Client, agent: str, task: str, ring: str | None, as_json: bool) -> None:
    """Show the recording of TASK of AGENT: its requests, and its calls of tools and models."""
    document = json.loads(client.recording(agent, _find(client, agent, task, ring)["document"]))
    if as_json:
        print_json(document)
        return
    label = release_label(document["version"], document["release"])
    click.echo(f"task {plain(document['task'])} of {label} in {document['ring']}")
    for item in _steps(document):
        click.echo()
        for line in item:
            click.echo(line)


@recordings.command(short_help="Record a task now, whatever the sample.")
@click.argument("agent")
@click.argument("task")
@click.option("--ring", help="The ring that the task came to, where it came to several.")
@connected
def keep(client: Client, agent: str, task: str, ring: str | None, as_json: bool) -> None:
    """Record TASK of AGENT now, whatever the sample of its ring. It holds what its ring kept of the task."""
    kept = client.keep_recording(agent, {"task": task, "ring": ring})
    if as_json:
        print_json(kept)
        return
    click.echo(f"{plain(kept['task'])}: recorded until {local_time(kept['kept_until'])} as {kept['document']}")
    for fault in (*kept["faults"], *kept["model_faults"]):
        note(plain(fault))


@recordings.command(short_help="Write recordings as JSON lines, newest first.")
@click.argument("agent")
@click.option("--ring", help="Only of this ring.")
@click.option("--release", help="Only of this version or digest, or of ring:NAME.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many. Default: all.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file. Default: standard output."
)
@connected
def export(
    client: Client,
    agent: str,
    ring: str | None,
    release: str | None,
    limit: int | None,
    output: Path | None,
    as_json: bool,  # noqa: ARG001
) -> None:
    """Write the recordings of AGENT, one document a line, newest first.

    One whose document is missing or damaged is named and left out; the exit code is 1 then.
    """
    chosen = _chosen(client, agent, ring, release, limit)
    bad: list[RecordingView] = []
    with (
        click.open_file(str(output) if output else "-", "wb") as file,
        click.progressbar(chosen, label="recordings", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar,
    ):
        for item in bar:
            try:
                file.write(client.recording(agent, item["document"]) + b"\n")
            except TurnoutError as error:
                if error.code not in _OF_ONE:
                    raise
                bad.append({**item, "problem": error.message})
    note(f"{len(chosen) - len(bad)} recordings")
    _end(bad)


@recordings.command(short_help="Forget the recording of a task.")
@click.argument("agent")
@click.argument("task")
@click.option("--ring", help="The ring that the task came to, where it came to several.")
@connected
def delete(client: Client, agent: str, task: str, ring: str | None, as_json: bool) -> None:
    """Forget the recording of TASK of AGENT, with its document. It is not recorded again."""
    found = _find(client, agent, task, ring)
    client.delete_recording(agent, found["document"])
    if as_json:
        print_json({"agent": agent, "task": task, "ring": found["ring"], "deleted": True})
    else:
        click.echo(f"{plain(task)}: the recording is deleted")


def _find(client: Client, agent: str, task: str, ring: str | None) -> RecordingView:
    found = client.recordings(agent, task=task, ring=ring)["recordings"]
    if not found:
        raise NotFound(
            f"there is no recording of the task {task[:80]!r}", hint=f"`turnout recordings list {agent}` shows them"
        )
    if len(found) > 1:
        rings = ", ".join(sorted(item["ring"] for item in found))
        raise InvalidRequest(f"the task {task[:80]!r} is recorded in {rings}", hint="choose one with --ring")
    return found[0]


def _chosen(
    client: Client, agent: str, ring: str | None, release: str | None, limit: int | None
) -> list[RecordingView]:
    """All that are asked for; what is recorded meanwhile moves the pages, and is named once all the same."""
    chosen: dict[str, RecordingView] = {}
    skip = 0
    while limit is None or len(chosen) < limit:
        asked = _PAGE if limit is None else min(limit - len(chosen), _PAGE)
        page = client.recordings(agent, ring=ring, release=release, limit=asked, skip=skip)["recordings"]
        chosen |= {item["document"]: item for item in page}
        skip += len(page)
        if len(page) < asked:
            break
    return list(chosen.values())


def _end(bad: list[RecordingView]) -> None:
    for item in bad:
        note(f"{plain(item['task'])}: {plain(item['problem'] or '')}")
    if bad:
        raise click.exceptions.Exit(EXIT_CODES["damaged_content"])


def _row(item: RecordingView) -> tuple[str, ...]:
    faults = [*item["faults"], *item["model_faults"]]
    state = "damaged" if item["problem"] else "no" if item["faults"] else "models live" if faults else "yes"
    return (
        local_time(item["at"]),
        plain(item["task"]),
        item["ring"],
        release_label(item["version"], item["digest"]),
        str(item["requests"]),
        str(item["tool_calls"]),
        str(item["model_calls"]),
        f"{item['size']:,}",
        f"{state}: {plain(faults[0])}" if faults else state,
    )


def _steps(document: dict[str, Any]) -> Iterator[list[str]]:
    """Everything in the order in which it began."""
    steps: list[tuple[float, list[str]]] = []
    for item in document["requests"]:
        head = f"{item['method']} {item['path']} → {item['status']}"
        steps.append((item["at"], [head, *_payload("asked", item["body"]), *_payload("answered", item["answer"])]))
    for item in document["tools"]:
        head = f"tool {item['server']}/{item['tool']}: {item['error'] or item['ended']}"
        steps.append(
            (item["at"], [head, *_payload("arguments", item["arguments"]), *_payload("result", item["result"])])
        )
    for item in document["models"]:
        head = f"model {item['provider']}/{item['model']}: {item['ended']}, cost {item['cost']:g}"
        steps.append((item["at"], [head, *_payload("answer", item["answer"])]))
    for _, (head, *rest) in sorted(steps, key=lambda step: step[0]):
        yield [click.style(plain(head), bold=True), *rest]


def _payload(name: str, content: str | dict[str, str] | None) -> list[str]:
    if content is None:
        return [f"  {name}: not kept"]
    if isinstance(content, dict):
        return [f"  {name}: {content['base64']} (base64)"]
    return [
        f"  {name}: {line}" if not number else f"    {line}"
        for number, line in enumerate(map(plain, content.splitlines()))
    ]
