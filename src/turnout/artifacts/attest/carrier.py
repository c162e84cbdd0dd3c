"""An attestation in an OCI store: a manifest with the envelope as its one layer, which refers to a release's image manifest.

It is a referrer as the OCI specification has it, so registries list it and other tools copy it along with the release. Its
annotations are labels; what counts is in the envelope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnout.artifacts.attest.envelope import MAX_ENVELOPE, claimed_type
from turnout.artifacts.attest.strict import parse_strict, to_canonical
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.document import EMPTY_CONFIG, EMPTY_TYPE, IMAGE_MANIFEST_TYPE, descriptor
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import ComponentRef, Digest

ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
PREDICATE_TYPE = "in-toto.io/predicate-type"  # annotation
MAX_CARRIER = 64 << 10  # bytes


@dataclass(frozen=True, slots=True)
class Carrier:
    """What a carrier says: where the envelope is, which image manifest it refers to, and the label of its kind."""

    envelope: ComponentRef
    subject: Digest
    predicate_type: str


def build_carrier(envelope: bytes, subject_manifest: bytes) -> bytes:
    """The manifest that carries an envelope, as canonical JSON; the same for the same envelope and release.

    Its blobs are `EMPTY_CONFIG` and the envelope; store them first. Raises `InvalidRequest` for what is no envelope.
    """
    predicate_type = claimed_type(envelope)
    if predicate_type is None:
        raise InvalidRequest("this is no envelope with a statement about a release")
    subject = ComponentRef(sha256_digest(subject_manifest), IMAGE_MANIFEST_TYPE, len(subject_manifest))
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST_TYPE,
        "artifactType": ENVELOPE_TYPE,
        "config": descriptor(ComponentRef(sha256_digest(EMPTY_CONFIG), EMPTY_TYPE, len(EMPTY_CONFIG))),
        "layers": [descriptor(ComponentRef(sha256_digest(envelope), ENVELOPE_TYPE, len(envelope)))],
        "subject": descriptor(subject),
        "annotations": {PREDICATE_TYPE: predicate_type},
    }
    return to_canonical(manifest, "the carrier")


def read_carrier(manifest: bytes) -> Carrier:
    """Read the manifest of an attestation. Raises `InvalidRequest` for anything else: a release has other referrers."""
    parsed = parse_strict(_Manifest, manifest, "the manifest of an attestation", limit=MAX_CARRIER)
    layer = parsed.layers[0]
    envelope = ComponentRef(Digest(layer.digest), layer.media_type, layer.size)
    return Carrier(envelope, Digest(parsed.subject.digest), parsed.annotations.get(PREDICATE_TYPE, ""))


def envelope_of(manifest: bytes) -> Digest:
    """The digest of the envelope that a manifest carries. Raises `InvalidRequest` like `read_carrier`."""
    return read_carrier(manifest).envelope.digest


class _Descriptor(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    media_type: str = Field(alias="mediaType")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class _Layer(_Descriptor):
    media_type: Literal["application/vnd.dsse.envelope.v1+json"] = Field(alias="mediaType")
    size: Annotated[int, Field(ge=0, le=MAX_ENVELOPE)]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    artifact_type: Literal["application/vnd.dsse.envelope.v1+json"] = Field(alias="artifactType")
    layers: Annotated[tuple[_Layer, ...], Field(min_length=1, max_length=1)]
    subject: _Descriptor
    annotations: Mapping[str, str] = Field(default_factory=dict)
