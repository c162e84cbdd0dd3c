"""The user's own keys, and the provenance that is signed with them when a release is pushed."""

from __future__ import annotations

import getpass
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout import __version__
from turnout.cli.connection import note
from turnout.domain.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from turnout.artifacts.attest.keys import SigningKey
    from turnout.artifacts.build import ReleaseParts

PASSPHRASE = "TURNOUT_KEY_PASSPHRASE"  # noqa: S105  (the name of a variable)
_BUILDER = "urn:turnout:builder:command-line"

sign_option = click.option(
    "--sign/--no-sign",
    "sign",
    default=None,
    help="Sign how the release was built, or not. Default: sign what is pushed if there is a key and its passphrase.",
)


@dataclass(frozen=True, slots=True)
class Signing:
    """How a push is signed. `wanted`: as `sign_option` gives it."""

    folder: Path
    git_sha: str | None
    began: float
    wanted: bool | None

    def sign(self, parts: ReleaseParts) -> str | None:
        """The envelope with the provenance of a release; None when it is not to be signed.

        Raises `NotFound`, `InvalidRequest` when it was asked for and cannot be done.
        """
        if self.wanted is False:
            return None
        key = unlock_key(asked=bool(self.wanted))
        return None if key is None else self._envelope(parts, key)

    def _envelope(self, parts: ReleaseParts, key: SigningKey) -> str:
        from turnout.artifacts.attest.envelope import sign_statement
        from turnout.artifacts.attest.predicates import Provenance, build_provenance
        from turnout.artifacts.digest import sha256_digest
        from turnout.manifest import MANIFEST_NAME

        provenance = Provenance(
            builder=_BUILDER,
            builder_version=__version__,
            user=user_name(),
            manifest=sha256_digest((self.folder / MANIFEST_NAME).read_bytes()),
            components={name: ref.digest for name, ref in parts.components.items()},
            started_at=self.began,
            finished_at=time.time(),
            git_sha=self.git_sha,
        )
        statement = build_provenance(parts.spec.agent, parts.digest, provenance)
        note(f"sign     provenance, with the key {key.key.label}")
        return sign_statement(statement, key).decode()


def user_name() -> str:
    """Who runs this; the number of the user where no name is known, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"


def keys_folder() -> Path:
    """TURNOUT_KEYS, else `keys` in the user's configuration folder."""
    if given := os.environ.get("TURNOUT_KEYS"):
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "turnout" / "keys"


def unlock_key(*, asked: bool) -> SigningKey | None:
    """The newest key that can sign. None when there is none, or no passphrase, and it was not asked for."""
    folder, now = keys_folder(), time.time()
    if not folder.is_dir():
        if asked:
            raise NotFound(f"there is no key in {folder}", hint="make one with `turnout keys init`")
        return None
    from turnout.artifacts.attest.keyring import list_keys, load_signing_key

    usable = [kept for kept in list_keys(folder) if kept.can_sign(now)]
    if not usable:
        if asked:
            raise NotFound(
                f"no key in {folder} can sign", hint="make one with `turnout keys init`, or rotate the old one"
            )
        return None
    public = usable[-1].public
    passphrase = os.environ.get(PASSPHRASE)
    if not passphrase and not sys.stdin.isatty():
        if asked:
            raise InvalidRequest("the key has a passphrase", hint=f"give it in {PASSPHRASE}")
        note(f"not signed: give the passphrase of the key {public.label} in {PASSPHRASE}")
        return None
    passphrase = passphrase or click.prompt(f"passphrase of the key {public.label}", hide_input=True, err=True)
    return load_signing_key(folder, public.keyid, str(passphrase), now=now)


def new_passphrase() -> str:
    """From the environment, else typed twice. Raises `InvalidRequest` where neither is possible."""
    given = os.environ.get(PASSPHRASE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise InvalidRequest("a key needs a passphrase", hint=f"give it in {PASSPHRASE}, or run this in a terminal")
    return str(click.prompt("passphrase of the new key", hide_input=True, confirmation_prompt=True, err=True))
