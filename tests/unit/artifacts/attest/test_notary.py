"""Attestations beside a release: taken in, made by the instance, and held against what a ring demands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.artifacts.attest.people import (
    AGENT,
    ALICE,
    BOB,
    CI,
    DAY,
    HOME,
    NOW,
    approval,
    make_key,
    promotion,
    provenance,
    suite,
)
from turnout.artifacts.attest.carrier import ENVELOPE_TYPE, build_carrier, envelope_of
from turnout.artifacts.attest.envelope import MAX_ENVELOPE, sign_statement
from turnout.artifacts.attest.keys import SigningKey, export_public
from turnout.artifacts.attest.notary import StoreNotary, copy_attestations, read_envelopes
from turnout.artifacts.attest.statement import Statement
from turnout.artifacts.chunks.bundle import BUNDLE_TYPE, file_chunks, write_bundles
from turnout.artifacts.chunks.index import ChunkRef
from turnout.artifacts.digest import canonical_json, sha256_digest
from turnout.artifacts.document import EMPTY_CONFIG, build_image_manifest
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.intake import Intake
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Approval, ComponentRef, Deployment, Digest, Kind, Release, ReleaseSpec
from turnout.domain.phases import Phase
from turnout.ports import Assessment, KeyRecord

STRANGER = make_key("mallory", b"m" * 32)


def record(key: SigningKey, **changes: Any) -> KeyRecord:
    public = key.key
    known = KeyRecord(
        public.keyid, public.name, public.public, public.created_at, public.expires_at, public.instance, "ann", NOW
    )
    return replace(known, **changes)


KEYS = tuple(record(key) for key in (CI, ALICE, BOB, HOME))


@dataclass
class Desk:
    """A notary with one release in its store."""

    store: MemoryArtifactStore
    notary: StoreNotary
    release: Release
    manifest: bytes
    unlocked: list[str]

    @property
    def digest(self) -> Digest:
        return self.release.digest

    def signed(self, statement: Statement, key: SigningKey = CI) -> bytes:
        """A statement of `people` as one about this release."""
        return sign_statement(replace(statement, subject=self.digest), key)

    def accept(self, envelope: bytes, keys: Sequence[KeyRecord] = KEYS) -> str | None:
        return self.notary.accept(self.digest, envelope, keys, NOW)

    def assess(
        self, *demanded: str, ring: str | None = "production", keys: Sequence[KeyRecord] = KEYS, approvals: int = 0
    ) -> Assessment:
        return self.notary.assess(self.release, ring, demanded, keys, NOW, approvals)

    def attach(self, envelope: bytes) -> Digest:
        """As somebody would who writes to the registry itself."""
        self.store.write([EMPTY_CONFIG])
        self.store.write([envelope])
        return self.store.put_referrer(sha256_digest(self.manifest), build_carrier(envelope, self.manifest))

    def flip(self, blob: Digest) -> None:
        content = bytearray(self.store.blobs[blob])
        content[len(content) // 2] ^= 1
        self.store.blobs[blob] = bytes(content)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    store = MemoryArtifactStore()
    unlocked: list[str] = []
    built = build(write_agent(tmp_path / "agent"), store)
    spec = ReleaseSpec(AGENT, ("python", "server.py"), ())
    release = Release(built.digest, AGENT, "v1", built.components, spec, author="carol", created_at=NOW)

    def unlock() -> SigningKey:
        unlocked.append("instance")
        return HOME

    return Desk(store, StoreNotary(store, unlock), release, built.manifest, unlocked)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_public_key_becomes_a_record(desk: Desk) -> None:
    found = desk.notary.read_key(export_public(ALICE.key), instance=False, added_by="ann", now=NOW)
    assert found == record(ALICE)
    assert desk.notary.read_key(export_public(HOME.key), instance=True, added_by="ann", now=NOW) == record(HOME)


@pytest.mark.parametrize("content", [b"", b"{}", b"-----BEGIN PRIVATE KEY-----", b'{"private": "x"}'])
def test_anything_else_is_no_public_key(desk: Desk, content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        desk.notary.read_key(content, instance=False, added_by="ann", now=NOW)


# --- taking in -------------------------------------------------------------------------------------------------------


def test_what_a_trusted_key_signed_is_kept_and_counts(desk: Desk) -> None:
    envelope = desk.signed(provenance())
    assert desk.accept(envelope) is None
    found = desk.assess("provenance")
    assert found.problems == ()
    (only,) = found.attestations
    assert (only.kind, only.signer, only.keyid, only.counts, only.verdict) == (
        "provenance",
        "ci",
        CI.key.keyid,
        True,
        "good",
    )
    assert only.envelope == sha256_digest(envelope)
    assert list(read_envelopes(desk.store, desk.manifest)) == [envelope]


def test_taking_the_same_in_again_changes_nothing(desk: Desk) -> None:
    envelope = desk.signed(provenance())
    desk.accept(envelope)
    before = dict(desk.store.blobs)
    assert desk.accept(envelope) is None
    assert desk.store.blobs == before
    assert len(desk.assess().attestations) == 1


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ((), "signed by no trusted key"),
        ((record(CI, revoked_at=NOW - 5),), "was revoked on"),
        ((record(CI, expires_at=NOW - 1),), "expired on"),
        ((record(CI, created_at=NOW + 3600),), "is valid from"),
    ],
)
def test_what_does_not_count_now_is_kept_with_a_note(desk: Desk, keys: tuple[KeyRecord, ...], note: str) -> None:
    assert note in (desk.accept(desk.signed(provenance()), keys) or "")
    found = desk.assess("provenance", keys=keys)
    assert [note in problem for problem in found.problems] == [True]
    assert [item.counts for item in found.attestations] == [False]
    assert desk.assess("provenance").problems == ()  # as soon as the key is good


def flipped(envelope: bytes) -> bytes:
    document = json.loads(envelope)
    signature = document["signatures"][0]["sig"]
    document["signatures"][0]["sig"] = ("B" if signature[0] == "A" else "A") + signature[1:]
    return canonical_json(document)


def test_what_can_never_count_is_not_taken(desk: Desk) -> None:
    before = dict(desk.store.blobs)
    refused = {
        b"": "cannot be read",
        b"{}": "cannot be read",
        b"x" * (MAX_ENVELOPE + 1): "",
        sign_statement(provenance(), CI): "is about another release",
        flipped(desk.signed(provenance())): "it was changed",
    }
    for envelope, why in refused.items():
        with pytest.raises(InvalidRequest, match=f"this attestation is not taken: .*{why}"):
            desk.accept(envelope)
    assert desk.store.blobs == before


# --- made by the instance --------------------------------------------------------------------------------------------


def deployment(desk: Desk, source: str | None = "staging") -> Deployment:
    kind = Kind.PROMOTE if source else Kind.DEPLOY
    asked = Deployment("dep_7", AGENT, "production", desk.digest, kind, Phase.BUILDING, "alice", NOW - 9, NOW - 9)
    return replace(asked, source_ring=source)


def decision(desk: Desk, who: str, *, approved: bool = True, at: float = NOW - 10.125) -> Approval:
    return Approval(AGENT, "production", desk.digest, who, approved, at, at + DAY, "fine")


def test_the_instance_attests_approvals_and_the_promotion(desk: Desk) -> None:
    desk.notary.attest(deployment(desk), [decision(desk, "bob"), decision(desk, "dave")])
    found = desk.assess("approval", approvals=2)
    assert found.problems == ()
    assert sorted((item.kind, item.signer, item.counts) for item in found.attestations) == [
        ("approval", "home", True),
        ("approval", "home", True),
        ("promotion", "home", True),
    ]


def test_the_same_decision_is_attested_once_however_often(desk: Desk) -> None:
    for _ in range(3):
        desk.notary.attest(deployment(desk), [decision(desk, "bob")])
    assert len(desk.assess().attestations) == 2


def test_a_deployment_without_decisions_needs_no_key(desk: Desk) -> None:
    desk.notary.attest(deployment(desk, source=None), [])
    assert desk.unlocked == []
    assert desk.assess().attestations == ()


def test_too_few_approvals_the_authors_own_and_a_rejection_do_not_satisfy(desk: Desk) -> None:
    assert desk.assess("approval", approvals=1).problems == ("no approval for production signed by a trusted key",)
    desk.notary.attest(deployment(desk), [decision(desk, "carol")])
    assert "somebody other than the author, carol" in desk.assess("approval").problems[0]
    desk.notary.attest(deployment(desk), [decision(desk, "bob")])
    assert desk.assess("approval").problems == ()
    assert desk.assess("approval", approvals=3).problems[0].startswith("2 of 3 signed approvals")
    desk.notary.attest(deployment(desk), [decision(desk, "bob", approved=False, at=NOW - 5)])
    assert desk.assess("approval").problems == ("bob rejected this release for production",)


def test_an_approval_for_one_ring_is_none_for_another(desk: Desk) -> None:
    desk.notary.attest(deployment(desk), [decision(desk, "bob")])
    assert desk.assess("approval", ring="staging").problems == (
        "an approval for production does not count for staging",
    )


def test_a_person_cannot_speak_for_the_instance(desk: Desk) -> None:
    """Bob's key says that Alice approved, and that something was promoted."""
    desk.attach(desk.signed(approval("alice"), BOB))
    desk.attach(desk.signed(promotion(), BOB))
    found = desk.assess("approval")
    assert "which speaks for bob only" in found.problems[0]
    assert not any(item.counts for item in found.attestations)


