"""The configuration of a judge: checked when it is made, kept as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from turnout.domain.errors import InvalidRequest
from turnout.domain.judge import History, JudgeConfig, Margins


@pytest.mark.parametrize(
    ("problem", "changed"),
    [
        ("metrics are some of", {"metrics": ()}),
        ("metrics are some of", {"metrics": ("latency",)}),
        ("named twice", {"metrics": ("cost", "cost")}),
        ("alpha", {"alpha": 0.0}),
        ("alpha", {"ratio_alpha": 1.0}),
        ("hold_at", {"hold_at": 21.0}),
        ("coarse_evidence", {"coarse_evidence": 1.0}),
        ("there is an age", {"ages": ()}),
        ("none under 0.01 s", {"ages": (0.001, 60.0)}),
        ("horizon", {"horizon": 1e12}),
        ("ages rise", {"ages": (60.0, 60.0)}),
        ("times and sizes", {"ceiling": math.nan}),
        ("times and sizes", {"horizon": -1.0}),
        ("times and sizes", {"history": History(units=0.0)}),
        ("first_weight", {"first_weight": 0.0}),
        ("minimum_units", {"minimum_units": 0}),
        ("rates of the history", {"history": History(failure=1.5)}),
        ("cost of the history", {"history": History(cost=-1.0)}),
        ("margins are positive", {"margins": Margins(0.0, 0.1, 0.1)}),
        ("margins are positive", {"coarse_margins": (Margins(0.1, 1.0, 0.1),)}),
        ("inside the margin", {"tolerance": Margins(0.03, 0.0, 0.0)}),
        ("inside the margin", {"tolerance": Margins(-0.01, 0.0, 0.0)}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(problem: str, changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        JudgeConfig(**changed)


def test_a_configuration_survives_json() -> None:
    config = JudgeConfig(
        metrics=("cost",),
        ages=(1.0, 2.0),
        tolerance=Margins(0.01, 0.0, 0.1),
        history=History(cost=0.2),
        coarse_margins=(),
    )
    assert JudgeConfig.from_state(json.loads(json.dumps(config.to_state()))) == config


def test_settings_that_are_not_named_have_their_default() -> None:
    assert JudgeConfig.from_state({"alpha": 0.01}) == JudgeConfig(alpha=0.01)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'aplha'"):
        JudgeConfig.from_state({"aplha": 0.01})


def test_a_table_may_name_a_part_of_its_settings() -> None:
    config = JudgeConfig.from_state({"margins": {"cost": 0.5}, "history": {"units": 5.0}})
    assert config.margins == Margins(0.03, 0.025, 0.5)
    assert config.history == History(units=5.0)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({"margins": {"latency": 1}}, "'margins.latency'"),
        ({"history": {"rate": 1}}, "'history.rate'"),
        ({"margins": 3}, "'margins' is not a table"),
        ({"coarse_margins": [3]}, "'coarse_margins' is not a table"),
        ({"coarse_margins": [{"cost": 1.0}]}, "wrong kind"),
        ({"coarse_margins": 3}, "wrong kind"),
        ({"ages": 60}, "wrong kind"),
        ({"alpha": "0.05"}, "wrong kind"),
        ([], "not a table"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_by_its_name(state: Any, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        JudgeConfig.from_state(state)
