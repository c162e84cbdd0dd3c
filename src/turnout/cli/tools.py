"""`turnout tools`."""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import shlex
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from turnout.cli.connection import connect
from turnout.domain.errors import InvalidRequest, ManifestError, NotFound, ServerUnreachable
from turnout.domain.tool_pins import find_pin
from turnout.manifest import MANIFEST_NAME
from turnout.manifest.tool_manifest import parse_document, read_tool_pins
from turnout.services.tools import view_pin

DEFAULT_FILE = "tools.json"
EXIT_DIFFERS = 1

Found = Mapping[str, Mapping[str, Mapping[str, Any]]]  # server → tool → its description


@click.group()
def tools() -> None:
    """Pin the tools of MCP servers, so that a release calls what it was built with."""


@tools.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path())
@click.option("--server", "name", help="Only this server. Together with --url or --command a new one can be given.")
@click.option("--url", help="URL of the server's MCP endpoint.")
@click.option("--command", help="Command that starts the server, such as 'python server.py'. No shell runs it.")
@click.option("--header", "headers", multiple=True, metavar="NAME=REF", help="Header for --url; REF such as env:TOKEN.")
@click.option("--env", "env", multiple=True, metavar="NAME=REF", help="Variable for --command; REF such as env:TOKEN.")
@click.option(
    "--tool", "names", multiple=True, help="Add this tool; repeatable. Default for a new server: all of them."
)
@click.option("--all", "everything", is_flag=True, help="Add every tool that the servers have.")
@click.option("--gateway", type=click.Path(path_type=Path, dir_okay=False), help="The instance's gateway.toml.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option("--check", is_flag=True, help="Write nothing, and exit with 1 if a server's tools are not as pinned.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def pin(
    folder: Path,
    name: str | None,
    url: str | None,
    command: str | None,
    headers: tuple[str, ...],
    env: tuple[str, ...],
    names: tuple[str, ...],
    everything: bool,
    gateway: Path | None,
    dry_run: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Write the tools of the servers into the tool manifest of FOLDER, with their full schemas and digests.

    Rules, timeouts and side_effects of tools that are pinned already stay. The servers are those of gateway.toml, by the
    names that the tool manifest uses, or the one that --server names.
    """
    from turnout.manifest.tool_pinning import pin_tools, render_manifest, servers_of

    path = _tool_manifest(folder)
    before = path.read_bytes() if path.exists() else b""
    document = parse_document(before) if before else {}
    written = servers_of(document)
    wanted = _wanted_servers(name, url, command, headers, env, gateway, tuple(written))
    found = asyncio.run(_look(wanted))
    for server, tools_found in found.items():
        known = written.get(server, ())
        every = everything or not (known or names)
        document = pin_tools(document, server, tools_found, set(tools_found) if every else {*known, *names})
    after = render_manifest(document)
    if not check:
        read_tool_pins(after)
    changed = not before or parse_document(before) != document
    if changed and not (check or dry_run):
        path.write_bytes(after)
    if as_json:
        pinned = {server: list(servers_of(document)[server]) for server in found}
        click.echo(json.dumps({"path": str(path), "changed": changed, "servers": pinned}, indent=2))
    else:
        _show(path, before, after, changed=changed, written=not (check or dry_run))
    if check and changed:
        raise click.exceptions.Exit(EXIT_DIFFERS)


@tools.command("list")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path())
@click.option("--agent", help="Of this agent on the instance instead: what its release may call.")
@click.option("--release", "ref", help="With --agent: which one, by version, digest or ring:NAME.")
@click.option("--server", help="With --agent: URL of the API. Default: TURNOUT_SERVER, or the instance of --state.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="State folder of the instance.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def list_tools(
    folder: Path, agent: str | None, ref: str | None, server: str | None, state: Path | None, as_json: bool
) -> None:
    """List the tools that the tool manifest of FOLDER pins, or those that a release of an agent may call."""
    if (agent is None) != (ref is None):
        raise InvalidRequest(
            "--agent and --release belong together", hint="such as --agent support --release ring:production"
        )
    if agent is not None and ref is not None:
        found = connect(server, state).tools(agent, ref)["tools"]
    else:
        found = [view_pin(pin) for pin in read_tool_pins(_content(folder))]
    if as_json:
        click.echo(json.dumps({"tools": found}, indent=2))
        return
    for pin in found:
        rules = "any arguments"
        if pin["rules"] is not None:
            rules = f"rules for {', '.join(pin['rules']) or 'no argument at all'}"
        state_of = f"sha256:{pin['sha256'][:12]}" if pin["sha256"] else "not pinned, cannot be called"
        name = click.style(pin["name"], bold=True)
        click.echo(f"{pin['server'] or '-'}  {name}  {state_of}  {rules}  {pin['timeout']:g} s")
    if not found:
        click.echo("no tools")


@tools.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path())
@click.option("--tool", "name", help="Also say whether this tool may be called with --arguments.")
@click.option("--arguments", default="{}", show_default=True, help="Arguments of --tool, as a JSON object.")
def check(folder: Path, name: str | None, arguments: str) -> None:
    """Check the tool manifest of FOLDER without asking a server: digests, schemas, rules; with --tool also a call."""
    pins = read_tool_pins(_content(folder))
    callable_pins = [pin for pin in pins if pin.schema]
    count = f"{len(callable_pins)} tool{'' if len(callable_pins) == 1 else 's'}"
    click.echo(f"{count} pinned, each with the digest of its description")
    if name is None:
        return
    from turnout.domain.tool_rules import arguments_fault
    from turnout.manifest.json_schema import JsonSchema, matches

    found = find_pin(callable_pins, name)
    if found is None:
        raise NotFound(f'no tool "{name}" is pinned')
    values = _json_object(arguments)
    fault = JsonSchema(found.description["inputSchema"]).fault(values)
    if fault is None and found.rules is not None:
        fault = arguments_fault(found.rules, values, matches)
    if fault:
        raise InvalidRequest(f'"{name}" would be refused: {fault}')
    click.echo(f"{name} may be called with these arguments")


def _tool_manifest(folder: Path) -> Path:
    """The file that turnout.toml names, or tools.json where it names none. The rest of turnout.toml is left unchecked."""
    try:
        raw = tomllib.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return folder / DEFAULT_FILE
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(f"{folder / MANIFEST_NAME} cannot be read: {error}") from None
    table = raw.get("tools")
    named = table.get("manifest") if isinstance(table, dict) else None
    return folder / (named if isinstance(named, str) and named else DEFAULT_FILE)


def _content(folder: Path) -> bytes:
    path = _tool_manifest(folder)
    try:
        return path.read_bytes()
    except OSError:
        raise NotFound(f"there is no tool manifest {path}", hint="`turnout tools pin` writes one") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"--arguments is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("--arguments has to be a JSON object")
    return value


# --- servers ---------------------------------------------------------------------------------------------------------


def _wanted_servers(
    name: str | None,
    url: str | None,
    command: str | None,
    headers: Sequence[str],
    env: Sequence[str],
    gateway: Path | None,
    written: Sequence[str],
) -> list[Any]:
    from turnout.gateway.values import ToolServer

    if url or command:
        if not name or (url and command):
            raise InvalidRequest("name the server with --server, and give --url or --command, not both")
        arguments = tuple(shlex.split(command)) if command else ()
        return [ToolServer(name, url, arguments, None, dict(_references(headers)), dict(_references(env)))]
    configured = _configured(gateway)
    names = (name,) if name else written
    if not names:
        raise InvalidRequest(
            "the tool manifest names no server", hint="name one with --server, and where it is with --url or --command"
        )
    missing = [name for name in names if name not in configured]
    if missing:
        raise NotFound(
            f"it is not known where the server {' or '.join(missing)} is",
            hint="give the instance's configuration with --gateway, or --server with --url or --command",
        )
    return [configured[name] for name in names]


def _configured(gateway: Path | None) -> Mapping[str, Any]:
    from turnout.gateway.config import load_gateway_config
    from turnout.settings import default_state

    path = gateway or default_state() / "gateway.toml"
    return load_gateway_config(path, needed=gateway is not None).tool_servers


def _references(values: Sequence[str]) -> Iterator[tuple[str, str]]:
    for value in values:
        name, _, reference = value.partition("=")
        if not name or reference.partition(":")[0] not in ("env", "file"):
            raise InvalidRequest("write NAME=env:VARIABLE or NAME=file:PATH: secrets do not belong on a command line")
        yield name, reference


async def _look(servers: Sequence[Any]) -> Found:
    """What each server says of its tools. Raises `ServerUnreachable` naming the server that does not."""
    from turnout.gateway.config import resolve_secret
    from turnout.gateway.tools.connection import Unreachable
    from turnout.gateway.tools.upstream import Patience, Upstream

    resolve = partial(resolve_secret, environ=os.environ)
    found: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="turnout-tools-") as folder:
        for number, server in enumerate(servers):
            log_file = Path(folder) / str(number)
            upstream = Upstream(server, resolve, Patience(connect=30.0, look=30.0), log_file)
            try:
                found[server.name] = await upstream.tools()
            except Unreachable as error:
                message = f'the tool server "{server.name}" cannot be asked: {error}'
                raise ServerUnreachable(message, hint=_last_words(log_file)) from None
            finally:
                await upstream.close()
    return found


def _last_words(log_file: Path) -> str | None:
    """What a command printed on standard error before it failed."""
    lines = log_file.read_text(errors="replace").strip().splitlines() if log_file.exists() else []
    return f"it printed: {lines[-1][:500]}" if lines else None


# --- what is shown ---------------------------------------------------------------------------------------------------


def _show(path: Path, before: bytes, after: bytes, *, changed: bool, written: bool) -> None:
    if not changed:
        click.echo(f"{path}: every tool is as it is pinned")
        return
    old, new = before.decode().splitlines(), after.decode().splitlines()
    for line in difflib.unified_diff(old, new, str(path), str(path), lineterm="", n=2):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(click.style(line, fg=colour))
    click.echo(f"{path}: {'written' if written else 'differs'}")