def test_nothing_counts_after_the_instances_key_is_revoked(desk: Desk) -> None:
    desk.notary.attest(deployment(desk), [decision(desk, "bob")])
    keys = [record(HOME, revoked_at=NOW), record(ALICE)]
    assert "was revoked" in desk.assess("approval", keys=keys).problems[0]


# --- assessing -------------------------------------------------------------------------------------------------------


def test_without_a_ring_nothing_is_missing(desk: Desk) -> None:
    found = desk.assess("provenance", ring=None)
    assert found == Assessment((), ())


def test_what_is_missing_is_said_by_kind(desk: Desk) -> None:
    assert desk.assess("provenance", "test-result").problems == (
        "no provenance signed by a trusted key",
        "no test result signed by a trusted key",
    )


def test_a_failed_test_result_stands_until_a_newer_one(desk: Desk) -> None:
    desk.accept(desk.signed(suite(at=NOW - 20)))
    desk.accept(desk.signed(suite("FAILED", at=NOW - 10)))
    assert "says FAILED: refunds" in desk.assess("test-result").problems[0]
    desk.accept(desk.signed(suite(at=NOW - 5)))
    assert desk.assess("test-result").problems == ()


def test_what_strangers_attach_neither_counts_nor_hinders(desk: Desk) -> None:
    for envelope in (
        desk.signed(provenance(), STRANGER),
        sign_statement(provenance(), CI),  # about another release: replayed
        flipped(desk.signed(suite())),
    ):
        desk.attach(envelope)
    found = desk.assess("provenance")
    assert not any(item.counts for item in found.attestations)
    assert any("signed by no trusted key" in problem for problem in found.problems)
    assert any("is about another release" in problem for problem in found.problems)
    desk.accept(desk.signed(provenance()))
    assert desk.assess("provenance").problems == ()


