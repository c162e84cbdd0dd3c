"""Writes pins into a tool manifest: the descriptions of tools as servers give them, beside what a person decided. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from turnout.domain.errors import ManifestError, NotFound
from turnout.domain.tool_pins import DESCRIBED, pinned_description
from turnout.manifest.tool_manifest import SETTINGS, tool_digest

_DECIDED = tuple(name for name in SETTINGS if name != "sha256")


def servers_of(document: Any) -> dict[str, tuple[str, ...]]:
    """The tools that a manifest names, by server. Raises `ManifestError` for one whose servers cannot be read."""
    servers = document.get("servers", {}) if isinstance(document, Mapping) else {}
    if not isinstance(servers, Mapping):
        raise ManifestError(
            "the tool manifest is wrong", problems=("servers: expected an object: a server by its name",)
        )
    return {server: tuple(_written(table)) for server, table in servers.items()}


def pin_tools(
    document: Any, server: str, found: Mapping[str, Mapping[str, Any]], names: Collection[str]
) -> dict[str, Any]:
    """A manifest whose server holds these tools as they were found, with the rules and timeouts that they had.

    Raises `NotFound` naming the tools that the server does not have, `ManifestError` for one that cannot be pinned.
    """
    missing = sorted(set(names) - found.keys())
    if missing:
        raise NotFound(
            f'the server "{server}" has no tool {" or ".join(missing)}; it has {", ".join(sorted(found)) or "none"}',
            hint="take it out of the tool manifest, or name another with --tool",
        )
    base = dict(document) if isinstance(document, Mapping) else {}
    servers = dict(base.get("servers", {}))
    before = _written(servers.get(server))
    servers[server] = {"tools": [_pinned(found[name], before.get(name)) for name in sorted(names)]}
    return {**base, "servers": {name: servers[name] for name in sorted(servers)}}


def render_manifest(document: Any) -> bytes:
    """As it is written to the file."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _written(table: Any) -> dict[str, Mapping[str, Any]]:
    """The tools of a server that have a name, by it. A mere name stands for a tool that is to be pinned."""
    tools = table.get("tools") if isinstance(table, Mapping) else None
    named = [{"name": tool} if isinstance(tool, str) else tool for tool in tools] if isinstance(tools, list) else []
    return {tool["name"]: tool for tool in named if isinstance(tool, Mapping) and isinstance(tool.get("name"), str)}


def _pinned(tool: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    described = pinned_description(tool)
    try:
        digest = tool_digest(described)
    except ValueError as error:
        raise ManifestError(f'the tool "{tool["name"]}" cannot be pinned: its description {error}') from None
    decided = {key: before[key] for key in _DECIDED if key in before} if before else {}
    if before is None or not any(key in before for key in SETTINGS):
        decided = {**_proposed(tool), **decided}
    return {**{key: described[key] for key in DESCRIBED if key in described}, "sha256": digest, **decided}


def _proposed(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool that says that it only reads has no side effects; whoever pins it sees that, and can say otherwise."""
    annotations = tool.get("annotations")
    reads = isinstance(annotations, Mapping) and annotations.get("readOnlyHint") is True
    return {"side_effects": False} if reads else {}
