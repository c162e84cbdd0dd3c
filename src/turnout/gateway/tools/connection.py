"""A session with one MCP server: opened and closed by a task of its own, so that its end touches nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import mcp_types
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.client.transports.base import ClientTransport
from mcp import ClientSession
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost, listen
from mcp.shared.exceptions import MCPError
from pydantic import RootModel, ValidationError

from turnout.domain.errors import TurnoutError
from turnout.domain.tool_pins import AMBIGUOUS, UNREADABLE, pinned_description
from turnout.gateway.values import ToolServer
from turnout.manifest.tool_manifest import tool_digest

Resolve = Callable[[str], str]  # a reference to a secret → the secret; raises `SetupFailed`

_LARGEST_LOG = 8 << 20  # bytes; what is larger when a server is started is put aside
_PAGES = 100  # of a list of tools
_SHORTEST_SECRET = 8  # characters; what is shorter is a word that anybody may say
_LOST = "Session terminated"  # what the client says of a server that forgot the session; nothing was run then

log = logging.getLogger(__name__)


class _Raw(RootModel[dict[str, Any]]):
    """An answer as it came. The client's own types leave out what they do not know."""


class Unreachable(Exception):
    """A server cannot be reached, or does not answer as an MCP server does. The message is for a person."""


class NoSecret(Unreachable):
    """A secret of the server cannot be read. The message says where it is kept, which is not for agents."""


class Broken(Unreachable):
    """The session ended. `sent`: whether the server may have got the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Slow(Unreachable):
    """No answer in time."""


class Changed(Exception):
    """A tool is not what it was when the call was let through. `found`: its digest now, None where it is gone."""

    def __init__(self, found: str | None) -> None:
        super().__init__(found)
        self.found = found


class Connection:
    """An open session. `tools`: the tools of the server when it was last looked at, as it describes them."""

    def __init__(self, server: ToolServer) -> None:
        self.tools: Mapping[str, Mapping[str, Any]] = {}
        self.digests: Mapping[str, str] = {}
        self.looked_at = 0.0  # by the clock of the event loop
        self.stale = False  # whether the server said that its tools changed
        self._changes = 0  # how often it said so
        self._hidden: tuple[str, ...] = ()  # what nobody may hear that the server says
        self._server = server
        self._session: ClientSession | None = None
        self._end = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, resolve: Resolve, log_file: Path | None, seconds: float) -> None:
        """Connect, and look at the tools. Raises `Unreachable`; nothing is left open then."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        secrets = _resolve(self._server, resolve)
        self._hidden = _hidden(secrets)
        transport = _build_transport(self._server, secrets, log_file)
        self._task = asyncio.create_task(self._serve(transport, ready, seconds))
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(ready)
        except TimeoutError:
            await self.close()
            raise Unreachable(f"it did not answer in {seconds:g} s") from None
        except BaseException:
            await self.close()
            raise

    async def look(self, seconds: float) -> None:
        """Ask for the list of tools again. Raises `Unreachable`."""
        before = self._changes
        tools: dict[str, Mapping[str, Any]] = {}
        twice: set[str] = set()
        cursor: str | None = None
        for _ in range(_PAGES):
            params = mcp_types.PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await self._ask(mcp_types.ListToolsRequest(params=params), seconds)
            for tool in page["tools"]:
                name = tool["name"]
                twice |= {name} & tools.keys()
                tools[name] = pinned_description(tool)
            cursor = page.get("nextCursor")
            if not cursor:
                break
        self.tools = tools
        self.digests = {name: AMBIGUOUS if name in twice else _digest(tool) for name, tool in tools.items()}
        self.looked_at = asyncio.get_running_loop().time()
        self.stale = self._changes != before

    def suspect(self) -> None:
        """Let nobody call before the tools were looked at again."""
        self._changes += 1
        self.stale = True

    async def call(self, name: str, arguments: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """What a tool answers, as it came. Raises `Unreachable`; cancelling it cancels the call at the server."""
        params = mcp_types.CallToolRequestParams(name=name, arguments=dict(arguments))
        answer = await self._ask(mcp_types.CallToolRequest(params=params), seconds)
        return _without(answer, self._hidden) if self._hidden else answer

    async def close(self) -> None:
        """End the session, and the server where it was started for it. Never raises."""
        self._end.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=10)
            self._task.cancel()

    def abandon(self) -> None:
        """End the session soon, without waiting for it."""
        self._end.set()

    @property
    def is_open(self) -> bool:
        """Whether it can be asked, as far as is known."""
        return self._session is not None and not self._end.is_set()

    async def _ask(self, request: mcp_types.ClientRequest, seconds: float) -> dict[str, Any]:
        if self._session is None or self._end.is_set():
            raise Broken("the session ended", sent=False)
        try:
            async with asyncio.timeout(seconds + 1):
                answer = await self._session.send_request(request, _Raw, request_read_timeout_seconds=seconds)
                return answer.root
        except TimeoutError:
            raise Slow(f"no answer in {seconds:g} s") from None
        except MCPError as error:
            raise self._translated(error, seconds) from None
        except (ValidationError, KeyError, TypeError):
            raise Unreachable("it answered with something that is not MCP") from None
        except (httpx2.HTTPError, BrokenResourceError, ClosedResourceError, EndOfStream, OSError, RuntimeError):
            self.abandon()
            raise Broken("the session broke off", sent=True) from None

    def _translated(self, error: MCPError, seconds: float) -> Unreachable:
        if error.code == mcp_types.REQUEST_TIMEOUT:
            return Slow(f"no answer in {seconds:g} s")
        if error.code == mcp_types.CONNECTION_CLOSED:
            self.abandon()
            return Broken("the session broke off", sent=True)
        if error.code == mcp_types.INVALID_REQUEST and error.message == _LOST:
            self.abandon()
            return Broken("the server forgot the session", sent=False)
        if error.code == mcp_types.PARSE_ERROR:
            return Unreachable("it answered with something that is not MCP")
        return Unreachable(f"it refused ({error.code}): {_without(error.message, self._hidden)[:500]}")

    async def _serve(self, transport: ClientTransport, ready: asyncio.Future[None], seconds: float) -> None:
        try:
            async with Client(transport, message_handler=self._hear, init_timeout=seconds, cache=False) as client:
                self._session = client.session
                await self.look(seconds)
                if not ready.done():
                    ready.set_result(None)
                await self._follow()
        except Unreachable as error:
            _fail(ready, error)
        except Exception as error:  # noqa: BLE001  # whatever a transport raises is the same to us: no session
            _fail(ready, Unreachable(_without(_reason(error), self._hidden)))
        finally:
            self._session = None
            self._end.set()

    async def _follow(self) -> None:
        """Until the session is to end: hear of changed tools, where the server speaks of them on request only."""
        listening = asyncio.create_task(self._listen())
        try:
            await self._end.wait()
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def _listen(self) -> None:
        session = self._session
        if session is None:
            return
        try:
            async with listen(session, tools_list_changed=True) as changes:
                async for _ in changes:
                    self.suspect()
        except (ListenNotSupportedError, SubscriptionLost, MCPError, RuntimeError, TimeoutError, OSError):
            self.suspect()  # what was missed is unknown

    async def _hear(self, message: mcp_types.ServerNotification | Exception) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self.suspect()


