"""What refers to a release: by the registry's list, or by tags where it has none."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.artifacts.registry_fake import FakeRegistry, open_store
from turnout.artifacts.build import BuiltRelease
from turnout.artifacts.digest import canonical_json, hex_digits, sha256_digest
from turnout.artifacts.registry import OciRegistryStore
from turnout.artifacts.registry.tags import referrers_tag
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest, short_digest

PROVENANCE, EVALS = "application/vnd.in-toto+provenance", "application/vnd.in-toto+evals"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256_digest(b"{}"), "size": 2}


@pytest.fixture(params=["api", "tags"])
def registry(request: pytest.FixtureRequest) -> FakeRegistry:
    return FakeRegistry(referrers_api=request.param == "api")


@pytest.fixture
def store(registry: FakeRegistry) -> OciRegistryStore:
    return open_store(registry)


@pytest.fixture
def built(store: OciRegistryStore, tmp_path: Path) -> BuiltRelease:
    return build(write_agent(tmp_path / "agent"), store)


@pytest.fixture
def subject(built: BuiltRelease) -> Digest:
    return sha256_digest(built.manifest)


def attest(store: OciRegistryStore, subject: Digest, text: str, kind: str = PROVENANCE) -> bytes:
    """The manifest of an attestation whose blobs are stored."""
    store.write([b"{}"])
    blob = store.write([text.encode()])
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": kind,
            "config": EMPTY,
            "layers": [{"mediaType": "application/vnd.dsse+json", "digest": blob, "size": len(text)}],
            "subject": {"mediaType": MANIFEST_TYPE, "digest": subject, "size": 1},
            "annotations": {"made-by": text},
        }
    )


def test_referrers_are_listed_by_type(store: OciRegistryStore, subject: Digest) -> None:
    assert store.referrers(subject) == ()
    manifests = {kind: attest(store, subject, kind, kind) for kind in (PROVENANCE, EVALS)}
    digests = {kind: store.put_referrer(subject, manifest) for kind, manifest in manifests.items()}
    assert {referrer.digest for referrer in store.referrers(subject)} == set(digests.values())
    (found,) = store.referrers(subject, EVALS)
    assert (found.digest, found.artifact_type, found.media_type) == (digests[EVALS], EVALS, MANIFEST_TYPE)
    assert found.size == len(manifests[EVALS])
    assert store.read_all(found.digest) == manifests[EVALS]
    assert store.referrers(subject, "other") == ()


def test_putting_a_referrer_again_changes_nothing(store: OciRegistryStore, subject: Digest) -> None:
    manifest = attest(store, subject, "again")
    assert store.put_referrer(subject, manifest) == store.put_referrer(subject, manifest)
    assert len(store.referrers(subject)) == 1


def test_referrers_are_no_releases(store: OciRegistryStore, built: BuiltRelease, subject: Digest) -> None:
    store.put_referrer(subject, attest(store, subject, "x"))
    assert store.releases() == {built.digest: ()}
    assert list(store.damages()) == []


def test_many_at_once_lose_none(store: OciRegistryStore, subject: Digest) -> None:
    manifests = [attest(store, subject, str(number)) for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda manifest: store.put_referrer(subject, manifest), manifests))
    assert {referrer.digest for referrer in store.referrers(subject)} == digests
    assert len(digests) == 20


@pytest.mark.parametrize("registry", ["tags"], indirect=True)
def test_what_another_writer_took_off_the_list_is_found_and_listed_again(
    registry: FakeRegistry, store: OciRegistryStore, subject: Digest
) -> None:
    name = referrers_tag(subject)
    first = store.put_referrer(subject, attest(store, subject, "first"))
    stale = canonical_json(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
    )
    registry.manifests[sha256_digest(stale)] = stale
    registry.tags[name] = sha256_digest(stale)
    assert [referrer.digest for referrer in store.referrers(subject)] == [first]
    second = store.put_referrer(subject, attest(store, subject, "second"))
    index = json.loads(registry.manifests[registry.tags[name]])
    assert {entry["digest"] for entry in index["manifests"]} == {first, second}
    assert index["manifests"][0]["artifactType"] == PROVENANCE
    assert index["manifests"][0]["annotations"]["made-by"] in ("first", "second")


def test_a_manifest_of_another_subject_or_none_is_refused(store: OciRegistryStore, subject: Digest) -> None:
    other = attest(store, sha256_digest(b"other release"), "replayed")
    with pytest.raises(InvalidRequest, match="refers to"):
        store.put_referrer(subject, other)
    for manifest in (b"", b"{}", b"[]", json.dumps({"subject": {"digest": subject}}).encode()):
        with pytest.raises(InvalidRequest, match="no manifest that refers"):
            store.put_referrer(subject, manifest)
    with pytest.raises(InvalidRequest, match="is no digest"):
        store.referrers(Digest("../x"))
    assert store.referrers(subject) == ()


def test_a_referrer_whose_blobs_are_not_stored_is_refused(
    registry: FakeRegistry, store: OciRegistryStore, subject: Digest
) -> None:
    manifest = attest(store, subject, "gone")
    del registry.blobs[sha256_digest(b"gone")]
    with pytest.raises(NotFound, match="does not have all blobs"):
        store.put_referrer(subject, manifest)
    assert store.referrers(subject) == ()


def test_a_damaged_attestation_is_found_and_named(
    registry: FakeRegistry, store: OciRegistryStore, built: BuiltRelease, subject: Digest
) -> None:
    digest = store.put_referrer(subject, attest(store, subject, "signed"))
    registry.blobs[sha256_digest(b"signed")] = b"forged"
    ((damaged, text),) = store.damages()
    assert damaged == sha256_digest(b"signed")
    assert f"a blob of the {PROVENANCE} of release {short_digest(built.digest)}" in text

    def forge(request: httpx.Request) -> httpx.Response | None:
        path = f"/manifests/{digest}"
        return httpx.Response(200, content=b"{}") if request.url.path.endswith(path) else None

    registry.intercept = forge
    ((damaged, text),) = store.damages()
    assert damaged == digest
    assert f"the {PROVENANCE} of release" in text


def test_a_list_that_cannot_be_read_is_damage_and_never_empty(
    registry: FakeRegistry, store: OciRegistryStore, subject: Digest
) -> None:
    def garble(request: httpx.Request) -> httpx.Response | None:
        about = ("/referrers/", hex_digits(subject))
        return (
            httpx.Response(200, content=b'{"manifests": 3}')
            if any(part in request.url.path for part in about)
            else None
        )

    registry.intercept = garble
    with pytest.raises(DamagedContent, match="list of referrers"):
        store.referrers(subject)


def test_all_pages_of_referrers_are_read() -> None:
    subject, found = sha256_digest(b"subject"), [sha256_digest(b"a"), sha256_digest(b"b")]

    def registry(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params.get("page", "0"))
        entry = {"mediaType": MANIFEST_TYPE, "digest": found[page], "size": 1}
        link = {"Link": f'<?page={page + 1}>; rel="next"'} if page == 0 else {}
        return httpx.Response(200, json={"manifests": [entry]}, headers=link)

    assert {referrer.digest for referrer in open_store(registry).referrers(subject)} == set(found)
