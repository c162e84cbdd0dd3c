"""A receiver that is down for ten minutes gets every event, in order, soon after it is back."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from tests.live import free_port
from tests.unit.alerts.receiver import receiver_process
from tests.unit.alerts.world import World

MINUTES = 10
EVERY = 5.0  # seconds between two things that happen


def test_a_receiver_that_was_down_for_ten_minutes_gets_every_event_in_order(world: World, tmp_path: Path) -> None:
    port, written = free_port(), tmp_path / "received"
    courier = world.courier(world.webhook(f"http://127.0.0.1:{port}/hook"))
    courier.prepare()
    begin = world.clock.at
    emitted: list[int] = []
    with ExitStack() as stack:
        while world.clock.at < begin + MINUTES * 60:
            emitted += world.emit(2)
            world.visit(courier, EVERY)
        failing = world.progress()
        assert (failing.sent, failing.skipped) == (0, 0)
        assert failing.failing_since is not None
        assert world.clock.at - failing.failing_since > 590
        stack.enter_context(receiver_process(port, written))
        back = world.clock.at
        while world.progress().seq < emitted[-1]:
            assert world.clock.at - back <= 30.0, "it is tried at least every half minute"
            world.visit(courier, 0.5)
        received = [json.loads(line) for line in written.read_text().splitlines()]
    assert [int(line["sequence"]) for line in received] == emitted
    assert len({line["id"] for line in received}) == len(emitted) == 2 * MINUTES * 60 / EVERY
    assert all(line["signed"] for line in received)
    assert world.progress().failing_since is None
