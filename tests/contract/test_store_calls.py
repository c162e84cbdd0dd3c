"""What every store does with calls of models and tools, and with what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.store_support import DATABASES, ONE, TWO, make_template, opened
from tests.contract.test_store_tasks import HERE, KEY, ROLLOUT, add, begun, judged, make_task, report
from tests.unit.domain.values import AGENT, RING, make_deployment
from tests.unit.gateway.calls import FULL_MODEL_CALL, FULL_TOOL_CALL, model_call, tool_call
from turnout.domain.calls import Ended, ModelCall
from turnout.domain.models import Arm
from turnout.domain.outcomes import Known, Observation, Tally
from turnout.ports import Store

PRICED = {"agent": AGENT, "ring": RING, "release": ONE.digest, "prices": "sha256:table", "at": 10.0, "duration": 0.0}


def call(id: str, dollars: float = 0.0, task: str | None = "t1", **changes: Any) -> ModelCall:
    return model_call(id, **{**PRICED, "nanos": round(dollars * 1e9), "task": task, **changes})


@pytest.fixture(scope="module", params=DATABASES)
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    with opened(template, tmp_path) as store:
        yield store


def test_calls_are_recorded_exactly_once_together_with_the_cursor(store: Store) -> None:
    with store.transaction() as transaction:
        assert len(transaction.add_calls([call("a", 1.0), call("a", 1.0), tool_call("b")], "calls/m", "1:1")) == 2
    with store.transaction() as transaction:
        assert [new.id for new in transaction.add_calls([call("a", 1.0), call("c", 0.5)], "calls/m", "1:2")] == ["c"]
        assert transaction.add_calls([], "calls/m", "1:3") == ()
    with store.snapshot() as snapshot:
        assert snapshot.cursor("calls/m") == "1:3"
        assert snapshot.tallies(0.0)[HERE] == Tally(cost=1.5, calls=2)


def test_a_call_comes_back_as_it_was(store: Store) -> None:
    with store.transaction() as transaction:
        kept = model_call("a", at=5.0), tool_call("b", at=4.0, error="no"), tool_call("c", task="other")
        transaction.add_calls([*kept, FULL_MODEL_CALL, FULL_TOOL_CALL], "calls/m", "1:1")
        assert transaction.calls("task-1") == (kept[1], kept[0], FULL_MODEL_CALL)
        assert transaction.calls("task-1", limit=1) == (kept[1],)
        assert transaction.calls("unknown") == ()


def test_failed_calls_are_summed_and_those_that_were_refused_are_none(store: Store) -> None:
    with store.transaction() as transaction:
        calls = [call(ended.value, ended=ended) for ended in Ended]
        transaction.add_calls(calls, "calls/m", "1:1")
        assert transaction.tallies(0.0)[HERE] == Tally(calls=5, failed_calls=3)
        found = transaction.heaviest_run(AGENT, RING, ONE.digest, 0.0)
        assert found["model_error_rate"] == ("t1", 3.0)


def test_the_larger_of_reported_and_metered_cost_counts_for_breakers_and_the_reported_one_for_people(
    store: Store,
) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("t1", at=9.0), make_task("t2", "t2", at=9.0)])
        transaction.add_calls([call("a", 1.0), call("b", 0.5, at=31.0), call("c", 2.0, "t2")], "calls/m", "1:1")
        assert transaction.tallies(0.0)[HERE].cost == pytest.approx(3.5)
        assert transaction.known(["t1", "t2"]) == {KEY: Known(cost=1.5), ("t2", AGENT, RING): Known(cost=2.0)}
        transaction.add_outcomes([report(cost=7.0, at=40.0)])
        transaction.add_calls([call("d", 4.0, at=41.0)], "calls/m", "1:2")
        assert transaction.tallies(0.0)[HERE].cost == pytest.approx(9.0)
        assert transaction.tallies(40.0)[HERE].cost == pytest.approx(5.5)
        assert transaction.known(["t1"]) == {KEY: Known(cost=7.0)}
        transaction.add_outcomes([report(cost=8.0), report(intervened=True)])
        assert transaction.tallies(0.0)[HERE].cost == pytest.approx(9.0)
        transaction.add_calls([call("e", 1.0, at=41.0), call("f", 2.0, at=41.0)], "calls/m", "1:3")
        assert transaction.tallies(0.0)[HERE].cost == pytest.approx(10.5)
        assert transaction.known(["t1"]) == {KEY: Known(intervened=True, cost=7.0)}


def test_an_agent_that_reports_no_cost_hides_nothing_from_breakers(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("t1", at=9.0)])
        transaction.add_calls([call("a", 1.0)], "calls/m", "1:1")
        transaction.add_outcomes([report(cost=0.0, at=12.0)])
        transaction.add_calls([call("b", 4.0)], "calls/m", "1:2")
        assert transaction.tallies(0.0)[HERE].cost == pytest.approx(5.0)
        assert transaction.heaviest_run(AGENT, RING, ONE.digest, 0.0)["cost"] == ("t1", 5.0)


def test_a_call_counts_when_it_ends(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("t1", at=9.0)])
        transaction.add_calls([call("a", 1.0, duration=70.0, ended=Ended.TIMEOUT)], "calls/m", "1:1")
        assert transaction.tallies(80.0)[HERE] == Tally(cost=1.0, calls=1, failed_calls=1)
        found = transaction.heaviest_run(AGENT, RING, ONE.digest, 80.0, began=5.0)
        assert found == {"cost": ("t1", 1.0), "model_error_rate": ("t1", 1.0)}
        transaction.add_outcomes([report(cost=1.5, at=81.0)])
        assert transaction.tallies(80.0)[HERE].cost == pytest.approx(1.5)


def test_a_report_that_waits_for_its_task_is_added_to_what_its_calls_cost_as_far_as_it_is_more(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_outcomes([report(cost=7.0)])
        transaction.add_calls([call("a", 1.0)], "calls/m", "1:1")
        assert transaction.tallies(0.0)[HERE].cost == pytest.approx(1.0)
        add(transaction, [make_task("t1")])
        assert transaction.tallies(0.0)[HERE].cost == pytest.approx(7.0)


def test_a_call_of_no_task_counts_for_its_release(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_calls([call("a", 1.0, None)], "calls/m", "1:1")
        assert transaction.tallies(0.0)[HERE].cost == pytest.approx(1.0)
        assert "cost" not in transaction.heaviest_run(AGENT, RING, ONE.digest, 0.0)


def test_the_heaviest_task_is_found_while_it_is_under_way(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_calls([call("a", 1.0), call("b", 1.0, at=90.0), call("c", 1.5, "t2", at=95.0)], "calls/m", "1")
        assert transaction.heaviest_run(AGENT, RING, ONE.digest, 80.0) == {"cost": ("t1", 2.0)}
        assert transaction.heaviest_run(AGENT, RING, ONE.digest, 80.0, began=50.0) == {"cost": ("t2", 1.5)}
        assert transaction.heaviest_run(AGENT, RING, ONE.digest, 96.0) == {}
        assert transaction.heaviest_run(AGENT, RING, TWO.digest, 0.0) == {}
        add(transaction, [make_task("t1", at=90.0)])
        transaction.add_outcomes([report(cost=9.0, at=95.0)])
        assert transaction.heaviest_run(AGENT, RING, ONE.digest, 80.0) == {"cost": ("t1", 9.0)}


def test_calls_without_a_price_say_nothing_of_a_cost(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_calls([call("a", prices=""), call("b", 0.0, "t2")], "calls/m", "1:1")
        assert transaction.known(["t1", "t2"]) == {("t2", AGENT, RING): Known(cost=0.0)}


def test_a_judge_hears_once_what_the_calls_cost_that_a_task_made_until_an_age(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_deployment(make_deployment(ONE, ROLLOUT))
        units = [judged(f"r{n}", f"t{n}", arm=Arm.STABLE if n % 2 else Arm.CANDIDATE, at=10.0 + n) for n in range(5)]
        add(transaction, [*units, judged("r9", "t9", at=10.0, probability=1.0)], rule="status")
        made = [call(f"c{n}", 1.0, f"t{n}", at=12.0 + n) for n in (0, 1, 3)]
        late, before, free = call("l", 9.0, "t0", at=71.0), call("e", 9.0, "t1", at=9.0), call("f", 0, "t4", prices="")
        transaction.add_calls([*made, late, before, free, call("g", 1.0, "t9")], "calls/m", "1:1")
        transaction.add_outcomes([report("t3", cost=0.25)])
        assert transaction.due_costs(ROLLOUT, -1e9, 10.5, 60.0) == (Observation(0, "t0", 70.0, cost=1.0),)
        due = transaction.due_costs(ROLLOUT, 10.5, 100.0, 60.0)
        assert due == (Observation(0, "t1", 71.0, cost=1.0),)
        transaction.add_observations(ROLLOUT, due)
        assert transaction.due_costs(ROLLOUT, 10.5, 100.0, 60.0) == ()
        told = [(item.task, item.at, item.cost) for item in transaction.observations(ROLLOUT) if item.cost is not None]
        assert told == [("t3", 20.0, 0.25), ("t1", 71.0, 1.0)]
        transaction.add_outcomes([report("t1", cost=5.0)])
        assert [item.cost for item in transaction.observations(ROLLOUT) if item.task == "t1"][-1] == 1.0


def test_a_judge_hears_once_of_tasks_whose_answer_never_came_or_could_not_be_read(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_deployment(make_deployment(ONE, ROLLOUT))
        hung = judged("t2", "t2", at=12.0, duration=None, status=0)
        cut = judged("t3", "t3", at=13.0, answer=b'{"ok', bytes_out=99)
        talk = [judged("a", "talk", at=14.0, answer=b"?", bytes_out=99), begun("b", "talk", at=60.0)]
        fine = judged("t5", "t5", at=15.0, answer=b'{"ok":1}', bytes_out=8)
        add(transaction, [hung, cut, *talk, fine, begun("t6", "t6", at=16.0)], rule="$.ok")
        assert transaction.due_failures(ROLLOUT, -1e9, 100.0, 60.0, unread=False) == (
            Observation(0, "t2", 72.0, failed=True),
        )
        assert transaction.due_failures(ROLLOUT, 12.0, 100.0, 60.0, unread=False) == ()
        due = transaction.due_failures(ROLLOUT, -1e9, 100.0, 60.0, unread=True)
        assert [item.task for item in due] == ["t2", "t3"], "of the conversation nothing speaks against it"
        transaction.add_observations(ROLLOUT, due)
        assert transaction.due_failures(ROLLOUT, -1e9, 100.0, 60.0, unread=True) == ()
        told = {item.task: item.failed for item in transaction.observations(ROLLOUT) if item.failed is not None}
        assert told == {"t2": True, "t3": True, "t5": False}


def test_old_calls_are_forgotten_with_the_tasks(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_calls([call(str(n), at=float(n)) for n in range(6)], "calls/m", "1:1")
        transaction.add_calls([tool_call(f"t{n}", at=float(n), task="t1") for n in range(6)], "calls/m", "1:1")
        assert transaction.prune(4.0, limit=3) == 3
        assert transaction.prune(4.0, limit=3) == 1
        assert transaction.prune(4.0) == 0
        assert sorted(item.at for item in transaction.calls("t1")) == [4.0, 4.0, 5.0, 5.0]


def test_a_description_is_known_once_a_call_was_refused_for_it(store: Store) -> None:
    refused = tool_call("a", ended=Ended.REFUSED, schema="pin", found="x")
    with store.transaction() as transaction:
        transaction.add_calls([refused], "calls/t", "1:1")
        assert not transaction.changed_before(refused, ["a"])
        assert transaction.changed_before(refused, [])
        assert not transaction.changed_before(tool_call("b", found="y"), [])
