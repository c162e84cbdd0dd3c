"""in-toto Statement v1 as data: one release, the kind of what is said about it, and what is said.

A statement names its release by digest; the name beside the digest is the agent's. What each kind says is in
`predicates.py`. Configuration and command line call the kinds by the short names in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnout.artifacts.attest.strict import parse_strict, to_canonical
from turnout.artifacts.digest import digest_from_hex, hex_digits
from turnout.domain.models import Digest
from turnout.manifest.values import AgentName

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE = "provenance"
TEST_RESULT = "test-result"
APPROVAL = "approval"
PROMOTION = "promotion"
VERIFICATION_SUMMARY = "verification-summary"
KINDS: Mapping[str, str] = {
    PROVENANCE: "https://slsa.dev/provenance/v1",
    TEST_RESULT: "https://in-toto.io/attestation/test-result/v0.1",
    APPROVAL: "urn:turnout:approval:v1",
    PROMOTION: "urn:turnout:promotion:v1",
    VERIFICATION_SUMMARY: "https://slsa.dev/verification_summary/v1",
}
MAX_STATEMENT = 768 << 10  # bytes; in an envelope a third is added by base64

_NAMES = {uri: name for name, uri in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said about one release. `predicate` is plain JSON."""

    agent: str
    subject: Digest
    predicate_type: str
    predicate: Mapping[str, Any]

    @property
    def kind(self) -> str | None:
        """The short name of what is said; None for a type that turnout does not know."""
        return kind_of(self.predicate_type)


def kind_of(predicate_type: str) -> str | None:
    """The short name of a predicate type, if it has one."""
    return _NAMES.get(predicate_type)


def statement_content(statement: Statement) -> bytes:
    """The statement as canonical JSON: the bytes that are signed. Raises `InvalidRequest` for what JSON cannot hold."""
    return to_canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": statement.agent, "digest": {"sha256": hex_digits(statement.subject)}}],
            "predicateType": statement.predicate_type,
            "predicate": dict(statement.predicate),
        },
        "the statement",
    )


def read_statement(content: bytes) -> Statement:
    """Read a statement about exactly one release. Fields that the specification does not know are passed over.

    Raises `InvalidRequest` for what is no such statement, or is larger than `MAX_STATEMENT`.
    """
    parsed = parse_strict(_Statement, content, "the statement", limit=MAX_STATEMENT)
    subject = parsed.subject[0]
    return Statement(subject.name, digest_from_hex(subject.digest.sha256), parsed.predicate_type, parsed.predicate)


# --- the strict shapes -----------------------------------------------------------------------------------------------


class _DigestSet(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Subject(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    name: AgentName
    digest: _DigestSet


class _Statement(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[_Subject, ...], Field(min_length=1, max_length=1)]
    predicate_type: Annotated[str, Field(alias="predicateType", min_length=1, max_length=500)]
    predicate: Mapping[str, Any] = Field(default_factory=dict)
