"""What is kept of a verdict: plain values, at any moment of a rollout."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.domain.judge.streams import CONFIG, FAILURES, feed, stream
from turnout.domain.judge import Judge, JudgeConfig, view_evidence


def viewed(units: int, config: JudgeConfig = CONFIG, **changed: Any) -> dict[str, Any]:
    judge = Judge(config)
    feed(judge, stream(1, units=units, **changed))
    view: dict[str, Any] = json.loads(json.dumps(view_evidence(judge.verdict(1e5)), allow_nan=False))
    return view


@pytest.mark.parametrize("units", [0, 1, 2, 40, 2000])
def test_a_verdict_is_plain_values_from_the_first_unit_on(units: int) -> None:
    view = viewed(units)
    assert set(view["metrics"]) == {"failure", "intervention", "cost"}
    for metric in view["metrics"].values():
        assert [level["proven"] for level in metric["levels"]] == sorted(
            (level["proven"] for level in metric["levels"]), reverse=True
        )
        assert metric["stable"]["units"] + metric["candidate"]["units"] == units
    assert view["ratio"]["units"] == units


def test_nothing_asked_before_the_first_record_is_plain_too() -> None:
    view = view_evidence(Judge(CONFIG).verdict(0.0))
    assert json.loads(json.dumps(view, allow_nan=False)) == view
    assert (view["kind"], view["began"], view["against"]) == ("inconclusive", None, 1.0)


def test_a_fail_says_why_and_which_units_weighed() -> None:
    view = viewed(2000, share=0.02, candidate=1.0)
    assert (view["kind"], view["metric"]) == ("fail", "failure")
    assert view["against"] >= view["abort_at"] == 20.0
    assert view["weighed"][0]["factor"] > 1
    assert view["history"][-1]["against"]["failure"] > view["history"][0]["against"]["failure"]
    assert view["metrics"]["failure"]["candidate"]["mean"] == 1.0


def test_a_bound_that_is_not_known_is_none() -> None:
    cost = viewed(1)["metrics"]["cost"]
    assert (cost["stable"]["low"], cost["stable"]["high"]) == (0.0, None)


def test_what_a_success_costs_is_known_only_with_cost_and_failures() -> None:
    assert viewed(500)["cost_per_success"]["stable"] > 0
    assert viewed(500, FAILURES)["cost_per_success"] == {"stable": None, "candidate": None}
