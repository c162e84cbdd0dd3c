"""Releases: taking in what a client built, and finding it again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from turnout.domain.errors import Conflict, InvalidRequest
from turnout.domain.events import Event, EventType
from turnout.domain.models import Digest, Release
from turnout.domain.policy import Verb
from turnout.ports import Snapshot
from turnout.schemas import (
    ChangeCounts,
    ComponentDiff,
    DiffSummary,
    DiffView,
    MissingChunks,
    ReleaseList,
    ReleaseView,
)
from turnout.services.office import Actor, Office, check_agent, find_release
from turnout.services.views import view_release

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def add_release(
    office: Office,
    actor: Actor,
    agent: str,
    digest: Digest,
    bundles: Sequence[Digest],
    *,
    tag: str | None,
    git_sha: str | None,
) -> ReleaseView:
    """Record a release whose blobs were uploaded, the new bundles of its data among them. Everything is verified first.

    Pushing a release again only adds the tag. Without a tag a new one is named v1, v2, … in the order of arrival.
    Raises `NotFound` (a blob is missing), `DamagedContent`, `InvalidRequest`, `Conflict` (the tag names another).
    """
    actor.check(Verb.BUILD)
    if tag is not None:
        check_tag(tag)
    office.intake.record(digest, bundles, _known_releases(office, agent))
    read = office.read_release(digest)
    if read.spec.agent != agent:
        raise InvalidRequest(f"the release is of agent {read.spec.agent}, not of {agent}")
    now = office.clock.now()
    with office.store.transaction() as transaction:
        known = transaction.release(digest)
        if known is None:
            version = tag or _next_version(transaction, agent)
            _check_free(transaction, agent, version, digest)
            known = Release(digest, agent, version, read.components, read.spec, actor.name, now, git_sha)
            transaction.add_agent(agent, now)
            transaction.add_release(known, read.config)
            transaction.add_rings(agent, [ring.name for ring in read.spec.rings])
            data = {"digest": digest, "version": version, "git_sha": git_sha}
            transaction.emit(Event(EventType.RELEASE_PUSHED, now, actor.name, agent, data=data))
        elif tag is not None:
            transaction.add_tag(agent, tag, digest)
        return view_release(transaction, known)


def find_missing_chunks(office: Office, actor: Actor, agent: str, index: Digest, *, verify: bool) -> MissingChunks:
    """Which chunks of the data with this index have to be pushed. `verify`: do not count on stored bytes that are damaged.

    Raises `NotFound` when the index is not stored.
    """
    actor.check(Verb.BUILD)
    missing = office.intake.missing_chunks(index, _known_releases(office, agent), verify=verify)
    return {"missing": [[first, count] for first, count in missing]}


def show_release(office: Office, actor: Actor, agent: str, ref: str) -> ReleaseView:
    """One release, by version, digest or ring:NAME."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        return view_release(snapshot, find_release(snapshot, agent, ref))


def diff_releases(office: Office, actor: Actor, agent: str, a: str, b: str) -> DiffView:
    """What differs from release `a` to release `b`, by component."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        before, after = find_release(snapshot, agent, a), find_release(snapshot, agent, b)
    components = office.diff(before, after)
    return {
        "a": before.digest,
        "b": after.digest,
        "a_version": before.version,
        "b_version": after.version,
        "changed": [component["component"] for component in components],
        "summary": summarize(components),
        "components": components,
    }


def summarize(components: Sequence[ComponentDiff]) -> DiffSummary:
    """A diff in short, for an alert: which components changed, in words and in numbers."""
    total: ChangeCounts = {"added": 0, "removed": 0, "changed": 0, "renamed": 0}
    for component in components:
        for counts in component["summary"]["kinds"].values():
            total["added"] += counts["added"]
            total["removed"] += counts["removed"]
            total["changed"] += counts["changed"]
            total["renamed"] += counts["renamed"]
    sentences = [f"{component['component']}: {component['summary']['text']}" for component in components]
    return {
        "same": not components,
        "text": "; ".join(sentences) or "the same release",
        "total": total,
        "components": {component["component"]: component["summary"] for component in components},
    }


def list_releases(office: Office, actor: Actor, agent: str) -> ReleaseList:
    """All releases of an agent, newest first."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        check_agent(snapshot, agent)
        return {"releases": [view_release(snapshot, release) for release in snapshot.releases(agent)]}


def check_tag(tag: str) -> None:
    """Raise `InvalidRequest` for what cannot be a version tag."""
    if not _TAG.fullmatch(tag) or tag.startswith("sha256"):
        raise InvalidRequest(
            f"{tag!r} cannot be a version", hint="letters, digits, '.', '_' and '-', at most 128, such as v2.3.0"
        )


def _known_releases(office: Office, agent: str) -> list[Digest]:
    with office.store.snapshot() as snapshot:
        return [release.digest for release in snapshot.releases(agent)]


def _next_version(snapshot: Snapshot, agent: str) -> str:
    taken = _numbers(snapshot.tags(agent))
    return f"v{max(taken, default=0) + 1}"


def _numbers(tags: Iterable[str]) -> list[int]:
    return [int(tag[1:]) for tag in tags if re.fullmatch(r"v[0-9]{1,9}", tag)]


def _check_free(snapshot: Snapshot, agent: str, version: str, digest: Digest) -> None:
    named = snapshot.tags(agent).get(version)
    if named is not None and named != digest:
        raise Conflict(
            f"the version {version} of {agent} already names {named}",
            hint="a version never moves to another release: choose a new one with --tag",
        )