def test_what_other_tools_attach_is_passed_over(desk: Desk) -> None:
    odd = {**json.loads(build_carrier(desk.signed(provenance()), desk.manifest)), "layers": []}
    desk.store.write([EMPTY_CONFIG])
    desk.store.put_referrer(sha256_digest(desk.manifest), canonical_json(odd))
    assert desk.assess("provenance").attestations == ()
    assert desk.assess(ring=None).problems == ()


def test_a_damaged_attestation_is_named_and_a_problem_even_if_another_is_good(desk: Desk) -> None:
    envelope = desk.signed(provenance())
    carrier = desk.attach(envelope)
    desk.accept(desk.signed(provenance(), ALICE))
    for blob in (sha256_digest(envelope), carrier):
        desk.flip(blob)
        assert any(blob in problem for problem in desk.assess("provenance").problems)
        assert any(blob in problem for problem in desk.assess(ring=None).problems)
        desk.flip(blob)
    assert desk.assess("provenance").problems == ()


def test_a_lost_attestation_is_a_problem(desk: Desk) -> None:
    envelope = desk.signed(provenance())
    desk.attach(envelope)
    del desk.store.blobs[sha256_digest(envelope)]
    assert "an attestation is lost" in " ".join(desk.assess("provenance").problems)


def test_a_damaged_image_manifest_leaves_a_release_without_attestations(desk: Desk) -> None:
    desk.accept(desk.signed(provenance()))
    desk.flip(sha256_digest(desk.manifest))
    found = desk.assess("provenance")
    assert found.attestations == ()
    assert found.problems[0] == "no provenance signed by a trusted key"
    assert sha256_digest(desk.manifest) in found.problems[1]


