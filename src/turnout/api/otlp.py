"""OTLP/HTTP: evaluation events from anything that speaks OpenTelemetry, such as a collector or an evaluation library."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from turnout.api.auth import Authenticated, Call
from turnout.api.outcomes import rate_of, written_of
from turnout.domain.errors import Forbidden, InvalidRequest, TooManyRequests, TurnoutError, Unauthenticated
from turnout.domain.policy import Verb
from turnout.otlp.signals import Signal, read_request, write_taken
from turnout.otlp.wire import Encoding, choose_encoding, unpack, write_error
from turnout.services.outcomes import report

_BYTES_OF_A_REPORT = 256  # what has to be read costs its sender as if so many bytes were a report


class _OtlpRoute(APIRoute):
    """Answers errors as the protocol asks: `google.rpc.Status` in the encoding of the request.

    But for those about tokens and roles, which are the same everywhere.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Around what reads the request, and what takes it in."""
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await answer(request)
            except (Unauthenticated, Forbidden):
                raise
            except TurnoutError as error:
                return _show_error(error, _encoding(request) or Encoding.JSON)

        return guarded


router = APIRouter(prefix="/v1/otlp/v1", tags=["outcomes"], route_class=_OtlpRoute)


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


@router.post("/logs")
def take_logs(request: Request, call: Authenticated, body: Body) -> Response:
    """Evaluation events among log records. Anything else in them is passed over."""
    return _take(Signal.LOGS, request, call, body)


@router.post("/traces")
def take_traces(request: Request, call: Authenticated, body: Body) -> Response:
    """Evaluation events among the events of spans. Anything else in them is passed over."""
    return _take(Signal.TRACES, request, call, body)


def _take(signal: Signal, request: Request, call: Call, body: bytes) -> Response:
    call.actor.check(Verb.REPORT)
    encoding = _encoding(request)
    if encoding is None:
        raise InvalidRequest("the content type is not one of OTLP/HTTP", hint=f"send {' or '.join(Encoding)}")
    content = unpack(body, request.headers.get("content-encoding", ""))
    rate, size = rate_of(request), 1 + len(content) // _BYTES_OF_A_REPORT
    rate.spend(call.actor.name, size)
    read = read_request(signal, content, encoding)
    if len(read.outcomes) > size:
        # To refuse them now would have them read again and again: there may be more than a bucket ever holds.
        rate.owe(call.actor.name, len(read.outcomes) - size)
    report(call.office, call.actor, read.outcomes, written_of(request))
    return Response(write_taken(signal, read.rejected, encoding), media_type=encoding.value)


def _encoding(request: Request) -> Encoding | None:
    return choose_encoding(request.headers.get("content-type", ""))


def _show_error(error: TurnoutError, encoding: Encoding) -> Response:
    # The protocol knows 400 for what must not be sent again.
    status = 400 if isinstance(error, InvalidRequest) else error.status
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    headers = {"Retry-After": str(math.ceil(error.retry_after))} if isinstance(error, TooManyRequests) else None
    return Response(write_error(status, text, encoding), status, headers, media_type=encoding.value)
