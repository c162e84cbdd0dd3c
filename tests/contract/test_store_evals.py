"""What every store must do with runs of suites."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.store_support import ONE, TWO, add_deployment
from tests.unit.domain.values import AGENT, make_digest
from turnout.domain.evidence import EvalRun
from turnout.ports import Store


def test_runs_of_suites_come_back_newest_first_with_their_reports(store: Store) -> None:
    add_deployment(store)
    first = EvalRun(
        id="e1",
        agent=AGENT,
        release=ONE.digest,
        suite="answers",
        suite_digest=make_digest("suite"),
        at=5.0,
        actor="ann",
        passed=True,
        verdict={"passed": True, "findings": [{"mean": 0.5}]},
        report=make_digest("report"),
    )
    tone = replace(first, id="e2", suite="tone", passed=False, stable=TWO.digest)
    other = replace(first, id="e3", release=TWO.digest, at=1.0)
    with store.transaction() as transaction:
        for run in (first, tone, other):
            transaction.add_eval_run(run, b"report " * 100 + run.id.encode())
    with store.snapshot() as snapshot:
        assert snapshot.eval_runs(AGENT) == (other, tone, first)
        assert snapshot.eval_runs(AGENT, limit=1) == (other,)
        assert snapshot.eval_runs(AGENT, ONE.digest) == (tone, first)
        assert snapshot.eval_runs(AGENT, ONE.digest, suite="answers") == (first,)
        assert snapshot.eval_runs("billing") == ()
        assert (snapshot.eval_run("e2"), snapshot.eval_run("e9")) == (tone, None)
        assert snapshot.eval_report("e1") == b"report " * 100 + b"e1"
        assert snapshot.eval_report("e9") is None
        recorded = [event for event in snapshot.events() if event.event.type == "eval.recorded"]
        assert recorded[1].event.data == {"digest": ONE.digest, "suite": "tone", "passed": False, "run": "e2"}
