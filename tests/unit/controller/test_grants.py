from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.controller.stage import staged
from tests.unit.domain.values import make_deployment, make_digest, make_release, make_replica
from turnout.controller.grants import GrantBook
from turnout.domain.budget import Budget, BudgetScope
from turnout.domain.errors import DamagedContent, RuntimeUnavailable, StorageFull
from turnout.domain.grants import Grants, ModelPin, Pins, granted_digests
from turnout.domain.models import Digest, Pointer, Release, Retired, RingSettings
from turnout.domain.phases import Phase

ONE = make_release("one", rings=(RingSettings("dev", budgets=(Budget(BudgetScope.TASK, 5),)),))
TWO = make_release("two", rings=(RingSettings("dev"),))
PINS = Pins((ModelPin("openai", "gpt"),), restart_streams=True)


class World:
    """What a book reads and writes."""

    def __init__(self) -> None:
        self.written: list[Grants] = []
        self.read: list[str] = []
        self.broken: set[str] = set()
        self.full = False

    def book(self, known: Grants | None = None, *, outdated: bool = False) -> GrantBook:
        return GrantBook(known or Grants(), self.pins, lambda *who: "/".join(who), self.write, outdated=outdated)

    def pins(self, release: Release) -> Pins:
        self.read.append(release.version)
        if release.version in self.broken:
            raise DamagedContent("its bytes are others")
        return PINS

    def write(self, grants: Grants) -> None:
        if self.full:
            raise StorageFull("the disk is full")
        self.written.append(grants)

    @property
    def granted(self) -> list[tuple[str, str]]:
        return [(grant.ring, grant.version) for grant in self.written[-1].grants.values()]


def test_a_grant_says_what_the_release_pins_and_what_ring_and_instance_limit() -> None:
    world, everywhere = World(), Budget(BudgetScope.WORKSPACE, 9, window=60.0)
    world.book().set_ring("support", "dev", [ONE, TWO], (everywhere,), {TWO.digest: "a breaker tripped"})
    first, second = world.written[-1].grants.values()
    assert (first.models, first.restart_streams, first.version) == (PINS.models, True, "one")
    assert first.key == f"support/dev/{ONE.digest}"
    assert first.budgets == (Budget(BudgetScope.TASK, 5), everywhere)
    assert (first.stopped, second.stopped) == (None, "a breaker tripped")


def test_it_is_written_only_when_something_changed() -> None:
    world = World()
    book = world.book()
    for _ in range(3):
        book.set_ring("support", "dev", [ONE])
    assert len(world.written) == 1
    assert world.read == ["one"]
    book.set_ring("support", "dev", [TWO])
    assert world.granted == [("dev", "two")]


def test_what_a_server_before_published_counts_until_its_ring_is_looked_at() -> None:
    world = World()
    world.book().set_ring("support", "dev", [ONE])
    later = World()
    book = later.book(world.written[-1])
    book.keep_only({("support", "dev"), ("support", "production")})
    assert later.written == []  # the file of before goes on
    book.set_ring("support", "production", [TWO])
    assert later.granted == [("dev", "one"), ("production", "two")]
    assert later.read == ["two"]  # what one pins was known
    book.keep_only({("support", "production")})
    book.set_ring("support", "production", [TWO])
    assert later.granted == [("production", "two")]


def test_what_another_version_published_is_read_anew_and_counts_where_that_fails() -> None:
    world = World()
    world.book().set_ring("support", "dev", [ONE, TWO])
    later = World()
    later.broken = {"two"}
    book = later.book(world.written[-1], outdated=True)
    book.set_ring("support", "dev", [ONE, TWO])
    assert later.read == ["one", "two"]
    assert later.granted == [("dev", "one"), ("dev", "two")]


def test_a_release_whose_pins_cannot_be_read_must_not_start_and_keeps_nothing_from_others() -> None:
    world = World()
    world.broken = {"two"}
    book = world.book()
    book.set_ring("support", "dev", [ONE, TWO])
    book.check("support", "dev", ONE.digest)
    with pytest.raises(RuntimeUnavailable, match="cannot be read"):
        book.check("support", "dev", TWO.digest)
    world.broken = set()
    book.set_ring("support", "dev", [ONE, TWO])
    book.check("support", "dev", TWO.digest)


def test_nothing_starts_on_a_grant_that_could_not_be_written() -> None:
    world = World()
    world.full = True
    book = world.book()
    book.set_ring("support", "dev", [ONE])
    with pytest.raises(RuntimeUnavailable, match="cannot be written"):
        book.check("support", "dev", ONE.digest)
    world.full = False
    book.set_ring("support", "dev", [ONE])
    book.check("support", "dev", ONE.digest)


def test_whatever_runs_is_warm_or_about_to_start_is_granted() -> None:
    pointer = Pointer("support", "production", stable=make_digest("s"), last_good=make_digest("l"))
    pointer = replace(pointer, candidate=make_digest("c"), retired=(Retired(make_digest("r"), 1.0),))
    building, draining = make_release("building"), make_release("draining")
    found = granted_digests(pointer, [make_deployment(building, phase=Phase.BUILDING)], [make_replica(draining)])
    assert found == (*map(make_digest, "sclr"), building.digest, draining.digest)


def test_a_release_is_granted_before_its_first_replica_starts_and_until_its_last_has_ended(tmp_path: Path) -> None:
    world, seen = World(), list[set[Digest]]()
    book = world.book()
    with staged(tmp_path, [ONE, TWO], grants=book) as stage:
        start = stage.runtime.start

        def watched(replica: object) -> None:
            seen.append({grant.release for grant in world.written[-1].grants.values()})
            start(replica)  # type: ignore[arg-type]

        stage.runtime.start = watched  # type: ignore[method-assign]
        stage.deploy(ONE)
        stage.deploy(TWO)
        assert ONE.digest in seen[0]
        assert {ONE.digest, TWO.digest} <= seen[1]
        assert {version for _, version in world.granted} == {"one", "two"}