def test_a_release_that_is_not_recorded_has_no_attestations(desk: Desk) -> None:
    desk.release = replace(desk.release, digest=sha256_digest(b"elsewhere"))
    assert "is not recorded" in " ".join(desk.assess("provenance").problems)


# --- another image manifest of the same release ----------------------------------------------------------------------


def other_manifest(desk: Desk) -> bytes:
    """The release's data in one more bundle."""
    bundle = desk.store.write([b"a bundle"])
    ref = ComponentRef(bundle, BUNDLE_TYPE, 8)
    return build_image_manifest(desk.store.read_all(desk.digest), desk.release.components, [ref])


def test_attestations_are_copied_to_another_image_manifest_of_the_release(desk: Desk) -> None:
    desk.accept(desk.signed(provenance()))
    desk.accept(desk.signed(suite("FAILED")))
    before = {item.envelope for item in desk.assess().attestations}
    manifest = other_manifest(desk)
    for _ in range(2):
        copy_attestations(desk.store, desk.manifest, desk.store, manifest)
    carriers = desk.store.referrers(sha256_digest(manifest), ENVELOPE_TYPE)
    assert {envelope_of(desk.store.read_all(item.digest)) for item in carriers} == before
    assert {sha256_digest(envelope) for envelope in read_envelopes(desk.store, manifest)} == before
    assert desk.store.referrers(sha256_digest(desk.manifest), ENVELOPE_TYPE) != carriers


def test_a_push_with_other_bundles_loses_no_attestation(desk: Desk, tmp_path: Path) -> None:
    """Neither one that a ring demands, nor one that speaks against the release."""
    desk.accept(desk.signed(provenance()))
    desk.accept(desk.signed(suite("FAILED")))
    before = desk.assess("provenance", "test-result")
    parts = build(tmp_path / "agent")
    assert parts.data is not None
    other = ChunkRef(hashlib.sha256(b"other").digest(), 5)
    chunks = [*parts.data.read(list(parts.data.index.places)), (other, b"other")]
    (bundle,) = [desk.store.write(file_chunks(made.file)) for made in write_bundles(chunks, tmp_path)]
    manifest = Intake(desk.store).record(desk.digest, [bundle], [desk.digest])
    assert manifest != desk.manifest
    assert desk.store.release_manifest(desk.digest) == manifest
    assert desk.assess("provenance", "test-result") == before
    assert len(before.attestations) == 2