def _resolve(server: ToolServer, resolve: Resolve) -> dict[str, str]:
    """The headers, or the environment, of a server. Raises `NoSecret`."""
    try:
        return {name: resolve(reference) for name, reference in {**server.headers, **server.env}.items()}
    except TurnoutError as error:
        raise NoSecret(error.message) from None


def _hidden(secrets: Mapping[str, str]) -> tuple[str, ...]:
    """Secrets that are long enough to be one, and what follows a scheme such as `Bearer`; the longest first."""
    parts = {part for secret in secrets.values() for part in (secret, secret.partition(" ")[2])}
    return tuple(sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len, reverse=True))


def _without(value: Any, hidden: tuple[str, ...]) -> Any:
    """The same, and asterisks for what is hidden."""
    if isinstance(value, str):
        for secret in hidden:
            value = value.replace(secret, "***")
        return value
    if isinstance(value, list):
        return [_without(item, hidden) for item in value]
    if isinstance(value, dict):
        return {_without(name, hidden): _without(item, hidden) for name, item in value.items()}
    return value


def _build_transport(server: ToolServer, secrets: dict[str, str], log_file: Path | None) -> ClientTransport:
    if server.url is not None:
        return StreamableHttpTransport(server.url, headers=secrets)
    command, *arguments = server.command
    if log_file is not None:
        _prepare_log(log_file)
    return StdioTransport(command, arguments, env=secrets, cwd=server.cwd, keep_alive=False, log_file=log_file)


def _prepare_log(path: Path) -> None:
    """What a server prints on standard error is kept for a person, and bounded."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        if path.stat().st_size > _LARGEST_LOG:
            path.replace(path.with_name(f"{path.name}.1"))
            path.touch(mode=0o600)
    except OSError as error:
        raise Unreachable(f"the log of its command, {path}, cannot be written: {error.strerror}") from None


def _digest(tool: Mapping[str, Any]) -> str:
    try:
        return tool_digest(tool)
    except ValueError:
        return UNREADABLE


def _fail(ready: asyncio.Future[None], error: Unreachable) -> None:
    if not ready.done():
        ready.set_exception(error)


def _reason(error: Exception) -> str:
    """Why there is no session. Of what others raise only what is known to hold no secret."""
    for cause in _causes(error):
        match cause:
            case FileNotFoundError() | PermissionError():
                return f"its command cannot be started: {cause.strerror}"
            case httpx2.ConnectError() | ConnectionError():
                return "nobody answers at its address"
            case httpx2.HTTPStatusError():
                return f"it answered with status {cause.response.status_code}"
            case MCPError():
                return f"it refused ({cause.code}): {cause.message[:500]}"
    return f"no session could be opened ({type(error).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, each once: such chains can be rings."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__
