"""The nine states of a deployment, the one transition table, and the one door through which a state changes."""

from __future__ import annotations

from enum import StrEnum

from turnout.domain.errors import IllegalTransition


class Phase(StrEnum):
    """The state of a deployment; these names are on the wire."""

    QUEUED = "queued"
    BUILDING = "building"
    DEPLOYING = "deploying"
    VALIDATING = "validating"
    ACTIVE = "active"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.QUEUED: frozenset({Phase.BUILDING}),
    Phase.BUILDING: frozenset({Phase.DEPLOYING, Phase.FAILED}),
    Phase.DEPLOYING: frozenset({Phase.VALIDATING, Phase.FAILED}),
    Phase.VALIDATING: frozenset({Phase.ACTIVE, Phase.ROLLING_BACK}),
    Phase.ACTIVE: frozenset({Phase.SUPERSEDED, Phase.ROLLING_BACK}),
    Phase.ROLLING_BACK: frozenset({Phase.ROLLED_BACK}),
    Phase.FAILED: frozenset(),
    Phase.ROLLED_BACK: frozenset(),
    Phase.SUPERSEDED: frozenset(),
}

TERMINAL = frozenset(phase for phase, following in TRANSITIONS.items() if not following)
IN_PROGRESS = frozenset({Phase.QUEUED, Phase.BUILDING, Phase.DEPLOYING, Phase.VALIDATING})


def check_transition(origin: Phase, target: Phase) -> None:
    """Raise `IllegalTransition` unless the table holds origin → target."""
    if target not in TRANSITIONS[origin]:
        allowed = ", ".join(sorted(TRANSITIONS[origin])) or "nothing: it is terminal"
        raise IllegalTransition(f"a deployment cannot go from {origin} to {target} (from {origin}: {allowed})")
