"""The closed schema of `alerts.toml`: whom an instance tells what. Secrets are named here, never written."""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from turnout.alerts.topics import EVERYTHING, FOR_PEOPLE, is_known, known_topics
from turnout.domain.addresses import is_loopback
from turnout.manifest.values import Faults, Seconds

FILE_NAME = "alerts.toml"
TRACES = "traces"  # the name of the one target that is no list
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f'"{name}" cannot be a name: lower case letters, digits and "-", at most 40')
    if name == TRACES:
        raise ValueError(f'"{TRACES}" is the name of the target of traces; choose another')
    return name


def _check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("expected the name of an environment variable, not its value")
    return name


def _check_topics(patterns: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [(f"[{index}]", pattern) for index, pattern in enumerate(patterns) if not is_known(pattern)]
    if unknown:
        raise Faults(*((place, f'no event is called "{pattern}"{_near(pattern)}') for place, pattern in unknown))
    return patterns


def _near(pattern: str) -> str:
    found = difflib.get_close_matches(pattern, known_topics(), 1)
    return f'; did you mean "{found[0]}"?' if found else "; docs/reference/events.md names them"


def check_url(url: str, *, insecure: bool) -> None:
    """Raise `ValueError` unless a URL is https, or of this very machine; what it holds is not repeated."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("expected a URL such as https://hooks.example.com/turnout")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL holds a user or password; receivers know turnout by its signature")
    if parts.fragment or any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise ValueError("the URL holds a fragment, a space or a control character")
    if _is_forbidden(host):
        raise ValueError(f"{host} is no address of a receiver")
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        raise ValueError("http is read by everybody on the way: use https, or say insecure = true")


def _is_forbidden(host: str) -> bool:
    """Addresses where machines keep their own credentials, and such that are no single machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_link_local or address.is_multicast or address.is_unspecified


Name = Annotated[str, AfterValidator(_check_name)]
Variable = Annotated[str, AfterValidator(_check_variable)]
Topics = Annotated[tuple[str, ...], AfterValidator(_check_topics)]


class Table(BaseModel):
    """A table of the file: unknown keys are errors, nothing is coerced, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Named(Table):
    """One of several targets."""

    name: Name


class Webhook(Named):
    """A receiver of CloudEvents over HTTP."""

    url: str
    secret_env: Variable | None = None
    secret_file: str | None = None
    events: Topics = Field(default=EVERYTHING, strict=False, min_length=1)
    timeout: Seconds = Field(default=10.0, gt=0, le=30)
    insecure: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            check_url(self.url, insecure=self.insecure)
        except ValueError as error:
            raise Faults((".url", str(error))) from None
        if (self.secret_env is None) == (self.secret_file is None):
            raise Faults(("", "give secret_env or secret_file: where the secret is, with which bodies are signed"))
        return self


class Notify(Named):
    """A chat, pager or mailbox, as an Apprise URL. It holds secrets, so the file says where it is."""

    url_env: Variable | None = None
    url_file: str | None = None
    events: Topics = Field(default=FOR_PEOPLE, strict=False, min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.url_env is None) == (self.url_file is None):
            raise Faults(("", "give url_env or url_file: where the Apprise URL is"))
        return self


class Traces(Table):
    """A collector that takes OTLP over HTTP."""

    endpoint: str
    headers_env: Variable | None = None
    timeout: Seconds = Field(default=10.0, gt=0, le=30)
    insecure: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            check_url(self.endpoint, insecure=self.insecure)
        except ValueError as error:
            raise Faults((".endpoint", str(error))) from None
        return self


class AlertsFile(Table):
    """The whole of `alerts.toml`."""

    webhooks: tuple[Webhook, ...] = Field(default=(), strict=False, max_length=50)
    notify: tuple[Notify, ...] = Field(default=(), strict=False, max_length=50)
    traces: Traces | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        seen: set[str] = set()
        faults = []
        tables: dict[str, tuple[Named, ...]] = {"webhooks": self.webhooks, "notify": self.notify}
        for table, targets in tables.items():
            for index, target in enumerate(targets):
                if target.name in seen:
                    faults.append((f".{table}[{index}].name", f'"{target.name}" names another target already'))
                seen.add(target.name)
        if faults:
            raise Faults(*faults)
        return self
