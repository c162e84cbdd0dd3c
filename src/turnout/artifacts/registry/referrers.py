"""What refers to a manifest: signatures, attestations. By the registry's list of referrers, or by tags where it has none.

Without the API the list is a manifest of its own under the tag `sha256-<digits>`, as the specification wants it. Nothing
guards that list against two writers, so each referrer also gets a tag of its own, `sha256-<digits>.<its digits>`: what one
writer takes off the list is still found, and comes back onto the list with the next.
"""

from __future__ import annotations

import threading
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from turnout.artifacts.digest import canonical_json, hex_digits
from turnout.artifacts.links import Annotations, LinkedDescriptor, describe_referrer
from turnout.artifacts.registry.client import RegistryClient
from turnout.artifacts.registry.manifests import get_manifest, put_manifest
from turnout.artifacts.registry.tags import list_tags, referrer_tag, referrers_tag
from turnout.domain.errors import DamagedContent
from turnout.domain.models import Digest
from turnout.ports import Referrer

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class Referrers:
    """The referrers in one repository."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._lock = threading.Lock()

    def put(self, subject: Digest, manifest: bytes) -> Digest:
        """Store a manifest whose `subject` is another manifest, and list it there. Returns its digest. Idempotent.

        Raises `InvalidRequest` for a manifest of another subject, `NotFound` when a blob of it is not stored.
        """
        referrer = describe_referrer(manifest, subject)
        answer = put_manifest(self._client, referrer.digest, manifest, referrer.media_type)
        if "oci-subject" not in answer.headers and self._from_api(subject) is None:
            self._list_by_tags(subject, referrer, manifest)
        return referrer.digest

    def find(self, subject: Digest, artifact_type: str | None = None) -> tuple[Referrer, ...]:
        """What refers to a manifest, by digest; of one type if it is given."""
        found = self._from_api(subject)
        if found is None:
            found = self._from_tags(subject)
        wanted = (referrer for referrer in found.values() if artifact_type in (None, referrer.artifact_type))
        return tuple(sorted(wanted, key=lambda referrer: referrer.digest))

    def _from_api(self, subject: Digest) -> dict[Digest, Referrer] | None:
        """None when the registry has no such list."""
        hex_digits(subject)
        found = None
        for answer in self._client.pages(self._client.path("referrers", subject)):
            found = (found or {}) | _read_index(answer.body, f"the list of referrers of {subject}")
        return found

    def _from_tags(self, subject: Digest) -> dict[Digest, Referrer]:
        name = referrers_tag(subject)
        index = get_manifest(self._client, name)
        found = _read_index(index.content, f"the list of referrers {name}") if index else {}
        listed = {referrer_tag(subject, digest) for digest in found}
        for tag in list_tags(self._client):
            if tag.startswith(f"{name}.") and tag not in listed:
                manifest = get_manifest(self._client, tag)
                if manifest:
                    found[manifest.digest] = describe_referrer(manifest.content, subject)
        return found

    def _list_by_tags(self, subject: Digest, referrer: Referrer, manifest: bytes) -> None:
        put_manifest(self._client, referrer_tag(subject, referrer.digest), manifest, referrer.media_type)
        with self._lock:
            found = self._from_tags(subject) | {referrer.digest: referrer}
            entries = [_entry(found[digest]) for digest in sorted(found)]
            index = canonical_json({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries})
            put_manifest(self._client, referrers_tag(subject), index, _INDEX_TYPE)


def _read_index(content: bytes, name: str) -> dict[Digest, Referrer]:
    try:
        entries = _Index.model_validate_json(content).manifests
    except ValidationError as error:
        raise DamagedContent(f"{name} cannot be read ({error.error_count()} faults)") from None
    return {entry.referrer().digest: entry.referrer() for entry in entries}


def _entry(referrer: Referrer) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size,
        "artifactType": referrer.artifact_type,
    }
    return entry | ({"annotations": dict(referrer.annotations)} if referrer.annotations else {})


# --- the shapes ------------------------------------------------------------------------------------------------------


class _Entry(LinkedDescriptor):
    artifact_type: str | None = Field(default=None, alias="artifactType")
    annotations: Annotations = None

    def referrer(self) -> Referrer:
        return Referrer(
            Digest(self.digest), self.media_type, self.size, self.artifact_type or "", self.annotations or {}
        )


class _Index(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    manifests: tuple[_Entry, ...]
