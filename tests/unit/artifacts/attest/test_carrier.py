"""Attestations in an OCI store: the manifest that refers to a release, in a layout and in a registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.artifacts.attest.people import ALICE, CI, NOW, RELEASE, TRUSTED, approval, provenance
from tests.unit.artifacts.registry_fake import FakeRegistry, open_store
from turnout.artifacts.attest.carrier import (
    ENVELOPE_TYPE,
    Carrier,
    build_carrier,
    envelope_of,
    read_carrier,
)
from turnout.artifacts.attest.envelope import MAX_ENVELOPE, Opened, read_envelope, sign_statement
from turnout.artifacts.attest.statement import KINDS
from turnout.artifacts.digest import canonical_json, sha256_digest
from turnout.artifacts.document import EMPTY_CONFIG
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.links import describe_referrer
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import ComponentRef

IMAGE = b'{"schemaVersion":2}'
ENVELOPE = sign_statement(provenance(), CI)
CARRIER = build_carrier(ENVELOPE, IMAGE)


def changed(**fields: Any) -> bytes:
    document = {**json.loads(CARRIER), **fields}
    return canonical_json({name: value for name, value in document.items() if value is not None})


def test_a_carrier_is_an_oci_artifact_that_refers_to_the_release() -> None:
    assert json.loads(CARRIER) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.dsse.envelope.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.dsse.envelope.v1+json",
                "digest": sha256_digest(ENVELOPE),
                "size": len(ENVELOPE),
            }
        ],
        "subject": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": sha256_digest(IMAGE),
            "size": len(IMAGE),
        },
        "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
    }
    assert build_carrier(ENVELOPE, IMAGE) == CARRIER == canonical_json(json.loads(CARRIER))


def test_a_carrier_is_read_back() -> None:
    envelope = ComponentRef(sha256_digest(ENVELOPE), ENVELOPE_TYPE, len(ENVELOPE))
    assert read_carrier(CARRIER) == Carrier(envelope, sha256_digest(IMAGE), KINDS["provenance"])
    assert envelope_of(CARRIER) == sha256_digest(ENVELOPE)


def test_a_carrier_without_labels_is_read_too() -> None:
    assert read_carrier(changed(annotations=None)).predicate_type == ""


def test_a_carrier_describes_itself_as_a_referrer() -> None:
    found = describe_referrer(CARRIER, sha256_digest(IMAGE))
    assert found.artifact_type == ENVELOPE_TYPE
    assert found.annotations == {"in-toto.io/predicate-type": KINDS["provenance"]}
    with pytest.raises(InvalidRequest, match="refers to"):
        describe_referrer(CARRIER, RELEASE)


@pytest.mark.parametrize("referrers_api", [True, False])
def test_a_registry_keeps_and_finds_it(tmp_path: Path, referrers_api: bool) -> None:
    store = open_store(FakeRegistry(referrers_api=referrers_api))
    built = build(write_agent(tmp_path / "agent"), store)
    subject = sha256_digest(built.manifest)
    for envelope in (ENVELOPE, sign_statement(approval("alice"), ALICE)):
        store.write([EMPTY_CONFIG])
        store.write([envelope])
        store.put_referrer(subject, build_carrier(envelope, built.manifest))
    found = store.referrers(subject, ENVELOPE_TYPE)
    carriers = [read_carrier(store.read_all(referrer.digest)) for referrer in found]
    assert {carrier.predicate_type for carrier in carriers} == {KINDS["provenance"], KINDS["approval"]}
    content = [store.read_all(carrier.envelope.digest) for carrier in carriers]
    assert all(isinstance(read_envelope(item, TRUSTED, NOW, digest=RELEASE), Opened) for item in content)


def test_a_layout_keeps_it(tmp_path: Path) -> None:
    store = OciLayoutStore(tmp_path / "store")
    manifest = store.write([build_carrier(ENVELOPE, IMAGE)])
    store.write([ENVELOPE])
    assert store.read_all(envelope_of(store.read_all(manifest))) == ENVELOPE


LAYER = json.loads(CARRIER)["layers"][0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b" " * 70_000,
        IMAGE,
        changed(artifactType=None),
        changed(artifactType="application/vnd.example.signature"),
        changed(subject=None),
        changed(subject={**LAYER, "digest": "sha256:x"}),
        changed(layers=[]),
        changed(layers=[LAYER, LAYER]),
        changed(layers=[{**LAYER, "mediaType": "text/plain"}]),
        changed(layers=[{**LAYER, "digest": "../../etc/passwd"}]),
        changed(layers=[{**LAYER, "size": MAX_ENVELOPE + 1}]),
        changed(layers=[{**LAYER, "size": -1}]),
        changed(annotations={"in-toto.io/predicate-type": 3}),
    ],
)
def test_another_manifest_is_no_carrier(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the manifest of an attestation"):
        envelope_of(content)


@pytest.mark.parametrize("content", [b"", b"{}", ENVELOPE[:-1]])
def test_only_an_envelope_is_carried(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no envelope"):
        build_carrier(content, IMAGE)
