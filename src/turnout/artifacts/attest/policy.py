"""Whether what was attested about a release is what a ring demands. Pure; every gap is one sentence.

An attestation counts when it opened, speaks of this release and this ring, and comes from a key that may say it: a person's
key speaks for that person, an instance's key for those who decided there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from turnout.artifacts.attest.envelope import Fault, FaultCode, Opened
from turnout.artifacts.attest.keys import TrustedKey
from turnout.artifacts.attest.predicates import Promotion, SuiteResult, VerificationSummary, time_of
from turnout.artifacts.attest.statement import APPROVAL, KINDS, TEST_RESULT
from turnout.artifacts.attest.strict import printable
from turnout.artifacts.attest.times import format_time
from turnout.domain.models import Approval, Digest, short_digest
from turnout.domain.policy import assess_approvals

_UNPROVEN = (FaultCode.MALFORMED, FaultCode.FOREIGN_TYPE, FaultCode.UNKNOWN_KEY, FaultCode.BAD_SIGNATURE)
_MOST_UNPROVEN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One attestation for a report. `kind`, `signer` and `keyid` are None, `at` too, where they cannot be known."""

    kind: str | None
    signer: str | None
    keyid: str | None
    at: float | None
    counts: bool
    verdict: str  # "good", or why it does not count
    envelope: Digest


@dataclass(frozen=True, slots=True)
class Report:
    """What was found about a release, and what is missing for a ring (None: no ring was asked for)."""

    digest: Digest
    ring: str | None
    findings: tuple[Finding, ...]
    problems: tuple[str, ...]

    @property
    def satisfied(self) -> bool:
        """Whether the ring may have it, as far as attestations go."""
        return not self.problems


def check_requirements(
    required: Sequence[str],
    found: Sequence[Opened | Fault],
    *,
    digest: Digest,
    ring: str,
    now: float,
    approvals_needed: int = 0,
    author: str = "",
) -> tuple[str, ...]:
    """One sentence for each thing that is missing or wrong; none when the ring may have the release.

    `required` holds short names of kinds; an approval that is required counts as one needed at least. `author`: who built
    the release, and cannot be its only approver.
    """
    problems: list[str] = []
    for kind in dict.fromkeys(required):
        if kind not in KINDS:
            problems.append(f'the ring demands "{kind}", which is no kind of attestation: {", ".join(KINDS)}')
        elif kind != APPROVAL:
            problems += _kind_problems(kind, found, digest, ring, now)
    needed = max(approvals_needed, 1 if APPROVAL in required else 0)
    if needed:
        problems += _approval_problems(needed, author, found, digest, ring, now)
    if problems:
        problems += _fault_sentences(None, found)  # what is missing may be among these
    return tuple(dict.fromkeys(problems))


def build_report(
    required: Sequence[str],
    found: Sequence[Opened | Fault],
    *,
    digest: Digest,
    ring: str | None,
    now: float,
    approvals_needed: int = 0,
    author: str = "",
) -> Report:
    """Everything that was found, oldest first, with a verdict on each; and the problems, when it is for a ring."""
    findings = [_finding(item, digest, ring, now) for item in found]
    problems = (
        check_requirements(
            required, found, digest=digest, ring=ring, now=now, approvals_needed=approvals_needed, author=author
        )
        if ring is not None
        else ()
    )
    ordered = sorted(findings, key=lambda finding: (finding.at is None, finding.at or 0.0, finding.envelope))
    return Report(digest, ring, tuple(ordered), problems)


# --- one kind --------------------------------------------------------------------------------------------------------


def _kind_problems(kind: str, found: Sequence[Opened | Fault], digest: Digest, ring: str, now: float) -> Iterable[str]:
    opened = [item for item in found if isinstance(item, Opened) and item.kind == kind]
    counting = [item for item in opened if _objection(item, digest, ring, now) is None]
    if counting and kind != TEST_RESULT:
        return ()
    if counting:
        return _failed_suites(opened, digest, ring, now)
    objections = _objections(kind, found, digest, ring, now)
    return objections or (f"no {_words(kind)} signed by a trusted key",)


def _failed_suites(opened: Sequence[Opened], digest: Digest, ring: str, now: float) -> Iterable[str]:
    """Of each suite the newest result holds, and of two at one time the worse: a pass excuses no later failure."""
    newest: dict[tuple[str, ...], Opened] = {}
    for item in sorted(opened, key=lambda item: (time_of(item.facts) or 0.0, _has_failed(item))):
        if item.statement.subject == digest and isinstance(item.facts, SuiteResult):
            newest[tuple(sorted(item.facts.configuration))] = item
    return tuple(sentence for item in newest.values() if (sentence := _objection(item, digest, ring, now)))


def _has_failed(item: Opened) -> bool:
    return isinstance(item.facts, SuiteResult) and item.facts.result == "FAILED"


def _objections(kind: str, found: Sequence[Opened | Fault], digest: Digest, ring: str, now: float) -> tuple[str, ...]:
    """Why those of a kind that are there do not count."""
    against = [_objection(item, digest, ring, now) for item in found if isinstance(item, Opened) and item.kind == kind]
    return (*(sentence for sentence in against if sentence), *_fault_sentences(kind, found))


