"""The public half of a key, and the file that others trust it by."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.artifacts.attest.people import ALICE, CI, DAY, NOW
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.attest.keys import TrustedKey, export_public, key_id, parse_public
from turnout.domain.errors import InvalidRequest

FILE = export_public(ALICE.key)


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(FILE), **fields}).encode()


def test_the_file_is_small_and_holds_what_others_need() -> None:
    assert json.loads(FILE) == {
        "keyid": ALICE.key.keyid,
        "name": "alice",
        "algorithm": "ed25519",
        "public": ALICE.key.public,
        "created_at": "2026-09-20T14:13:20Z",
        "expires_at": "2026-10-21T14:13:20Z",
    }


def test_the_file_gives_the_key_again() -> None:
    assert parse_public(FILE) == ALICE.key
    assert parse_public(FILE, instance=True) == replace(ALICE.key, instance=True)


def test_the_key_id_is_that_of_securesystemslib() -> None:
    """Of the first key of RFC 8032, section 7.1."""
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key_id(public) == "74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916"


@pytest.mark.parametrize(
    "content",
    [
        changed(private="x"),
        changed(private_key="x"),
        changed(Secret="x"),
        CI.signer.private_bytes,
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
        changed(name="-----BEGIN OPENSSH PRIVATE KEY-----"),
    ],
)
def test_a_private_key_is_never_taken_and_never_shown(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="holds a private key") as caught:
        parse_public(content)
    assert content.decode()[-40:] not in str(caught.value)


def test_no_private_half_passes_unnoticed() -> None:
    raw = CI.signer._private_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex()
    with pytest.raises(InvalidRequest, match="is not that of the public key"):
        parse_public(changed(public=raw))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b" " * 70_000,
        changed(extra=1),
        changed(algorithm="rsa"),
        changed(keyid=CI.key.keyid),
        changed(keyid=ALICE.key.keyid.upper()),
        changed(public=CI.key.public),
        changed(public="00"),
        changed(name=""),
        changed(name="alice\x1b[2J"),
        changed(name=None),
        changed(created_at="yesterday"),
        changed(created_at=NOW),
        changed(expires_at="2026-09-20T14:13:20Z"),
        FILE.replace(b'"name":', b'"name":"bob","name":'),
    ],
)
def test_a_file_that_is_not_exactly_that_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_public(content)


@settings(PATIENT)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_changed_byte_never_gives_another_key(position: int, difference: int) -> None:
    """The name and the times are not part of the key; its digits are."""
    content = bytearray(FILE)
    content[position] ^= difference
    try:
        found = parse_public(bytes(content))
    except InvalidRequest:
        return
    assert (found.keyid, found.public) == (ALICE.key.keyid, ALICE.key.public)


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e18])
def test_a_key_has_times_that_exist(at: float) -> None:
    with pytest.raises(InvalidRequest):
        replace(ALICE.key, revoked_at=at)


def test_a_key_cannot_be_under_the_id_of_another() -> None:
    with pytest.raises(InvalidRequest, match="is not that of the public key of bob"):
        TrustedKey(ALICE.key.keyid, "bob", CI.key.public, NOW, NOW + DAY)
