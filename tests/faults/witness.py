"""Watches the database of an instance from outside: at every commit the invariants of each ring must hold."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

from turnout.domain.phases import Phase, check_transition

_RINGS = """
SELECT p.agent, p.ring, p.stable, d.digest, d.phase,
       (SELECT count(*) FROM deployments a WHERE a.agent = p.agent AND a.ring = p.ring AND a.phase = 'active')
FROM pointers p LEFT JOIN deployments d ON d.id = p.active_deployment
WHERE p.stable IS NOT NULL
"""
_MOVES = "SELECT agent, ring, deployment, json_extract(data, '$.from'), json_extract(data, '$.to') FROM events "


class Witness:
    """Looks again and again in a thread of its own; `faults` says where an invariant did not hold."""

    def __init__(self, state: Path) -> None:
        self.faults: set[str] = set()
        self.looks = 0
        self._path = state / "turnout.db"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._stopping.wait(0.005):
            with suppress(sqlite3.OperationalError):  # a server that was killed is being followed by the next
                self.faults.update(find_faults(self._path))
                self.looks += 1


def find_faults(database: Path) -> list[str]:
    """A ring with a stable release has exactly one active deployment, which is the one that the pointer names."""
    return [
        f"{agent}/{ring}: {active} active, the pointer names {stable}, its deployment {digest} ({phase})"
        for agent, ring, stable, digest, phase, active in _read(database, _RINGS)
        if (active, digest, phase) != (1, stable, "active")
    ]


def replay_moves(database: Path) -> int:
    """Replay every transition in the order of commits. Returns how many; fails on one that the table does not hold."""
    phases: dict[str, Phase] = {}
    active: dict[tuple[str, str], set[str]] = {}
    moves = _read(database, f"{_MOVES} WHERE type = 'deployment.transitioned' ORDER BY seq")
    for agent, ring, deployment, origin, target in moves:
        assert phases.get(deployment, Phase.QUEUED) == origin
        check_transition(Phase(origin), Phase(target))
        phases[deployment] = Phase(target)
        members = active.setdefault((agent, ring), set())
        members.discard(deployment)
        if target == Phase.ACTIVE:
            members.add(deployment)
        assert len(members) <= 1, f"{members} are active in {agent}/{ring} after {deployment} → {target}"
    stored = dict(_read(database, "SELECT id, phase FROM deployments"))
    assert {name: stored[name] for name in phases} == phases
    return len(moves)


def _read(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        return connection.execute(query).fetchall()
