"""Pins of tools: what of a tool's description is pinned, and why a tool may not be called. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from turnout.domain.calls import Ended, ToolCall
from turnout.domain.grants import ToolPin

DESCRIBED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
_CHANGED = "the tool is not the one that was pinned"


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


def pin_fault(pin: ToolPin, found: str | None) -> str | None:
    """Why a tool may not be called; None where it is the pinned one. `found`: its digest on the server, None without one."""
    if not pin.server:
        return f'the tool "{pin.name}" names no server in the tool manifest, so that it cannot be called here'
    if not pin.schema:
        return f'the tool "{pin.name}" is not pinned in the tool manifest; `turnout tools pin` does that'
    if found == pin.schema:
        return None
    on_server = f"found sha256:{found}" if found else f'the server "{pin.server}" has it no longer'
    return f'{_CHANGED}: "{pin.name}" of server "{pin.server}", pinned sha256:{pin.schema}, {on_server}'


def tells_of_a_change(call: ToolCall) -> bool:
    """Whether a call is the first that was refused because its tool is not the pinned one: worth an alert."""
    return call.ended is Ended.REFUSED and call.error.startswith(_CHANGED)


def told_before(fault: str) -> str:
    """The same fault, for the records of later calls."""
    return f"as was told before, {fault}"
