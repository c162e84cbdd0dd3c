"""How far each target has come, what became of the last tries, and what people ask of it: as cursors of the store.

The courier of a target alone writes its progress, the API alone its wishes, so that neither overwrites the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from turnout.ports import Snapshot, Transaction

_ROSTER = "alerts"


@dataclass(frozen=True, slots=True)
class Progress:
    """`seq`: the last event that is done with. `replay`, `test`: the last wishes that were seen to."""

    seq: int
    sent: int = 0
    sent_at: float | None = None
    tries: int = 0  # of the event after `seq`
    error: str = ""
    failing_since: float | None = None
    skipped: int = 0
    skipped_note: str = ""
    replay: str = ""
    test: str = ""
    test_error: str | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked last, each with an id of its own. `after`: where to begin again."""

    replay: str = ""
    after: int = 0
    test: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A target as it is configured. `to` holds no secret."""

    kind: str
    to: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Roster:
    """All targets by name, and the id of the instance in the ids of its events."""

    instance: str
    targets: Mapping[str, Listed] = field(default_factory=dict)


def read_progress(snapshot: Snapshot, name: str) -> Progress | None:
    """None for a target that was never served."""
    text = snapshot.cursor(f"alerts/{name}")
    return Progress(**_known(Progress, text)) if text else None


def save_progress(transaction: Transaction, name: str, progress: Progress) -> None:
    """Write the progress of a target."""
    transaction.save_cursor(f"alerts/{name}", json.dumps(asdict(progress)))


def read_wishes(snapshot: Snapshot, name: str) -> Wishes:
    """What is asked of a target."""
    text = snapshot.cursor(f"alert-wishes/{name}")
    return Wishes(**_known(Wishes, text)) if text else Wishes()


def save_wishes(transaction: Transaction, name: str, wishes: Wishes) -> None:
    """Ask something of a target."""
    transaction.save_cursor(f"alert-wishes/{name}", json.dumps(asdict(wishes)))


def read_roster(snapshot: Snapshot) -> Roster | None:
    """None where alerts were never started."""
    text = snapshot.cursor(_ROSTER)
    if not text:
        return None
    known = json.loads(text)
    targets = {name: Listed(item["kind"], item["to"], tuple(item["events"])) for name, item in known["targets"].items()}
    return Roster(known["instance"], targets)


def save_roster(transaction: Transaction, roster: Roster) -> None:
    """Write which targets there are."""
    transaction.save_cursor(_ROSTER, json.dumps(asdict(roster)))


def _known(kind: type[Progress] | type[Wishes], text: str) -> dict[str, Any]:
    """What this version knows of what another one may have written."""
    found = json.loads(text)
    return {item.name: found[item.name] for item in fields(kind) if item.name in found}
