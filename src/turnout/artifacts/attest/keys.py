"""Keys as values: the public half that others trust, its small file, and a key that signs. Ed25519 throughout.

A key id is the one that securesystemslib computes from the public key, so a key cannot be passed off under another's id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # it has no __all__

from turnout.artifacts.attest.strict import parse_strict, to_canonical
from turnout.artifacts.attest.times import format_time, parse_time
from turnout.domain.errors import InvalidRequest

ALGORITHM: Literal["ed25519"] = "ed25519"
_LARGEST_FILE = 64 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_PRIVATE = re.compile(rb'PRIVATE KEY|"(private|secret|seed)[^"]*"\s*:', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that signatures are checked with.

    `instance`: it belongs to an instance of turnout, which may attest what others decided; a person's key speaks for that
    person alone. Nothing that a revoked key ever signed counts. Raises `InvalidRequest` when the id is not that of the
    key, or a time is none.
    """

    keyid: str
    name: str
    public: str  # 64 hexadecimal digits
    created_at: float
    expires_at: float
    revoked_at: float | None = None
    instance: bool = False

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if key_id(self.public) != self.keyid:
            raise InvalidRequest(f"the key id {self.keyid[:64]} is not that of the public key of {self.name}")
        for at in (self.created_at, self.expires_at, self.revoked_at or 0.0):
            format_time(at)
        if not self.created_at < self.expires_at:
            raise InvalidRequest(f"the key of {self.name} expires before it was created")

    @property
    def label(self) -> str:
        """How a sentence names the key."""
        return f"{short_key_id(self.keyid)} ({self.name})"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that was unlocked. Its private half never leaves the signer."""

    key: TrustedKey
    signer: CryptoSigner = field(repr=False, compare=False)


def key_id(public: str) -> str:
    """The id of a public key of 64 hexadecimal digits. Raises `InvalidRequest`."""
    return public_key(public).keyid


def public_key(public: str) -> SSlibKey:
    """The public key that checks signatures. Raises `InvalidRequest` for what is no Ed25519 key."""
    if not re.fullmatch(r"[0-9a-f]{64}", public):
        raise InvalidRequest("an Ed25519 public key has 64 hexadecimal digits")
    try:
        return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)))
    except ValueError:
        raise InvalidRequest("these 64 digits are no Ed25519 public key") from None


def short_key_id(keyid: str) -> str:
    """The first twelve digits, for people."""
    return keyid[:12]


def check_key_name(name: str) -> str:
    """The name. Raises `InvalidRequest` for one that no key can have."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name[:80]!r} cannot be the name of a key", hint="such as alice or ci@example.com")
    return name


def export_public(key: TrustedKey) -> bytes:
    """The file that others trust a key by: its public half, as canonical JSON."""
    document: dict[str, Any] = {
        "keyid": key.keyid,
        "name": key.name,
        "algorithm": ALGORITHM,
        "public": key.public,
        "created_at": format_time(key.created_at),
        "expires_at": format_time(key.expires_at),
    }
    if key.instance:
        document["instance"] = True
    return to_canonical(document, "the key")


def parse_public(content: bytes, *, instance: bool = False) -> TrustedKey:
    """Read such a file. Whether a key may speak for others says who trusts it, never the file.

    Raises `InvalidRequest` for anything else, above all for a file that holds a private key, and for an instance's key that
    is about to be trusted as a person's: what a key may say never changes, so the mistake could not be mended.
    """
    if _PRIVATE.search(content):
        raise InvalidRequest(
            "this file holds a private key, which nobody else may have; nothing was taken from it",
            hint="export the public half and give out that file: `turnout keys export`",
        )
    try:
        parsed = parse_strict(_PublicFile, content, "the public key", limit=_LARGEST_FILE)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, hint="give a file that `turnout keys export` wrote") from None
    if parsed.instance and not instance:
        raise InvalidRequest(
            f"this is the key of an instance ({parsed.name}), not of a person",
            hint="trust it with `turnout keys trust --instance`",
        )
    return TrustedKey(
        keyid=parsed.keyid,
        name=parsed.name,
        public=parsed.public,
        created_at=parse_time(parsed.created_at),
        expires_at=parse_time(parsed.expires_at),
        instance=instance,
    )


class _PublicFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    keyid: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    name: str
    algorithm: Literal["ed25519"]
    public: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: str
    expires_at: str
    instance: bool = False
