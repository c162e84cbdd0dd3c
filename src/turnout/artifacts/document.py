"""The release document, whose sha256 is the identity of a release, and the OCI image manifest that carries it.

Document: `{"schemaVersion": 1, "agent": …, "components": {name: {"mediaType", "digest", "size"}}}` as canonical JSON. It is
the `config` of the image manifest; the components are its layers, in the order of `COMPONENT_NAMES`. The bundles that hold
the chunks of the data are layers too, so that every tool copies them, but not part of the identity: where chunks are stored
is a matter of what was pushed before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from turnout.artifacts.chunks.bundle import BUNDLE_TYPE, read_footer
from turnout.artifacts.chunks.catalog import choose_bundles
from turnout.artifacts.chunks.index import read_index
from turnout.artifacts.digest import canonical_json, sha256_digest
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import COMPONENT_NAMES, ComponentRef, Digest, short_digest
from turnout.manifest.values import MAX_INTEGER, AgentName
from turnout.ports import ArtifactStore

DOCUMENT_TYPE = "application/vnd.turnout.release.v1+json"
ARTIFACT_TYPE = "application/vnd.turnout.release.v1"
IMAGE_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY_CONFIG = b"{}"  # the config blob of what only refers to a release
TAR_COMPONENTS = ("code", "prompts")
REQUIRED_COMPONENTS = ("code", "config")


@dataclass(frozen=True, slots=True)
class ReleaseDocument:
    """A release document, read and checked. Components are in the order of `COMPONENT_NAMES`."""

    agent: str
    components: Mapping[str, ComponentRef]

    def as_json(self) -> dict[str, Any]:
        """The document as it is stored."""
        return {
            "schemaVersion": 1,
            "agent": self.agent,
            "components": {name: descriptor(ref) for name, ref in self.components.items()},
        }


def media_type(component: str) -> str:
    """`application/vnd.turnout.component.<name>.v1` and `.tar` or `+json`."""
    suffix = ".tar" if component in TAR_COMPONENTS else "+json"
    return f"application/vnd.turnout.component.{component}.v1{suffix}"


def descriptor(ref: ComponentRef) -> dict[str, Any]:
    """The OCI descriptor of a blob."""
    return {"mediaType": ref.media_type, "digest": ref.digest, "size": ref.size}


class Image(NamedTuple):
    """What an image manifest names: the release document, its components by name, the bundles with the data's chunks."""

    release: Digest
    components: dict[str, ComponentRef]
    bundles: tuple[ComponentRef, ...]


def build_image_manifest(
    document: bytes, components: Mapping[str, ComponentRef], bundles: Iterable[ComponentRef] = ()
) -> bytes:
    """The OCI image manifest of a release, as canonical JSON."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": descriptor(ComponentRef(sha256_digest(document), DOCUMENT_TYPE, len(document))),
            "layers": [
                {**descriptor(components[name]), "annotations": {TITLE: name}}
                for name in COMPONENT_NAMES
                if name in components
            ]
            + [descriptor(bundle) for bundle in bundles],
        }
    )


def check_release_document(content: bytes, digest: Digest) -> ReleaseDocument:
    """Read a release document.

    Raises `DamagedContent` when it has another digest, `InvalidRequest` when it is none or not in canonical form.
    """
    actual = sha256_digest(content)
    if actual != digest:
        raise DamagedContent(f"the release document of {digest} is damaged: its bytes have the digest {actual}")
    try:
        parsed = _Document.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise _no_release(digest, f"{place}: {first['msg']}") from None
    found = {str(name): component.ref() for name, component in parsed.components.items()}
    document = ReleaseDocument(parsed.agent, {name: found[name] for name in COMPONENT_NAMES if name in found})
    missing = [name for name in REQUIRED_COMPONENTS if name not in document.components]
    if missing:
        raise _no_release(digest, f"it has no component {missing[0]}")
    wrong = next((name for name, ref in document.components.items() if ref.media_type != media_type(name)), None)
    if wrong:
        raise _no_release(digest, f"component {wrong} has the media type {document.components[wrong].media_type}")
    if canonical_json(document.as_json()) != content:
        raise _no_release(digest, "it is not canonical JSON")
    return document


def read_image(manifest: bytes) -> Image:
    """Raises `InvalidRequest` for what is no image manifest of a release."""
    try:
        parsed = _Image.model_validate_json(manifest)
    except ValidationError as error:
        raise InvalidRequest(f"this is no image manifest of a release ({error.error_count()} faults)") from None
    refs = [(layer.annotations.get(TITLE, ""), layer.ref()) for layer in parsed.layers]
    bundles = tuple(ref for _, ref in refs if ref.media_type == BUNDLE_TYPE)
    components = {name: ref for name, ref in refs if ref.media_type != BUNDLE_TYPE}
    return Image(Digest(parsed.config.digest), components, bundles)


def is_release(manifest: bytes) -> bool:
    """Whether a manifest is of a release, and not of something that another tool stored."""
    with suppress(ValueError, AttributeError, RecursionError):
        return bool(json.loads(manifest).get("artifactType") == ARTIFACT_TYPE)
    return False


def check_recordable(store: ArtifactStore, manifest: bytes, release: Digest) -> ReleaseDocument:
    """Check that an image manifest is of a release, all of which is stored.

    Raises `NotFound` naming the first missing blob, `DamagedContent` for a manifest of something else.
    """
    if not store.has(release):
        raise NotFound(f"the document of release {release} is not stored", hint="push its blobs before the release")
    document = check_release_document(store.read_all(release), release)
    try:
        image = read_image(manifest)
    except InvalidRequest as error:
        raise DamagedContent(error.message) from None
    parts = [*document.components.items(), *(("data's bundle", bundle) for bundle in image.bundles)]
    for name, ref in parts:
        if not store.has(ref.digest):
            raise NotFound(
                f"component {name} ({ref.digest}) of release {short_digest(release)} is not stored",
                hint="push its blobs before the release",
            )
        if store.size(ref.digest) != ref.size:
            raise DamagedContent(f"component {name} ({ref.digest}) is not of the size that the release declares")
    if image.release != release or image.components != document.components:
        raise DamagedContent(f"this image manifest is not of release {release}")
    _check_data(store, document, image)
    return document


def _check_data(store: ArtifactStore, document: ReleaseDocument, image: Image) -> None:
    data = document.components.get("data")
    footers = {bundle.digest: read_footer(store, bundle.digest) for bundle in image.bundles}
    missing = choose_bundles(read_index(store, data.digest), footers)[1] if data else []
    if missing:
        raise NotFound(
            f"{len(missing)} chunks of component data of release {short_digest(image.release)} are not stored",
            hint="push its bundles before the release",
        )


def _no_release(digest: Digest, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{digest} is no release document: {reason}")


# --- the strict shapes -----------------------------------------------------------------------------------------------

_DigestText = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_Size = Annotated[int, Field(ge=0, le=MAX_INTEGER)]


class _Descriptor(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    media_type: str = Field(alias="mediaType")
    digest: _DigestText
    size: _Size

    def ref(self) -> ComponentRef:
        return ComponentRef(Digest(self.digest), self.media_type, self.size)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1] = Field(alias="schemaVersion")
    agent: AgentName
    components: Mapping[Literal["code", "model", "prompts", "tools", "data", "config"], _Descriptor]


class _ImageDescriptor(_Descriptor):
    model_config = ConfigDict(extra="ignore")

    annotations: Mapping[str, str] = Field(default_factory=dict)


class _Image(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    config: _ImageDescriptor
    layers: tuple[_ImageDescriptor, ...]
