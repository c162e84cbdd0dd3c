"""What every store must do with replays."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.store_support import ONE, TWO, add_deployment
from tests.unit.domain.values import AGENT, RING, make_digest
from turnout.domain.replays import Came, KeptReplay, TaskDiff, summarise
from turnout.ports import Store

SUMMARY = summarise([TaskDiff("t1", Came.SAME, cost_before=1.0, cost_after=2.0), TaskDiff("t2", Came.CHANGED)])


def test_replays_come_back_newest_first_with_their_reports(store: Store) -> None:
    add_deployment(store)
    first = KeptReplay("r1", AGENT, RING, ONE.digest, TWO.digest, 5.0, "ann", None, SUMMARY, make_digest("report"))
    gate = replace(first, id="r2", deployment="dep_1")
    other = replace(first, id="r3", candidate=ONE.digest)
    with store.transaction() as transaction:
        for kept in (first, gate, other):
            transaction.add_replay(kept, b"report " * 100 + kept.id.encode())
    with store.snapshot() as snapshot:
        assert snapshot.replays(AGENT) == (other, gate, first)
        assert snapshot.replays(AGENT, limit=1) == (other,)
        assert snapshot.replays(AGENT, TWO.digest) == (gate, first)
        assert snapshot.replays(AGENT, deployment="dep_1") == (gate,)
        assert snapshot.replays("billing") == ()
        assert snapshot.replay("r1") == first
        assert snapshot.replay("r9") is None
        assert snapshot.replay_report("r2") == b"report " * 100 + b"r2"
        assert snapshot.replay_report("r9") is None
