"""What every router does, the fake and Envoy alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Protocol

import pytest

from tests.unit.traffic.support import (
    CANDIDATE,
    HOST,
    OTHER,
    STABLE,
    Upstream,
    ask,
    ring_route,
    routes,
    running_router,
    until,
)
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import FULL_WEIGHT, Digest
from turnout.ports import Router
from turnout.traffic.fake import Answer, FakeRouter


class World(Protocol):
    """A router and a way to see what it does."""

    address: str

    @property
    def router(self) -> Router: ...

    def ask(self, task: str, pin: str | None = None, agent: str = "support", ring: str = "production") -> Answer: ...

    def request_under_way(self) -> AbstractContextManager[None]: ...


class FakeWorld:
    def __init__(self) -> None:
        self.router = FakeRouter()
        self.address = f"{HOST}:1"

    def ask(self, task: str, pin: str | None = None, agent: str = "support", ring: str = "production") -> Answer:
        return self.router.route(agent, ring, task, pin)

    @contextmanager
    def request_under_way(self) -> Iterator[None]:
        chosen = self.router.route("support", "production", "t").release
        assert chosen is not None
        self.router.set_active("support", "production", chosen, 1)
        yield
        self.router.set_active("support", "production", chosen, 0)


class EnvoyWorld:
    def __init__(self, router: Router, port: int, upstream: Upstream) -> None:
        self.router = router
        self.address = upstream.address
        self._port = port
        self._upstream = upstream

    def ask(self, task: str, pin: str | None = None, agent: str = "support", ring: str = "production") -> Answer:
        pins = {} if pin is None else {"x_turnout_release": pin}
        reply = ask(self._port, f"/{agent}/{ring}/", x_turnout_task=task, **pins)
        return Answer(reply.status, Digest(reply.headers["x-turnout-release"]) if reply.status == 200 else None)

    @contextmanager
    def request_under_way(self) -> Iterator[None]:
        connection = HTTPConnection(HOST, self._port, timeout=10)
        connection.request("GET", "/support/production/sse")
        response = connection.getresponse()
        yield
        self._upstream.finish()
        response.read()
        connection.close()


@pytest.fixture(scope="module", params=["fake", "envoy"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    folder: Path = tmp_path_factory.mktemp("router")
    upstream = Upstream("agent")
    with running_router(folder) as (router, port):
        yield EnvoyWorld(router, port, upstream)
    upstream.close()


def test_a_ring_that_is_not_routed_is_not_found(world: World) -> None:
    world.router.apply(routes(ring_route((STABLE, FULL_WEIGHT), stable=world.address)))
    assert world.ask("t", ring="dev") == Answer(404)
    assert world.ask("t", agent="nobody") == Answer(404)
    world.router.apply(routes())
    assert world.ask("t") == Answer(404)


def test_applied_routes_serve_at_once_and_applying_again_changes_nothing(world: World) -> None:
    for digest in (STABLE, CANDIDATE, STABLE, STABLE):
        wanted = routes(ring_route((digest, FULL_WEIGHT), stable=world.address, candidate=world.address))
        world.router.apply(wanted)
        assert world.ask("t") == Answer(200, digest)


def test_without_a_live_replica_or_a_stable_release_nothing_is_available(world: World) -> None:
    world.router.apply(routes(ring_route((STABLE, FULL_WEIGHT), stable="")))
    assert world.ask("t") == Answer(503)
    assert world.ask("t", pin=STABLE) == Answer(503)
    world.router.apply(routes(ring_route((STABLE, FULL_WEIGHT))))
    assert world.ask("t") == Answer(503)
    world.router.apply(routes(ring_route(candidate=world.address)))
    assert world.ask("t") == Answer(503)
    assert world.ask("t", pin=CANDIDATE) == Answer(200, CANDIDATE)


def test_a_pin_reaches_what_is_pinnable_and_nothing_else(world: World) -> None:
    addresses = {"stable": world.address, "candidate": world.address, "other": world.address}
    world.router.apply(routes(ring_route((STABLE, FULL_WEIGHT), **addresses)))
    assert world.ask("t", pin=CANDIDATE) == Answer(200, CANDIDATE)
    assert world.ask("t", pin=OTHER) == Answer(409)
    assert world.ask("t", pin="sha256:none") == Answer(409)


def test_tasks_are_sticky_and_a_higher_weight_only_adds(world: World) -> None:
    tasks = [f"task-{number}" for number in range(200)]

    def on_candidate(weight: int) -> set[str]:
        weights = ((CANDIDATE, weight), (STABLE, FULL_WEIGHT - weight))
        world.router.apply(routes(ring_route(*weights, stable=world.address, candidate=world.address)))
        return {task for task in tasks if world.ask(task).release == CANDIDATE}

    some = on_candidate(3_000)
    assert some == on_candidate(3_000)
    assert 20 < len(some) < 100
    assert some < on_candidate(6_000)


def test_active_requests_are_counted_on_their_backend_even_after_a_flip(world: World) -> None:
    both = {"stable": world.address, "candidate": world.address}
    world.router.apply(routes(ring_route((STABLE, FULL_WEIGHT), **both)))
    with world.request_under_way():
        assert world.router.active_requests("support", "production", STABLE) == 1
        world.router.apply(routes(ring_route((CANDIDATE, FULL_WEIGHT), **both)))
        assert world.router.active_requests("support", "production", STABLE) == 1
        assert world.router.active_requests("support", "production", CANDIDATE) == 0
    until(lambda: world.router.active_requests("support", "production", STABLE) == 0)


def test_a_backend_that_is_not_known_has_no_requests(world: World) -> None:
    assert world.router.active_requests("nobody", "production", STABLE) == 0


def test_a_name_that_cannot_be_is_refused_and_changes_nothing(world: World) -> None:
    world.router.apply(routes(ring_route((STABLE, FULL_WEIGHT), stable=world.address)))
    with pytest.raises(InvalidRequest):
        world.router.apply(routes(ring_route((STABLE, FULL_WEIGHT), agent="a/b", stable=world.address)))
    assert world.ask("t") == Answer(200, STABLE)
