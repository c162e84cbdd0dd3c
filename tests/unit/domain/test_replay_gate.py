"""When a ring lets a release start after a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.domain.values import RING, make_deployment, make_digest, make_release
from tests.unit.domain.views import ALL, NEW, NOW, OLD, look
from turnout.domain.actions import Action, Move, RunReplay, Verify, Wait
from turnout.domain.models import Kind, Release, ReplaySettings, RingSettings
from turnout.domain.phases import Phase
from turnout.domain.plan import plan
from turnout.domain.replay_gate import replay_asked, replay_fault
from turnout.domain.replays import Came, KeptReplay, TaskDiff, summarise
from turnout.domain.view import Job

STRICT = ReplaySettings("production", changed=0.1)
SHOWN = ReplaySettings("production")


def asking(settings: ReplaySettings | None, name: str = "asks") -> Release:
    return make_release(name, rings=(RingSettings(RING, replay=settings),))


def kept(same: int, changed: int = 0, unusable: int = 0) -> KeptReplay:
    tasks = [
        *(TaskDiff(f"s{number}", Came.SAME) for number in range(same)),
        *(TaskDiff(f"c{number}", Came.CHANGED) for number in range(changed)),
        *(TaskDiff(f"u{number}", Came.UNUSABLE) for number in range(unusable)),
    ]
    digest = make_digest("report")
    return KeptReplay(
        "replay_1", "docs", RING, OLD.digest, NEW.digest, NOW, "turnout", "dep_1", summarise(tasks), digest
    )


def planned(release: Release, how: Mapping[str, Any] | None = None, **fields: Any) -> tuple[Action, ...]:
    """What is planned for a deployment that is prepared. `how`: fields of it."""
    built = make_deployment(release, phase=Phase.BUILDING, prepared=True, **(how or {}))
    view = look(built, **fields)
    return plan(replace(view, releases={**ALL, release.digest: release}), NOW)


def test_a_replay_is_started_once_and_its_progress_is_shown() -> None:
    release = asking(STRICT)
    started, waits = planned(release)
    assert started == RunReplay("dep_1", release.digest, STRICT)
    assert isinstance(waits, Wait)
    assert (waits.condition.type, waits.condition.message) == ("replaying", "replaying recorded tasks of production")
    (waits,) = planned(release, replays={"dep_1": Job(message="replayed 3 of 50")})
    assert isinstance(waits, Wait)
    assert waits.condition.message == "replayed 3 of 50"


def test_what_was_found_is_not_asked_again_after_a_restart() -> None:
    attest, move = planned(asking(STRICT), replay=kept(50))
    assert isinstance(attest, Verify)
    assert isinstance(move, Move)
    assert move.target is Phase.DEPLOYING


def test_a_threshold_that_is_not_held_fails_the_deployment_and_names_the_report() -> None:
    (move,) = planned(asking(STRICT), replay=kept(45, changed=5))
    assert isinstance(move, Move)
    assert move.target is Phase.FAILED
    assert "45 of 50 tasks came out the same, 5 changed" in move.reason
    assert "turnout replay show replay_1" in move.reason


@pytest.mark.parametrize(("settings", "target"), [(STRICT, Phase.FAILED), (SHOWN, Phase.DEPLOYING)])
def test_a_replay_that_could_not_be_made_fails_only_where_a_threshold_is_declared(
    settings: ReplaySettings, target: Phase
) -> None:
    *_, move = planned(asking(settings), replays={"dep_1": Job(over=True, error="the agent ended")})
    assert isinstance(move, Move)
    assert move.target is target


def test_a_replay_without_anything_to_compare_opens_the_gate() -> None:
    *_, move = planned(asking(STRICT), replays={"dep_1": Job(over=True)})
    assert isinstance(move, Move)
    assert move.target is Phase.DEPLOYING


@pytest.mark.parametrize("how", [{"override": "urgent"}, {"kind": Kind.ROLLBACK}])
def test_an_override_and_a_rollback_pass_over_it(how: dict[str, Any]) -> None:
    assert not any(isinstance(action, RunReplay) for action in planned(asking(STRICT), how))


def test_a_release_cannot_lower_the_bar_of_the_stable_one() -> None:
    bar = replay_asked(asking(ReplaySettings("production", changed=0.5, tasks=10)), asking(STRICT, "stable"), RING)
    assert bar is not None
    assert (bar.changed, bar.tasks) == (0.1, 50)
    assert replay_asked(asking(None), asking(STRICT, "stable"), RING) == STRICT
    assert replay_asked(asking(SHOWN), asking(STRICT, "stable"), RING) == STRICT
    assert replay_asked(asking(SHOWN), None, RING) == SHOWN
    assert replay_asked(asking(None), None, RING) is None


def test_a_release_can_neither_choose_easier_tasks_nor_how_they_are_asked() -> None:
    easy = ReplaySettings("dev", tasks=80, changed=0.05, models="live", answers=True, parallel=64, timeout=1.0)

    assert replay_asked(asking(easy), asking(STRICT, "stable"), RING) == replace(
        STRICT, tasks=80, changed=0.05, answers=True
    )


def test_where_the_stable_release_only_shows_a_replay_it_still_says_how_tasks_are_asked() -> None:
    own = ReplaySettings("dev", tasks=5, changed=0.2, models="live", parallel=64)
    slow = replace(SHOWN, parallel=2, timeout=9.0)

    assert replay_asked(asking(own), asking(slow, "stable"), RING) == replace(
        own, models="recorded", parallel=2, timeout=9.0
    )


@pytest.mark.parametrize("found", [None, kept(0), kept(0, unusable=50)])
def test_without_a_usable_recording_a_threshold_is_not_held(found: KeptReplay | None) -> None:
    fault = replay_fault(STRICT, found, RING)
    assert fault is not None
    assert fault.startswith("no recording of production can be replayed")
    assert replay_fault(SHOWN, found, RING) is None


def test_an_unusable_recording_counts_as_not_passed() -> None:
    assert replay_fault(STRICT, kept(50), RING) is None
    assert replay_fault(STRICT, kept(45, unusable=5), RING) is not None
