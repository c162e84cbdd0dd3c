"""From the settings of a ring to its judge."""

from __future__ import annotations

import pytest

from turnout.domain.judge import Judge
from turnout.domain.models import JudgeSettings
from turnout.domain.outcomes import Tally
from turnout.domain.verdicts import build_judge_config, summarise


def test_the_past_of_conversations_is_measured_by_all_their_answers() -> None:
    # Good answers of a conversation tell nothing of it, so that only the failed ones are known.
    past = Tally(requests=200, errors=4, interventions=2, cost=10.0)
    history = build_judge_config(JudgeSettings(), "status", past).history
    assert (history.failure, history.intervention, history.cost) == pytest.approx((0.02, 0.01, 0.05))
    assert history.units == 200


def test_a_release_without_a_past_is_judged_by_the_defaults() -> None:
    asked = build_judge_config(JudgeSettings(), "status", Tally())
    assert asked.history == build_judge_config(JudgeSettings(), "report", Tally()).history
    assert asked.history.failure == 0.05


@pytest.mark.parametrize(
    ("first", "said"), [(True, "failure 100.0% against 0.0% of stable after 31"), (None, "failure after 30")]
)
def test_a_fail_names_rates_only_where_the_last_age_has_seen_tasks(first: bool | None, said: str) -> None:
    judge = Judge(build_judge_config(JudgeSettings(), "report", Tally()))
    judge.start("first", "candidate" if first else "stable", 0.5, 0.0)
    if first is not None:
        judge.outcome("first", 1.0, failed=first)
    for number in range(60):
        judge.start(f"t{number}", "candidate" if number % 2 else "stable", 0.5, 1.0 + number)
        judge.outcome(f"t{number}", 1.5 + number, failed=bool(number % 2))
    found = summarise(judge.verdict(200.0))
    assert found.kind == "fail"
    assert f"the judge says fail: {said}" in found.summary
