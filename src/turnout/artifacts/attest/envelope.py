"""Statements in signed envelopes (DSSE, Ed25519): made by a key, opened only by the keys that are trusted.

Nothing in an envelope is believed before a signature by a known key was checked over exactly its bytes. What does not open
is a `Fault` that says why. The base64 must be the one way to write its bytes, so no byte of an envelope can change unseen.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # it has no __all__

from turnout.artifacts.attest.keys import SigningKey, TrustedKey, public_key, short_key_id
from turnout.artifacts.attest.predicates import Facts, facts_of
from turnout.artifacts.attest.statement import Statement, kind_of, read_statement, statement_content
from turnout.artifacts.attest.strict import parse_strict, printable, to_canonical
from turnout.artifacts.attest.times import format_time
from turnout.artifacts.digest import sha256_digest
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest, short_digest

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE = 2 << 20  # bytes
CLOCK_SKEW = 60.0  # seconds that the clock of who made a key may be ahead
_MOST_SIGNATURES = 16


class FaultCode(StrEnum):
    """Why an attestation does not count."""

    MALFORMED = "malformed"
    FOREIGN_TYPE = "foreign_type"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    KEY_NOT_YET_VALID = "key_not_yet_valid"
    MALFORMED_STATEMENT = "malformed_statement"
    UNKNOWN_STATEMENT = "unknown_statement"
    OTHER_DIGEST = "other_digest"


@dataclass(frozen=True, slots=True)
class Opened:
    """An attestation with a good signature by a key that is trusted now. `envelope` is the digest of its bytes."""

    statement: Statement
    facts: Facts
    signer: TrustedKey
    envelope: Digest

    @property
    def kind(self) -> str:
        """The short name of what it says."""
        return self.statement.kind or self.statement.predicate_type


@dataclass(frozen=True, slots=True)
class Fault:
    """An attestation that does not count. `sentence` says why.

    `kind` is what it claims to be, in a known short name, or None: good for words only. `signer` is known when a signature
    by its key is good, or is the key whose signature is not.
    """

    code: FaultCode
    sentence: str
    envelope: Digest
    kind: str | None = None
    keyids: tuple[str, ...] = ()
    signer: TrustedKey | None = None


def sign_statement(statement: Statement, key: SigningKey) -> bytes:
    """The envelope with a statement, as canonical JSON.

    Signs nothing that could not be read back: raises `InvalidRequest` for a statement that is malformed or too large.
    """
    content = statement_content(statement)
    facts_of(read_statement(content))
    envelope = Envelope(content, PAYLOAD_TYPE, {})
    envelope.sign(key.signer)
    return to_canonical(envelope.to_dict(), "the envelope")


def read_envelope(content: bytes, trusted: Sequence[TrustedKey], now: float, *, digest: Digest) -> Opened | Fault:
    """Open an attestation about the release `digest` at a time, or say why it does not count. Raises nothing."""
    name = sha256_digest(content)
    try:
        envelope = _parse(content)
    except InvalidRequest as error:
        return Fault(FaultCode.MALFORMED, error.message, name)
    if envelope.payload_type != PAYLOAD_TYPE:
        problem = f'the envelope holds "{printable(envelope.payload_type[:80])}", not an in-toto statement'
        return Fault(FaultCode.FOREIGN_TYPE, problem, name)
    signers = _check_signatures(envelope, trusted, name)
    if isinstance(signers, Fault):
        return signers
    faults = [_key_fault(key, envelope, name, now) for key in signers]
    good = [key for key, fault in zip(signers, faults, strict=True) if fault is None]
    return _open_statement(envelope, good[0], name, digest) if good else next(fault for fault in faults if fault)


def claimed_type(content: bytes) -> str | None:
    """The predicate type that an envelope claims to hold, unchecked: a label for lists, never a reason to believe."""
    try:
        return read_statement(_parse(content).payload).predicate_type
    except InvalidRequest:
        return None


# --- signatures ------------------------------------------------------------------------------------------------------


def _check_signatures(envelope: Envelope, trusted: Sequence[TrustedKey], name: Digest) -> list[TrustedKey] | Fault:
    """The known keys that signed exactly this; a fault when there is none, or when one of them signed something else."""
    known: dict[str, TrustedKey] = {}
    for key in trusted:
        if key.keyid not in known or key.revoked_at is not None:
            known[key.keyid] = key
    kind, keyids = _claimed_kind(envelope), tuple(envelope.signatures)
    signers = []
    for keyid, signature in envelope.signatures.items():
        signer = known.get(keyid)
        if signer is None:
            continue
        if not _is_good(signature, signer, envelope):
            problem = f"{_the(kind)} is not what the key {signer.label} signed: it was changed"
            return Fault(FaultCode.BAD_SIGNATURE, problem, name, kind, keyids, signer)
        signers.append(signer)
    if signers:
        return signers
    named = ", ".join(short_key_id(keyid) or "a key without id" for keyid in keyids)
    problem = f"{_the(kind)} is signed by no trusted key, only by {named}"
    return Fault(FaultCode.UNKNOWN_KEY, problem, name, kind, keyids)


def _is_good(signature: Signature, signer: TrustedKey, envelope: Envelope) -> bool:
    try:
        public_key(signer.public).verify_signature(signature, envelope.pae())
    except UnverifiedSignatureError:
        return False
    return True


def _key_fault(key: TrustedKey, envelope: Envelope, name: Digest, now: float) -> Fault | None:
    if key.revoked_at is not None:
        code, reason = FaultCode.KEY_REVOKED, f"was revoked on {format_time(key.revoked_at)}"
    elif now >= key.expires_at:
        code, reason = FaultCode.KEY_EXPIRED, f"expired on {format_time(key.expires_at)}"
    elif now < key.created_at - CLOCK_SKEW:
        code, reason = FaultCode.KEY_NOT_YET_VALID, f"is valid from {format_time(key.created_at)} only"
    else:
        return None
    kind = _claimed_kind(envelope)
    problem = f"{_the(kind)} is signed by key {key.label}, which {reason}"
    return Fault(code, problem, name, kind, tuple(envelope.signatures), key)


def _open_statement(envelope: Envelope, signer: TrustedKey, name: Digest, digest: Digest) -> Opened | Fault:
    """The payload is now known to be what the signer signed."""
    keyids = tuple(envelope.signatures)
    try:
        statement = read_statement(envelope.payload)
    except InvalidRequest as error:
        problem = f"key {signer.label} signed something that is no statement about a release: {error.message}"
        return Fault(FaultCode.MALFORMED_STATEMENT, problem, name, None, keyids, signer)
    kind = statement.kind
    if kind is None:
        problem = (
            f'key {signer.label} signed a statement of the unknown type "{printable(statement.predicate_type[:200])}"'
        )
        return Fault(FaultCode.UNKNOWN_STATEMENT, problem, name, None, keyids, signer)
    if statement.subject != digest:
        problem = (
            f"{_the(kind)} signed by key {signer.label} is about another release, {short_digest(statement.subject)}"
        )
        return Fault(FaultCode.OTHER_DIGEST, problem, name, kind, keyids, signer)
    try:
        return Opened(statement, facts_of(statement), signer, name)
    except InvalidRequest as error:
        problem = f"{error.message} (signed by key {signer.label})"
        return Fault(FaultCode.MALFORMED_STATEMENT, problem, name, kind, keyids, signer)


def _claimed_kind(envelope: Envelope) -> str | None:
    try:
        return kind_of(read_statement(envelope.payload).predicate_type)
    except InvalidRequest:
        return None


def _the(kind: str | None) -> str:
    return f"the {kind.replace('-', ' ')}" if kind else "an attestation"


# --- bytes -----------------------------------------------------------------------------------------------------------


class _Signature(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    keyid: Annotated[str, Field(pattern=r"^[0-9A-Za-z:+/=_.@-]{0,128}$")]
    sig: str


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    payload: str
    payload_type: Annotated[str, Field(alias="payloadType", max_length=200)]
    signatures: Annotated[tuple[_Signature, ...], Field(min_length=1, max_length=_MOST_SIGNATURES)]


def _parse(content: bytes) -> Envelope:
    parsed = parse_strict(_Envelope, content, "the envelope", limit=MAX_ENVELOPE)
    signatures: dict[str, Signature] = {}
    for signature in parsed.signatures:
        if signature.keyid in signatures:
            raise InvalidRequest(f"the envelope has two signatures by the key {short_key_id(signature.keyid)}")
        signatures[signature.keyid] = Signature(signature.keyid, _decode(signature.sig).hex())
    return Envelope(_decode(parsed.payload), parsed.payload_type, signatures)


def _decode(text: str) -> bytes:
    """Base64 in its one canonical form: unused bits are zero, nothing is left out."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("the envelope cannot be read: its base64 is malformed") from None
    if base64.b64encode(decoded).decode() != text:
        raise InvalidRequest("the envelope cannot be read: its base64 is not in canonical form")
    return decoded
