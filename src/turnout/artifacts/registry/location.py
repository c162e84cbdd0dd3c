"""Where a registry is, and which repository of it an instance uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from turnout.domain.errors import InvalidRequest

_SCHEMES = {"registry+http": "http", "registry+https": "https", "https": "https"}
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_LONGEST_NAME = 255
_REPOSITORY = "releases"
_HINT = "write registry+http://HOST:PORT/PREFIX or https://HOST/PREFIX"


@dataclass(frozen=True, slots=True)
class RegistryLocation:
    """A registry and the prefix of an instance in it. Holds no credentials.

    All blobs of an instance are in one repository, `<prefix>/releases`: a registry tells only within a repository whether
    it has a blob, so what two agents share is stored and asked for once, without a mount; one token covers everything;
    and a release is named by its digest, which needs no agent.
    """

    scheme: str
    host: str
    port: int | None = None
    prefix: str = ""

    @property
    def origin(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port is not None else "")

    @property
    def repository(self) -> str:
        """The repository that holds everything."""
        return f"{self.prefix}/{_REPOSITORY}" if self.prefix else _REPOSITORY

    @property
    def name(self) -> str:
        """The repository as people and other tools write it: `host:port/prefix/releases`."""
        return f"{self.origin.partition('://')[2]}/{self.repository}"


def parse_location(url: str) -> RegistryLocation:
    """Read `registry+http://host:port/prefix`, `registry+https://…` or `https://…`.

    Raises `InvalidRequest` for another form. A URL with credentials in it is refused and not repeated in the message.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidRequest("the URL of the registry cannot be read", hint=_HINT) from None
    if "@" in parts.netloc:
        raise InvalidRequest(
            "the URL of the registry holds credentials: URLs end up in logs",
            hint="leave them out of the URL and give them as credentials",
        )
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise InvalidRequest(f'"{url[:200]}" is no URL of a registry', hint=_HINT)
    if parts.query or parts.fragment:
        raise InvalidRequest("the URL of a registry has no ? and no #", hint=_HINT)
    prefix = parts.path.strip("/")
    if prefix and not _NAME.fullmatch(prefix):
        raise InvalidRequest(
            f'"{prefix[:200]}" cannot be the prefix of a repository',
            hint="lower-case letters and digits, joined by . _ - and /",
        )
    location = RegistryLocation(scheme, parts.hostname, port, prefix)
    if len(location.repository) > _LONGEST_NAME:
        raise InvalidRequest(f"the prefix of the repository is longer than {_LONGEST_NAME} characters")
    return location
