"""`turnout release`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from turnout.cli.agent import agent_here
from turnout.cli.connection import connected, note, print_json
from turnout.client import Client
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, ServerUnreachable, UnsafeArchive
from turnout.domain.models import Digest, short_digest
from turnout.schemas import ReleaseView

if TYPE_CHECKING:
    from turnout.artifacts.handover import Received

_agent = click.option("--agent", help="Agent of the release. Default: the one of turnout.toml in this folder.")


@click.group()
def release() -> None:
    """Hand releases over as files, let versions go, and collect garbage."""


@release.command(short_help="Write a release and its attestations to one file.")
@click.argument("release_ref", metavar="RELEASE")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.option("--wheels", is_flag=True, help="Add the packages of its lock file, for machines without a package index.")
@_agent
@connected
def export(client: Client, release_ref: str, output: Path, wheels: bool, agent: str | None, as_json: bool) -> None:
    """Write RELEASE (a version, digest or ring:NAME) and its attestations to one file: an OCI image layout in an archive."""
    from turnout.artifacts.faults import disk_errors

    name = agent or agent_here()
    view = client.release(name, release_ref)
    with disk_errors(output), _folder_beside(output) as work:
        archive = work / "archive"
        _write(archive, client, name, view["digest"])
        if wheels:
            archive = _add_wheels(archive, work, view)
        archive.replace(output)
        size = output.stat().st_size
    if as_json:
        print_json(
            {"agent": name, "digest": view["digest"], "version": view["version"], "file": str(output), "bytes": size}
        )
    else:
        click.echo(f"{name} {view['version']}  {view['digest']}  {output}  {size:,} bytes")


@release.command("import", short_help="Take a release from such a file, or from an OCI image layout.")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--tag", help="Version of the release here. Default: the one that it had.")
@click.option("--dry-run", is_flag=True, help="Check all of it, say what would be sent, and change nothing.")
@connected
def import_(client: Client, source: Path, tag: str | None, dry_run: bool, as_json: bool) -> None:
    """Take the release in SOURCE, a file or the folder of an OCI image layout, with its attestations.

    The digest stays the same, and every byte is verified.
    """
    from turnout.artifacts.handover import receive

    with tempfile.TemporaryDirectory(prefix="turnout-import-") as work:
        try:
            received = receive(source, Path(work) / "layout")
            view = _examine(client, received, tag) if dry_run else _push(client, received, tag)
        except (DamagedContent, NotFound, UnsafeArchive) as error:  # of the source: a server's refusal is a `Problem`
            fault = UnsafeArchive if isinstance(error, UnsafeArchive) else DamagedContent
            raise fault(f"{source} cannot be taken: {error.message}", hint="hand it over again") from None
    if as_json:
        print_json(view)
    else:
        said, version = "would take " if dry_run else "", view["version"] or "the next version"
        click.echo(f"{said}{view['agent']} {version}  {view['digest']}")


@release.command(short_help="Take a release that is in the instance's store already.")
@click.argument("agent")
@click.argument("digest")
@click.option("--tag", help="Version of the release. Default: the next number.")
@connected
def adopt(client: Client, agent: str, digest: str, tag: str | None, as_json: bool) -> None:
    """Take the release DIGEST of AGENT, which another instance or tool has put into the store that this one uses."""
    view = client.put_release(agent, digest, {"tag": tag})
    if as_json:
        print_json(view)
    else:
        click.echo(f"{view['agent']} {view['version']}  {view['digest']}")


@release.command(short_help="Let a version name nothing any more.")
@click.argument("version")
@_agent
@click.option("--dry-run", is_flag=True, help="Say what it names, and change nothing.")
@connected
def untag(client: Client, version: str, agent: str | None, dry_run: bool, as_json: bool) -> None:
    """Let VERSION name nothing any more. The release stays until nothing needs it and garbage is collected. For admins."""
    name = agent or agent_here()
    if dry_run:
        digest = client.release(name, version)["digest"]
    else:
        client.remove_tag(name, version)
    if as_json:
        print_json({"agent": name, "version": version, "untagged": not dry_run})
    elif dry_run:
        click.echo(f"{name}: {version} names {digest}; it would name nothing any more")
    else:
        click.echo(f"{name}: {version} names nothing any more")


@release.command("collect-garbage", short_help="Remove what nothing needs from the artifact store.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@connected
def collect_garbage(client: Client, dry_run: bool, as_json: bool) -> None:
    """Remove releases that no version names and no ring routes to or keeps warm, and blobs that no release needs.

    What was pushed or asked for in the last day stays: a push may be under way. For admins.
    """
    view = client.collect_garbage(dry_run=dry_run)
    if as_json:
        print_json(view)
        return
    for digest in view["releases"]:
        click.echo(f"  {digest}")
    done = "would remove" if dry_run else "removed"
    click.echo(f"{done} {len(view['releases'])} releases, {view['blobs']} blobs, {view['bytes']:,} bytes")


@contextmanager
def _folder_beside(output: Path) -> Iterator[Path]:
    """A folder on the same disk, so that the file appears as a whole. Raises `InvalidRequest`."""
    parent = output.absolute().parent
    if not parent.is_dir():
        raise InvalidRequest(f"there is no folder {parent}", hint="make it, or name another with -o")
    with tempfile.TemporaryDirectory(prefix=".turnout-export-", dir=parent) as work:
        yield Path(work)


def _write(archive: Path, client: Client, agent: str, digest: str) -> None:
    try:
        with archive.open("wb") as file:
            for block in client.archive(agent, digest):
                file.write(block)
    except ServerUnreachable:  # a server that finds damage can only cut what it has begun to send
        damages = client.verification(agent, digest, None)["damages"]
        if not damages:
            raise
        hint = "build and push the release again with --no-cache: missing and damaged blobs are replaced"
        raise DamagedContent("; ".join(damages), hint=hint) from None


def _add_wheels(archive: Path, work: Path, view: ReleaseView) -> Path:
    """The same archive with the packages that the lock file of the release names."""
    from turnout.artifacts.handover import hand_over, receive
    from turnout.artifacts.release import read_release, unpack_release
    from turnout.artifacts.wheels import attach_wheels
    from turnout.runtimes.wheels import download_wheels

    received = receive(archive, work / "layout")
    lock = read_release(received.store, received.release).spec.lock
    if lock is None:
        raise InvalidRequest(f"{view['version']} has no lock file, so no packages", hint="leave out --wheels")
    unpack_release(received.store, received.release, work / "release")
    note(f"download the packages of {lock}")
    files = download_wheels(work / "release", lock, work / "wheels")
    stored = {path.name: received.store.write([path.read_bytes()]) for path in files}
    attach_wheels(received.store, received.release, stored)
    made = work / "archive-with-wheels"
    with made.open("wb") as file:
        for block in hand_over(received.store, received.release, view["version"]).content:
            file.write(block)
    return made


def _examine(client: Client, received: Received, tag: str | None) -> dict[str, Any]:
    """Read every byte, and say what a push would come to."""
    for _, damage in received.store.damages():
        raise DamagedContent(damage)
    parcel = _parcel(client, received)
    return {
        "agent": parcel.agent,
        "version": tag or _version(received),
        "digest": received.release,
        "missing_blobs": len(parcel.missing),
        "dry_run": True,
    }


def _push(client: Client, received: Received, tag: str | None) -> ReleaseView:
    from turnout.artifacts.attest.notary import read_envelopes

    store, digest = received.store, received.release
    agent, bundles, wheels, missing = _parcel(client, received)
    for blob in missing:
        client.put_blob(agent, blob, store.read(blob))
    view = client.put_release(agent, digest, {"bundles": bundles, "tag": tag or _version(received)})
    for envelope in read_envelopes(store, store.release_manifest(digest)):
        answer = client.attest(agent, digest, envelope.decode())
        if answer["note"]:
            note(f"an attestation does not count here: {answer['note']} (`turnout keys trust` trusts a key)")
    if wheels:
        client.put_wheels(agent, digest, wheels)
        note(f"push     {len(wheels)} packages: {short_digest(digest)} is installed from them alone")
    return view


class _Parcel(NamedTuple):
    """What an archive brings: the bundles of the data, packages by name, and the blobs that the server does not have."""

    agent: str
    bundles: list[Digest]
    wheels: Mapping[str, Digest]
    missing: list[Digest]


def _parcel(client: Client, received: Received) -> _Parcel:
    from turnout.artifacts.document import read_image
    from turnout.artifacts.release import read_release
    from turnout.artifacts.wheels import find_wheels

    store, digest = received.store, received.release
    stored = read_release(store, digest)
    bundles = [bundle.digest for bundle in read_image(store.release_manifest(digest)).bundles]
    wheels = find_wheels(store, digest)
    blobs = [*(ref.digest for ref in stored.components.values()), *bundles, digest, *wheels.values()]
    missing = [Digest(blob) for blob in client.missing_blobs(stored.spec.agent, list(dict.fromkeys(blobs)))]
    note(f"push     {len(missing)} of {len(blobs)} blobs, {sum(store.size(blob) for blob in missing):,} bytes")
    return _Parcel(stored.spec.agent, bundles, wheels, missing)


def _version(received: Received) -> str | None:
    return received.tags[0] if received.tags else None
