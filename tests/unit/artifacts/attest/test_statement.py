"""What statements say, how they are written, and that they are read back as they were."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.artifacts.attest.people import AGENT, EVERY_KIND, GIT_SHA, NOW, RELEASE, approval, provenance, summary
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.attest.predicates import (
    Facts,
    Promotion,
    Provenance,
    SuiteResult,
    VerificationSummary,
    build_approval,
    build_promotion,
    build_provenance,
    build_test_result,
    build_verification_summary,
    facts_of,
    time_of,
)
from turnout.artifacts.attest.statement import KINDS, MAX_STATEMENT, Statement, read_statement, statement_content
from turnout.artifacts.attest.times import format_time, parse_time
from turnout.artifacts.digest import digest_from_hex, hex_digits, sha256_digest
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import COMPONENT_NAMES, Approval, Digest

DIGESTS = st.binary(max_size=8).map(sha256_digest)
TIMES = st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1_000_000)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
RESULTS: tuple[Literal["PASSED", "WARNED", "FAILED"], ...] = ("PASSED", "WARNED", "FAILED")


def same(one: object, other: object) -> bool:
    """Equal, but for what a microsecond loses in a float."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 1e-6
    if type(one) is not type(other):
        return False
    fields = getattr(one, "__dataclass_fields__", None)
    return all(same(getattr(one, name), getattr(other, name)) for name in fields) if fields else one == other


def read_back(statement: Statement) -> Facts:
    read = read_statement(statement_content(statement))
    assert read == statement
    return facts_of(read)


@settings(PATIENT)
@given(
    NAMES,
    DIGESTS,
    st.builds(
        Provenance,
        builder=WORDS,
        builder_version=WORDS | st.just(""),
        user=WORDS | st.just(""),
        manifest=st.none() | DIGESTS,
        components=st.dictionaries(st.sampled_from(COMPONENT_NAMES), DIGESTS),
        started_at=st.none() | TIMES,
        finished_at=st.none() | TIMES,
        git_sha=st.none() | st.just(GIT_SHA) | st.just(GIT_SHA + "-dirty"),
    ),
)
def test_any_provenance_round_trips(agent: str, digest: Digest, value: Provenance) -> None:
    assert same(read_back(build_provenance(agent, digest, value)), value)


@settings(PATIENT)
@given(
    NAMES,
    DIGESTS,
    st.builds(
        SuiteResult,
        result=st.sampled_from(RESULTS),
        configuration=st.dictionaries(WORDS, st.none() | DIGESTS, max_size=3),
        passed=st.lists(TEXTS, max_size=3).map(tuple),
        warned=st.lists(TEXTS, max_size=3).map(tuple),
        failed=st.lists(TEXTS, max_size=3).map(tuple),
        at=st.none() | TIMES,
        report=st.none() | DIGESTS,
        url=st.none() | TEXTS,
    ),
)
def test_any_test_result_round_trips(agent: str, digest: Digest, value: SuiteResult) -> None:
    assert same(read_back(build_test_result(agent, digest, value)), value)


@settings(PATIENT)
@given(
    st.builds(
        Approval,
        agent=NAMES,
        ring=NAMES,
        digest=DIGESTS,
        approver=WORDS,
        approved=st.booleans(),
        at=TIMES,
        expires_at=TIMES,
        comment=TEXTS,
    )
)
def test_any_approval_round_trips(value: Approval) -> None:
    assert same(read_back(build_approval(value)), value)


@settings(PATIENT)
@given(NAMES, DIGESTS, st.builds(Promotion, NAMES, NAMES, WORDS, WORDS, TIMES))
def test_any_promotion_round_trips(agent: str, digest: Digest, value: Promotion) -> None:
    assert same(read_back(build_promotion(agent, digest, value)), value)


@settings(PATIENT)
@given(
    NAMES,
    DIGESTS,
    st.builds(
        VerificationSummary,
        ring=NAMES,
        verifier=WORDS,
        passed=st.booleans(),
        at=TIMES,
        policy=st.none() | DIGESTS,
        inputs=st.lists(DIGESTS, max_size=3).map(tuple),
        levels=st.lists(WORDS, max_size=2).map(tuple),
    ),
)
def test_any_verification_summary_round_trips(agent: str, digest: Digest, value: VerificationSummary) -> None:
    assert same(read_back(build_verification_summary(agent, digest, value)), value)


def test_a_statement_is_in_toto_version_1_about_one_release() -> None:
    written = json.loads(statement_content(provenance()))
    assert written["_type"] == "https://in-toto.io/Statement/v1"
    assert written["subject"] == [{"name": AGENT, "digest": {"sha256": hex_digits(RELEASE)}}]
    assert written["predicateType"] == "https://slsa.dev/provenance/v1"


def test_a_provenance_has_the_fields_of_slsa() -> None:
    predicate = provenance().predicate
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert definition["buildType"] == "urn:turnout:build:v1"
    assert definition["externalParameters"] == {"agent": AGENT, "manifest": sha256_digest(b"turnout.toml")}
    assert [item["name"] for item in definition["resolvedDependencies"]] == ["code", "config", "source"]
    assert definition["resolvedDependencies"][-1] == {
        "name": "source",
        "uri": "git+https://git.example/support",
        "digest": {"gitCommit": GIT_SHA},
    }
    assert details["builder"] == {"id": "urn:turnout:builder:home", "version": {"turnout": "0.1.0"}}
    assert details["metadata"] == {
        "startedOn": "2026-09-21T14:12:20Z",
        "finishedOn": "2026-09-21T14:12:50Z",
        "turnout_user": "carol",
    }


