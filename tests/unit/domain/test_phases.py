"""The transition table is the one of the specification, and nothing else is possible."""

from __future__ import annotations

from itertools import product

import pytest

from turnout.domain.errors import IllegalTransition
from turnout.domain.phases import IN_PROGRESS, TERMINAL, Phase, check_transition

ALLOWED = {
    ("queued", "building"),
    ("building", "deploying"),
    ("building", "failed"),
    ("deploying", "validating"),
    ("deploying", "failed"),
    ("validating", "active"),
    ("validating", "rolling_back"),
    ("active", "superseded"),
    ("active", "rolling_back"),
    ("rolling_back", "rolled_back"),
}
NAMES = [
    "queued",
    "building",
    "deploying",
    "validating",
    "active",
    "failed",
    "rolling_back",
    "rolled_back",
    "superseded",
]


def test_the_states_have_the_names_of_the_wire() -> None:
    assert [phase.value for phase in Phase] == NAMES


@pytest.mark.parametrize(("origin", "target"), list(product(NAMES, NAMES)))
def test_every_pair_is_allowed_or_refused_as_the_table_says(origin: str, target: str) -> None:
    if (origin, target) in ALLOWED:
        check_transition(Phase(origin), Phase(target))
    else:
        with pytest.raises(IllegalTransition, match=f"from {origin} to {target}"):
            check_transition(Phase(origin), Phase(target))


def test_three_states_are_terminal() -> None:
    assert {"failed", "rolled_back", "superseded"} == TERMINAL


def test_a_deployment_is_in_progress_until_it_is_active_or_over() -> None:
    assert {"queued", "building", "deploying", "validating"} == IN_PROGRESS
