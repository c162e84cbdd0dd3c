"""To which release a rollback goes, by the history of a ring; and how releases are named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.controller.stage import Stage, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.domain.errors import Conflict, NotFound, PolicyRefused
from turnout.domain.models import Quarantine, Release, RingSettings
from turnout.services.office import find_release, ring_names

RINGS = (RingSettings("dev", warm=0.0),)
ONE, TWO, THREE = (make_release(f"v{number}", rings=RINGS) for number in (1, 2, 3))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO, THREE)) as stage:
        yield stage


def active(stage: Stage, *releases: Release) -> None:
    for release in releases:
        stage.deploy(release, override="again")


def target(stage: Stage, **wish: object) -> str:
    """The version that is stable after a rollback."""
    stage.roll_back(**wish)  # type: ignore[arg-type]
    digest = stage.pointer().stable
    return next(release.version for release in (ONE, TWO, THREE) if release.digest == digest)


def test_back_to_what_was_stable_before(stage: Stage) -> None:
    active(stage, ONE, TWO, THREE)
    assert target(stage) == "v2"


def test_and_from_there_to_what_was_stable_before_that(stage: Stage) -> None:
    active(stage, ONE, TWO, THREE)
    assert (target(stage), target(stage)) == ("v2", "v1")


def test_never_to_what_was_left_before(stage: Stage) -> None:
    active(stage, ONE, TWO)
    assert target(stage, quarantine=False) == "v1"
    with pytest.raises(Conflict, match="no release to go back to"):
        target(stage)


def test_a_release_in_quarantine_is_passed_over(stage: Stage) -> None:
    active(stage, ONE, TWO, THREE)
    with stage.store.transaction() as transaction:
        transaction.add_quarantine(Quarantine(AGENT, TWO.digest, "dev", "it lied", "bob", 1.0))
    assert target(stage) == "v1"


def test_to_a_release_in_quarantine_only_with_an_override(stage: Stage) -> None:
    active(stage, ONE, TWO)
    target(stage)
    with pytest.raises(PolicyRefused, match="in quarantine"):
        target(stage, version="v2")
    assert target(stage, version="v2", override="it must be") == "v2"


def test_after_a_release_came_again_to_what_was_before_its_last_time(stage: Stage) -> None:
    active(stage, ONE, TWO, ONE, THREE)
    assert target(stage) == "v1"


def test_a_refused_rollback_ends_nothing_that_is_in_progress(stage: Stage) -> None:
    active(stage, ONE)
    name = stage.deploy(TWO, look=False)
    with pytest.raises(Conflict):
        stage.roll_back(look=False)
    assert stage.deployment(name).abort is None


def test_a_release_has_many_names(stage: Stage) -> None:
    active(stage, TWO)
    with stage.store.snapshot() as snapshot:
        names = ("v2", TWO.digest, TWO.digest[:15], TWO.digest[7:13], TWO.digest[7:40], "ring:dev")
        assert {find_release(snapshot, AGENT, name).digest for name in names} == {TWO.digest}


@pytest.mark.parametrize("name", ["v9", "ring:moon", "", "sha256:", "abcdef", "ring:"])
def test_what_names_nothing_is_not_found(stage: Stage, name: str) -> None:
    with stage.store.snapshot() as snapshot, pytest.raises(NotFound) as refused:
        find_release(snapshot, AGENT, name)
    assert refused.value.hint


def test_a_prefix_is_compared_as_far_as_it_is_given(stage: Stage) -> None:
    wrong = TWO.digest[7:30] + ("0" if TWO.digest[30] != "0" else "1")
    with stage.store.snapshot() as snapshot, pytest.raises(NotFound):
        find_release(snapshot, AGENT, wrong)


def test_rings_are_in_the_order_of_the_newest_release(stage: Stage) -> None:
    active(stage, ONE)
    with stage.store.snapshot() as snapshot:
        assert ring_names(snapshot, AGENT) == ("dev",)
        with pytest.raises(NotFound, match="no agent 'nobody'") as refused:
            ring_names(snapshot, "nobody")
    assert AGENT in str(refused.value.hint)
