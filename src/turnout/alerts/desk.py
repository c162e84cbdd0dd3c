"""What people see of the targets of alerts, and what they ask of them. It works through the store, on every server alike."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from turnout.alerts.cloudevents import format_time
from turnout.alerts.progress import Listed, Progress, Wishes, read_progress, read_roster, read_wishes, save_wishes
from turnout.domain.errors import InvalidRequest, NotFound
from turnout.ports import Snapshot, Store
from turnout.schemas import AlertAsked, AlertList, AlertView

_UNHURRIED = 5.0  # seconds that an event may be old before a target is behind


def list_targets(store: Store, now: float) -> AlertList:
    """Every configured target: how far it is, and what its last tries came to."""
    with store.snapshot() as snapshot:
        roster = read_roster(snapshot)
        targets: Mapping[str, Listed] = roster.targets if roster is not None else {}
        return {"alerts": [_view(snapshot, name, targets[name], now) for name in sorted(targets)]}


def replay(store: Store, name: str, after: int) -> AlertAsked:
    """Send a target again everything after an event (0: from the first). Raises `NotFound`, `InvalidRequest`."""
    with store.transaction() as transaction:
        _check_known(transaction, name)
        newest = transaction.events(newest_first=True, limit=1)
        last = newest[0].seq if newest else 0
        if not 0 <= after <= last:
            raise InvalidRequest(f"there is no event {after} to begin after", hint=f"the newest event is {last}")
        wishes = read_wishes(transaction, name)
        wish = secrets.token_hex(8)
        save_wishes(transaction, name, Wishes(wish, after, wishes.test))
    return {"name": name, "id": wish}


def send_test(store: Store, name: str) -> AlertAsked:
    """Send a target a message that says that nothing happened. Raises `NotFound`."""
    with store.transaction() as transaction:
        _check_known(transaction, name)
        wishes = read_wishes(transaction, name)
        wish = secrets.token_hex(8)
        save_wishes(transaction, name, Wishes(wishes.replay, wishes.after, wish))
    return {"name": name, "id": wish}


def _check_known(snapshot: Snapshot, name: str) -> None:
    roster = read_roster(snapshot)
    names = sorted(roster.targets) if roster is not None else []
    if name not in names:
        known = f"there are {', '.join(names)}" if names else "none is configured: see docs/guides/alerts.md"
        raise NotFound(f"there is no target of alerts called {name!r}", hint=known)


def _view(snapshot: Snapshot, name: str, listed: Listed, now: float) -> AlertView:
    progress = read_progress(snapshot, name)
    newest = snapshot.events(newest_first=True, limit=1)
    last = newest[0].seq if newest else 0
    lag = max(last - progress.seq, 0) if progress is not None else 0
    following = snapshot.events(progress.seq, limit=1) if progress is not None and lag else ()
    seconds = max(now - following[0].event.at, 0.0) if following else 0.0
    shown = progress or Progress(0)
    return {
        "name": name,
        "kind": listed.kind,
        "to": listed.to,
        "events": list(listed.events),
        "state": _state(progress, seconds),
        "cursor": progress.seq if progress is not None else None,
        "lag": lag,
        "lag_seconds": seconds,
        "sent": shown.sent,
        "sent_at": format_time(shown.sent_at) if shown.sent_at is not None else None,
        "error": shown.error,
        "failing_since": format_time(shown.failing_since) if shown.failing_since is not None else None,
        "skipped": shown.skipped,
        "skipped_note": shown.skipped_note,
        "test": shown.test,
        "test_error": shown.test_error,
    }


def _state(progress: Progress | None, seconds: float) -> str:
    if progress is None:
        return "idle"
    if progress.failing_since is not None:
        return "failing"
    return "behind" if seconds > _UNHURRIED else "delivering"
