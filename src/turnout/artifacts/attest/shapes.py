"""The shapes of the five predicates on the wire. Those that others make too are open, turnout's own are closed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from turnout.artifacts.attest.times import parse_time
from turnout.domain.errors import InvalidRequest
from turnout.manifest.values import RingName


def _check_time(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("expected a time as text")
    try:
        return parse_time(value)
    except InvalidRequest as error:
        raise ValueError(error.message) from None


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds a sign that cannot be printed")
    return value


_Time = Annotated[float, BeforeValidator(_check_time)]
_Word = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_check_printable)]
_GitCommit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Open(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Digests(_Open):
    sha256: _Sha256 | None = None
    git_commit: _GitCommit | None = Field(default=None, alias="gitCommit")


class ResourceShape(_Open):
    """A thing that is named, by its digest as a rule."""

    name: str = ""
    uri: str = ""
    digest: _Digests = Field(default_factory=_Digests)
    annotations: Mapping[str, Any] = Field(default_factory=dict)


class _BuildDefinition(_Open):
    build_type: _Word = Field(alias="buildType")
    external_parameters: Mapping[str, Any] = Field(alias="externalParameters")
    resolved_dependencies: list[ResourceShape] = Field(alias="resolvedDependencies", default_factory=list)


class _Builder(_Open):
    id: _Word
    version: Mapping[str, str] = Field(default_factory=dict)


class _Metadata(_Open):
    started_on: _Time | None = Field(alias="startedOn", default=None)
    finished_on: _Time | None = Field(alias="finishedOn", default=None)
    user: str = Field(alias="turnout_user", default="")


class _RunDetails(_Open):
    builder: _Builder
    metadata: _Metadata = Field(default_factory=_Metadata)


class ProvenanceShape(_Open):
    """SLSA provenance v1."""

    build_definition: _BuildDefinition = Field(alias="buildDefinition")
    run_details: _RunDetails = Field(alias="runDetails")


class SuiteResultShape(_Open):
    """in-toto test-result v0.1."""

    result: Literal["PASSED", "WARNED", "FAILED"]
    configuration: list[ResourceShape]
    passed_tests: list[str] = Field(alias="passedTests", default_factory=list)
    warned_tests: list[str] = Field(alias="warnedTests", default_factory=list)
    failed_tests: list[str] = Field(alias="failedTests", default_factory=list)
    finished_on: _Time | None = Field(alias="turnout_finishedOn", default=None)
    report: _Digests | None = Field(alias="turnout_report", default=None)
    url: str | None = None


class ApprovalShape(_Closed):
    """turnout's approval v1."""

    ring: RingName
    approver: _Word
    decision: Literal["approved", "rejected"]
    comment: str
    decided_on: _Time = Field(alias="decidedOn")
    expires_on: _Time = Field(alias="expiresOn")


class PromotionShape(_Closed):
    """turnout's promotion v1."""

    source_ring: RingName = Field(alias="sourceRing")
    target_ring: RingName = Field(alias="targetRing")
    deployment: _Word
    actor: _Word
    promoted_on: _Time = Field(alias="promotedOn")


class _Verifier(_Open):
    id: _Word


class SummaryShape(_Open):
    """SLSA verification summary v1."""

    verifier: _Verifier
    time_verified: _Time = Field(alias="timeVerified")
    resource_uri: _Word = Field(alias="resourceUri")
    policy: ResourceShape
    input_attestations: list[ResourceShape] = Field(alias="inputAttestations", default_factory=list)
    verification_result: Literal["PASSED", "FAILED"] = Field(alias="verificationResult")
    verified_levels: list[str] = Field(alias="verifiedLevels")
