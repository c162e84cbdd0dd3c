"""Tokens: who may speak to the API. Only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import re
import secrets

from turnout.domain.errors import Conflict, InvalidRequest, Unauthenticated
from turnout.domain.events import Event, EventType
from turnout.domain.policy import Role, Verb
from turnout.ports import TokenRecord
from turnout.schemas import TokenList, TokenView
from turnout.services.office import Actor, Office
from turnout.services.views import view_time

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,127}")


def authenticate(office: Office, token: str) -> Actor:
    """Who holds a token. Looked up by its hash, so that no comparison of secrets takes a telling time."""
    with office.store.snapshot() as snapshot:
        found = snapshot.token(hash_token(token))
    if found is None:
        raise Unauthenticated(
            "the token is not known to this instance",
            hint="set TURNOUT_TOKEN, or use the --state folder of the instance; `turnout tokens create` makes tokens",
        )
    return Actor(found.name, found.role)


def create_token(office: Office, actor: Actor, name: str, role: str, secret: str | None = None) -> TokenView:
    """Make a token. Its text is in the answer and nowhere else."""
    actor.check(Verb.ADMINISTER)
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r} cannot be the name of a token", hint="such as alice or ci@example.com")
    if role not in Role.__members__.values():
        raise InvalidRequest(f"there is no role {role!r}", hint=f"roles are {', '.join(Role)}")
    token = secret or f"tt_{secrets.token_urlsafe(32)}"
    now = office.clock.now()
    with office.store.transaction() as transaction:
        transaction.add_token(TokenRecord(name, Role(role), hash_token(token), now))
        transaction.emit(Event(EventType.TOKEN_CREATED, now, actor.name, data={"name": name, "role": role}))
    return {"name": name, "role": role, "created_at": view_time(now), "token": token}


def list_tokens(office: Office, actor: Actor) -> TokenList:
    """All tokens, without their text."""
    actor.check(Verb.ADMINISTER)
    with office.store.snapshot() as snapshot:
        return {
            "tokens": [
                {"name": token.name, "role": token.role.value, "created_at": view_time(token.created_at)}
                for token in snapshot.tokens()
            ]
        }


def revoke_token(office: Office, actor: Actor, name: str) -> None:
    """Forget a token; it is refused from now on. The last admin's stays."""
    actor.check(Verb.ADMINISTER)
    with office.store.transaction() as transaction:
        admins = [token.name for token in transaction.tokens() if token.role is Role.ADMIN]
        if admins == [name]:
            raise Conflict(f"{name} is the last admin", hint="create another admin first")
        transaction.remove_token(name)
        transaction.emit(Event(EventType.TOKEN_REVOKED, office.clock.now(), actor.name, data={"name": name}))


def hash_token(token: str) -> str:
    """SHA-256 in hexadecimal. Tokens are 256 random bits, so that no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()
