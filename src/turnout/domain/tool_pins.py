"""Pins of tools: what of a tool's description is pinned, and why a tool may not be called. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from turnout.domain.grants import ToolPin

DESCRIBED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
MISSING, AMBIGUOUS, UNREADABLE = "missing", "ambiguous", "unreadable"  # in the place of a digest
_NOW: Mapping[str, str] = {
    MISSING: "the server has it no longer",
    AMBIGUOUS: "the server has several of that name",
    UNREADABLE: "what the server says of it has no canonical form",
}


def pinned_description(tool: Mapping[str, Any]) -> dict[str, Any]:
    """What is pinned of a tool as its server describes it. What is absent, or null, is left out."""
    return {key: tool[key] for key in DESCRIBED if tool.get(key) is not None}


def find_pin(pins: Iterable[ToolPin], name: str) -> ToolPin | None:
    """The pin of a tool by the name that agents call it by."""
    return next((pin for pin in pins if pin.name == name), None)


def unlisted_text(pins: Iterable[ToolPin], name: str, version: str) -> str:
    """What an agent is told that calls a tool which its release does not name."""
    names = [pin.name for pin in pins]
    near = difflib.get_close_matches(name[:200], names, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f'the tool "{name[:200]}" is not in the tool manifest of release {version}{hint}'


def found_as(found: str | None) -> str:
    """What a record says of a tool as its server has it: its digest, or a word where it has none."""
    return MISSING if found is None else found


def pin_fault(pin: ToolPin, found: str | None) -> str | None:
    """Why a tool may not be called; None where it is the pinned one. `found`: its digest on the server, None without one."""
    if not pin.server:
        return f'the tool "{pin.name}" names no server in the tool manifest, so that it cannot be called here'
    if not pin.schema:
        return f'the tool "{pin.name}" is not pinned in the tool manifest; `turnout tools pin` does that'
    if found == pin.schema:
        return None
    now = _NOW.get(found_as(found), f"found sha256:{found}")
    tool = f'the tool "{pin.name}" of server "{pin.server}"'
    return f"{tool} is not the one that was pinned: pinned sha256:{pin.schema}, {now}"
