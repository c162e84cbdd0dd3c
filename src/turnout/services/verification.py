"""Verification: whether a release is what it should be, and has what a ring demands."""

from __future__ import annotations

from turnout.domain.models import Deployment, Kind, Release
from turnout.domain.policy import Verb, approvals_needed, attestations_needed
from turnout.ports import Assessment, Snapshot
from turnout.schemas import AttestationList, AttestationView, VerificationView
from turnout.services.office import Actor, Office, check_ring, find_release
from turnout.services.views import view_time


def verify_release(office: Office, actor: Actor, agent: str, ref: str, ring: str | None) -> VerificationView:
    """Read everything of a release, check its attestations, and hold it against what a ring demands, if one is named."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        release = find_release(snapshot, agent, ref)
        if ring is not None:
            check_ring(snapshot, agent, ring)
        demanded, approvals = _demand(snapshot, release, ring) if ring is not None else ((), 0)
    damages = [text for _, text in office.intake.damages(release.digest)]
    found = _assess(office, release, ring, demanded, approvals)
    return {
        "agent": agent,
        "digest": release.digest,
        "version": release.version,
        "ring": ring,
        "demanded": list(demanded),
        "verified": not damages and not found.problems,
        "damages": damages,
        "problems": list(found.problems),
        "attestations": _view(found),
    }


def list_attestations(office: Office, actor: Actor, agent: str, ref: str) -> AttestationList:
    """The attestations of a release, each with whether it counts. Reads nothing else."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        release = find_release(snapshot, agent, ref)
    return {"attestations": _view(_assess(office, release, None, (), 0))}


def attest_release(office: Office, actor: Actor, agent: str, ref: str, envelope: bytes) -> str | None:
    """Keep an attestation of a release. Returns why it does not count as the keys are now, if so."""
    actor.check(Verb.BUILD)
    with office.store.snapshot() as snapshot:
        release, keys = find_release(snapshot, agent, ref), snapshot.trusted_keys()
    return office.notary.accept(release.digest, envelope, keys, office.clock.now())


def find_problems(office: Office, release: Release, ring: str) -> tuple[str, ...]:
    """What a ring demands and a release does not have, before a deployment starts. Approvals may still come."""
    with office.store.snapshot() as snapshot:
        demanded, _ = _demand(snapshot, release, ring)
    early = tuple(kind for kind in demanded if kind != "approval")
    problem = _find_problem(office, release, ring, early, 0)
    return (problem,) if problem else ()


def verify_deployment(
    office: Office, deployment: Deployment, release: Release, demanded: tuple[str, ...]
) -> str | None:
    """Attest what was decided about a deployment, then check what is demanded. Returns what is missing, in a sentence."""
    with office.store.snapshot() as snapshot:
        decisions = snapshot.approvals(deployment.agent, deployment.ring, deployment.digest)
        _, approvals = _demand(snapshot, release, deployment.ring)
    if deployment.kind is not Kind.ROLLBACK:
        office.notary.attest(deployment, decisions)
    return _find_problem(office, release, deployment.ring, demanded, approvals)


def _find_problem(office: Office, release: Release, ring: str, demanded: tuple[str, ...], approvals: int) -> str | None:
    problems = _assess(office, release, ring, demanded, approvals).problems if demanded else ()
    return f"{ring} demands {', '.join(demanded)}: {'; '.join(problems)}" if problems else None


def _view(found: Assessment) -> list[AttestationView]:
    return [
        {
            "kind": item.kind,
            "signer": item.signer,
            "keyid": item.keyid,
            "at": view_time(item.at) if item.at is not None else None,
            "counts": item.counts,
            "verdict": item.verdict,
            "envelope": item.envelope,
        }
        for item in found.attestations
    ]


def _demand(snapshot: Snapshot, release: Release, ring: str) -> tuple[tuple[str, ...], int]:
    """The kinds of attestations, and how many approvals."""
    pointer = snapshot.pointer(release.agent, ring)
    stable = snapshot.release(pointer.stable) if pointer.stable else None
    return attestations_needed(release, stable, ring), approvals_needed(release, stable, ring)


def _assess(
    office: Office, release: Release, ring: str | None, demanded: tuple[str, ...], approvals: int
) -> Assessment:
    with office.store.snapshot() as snapshot:
        keys = snapshot.trusted_keys()
    needed = approvals if "approval" in demanded else 0
    return office.notary.assess(release, ring, demanded, keys, office.clock.now(), needed)