def _fault_sentences(kind: str | None, found: Sequence[Opened | Fault]) -> tuple[str, ...]:
    """Those that a known key signed, then a few of the others: anybody can put any number of them there."""
    faults = [item for item in found if isinstance(item, Fault) and item.kind == kind]
    proven = [item.sentence for item in faults if item.code not in _UNPROVEN]
    return (*proven, *[item.sentence for item in faults if item.code in _UNPROVEN][:_MOST_UNPROVEN])


# --- approvals -------------------------------------------------------------------------------------------------------


def _approval_problems(
    needed: int, author: str, found: Sequence[Opened | Fault], digest: Digest, ring: str, now: float
) -> Iterable[str]:
    """Each approver's newest decision holds, also when it has expired by now or was a rejection."""
    decisions = [
        item.facts
        for item in found
        if isinstance(item, Opened) and isinstance(item.facts, Approval) and _standing(item, item.facts, digest, ring)
    ]
    status = assess_approvals(needed, author, sorted(decisions, key=_decided), now)
    if status.satisfied:
        return ()
    if status.rejected_by is not None:
        return (f"{status.rejected_by} rejected this release for {ring}",)
    if len(status.approvers) >= needed:
        return (f"an approval for {ring} must come from somebody other than the author, {author}",)
    objections = _objections(APPROVAL, found, digest, ring, now)
    if not status.approvers and needed == 1:
        return objections or (f"no approval for {ring} signed by a trusted key",)
    names = f" ({', '.join(status.approvers)})" if status.approvers else ""
    return (f"{len(status.approvers)} of {needed} signed approvals for {ring}{names}", *objections)


def _decided(approval: Approval) -> tuple[float, bool]:
    """By time; of two decisions at one time the rejection is the later."""
    return approval.at, not approval.approved


def _standing(item: Opened, approval: Approval, digest: Digest, ring: str) -> bool:
    """Whether a decision is about this and by who it says, whatever it says and however old it is."""
    about_this = item.statement.subject == digest and approval.ring == ring
    return about_this and _speaks_for(item.signer, approval.approver)


# --- one attestation -------------------------------------------------------------------------------------------------


def _finding(item: Opened | Fault, digest: Digest, ring: str | None, now: float) -> Finding:
    if isinstance(item, Fault):
        signer = item.signer.name if item.signer else None
        keyid = item.signer.keyid if item.signer else next(iter(item.keyids), None)
        return Finding(item.kind, signer, keyid, None, False, item.sentence, item.envelope)
    objection = _objection(item, digest, ring, now)
    verdict = objection or "good"
    at = time_of(item.facts)
    return Finding(item.kind, item.signer.name, item.signer.keyid, at, objection is None, verdict, item.envelope)


def _objection(item: Opened, digest: Digest, ring: str | None, now: float) -> str | None:
    """Why an attestation that opened does not count here; None when it does. Without a ring, rings are not looked at."""
    if item.statement.subject != digest:
        return f"the {_words(item.kind)} is about another release, {short_digest(item.statement.subject)}"
    match item.facts:
        case Approval() as approval:
            return _approval_objection(item.signer, approval, ring, now)
        case Promotion() as promotion:
            return _instance_objection(item, promotion.target_ring, ring)
        case VerificationSummary() as summary:
            return _instance_objection(item, summary.ring, ring) or _failure(item, summary.passed)
        case SuiteResult() as result:
            return _failure(item, result.result != "FAILED", result.failed)
        case _:
            return None


def _failure(item: Opened, passed: bool, failed: Sequence[str] = ()) -> str | None:
    if passed:
        return None
    named = f": {printable(', '.join(failed[:5]))}" if failed else ""
    return f"the {_words(item.kind)} signed by key {item.signer.label} says FAILED{named}"


def _approval_objection(signer: TrustedKey, approval: Approval, ring: str | None, now: float) -> str | None:
    if not _speaks_for(signer, approval.approver):
        return (
            f"the approval of {approval.approver} is signed by key {signer.label}, which speaks for {signer.name} only"
        )
    if ring is not None and approval.ring != ring:
        return f"an approval for {approval.ring} does not count for {ring}"
    if approval.expires_at <= now:
        expired = format_time(approval.expires_at)
        return f"the approval of {approval.approver} for {approval.ring} expired on {expired}"
    return None if approval.approved else f"{approval.approver} rejected this release for {approval.ring}"


def _instance_objection(item: Opened, meant: str | None, ring: str | None) -> str | None:
    kind = _words(item.kind)
    if not item.signer.instance:
        return f"the {kind} is signed by key {item.signer.label}, which is not the key of an instance"
    if ring is not None and meant != ring:
        return f"a {kind} for {meant or 'something else'} does not count for {ring}"
    return None


def _speaks_for(signer: TrustedKey, name: str) -> bool:
    return signer.instance or signer.name == name


def _words(kind: str) -> str:
    return kind.replace("-", " ")
