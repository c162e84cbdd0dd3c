"""Keys: whose signatures under attestations count on this instance."""

from __future__ import annotations

from turnout.domain.errors import Conflict, InvalidRequest
from turnout.domain.events import Event, EventType
from turnout.domain.policy import Verb
from turnout.ports import KeyRecord
from turnout.schemas import KeyList, KeyView
from turnout.services.office import Actor, Office
from turnout.services.views import view_time


def list_keys(office: Office, actor: Actor) -> KeyList:
    """All keys that are or were trusted."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        return {"keys": [_view(key) for key in snapshot.trusted_keys()]}


def trust_key(office: Office, actor: Actor, public: bytes, *, instance: bool) -> KeyView:
    """Trust a key from now on, given as the file of its public half. Trusting it again changes nothing.

    Raises `InvalidRequest` for what is no public key or has expired, `Conflict` for one that was revoked, or is trusted
    in the other way: for a person, or for an instance.
    """
    actor.check(Verb.ADMINISTER)
    now = office.clock.now()
    key = office.notary.read_key(public, instance=instance, added_by=actor.name, now=now)
    if key.expires_at <= now:
        raise InvalidRequest(
            f"the key {key.keyid[:12]} ({key.name}) expired on {view_time(key.expires_at)}",
            hint="make a new one with `turnout keys rotate`",
        )
    with office.store.transaction() as transaction:
        if transaction.add_key(key):
            data = {"keyid": key.keyid, "name": key.name, "instance": key.instance}
            transaction.emit(Event(EventType.KEY_TRUSTED, now, actor.name, data=data))
        known = next(item for item in transaction.trusted_keys() if item.keyid == key.keyid)
        if known.revoked_at is not None:
            raise Conflict(
                f"the key {key.keyid[:12]} ({known.name}) was revoked on {view_time(known.revoked_at)}",
                hint="a revoked key never comes back: make a new one with `turnout keys rotate`",
            )
        if known.instance != instance:
            raise Conflict(
                f"the key {key.keyid[:12]} is trusted as that of {'an instance' if known.instance else 'a person'} already",
                hint="what a key may say never changes: revoke it, and trust a new one",
            )
        return _view(known)


def revoke_key(office: Office, actor: Actor, keyid: str) -> None:
    """Trust a key no longer. Nothing that it ever signed counts from now on; what runs goes on running."""
    actor.check(Verb.ADMINISTER)
    now = office.clock.now()
    with office.store.transaction() as transaction:
        transaction.revoke_key(keyid, now)
        transaction.emit(Event(EventType.KEY_REVOKED, now, actor.name, data={"keyid": keyid}))


def _view(key: KeyRecord) -> KeyView:
    return {
        "keyid": key.keyid,
        "name": key.name,
        "public": key.public,
        "instance": key.instance,
        "created_at": view_time(key.created_at),
        "expires_at": view_time(key.expires_at),
        "added_by": key.added_by,
        "added_at": view_time(key.added_at),
        "revoked_at": view_time(key.revoked_at) if key.revoked_at is not None else None,
    }
