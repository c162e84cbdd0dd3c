"""Exit codes: part of the interface."""

from __future__ import annotations

from turnout.domain.errors import TurnoutError

EXIT_CODES: dict[str, int] = {
    "internal": 1,
    "illegal_transition": 1,
    "damaged_content": 1,
    "setup_failed": 1,
    "usage": 2,
    "invalid_manifest": 3,
    "invalid_request": 3,
    "build_failed": 3,
    "unsafe_archive": 3,
    "not_found": 4,
    "conflict": 5,
    "policy_refused": 5,
    "unauthenticated": 6,
    "forbidden": 6,
    "unavailable": 7,
    "lease_lost": 7,
    "ledger_unavailable": 7,
    "route_failed": 7,
    "router_unavailable": 7,
    "runtime_unavailable": 7,
    "too_many_requests": 7,
    "storage_full": 7,
    "server_unreachable": 7,
    "deployment_ended": 8,
    "verification_failed": 9,
    "evals_not_passed": 10,
    "replay_not_held": 11,
    "interrupted": 130,
}


def exit_code(error: TurnoutError) -> int:
    """The exit code of an error; 1 for a code that this version does not know."""
    return EXIT_CODES.get(error.code, 1)
