"""What a status means, and when to try again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.alerts.attempts import LONGEST_PAUSE, Attempt, Fault, judge_status, plan_retry


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_2xx_is_delivered(status: int) -> None:
    assert judge_status(status).error is None


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        *((status, Fault.UNREACHED) for status in (408, 409, 425, 429, 500, 502, 503, 504, 101)),
        *((status, Fault.EVENT) for status in (400, 413, 415, 422)),
        *((status, Fault.RECEIVER) for status in (301, 302, 307, 401, 403, 404, 405, 410)),
    ],
)
def test_everything_else_is_a_fault_of_somebody(status: int, fault: Fault) -> None:
    attempt = judge_status(status)
    assert (attempt.fault, str(status) in str(attempt.error)) == (fault, True)


@given(st.integers(1, 10_000), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1e9)))
def test_what_is_not_reached_is_tried_for_ever_at_least_every_half_minute(
    tries: int, jitter: float, asked: float | None
) -> None:
    pause = plan_retry(Attempt("down", Fault.UNREACHED, asked), tries, jitter)
    assert pause is not None
    assert 0.5 <= pause <= LONGEST_PAUSE


@pytest.mark.parametrize(("fault", "least"), [(Fault.EVENT, 5.0), (Fault.RECEIVER, 600.0)])
def test_a_refusal_is_given_up_only_after_a_while(fault: Fault, least: float) -> None:
    waited, tries = 0.0, 1
    while (pause := plan_retry(Attempt("no", fault), tries, 0.0)) is not None:
        waited += pause
        tries += 1
    assert waited >= least


def test_a_receiver_may_ask_for_more_time() -> None:
    assert plan_retry(judge_status(429, 12.0), 1, 1.0) == 12.0
    assert plan_retry(judge_status(503, 86_400.0), 1, 1.0) == LONGEST_PAUSE
