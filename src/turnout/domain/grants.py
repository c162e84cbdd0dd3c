"""What a key of the gateway allows: written by the server, read by the gateway's processes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.domain.budget import Budget
from turnout.domain.captures import kept_capture
from turnout.domain.models import Capture, Deployment, Digest, Pointer, Release, ReplicaStatus, RingSettings
from turnout.domain.routes import warm_digests


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
    record_models: bool = False  # whether what models answer is kept too, within `capture`
    stopped: str | None = None  # why nothing is let through, for a person


@dataclass(frozen=True, slots=True)
class Grants:
    """Everything that is allowed now, by the digest of its key."""

    grants: Mapping[str, Grant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pins:
    """What the components of a release pin. The fields are those of a grant."""

    models: tuple[ModelPin, ...] = ()
    fallbacks: tuple[ModelPin, ...] = ()
    restart_streams: bool = False
    tools: tuple[ToolPin, ...] = ()


def granted_digests(
    pointer: Pointer, unfinished: Iterable[Deployment], replicas: Iterable[ReplicaStatus]
) -> tuple[Digest, ...]:
    """The releases that may call models and tools in a ring: whatever runs there, is kept warm, or is about to start.

    One that was taken back keeps its grant while its last replicas finish what they do.
    """
    deployed = (deployment.digest for deployment in unfinished)
    running = (replica.digest for replica in replicas)
    return tuple(dict.fromkeys((*warm_digests(pointer), *deployed, *running)))


def build_grant(
    release: Release,
    ring: str,
    pins: Pins,
    key: str,
    limits: Iterable[Budget] = (),
    stopped: str | None = None,
) -> Grant:
    """What a release may do in a ring. `key`: the SHA-256 of its key; `limits`: budgets of the instance."""
    settings = release.spec.ring(ring) or RingSettings(ring)
    return Grant(
        key=key,
        agent=release.agent,
        ring=ring,
        release=release.digest,
        version=release.version,
        models=pins.models,
        fallbacks=pins.fallbacks,
        restart_streams=pins.restart_streams,
        tools=pins.tools,
        budgets=(*settings.budgets, *limits),
        capture=kept_capture(settings),
        record_models=settings.record is not None and settings.record.models,
        stopped=stopped,
    )


def pins_of(grant: Grant) -> Pins:
    """What a grant says of the release alone."""
    return Pins(grant.models, grant.fallbacks, grant.restart_streams, grant.tools)
