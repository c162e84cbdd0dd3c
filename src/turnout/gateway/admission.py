"""Who calls: the key of a release, and the task that it works on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from turnout.domain.budget import Spender
from turnout.domain.errors import CallRefused
from turnout.domain.grants import Grant
from turnout.gateway.seams import GrantSource
from turnout.gateway.tasks import NO_TASK, TASK_HEADER, is_task, task_in_baggage


def find_grant(head: Mapping[bytes, bytes], grants: GrantSource) -> Grant:
    """The grant of the key that a request carries. Raises `CallRefused` without one, and for a release that is stopped."""
    grant = grants.find(_read_key(head).decode("latin-1"))
    if grant is None:
        raise CallRefused(
            "this key is not known: it is wrong, or the release that it was made for no longer runs",
            status=401,
            code="invalid_api_key",
        )
    if grant.stopped is not None:
        raise CallRefused(f"calls of this release are stopped: {grant.stopped}", status=403, code="release_stopped")
    return grant


def find_task(head: Mapping[bytes, bytes]) -> str | None:
    """The task of a call: the header x-turnout-task, else the member turnout.task of the baggage; None for neither.

    Raises `CallRefused` for a header that is no task id.
    """
    said = head.get(TASK_HEADER.encode())
    if said is not None:
        task = said.decode(errors="replace").strip()
        if not is_task(task):
            raise CallRefused(NO_TASK, status=400, code="bad_header")
        return task
    return task_in_baggage(head.get(b"baggage", b"").decode("latin-1"))


def scoped_key(spender: Spender, told: bytes) -> str:
    """The idempotency key of a call as providers get it; "" for none.

    All agents share the account of the instance there: two that happen to say the same must not get each other's answers.
    """
    if not told:
        return ""
    return "turnout-" + hashlib.sha256(f"{spender.agent}/{spender.ring}/".encode() + told).hexdigest()[:48]


def _read_key(head: Mapping[bytes, bytes]) -> bytes:
    bearer = head.get(b"authorization", b"")
    scheme, _, token = bearer.partition(b" ")
    keys = {token.strip()} if scheme.lower() == b"bearer" and token.strip() else set()
    if b"x-api-key" in head:
        keys.add(head[b"x-api-key"].strip())
    if len(keys) > 1:
        raise CallRefused("authorization and x-api-key carry two different keys", status=401, code="invalid_api_key")
    if not keys:
        raise CallRefused(
            "no key: send the one in OPENAI_API_KEY or ANTHROPIC_API_KEY of the agent's environment",
            status=401,
            code="invalid_api_key",
        )
    return keys.pop()
