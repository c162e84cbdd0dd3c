"""Who asks: the bearer token of a request, and its idempotency key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from turnout.api.claims import AlreadyClaimed, ClaimingStore
from turnout.domain.errors import Conflict, InvalidRequest, Unauthenticated
from turnout.ports import StoredResponse
from turnout.services.office import Actor, Office
from turnout.services.tokens import authenticate
from turnout.services.views import view_deployment


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request."""

    office: Office
    actor: Actor
    key: str | None = None  # of the header Idempotency-Key
    fingerprint: str = ""

    def once(self, work: Callable[[Office], Mapping[str, Any]], status: int = 200) -> Response:
        """Do a write; under a key that was used before, give the recorded answer instead.

        The key is claimed in the transaction of the write itself, so that nothing is done twice, whenever the server is
        killed. Where only the answer was lost, it is the deployment that the write was about.
        """
        if self.key is None:
            return JSONResponse(work(self.office), status)
        claim = StoredResponse(self.fingerprint, 0, "")
        store = ClaimingStore(self.office.store, self.actor.name, self.key, claim, self.office.clock.now())
        try:
            result = work(replace(self.office, store=store))
        except AlreadyClaimed as claimed:
            return self._recorded(claimed.response, status)
        answer = JSONResponse(result, status)
        with self.office.store.transaction() as transaction:
            response = StoredResponse(self.fingerprint, status, bytes(answer.body).decode())
            transaction.save_response(self.actor.name, self.key, response, self.office.clock.now())
        return answer

    def _recorded(self, recorded: StoredResponse, status: int) -> Response:
        if recorded.fingerprint != self.fingerprint:
            raise InvalidRequest("this Idempotency-Key was used for another request", hint="use a new key")
        if recorded.status:
            return Response(recorded.body, recorded.status, media_type="application/json")
        with self.office.store.snapshot() as snapshot:
            made = snapshot.deployment(recorded.body)
            if made is not None:
                return JSONResponse(view_deployment(snapshot, made), status)
        raise Conflict("this was done before, and its answer was lost", hint="see `turnout status` for what it came to")


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
