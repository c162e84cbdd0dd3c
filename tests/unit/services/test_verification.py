"""What a ring demands is there before a release starts in it, whichever way the release comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.live import wait_until
from tests.unit.artifacts.attest.people import ALICE, CI, DAY, HOME, OTHER, make_key, provenance, suite
from tests.unit.controller.stage import ADMIN, BOB
from tests.unit.domain.values import AGENT
from tests.unit.services.signed import DEMANDING, SigningStage, events, signing_stage
from turnout.artifacts.attest.envelope import sign_statement
from turnout.artifacts.attest.keys import SigningKey
from turnout.artifacts.attest.notary import StoreNotary
from turnout.domain.errors import Forbidden, InvalidRequest, NotFound, PolicyRefused
from turnout.domain.policy import Role
from turnout.services.deployments import Wish, deploy, preview
from turnout.services.keys import revoke_key
from turnout.services.office import Actor
from turnout.services.verification import attest_release, verify_release

LAX = "[rings.dev]\n"
STRANGER = make_key("mallory", b"m" * 32)
TO_PRODUCTION = "[rings.dev]\n[rings.production]\n"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[SigningStage]:
    with signing_stage(tmp_path) as stage:
        yield stage


def failure(stage: SigningStage, deployment: str) -> str:
    """Why a deployment failed."""
    state, reason = stage.transitions(deployment)[-1]
    assert state == "failed", (state, reason)
    return reason


# --- at the gate -----------------------------------------------------------------------------------------------------


def test_a_signed_release_starts_where_provenance_is_demanded(stage: SigningStage) -> None:
    signed = stage.push(signer=CI)
    done = stage.deploy(signed)
    assert stage.state(done) == "active"
    assert ("deploying", "no approval is needed; provenance verified") in stage.transitions(done)
    assert stage.verified == [("provenance",)]


@pytest.mark.parametrize("signer", [None, STRANGER])
def test_one_without_a_trusted_signature_is_refused_and_never_starts(
    stage: SigningStage, signer: SigningKey | None
) -> None:
    unsigned = stage.push(signer=signer)
    with pytest.raises(PolicyRefused, match="provenance"):
        stage.deploy(unsigned)
    stage.look()
    assert stage.runtime.calls == []


def test_a_dry_run_says_so_too(stage: SigningStage) -> None:
    unsigned, signed = stage.push(), stage.push(signer=CI)
    with pytest.raises(PolicyRefused, match="no provenance signed by a trusted key"):
        preview(stage.office, ADMIN, Wish(AGENT, "dev", unsigned.digest))
    assert "verify: provenance, signed by keys that are trusted" in " ".join(
        preview(stage.office, ADMIN, Wish(AGENT, "dev", signed.digest))["steps"]
    )


def test_an_attestation_of_another_release_is_neither_taken_nor_counted(stage: SigningStage) -> None:
    unsigned = stage.push()
    with pytest.raises(InvalidRequest, match="is about another release"):
        attest_release(stage.office, ADMIN, AGENT, unsigned.digest, sign_statement(provenance(), CI))
    assert provenance().subject != OTHER


@pytest.mark.parametrize("role", [Role.VIEWER, Role.APPROVER])
def test_only_who_builds_may_attach(stage: SigningStage, role: Role) -> None:
    release = stage.push()
    with pytest.raises(Forbidden):
        attest_release(stage.office, Actor("x", role), AGENT, release.digest, b"")


def test_a_failed_test_result_shuts_a_ring_that_demands_them(stage: SigningStage) -> None:
    release = stage.push('[rings.dev]\nrequire = ["test-result"]\n')
    stage.attest(release, suite("FAILED"))
    with pytest.raises(PolicyRefused, match="says FAILED: refunds"):
        stage.deploy(release)


# --- after the gate --------------------------------------------------------------------------------------------------


def test_a_key_revoked_after_the_gate_still_counts_for_nothing(stage: SigningStage) -> None:
    signed = stage.push(signer=CI)
    asked = stage.deploy(signed, look=False)
    revoke_key(stage.office, ADMIN, CI.key.keyid)
    stage.look()
    assert "dev demands provenance: the provenance is signed by key" in failure(stage, asked)
    assert not stage.started(signed)


def test_an_attestation_damaged_after_the_gate_is_found(stage: SigningStage) -> None:
    signed = stage.push(signer=CI)
    asked = stage.deploy(signed, look=False)
    (found,) = verify_release(stage.office, ADMIN, AGENT, signed.digest, None)["attestations"]
    envelope = next(digest for digest in stage.artifacts.blobs if digest == found["envelope"])
    stage.artifacts.blobs[envelope] = stage.artifacts.blobs[envelope][:-1]
    stage.look()
    assert found["envelope"] in failure(stage, asked)
    assert not stage.started(signed)


def test_a_server_that_is_started_anew_verifies_again(stage: SigningStage) -> None:
    signed = stage.push(signer=CI)
    asked = stage.deploy(signed, look=False)

    def hold(effect: str) -> None:
        """The old server ends before it has verified."""
        if effect == "before Verify":
            stage.jobs.go.clear()

    stage.on_effect = hold
    wait_until(lambda: stage.reconciler.reconcile(AGENT, "dev") > 0 and ("verify", asked) in stage.jobs.started, 20)
    revoke_key(stage.office, ADMIN, CI.key.keyid)
    second = stage.another_server("two")
    stage.clock.at += 60
    second.look()
    stage.jobs.go.set()
    assert "was revoked" in failure(stage, asked)
    assert not stage.started(signed)


def test_what_runs_goes_on_when_its_key_is_revoked_or_expires(stage: SigningStage) -> None:
    first, second = stage.push(signer=ALICE), stage.push(signer=CI)
    stage.deploy(first)
    stage.deploy(second)
    revoke_key(stage.office, ADMIN, CI.key.keyid)
    revoke_key(stage.office, ADMIN, ALICE.key.keyid)
    stage.pass_time(40 * DAY)
    assert stage.answers() == (200, second.digest)
    stage.roll_back()
    assert stage.answers() == (200, first.digest)  # last-good is warm: no gate between it and the callers


# --- ways around -----------------------------------------------------------------------------------------------------


def test_a_release_cannot_lower_the_bar_for_itself(stage: SigningStage) -> None:
    stage.deploy(stage.push(signer=CI))
    lax = stage.push(LAX)
    with pytest.raises(PolicyRefused, match="no provenance"):
        stage.deploy(lax)
    assert not stage.started(lax)


def test_a_promotion_is_held_against_its_own_ring(stage: SigningStage) -> None:
    rings = "[rings.dev]\n[rings.production]\nrequire = ['provenance']\n"
    release = stage.push(rings)
    stage.deploy(release)
    with pytest.raises(PolicyRefused, match="no provenance"):
        stage.promote("dev", "production")
    stage.attest(release, provenance())
    assert stage.state(stage.promote("dev", "production")) == "active"


def test_a_rollback_to_a_cold_release_is_verified(stage: SigningStage) -> None:
    old = stage.push(LAX)
    stage.deploy(old)
    for _ in range(2):
        stage.deploy(stage.push(signer=CI))
    stage.pass_time(1_000)
    assert stage.running() == sorted(name for name in stage.running() if old.digest[7:19] not in name)
    stage.runtime.calls.clear()
    asked = stage.roll_back(version=old.version)
    assert "dev demands provenance: no provenance" in failure(stage, asked)
    assert not stage.started(old)
    asked = stage.roll_back(version=old.version, override="nothing else works")
    assert stage.state(asked) == "active"
    assert stage.deployment(asked).override == "nothing else works"


def test_an_admins_override_is_recorded_with_what_it_passed_over(stage: SigningStage) -> None:
    unsigned = stage.push()
    operator = Actor("olga", Role.OPERATOR)
    with pytest.raises(Forbidden):
        deploy(stage.office, operator, Wish(AGENT, "dev", unsigned.digest, override="must"))
    asked = stage.deploy(unsigned, override="the signer is down")
    assert stage.state(asked) == "active"
    (told,) = events(stage.office, "policy.overridden")
    assert told["reason"] == "the signer is down"
    assert "no provenance" in " ".join(told["overridden"])


def test_an_override_that_was_not_needed_opens_nothing(stage: SigningStage) -> None:
    signed = stage.push(signer=CI)
    asked = stage.deploy(signed, look=False, override="just in case")
    revoke_key(stage.office, ADMIN, CI.key.keyid)
    stage.look()
    assert "was revoked" in failure(stage, asked)


# --- approvals and promotions ----------------------------------------------------------------------------------------


def test_an_approval_is_attested_and_counted(stage: SigningStage) -> None:
    rings = '[rings.dev]\n[rings.production]\napprovals = 1\nrequire = ["approval"]\n'
    release = stage.push(rings)
    stage.deploy(release)
    asked = stage.promote("dev", "production")
    assert stage.state(asked) == "building: awaiting_approval"
    stage.approve("production")
    stage.look("production")
    assert stage.state(asked) == "active"
    view = verify_release(stage.office, ADMIN, AGENT, release.version, "production")
    assert (view["verified"], view["demanded"]) == (True, ["approval"])
    assert sorted((item["kind"], item["signer"], item["counts"]) for item in view["attestations"]) == [
        ("approval", "home", True),
        ("promotion", "home", True),
    ]


def test_a_ring_that_demands_signed_approvals_waits_for_one(stage: SigningStage) -> None:
    release = stage.push('[rings.dev]\nrequire = ["approval"]\n')
    asked = stage.deploy(release)
    assert stage.state(asked) == "building: awaiting_approval"
    stage.approve("dev", ADMIN)
    stage.look()
    assert "the author alone" not in stage.state(asked)
    assert stage.state(asked) == "building: awaiting_approval"  # ann built it
    stage.approve("dev", BOB)
    stage.look()
    assert stage.state(asked) == "active"


def test_a_promotion_is_attested_where_nothing_is_demanded(stage: SigningStage) -> None:
    release = stage.push(TO_PRODUCTION)
    stage.deploy(release)
    assert stage.state(stage.promote("dev", "production")) == "active"
    view = verify_release(stage.office, ADMIN, AGENT, release.version, None)
    assert [(item["kind"], item["signer"]) for item in view["attestations"]] == [("promotion", "home")]


def locked() -> SigningKey:
    raise InvalidRequest("the passphrase does not open the key")


def test_an_instance_that_cannot_sign_fails_only_what_must_be_signed(stage: SigningStage) -> None:
    notary = StoreNotary(stage.artifacts, locked)
    stage.office = replace(stage.office, notary=notary)
    plain = stage.push(TO_PRODUCTION)
    stage.deploy(plain)
    assert stage.state(stage.promote("dev", "production")) == "active"
    demanding = stage.push(TO_PRODUCTION + 'approvals = 1\nrequire = ["approval"]\n')
    stage.deploy(demanding)
    asked = stage.promote("dev", "production")
    stage.approve("production")
    stage.look("production")
    assert "the passphrase does not open the key" in failure(stage, asked)


# --- looking ---------------------------------------------------------------------------------------------------------


def test_verification_names_damage_and_what_is_missing_apart(stage: SigningStage) -> None:
    release = stage.push()
    code = release.components["code"].digest
    stage.artifacts.blobs[code] = b"x" + stage.artifacts.blobs[code][1:]
    view = verify_release(stage.office, Actor("eve", Role.VIEWER), AGENT, "v1", "dev")
    assert view["verified"] is False
    assert (len(view["damages"]), code in view["damages"][0]) == (1, True)
    assert view["problems"] == ["no provenance signed by a trusted key"]
    assert verify_release(stage.office, ADMIN, AGENT, "v1", None)["problems"] == []


def test_verification_shows_what_strangers_attached_and_why_it_does_not_count(stage: SigningStage) -> None:
    release = stage.push(signer=CI)
    assert "no trusted key" in (stage.attest(release, provenance(), STRANGER) or "")
    view = verify_release(stage.office, ADMIN, AGENT, "v1", "dev")
    assert view["verified"] is True
    assert sorted((item["signer"], item["counts"]) for item in view["attestations"] if item["signer"]) == [("ci", True)]
    assert any("no trusted key" in item["verdict"] for item in view["attestations"])


def test_what_is_not_known_is_said(stage: SigningStage) -> None:
    stage.push()
    for ref, ring in (("v9", None), ("v1", "nowhere")):
        with pytest.raises(NotFound):
            verify_release(stage.office, ADMIN, AGENT, ref, ring)
    with pytest.raises(NotFound):
        attest_release(stage.office, ADMIN, AGENT, "v9", b"")


def test_the_key_of_the_instance_may_sign_provenance_too(stage: SigningStage) -> None:
    assert stage.state(stage.deploy(stage.push(DEMANDING, signer=HOME))) == "active"
