"""How far long work is, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_REDRAW_EVERY = 0.1  # seconds, on a terminal
_SAY_EVERY = 5.0  # seconds between lines where there is no terminal


@contextmanager
def show_progress() -> Iterator[Callable[[str, bool], None]]:
    """Yields a function of a text and whether that is the last: a line kept current on a terminal, else one at times."""
    terminal, said = sys.stderr.isatty(), time.monotonic()

    def show(text: str, over: bool) -> None:
        nonlocal said
        now = time.monotonic()
        if not over and now - said < (_REDRAW_EVERY if terminal else _SAY_EVERY):
            return
        said = now
        click.echo(f"\r{text}\033[K" if terminal else text, err=True, nl=not terminal)

    try:
        yield show
    finally:
        if terminal:
            click.echo("", err=True)
