"""A receiver of webhooks that is killed and stays away: does it get every event, in order, once it is back?

    python -m benchmarks.webhooks [--minutes 10] [--rate 2]

Real clock, real database, real HTTP. Events happen all the time at `--rate` a second: while the receiver is up, while it is
away (it is killed in the middle of them), and after it is back. It runs in a process of its own, verifies each signature,
and writes down what came.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.contract.store_support import open_empty
from tests.live import free_port
from tests.unit.alerts.receiver import SECRET, receiver_process

from benchmarks.report import Figure, judge, on_this_machine, show_table
from turnout.alerts.build import build_alerts
from turnout.alerts.settings import AlertSettings, WebhookTarget
from turnout.alerts.signature import read_keys
from turnout.db.store import SqlStore
from turnout.domain.events import Event, EventType
from turnout.schemas import WhyView

UP_SECONDS = 10.0  # before the receiver is killed, and after it is back
LATEST = 35.0  # seconds after its return until it has everything: the longest pause, and a moment to send


class WallClock:
    """The time of this machine."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()


@dataclass(frozen=True)
class Received:
    """A line that the receiver wrote."""

    seq: int
    at: float
    signed: bool


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="a receiver that is away for a while")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it is away")
    parser.add_argument("--rate", type=float, default=2.0, help="events a second")
    given = parser.parse_args()
    with on_this_machine(), tempfile.TemporaryDirectory(prefix="webhooks-") as name:
        emitted, received, back = play(Path(name), given.minutes * 60, 1 / given.rate)
    order = [item.seq for item in received]
    away = [seq for seq, at in emitted if at < back]
    last_of_outage = max(item.at for item in received if item.seq == away[-1]) - back if away[-1] in order else 1e9
    delays = sorted(item.at - at for item in received for seq, at in emitted if seq == item.seq and at > back + LATEST)
    firsts = list(dict.fromkeys(order))
    show_table(
        ("", "events"),
        [
            ("happened", f"{len(emitted)}"),
            ("  of them while the receiver was up before", f"{sum(item.at < back for item in received)}"),
            ("received", f"{len(order)}"),
            ("first one after its return, s", f"{min(item.at for item in received if item.at > back) - back:.2f}"),
        ],
    )
    figures = [
        Figure("missed", len({seq for seq, _ in emitted} - set(order)), 0),
        Figure("doubled", len(order) - len(set(order)), 1),  # the one that was under way when the receiver was killed
        Figure("out of order", sum(a > b for a, b in itertools.pairwise(firsts)), 0),
        Figure("with a wrong signature", sum(not item.signed for item in received), 0),
        Figure("from its return to the last event of the time away", last_of_outage, LATEST, "s"),
    ]
    if delays:
        figures.append(Figure("median delay of an event afterwards", delays[len(delays) // 2], 1.0, "s"))
    return judge(figures)


def play(folder: Path, away: float, pause: float) -> tuple[list[tuple[int, float]], list[Received], float]:
    """(events with their times, what was received, when the receiver was back)."""
    engine = open_empty(folder / "turnout.db")
    store, port = SqlStore(engine), free_port()
    target = WebhookTarget("ops", f"http://127.0.0.1:{port}/hook", read_keys(SECRET), ("*",), 10.0)
    alerts = build_alerts(AlertSettings((target,)), store, WallClock(), "bench", _no_page)
    emitted: list[tuple[int, float]] = []
    files = [folder / "before", folder / "after"]
    alerts.start()
    try:
        with receiver_process(port, files[0]) as receiver:
            happen(store, emitted, UP_SECONDS, pause)
            receiver.kill()
            happen(store, emitted, away, pause)
        with receiver_process(port, files[1]):
            back = time.time()
            happen(store, emitted, UP_SECONDS + LATEST, pause)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and _read(files[1])[-1:] != [emitted[-1][0]]:
                time.sleep(0.05)
    finally:
        alerts.stop()
        engine.dispose()
    return emitted, [item for path in files for item in _lines(path)], back


def happen(store: SqlStore, emitted: list[tuple[int, float]], seconds: float, pause: float) -> None:
    """Events, evenly, for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = time.time()
        with store.transaction() as transaction:
            seq = transaction.emit(Event(EventType.POINTER_CHANGED, now, "bench", "support", "production"))
        emitted.append((seq, now))
        time.sleep(pause)


def _read(path: Path) -> list[int]:
    return [item.seq for item in _lines(path)]


def _lines(path: Path) -> list[Received]:
    found = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [Received(int(line["sequence"]), line["at"], line["signed"]) for line in found]


def _no_page(deployment: str) -> WhyView:
    raise AssertionError(f"nobody asks about {deployment}")


if __name__ == "__main__":
    raise SystemExit(main())
