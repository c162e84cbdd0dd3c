from __future__ import annotations

import pytest

from turnout.domain.route_health import (
    HEALTHY,
    RULES,
    Next,
    RouteHealth,
    RouteState,
    after_begin,
    after_failure,
    after_rest,
    after_success,
    next_route,
    state_of,
)


def _failed(times: int, health: RouteHealth = HEALTHY, now: float = 0.0) -> RouteHealth:
    for _ in range(times):
        health = after_failure(health, now)
    return health


def test_a_breaker_opens_after_failures_in_a_row_and_is_half_open_after_its_pause() -> None:
    almost = _failed(RULES.in_a_row - 1)
    assert state_of(almost, 0) is RouteState.CLOSED
    opened = after_failure(almost, 0)
    assert state_of(opened, RULES.pause - 0.1) is RouteState.OPEN
    assert state_of(opened, RULES.pause) is RouteState.HALF_OPEN


def test_a_route_that_comes_and_goes_opens_too() -> None:
    health = HEALTHY
    for number in range(RULES.calls):
        health = (after_failure if number % 2 else after_success)(health, float(number))
    assert state_of(health, float(RULES.calls)) is RouteState.OPEN


def test_failures_among_many_good_calls_do_not_open_it() -> None:
    health = HEALTHY
    for number in range(200):
        health = (after_success if number % 4 else after_failure)(health, number / 10)
        assert state_of(health, number / 10) is RouteState.CLOSED
    assert len(health.recent) <= RULES.remembered


def test_only_one_call_tries_a_half_open_route_until_patience_ends() -> None:
    healths = {"a": _failed(RULES.in_a_row)}
    now = RULES.pause
    assert next_route(("a", "b"), healths, (), now) == Next("a", now)
    healths["a"] = after_begin(healths["a"], now, patience=10)
    assert next_route(("a", "b"), healths, (), now + 1) == Next("b", now + 1)
    assert next_route(("a", "b"), healths, (), now + 10) == Next("a", now + 10)


def test_a_good_trial_closes_and_a_bad_one_opens_for_longer() -> None:
    opened = _failed(RULES.in_a_row)
    assert state_of(after_success(opened, RULES.pause), RULES.pause) is RouteState.CLOSED
    again = after_failure(opened, RULES.pause)
    assert again.open_until == pytest.approx(RULES.pause + 2 * RULES.pause)


def test_pauses_do_not_grow_for_ever_and_start_again_after_a_quiet_window() -> None:
    health, now = _failed(RULES.in_a_row), 0.0
    for _ in range(50):
        now = health.open_until or now
        health = after_failure(health, now)
    assert health.open_until is not None
    assert health.open_until - now == RULES.longest_pause
    now = health.open_until
    for _ in range(RULES.remembered + 1):
        now += RULES.window
        health = after_success(health, now)
    assert health.openings == 0


def test_a_failure_of_an_old_call_does_not_prolong_an_open_breaker() -> None:
    opened = _failed(RULES.in_a_row)
    assert after_failure(opened, 1.0).open_until == opened.open_until


def test_the_best_ranked_fit_route_is_next() -> None:
    healths = {"a": _failed(RULES.in_a_row)}
    assert next_route(("a", "b", "c"), healths, (), 1.0) == Next("b", 1.0)
    assert next_route(("a", "b", "c"), healths, ("b",), 1.0) == Next("c", 1.0)


def test_an_open_route_is_tried_for_want_of_a_better_one_soonest_back_first() -> None:
    healths = {"a": _failed(3, now=1.0), "b": _failed(3)}
    assert next_route(("a", "b"), healths, (), 2.0) == Next("b", 2.0)
    assert next_route(("a", "b"), healths, ("b",), 2.0) == Next("a", 2.0)
    assert next_route(("a", "b"), healths, ("a", "b"), 2.0) is None


def test_a_resting_route_is_left_alone_and_comes_last_even_when_tried_before() -> None:
    healths = {"a": after_rest(HEALTHY, 0.0, 4.0)}
    assert next_route(("a", "b"), healths, (), 1.0) == Next("b", 1.0)
    assert next_route(("a", "b"), healths, ("b",), 1.0) == Next("a", 4.0)
    assert next_route(("a", "b"), healths, ("a", "b"), 1.0) == Next("a", 4.0)
    assert next_route(("a", "b"), healths, ("a", "b"), 4.0) is None


def test_a_shorter_rest_does_not_end_a_longer_one() -> None:
    assert after_rest(after_rest(HEALTHY, 0.0, 9.0), 1.0, 1.0).rest_until == 9.0
