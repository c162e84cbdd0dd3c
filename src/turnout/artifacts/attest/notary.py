"""Attestations of the releases in a store: taking them in, making those of the instance, and holding them against a demand.

The instance attests what was decided on it, an approval or a promotion. The same decision makes the same bytes, so that
attesting it again after a crash changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from turnout.artifacts.attest.carrier import ENVELOPE_TYPE, MAX_CARRIER, build_carrier, envelope_of
from turnout.artifacts.attest.envelope import MAX_ENVELOPE, Fault, FaultCode, Opened, read_envelope, sign_statement
from turnout.artifacts.attest.keys import SigningKey, TrustedKey, parse_public
from turnout.artifacts.attest.policy import build_report
from turnout.artifacts.attest.predicates import Promotion, build_approval, build_promotion
from turnout.artifacts.attest.statement import Statement
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.document import EMPTY_CONFIG
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Approval, Deployment, Digest, Release
from turnout.ports import ArtifactStore, Assessment, AttestationRecord, KeyRecord

log = logging.getLogger(__name__)

_REFUSED = (
    FaultCode.MALFORMED,
    FaultCode.FOREIGN_TYPE,
    FaultCode.BAD_SIGNATURE,
    FaultCode.MALFORMED_STATEMENT,
    FaultCode.UNKNOWN_STATEMENT,
    FaultCode.OTHER_DIGEST,
)


class StoreNotary:
    """Implements `Notary` on an artifact store. `unlock` gives the instance's key; it is called when it is first needed."""

    def __init__(self, store: ArtifactStore, unlock: Callable[[], SigningKey]) -> None:
        self._store = store
        self._unlock = unlock

    def read_key(self, public: bytes, *, instance: bool, added_by: str, now: float) -> KeyRecord:
        """See `Notary`."""
        key = parse_public(public, instance=instance)
        return KeyRecord(
            key.keyid, key.name, key.public, key.created_at, key.expires_at, instance, added_by, added_at=now
        )

    def accept(self, release: Digest, envelope: bytes, keys: Sequence[KeyRecord], now: float) -> str | None:
        """See `Notary`."""
        found = read_envelope(envelope, _trusted(keys), now, digest=release)
        if isinstance(found, Fault) and found.code in _REFUSED:
            raise InvalidRequest(f"this attestation is not taken: {found.sentence}")
        self._attach(release, envelope)
        return found.sentence if isinstance(found, Fault) else None

    def attest(self, deployment: Deployment, approvals: Iterable[Approval]) -> None:
        """See `Notary`."""
        statements = [build_approval(approval) for approval in approvals]
        if deployment.source_ring is not None:
            statements.append(_promotion(deployment, deployment.source_ring))
        for statement in statements:
            self._attach(deployment.digest, sign_statement(statement, self._unlock()))

    def assess(
        self,
        release: Release,
        ring: str | None,
        demanded: Sequence[str],
        keys: Sequence[KeyRecord],
        now: float,
        approvals: int = 0,
    ) -> Assessment:
        """See `Notary`."""
        trusted = _trusted(keys)
        found: list[Opened | Fault] = []
        problems: list[str] = []
        for read in self._envelopes(release.digest):
            if isinstance(read, bytes):
                found.append(read_envelope(read, trusted, now, digest=release.digest))
            else:
                problems.append(read.message)
        report = build_report(
            demanded,
            found,
            digest=release.digest,
            ring=ring,
            now=now,
            approvals_needed=approvals,
            author=release.author,
        )
        records = tuple(
            AttestationRecord(item.kind, item.signer, item.keyid, item.at, item.counts, item.verdict, item.envelope)
            for item in report.findings
        )
        return Assessment(records, (*report.problems, *problems))

    def _envelopes(self, release: Digest) -> Iterator[bytes | DamagedContent]:
        """As `_read_envelopes`; that the release itself cannot be read is one more thing that is wrong with it."""
        try:
            manifest = self._store.release_manifest(release)
        except (DamagedContent, NotFound) as error:
            yield DamagedContent(f"the attestations of {release} cannot be found: {error.message}")
            return
        yield from _read_envelopes(self._store, manifest)

    def _attach(self, release: Digest, envelope: bytes) -> None:
        attach_envelope(self._store, self._store.release_manifest(release), envelope)


def read_envelopes(store: ArtifactStore, manifest: bytes) -> Iterator[bytes]:
    """Every envelope that refers to an image manifest. Raises `DamagedContent`."""
    for read in _read_envelopes(store, manifest):
        if isinstance(read, DamagedContent):
            raise read
        yield read


def attach_envelope(store: ArtifactStore, manifest: bytes, envelope: bytes) -> None:
    """Let an envelope refer to an image manifest. Idempotent."""
    carrier = build_carrier(envelope, manifest)
    subject = sha256_digest(manifest)
    if any(item.digest == sha256_digest(carrier) for item in store.referrers(subject, ENVELOPE_TYPE)):
        return
    store.write([EMPTY_CONFIG])
    store.write([envelope])
    store.put_referrer(subject, carrier)


def copy_attestations(source: ArtifactStore, manifest: bytes, target: ArtifactStore, new_manifest: bytes) -> None:
    """Let the attestations of one image manifest of a release refer to another one of it too, if they are readable."""
    for envelope in _read_envelopes(source, manifest):
        if isinstance(envelope, bytes):
            attach_envelope(target, new_manifest, envelope)


def _read_envelopes(store: ArtifactStore, manifest: bytes) -> Iterator[bytes | DamagedContent]:
    """Each envelope, or what is wrong with its place; what other tools have attached is passed over."""
    for referrer in store.referrers(sha256_digest(manifest), ENVELOPE_TYPE):
        try:
            yield store.read_all(envelope_of(store.read_all(referrer.digest, MAX_CARRIER)), MAX_ENVELOPE)
        except InvalidRequest as error:
            log.info("the referrer %s is passed over: %s", referrer.digest, error.message)
        except NotFound as error:
            yield DamagedContent(f"an attestation is lost: {error.message}")
        except DamagedContent as error:
            yield error


def _promotion(deployment: Deployment, source: str) -> Statement:
    promotion = Promotion(source, deployment.ring, deployment.id, deployment.actor, deployment.created_at)
    return build_promotion(deployment.agent, deployment.digest, promotion)


def _trusted(keys: Sequence[KeyRecord]) -> list[TrustedKey]:
    return [
        TrustedKey(
            key.keyid, key.name, key.public, key.created_at, key.expires_at, key.revoked_at, instance=key.instance
        )
        for key in keys
    ]
