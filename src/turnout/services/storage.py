"""What is kept: versions that are let go, garbage that is collected, releases that are handed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from turnout.domain.events import Event, EventType
from turnout.domain.models import Digest
from turnout.domain.policy import Verb
from turnout.ports import Snapshot
from turnout.schemas import CollectionView, ReleaseView
from turnout.services.office import Actor, Office, check_agent, find_release
from turnout.services.views import view_release


class Archive(NamedTuple):
    """A release on its way out: a name for the file, its size, its content."""

    name: str
    size: int
    content: Iterator[bytes]


def export_release(office: Office, actor: Actor, agent: str, ref: str) -> Archive:
    """A release with all that refers to it, as one archive. Raises `NotFound`, `DamagedContent`."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        release = find_release(snapshot, agent, ref)
    size, content = office.intake.hand_over(release.digest, release.version)
    return Archive(f"{agent}-{release.version}.tar", size, content)


def attach_wheels(office: Office, actor: Actor, agent: str, ref: str, wheels: Mapping[str, Digest]) -> ReleaseView:
    """Let uploaded wheels of a release's dependencies refer to it, so that it can be installed without a package index."""
    actor.check(Verb.BUILD)
    with office.store.snapshot() as snapshot:
        release = find_release(snapshot, agent, ref)
        view = view_release(snapshot, release)
    office.intake.attach_wheels(release.digest, wheels)
    return view


def untag_release(office: Office, actor: Actor, agent: str, tag: str) -> None:
    """Let a version name nothing any more. The release stays until nothing needs it and garbage is collected."""
    actor.check(Verb.ADMINISTER)
    with office.store.transaction() as transaction:
        check_agent(transaction, agent)
        release = transaction.release_tagged(agent, tag)
        transaction.remove_tag(agent, tag)
        data = {"version": tag, "digest": release.digest if release else None}
        transaction.emit(Event(EventType.RELEASE_UNTAGGED, office.clock.now(), actor.name, agent, data=data))


def collect_garbage(office: Office, actor: Actor, *, dry_run: bool) -> CollectionView:
    """Remove from the artifact store what nothing needs.

    Kept is every release that a version names, that a ring routes to or keeps warm, or that a deployment is about; and
    for a day everything that was pushed or asked for, because a push may be under way.
    """
    actor.check(Verb.ADMINISTER)
    with office.store.snapshot() as snapshot:
        keep = {digest for agent in snapshot.agents() for digest in _needed(snapshot, agent)}
    releases, blobs, size = office.intake.collect(keep, dry_run=dry_run)
    if releases and not dry_run:
        with office.store.transaction() as transaction:
            data = {"releases": list(releases), "blobs": blobs, "bytes": size}
            transaction.emit(Event(EventType.STORE_COLLECTED, office.clock.now(), actor.name, data=data))
    return {"releases": list(releases), "blobs": blobs, "bytes": size, "dry_run": dry_run}


def _needed(snapshot: Snapshot, agent: str) -> Iterator[Digest]:
    yield from snapshot.tags(agent).values()
    for pointer in snapshot.pointers(agent):
        named = (pointer.stable, pointer.candidate, pointer.last_good, *(item.digest for item in pointer.retired))
        yield from (digest for digest in named if digest is not None)
        yield from (deployment.digest for deployment in snapshot.unfinished(agent, pointer.ring))
