"""The closed schema of `gateway.toml`: how an instance reaches providers of models and servers of tools.

Secrets are never in the file: it names where they are, `env:NAME` or `file:PATH`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from turnout.manifest.values import Faults, HeaderName, Seconds, Shown, Text

FILE_NAME = "gateway.toml"


def _check_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("expected a URL such as https://api.openai.com/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a URL holds no user, query or fragment here; name a key with key")
    return value.rstrip("/")


def _check_reference(value: str) -> str:
    if not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", value):
        raise ValueError("expected env:NAME or file:PATH; a secret itself must not be in this file")
    return value


Url = Annotated[Text, AfterValidator(_check_url), Shown("URL")]
SecretReference = Annotated[Text, AfterValidator(_check_reference), Shown("reference to a secret")]
Amount = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Table(BaseModel):
    """A table of the file: unknown keys are errors, nothing is coerced, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RouteTable(Table):
    """One way to a provider."""

    name: Text = Field(min_length=1, description="how the route is called in records", examples=["openai-us"])
    url: Url = Field(
        description="up to the version; for Anthropic https://api.anthropic.com/v1",
        examples=["https://api.openai.com/v1"],
    )
    protocol: Literal["openai", "anthropic"] = Field(default="openai", description="how the provider is spoken to")
    key: SecretReference | None = Field(
        default=None,
        description="where its key is: env:NAME or file:PATH; none is sent without",
        examples=["env:OPENAI_API_KEY"],
    )
    region: Text = Field(default="", description="where it is, for people and records", examples=["us"])
    models: Annotated[Mapping[Text, Text], Shown("table of strings")] = Field(
        default_factory=dict,
        description="names of releases → names of this route; others go as they are",
        examples=[{"gpt-4o-2024-08-06": "gpt-4o"}],
    )
    connect_timeout: Seconds = Field(default=2.0, gt=0, le=600, description="how long connecting may take")
    first_byte_timeout: Seconds = Field(default=30.0, gt=0, le=3_600, description="silence before the answer begins")
    idle_timeout: Seconds = Field(default=20.0, gt=0, le=3_600, description="silence within an answer")
    deadline: Seconds = Field(default=600.0, gt=0, le=86_400, description="of a whole call, over all routes")
    limit_parameter: Literal["max_completion_tokens", "max_tokens"] = Field(
        default="max_completion_tokens", description="what limits the tokens out, where a budget asks for a limit"
    )
    max_output: int = Field(
        default=16_384, ge=1, le=10_000_000, description="tokens out at most, where the caller gives no limit"
    )
    finish_reasons: bool = Field(
        default=True,
        description="whether its streams say why an answer ends; one that ends without broke off. false: it is whole",
    )


class ProviderTable(Table):
    """A provider, by the name that releases pin."""

    routes: tuple[RouteTable, ...] = Field(strict=False, min_length=1, description="ways to it, the best first")

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [route.name for route in self.routes]
        faults = [
            (f".routes[{index}].name", f'"{name}" is there twice')
            for index, name in enumerate(names)
            if name in names[:index]
        ]
        if faults:
            raise Faults(*faults)
        return self


class PriceTable(Table):
    """Dollars for a million tokens."""

    input: Amount = Field(description="of a million tokens in", examples=[0.05])
    output: Amount = Field(description="of a million tokens out", examples=[0.1])
    cached: Amount | None = Field(default=None, description="of a million tokens in that were cached", examples=[0.01])


class ToolServerTable(Table):
    """An MCP server, by the name that tool manifests use. Give `url` or `command`."""

    url: Url | None = Field(default=None, description="where it answers", examples=["http://127.0.0.1:9000/mcp"])
    command: tuple[Text, ...] = Field(
        default=(),
        strict=False,
        description="command that starts it; instead of url",
        examples=[["python", "server.py"]],
    )
    cwd: Text | None = Field(default=None, description="folder that the command runs in", examples=["/srv/tools"])
    headers: Annotated[Mapping[HeaderName, SecretReference], Shown("table of references to secrets")] = Field(
        default_factory=dict, description="headers, with url", examples=[{"Authorization": "env:DOCS_TOKEN"}]
    )
    env: Annotated[Mapping[Text, SecretReference], Shown("table of references to secrets")] = Field(
        default_factory=dict, description="environment, with command", examples=[{"DOCS_TOKEN": "env:DOCS_TOKEN"}]
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        faults = []
        if (self.url is None) == (not self.command):
            faults.append(("", "give url, or the command that starts it"))
        elif self.url is None and self.headers:
            faults.append((".headers", "a command gets no headers; give it env"))
        elif self.url is not None and (self.env or self.cwd):
            faults.append((".env" if self.env else ".cwd", "only a command has it"))
        if faults:
            raise Faults(*faults)
        return self


class LedgerTable(Table):
    """Where what calls spend is kept. Without it: in a file of the state folder."""

    url: SecretReference = Field(
        description="where the URL of a PostgreSQL database is, which gateways of several machines can share",
        examples=["env:TURNOUT_LEDGER_URL"],
    )


class GatewayFile(Table):
    """The whole of `gateway.toml`."""

    providers: Mapping[Text, ProviderTable] = Field(
        default_factory=dict, description="who serves models, by the names that releases pin"
    )
    prices: Mapping[Text, PriceTable] = Field(
        default_factory=dict, description='own prices, by "provider/model"; over the table that turnout brings'
    )
    tools: Mapping[Text, ToolServerTable] = Field(default_factory=dict, description="servers of tools, by name")
    ledger: LedgerTable | None = Field(default=None, description="where what calls spend is kept")

    @model_validator(mode="after")
    def _prices_of_models(self) -> Self:
        faults = [
            (f'.prices."{name}"', 'expected "provider/model"')
            for name in self.prices
            if not all(name.partition("/")[::2])
        ]
        if faults:
            raise Faults(*faults)
        return self
