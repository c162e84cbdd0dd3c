"""Roles, approvals, and the gates that a deployment passes before it starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.values import AGENT, make_approval, make_deployment, make_release, make_replica
from turnout.domain.errors import Conflict, Forbidden, NotFound, PolicyRefused
from turnout.domain.models import Approval, Pointer, Quarantine, ReplicaState, RingSettings
from turnout.domain.phases import Phase
from turnout.domain.policy import (
    ReleaseFaults,
    RingFacts,
    Role,
    Verb,
    approvals_needed,
    assess_approvals,
    check_allowed,
    check_deploy,
    check_known_digest,
    check_promotion,
    choose_reference,
    is_last_ring,
)

RINGS = (RingSettings("dev"), RingSettings("staging"), RingSettings("production", approvals=2))
ONE = make_release("v1", rings=RINGS)
TWO = make_release("v2", rings=RINGS)

MAY: dict[str, set[str]] = {
    "admin": {verb.value for verb in Verb},
    "operator": {"read", "build", "deploy", "approve", "roll back", "steer breakers and budgets", "report outcomes"},
    "developer": {"read", "build", "deploy", "report outcomes"},
    "approver": {"read", "approve"},
    "viewer": {"read"},
    "reporter": {"report outcomes"},
}


# --- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("verb", list(Verb))
def test_a_role_may_do_what_the_table_says_and_nothing_else(role: Role, verb: Verb) -> None:
    if verb.value in MAY[role.value]:
        check_allowed("eve", role, verb, "dev")
    else:
        with pytest.raises(Forbidden, match=f"eve has the role {role} and may not {verb}") as refused:
            check_allowed("eve", role, verb, "dev")
        assert refused.value.hint


def test_a_developer_deploys_to_every_ring_but_the_last() -> None:
    check_allowed("dan", Role.DEVELOPER, Verb.DEPLOY, "staging")
    with pytest.raises(Forbidden, match="may not deploy in production"):
        check_allowed("dan", Role.DEVELOPER, Verb.DEPLOY, "production", last_ring=True)
    check_allowed("ann", Role.OPERATOR, Verb.DEPLOY, "production", last_ring=True)


# --- approvals -------------------------------------------------------------------------------------------------------


def test_nothing_is_needed_where_no_approval_is_asked() -> None:
    assert assess_approvals(0, "ann", (), 0.0).satisfied


def test_distinct_approvers_are_counted_once_each() -> None:
    twice = (make_approval(ONE, "bob", at=1.0), make_approval(ONE, "bob", at=2.0))
    status = assess_approvals(2, "ann", twice, 3.0)
    assert not status.satisfied
    assert status.approvers == ("bob",)
    assert assess_approvals(2, "ann", (*twice, make_approval(ONE, "cid", at=2.0)), 3.0).satisfied


def test_the_latest_decision_of_an_approver_counts() -> None:
    approved, rejected = make_approval(ONE, "bob", at=1.0), make_approval(ONE, "bob", approved=False, at=2.0)
    assert assess_approvals(1, "ann", (approved, rejected), 3.0).rejected_by == "bob"
    assert assess_approvals(1, "ann", (rejected, approved), 3.0).satisfied, "by order: a clock may be set back"


def test_one_rejection_outweighs_any_number_of_approvals() -> None:
    decisions = [make_approval(ONE, name) for name in ("bob", "cid", "dan")]
    status = assess_approvals(1, "ann", [*decisions, make_approval(ONE, "eve", approved=False)], 1.0)
    assert not status.satisfied
    assert status.describe() == "rejected by eve"


def test_the_author_alone_never_suffices() -> None:
    status = assess_approvals(1, "ann", [make_approval(ONE, "ann")], 1.0)
    assert not status.satisfied
    assert "other than the release's author" in status.describe()


def test_the_author_counts_beside_somebody_else() -> None:
    assert assess_approvals(2, "ann", [make_approval(ONE, "ann"), make_approval(ONE, "bob")], 1.0).satisfied


def test_an_approval_expires() -> None:
    given_at_zero = make_approval(ONE, "bob", expires_at=100.0)
    assert assess_approvals(1, "ann", [given_at_zero], 99.9).satisfied
    assert not assess_approvals(1, "ann", [given_at_zero], 100.0).satisfied


def test_a_rejection_expires_too() -> None:
    rejected = make_approval(ONE, "bob", approved=False, expires_at=100.0)
    assert assess_approvals(0, "ann", [rejected], 100.0).rejected_by is None


def test_a_release_cannot_lower_the_bar_that_it_must_pass() -> None:
    lax = make_release("lax", rings=(RingSettings("production", approvals=0),))
    strict = make_release("strict", rings=(RingSettings("production", approvals=3),))
    assert approvals_needed(lax, strict, "production") == 3
    assert approvals_needed(strict, lax, "production") == 3
    assert approvals_needed(lax, None, "production") == 0
    assert approvals_needed(make_release("elsewhere", rings=(RingSettings("dev"),)), strict, "production") == 3


names = st.sampled_from(["ann", "bob", "cid", "dan"])
decisions = st.builds(
    lambda who, approved, at, lasts: make_approval(ONE, who, approved=approved, at=at, expires_at=at + lasts),
    names,
    st.booleans(),
    st.integers(0, 50).map(float),
    st.integers(1, 60).map(float),
)


@given(st.lists(decisions, max_size=8), st.integers(1, 3))
def test_an_open_gate_has_enough_distinct_unexpired_approvers_and_one_who_is_not_the_author(
    given_decisions: list[Approval], needed: int
) -> None:
    now = 55.0
    status = assess_approvals(needed, "ann", given_decisions, now)
    latest = {item.approver: item for item in given_decisions}
    approving = {name for name, item in latest.items() if item.approved and item.expires_at > now}
    rejecting = {name for name, item in latest.items() if not item.approved and item.expires_at > now}
    assert set(status.approvers) == approving
    assert status.satisfied == (not rejecting and len(approving) >= needed and bool(approving - {"ann"}))


# --- gates -----------------------------------------------------------------------------------------------------------


def facts(ring: str = "staging", **fields: object) -> RingFacts:
    """v1 is active and healthy in dev and asked for in `ring`."""
    values: dict[str, object] = {
        "release": ONE,
        "ring": ring,
        "pointers": (Pointer(AGENT, "dev", stable=ONE.digest),),
        "in_progress": None,
        "quarantine": None,
        "replicas": (make_replica(ONE, ring="dev"),),
    }
    return RingFacts(**{**values, **fields})  # type: ignore[arg-type]


IN_DOUBT = Quarantine(AGENT, ONE.digest, "production", "it lied", "bob", 1.0)


def test_the_first_ring_takes_any_release() -> None:
    assert check_deploy(facts("dev"), None) == ()


def test_a_model_that_floats_is_refused_unless_the_ring_takes_it() -> None:
    floating = ReleaseFaults(('the model "m-latest" of p floats: pin a dated snapshot',))
    with pytest.raises(PolicyRefused, match=r"m-latest.*\[rings\.dev\]"):
        check_deploy(facts("dev", faults=floating), None)
    with pytest.raises(PolicyRefused, match="m-latest"):
        check_promotion(facts(faults=floating), "dev", None)
    assert len(check_deploy(facts("dev", faults=floating), "urgent")) == 1
    lenient = make_release("v3", rings=(RingSettings("dev", floating_models=True), *RINGS[1:]))
    assert check_deploy(facts("dev", release=lenient, faults=floating), None) == ()


def test_a_later_ring_takes_promotions_only() -> None:
    with pytest.raises(PolicyRefused, match="promotion from dev") as refused:
        check_deploy(facts("staging"), None)
    assert "deploy to dev" in str(refused.value.hint)
    assert len(check_deploy(facts("staging"), "urgent")) == 1


def test_a_ring_that_the_release_does_not_declare_is_not_found() -> None:
    with pytest.raises(NotFound, match="'moon'") as refused:
        check_deploy(facts("moon"), "urgent")
    assert "dev, staging, production" in str(refused.value.hint)
    with pytest.raises(NotFound, match="'moon'"):
        check_promotion(facts("moon"), "dev", "urgent")


def test_nothing_starts_while_a_deployment_is_in_progress_whatever_is_overridden() -> None:
    running = make_deployment(TWO, "dep_7", Phase.VALIDATING, ring="staging")
    with pytest.raises(Conflict, match="dep_7"):
        check_promotion(facts(in_progress=running), "dev", "urgent")
    with pytest.raises(Conflict, match="dep_7"):
        check_deploy(facts("dev", in_progress=running), "urgent")


def test_a_release_in_quarantine_needs_an_override() -> None:
    with pytest.raises(PolicyRefused, match="quarantine: it lied"):
        check_deploy(facts("dev", quarantine=IN_DOUBT), None)
    assert "it lied" in check_deploy(facts("dev", quarantine=IN_DOUBT), "it does not lie")[0]


def test_a_promotion_goes_from_the_ring_before() -> None:
    assert check_promotion(facts(), "dev", None) == ()


@pytest.mark.parametrize(
    ("ring", "source"), [("production", "dev"), ("staging", "production"), ("dev", "dev"), ("staging", "moon")]
)
def test_a_promotion_that_skips_or_turns_round_is_refused(ring: str, source: str) -> None:
    with pytest.raises(PolicyRefused, match="rings are passed in order"):
        check_promotion(facts(ring), source, None)


def test_only_what_is_active_in_the_source_ring_is_promoted() -> None:
    with pytest.raises(PolicyRefused, match="not the active release of dev"):
        check_promotion(facts(pointers=(Pointer(AGENT, "dev", stable=TWO.digest),)), "dev", None)
    with pytest.raises(PolicyRefused, match="not the active release of dev"):
        check_promotion(facts(pointers=()), "dev", None)


@pytest.mark.parametrize("state", [state for state in ReplicaState if state is not ReplicaState.READY])
def test_an_unhealthy_source_is_not_promoted(state: ReplicaState) -> None:
    with pytest.raises(PolicyRefused, match="not healthy in dev"):
        check_promotion(facts(replicas=(make_replica(ONE, state, ring="dev"),)), "dev", None)


def test_health_in_another_ring_is_not_health_in_the_source() -> None:
    with pytest.raises(PolicyRefused, match="not healthy in dev"):
        check_promotion(facts(replicas=(make_replica(ONE, ring="staging"),)), "dev", None)


@pytest.mark.parametrize(
    ("rings", "ring", "last"),
    [
        (("dev", "prod"), "prod", True),
        (("dev", "prod"), "dev", False),
        (("dev",), "dev", False),
        (("production",), "production", True),
        (("production", "archive"), "production", True),
    ],
)
def test_the_ring_that_ends_the_way_is_production_whatever_its_name(
    rings: tuple[str, ...], ring: str, last: bool
) -> None:
    release = make_release("v9", rings=[RingSettings(name) for name in rings])
    assert is_last_ring(facts(ring, release=release)) is last


def test_a_release_cannot_open_a_shorter_way_for_itself() -> None:
    shortcut = make_release("shortcut", rings=(RingSettings("production"),))
    asked = facts("production", release=shortcut, reference=ONE)
    with pytest.raises(PolicyRefused, match="promotion from staging"):
        check_deploy(asked, None)
    assert is_last_ring(asked)
    swapped = make_release("swapped", rings=(RingSettings("dev"), RingSettings("production")))
    pointers = (Pointer(AGENT, "dev", stable=swapped.digest),)
    jump = facts(
        "production", release=swapped, reference=ONE, pointers=pointers, replicas=(make_replica(swapped, ring="dev"),)
    )
    with pytest.raises(PolicyRefused, match="rings are passed in order"):
        check_promotion(jump, "dev", None)


def test_a_release_may_add_a_ring_that_the_one_before_did_not_know() -> None:
    wider = make_release("wider", rings=(RingSettings("dev"), RingSettings("uat"), RingSettings("production")))
    pointers = (Pointer(AGENT, "dev", stable=wider.digest),)
    asked = facts("uat", release=wider, reference=ONE, pointers=pointers, replicas=(make_replica(wider, ring="dev"),))
    assert check_promotion(asked, "dev", None) == ()


def test_the_release_that_serves_in_the_ring_itself_or_nearest_to_the_end_is_the_reference() -> None:
    order = ("dev", "staging", "production")
    dev, production = Pointer(AGENT, "dev", stable=TWO.digest), Pointer(AGENT, "production", stable=ONE.digest)
    assert choose_reference(order, "production", (dev, production)) == ONE.digest
    assert choose_reference(order, "staging", (dev, production)) == ONE.digest
    assert choose_reference(order, "staging", (dev,)) == TWO.digest
    assert choose_reference(("other",), "other", (dev,)) == TWO.digest
    assert choose_reference(order, "dev", ()) is None


def test_an_override_names_everything_that_it_overrides() -> None:
    broken = facts("production", pointers=(), quarantine=IN_DOUBT)
    assert len(check_promotion(broken, "dev", "the release must go out")) == 3


def test_a_ring_without_a_stable_release_has_nothing_to_go_back_from() -> None:
    assert check_known_digest(ONE.digest, "dev", AGENT) == ONE.digest
    with pytest.raises(Conflict, match="no active release"):
        check_known_digest(None, "dev", AGENT)
