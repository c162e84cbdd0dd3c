"""When a breaker trips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.domain.values import AGENT, RING, make_release
from turnout.domain.breakers import BreakerRecord, BreakerState, Look, Span, Trip, Window, find_trip, leave_out
from turnout.domain.models import Breaker, BreakerScope
from turnout.domain.outcomes import Tally, TallyKey

ONE, TWO = make_release("v1").digest, make_release("v2").digest
HERE, BESIDE, ELSEWHERE = TallyKey(AGENT, RING, ONE), TallyKey(AGENT, RING, TWO), TallyKey("billing", RING, ONE)
ERRORS = Breaker(BreakerScope.DEPLOYMENT, "error_rate", 0.3)


def find(
    breaker: Breaker, tallies: dict[TallyKey, Tally], heaviest: dict[str, tuple[str, float]] | None = None
) -> Trip | None:
    return find_trip(AGENT, RING, (TWO, ONE), {breaker: Window(tallies, {ONE: heaviest or {}})})


def test_a_rate_trips_above_its_limit_and_with_enough_tasks() -> None:
    assert find(ERRORS, {HERE: Tally(requests=20, errors=6)}) is None
    assert find(ERRORS, {HERE: Tally(requests=19, errors=19)}) is None
    trip = find(ERRORS, {HERE: Tally(requests=20, errors=7)})
    assert trip == Trip(ERRORS, ONE, 0.35)
    assert trip.describe() == "breaker: 35.0% failed tasks in 300 s, above 30.0%"


def test_interventions_are_counted_over_all_answers_and_cost_is_a_sum() -> None:
    asked = Breaker(BreakerScope.DEPLOYMENT, "intervention_rate", 0.1, tasks=10)
    assert find(asked, {HERE: Tally(requests=20, interventions=2)}) is None
    assert find(asked, {HERE: Tally(requests=20, interventions=3)}) == Trip(asked, ONE, 0.15)
    dear = Breaker(BreakerScope.DEPLOYMENT, "cost", 5.0)
    assert find(dear, {HERE: Tally(requests=1, cost=5.0)}) is None
    assert find(dear, {BESIDE: Tally(requests=1, cost=5.1)}) == Trip(dear, TWO, 5.1)


def test_a_single_task_trips_by_what_it_did_itself() -> None:
    loop = Breaker(BreakerScope.RUN, "cost", 2.0)
    assert find(loop, {}, {"cost": ("t1", 2.0)}) is None
    trip = find(loop, {}, {"cost": ("t1", 2.5), "error_rate": ("t2", 99.0)})
    assert trip == Trip(loop, ONE, 2.5, "t1")
    assert "2.5 cost of task t1" in trip.describe()


def test_over_everything_the_release_that_gave_most_has_to_go() -> None:
    everywhere = Breaker(BreakerScope.WORKSPACE, "error_rate", 0.3, tasks=10)
    mostly_here = {HERE: Tally(requests=10, errors=8), ELSEWHERE: Tally(requests=10, errors=2)}
    assert find(everywhere, mostly_here) == Trip(everywhere, ONE, 0.5)
    assert find(everywhere, {HERE: Tally(requests=10, errors=2), ELSEWHERE: Tally(requests=10, errors=8)}) is None
    assert find(everywhere, {}) is None


def test_over_everything_the_worst_that_can_be_stopped_has_to_go() -> None:
    everywhere = Breaker(BreakerScope.WORKSPACE, "cost", 10.0)
    tallies = {HERE: Tally(cost=8.0), BESIDE: Tally(cost=3.0), ELSEWHERE: Tally(cost=80.0)}
    seen = {everywhere: Window(tallies, {})}
    assert find_trip(AGENT, RING, (TWO, ONE), seen) is None
    trip = find_trip(AGENT, RING, (TWO, ONE), seen, None, lambda _, key: key != ELSEWHERE)
    assert trip == Trip(everywhere, ONE, 11.0)


def test_over_everything_nobody_is_stopped_for_what_others_did() -> None:
    everywhere = Breaker(BreakerScope.WORKSPACE, "cost", 10.0)
    seen = {everywhere: Window({HERE: Tally(cost=8.0), ELSEWHERE: Tally(cost=80.0)}, {})}
    assert find_trip(AGENT, RING, (TWO, ONE), seen, None, lambda _, key: key != ELSEWHERE) is None


def test_over_everything_what_was_stopped_or_reset_since_stops_nobody_else() -> None:
    everywhere = Breaker(BreakerScope.WORKSPACE, "cost", 10.0, window=60.0)
    window = Window({HERE: Tally(cost=4.0), ELSEWHERE: Tally(cost=80.0)}, {})
    look = Look(everywhere, None, Span(100.0, 0.0))

    def left(**changes: Any) -> set[TallyKey]:
        record = BreakerRecord(
            *(
                "billing",
                RING,
                ONE,
                BreakerScope.WORKSPACE,
                "cost",
                BreakerState.OPEN,
                90.0,
                80.0,
                10.0,
                60.0,
                "",
                "ann",
            )
        )
        return set(leave_out(look, window, [replace(record, **changes)]).tallies)

    assert left() == {HERE}
    assert left(scope=BreakerScope.RUN) == {HERE}
    assert left(state=BreakerState.CLOSED) == {HERE, ELSEWHERE}
    assert left(state=BreakerState.CLOSED, since=110.0) == {HERE}
    assert left(state=BreakerState.CLOSED, since=110.0, metric="error_rate") == {HERE, ELSEWHERE}


def test_the_releases_are_looked_at_in_order() -> None:
    both = {HERE: Tally(requests=20, errors=20), BESIDE: Tally(requests=20, errors=20)}
    trip = find(ERRORS, both)
    assert trip is not None
    assert trip.digest == TWO
