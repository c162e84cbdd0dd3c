"""Which instance a verb speaks to, and how it prints: the options that every verb shares."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from turnout.client import Client
from turnout.domain.errors import InvalidRequest, ServerUnreachable, Unauthenticated
from turnout.settings import API_PORT, INSTANCE_FILE, TOKEN_FILE, default_state

R = TypeVar("R")


def connected(command: Callable[..., R]) -> Callable[..., R]:
    """Give a verb `--server`, `--state` and `--json`; it is called with `client` and `as_json`."""

    @click.option("--server", help="URL of the API. Default: TURNOUT_SERVER, or the instance of --state.")
    @click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="State folder of the instance.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
    @functools.wraps(command)
    def run(*args: Any, server: str | None, state: Path | None, **options: Any) -> R:
        return command(*args, client=connect(server, state), **options)

    return run


def connect(server: str | None, state: Path | None) -> Client:
    """A client for the named instance. The token is TURNOUT_TOKEN, else the one in the state folder; never an argument."""
    folder = state or default_state()
    recorded = _recorded_url(folder)
    named = server or (None if state else os.environ.get("TURNOUT_SERVER"))
    url = (named or recorded or f"http://127.0.0.1:{API_PORT}").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InvalidRequest(f"{url!r} is not the URL of a server", hint="such as http://127.0.0.1:7070")
    # The folder's token is for the folder's own instance, and goes nowhere else.
    own = _read_token(folder) if url == recorded else None
    given = os.environ.get("TURNOUT_TOKEN")
    token = (own or given) if state else (given or own)
    if token is None:
        if named is None and recorded is None:
            raise ServerUnreachable(
                f"no instance is known in {folder}",
                hint="start one with `turnout up`, or name it with --state, or with TURNOUT_SERVER and TURNOUT_TOKEN",
            )
        raise Unauthenticated(
            f"no token for {url}", hint="set TURNOUT_TOKEN; an admin makes one: `turnout tokens create`"
        )
    return Client(url, token)


def print_json(value: object) -> None:
    """For programs: on standard output, nothing else there."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """For people: on standard error, so that standard output stays for results."""
    click.echo(text, err=True)


def _recorded_url(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / INSTANCE_FILE).read_text())["api"])
    except (OSError, ValueError, KeyError):
        return None


def _read_token(folder: Path) -> str | None:
    try:
        return (folder / TOKEN_FILE).read_text().strip() or None
    except OSError:
        return None
