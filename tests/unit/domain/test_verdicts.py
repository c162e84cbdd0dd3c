"""From the settings of a ring to its judge."""

from __future__ import annotations

import pytest

from turnout.domain.models import JudgeSettings
from turnout.domain.outcomes import Tally
from turnout.domain.verdicts import build_judge_config


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
