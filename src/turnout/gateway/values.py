"""What an instance's gateway.toml says, as frozen values: routes to providers, own prices, tool servers.

The loader is in `config.py`. References to secrets are names such as `env:OPENAI_API_KEY`; what they stand for is never
part of a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Protocol(StrEnum):
    """How a provider, and an agent, speak of models."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a provider. Times in seconds."""

    provider: str  # the name that releases pin
    name: str  # unique in the provider
    url: str  # up to the version: https://api.openai.com/v1; no slash at the end
    protocol: Protocol = Protocol.OPENAI
    key: str | None = None  # a reference to a secret; None: nothing is sent
    region: str = ""
    models: Mapping[str, str] = field(
        default_factory=dict
    )  # names of pins → names of this route; others go as they are
    connect_timeout: float = 2.0
    first_byte_timeout: float = 30.0
    idle_timeout: float = 20.0  # silence in mid-stream
    deadline: float = 600.0  # of a whole call that begins here, over all routes
    limit_parameter: str = "max_completion_tokens"  # of chat completions, where the gateway sets a limit of tokens out
    max_output: int = 16_384  # tokens out at most, where the caller gives no limit
    finish_reasons: bool = True  # whether its streams say why an answer ends; one that does not say so broke off


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for a million tokens. Without a price of its own a cached token costs what an uncached one does."""

    input: float
    output: float
    cached: float | None = None


@dataclass(frozen=True, slots=True)
class ToolServer:
    """An MCP server: at a URL, or a command to start. Values of `headers` and `env` are references to secrets."""

    name: str  # that tool manifests use
    url: str | None = None
    command: tuple[str, ...] = ()
    cwd: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """All of it. Routes of a provider are ranked; prices are by `provider/model`."""

    providers: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    tool_servers: Mapping[str, ToolServer] = field(default_factory=dict)
    ledger: str | None = None  # a reference to the URL of its database; None: a file in the state folder
