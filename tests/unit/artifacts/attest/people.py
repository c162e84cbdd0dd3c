"""Keys and statements for tests of attestations. The keys are fixed, so every signature is the same each time."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # it has no __all__

from turnout.artifacts.attest.envelope import Opened, read_envelope, sign_statement
from turnout.artifacts.attest.keys import SigningKey, TrustedKey, key_id
from turnout.artifacts.attest.predicates import (
    Promotion,
    Provenance,
    SuiteResult,
    VerificationSummary,
    build_approval,
    build_promotion,
    build_provenance,
    build_test_result,
    build_verification_summary,
)
from turnout.artifacts.attest.statement import Statement
from turnout.artifacts.digest import sha256_digest
from turnout.domain.models import Approval

NOW = 1_790_000_000.0
DAY = 86_400.0
AGENT = "support"
RELEASE = sha256_digest(b"a release")
OTHER = sha256_digest(b"another release")
GIT_SHA = "0123456789abcdef0123456789abcdef01234567"


def make_key(name: str, seed: bytes, *, instance: bool = False) -> SigningKey:
    """A key that is valid from a day before `NOW` until thirty days after it."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw().hex()
    trusted = TrustedKey(key_id(public), name, public, NOW - DAY, NOW + 30 * DAY, instance=instance)
    return SigningKey(trusted, CryptoSigner(private))


CI = make_key("ci", b"c" * 32)
ALICE = make_key("alice", b"a" * 32)
BOB = make_key("bob", b"b" * 32)
HOME = make_key("home", b"h" * 32, instance=True)
TRUSTED = (CI.key, ALICE.key, BOB.key, HOME.key)


def provenance() -> Statement:
    built = Provenance(
        builder="urn:turnout:builder:home",
        builder_version="0.1.0",
        user="carol",
        manifest=sha256_digest(b"turnout.toml"),
        components={"code": sha256_digest(b"code"), "config": sha256_digest(b"config")},
        started_at=NOW - 60,
        finished_at=NOW - 30,
        git_sha=GIT_SHA,
        repository="https://git.example/support",
    )
    return build_provenance(AGENT, RELEASE, built)


def suite(result: str = "PASSED", *, name: str = "evals/basic.yaml", at: float | None = NOW - 20) -> Statement:
    value = SuiteResult("FAILED", {name: sha256_digest(b"suite")}, ("greets",), (), ("refunds",), at)
    passed = replace(value, result="PASSED", failed=())
    return build_test_result(AGENT, RELEASE, passed if result == "PASSED" else value)


def approval(who: str, ring: str = "production", *, approved: bool = True, at: float = NOW - 10) -> Statement:
    return build_approval(Approval(AGENT, ring, RELEASE, who, approved, at, at + DAY, "looks good"))


def promotion(target: str = "production") -> Statement:
    return build_promotion(AGENT, RELEASE, Promotion("staging", target, "d-17", "alice", NOW - 5))


def summary(ring: str = "production", *, passed: bool = True) -> Statement:
    value = VerificationSummary(
        ring, "urn:turnout:instance:home", passed, NOW - 4, sha256_digest(b"policy"), (sha256_digest(b"envelope"),)
    )
    return build_verification_summary(AGENT, RELEASE, value)


EVERY_KIND = (provenance(), suite(), approval("alice"), promotion(), summary())


def opened(statement: Statement, key: SigningKey, now: float = NOW) -> Opened:
    """A statement that was signed and opened as one about its own release."""
    found = read_envelope(sign_statement(statement, key), TRUSTED, now, digest=statement.subject)
    assert isinstance(found, Opened), found
    return found
