"""Manifests that refer to another one (OCI 1.1 `subject`): what one says of itself, and the blobs that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.document import IMAGE_MANIFEST_TYPE, TITLE
from turnout.domain.errors import DamagedContent, InvalidRequest
from turnout.domain.models import Digest
from turnout.manifest.values import MAX_INTEGER
from turnout.ports import Referrer


def describe_referrer(manifest: bytes, subject: Digest) -> Referrer:
    """What a manifest says of itself. Raises `InvalidRequest` when it does not refer to the subject."""
    try:
        parsed = _Manifest.model_validate_json(manifest)
    except ValidationError as error:
        raise InvalidRequest(f"this is no manifest that refers to another ({error.error_count()} faults)") from None
    if parsed.subject.digest != subject:
        raise InvalidRequest(f"this manifest refers to {parsed.subject.digest[:80]}, not to {subject}")
    kind = parsed.artifact_type or (parsed.config.media_type if parsed.config else "")
    return Referrer(sha256_digest(manifest), parsed.media_type, len(manifest), kind, parsed.annotations or {})


def referrer_blobs(manifest: bytes) -> tuple[Digest, ...]:
    """The blobs that the manifest of a referrer names. Raises `DamagedContent` when it cannot be read."""
    try:
        parsed = _Manifest.model_validate_json(manifest)
    except ValidationError:
        raise DamagedContent("the manifest of a referrer cannot be read") from None
    return tuple(Digest(blob.digest) for blob in (*((parsed.config,) if parsed.config else ()), *parsed.layers))


def titled_blobs(manifest: bytes) -> dict[str, Digest]:
    """The blobs of a manifest that have a title, by it. Raises `DamagedContent` when it cannot be read."""
    try:
        parsed = _Titled.model_validate_json(manifest)
    except ValidationError:
        raise DamagedContent("a manifest cannot be read") from None
    named = ((layer.annotations or {}).get(TITLE) for layer in parsed.layers)
    return {title: Digest(layer.digest) for title, layer in zip(named, parsed.layers, strict=True) if title}


def named_blobs(manifest: bytes) -> tuple[tuple[Digest, ...], tuple[Digest, ...]]:
    """The blobs that a manifest names, and the manifests that a list of them names. Raises `DamagedContent`."""
    try:
        parsed = _Naming.model_validate_json(manifest)
    except ValidationError:
        raise DamagedContent("a manifest cannot be read") from None
    blobs = (*((parsed.config,) if parsed.config else ()), *parsed.layers)
    return tuple(Digest(blob.digest) for blob in blobs), tuple(Digest(item.digest) for item in parsed.manifests)


# --- the shapes ------------------------------------------------------------------------------------------------------

Annotations = Mapping[str, str] | None


class LinkedDescriptor(BaseModel):
    """The descriptor of a manifest or blob, as far as it matters here."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    media_type: str = Field(alias="mediaType")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=MAX_INTEGER)]


class _TitledLayer(LinkedDescriptor):
    annotations: Annotations = None


class _Titled(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    layers: tuple[_TitledLayer, ...] = ()


class _Naming(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    config: LinkedDescriptor | None = None
    layers: tuple[LinkedDescriptor, ...] = ()
    manifests: tuple[LinkedDescriptor, ...] = ()


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    media_type: str = Field(alias="mediaType", default=IMAGE_MANIFEST_TYPE)
    artifact_type: str | None = Field(default=None, alias="artifactType")
    subject: LinkedDescriptor
    config: LinkedDescriptor | None = None
    layers: tuple[LinkedDescriptor, ...] = ()
    annotations: Annotations = None
