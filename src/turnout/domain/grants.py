"""What a key of the gateway allows: written by the server, read by the gateway's processes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.domain.budget import Budget
from turnout.domain.models import Capture, Digest


@dataclass(frozen=True, slots=True)
class ModelPin:
    """A model of a provider, as a release names it."""

    provider: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolPin:
    """A tool that a release may call. `schema` is the SHA-256 of its canonical description, or "" where none is pinned."""

    server: str
    name: str
    schema: str = ""
    description: Mapping[str, Any] = field(default_factory=dict)  # as it was pinned: name, description, inputSchema, …
    rules: Mapping[str, Any] | None = (
        None  # for its arguments; what no rule allows is refused. None: there are no rules
    )
    timeout: float = 60.0  # seconds
    side_effects: bool = True


@dataclass(frozen=True, slots=True)
class Grant:
    """What one release may do in one ring. `key` is the SHA-256 of the key in hexadecimal digits, never the key itself."""

    key: str
    agent: str
    ring: str
    release: Digest
    version: str
    models: tuple[ModelPin, ...] = ()  # may be called; the first is the one that the release is pinned to
    fallbacks: tuple[ModelPin, ...] = ()  # instead of the first, in order
    restart_streams: bool = False  # whether a stream that was cut may be begun again elsewhere
    tools: tuple[ToolPin, ...] = ()
    budgets: tuple[Budget, ...] = ()
    capture: Capture = field(default_factory=Capture)  # of arguments and results
    stopped: str | None = None  # why nothing is let through, for a person


@dataclass(frozen=True, slots=True)
class Grants:
    """Everything that is allowed now, by the digest of its key."""

    grants: Mapping[str, Grant] = field(default_factory=dict)
