"""What the five kinds of statement say, as values: each is built into a statement and read back from one.

Provenance, test result and verification summary are published predicates, and others make them too: fields that turnout
does not know are passed over, and what turnout adds is named `turnout_…`. Approval and promotion are its own and closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from turnout.artifacts.attest.shapes import (
    ApprovalShape,
    PromotionShape,
    ProvenanceShape,
    ResourceShape,
    SuiteResultShape,
    SummaryShape,
)
from turnout.artifacts.attest.statement import (
    APPROVAL,
    KINDS,
    PROMOTION,
    PROVENANCE,
    TEST_RESULT,
    VERIFICATION_SUMMARY,
    Statement,
)
from turnout.artifacts.attest.strict import first_fault, printable
from turnout.artifacts.attest.times import format_time
from turnout.artifacts.digest import digest_from_hex, hex_digits, parse_digest
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import COMPONENT_NAMES, Approval, Digest

BUILD_TYPE = "urn:turnout:build:v1"
_RELEASE_URI = "urn:turnout:release:"
_POLICY_URI = "urn:turnout:policy:"
_DIRTY = "turnout_dirty"
_GIT_SHA = re.compile(r"([0-9a-f]{40}(?:[0-9a-f]{24})?)(-dirty)?")


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a release was built. `builder` is a URI; `manifest` is the digest of `turnout.toml`; times in seconds, UTC.

    Of a build that turnout did not make, only the builder is sure to be known.
    """

    builder: str
    builder_version: str = ""
    user: str = ""
    manifest: Digest | None = None
    components: Mapping[str, Digest] = field(default_factory=dict)
    started_at: float | None = None
    finished_at: float | None = None
    git_sha: str | None = None  # 40 or 64 hexadecimal digits, and `-dirty` when files differed from the commit
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What came of a run of tests or evals. `configuration`: what was run, by name, with its digest if it has one."""

    result: Literal["PASSED", "WARNED", "FAILED"]
    configuration: Mapping[str, Digest | None]
    passed: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    at: float | None = None
    report: Digest | None = None  # the blob with the whole report
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Promotion:
    """That a release goes from one ring into another, by which deployment, at whose wish."""

    source_ring: str
    target_ring: str
    deployment: str
    actor: str
    at: float


@dataclass(frozen=True, slots=True)
class VerificationSummary:
    """That a verifier (a URI) held a release against the policy of a ring. `ring` is None for a resource of others."""

    ring: str | None
    verifier: str
    passed: bool
    at: float
    policy: Digest | None = None
    inputs: tuple[Digest, ...] = ()  # digests of the envelopes that were looked at
    levels: tuple[str, ...] = ()  # of SLSA, or own names


Facts = Provenance | SuiteResult | Approval | Promotion | VerificationSummary


# --- building --------------------------------------------------------------------------------------------------------


def build_provenance(agent: str, digest: Digest, provenance: Provenance) -> Statement:
    """SLSA provenance v1. Raises `InvalidRequest` for a Git commit or time that is none."""
    definition: dict[str, Any] = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"agent": agent} | _given(manifest=provenance.manifest),
        "resolvedDependencies": [
            {"name": name, "digest": _digest_set(provenance.components[name])}
            for name in COMPONENT_NAMES
            if name in provenance.components
        ]
        + _source(provenance),
    }
    version = {"version": {"turnout": provenance.builder_version}} if provenance.builder_version else {}
    details = {
        "builder": {"id": provenance.builder} | version,
        "metadata": _given(
            startedOn=_optional(format_time, provenance.started_at),
            finishedOn=_optional(format_time, provenance.finished_at),
            turnout_user=provenance.user or None,
        ),
    }
    return Statement(agent, digest, KINDS[PROVENANCE], {"buildDefinition": definition, "runDetails": details})


def build_test_result(agent: str, digest: Digest, tests: SuiteResult) -> Statement:
    """in-toto test-result v0.1."""
    predicate = {
        "result": tests.result,
        "configuration": [
            {"name": name} | _given(digest=_optional(_digest_set, suite))
            for name, suite in sorted(tests.configuration.items())
        ],
        "passedTests": list(tests.passed),
        "warnedTests": list(tests.warned),
        "failedTests": list(tests.failed),
    }
    added = _given(
        url=tests.url,
        turnout_finishedOn=_optional(format_time, tests.at),
        turnout_report=_optional(_digest_set, tests.report),
    )
    return Statement(agent, digest, KINDS[TEST_RESULT], predicate | added)


def build_approval(approval: Approval) -> Statement:
    """Somebody's decision about a release in one ring; a rejection too."""
    predicate = {
        "ring": approval.ring,
        "approver": approval.approver,
        "decision": "approved" if approval.approved else "rejected",
        "comment": approval.comment,
        "decidedOn": format_time(approval.at),
        "expiresOn": format_time(approval.expires_at),
    }
    return Statement(approval.agent, approval.digest, KINDS[APPROVAL], predicate)


def build_promotion(agent: str, digest: Digest, promotion: Promotion) -> Statement:
    """That a release was promoted."""
    predicate = {
        "sourceRing": promotion.source_ring,
        "targetRing": promotion.target_ring,
        "deployment": promotion.deployment,
        "actor": promotion.actor,
        "promotedOn": format_time(promotion.at),
    }
    return Statement(agent, digest, KINDS[PROMOTION], predicate)


