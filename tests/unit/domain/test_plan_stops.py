"""When replicas are stopped, and how long releases that left the traffic are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.domain.values import make_deployment, make_release, make_replica
from tests.unit.domain.views import EXITED, NEW, NOW, ON_OLD, STOPPING, look
from turnout.domain.actions import BeginDrain, ForgetRetired, StopReplica
from turnout.domain.models import Condition, Retired
from turnout.domain.plan import plan
from turnout.domain.view import RingView


def leaving(**fields: Any) -> RingView:
    """v2 runs and nobody wants it."""
    return look(others=(make_replica(NEW),), **fields)


NAME = make_replica(NEW).id


def test_a_replica_that_nobody_wants_is_drained_before_it_is_stopped() -> None:
    assert plan(leaving(), NOW) == (BeginDrain(NAME),)
    busy = {"draining_since": {NAME: NOW}, "active_requests": {NEW.digest: 1}}
    assert plan(leaving(**busy), NOW + 29.9) == ()
    assert plan(leaving(**busy), NOW + 30.0) == (StopReplica(NAME, 10.0),)


def test_a_replica_without_requests_is_stopped_at_once() -> None:
    assert plan(leaving(draining_since={NAME: NOW}), NOW) == (StopReplica(NAME, 10.0),)


def test_nothing_is_stopped_while_the_proxy_may_still_route_to_it() -> None:
    assert plan(leaving(routed=False), NOW) == ()
    assert plan(leaving(routed=False, draining_since={NAME: NOW}), NOW + 99.0) == ()


def test_a_replica_that_is_being_stopped_is_not_stopped_again() -> None:
    assert plan(look(others=(make_replica(NEW, STOPPING),)), NOW) == ()


def test_a_replica_that_ended_unwanted_is_cleared_away() -> None:
    assert plan(look(others=(make_replica(NEW, EXITED),)), NOW) == (StopReplica(NAME, 10.0),)


def test_a_replica_of_a_release_that_nobody_knows_is_stopped_like_any_other() -> None:
    unknown = make_replica(make_release("unknown"))
    view = look(others=(unknown,), draining_since={unknown.id: NOW})
    assert plan(view, NOW) == (StopReplica(unknown.id, 10.0),)


def test_a_retired_release_is_kept_for_its_warm_time() -> None:
    pointer = replace(ON_OLD, retired=(Retired(NEW.digest, NOW),))
    view = look(pointer=pointer, others=(make_replica(NEW),))
    assert plan(view, NOW + 599.9) == ()
    assert plan(view, NOW + 600.0) == (ForgetRetired(NEW.digest),)


def test_last_good_is_kept_for_ever() -> None:
    pointer = replace(ON_OLD, last_good=NEW.digest)
    assert plan(look(pointer=pointer, others=(make_replica(NEW),)), NOW + 1e9) == ()


def test_a_retired_release_that_is_deployed_again_is_not_forgotten_meanwhile() -> None:
    pointer = replace(ON_OLD, retired=(Retired(NEW.digest, 0.0),))
    queued = make_deployment(NEW, condition=Condition("build_slot", "waiting for a build slot", 0.0))
    assert plan(look(queued, pointer=pointer, others=(make_replica(NEW),), slot_free=False), NOW) == ()
