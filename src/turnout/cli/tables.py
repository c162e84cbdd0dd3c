"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import click

from turnout.domain.models import short_digest


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, err: bool = False) -> None:
    """Aligned columns; colour is left to the cells. `err`: on standard error."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(click.unstyle(line[column])) for line in lines) for column in range(len(header))]
    for number, line in enumerate(lines):
        cells = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(line, widths, strict=True)]
        text = "  ".join(cells).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 else text, err=err)


def release_label(version: str | None, digest: str | None) -> str:
    """`v2 (32d6744)`; `-` for none."""
    return f"{version or '?'} ({short_digest(digest)[:7]})" if digest else "-"


def local_time(iso: str) -> str:
    """`2026-05-04 12:34:56`, in UTC as everything."""
    return iso[:19].replace("T", " ")


def to_seconds(iso: str) -> float:
    """Seconds since the epoch, of a time as the API tells it."""
    return datetime.fromisoformat(iso).timestamp()


def plain(text: str) -> str:
    """Without what would steer a terminal: callers, reporters, models and tools wrote it."""
    return "".join(character if character.isprintable() or character == "\t" else "·" for character in text)
