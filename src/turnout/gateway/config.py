"""`gateway.toml` → checked values, or one error that names every place in the file; and the secrets that it names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from turnout.domain.errors import SetupFailed
from turnout.gateway.followed import Followed
from turnout.gateway.schema import FILE_NAME, GatewayFile, RouteTable, ToolServerTable
from turnout.gateway.values import GatewayConfig, Price, Protocol, Route, ToolServer
from turnout.manifest.problems import problem_lines

LOOK_SECONDS = 0.5  # between two looks whether the file has changed
_LARGEST = 1 << 20


class ConfigFile:
    """The configuration as it is now. A change that is wrong, or names a secret that is not there, changes nothing."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        """Raises `SetupFailed` where the file is wrong from the beginning."""

        def read(path: Path) -> GatewayConfig:
            config = load_gateway_config(path)
            check_secrets(config, environ)
            return config

        self._file = Followed(path, read, read(path), LOOK_SECONDS)

    @property
    def current(self) -> GatewayConfig:
        """What the file says, or said when it was last in order."""
        return self._file.current


def load_gateway_config(path: Path, needed: bool = True) -> GatewayConfig:
    """Read and check a file. Paths in it are relative to its folder, and absolute in what is returned.

    Raises `SetupFailed` naming each place that is wrong, also for a missing file that is `needed`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if not needed:
            return GatewayConfig()
        raise SetupFailed(
            f"there is no configuration of the gateway at {path}", hint="name another with --gateway"
        ) from None
    except OSError as error:
        raise SetupFailed(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise SetupFailed(f"{path} is larger than 1 MiB")
    try:
        file = GatewayFile.model_validate(_parse(path, content))
    except ValidationError as error:
        problems = "; ".join(problem_lines(error, GatewayFile, FILE_NAME, quote=False))
        raise SetupFailed(f"{path} is wrong: {problems}", hint="correct these places") from None
    return _build_config(file, path.absolute().parent)


def resolve_secret(reference: str, environ: Mapping[str, str]) -> str:
    """What `env:NAME` or `file:PATH` stands for. Raises `SetupFailed` naming the reference, never the value."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        if not (text := environ.get(name, "").strip()):
            raise SetupFailed(f"{reference}: this environment variable is empty or not set")
        return _checked(reference, text)
    try:
        text = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SetupFailed(f"{reference}: this file cannot be read: {reason}") from None
    if not text:
        raise SetupFailed(f"{reference}: this file is empty")
    return _checked(reference, text)


def references(config: GatewayConfig) -> Iterator[tuple[str, str]]:
    """Every reference to a secret: (place in the file, reference)."""
    for name, routes in config.providers.items():
        for index, route in enumerate(routes):
            if route.key is not None:
                yield f"providers.{name}.routes[{index}].key", route.key
    for name, server in config.tool_servers.items():
        for table, values in (("headers", server.headers), ("env", server.env)):
            for key, reference in values.items():
                yield f"tools.{name}.{table}.{key}", reference
    if config.ledger is not None:
        yield "ledger.url", config.ledger


def find_ledger(config: GatewayConfig, environ: Mapping[str, str], own: str) -> str:
    """The URL of the database that keeps what calls spend: `own` where the file names none. Raises `SetupFailed`."""
    return own if config.ledger is None else resolve_secret(config.ledger, environ)


def check_secrets(config: GatewayConfig, environ: Mapping[str, str]) -> None:
    """Raise `SetupFailed` naming every place whose secret is not there: it is found now, not in the night."""
    problems = []
    for place, reference in references(config):
        try:
            resolve_secret(reference, environ)
        except SetupFailed as error:
            problems.append(f"{place}: {error.message}")
    if problems:
        raise SetupFailed(
            f"secrets of the gateway are missing: {'; '.join(problems)}",
            hint="set them where `turnout up` is started, or correct gateway.toml",
        )


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SetupFailed(f"{path} is not valid TOML: {error}") from None


def _checked(reference: str, text: str) -> str:
    """A secret becomes a header: a line break in it would end the header."""
    if not text.isprintable():
        raise SetupFailed(f"{reference}: it holds characters that no key has, such as a line break")
    return text


def _build_config(file: GatewayFile, folder: Path) -> GatewayConfig:
    return GatewayConfig(
        providers={
            name: tuple(_build_route(name, route, folder) for route in provider.routes)
            for name, provider in file.providers.items()
        },
        prices={name: Price(price.input, price.output, price.cached) for name, price in file.prices.items()},
        tool_servers={name: _build_server(name, server, folder) for name, server in file.tools.items()},
        ledger=None if file.ledger is None else _absolute(file.ledger.url, folder),
    )


def _build_route(provider: str, route: RouteTable, folder: Path) -> Route:
    given = route.model_dump()
    key = _absolute(route.key, folder) if route.key is not None else None
    return Route(**{**given, "provider": provider, "protocol": Protocol(route.protocol), "key": key})


def _build_server(name: str, server: ToolServerTable, folder: Path) -> ToolServer:
    return ToolServer(
        name=name,
        url=server.url,
        command=server.command,
        cwd=str(folder / server.cwd) if server.cwd is not None else None,
        headers={key: _absolute(reference, folder) for key, reference in server.headers.items()},
        env={key: _absolute(reference, folder) for key, reference in server.env.items()},
    )


def _absolute(reference: str, folder: Path) -> str:
    kind, _, name = reference.partition(":")
    return f"file:{folder / name}" if kind == "file" else reference
