"""Tools: what a release may call through the gateway."""

from __future__ import annotations

from turnout.domain.errors import DamagedContent, ManifestError
from turnout.domain.grants import ToolPin
from turnout.domain.policy import Verb
from turnout.manifest.tool_manifest import read_tool_pins
from turnout.schemas import ToolPinList, ToolPinView
from turnout.services.office import Actor, Office, find_release


def list_tools(office: Office, actor: Actor, agent: str, ref: str) -> ToolPinList:
    """The tools that a release pins, by version, digest or `ring:NAME`. Raises `NotFound`, `DamagedContent`."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        release = find_release(snapshot, agent, ref)
    component = release.components.get("tools")
    pins: tuple[ToolPin, ...] = ()
    if component is not None:
        try:
            pins = read_tool_pins(office.artifacts.read_all(component.digest))
        except ManifestError as error:
            raise DamagedContent(f"the tool manifest of {release.version} cannot be read: {error.message}") from error
    return {
        "agent": agent,
        "digest": release.digest,
        "version": release.version,
        "tools": [view_pin(pin) for pin in pins],
    }


def view_pin(pin: ToolPin) -> ToolPinView:
    """A pin, as it is shown."""
    return {
        "server": pin.server or None,
        "name": pin.name,
        "sha256": pin.schema or None,
        "rules": dict(pin.rules) if pin.rules is not None else None,
        "timeout": pin.timeout,
        "side_effects": pin.side_effects,
    }