def build_verification_summary(agent: str, digest: Digest, summary: VerificationSummary) -> Statement:
    """SLSA verification summary v1. Raises `InvalidRequest` when it is for no ring."""
    if summary.ring is None:
        raise InvalidRequest("a verification summary is for one ring")
    place = f"{agent}:{summary.ring}"
    predicate = {
        "verifier": {"id": summary.verifier},
        "timeVerified": format_time(summary.at),
        "resourceUri": _RELEASE_URI + place,
        "policy": {"uri": _POLICY_URI + place} | _given(digest=_optional(_digest_set, summary.policy)),
        "inputAttestations": [{"digest": _digest_set(envelope)} for envelope in summary.inputs],
        "verificationResult": "PASSED" if summary.passed else "FAILED",
        "verifiedLevels": list(summary.levels),
    }
    return Statement(agent, digest, KINDS[VERIFICATION_SUMMARY], predicate)


# --- reading ---------------------------------------------------------------------------------------------------------


def facts_of(statement: Statement) -> Facts:
    """What a statement says. Raises `InvalidRequest` for an unknown type and for what is malformed."""
    read = _READERS.get(statement.kind or "")
    if read is None:
        raise InvalidRequest(f'statements of type "{printable(statement.predicate_type[:200])}" are not known')
    return read(statement)


def time_of(facts: Facts) -> float | None:
    """When it was said, in the words of the one who said it; None where the statement does not tell."""
    return facts.finished_at if isinstance(facts, Provenance) else facts.at


def _read_provenance(statement: Statement) -> Provenance:
    parsed = _parse(ProvenanceShape, statement)
    definition, details = parsed.build_definition, parsed.run_details
    manifest = definition.external_parameters.get("manifest") if definition.build_type == BUILD_TYPE else None
    source = next((item for item in definition.resolved_dependencies if item.digest.git_commit), None)
    return Provenance(
        builder=details.builder.id,
        builder_version=details.builder.version.get("turnout", ""),
        user=details.metadata.user,
        manifest=_optional(parse_digest, _optional(str, manifest)),
        components={
            item.name: digest_from_hex(item.digest.sha256)
            for item in definition.resolved_dependencies
            if item.name in COMPONENT_NAMES and item.digest.sha256
        },
        started_at=details.metadata.started_on,
        finished_at=details.metadata.finished_on,
        git_sha=_git_sha(source) if source else None,
        repository=source.uri.removeprefix("git+") if source and source.uri else None,
    )


def _read_test_result(statement: Statement) -> SuiteResult:
    parsed = _parse(SuiteResultShape, statement)
    return SuiteResult(
        result=parsed.result,
        configuration={
            item.name or item.uri: _optional(digest_from_hex, item.digest.sha256) for item in parsed.configuration
        },
        passed=tuple(parsed.passed_tests),
        warned=tuple(parsed.warned_tests),
        failed=tuple(parsed.failed_tests),
        at=parsed.finished_on,
        report=_optional(digest_from_hex, parsed.report.sha256 if parsed.report else None),
        url=parsed.url,
    )


def _read_approval(statement: Statement) -> Approval:
    parsed = _parse(ApprovalShape, statement)
    return Approval(
        agent=statement.agent,
        ring=parsed.ring,
        digest=statement.subject,
        approver=parsed.approver,
        approved=parsed.decision == "approved",
        at=parsed.decided_on,
        expires_at=parsed.expires_on,
        comment=parsed.comment,
    )


def _read_promotion(statement: Statement) -> Promotion:
    parsed = _parse(PromotionShape, statement)
    return Promotion(parsed.source_ring, parsed.target_ring, parsed.deployment, parsed.actor, parsed.promoted_on)


def _read_summary(statement: Statement) -> VerificationSummary:
    parsed = _parse(SummaryShape, statement)
    own = f"{_RELEASE_URI}{statement.agent}:"
    return VerificationSummary(
        ring=parsed.resource_uri.removeprefix(own) if parsed.resource_uri.startswith(own) else None,
        verifier=parsed.verifier.id,
        passed=parsed.verification_result == "PASSED",
        at=parsed.time_verified,
        policy=_optional(digest_from_hex, parsed.policy.digest.sha256),
        inputs=tuple(digest_from_hex(item.digest.sha256) for item in parsed.input_attestations if item.digest.sha256),
        levels=tuple(parsed.verified_levels),
    )


_READERS: Mapping[str, Callable[[Statement], Facts]] = {
    PROVENANCE: _read_provenance,
    TEST_RESULT: _read_test_result,
    APPROVAL: _read_approval,
    PROMOTION: _read_promotion,
    VERIFICATION_SUMMARY: _read_summary,
}

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
_Model = TypeVar("_Model", bound=BaseModel)


def _parse(model: type[_Model], statement: Statement) -> _Model:
    try:
        return model.model_validate(statement.predicate)
    except ValidationError as error:
        raise InvalidRequest(f"the {statement.kind} cannot be read: {first_fault(error)}") from None


def _optional(make: Callable[[_Given], _Made], value: _Given | None) -> _Made | None:
    return None if value is None else make(value)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _digest_set(digest: Digest) -> dict[str, str]:
    return {"sha256": hex_digits(digest)}


def _source(provenance: Provenance) -> list[dict[str, Any]]:
    if provenance.git_sha is None:
        return []
    parts = _GIT_SHA.fullmatch(provenance.git_sha)
    if parts is None:
        raise InvalidRequest(f'"{provenance.git_sha[:80]}" is no Git commit', hint="give all 40 hexadecimal digits")
    source = {"name": "source", "digest": {"gitCommit": parts[1]}}
    return [
        source
        | _given(
            uri=f"git+{provenance.repository}" if provenance.repository else None,
            annotations={_DIRTY: True} if parts[2] else None,
        )
    ]


def _git_sha(source: ResourceShape) -> str:
    return f"{source.digest.git_commit}{'-dirty' if source.annotations.get(_DIRTY) is True else ''}"
