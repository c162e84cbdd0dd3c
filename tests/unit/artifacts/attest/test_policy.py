"""What a ring demands, what is there, and the exact sentence for each gap."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.artifacts.attest.people import (
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
    opened,
    promotion,
    provenance,
    suite,
    summary,
)
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.attest.envelope import Fault, FaultCode, Opened, read_envelope, sign_statement
from turnout.artifacts.attest.policy import build_report, check_requirements
from turnout.artifacts.attest.statement import KINDS
from turnout.domain.models import Digest

MALLORY = make_key("mallory", b"m" * 32)


def check(
    required: list[str],
    *found: Opened | Fault,
    ring: str = "production",
    digest: Digest = RELEASE,
    now: float = NOW,
    needed: int = 0,
    author: str = "",
) -> tuple[str, ...]:
    return check_requirements(
        required, found, digest=digest, ring=ring, now=now, approvals_needed=needed, author=author
    )


def shut(content: bytes, now: float = NOW) -> Fault:
    found = read_envelope(content, TRUSTED, now, digest=RELEASE)
    assert isinstance(found, Fault)
    return found


UNKNOWN = shut(sign_statement(provenance(), MALLORY))
EXPIRED = shut(sign_statement(provenance(), CI), now=NOW + 40 * DAY)
JUNK = shut(b"junk")


def test_nothing_is_demanded_and_nothing_is_missing() -> None:
    assert check([]) == ()
    assert check([], UNKNOWN, JUNK) == ()


def test_everything_that_is_demanded_is_there() -> None:
    found = [opened(statement, HOME) for statement in EVERY_KIND]
    assert check(list(KINDS), *found) == ()
    assert check(list(KINDS), JUNK, *found, UNKNOWN, EXPIRED) == (), "what others put there does no harm"


@pytest.mark.parametrize("kind", KINDS)
def test_each_that_is_missing_is_named(kind: str) -> None:
    found = [opened(statement, HOME) for statement in EVERY_KIND if statement.kind != kind]
    where = " for production" if kind == "approval" else ""
    assert check(list(KINDS), *found) == (f"no {kind.replace('-', ' ')}{where} signed by a trusted key",)


def test_one_sentence_each() -> None:
    assert check(["provenance", "test-result", "provenance"]) == (
        "no provenance signed by a trusted key",
        "no test result signed by a trusted key",
    )


def test_an_expired_key_is_the_reason() -> None:
    assert check(["provenance"], EXPIRED, now=NOW + 40 * DAY) == (
        f"the provenance is signed by key {CI.key.keyid[:12]} (ci), which expired on 2026-10-21T14:13:20Z",
    )


def test_an_unknown_key_is_the_reason() -> None:
    assert check(["provenance"], UNKNOWN) == (
        f"the provenance is signed by no trusted key, only by {MALLORY.key.keyid[:12]}",
    )
    assert check(["test-result"], UNKNOWN) == ("no test result signed by a trusted key",)


def test_what_cannot_be_read_is_told_when_something_is_missing() -> None:
    problems = check(["provenance"], JUNK)
    assert problems == ("no provenance signed by a trusted key", JUNK.sentence)


def test_a_flood_of_junk_does_not_hide_the_reason() -> None:
    flood = [replace(UNKNOWN, sentence=f"junk {number}") for number in range(1_000)]
    problems = check(["provenance"], *flood, EXPIRED)
    assert problems[0] == EXPIRED.sentence
    assert len(problems) < 10


def test_a_kind_that_does_not_exist_is_never_satisfied() -> None:
    (problem,) = check(["sbom"], *[opened(statement, HOME) for statement in EVERY_KIND])
    assert 'demands "sbom", which is no kind of attestation: provenance, test-result' in problem


def test_attestations_of_another_release_do_not_count() -> None:
    found = [opened(statement, HOME) for statement in EVERY_KIND]
    problems = check(list(KINDS), *found, digest=OTHER)
    short = RELEASE.removeprefix("sha256:")[:12]
    assert set(problems) == {f"the {kind.replace('-', ' ')} is about another release, {short}" for kind in KINDS}


# --- approvals -------------------------------------------------------------------------------------------------------


def test_an_approval_for_another_ring_does_not_count() -> None:
    staging = opened(approval("alice", "staging"), ALICE)
    assert check(["approval"], staging) == ("an approval for staging does not count for production",)
    assert check(["approval"], staging, ring="staging") == ()


def test_an_approval_expires() -> None:
    given_then = opened(approval("alice", at=NOW - DAY), ALICE)
    assert check(["approval"], given_then, now=NOW - 1) == ()
    assert check(["approval"], given_then) == ("the approval of alice for production expired on 2026-09-21T14:13:20Z",)


def test_approvals_are_counted_by_person() -> None:
    twice = [opened(approval("alice", at=NOW - ago), ALICE) for ago in (10, 20)]
    assert check([], *twice, needed=2) == ("1 of 2 signed approvals for production (alice)",)
    assert check([], *twice, opened(approval("bob"), BOB), needed=2) == ()
    assert check([], needed=2) == ("0 of 2 signed approvals for production",)


def test_a_person_speaks_for_nobody_else() -> None:
    forged = opened(approval("bob"), ALICE)
    assert check(["approval"], forged) == (
        f"the approval of bob is signed by key {ALICE.key.keyid[:12]} (alice), which speaks for alice only",
    )
    assert check([], forged, opened(approval("alice"), ALICE), needed=2)[0] == (
        "1 of 2 signed approvals for production (alice)"
    )


def test_an_instance_attests_what_others_decided() -> None:
    assert check([], opened(approval("alice"), HOME), opened(approval("bob"), HOME), needed=2) == ()


def test_the_author_is_not_the_only_approver() -> None:
    own, other = opened(approval("alice"), ALICE), opened(approval("bob"), BOB)
    assert check([], own, needed=1, author="alice") == (
        "an approval for production must come from somebody other than the author, alice",
    )
    assert check([], own, other, needed=2, author="alice") == ()


def test_a_rejection_stands_against_approvals() -> None:
    yes, no = opened(approval("alice"), ALICE), opened(approval("bob", approved=False), BOB)
    assert check([], yes, no, needed=1) == ("bob rejected this release for production",)


def test_the_newest_decision_of_a_person_holds_in_any_order() -> None:
    yes, no = opened(approval("alice", at=NOW - 5), ALICE), opened(approval("alice", approved=False, at=NOW - 9), ALICE)
    for found in permutations([yes, no]):
        assert check(["approval"], *found) == ()
    same = opened(approval("alice", approved=False, at=NOW - 5), ALICE)
    for found in permutations([yes, same]):
        assert check(["approval"], *found) == ("alice rejected this release for production",)


def test_nobody_rejects_in_the_name_of_another() -> None:
    yes, forged = opened(approval("alice"), ALICE), opened(approval("bob", approved=False), CI)
    assert check([], yes, forged, needed=1) == ()


# --- tests, promotions, summaries ------------------------------------------------------------------------------------


def test_a_failed_run_does_not_count() -> None:
    assert check(["test-result"], opened(suite("FAILED"), CI)) == (
        f"the test result signed by key {CI.key.keyid[:12]} (ci) says FAILED: refunds",
    )


def test_the_newest_run_of_each_suite_holds_in_any_order() -> None:
    failed, passed = opened(suite("FAILED", at=NOW - 9), CI), opened(suite(at=NOW - 5), CI)
    worse = opened(suite("FAILED", at=NOW - 3), CI)
    same = opened(suite("FAILED", at=NOW - 5), CI)
    other = opened(suite("FAILED", name="evals/other.yaml", at=NOW - 90), CI)
    for found in permutations([failed, passed]):
        assert check(["test-result"], *found) == ()
    for bad in (worse, same, other):
        for found in permutations([failed, passed, bad]):
            assert len(check(["test-result"], *found)) == 1


def test_only_an_instance_promotes_and_verifies() -> None:
    label = f"{CI.key.keyid[:12]} (ci)"
    assert check(["promotion"], opened(promotion(), CI)) == (
        f"the promotion is signed by key {label}, which is not the key of an instance",
    )
    assert check(["verification-summary"], opened(summary(), CI)) == (
        f"the verification summary is signed by key {label}, which is not the key of an instance",
    )


def test_promotions_and_summaries_are_for_one_ring() -> None:
    found = opened(promotion("staging"), HOME), opened(summary("staging"), HOME)
    assert check(["promotion", "verification-summary"], *found) == (
        "a promotion for staging does not count for production",
        "a verification summary for staging does not count for production",
    )
    assert check(["promotion", "verification-summary"], *found, ring="staging") == ()


def test_a_summary_that_says_no_does_not_count() -> None:
    (problem,) = check(["verification-summary"], opened(summary(passed=False), HOME))
    assert problem.endswith("(home) says FAILED")


# --- laws ------------------------------------------------------------------------------------------------------------

ANY = st.sampled_from(
    [*(opened(statement, key) for statement in EVERY_KIND for key in (HOME, ALICE)), UNKNOWN, EXPIRED, JUNK]
)


@settings(PATIENT)
@given(st.lists(st.sampled_from([*KINDS, "sbom"])), st.lists(ANY), st.integers(0, 2), st.randoms(use_true_random=False))
def test_the_order_never_matters_to_the_verdict(
    required: list[str], found: list[Opened | Fault], needed: int, random: Random
) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    assert bool(check(required, *found, needed=needed)) == bool(check(required, *shuffled, needed=needed))


@settings(PATIENT)
@given(st.lists(st.sampled_from(list(KINDS)), min_size=1), st.lists(st.sampled_from([UNKNOWN, EXPIRED, JUNK])))
def test_what_did_not_open_never_satisfies(required: list[str], found: list[Opened | Fault]) -> None:
    assert len(check(required, *found)) >= 1


@settings(PATIENT)
@given(st.lists(st.sampled_from(list(KINDS))), st.lists(ANY), st.lists(st.sampled_from([UNKNOWN, EXPIRED, JUNK])))
def test_what_did_not_open_never_takes_anything_away(
    required: list[str], found: list[Opened | Fault], added: list[Opened | Fault]
) -> None:
    if not check(required, *found):
        assert not check(required, *found, *added)


# --- the report ------------------------------------------------------------------------------------------------------


def test_a_report_shows_everything_that_was_found_oldest_first() -> None:
    found: list[Opened | Fault] = [opened(approval("alice", "staging"), ALICE), UNKNOWN, opened(provenance(), CI), JUNK]
    report = build_report(["provenance", "approval"], found, digest=RELEASE, ring="production", now=NOW)
    assert [(item.kind, item.signer, item.at, item.counts) for item in report.findings[:2]] == [
        ("provenance", "ci", NOW - 30, True),
        ("approval", "alice", NOW - 10, False),
    ]
    assert {(item.kind, item.keyid, item.verdict) for item in report.findings[2:]} == {
        ("provenance", MALLORY.key.keyid, UNKNOWN.sentence),
        (None, None, JUNK.sentence),
    }
    assert report.findings[0].verdict == "good"
    assert report.findings[0].keyid == CI.key.keyid
    assert report.problems[0] == "an approval for staging does not count for production"
    assert not report.satisfied


def test_a_report_without_a_ring_looks_at_no_ring() -> None:
    found = [opened(approval("alice", "staging"), ALICE), opened(suite("FAILED"), CI), opened(promotion("dev"), HOME)]
    report = build_report([], found, digest=RELEASE, ring=None, now=NOW)
    assert [(item.kind, item.counts) for item in report.findings] == [
        ("test-result", False),
        ("approval", True),
        ("promotion", True),
    ]
    assert report.satisfied


def test_a_report_names_the_key_whose_signature_is_bad() -> None:
    fault = Fault(FaultCode.BAD_SIGNATURE, "it was changed", OTHER, "approval", (CI.key.keyid,), CI.key)
    (item,) = build_report([], [fault], digest=RELEASE, ring=None, now=NOW).findings
    assert (item.signer, item.keyid, item.counts, item.verdict) == ("ci", CI.key.keyid, False, "it was changed")
