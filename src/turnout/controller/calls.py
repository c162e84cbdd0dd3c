"""The gateway's journals → calls of models and tools, exactly once: records and cursor commit together."""

from __future__ import annotations

import logging
import math

from turnout.controller.ingest import FLUSHED_AFTER
from turnout.domain.call_lines import call_from_line, lost_from_line, route_from_line
from turnout.domain.calls import Call, Ended, RouteChange, ToolCall
from turnout.domain.events import Event, EventType
from turnout.ports import AccessLogChunk, CallLog, Clock, Store, Transaction

log = logging.getLogger(__name__)

ACTOR = "gateway"


class CallIngest:
    """Reads what the gateway's processes wrote while the server was up, and while it was not."""

    def __init__(self, store: Store, journal: CallLog, clock: Clock) -> None:
        self.read_up_to = -math.inf  # every call that ended before this time is recorded, as far as it can be read
        self._store = store
        self._journal = journal
        self._clock = clock
        self._cursors: dict[str, str | None] = {}
        self._down: dict[str, bool] = {}  # by route: what was told of it last

    def take_in(self) -> set[tuple[str, str]]:
        """Take in what the journals have now, in batches. Returns the (agent, ring) pairs that made calls.

        Raises the first of what went wrong, once all of them were tried.
        """
        asked_at = self._clock.now()
        touched: set[tuple[str, str]] = set()
        faults: list[Exception] = []
        for name in self._journal.names():
            try:
                touched |= self._take_in(name)
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one journal, the others are taken in
                faults.append(error)
        self.read_up_to = asked_at - FLUSHED_AFTER  # a journal that cannot be read holds up no judge
        if faults:
            raise faults[0]
        return touched

    def _take_in(self, name: str) -> set[tuple[str, str]]:
        key = f"calls/{name}"
        if name not in self._cursors:
            with self._store.snapshot() as snapshot:
                self._cursors[name] = snapshot.cursor(key)
        touched: set[tuple[str, str]] = set()
        while True:
            chunk = self._journal.read(name, self._cursors[name])
            if chunk.cursor == self._cursors[name]:
                return touched
            calls = [call for call in map(call_from_line, chunk.lines) if call is not None]
            changes = [change for change in map(route_from_line, chunk.lines) if change is not None]
            with self._store.transaction() as transaction:
                new = transaction.add_calls(calls, key, chunk.cursor)
                self._tell(transaction, name, chunk, len(calls) + len(changes), new)
                down = self._tell_routes(transaction, name, changes)
            self._cursors[name], self._down = chunk.cursor, down
            self._journal.forget(name, chunk.cursor)
            touched |= {(call.agent, call.ring) for call in new}
            if chunk.ended:  # what is written meanwhile is the next pass's
                return touched

    def _tell_routes(self, transaction: Transaction, name: str, changes: list[RouteChange]) -> dict[str, bool]:
        """Each process finds out by itself that a route is down: it is told once. Returns what was told of each route."""
        down = dict(self._down)
        for change in changes:
            if down.get(change.route) is change.down:
                continue
            down[change.route] = change.down
            message = f"{change.route} fails: {change.why}" if change.down else f"{change.route} answered again"
            data: dict[str, object] = {"route": change.route, "journal": name, "message": message}
            kind = EventType.ROUTE_DOWN if change.down else EventType.ROUTE_UP
            transaction.emit(Event(kind, change.at, ACTOR, data=data))
        return down

    def _tell(
        self, transaction: Transaction, name: str, chunk: AccessLogChunk, read: int, new: tuple[Call, ...]
    ) -> None:
        """What somebody has to know of: calls that are in no record, and tools that are no longer what was pinned."""
        said = [lost for line in chunk.lines if (lost := lost_from_line(line))]
        unread = sum(bool(line) for line in chunk.lines) - read - len(said)
        if unread:
            log.warning("%d lines of the journal %s are damaged or of a newer version", unread, name)
        if said:
            data: dict[str, object] = {"lost": sum(said), "journal": name}
            transaction.emit(Event(EventType.CALLS_LOST, self._clock.now(), ACTOR, data=data))
        told: set[tuple[str, ...]] = set()
        for call in new:
            if not isinstance(call, ToolCall) or call.ended is not Ended.REFUSED or not call.found:
                continue
            key = (call.agent, call.ring, call.release, call.server, call.tool, call.found)
            if key not in told and not transaction.changed_before(call, [other.id for other in new]):
                transaction.emit(_refused(call))
            told.add(key)


def _refused(call: ToolCall) -> Event:
    data: dict[str, object] = {
        "digest": call.release,
        "server": call.server,
        "tool": call.tool,
        "pinned": call.schema,
        "found": call.found,
        "task": call.task,
        "message": f"the tool {call.tool} of {call.server} is no longer what the release pinned: calls are refused",
    }
    return Event(EventType.TOOL_REFUSED, call.at, ACTOR, call.agent, call.ring, None, data)
