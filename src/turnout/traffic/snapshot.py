"""Routes → the Envoy resources that serve them. Pure.

Resources are JSON text, one fragment a ring, so that a change in one ring renders that ring alone and a document's version
is the hash of what it holds.

A ring is reached by `/{agent}/{ring}/` and everything below it; the prefix is taken off. (The listener turns the host
name `{ring}.{agent}.localhost` into that path: see `bootstrap.py`.) Within a ring, in this order: a pin
(`x-turnout-release`) to a warm release; any other pin is answered 409; then the weights, sticky by `x-turnout-task`. A
ring that has no stable release yet is answered 503.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from turnout.domain.errors import InvalidRequest
from turnout.domain.models import FULL_WEIGHT, Backend, RingRoute, Routes, short_digest

RELEASE_HEADER = "x-turnout-release"
TASK_HEADER = "x-turnout-task"
RING_HEADER = "x-turnout-ring"
NAMESPACE = "turnout"  # of the metadata on clusters and routes
ROUTE_CONFIG_NAME = "turnout"
CAPTURE_FILTER = "turnout.capture"

NO_SUCH_RING = "there is no such agent and ring; ask for /{agent}/{ring}/ or the host name {ring}.{agent}.localhost"
NOT_WARM = "the release that x-turnout-release names is not warm in this ring; leave the header out to reach the ring"
NO_STABLE = "this ring has no stable release yet"

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TYPE = "type.googleapis.com/envoy."
_MANY = 100_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that Envoy is told: cluster name → resource, and the route configuration, all as JSON text."""

    clusters: Mapping[str, str]
    routes: str


@dataclass(frozen=True, slots=True)
class Document:
    """One file as Envoy reads it. `version` is the hash of its resources, and what Envoy reports once it has it."""

    version: str
    text: str


def build_snapshot(routes: Routes) -> Snapshot:
    """The resources for the routes. Raises `InvalidRequest` for a name, digest, address or weight that cannot be."""
    fragments = [_build_fragment(ring) for ring in routes.rings]
    clusters = {name: text for fragment in fragments for name, text in fragment.clusters}
    table = ",".join([*(fragment.routes for fragment in fragments), _NO_SUCH_RING_ROUTE])
    return Snapshot(clusters, f"{_ROUTE_CONFIG_HEAD}{table}]}}]}}")


def render_document(resources: Iterable[str]) -> Document:
    """A file of resources as Envoy's file subscriptions read it."""
    joined = ",".join(resources)
    version = hashlib.sha256(joined.encode()).hexdigest()[:16]
    return Document(version, f'{{"version_info":"{version}","resources":[{joined}]}}')


def parse_document(text: str) -> dict[str, str]:
    """The resources of a rendered document by name. Raises `ValueError` for anything else."""
    try:
        return {resource["name"]: _dump(resource) for resource in json.loads(text)["resources"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a document of resources: {error!r}") from error


def merge_clusters(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """What serves old and new routes alike: all clusters of both, and in a cluster of both the endpoints of both."""
    merged = {**old, **new}
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            merged[name] = _with_endpoints_of(new[name], old[name])
    return merged


def cluster_name(agent: str, ring: str, digest: str) -> str:
    """The name of a release's cluster in a ring."""
    return f"{agent}/{ring}/{short_digest(digest)}"


# --- one ring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fragment:
    clusters: tuple[tuple[str, str], ...]
    routes: str  # comma-separated


@lru_cache(maxsize=4_096)
def _build_fragment(ring: RingRoute) -> _Fragment:
    _check(ring)
    backends = {backend.digest: backend for backend in ring.backends}
    for digest, _ in ring.weights:
        backends.setdefault(digest, Backend(digest, ()))
    clusters = tuple(
        (cluster_name(ring.agent, ring.ring, digest), _dump(_build_cluster(ring, backend)))
        for digest, backend in sorted(backends.items())
    )
    return _Fragment(clusters, ",".join(map(_dump, _ring_routes(ring))))


def _check(ring: RingRoute) -> None:
    for word, name in (("agent", ring.agent), ("ring", ring.ring)):
        if not _SLUG.fullmatch(name):
            raise InvalidRequest(
                f"{name!r} cannot be the name of {'an' if word == 'agent' else 'a'} {word}",
                hint="lower-case letters, digits and inner hyphens, at most 63",
            )
    where = f"{ring.agent}/{ring.ring}"
    digests = [*(digest for digest, _ in ring.weights), *(backend.digest for backend in ring.backends)]
    for digest in digests:
        if not _DIGEST.fullmatch(digest):
            raise InvalidRequest(f"{digest!r} in {where} is not a digest")
    weights = [weight for _, weight in ring.weights]
    if weights and (sum(weights) != FULL_WEIGHT or min(weights) < 0):
        raise InvalidRequest(f"the weights of {where} are {weights}; they must add up to {FULL_WEIGHT}")
    if len({short_digest(digest) for digest in digests}) != len(set(digests)):
        raise InvalidRequest(f"two releases in {where} share the first twelve digits of their digests")


def _build_cluster(ring: RingRoute, backend: Backend) -> dict[str, Any]:
    """Idle connections end after a second, before any usual agent server closes them: no request meets a closing one."""
    name = cluster_name(ring.agent, ring.ring, backend.digest)
    many = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), _MANY)
    return {
        "@type": _TYPE + "config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [many]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": "1s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "metadata": {"filter_metadata": {NAMESPACE: {"release": backend.digest}}},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [_build_endpoint(address) for address in backend.endpoints]}],
        },
    }


