"""How the calls of models and tools that a task made are shown."""

from __future__ import annotations

from collections.abc import Iterator

import click

from turnout.cli.tables import local_time, plain, show_table
from turnout.schemas import LineageView, MeteredView, ModelCallView, ToolCallView

_LONGEST = 400  # characters of arguments and results, unless everything is wanted


def show_calls(view: LineageView, *, full: bool) -> None:
    """Model calls as a table with the tries of those that needed more than one; tool calls with arguments and results."""
    if view["model_calls"]:
        click.echo()
        click.echo(click.style("model calls", bold=True) + f"  {_describe_metered(view['metered'])}")
        show_table(
            ("AT", "MODEL", "ANSWERED BY", "ROUTE", "STATUS", "SECONDS", "IN", "OUT", "COST", "ENDED"),
            [_row(call) for call in view["model_calls"]],
        )
        for call in view["model_calls"]:
            for line in _describe_trouble(call):
                click.echo(line)
    if view["tool_calls"]:
        click.echo()
        click.echo(click.style("tool calls", bold=True))
        for tool_call in view["tool_calls"]:
            for line in _describe_tool_call(tool_call, full=full):
                click.echo(line)
    if view["more_calls"]:
        click.echo("… and later calls")


def _describe_metered(metered: MeteredView) -> str:
    cost = "without a price" if metered["cost"] is None else f"${metered['cost']:.6f}"
    estimated = ", partly estimated" if metered["estimated"] else ""
    return f"{metered['calls']}, {metered['tokens_in']} tokens in, {metered['tokens_out']} out, {cost}{estimated}"


def _row(call: ModelCallView) -> tuple[str, ...]:
    cached = f" ({call['tokens_cached']} cached)" if call["tokens_cached"] else ""
    reasoning = f" ({call['tokens_reasoning']} reasoning)" if call["tokens_reasoning"] else ""
    about = "~" if call["estimated"] else ""
    return (
        local_time(call["at"]),
        plain(f"{call['provider']}/{call['model']}"),
        plain(call["answered_by"] or "-"),
        plain(call["route"] or "-"),
        str(call["status"] or "-"),
        f"{call['duration']:.3f}",
        f"{about}{call['tokens_in']}{cached}",
        f"{about}{call['tokens_out']}{reasoning}",
        "-" if call["cost"] is None else f"{about}${call['cost']:.6f}",
        call["ended"],
    )


def _describe_trouble(call: ModelCallView) -> Iterator[str]:
    """Of a call that did not go well at once: each try, and how it ended."""
    if call["error"] or len(call["attempts"]) > 1:
        yield f"  {call['id']}: {call['ended']}" + (f": {plain(call['error'])}" if call["error"] else "")
        for attempt in call["attempts"]:
            said = plain(attempt["error"]) or str(attempt["status"] or "no answer")
            yield f"    tried {plain(attempt['route'])} ({plain(attempt['model'])}), {attempt['seconds']:.3f} s: {said}"


def _describe_tool_call(call: ToolCallView, *, full: bool) -> Iterator[str]:
    ended = "the tool failed" if call["failed"] else call["ended"]
    error = f": {plain(call['error'])}" if call["error"] else ""
    name = plain(f"{call['server']}/{call['tool']}")
    yield f"{local_time(call['at'])}  {name}  {call['duration']:.3f} s  {ended}{error}"
    if call["found"]:
        yield f"    pinned     {call['pinned']}"
        yield f"    found      {call['found']}"
    for title, text, digest in (
        ("arguments", call["arguments"], call["arguments_digest"]),
        ("result", call["result"], call["result_digest"]),
    ):
        if text is not None:
            shown = plain(text if full else text[:_LONGEST])
            yield f"    {title:<10} {shown}" + ("" if full or len(text) <= _LONGEST else " … with --full")
        elif digest:
            yield f"    {title:<10} {digest}"
