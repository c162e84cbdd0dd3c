"""Who asks: the bearer token of a request, and its idempotency key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from turnout.domain.errors import InvalidRequest, Unauthenticated
from turnout.ports import StoredResponse
from turnout.services.office import Actor, Office
from turnout.services.tokens import authenticate


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request."""

    office: Office
    actor: Actor
    key: str | None = None  # of the header Idempotency-Key
    fingerprint: str = ""

    def once(self, work: Callable[[Office], Mapping[str, Any]], status: int = 200) -> Response:
        """Do a write; under a key that was used before, give the recorded answer instead.

        Deployments get an id derived from the key: a crash between the write and its record does not make a second one.
        """
        if self.key is None:
            return JSONResponse(work(self.office), status)
        with self.office.store.snapshot() as snapshot:
            recorded = snapshot.response(self.actor.name, self.key)
        if recorded is not None:
            if recorded.fingerprint != self.fingerprint:
                raise InvalidRequest("this Idempotency-Key was used for another request", hint="use a new key")
            return Response(recorded.body, recorded.status, media_type="application/json")
        derived = hashlib.sha256(f"{self.actor.name}\n{self.key}\n{self.fingerprint}".encode()).hexdigest()[:20]
        answer = JSONResponse(work(replace(self.office, new_id=lambda prefix: f"{prefix}_{derived}")), status)
        with self.office.store.transaction() as transaction:
            body = StoredResponse(self.fingerprint, status, bytes(answer.body).decode())
            transaction.add_response(self.actor.name, self.key, body, self.office.clock.now())
        return answer


async def _identify(request: Request) -> Actor:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "a bearer token is needed", hint="set TURNOUT_TOKEN, or use the --state folder of the instance"
        )
    return await run_in_threadpool(authenticate, request.app.state.office, token.strip())


async def _call(request: Request, actor: Annotated[Actor, Depends(_identify)]) -> Call:
    key = request.headers.get("idempotency-key")
    if key is not None and not 8 <= len(key) <= 128:
        raise InvalidRequest("an Idempotency-Key has 8 to 128 characters", hint="use a UUID")
    body = await request.body()
    fingerprint = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body).hexdigest()
    return Call(request.app.state.office, actor, key, fingerprint)


async def _upload(request: Request, actor: Annotated[Actor, Depends(_identify)]) -> Call:
    """Like a call, without reading the body: it may be large."""
    return Call(request.app.state.office, actor)


Authenticated = Annotated[Call, Depends(_call)]
Uploading = Annotated[Call, Depends(_upload)]
