"""How approvals are told."""

from __future__ import annotations

import pytest

from turnout.domain.policy import ApprovalStatus

OTHERS = "somebody other than the release's author has to approve"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (ApprovalStatus(0, (), None, author_alone=False), "no approval is needed"),
        (ApprovalStatus(1, (), None, author_alone=True), "1 approval is missing"),
        (ApprovalStatus(1, ("ann",), None, author_alone=True), f"{OTHERS}; so far approved by ann"),
        (ApprovalStatus(1, ("ann", "bob"), None, author_alone=False), "approved by ann, bob; nothing is missing"),
        (
            ApprovalStatus(3, ("ann",), None, author_alone=True),
            f"2 more approvals are missing; {OTHERS}; so far approved by ann",
        ),
        (
            ApprovalStatus(1, ("bob",), None, author_alone=False, lacking=(("lead", "chief"),)),
            "lead or chief has to approve; so far approved by bob",
        ),
        (ApprovalStatus(1, ("ann",), "bob", author_alone=True), "rejected by bob"),
    ],
)
def test_what_is_missing_comes_first(status: ApprovalStatus, said: str) -> None:
    assert status.describe() == said
