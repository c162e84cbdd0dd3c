"""Envelopes: what opens, what does not, and why not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope

from tests.unit.artifacts.attest.people import (
    AGENT,
    ALICE,
    BOB,
    CI,
    DAY,
    EVERY_KIND,
    HOME,
    NOW,
    OTHER,
    RELEASE,
    TRUSTED,
    approval,
    make_key,
    provenance,
    suite,
)
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.attest.envelope import (
    CLOCK_SKEW,
    MAX_ENVELOPE,
    Fault,
    FaultCode,
    Opened,
    claimed_type,
    read_envelope,
    sign_statement,
)
from turnout.artifacts.attest.keys import SigningKey, TrustedKey
from turnout.artifacts.attest.predicates import Provenance, build_provenance, facts_of
from turnout.artifacts.attest.statement import KINDS, Statement, statement_content
from turnout.artifacts.digest import canonical_json, sha256_digest
from turnout.domain.errors import InvalidRequest

ENVELOPE = sign_statement(provenance(), CI)


def fault(content: bytes, trusted: tuple[TrustedKey, ...] = TRUSTED, now: float = NOW) -> Fault:
    found = read_envelope(content, trusted, now, digest=RELEASE)
    assert isinstance(found, Fault), found
    assert found.envelope == sha256_digest(content)
    assert found.sentence
    return found


def signed(payload: bytes, *keys: SigningKey, payload_type: str = "application/vnd.in-toto+json") -> bytes:
    """Any bytes, signed without a look at them."""
    envelope = Envelope(payload, payload_type, {})
    for key in keys:
        envelope.sign(key.signer)
    return canonical_json(envelope.to_dict())


def edited(edit: Callable[[dict[str, Any]], object], content: bytes = ENVELOPE) -> bytes:
    document = json.loads(content)
    edit(document)
    return canonical_json(document)


def test_the_signature_is_the_one_of_the_test_vector() -> None:
    """The key is the first of RFC 8032, section 7.1; its id and this signature must never change."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = make_key("vector", seed)
    assert key.key.public == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.key.keyid == "74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916"
    statement = build_provenance(AGENT, RELEASE, Provenance("urn:turnout:builder:vector", finished_at=NOW))
    envelope = json.loads(sign_statement(statement, key))
    assert (
        sha256_digest(base64.b64decode(envelope["payload"]))
        == "sha256:6df087d042b99ecea7110d91c831fd98e18bd06d55d773d238aadf4c8fa4c985"
    )
    assert envelope["signatures"] == [
        {
            "keyid": key.key.keyid,
            "sig": "wSPGTiVSviMmOIAVZ4PtAr+Kkeivql3f7E0uT7wKkjMh4LVbNw3fdstecxWRvLbEOxCHmrLKxAIOekm2feArDA==",
        }
    ]


def test_the_signature_is_over_what_dsse_says() -> None:
    document = json.loads(ENVELOPE)
    payload = base64.b64decode(document["payload"])
    covered = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(CI.key.public))
    public.verify(base64.b64decode(document["signatures"][0]["sig"]), covered)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(document["signatures"][0]["sig"]), payload)


@pytest.mark.parametrize("statement", EVERY_KIND, ids=KINDS)
def test_a_signed_statement_opens_as_it_was(statement: Statement) -> None:
    content = sign_statement(statement, HOME)
    found = read_envelope(content, TRUSTED, NOW, digest=RELEASE)
    assert found == Opened(statement, facts_of(statement), HOME.key, sha256_digest(content))


def test_the_envelope_is_canonical_json_of_in_toto() -> None:
    document = json.loads(ENVELOPE)
    assert canonical_json(document) == ENVELOPE
    assert document["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(document["payload"]) == statement_content(provenance())


def test_any_flipped_bit_keeps_an_envelope_shut() -> None:
    for position in range(len(ENVELOPE)):
        changed = bytearray(ENVELOPE)
        changed[position] ^= 1 << position % 8
        fault(bytes(changed))


@settings(PATIENT)
@given(st.integers(0, len(ENVELOPE) - 1), st.integers(1, 255))
def test_any_changed_byte_keeps_an_envelope_shut(position: int, difference: int) -> None:
    changed = bytearray(ENVELOPE)
    changed[position] ^= difference
    fault(bytes(changed))


@settings(PATIENT)
@given(st.integers(0, len(ENVELOPE) - 1))
def test_a_truncated_envelope_is_malformed(length: int) -> None:
    assert fault(ENVELOPE[:length]).code is FaultCode.MALFORMED


@settings(PATIENT)
@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b"\xff\xfe{\x00}\x00")
def test_what_is_no_envelope_is_malformed(content: bytes) -> None:
    assert fault(content).code is FaultCode.MALFORMED