def test_a_verification_summary_names_the_ring_in_its_resource() -> None:
    predicate = summary().predicate
    assert predicate["resourceUri"] == "urn:turnout:release:support:production"
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["policy"]["uri"] == "urn:turnout:policy:support:production"


def test_every_kind_has_a_short_name_and_a_time() -> None:
    assert [statement.kind for statement in EVERY_KIND] == list(KINDS)
    assert [time_of(facts_of(statement)) for statement in EVERY_KIND] == [NOW - ago for ago in (30, 20, 10, 5, 4)]


def test_provenance_of_another_builder_is_understood_as_far_as_it_goes() -> None:
    predicate: dict[str, Any] = {
        "buildDefinition": {
            "buildType": "https://ci.example/workflow/v1",
            "externalParameters": {"workflow": {"ref": "main"}, "manifest": 3},
            "resolvedDependencies": [{"uri": "git+https://git.example/x@main", "digest": {"gitCommit": GIT_SHA}}],
        },
        "runDetails": {"builder": {"id": "https://ci.example/runner"}},
        "somethingNew": True,
    }
    facts = facts_of(Statement(AGENT, RELEASE, KINDS["provenance"], predicate))
    assert facts == Provenance("https://ci.example/runner", git_sha=GIT_SHA, repository="https://git.example/x@main")


def test_a_summary_for_a_foreign_resource_is_for_no_ring() -> None:
    predicate = {**summary().predicate, "resourceUri": "urn:turnout:release:other:production"}
    facts = facts_of(Statement(AGENT, RELEASE, KINDS["verification-summary"], predicate))
    assert isinstance(facts, VerificationSummary)
    assert facts.ring is None


def changed(**fields: Any) -> bytes:
    document = {**json.loads(statement_content(approval("alice"))), **fields}
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


SUBJECT = {"name": AGENT, "digest": {"sha256": hex_digits(RELEASE)}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"_type": NaN}',
        b"{}" + b" " * MAX_STATEMENT,
        changed(_type="https://in-toto.io/Statement/v0.1"),
        changed(subject=[]),
        changed(subject=[SUBJECT, SUBJECT]),
        changed(subject=[{"name": AGENT, "digest": {}}]),
        changed(subject=[{"name": AGENT, "digest": {"sha256": "AB" * 32}}]),
        changed(subject=[{"name": "../x", "digest": SUBJECT["digest"]}]),
        changed(predicateType=...),
        changed(predicate=[]),
        changed().replace(b'"predicateType"', b'"_type": "twice", "predicateType"'),
    ],
)
def test_what_is_no_statement_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the statement"):
        read_statement(content)


@pytest.mark.parametrize(
    ("kind", "predicate"),
    [
        ("provenance", {}),
        ("provenance", {"buildDefinition": {"buildType": "x", "externalParameters": {}}, "runDetails": {}}),
        ("test-result", {"result": "GREAT", "configuration": []}),
        ("test-result", {"result": "PASSED"}),
        ("approval", {**approval("alice").predicate, "ring": "../x"}),
        ("approval", {**approval("alice").predicate, "digest": OSError.__name__}),
        ("approval", {**approval("alice").predicate, "decision": "maybe"}),
        ("approval", {**approval("alice").predicate, "approver": "alice\x1b[2J"}),
        ("approval", {**approval("alice").predicate, "expiresOn": 4_000_000_000}),
        ("approval", {**approval("alice").predicate, "expiresOn": "never"}),
        ("promotion", {"sourceRing": "staging"}),
        ("verification-summary", {**summary().predicate, "verificationResult": True}),
    ],
)
def test_a_predicate_that_does_not_say_what_its_kind_says_is_refused(kind: str, predicate: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=f"the {kind} cannot be read"):
        facts_of(Statement(AGENT, RELEASE, KINDS[kind], predicate))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="are not known"):
        facts_of(Statement(AGENT, RELEASE, "https://example.com/sbom/v1", {}))


@pytest.mark.parametrize("git_sha", ["main", "0123", GIT_SHA.upper(), GIT_SHA + "\n", GIT_SHA + "-dirty-"])
def test_a_git_commit_is_whole(git_sha: str) -> None:
    with pytest.raises(InvalidRequest, match="no Git commit"):
        build_provenance(AGENT, RELEASE, Provenance("urn:x:y", git_sha=git_sha))


def test_text_that_json_cannot_hold_is_refused() -> None:
    broken = build_approval(Approval(AGENT, "production", RELEASE, "alice", True, NOW, NOW, "\ud800"))
    with pytest.raises(InvalidRequest, match="cannot be written"):
        statement_content(broken)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-21",
        "2026-11-21T14:24:00",
        "2026-11-21 14:24:00Z",
        "2026-13-21T14:24:00Z",
        "2026-11-21T14:24:60Z",
        "２026-11-21T14:24:00Z",
        "2026-11-21T14:24:00Z\n",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"is no time|does not exist"):
        parse_time(text)


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1e18, 1e18])
def test_a_time_that_no_calendar_has_is_refused(at: float) -> None:
    with pytest.raises(InvalidRequest, match="is no time"):
        format_time(at)


def test_times_are_rfc_3339_in_utc() -> None:
    assert format_time(0.0) == "1970-01-01T00:00:00Z"
    assert format_time(1.5) == "1970-01-01T00:00:01.500000Z"
    assert parse_time("1970-01-01T01:00:01.5+01:00") == 1.5


def test_digests_in_statements_have_no_prefix() -> None:
    assert digest_from_hex(json.loads(statement_content(provenance()))["subject"][0]["digest"]["sha256"]) == RELEASE