def _build_endpoint(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    try:
        ip, number = ipaddress.ip_address(host.strip("[]")), int(port)
    except ValueError as error:
        raise InvalidRequest(f"{address!r} is not the address of a replica: an IP address and a port") from error
    if not 0 < number < 65_536:
        raise InvalidRequest(f"{address!r} is not the address of a replica: no such port")
    return {"endpoint": {"address": {"socket_address": {"address": str(ip), "port_value": number}}}}


def _ring_routes(ring: RingRoute) -> list[dict[str, Any]]:
    match = {"prefix": f"/{ring.agent}/{ring.ring}/"}
    where = {"agent": ring.agent, "ring": ring.ring}
    common = _tell(ring, where)
    forward = {"prefix_rewrite": "/", "timeout": "0s"}
    pins = [
        {
            "match": {**match, "headers": [{"name": RELEASE_HEADER, "string_match": {"exact": backend.digest}}]},
            "route": {"cluster": cluster_name(ring.agent, ring.ring, backend.digest), **forward},
            **_tell(ring, {**where, "pinned": True}),
        }
        for backend in ring.backends
        if backend.pinnable
    ]
    other_pin = {
        "match": {**match, "headers": [{"name": RELEASE_HEADER, "present_match": True}]},
        "direct_response": {"status": 409, "body": {"inline_string": NOT_WARM}},
        **common,
    }
    if not ring.weights:
        unready = {"match": match, "direct_response": {"status": 503, "body": {"inline_string": NO_STABLE}}, **common}
        return [*pins, other_pin, unready]
    split = {
        "clusters": [
            {"name": cluster_name(ring.agent, ring.ring, digest), "weight": weight} for digest, weight in ring.weights
        ],
        "use_hash_policy": True,
    }
    sticky = {"hash_policy": [{"header": _draw(ring)}], "weighted_clusters": split}
    told = _tell(ring, {**where, **_rollout(ring)})
    return [*pins, other_pin, {"match": match, "route": {**sticky, **forward}, **told}]


def _tell(ring: RingRoute, facts: Mapping[str, object]) -> dict[str, Any]:
    """What the access log and the filters are to know of a route."""
    told: dict[str, Any] = {"metadata": {"filter_metadata": {NAMESPACE: dict(facts)}}}
    if ring.capture:
        settings = {"@type": _TYPE + "extensions.filters.http.lua.v3.LuaPerRoute"}
        told["typed_per_filter_config"] = {CAPTURE_FILTER: {**settings, "filter_context": {"size": ring.capture}}}
    return told


def _draw(ring: RingRoute) -> dict[str, Any]:
    """By what a task is assigned. Each rollout draws anew: who had the last candidate need not have the next one too."""
    salt = {"pattern": {"regex": "^"}, "substitution": f"{ring.rollout}:"}
    return {"header_name": TASK_HEADER, **({"regex_rewrite": salt} if ring.rollout else {})}


def _rollout(ring: RingRoute) -> dict[str, object]:
    """Which share of the callers the candidate gets. All of them: nothing is compared, and its tasks are counted."""
    if ring.rollout is None or not ring.weights:
        return {}
    candidate, weight = ring.weights[0]
    return {"rollout": ring.rollout, "candidate": candidate, "share": weight, "beside": ring.weights[-1][0]}


def _with_endpoints_of(cluster: str, other: str) -> str:
    merged = json.loads(cluster)
    endpoints = merged["load_assignment"]["endpoints"][0]["lb_endpoints"]
    for endpoint in json.loads(other)["load_assignment"]["endpoints"][0]["lb_endpoints"]:
        if endpoint not in endpoints:
            endpoints.append(endpoint)
    return _dump(merged)


def _dump(resource: Mapping[str, Any]) -> str:
    return json.dumps(resource, separators=(",", ":"))


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


# --- the same for all rings ------------------------------------------------------------------------------------------

_RELEASE = f"%METADATA(CLUSTER:{NAMESPACE}:release)%"

# Only what cannot have reached an agent is tried again, and on another replica.
_RETRIES = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 2,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": _TYPE + "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        }
    ],
    "host_selection_retry_max_attempts": 3,
}

_ROUTE_CONFIG_HEAD = _dump(
    {
        "@type": _TYPE + "config.route.v3.RouteConfiguration",
        "name": ROUTE_CONFIG_NAME,
        "request_headers_to_add": [
            _header(RELEASE_HEADER, _RELEASE),
            _header(RING_HEADER, f"%METADATA(ROUTE:{NAMESPACE}:ring)%"),
        ],
        "response_headers_to_add": [_header(RELEASE_HEADER, _RELEASE), _header(TASK_HEADER, f"%REQ({TASK_HEADER})%")],
        "virtual_hosts": [{"name": "rings", "domains": ["*"], "retry_policy": _RETRIES, "routes": []}],
    }
).removesuffix("]}]}")

_NO_SUCH_RING_ROUTE = _dump(
    {"match": {"prefix": "/"}, "direct_response": {"status": 404, "body": {"inline_string": NO_SUCH_RING}}}
)
