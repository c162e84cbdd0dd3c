"""The key of an instance, with which it attests what was decided on it. Made at the first start, renewed before it expires.

Its passphrase is made with it and kept beside it, so that a server starts by itself: the key is then as safe as the state
folder, and a copy of the key file alone is worth nothing. Who gives TURNOUT_INSTANCE_PASSPHRASE at the first start gives it
at every start, and no passphrase is kept.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from turnout.artifacts.attest.keyring import create_key, list_keys, load_signing_key, rotate_key
from turnout.artifacts.attest.keys import SigningKey, TrustedKey
from turnout.artifacts.faults import disk_errors
from turnout.domain.errors import InvalidRequest, SetupFailed
from turnout.durable import replace_file

PASSPHRASE = "TURNOUT_INSTANCE_PASSPHRASE"  # noqa: S105  (the name of a variable)
_NAME = "instance"
_LIFETIME = 3 * 365 * 86_400.0  # seconds
_RENEWED = 90 * 86_400.0  # seconds before it expires


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The public half, and a way to the private one, which is unlocked once."""

    public: TrustedKey
    unlock: Callable[[], SigningKey]


def keep_instance_key(state: Path, now: float, revoked: Collection[str] = ()) -> OwnKey:
    """The key in a state folder; made when there is none, a new one when it soon expires or is among the `revoked`.

    Raises `SetupFailed` when its passphrase is not known, and what `keyring` raises.
    """
    folder = state / "keys"
    kept = list_keys(folder)
    passphrase = _passphrase(state, first=not kept)
    usable = [key for key in kept if key.can_sign(now) and key.public.keyid not in revoked]
    if usable and usable[-1].public.expires_at - now >= _RENEWED:
        public = usable[-1].public
    else:
        make = rotate_key if kept else create_key
        public = make(folder, _NAME, passphrase, now=now, lifetime=_LIFETIME).public

    @cache
    def unlock() -> SigningKey:
        return load_signing_key(folder, public.keyid, passphrase, now=now)

    if kept and os.environ.get(PASSPHRASE):
        _check_passphrase(unlock)
    return OwnKey(public, unlock)


def _passphrase(state: Path, *, first: bool) -> str:
    path = state / "key.passphrase"
    with disk_errors(path):
        if path.exists():
            return path.read_text().strip()
    given = os.environ.get(PASSPHRASE)
    if given:
        return given
    if not first:
        raise SetupFailed(
            f"the passphrase of the instance's key in {state / 'keys'} is not known",
            hint=f"give it in {PASSPHRASE}, or restore {path}; if it is lost, move the keys away and a new one is made",
        )
    made = secrets.token_urlsafe(32)
    with disk_errors(path):
        replace_file(path, made.encode(), 0o600)  # before the key is made under it
    return made


def _check_passphrase(unlock: Callable[[], SigningKey]) -> None:
    """At the start already: a wrong one would else show when the first approval is attested."""
    try:
        unlock()
    except InvalidRequest as error:
        raise SetupFailed(error.message, hint=f"correct {PASSPHRASE}") from None
