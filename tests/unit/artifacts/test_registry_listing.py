"""Which releases a repository holds, also when some of it is lost."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.artifacts.registry_fake import FakeRegistry, open_store, refuse
from turnout.artifacts.build import BuiltRelease
from turnout.artifacts.digest import hex_digits, sha256_digest
from turnout.artifacts.registry.tags import decode_tag, encode_tags, referrer_tag, referrers_tag
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, Retryable

_WORD = st.text("abcXYZ019", min_size=1, max_size=6)
_TAG = st.builds(
    lambda first, rest: first + "".join(sign + word for sign, word in rest),
    _WORD,
    st.lists(st.tuples(st.sampled_from([*"-._:@/+", "--"]), _WORD), max_size=6),
)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def built(registry: FakeRegistry, tmp_path: Path) -> BuiltRelease:
    return build(write_agent(tmp_path / "agent"), open_store(registry))


@given(_TAG, _TAG)
def test_every_version_tag_has_a_name_of_its_own_in_a_registry(tag: str, other: str) -> None:
    (name,) = encode_tags([tag])
    assert decode_tag(name) == tag
    assert (encode_tags([other]) == (name,)) == (other == tag)
    assert set(name) <= set("abcXYZ019-._")


def test_names_are_readable_and_bounded() -> None:
    assert encode_tags(["v1.0", "support/v1+3", "a:b@c"]) == ("v1.0", "support__v1_.3", "a_-b._c")
    assert encode_tags(["x" * 128]) == ("x" * 128,)
    with pytest.raises(InvalidRequest, match="cannot be a tag in a registry") as caught:
        encode_tags(["/".join("x" * 50)])
    assert "128" in (caught.value.hint or "")
    assert decode_tag("latest_") is None


def test_all_pages_of_tags_are_read(registry: FakeRegistry, built: BuiltRelease) -> None:
    tags = [f"v{number}" for number in range(7)]
    open_store(registry).put_release(built.manifest, built.digest, tags)
    registry.page = 2
    before = registry.sent("GET").count("/v2/team/releases/tags/list")
    assert open_store(registry).releases() == {built.digest: tuple(tags)}
    assert registry.sent("GET").count("/v2/team/releases/tags/list") == before + 5


def test_a_page_that_names_itself_ends_the_list(registry: FakeRegistry) -> None:
    link = {"Link": '</v2/team/releases/tags/list?n=1000>; rel="next"'}
    registry.intercept = lambda request: httpx.Response(200, json={"tags": None}, headers=link)
    assert open_store(registry).releases() == {}
    assert len(registry.requests) == 1


def test_a_list_that_breaks_off_is_an_error_and_never_short(registry: FakeRegistry, built: BuiltRelease) -> None:
    open_store(registry).put_release(built.manifest, built.digest, ["v1", "v2"])
    registry.page = 1
    registry.intercept = lambda request: refuse(404, "NAME_UNKNOWN") if "last" in request.url.params else None
    with pytest.raises(NotFound, match="tags/list"):
        open_store(registry).releases()


def test_a_repository_that_is_not_there_yet_holds_nothing() -> None:
    assert open_store(lambda request: refuse(404, "NAME_UNKNOWN")).releases() == {}


def test_a_release_that_was_copied_with_one_tag_only_is_found(registry: FakeRegistry, built: BuiltRelease) -> None:
    open_store(registry).put_release(built.manifest, built.digest, ["v1"])
    del registry.tags[hex_digits(built.digest)]
    assert open_store(registry).releases() == {built.digest: ("v1",)}
    assert list(open_store(registry).damages()) == []


def test_what_other_tools_put_there_is_left_out(registry: FakeRegistry, built: BuiltRelease) -> None:
    for name, content in {"image": b'{"schemaVersion": 2}', "text": b"[3]", "x_": built.manifest}.items():
        digest = sha256_digest(content)
        registry.manifests[digest] = content
        registry.tags[name] = digest
    assert open_store(registry).releases() == {built.digest: ()}


def test_a_registry_may_leave_out_the_digest_header(registry: FakeRegistry, built: BuiltRelease) -> None:
    open_store(registry).put_release(built.manifest, built.digest, ["v1"])
    registry.digest_header = False
    assert open_store(registry).releases() == {built.digest: ("v1",)}


@pytest.mark.parametrize("status", [404, 500])
def test_a_lost_or_unreadable_manifest_hides_no_release(
    registry: FakeRegistry, built: BuiltRelease, status: int
) -> None:
    open_store(registry).put_release(built.manifest, built.digest, ["v1"])
    manifest = sha256_digest(built.manifest)

    def lose(request: httpx.Request) -> httpx.Response | None:
        if "/manifests/" not in request.url.path:
            return None
        asked = request.headers.get("if-none-match")
        return httpx.Response(304 if asked == f'"{manifest}"' else status)

    registry.intercept = lose
    registry.blobs[manifest] = b"damaged"
    assert open_store(registry).releases() == {built.digest: ("v1",)}
    ((digest, text),) = open_store(registry).damages()
    assert digest == manifest
    assert "the image manifest of release" in text
    assert "(v1)" in text


def test_a_release_without_manifest_and_document_is_still_named(registry: FakeRegistry, built: BuiltRelease) -> None:
    registry.manifests.clear()
    registry.tags = {built.digest.removeprefix("sha256:"): sha256_digest(built.manifest)}
    registry.blobs[built.digest] = b"?"
    assert open_store(registry).releases() == {built.digest: ()}
    ((digest, text),) = open_store(registry).damages()
    assert digest == built.digest
    assert "its manifest and its document cannot be read" in text


def test_a_version_tag_of_a_lost_manifest_is_damage_and_never_left_out(
    registry: FakeRegistry, built: BuiltRelease
) -> None:
    registry.tags["v9"] = sha256_digest(b"lost")
    with pytest.raises(DamagedContent, match="v9"):
        open_store(registry).releases()
    registry.intercept = lambda request: httpx.Response(500) if request.url.path.endswith("/v9") else None
    with pytest.raises(Retryable, match="500"):
        open_store(registry).releases()


def test_a_tag_that_is_removed_meanwhile_has_lost_nothing(registry: FakeRegistry, built: BuiltRelease) -> None:
    open_store(registry).put_release(built.manifest, built.digest, ["v1", "v2"])

    def remove(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/manifests/v2"):
            registry.tags.pop("v2", None)
        return None

    registry.intercept = remove
    assert open_store(registry).releases() == {built.digest: ("v1",)}


def test_a_tag_that_names_another_release_is_damage(
    registry: FakeRegistry, built: BuiltRelease, tmp_path: Path
) -> None:
    other = write_agent(tmp_path / "other")
    (other / "server.py").write_text("other")
    second = build(other, open_store(registry))
    registry.tags[hex_digits(second.digest)] = sha256_digest(built.manifest)
    store = open_store(registry)
    assert built.digest in store.releases()
    assert [digest for digest, _ in store.damages()] == [sha256_digest(built.manifest)]
    with pytest.raises(DamagedContent, match=second.digest):
        store.release_manifest(second.digest)


def test_the_manifest_of_a_release_is_read_by_its_digest(registry: FakeRegistry, built: BuiltRelease) -> None:
    store = open_store(registry)
    assert store.release_manifest(built.digest) == built.manifest
    with pytest.raises(NotFound, match="is not recorded"):
        store.release_manifest(sha256_digest(b"unknown"))
    registry.intercept = lambda request: httpx.Response(
        200, content=json.dumps(json.loads(built.manifest)), headers={"Docker-Content-Digest": sha256_digest(b"x")}
    )
    with pytest.raises(DamagedContent, match="is damaged"):
        store.release_manifest(built.digest)


def test_a_registry_that_stores_another_manifest_is_found_out(registry: FakeRegistry, built: BuiltRelease) -> None:
    def other(request: httpx.Request) -> httpx.Response | None:
        wrong = {"Docker-Content-Digest": sha256_digest(b"other")}
        return httpx.Response(201, headers=wrong) if "/manifests/" in request.url.path and request.content else None

    registry.intercept = other
    with pytest.raises(DamagedContent, match="stored other bytes"):
        open_store(registry).put_release(built.manifest, built.digest, ["v1"])


def test_a_blob_that_vanishes_before_its_manifest_comes_is_named_as_missing(
    registry: FakeRegistry, built: BuiltRelease
) -> None:
    """Garbage collection between the check and the manifest."""

    def collect(request: httpx.Request) -> httpx.Response | None:
        if request.method == "PUT" and "/manifests/" in request.url.path:
            registry.blobs.pop(built.components["data"].digest, None)
        return None

    registry.tags.clear()
    registry.intercept = collect
    with pytest.raises(NotFound, match="does not have all blobs"):
        open_store(registry).put_release(built.manifest, built.digest, ["v1"])
    assert registry.tags == {}


def test_recording_a_release_again_writes_nothing(registry: FakeRegistry, built: BuiltRelease) -> None:
    """Some registries let no tag be written twice."""
    open_store(registry).put_release(built.manifest, built.digest, ["v1"])
    registry.requests.clear()
    open_store(registry).put_release(built.manifest, built.digest, ["v1"])
    assert {request.method for request in registry.requests} == {"GET", "HEAD"}


def test_tags_about_referrers_are_no_versions(registry: FakeRegistry, built: BuiltRelease) -> None:
    subject = sha256_digest(built.manifest)
    registry.tags[referrers_tag(subject)] = subject
    registry.tags[referrer_tag(subject, built.digest)] = subject
    assert open_store(registry).releases() == {built.digest: ()}
