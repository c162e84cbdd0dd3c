"""Manifests of a registry: small documents that tags name, and that name blobs."""

from __future__ import annotations

from dataclasses import dataclass

from turnout.artifacts.digest import parse_digest, sha256_digest
from turnout.artifacts.registry.answers import Answer, content_length, error_codes
from turnout.artifacts.registry.client import FOUND, Ask, RegistryClient
from turnout.artifacts.registry.downloads import ACCEPT
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest as the registry gave it out; its bytes have the digest."""

    digest: Digest
    content: bytes


def put_manifest(client: RegistryClient, reference: str, manifest: bytes, media_type: str) -> Answer:
    """Store a manifest under a tag or its digest.

    Raises `NotFound` when a blob that it names is not stored, `DamagedContent` when the registry got other bytes.
    """
    path = client.path("manifests", reference)
    expected = frozenset({200, 201, 202, 400, 404})
    answer = client.send(Ask("PUT", path, expected, {"Content-Type": media_type}, manifest, writes=True))
    codes = error_codes(answer)
    if answer.status >= 400 and ("MANIFEST_BLOB_UNKNOWN" in codes or "BLOB_UNKNOWN" in codes):
        raise NotFound(
            f"the registry {answer.url.host} does not have all blobs of the manifest {reference}",
            hint="push its blobs before it",
        )
    if answer.status >= 400:
        raise client.refusal(answer)
    stored = answer.headers.get("docker-content-digest", "")
    if stored.startswith("sha256:") and stored != sha256_digest(manifest):
        raise DamagedContent(
            f"the registry {answer.url.host} stored other bytes as manifest {reference}: {stored[:80]}"
        )
    return answer


def get_manifest(client: RegistryClient, reference: str) -> FoundManifest | None:
    """The manifest of a tag; None when there is none.

    A tag is believed only as far as the digest that the registry says it has: raises `DamagedContent` for other bytes.
    """
    answer = client.send(Ask("GET", client.path("manifests", reference), FOUND, {"Accept": ACCEPT}))
    if answer.status == 404:
        return None
    actual = sha256_digest(answer.body)
    promised = _digest_header(answer)
    if promised not in (None, actual):
        raise DamagedContent(f"the manifest {reference} is damaged: its bytes have the digest {actual}, not {promised}")
    return FoundManifest(actual, answer.body)


def find_manifest(client: RegistryClient, reference: str) -> Digest | None:
    """The digest of the manifest that a tag names. None when the registry has lost it, or cannot read it."""
    answer = client.send(Ask("HEAD", client.path("manifests", reference), FOUND | {500}, {"Accept": ACCEPT}))
    if answer.status != 200:
        return None
    promised = _digest_header(answer)
    if promised:
        return promised
    found = get_manifest(client, reference)
    return found.digest if found else None


def manifest_size(client: RegistryClient, digest: Digest) -> int | None:
    """Bytes of a manifest; None when it is not there."""
    answer = client.send(Ask("HEAD", client.path("manifests", digest), FOUND, {"Accept": ACCEPT}))
    return content_length(answer) if answer.status == 200 else None


def names_manifest(client: RegistryClient, reference: str, digest: Digest) -> bool:
    """Whether a tag names this manifest, asked so that the registry need not read it: its entity tag is its digest."""
    headers = {"Accept": ACCEPT, "If-None-Match": f'"{digest}"'}
    path = client.path("manifests", reference)
    return client.send(Ask("HEAD", path, FOUND | {304, 500}, headers)).status == 304


def _digest_header(answer: Answer) -> Digest | None:
    try:
        return parse_digest(answer.headers.get("docker-content-digest", ""))
    except InvalidRequest:
        return None
