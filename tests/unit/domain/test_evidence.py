"""What a release has to show in a ring: by the ring, by what changed, by candidate and stable release together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.domain.values import make_digest, make_release
from turnout.domain.evidence import DAY, EvalRun, changed_components, find_needs, find_unproven
from turnout.domain.models import ChangeRule, ComponentRef, Release, RingSettings

RING = "production"


def release(
    name: str, settings: RingSettings | None = None, suites: tuple[str, ...] = (), **components: str
) -> Release:
    """A release whose components are told by words."""
    made = make_release(name, rings=(settings or RingSettings(RING),), suites=suites)
    refs = {kind: ComponentRef(make_digest(word), "text/plain", 1) for kind, word in components.items()}
    return replace(made, components={**made.components, **refs})


def run_of(made: Release, suite: str, at: float, *, passed: bool = True) -> EvalRun:
    return EvalRun(f"eval_{at}", made.agent, made.digest, suite, made.digest, at, "ann", passed, {}, made.digest)


def test_a_change_of_model_or_tools_needs_every_declared_suite() -> None:
    old = release("v1", suites=("answers",), model="a", code="1")
    assert find_needs(release("v2", suites=("answers",), model="b"), old, RING).suites == {"answers": "model changed"}
    assert find_needs(replace(old, components={**old.components}), old, RING).suites == {}


def test_a_suite_that_was_dropped_is_still_needed_for_a_change_of_model() -> None:
    old = release("v1", suites=("answers",), model="a")
    assert list(find_needs(release("v2", model="b"), old, RING).suites) == ["answers"]


def test_a_ring_can_ask_for_suites_whatever_changed() -> None:
    settings = RingSettings(RING, evals=("answers",), eval_age=5 * DAY)
    needs = find_needs(release("v1", settings), None, RING)
    assert needs.suites == {"answers": "production asks for it"}
    assert needs.age == 5 * DAY


def test_a_release_cannot_lower_the_bar_that_it_has_to_pass() -> None:
    strict = RingSettings(RING, evals=("answers",), eval_age=DAY)
    lax = RingSettings(RING, eval_age=90 * DAY)
    needs = find_needs(release("v2", lax), release("v1", strict), RING)
    assert (list(needs.suites), needs.age) == (["answers"], DAY)


def test_rules_name_components_suites_and_people() -> None:
    rules = (ChangeRule(("prompts",), ("tone",), 2, ("lead", "writer")), ChangeRule(("data",), ("recall",)))
    settings = RingSettings(RING, changes=rules)
    old = release("v1", settings, prompts="a", data="a")
    needs = find_needs(release("v2", settings, prompts="b", data="a"), old, RING)
    assert needs.suites == {"tone": "prompts changed"}
    assert (needs.approvals, needs.approvers) == (2, (("lead", "writer"),))


def test_the_newest_run_of_a_suite_holds() -> None:
    made = release("v1", RingSettings(RING, evals=("answers",)))
    needs = find_needs(made, None, RING)
    assert find_unproven(needs, [], 0.0) == (
        'the suite "answers" was not run for this release (production asks for it)',
    )
    passed, failed = run_of(made, "answers", 1.0), run_of(made, "answers", 2.0, passed=False)
    assert find_unproven(needs, [passed], 3.0) == ()
    assert find_unproven(needs, [failed, passed], 3.0) == (
        'the suite "answers" was not passed (production asks for it)',
    )
    assert find_unproven(needs, [passed, failed], 3.0) == (), "by the order of hand-in: clocks differ"


def test_evidence_gets_old() -> None:
    made = release("v1", RingSettings(RING, evals=("answers",), eval_age=3 * DAY))
    needs, run = find_needs(made, None, RING), run_of(made, "answers", 0.0)
    assert find_unproven(needs, [run], 3 * DAY) == ()
    assert find_unproven(needs, [run], 4 * DAY) == (
        'the suite "answers" was passed more than 3 days ago (production asks for it)',
    )


def bar_of(limit: float, kind: str = "at_least", cases: int = 100, confidence: float = 0.9) -> dict[str, object]:
    findings = [{"metric": "success", "kind": kind, "limit": limit}]
    return {"cases": cases, "confidence": confidence, "findings": findings}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (bar_of(0.9), bar_of(0.9), None),
        (bar_of(0.9), bar_of(0.95, cases=60), None),
        (bar_of(0.9), bar_of(0.01), "success at least 0.01 instead of 0.9"),
        (bar_of(0.9), bar_of(0.9, cases=3), "3 cases instead of 100"),
        (bar_of(0.9), bar_of(0.9, confidence=0.5), "a confidence of 50% instead of 90%"),
        (bar_of(0.9), bar_of(0.9, "no_worse"), "nothing of success at least 0.9"),
        (bar_of(0.05, "no_worse"), bar_of(0.5, "no_worse"), "success no worse 0.5 instead of 0.05"),
    ],
)
def test_a_suite_of_the_same_name_cannot_ask_for_less(
    before: dict[str, object], after: dict[str, object], said: str | None
) -> None:
    made, stable = release("v2", RingSettings(RING, evals=("answers",))), release("v1")
    needs = find_needs(made, stable, RING)
    run = replace(run_of(made, "answers", 2.0), verdict=after)
    bar = replace(run_of(stable, "answers", 1.0), verdict=before)
    found = find_unproven(needs, [run], 3.0, [bar])
    expected = f'the suite "answers" asks for less than the one that the stable release passed: {said}'
    assert found == ((expected,) if said else ())


def test_a_run_that_was_made_to_compare_with_is_no_evidence() -> None:
    made = release("v1", RingSettings(RING, evals=("answers",)))
    needs, passed = find_needs(made, None, RING), run_of(made, "answers", 1.0)
    compared = replace(run_of(made, "answers", 2.0, passed=False), verdict={"baseline": True})
    assert find_unproven(needs, [compared, passed], 3.0) == ()


def test_components_that_came_went_or_changed_are_named() -> None:
    old, new = release("v1", model="a", data="x"), release("v1", model="b", tools="y")
    assert changed_components(old, new) == ["data", "model", "tools"]
    assert changed_components(None, new) == ["code", "model", "tools"]
