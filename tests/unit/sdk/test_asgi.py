"""The middleware: what is said in a request goes into its answer, what is said later is reported."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from turnout.sdk.asgi import Message, OutcomeMiddleware, Receive, Scope, Send, build_header, current_task, report
from turnout.sdk.reporter import Reporter

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
END: Message = {"type": "http.response.body", "body": b"done"}


@dataclass
class Reports:
    """A reporter that remembers."""

    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def report(self, task: str, **said: Any) -> bool:
        self.said.append((task, said))
        return True


def answer(
    work: Callable[[Send], Awaitable[None]], headers: list[tuple[bytes, bytes]] | None = None, kind: str = "http"
) -> tuple[dict[bytes, bytes], Reports]:
    """Let an application answer one request; the headers of its answer, and what was reported beside."""
    reports, sent = Reports(), list[Message]()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await work(send)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    given = [(b"x-turnout-task", b"t1")] if headers is None else headers
    middleware = OutcomeMiddleware(app, cast(Reporter, reports))
    with contextlib.suppress(ZeroDivisionError):
        asyncio.run(middleware({"type": kind, "headers": given}, receive, send))
    began = [message["headers"] for message in sent if message["type"] == "http.response.start"]
    return dict(began[0] if began else ()), reports


def test_what_is_said_before_the_answer_goes_into_its_header() -> None:
    async def work(send: Send) -> None:
        assert current_task() == "t1"
        report(success=False)
        report(intervention=True, cost=0.25)
        await send(START)
        await send(END)

    headers, reports = answer(work)

    assert headers[b"x-turnout-outcome"] == b"failure; intervention; cost=0.25"
    assert headers[b"content-type"] == b"text/plain"
    assert reports.said == []
    assert current_task() is None


def test_what_is_said_while_the_answer_is_sent_is_reported() -> None:
    async def work(send: Send) -> None:
        await send(START)
        report(success=True)
        await send(END)

    headers, reports = answer(work)

    assert b"x-turnout-outcome" not in headers
    assert reports.said == [("t1", {"success": True})]


@pytest.mark.parametrize("sent", ["zürich-9".encode(), "zürich-9".encode("latin-1")], ids=["utf-8", "latin-1"])
def test_a_task_has_the_name_that_the_proxy_reads(sent: bytes) -> None:
    async def work(send: Send) -> None:
        assert current_task() == "zürich-9"
        await send(START)
        report(success=True)

    _, reports = answer(work, [(b"X-Turnout-Task", sent)])

    assert reports.said == [("zürich-9", {"success": True})]


def test_an_exception_is_a_failure_and_goes_on_its_way() -> None:
    async def work(send: Send) -> None:
        report(success=True, cost=0.5)
        raise ZeroDivisionError("secret of a user")

    _, reports = answer(work)

    said = {"success": False, "cost": 0.5, "detail": "the agent raised ZeroDivisionError"}
    assert reports.said == [("t1", said)]


def test_an_exception_in_the_middle_of_an_answer_is_a_failure() -> None:
    async def work(send: Send) -> None:
        await send(START)
        raise ZeroDivisionError

    _, reports = answer(work)

    assert [said["success"] for _, said in reports.said] == [False]


def test_an_application_that_sets_the_header_itself_is_believed() -> None:
    async def work(send: Send) -> None:
        report(cost=1.0)
        await send({**START, "headers": [(b"X-Turnout-Outcome", b"success")]})

    headers, reports = answer(work)

    assert headers == {b"X-Turnout-Outcome": b"success"}
    assert reports.said == [("t1", {"cost": 1.0})]


def test_nothing_said_changes_nothing() -> None:
    async def work(send: Send) -> None:
        await send(START)
        await send(END)

    headers, reports = answer(work)

    assert headers == {b"content-type": b"text/plain"}
    assert reports.said == []


@pytest.mark.parametrize("said", [{"cost": -1.0}, {"cost": float("nan")}, {"success": "yes"}, {}])
def test_what_makes_no_sense_is_dropped_and_breaks_no_answer(said: dict[str, Any]) -> None:
    async def work(send: Send) -> None:
        report(**said)
        await send(START)

    headers, reports = answer(work)

    assert b"x-turnout-outcome" not in headers
    assert reports.said == []


def test_without_a_task_the_header_says_it_and_nothing_is_reported() -> None:
    async def work(send: Send) -> None:
        assert current_task() is None
        report(success=True)
        await send(START)
        report(cost=1.0)

    headers, reports = answer(work, headers=[])

    assert headers[b"x-turnout-outcome"] == b"success"
    assert reports.said == []


def test_what_is_no_request_passes_through() -> None:
    async def work(send: Send) -> None:
        assert current_task() is None
        report(success=True)

    _, reports = answer(work, kind="lifespan")

    assert reports.said == []


def test_two_requests_at_once_do_not_meet() -> None:
    seen: dict[str, str | None] = {}

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        before = current_task()
        await asyncio.sleep(0)
        report(success=before == "t1")
        await send({**START})
        seen[str(before)] = current_task()

    async def run() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {}

        middleware = OutcomeMiddleware(app, cast(Reporter, Reports()))
        scopes = [{"type": "http", "headers": [(b"x-turnout-task", name)]} for name in (b"t1", b"t2")]
        await asyncio.gather(*(middleware(scope, receive, send) for scope in scopes))
        return sent

    sent = asyncio.run(run())
    assert seen == {"t1": "t1", "t2": "t2"}
    assert sorted(dict(message["headers"])[b"x-turnout-outcome"] for message in sent) == [b"failure", b"success"]


def test_it_wraps_an_application_of_a_framework_whose_functions_run_in_threads() -> None:
    application, reports = FastAPI(), Reports()

    @application.get("/ask")
    def ask() -> dict[str, str | None]:
        report(success=False, cost=0.5)
        return {"task": current_task()}

    @application.get("/break")
    def fail() -> None:
        raise ZeroDivisionError

    async def call(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(
            OutcomeMiddleware(application, cast(Reporter, reports)), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            return await client.get(path, headers={"x-turnout-task": "t7"})

    answer = asyncio.run(call("/ask"))
    assert answer.json() == {"task": "t7"}
    assert answer.headers["x-turnout-outcome"] == "failure; cost=0.5"
    assert asyncio.run(call("/break")).status_code == 500
    assert [(task, said["success"]) for task, said in reports.said] == [("t7", False)]


def test_the_header_reads_as_the_server_reads_it() -> None:
    from turnout.domain.outcomes import parse_header

    text = build_header({"success": True, "intervention": True, "cost": 1e-07})

    assert parse_header(text) == (False, True, 1e-07)
