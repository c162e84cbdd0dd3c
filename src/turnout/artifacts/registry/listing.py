"""Which releases a repository holds, from its tags.

Every release has the tag of its digest; version tags name the same manifest. A manifest that the registry has lost or cannot
read hides nothing: a tag tells its digest, or it follows from the release's document, and the registry still knows which
tags name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.document import build_image_manifest, check_release_document, is_release, read_image
from turnout.artifacts.registry.client import RegistryClient
from turnout.artifacts.registry.downloads import read_small
from turnout.artifacts.registry.manifests import find_manifest, get_manifest, names_manifest
from turnout.artifacts.registry.tags import (
    decode_tag,
    is_manifest_tag,
    is_referrers_tag,
    list_tags,
    manifest_of_tag,
    release_of_tag,
)
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest

_LONGEST_DOCUMENT = 16 << 20


@dataclass(frozen=True, slots=True)
class Listed:
    """A release in the repository. `manifest` is None when it cannot be told: it and the document are unreadable."""

    release: Digest
    manifest: Digest | None
    tags: tuple[str, ...]


def list_releases(client: RegistryClient) -> tuple[Listed, ...]:
    """All releases, by digest.

    Raises `DamagedContent` when a version tag names a manifest that is lost, `Retryable` when the registry fails to say.
    """
    names = [name for name in list_tags(client) if not is_referrers_tag(name)]
    told = [name for name in names if is_manifest_tag(name)]
    found = _find_manifests(client, [name for name in names if not is_manifest_tag(name)])
    named = {name: release for name in found if (release := release_of_tag(name))}
    releases = {release: found[name] or _expected_manifest(client, release, told) for name, release in named.items()}
    owners: dict[Digest, Digest | None] = {manifest: release for release, manifest in releases.items() if manifest}
    unreadable = {manifest: named[name] for name in named if not found[name] and (manifest := releases[named[name]])}
    tags: dict[Digest, list[str]] = {}
    for name, manifest in found.items():
        if name in named:
            continue
        if manifest and manifest not in owners:
            owners[manifest] = _release_of(read_small(client, manifest, _LONGEST_DOCUMENT))
        release = owners[manifest] if manifest else _named_by(client, name, unreadable)
        if release:
            releases.setdefault(release, manifest)
            tags.setdefault(release, []).append(decode_tag(name) or "")
    return tuple(
        Listed(release, manifest, tuple(sorted(tag for tag in tags.get(release, ()) if tag)))
        for release, manifest in sorted(releases.items())
    )


def _find_manifests(client: RegistryClient, names: list[str]) -> dict[str, Digest | None]:
    """Each tag with the digest of its manifest; None for one that the registry has lost or cannot read."""
    with ThreadPoolExecutor(client.connections) as pool:
        found = dict(zip(names, pool.map(partial(find_manifest, client), names), strict=True))
    if all(found.values()):
        return found
    left = set(list_tags(client))  # a tag that was removed meanwhile has lost nothing
    return {name: manifest for name, manifest in found.items() if name in left}


def _expected_manifest(client: RegistryClient, release: Digest, told: list[str]) -> Digest | None:
    """The digest of the manifest that turnout made for a release; None when nothing tells it."""
    for name in told:
        if manifest := manifest_of_tag(name, release):
            return manifest
    with suppress(DamagedContent, InvalidRequest, NotFound):
        document = read_small(client, release, _LONGEST_DOCUMENT)
        components = check_release_document(document, release).components
        if "data" in components:  # the bundles that hold its chunks are named by the manifest alone
            return None
        return sha256_digest(build_image_manifest(document, components))
    return None


def _release_of(manifest: bytes) -> Digest | None:
    """The release that a manifest carries; None for what another tool put there."""
    with suppress(InvalidRequest):
        return read_image(manifest).release if is_release(manifest) else None
    return None


def _named_by(client: RegistryClient, name: str, unreadable: Mapping[Digest, Digest]) -> Digest | None:
    """The release that a tag names whose manifest could not be found. None for what another tool put there."""
    for manifest, release in unreadable.items():
        if names_manifest(client, name, manifest):
            return release
    found = get_manifest(client, name)
    if found is None:
        raise DamagedContent(
            f"the manifest that the tag {name} of {client.location.name} names is lost",
            hint="push the release again, or remove the tag",
        )
    return _release_of(found.content)
