"""Outcomes of the requests that an ASGI application answers: in a header of the answer, or through a `Reporter`.

The header needs no token and no connection of its own: the proxy reads it. Only what is said after the answer has begun,
such as at the end of a stream, has to be reported.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from turnout.sdk.reporter import Reporter
from turnout.sdk.reports import find_fault

log = logging.getLogger("turnout.sdk")

TASK_HEADER = b"x-turnout-task"
OUTCOME_HEADER = b"x-turnout-outcome"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class _Request:
    """The request that is being answered, and what has been said of it and is not sent yet."""

    task: str | None
    reporter: Reporter
    begun: bool = False
    said: dict[str, Any] = field(default_factory=dict)


_current: ContextVar[_Request | None] = ContextVar("turnout_request", default=None)


class OutcomeMiddleware:
    """Ties reports to the request that is being answered. An exception of the application is reported as a failure.

    `reporter`: for what cannot be said in a header; by default one with TURNOUT_SERVER and TURNOUT_TOKEN.
    """

    def __init__(self, app: Application, reporter: Reporter | None = None) -> None:
        self._app = app
        self._reporter = reporter or Reporter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(_find_task(scope), self._reporter)
        token = _current.set(request)

        async def send_with_outcome(message: Message) -> None:
            if message["type"] == "http.response.start" and not request.begun:
                request.begun = True
                message = _add_header(message, request)
            await send(message)

        try:
            await self._app(scope, receive, send_with_outcome)
        except Exception as error:
            # Its message may hold what a user wrote; the type says enough.
            said = {**request.said, "success": False, "detail": f"the agent raised {type(error).__name__}"}
            _send_report(request, said)
            raise
        finally:
            _current.reset(token)


def current_task() -> str | None:
    """The id of the task of the request that is being answered; None outside of one, or where the caller gave none."""
    request = _current.get()
    return request.task if request else None


def report(*, success: bool | None = None, intervention: bool | None = None, cost: float | None = None) -> None:
    """Say what became of the task of the request that is being answered. Outside of a request it does nothing.

    Before the answer has begun it goes into its header, and what is said last of a value stands; afterwards it is reported.
    """
    request = _current.get()
    if request is None:
        return
    said = {"success": success, "intervention": intervention, "cost": cost}
    fault = find_fault(request.task or "unknown", said)
    if fault is not None:
        log.warning("a report is dropped: %s", fault)
        return
    given = {name: value for name, value in said.items() if value is not None}
    if request.begun:
        _send_report(request, given)
    else:
        request.said.update(given)


def build_header(said: MutableMapping[str, Any]) -> str:
    """Such as `failure; intervention; cost=0.12`; "" when there is nothing to say. Pure."""
    parts = []
    if (success := said.get("success")) is not None:
        parts.append("success" if success else "failure")
    if said.get("intervention"):
        parts.append("intervention")
    if (cost := said.get("cost")) is not None:
        parts.append(f"cost={float(cost)!r}")
    return "; ".join(parts)


def _find_task(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name.lower() == TASK_HEADER:
            try:
                return str(value.decode())  # as the proxy reads it
            except UnicodeDecodeError:
                return str(value.decode("latin-1"))
    return None


def _add_header(message: Message, request: _Request) -> Message:
    """The beginning of an answer with what has been said; the application may use its own message again."""
    said, request.said = request.said, {}
    headers = list(message.get("headers", ()))
    if any(name.lower() == OUTCOME_HEADER for name, _ in headers):  # the application says so itself
        _send_report(request, said)
        return message
    text = build_header(said)
    return {**message, "headers": [*headers, (OUTCOME_HEADER, text.encode())]} if text else message


def _send_report(request: _Request, said: MutableMapping[str, Any]) -> None:
    if request.task and said:
        request.reporter.report(request.task, **said)
