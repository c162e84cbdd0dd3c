"""What `turnout approve` prints."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.command import CommandLine
from tests.unit.domain.values import make_digest


class Approving:
    """An instance where one approval is enough."""

    def decide(self, agent: str, ring: str, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "agent": agent,
            "ring": ring,
            "digest": make_digest("v2"),
            "needed": 1,
            "approvers": ["bob"],
            "satisfied": True,
            "message": "approved by bob; nothing is missing",
            "changed": ["code", "prompts"],
            "evals": [],
            "replay": None,
        }


def test_the_difference_can_be_looked_at_from_any_folder(turnout: CommandLine) -> None:
    turnout.speaks_to(Approving())
    said, changes = turnout("approve", "support", "--ring", "production").out.splitlines()
    assert said == "support in production: approved by bob; nothing is missing"
    digest = make_digest("v2")[7:19]
    assert changes == f"changes  code, prompts: turnout diff ring:production {digest} --agent support"