def test_the_unused_bits_of_base64_are_not_free() -> None:
    """The last sign before the padding holds bits that no byte gets; another sign there would decode to the same."""
    text = json.loads(ENVELOPE)["signatures"][0]["sig"]
    assert text.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = text[:-3] + alphabet[alphabet.index(text[-3]) ^ 1] + "=="
    assert base64.b64decode(other, validate=True) == base64.b64decode(text)
    found = fault(edited(lambda document: document["signatures"][0].update(sig=other)))
    assert found.code is FaultCode.MALFORMED
    assert "canonical" in found.sentence


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document.update(extra=1),
        lambda document: document.update(payload=None),
        lambda document: document.update(payload="a b"),
        lambda document: document.pop("payloadType"),
        lambda document: document.update(signatures=[]),
        lambda document: document.update(signatures=document["signatures"] * 2),
        lambda document: document.update(signatures=[{**document["signatures"][0], "keyid": "\x1b[2J"}]),
        lambda document: document.update(
            signatures=[{**document["signatures"][0], "keyid": f"{number}"} for number in range(17)]
        ),
        lambda document: document["signatures"][0].update(cert="x"),
    ],
)
def test_the_shape_is_strict(edit: Callable[[dict[str, Any]], object]) -> None:
    assert fault(edited(edit)).code is FaultCode.MALFORMED


def test_a_name_that_occurs_twice_is_malformed() -> None:
    found = fault(ENVELOPE.replace(b'{"payload":', b'{"payloadType":"x","payload":', 1))
    assert (found.code, "twice" in found.sentence) == (FaultCode.MALFORMED, True)


def test_nothing_that_a_sentence_shows_can_command_a_terminal() -> None:
    contents = [
        edited(lambda document: document.update({"\x1b[2J": 1})),
        edited(lambda document: document.update(payloadType="\x1b[2J")),
        signed(statement_content(replace(provenance(), predicate_type="\x1b[2J")), CI),
    ]
    for content in contents:
        assert fault(content).sentence.isprintable()


def test_an_envelope_that_is_too_large_is_not_even_read() -> None:
    found = fault(b" " * (MAX_ENVELOPE + 1))
    assert "larger than" in found.sentence


def test_another_payload_type_is_foreign() -> None:
    found = fault(signed(statement_content(provenance()), CI, payload_type="text/plain"))
    assert found.code is FaultCode.FOREIGN_TYPE
    assert "text/plain" in found.sentence


def test_a_signature_holds_for_its_payload_type_only() -> None:
    content = signed(statement_content(provenance()), CI, payload_type="text/plain")
    found = fault(edited(lambda document: document.update(payloadType="application/vnd.in-toto+json"), content))
    assert found.code is FaultCode.BAD_SIGNATURE


def test_an_unknown_key_is_named() -> None:
    mallory = make_key("mallory", b"m" * 32)
    found = fault(sign_statement(provenance(), mallory))
    assert found.code is FaultCode.UNKNOWN_KEY
    assert found.keyids == (mallory.key.keyid,)
    assert found.signer is None
    assert found.sentence == f"the provenance is signed by no trusted key, only by {mallory.key.keyid[:12]}"


def test_without_trusted_keys_nothing_opens() -> None:
    assert fault(ENVELOPE, ()).code is FaultCode.UNKNOWN_KEY


def test_the_signature_of_another_key_under_a_trusted_id_is_bad() -> None:
    forged = sign_statement(provenance(), make_key("mallory", b"m" * 32))
    found = fault(edited(lambda document: document["signatures"][0].update(keyid=CI.key.keyid), forged))
    assert found.code is FaultCode.BAD_SIGNATURE
    assert found.signer == CI.key
    assert found.sentence == f"the provenance is not what the key {CI.key.keyid[:12]} (ci) signed: it was changed"


def test_a_changed_payload_is_a_bad_signature() -> None:
    lie = base64.b64encode(statement_content(replace(provenance(), agent="another"))).decode()
    assert fault(edited(lambda document: document.update(payload=lie))).code is FaultCode.BAD_SIGNATURE


@pytest.mark.parametrize("length", [0, 1, 63, 65])
def test_a_signature_of_the_wrong_length_is_bad(length: int) -> None:
    short = base64.b64encode(bytes(length)).decode()
    found = fault(edited(lambda document: document["signatures"][0].update(sig=short)))
    assert found.code is FaultCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("key", "code", "reason"),
    [
        (replace(CI.key, expires_at=NOW), FaultCode.KEY_EXPIRED, "expired on 2026-09-21T14:13:20Z"),
        (replace(CI.key, revoked_at=NOW - 5), FaultCode.KEY_REVOKED, "was revoked on 2026-09-21T14:13:15Z"),
        (replace(CI.key, revoked_at=NOW + DAY), FaultCode.KEY_REVOKED, "was revoked on"),
        (
            replace(CI.key, created_at=NOW + CLOCK_SKEW + 1),
            FaultCode.KEY_NOT_YET_VALID,
            "is valid from 2026-09-21T14:14:21Z only",
        ),
    ],
)
def test_a_key_must_be_valid_now(key: TrustedKey, code: FaultCode, reason: str) -> None:
    found = fault(ENVELOPE, (key,))
    assert found.code is code
    assert found.signer == key
    assert f"the provenance is signed by key {key.label}, which {reason}" in found.sentence


def test_the_bounds_of_a_key() -> None:
    last, first = CI.key.expires_at - 0.001, CI.key.created_at - CLOCK_SKEW
    for now in (last, first):
        assert isinstance(read_envelope(ENVELOPE, TRUSTED, now, digest=RELEASE), Opened)
    assert fault(ENVELOPE, now=CI.key.expires_at).code is FaultCode.KEY_EXPIRED
    assert fault(ENVELOPE, now=first - 1).code is FaultCode.KEY_NOT_YET_VALID


@pytest.mark.parametrize("backwards", [False, True])
def test_a_key_that_is_listed_twice_is_revoked_when_one_says_so(backwards: bool) -> None:
    keys = (CI.key, replace(CI.key, revoked_at=NOW))
    assert fault(ENVELOPE, keys[::-1] if backwards else keys).code is FaultCode.KEY_REVOKED


def test_an_attestation_of_another_release_is_a_replay() -> None:
    found = read_envelope(ENVELOPE, TRUSTED, NOW, digest=OTHER)
    assert isinstance(found, Fault)
    assert found.code is FaultCode.OTHER_DIGEST
    assert found.sentence == (
        f"the provenance signed by key {CI.key.label} is about another release, {RELEASE.removeprefix('sha256:')[:12]}"
    )


def test_a_statement_of_an_unknown_type_is_named() -> None:
    found = fault(signed(statement_content(Statement(AGENT, RELEASE, "https://example.com/sbom/v1", {})), CI))
    assert found.code is FaultCode.UNKNOWN_STATEMENT
    assert '"https://example.com/sbom/v1"' in found.sentence


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"\xff", statement_content(replace(approval("alice"), predicate={"ring": "production"}))]
)
def test_a_signature_does_not_make_a_malformed_statement_good(payload: bytes) -> None:
    found = fault(signed(payload, CI))
    assert found.code is FaultCode.MALFORMED_STATEMENT
    assert CI.key.label in found.sentence


def test_one_good_signature_of_several_is_enough() -> None:
    content = signed(statement_content(provenance()), make_key("mallory", b"m" * 32), BOB, CI)
    revoked = (replace(BOB.key, revoked_at=NOW), CI.key)
    found = read_envelope(content, revoked, NOW, digest=RELEASE)
    assert isinstance(found, Opened)
    assert found.signer == CI.key


def test_a_bad_signature_of_a_known_key_is_never_passed_over() -> None:
    content = signed(statement_content(provenance()), ALICE, CI)
    for position in (0, 1):
        bad = base64.b64encode(bytes(64)).decode()
        found = fault(edited(lambda document: document["signatures"][position].update(sig=bad), content))  # noqa: B023
        assert found.code is FaultCode.BAD_SIGNATURE


def test_what_could_not_be_read_back_is_not_signed() -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        sign_statement(replace(approval("alice"), predicate={}), ALICE)
    with pytest.raises(InvalidRequest, match="larger than"):
        sign_statement(replace(suite(), predicate={**suite().predicate, "passedTests": ["x" * 1_000_000]}), CI)


def test_a_label_is_read_without_any_key() -> None:
    assert claimed_type(ENVELOPE) == KINDS["provenance"]
    assert claimed_type(b"{}") is None
    assert claimed_type(signed(b"{}", CI)) is None


def test_a_signing_key_does_not_show_itself() -> None:
    assert "signer" not in repr(CI)
