"""What every store does with requests, reports about tasks, and what judges are fed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.contract.store_support import ALIEN, ONE, TWO
from tests.unit.domain.values import AGENT, RING, make_deployment
from turnout.domain.models import Arm, Release, Task
from turnout.domain.outcomes import MOST_REPORTS, Known, Outcome, Source, Tally, TallyKey, read_task
from turnout.domain.phases import Phase
from turnout.ports import ACCESS_LOG, Store, StoredJudgement, TaskQuery, Transaction

ROLLOUT = "dep_1"
KEY = ("t1", AGENT, RING)
HERE = TallyKey(AGENT, RING, ONE.digest)


def make_task(request: str, task: str = "t1", release: Release | None = ONE, **fields: Any) -> Task:
    given: dict[str, Any] = {"at": 10.0, "duration": 0.1, "status": 200}
    digest = release.digest if release else None
    return Task(request, task, AGENT, RING, digest, **{**given, **fields})


def begun(request: str, task: str = "t1", **fields: Any) -> Task:
    return make_task(request, task, **{"duration": None, "status": 0, **fields})


def judged(request: str, task: str = "t1", arm: Arm = Arm.CANDIDATE, **fields: Any) -> Task:
    return make_task(request, task, **{"arm": arm, "probability": 0.1, "rollout": ROLLOUT, **fields})


def add(transaction: Transaction, tasks: Sequence[Task], cursor: str = "c", rule: str | None = None) -> int:
    said = {task.request: found for task in tasks if rule and (found := read_task(task, rule)) is not None}
    return transaction.add_tasks(tasks, said, cursor)


def report(task: str = "t1", *, at: float = 20.0, **fields: Any) -> Outcome:
    return Outcome(task, fields.pop("source", Source.REPORT), at, reporter="ann", **fields)


# --- requests --------------------------------------------------------------------------------------------------------


def test_requests_are_recorded_exactly_once_together_with_the_cursor(store: Store) -> None:
    with store.transaction() as transaction:
        assert transaction.cursor(ACCESS_LOG) is None
        assert add(transaction, [make_task("r1"), make_task("r2")], "c1") == 2
    with store.transaction() as transaction:
        assert add(transaction, [make_task("r2"), make_task("r3")], "c2") == 1
        assert add(transaction, [make_task("r1")], "c2") == 0
        assert add(transaction, [], "c3") == 0
    with store.snapshot() as snapshot:
        assert snapshot.cursor(ACCESS_LOG) == "c3"
        assert snapshot.task_counts(AGENT) == {(RING, ONE.digest): (3, 0)}


def test_a_request_that_began_is_known_and_is_counted_when_it_is_over(store: Store) -> None:
    with store.transaction() as transaction:
        assert add(transaction, [begun("r1"), begun("r1")]) == 1
        (shown,) = transaction.tasks(TaskQuery(task="t1"))
        assert (shown.duration, shown.status) == (None, 0)
        assert transaction.task_counts(AGENT) == {}
        assert add(transaction, [make_task("r1", status=503, bytes_out=7), begun("r1")]) == 1
        assert add(transaction, [make_task("r1"), begun("r1")]) == 0
        (shown,) = transaction.tasks(TaskQuery(task="t1"))
        assert (shown.duration, shown.status, shown.bytes_out) == (0.1, 503, 7)
        assert transaction.task_counts(AGENT) == {(RING, ONE.digest): (1, 1)}


def test_failures_are_answers_of_5xx(store: Store) -> None:
    tasks = [make_task(f"r{status}", status=status) for status in (200, 404, 500, 503)]
    with store.transaction() as transaction:
        add(transaction, [*tasks, make_task("r0", release=None, status=503)])
        assert transaction.task_counts(AGENT) == {(RING, ONE.digest): (4, 2), (RING, ""): (1, 1)}


def test_requests_are_found_by_what_is_known_of_them(store: Store) -> None:
    with store.transaction() as transaction:
        add(
            transaction,
            [
                make_task("r1", "t1", at=1.0),
                make_task("r2", "t2", TWO, at=2.0, status=500),
                judged("r3", "t3", at=3.0, question=b"why", answer=b"so"),
                make_task("r4", "t4", at=4.0, duration=None, status=0),
            ],
        )
        assert [task.request for task in transaction.tasks(TaskQuery())] == ["r4", "r3", "r2", "r1"]
        for query, expected in (
            (TaskQuery(task="r2"), ["r2"]),
            (TaskQuery(release=TWO.digest), ["r2"]),
            (TaskQuery(failed=True), ["r2"]),
            (TaskQuery(failed=False, limit=1), ["r3"]),
            (TaskQuery(arm="candidate"), ["r3"]),
            (TaskQuery(rollout=ROLLOUT), ["r3"]),
            (TaskQuery(since=2.0, until=3.0), ["r2"]),
            (TaskQuery(agent="another"), []),
        ):
            assert [task.request for task in transaction.tasks(query)] == expected
        (found,) = transaction.tasks(TaskQuery(task="t3", payloads=True))
        assert (found.question, found.answer, found.arm, found.probability) == (b"why", b"so", Arm.CANDIDATE, 0.1)


def test_the_requests_of_an_agent_come_from_all_its_rings_in_one_order(store: Store) -> None:
    with store.transaction() as transaction:
        both = [replace(make_task(f"{ring}{at}", at=at), ring=ring) for at in (1.0, 2.0) for ring in ("dev", "live")]
        add(transaction, [*both, replace(make_task("z", at=3.0), agent="another")])
        found = [task.request for task in transaction.tasks(TaskQuery(agent=AGENT))]
        assert found == ["dev2.0", "live2.0", "dev1.0", "live1.0"]
        assert [task.request for task in transaction.tasks(TaskQuery(agent=AGENT, limit=3))] == found[:3]
        assert [task.request for task in transaction.tasks(TaskQuery(agent=AGENT, ring="live"))] == [
            "live2.0",
            "live1.0",
        ]


def test_failed_is_by_the_answer_or_by_the_first_report_that_says_so(store: Store) -> None:
    with store.transaction() as transaction:
        tasks = [make_task(f"r{number}", f"t{number}", at=float(number)) for number in range(6)]
        add(transaction, [*tasks, make_task("r6", "t5", at=6.0), make_task("r7", "t7", at=7.0, status=503)])
        transaction.add_outcomes(
            [report("t1", failed=True), report("t2", failed=False), report("t2", failed=True, cost=1)]
        )
        transaction.add_outcomes([report("t3", cost=1), report("t3", failed=True), report("t3", failed=False)])
        transaction.add_outcomes([report("t4", failed=True, agent="another"), report("t5", failed=True)])
        bad = [task.request for task in transaction.tasks(TaskQuery(failed=True))]
        good = [task.request for task in transaction.tasks(TaskQuery(failed=False))]
        assert (bad, good) == (["r7", "r6", "r5", "r3", "r1"], ["r4", "r2", "r0"])
        assert [task.request for task in transaction.tasks(TaskQuery(failed=True, until=6.0, limit=1))] == ["r5"]


def test_what_is_old_is_forgotten_a_part_at_a_time(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_deployment(make_deployment(ONE, ROLLOUT))
        tasks = [judged(f"r{number}", f"t{number}", at=float(number), answer=b"x") for number in range(10)]
        add(transaction, tasks, rule="status")
        assert transaction.prune(8.0, limit=5) == 5
        assert transaction.prune(8.0) == 3
        assert transaction.prune(8.0) == 0
        assert {task.request for task in transaction.tasks(TaskQuery(payloads=True))} == {"r8", "r9"}
        assert transaction.outcomes("t1") == ()
        assert transaction.observations(ROLLOUT), "the rollout is not over"


# --- reports ---------------------------------------------------------------------------------------------------------


def test_for_each_value_the_first_report_counts(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("r1")])
        states = [
            taken.state
            for taken in transaction.add_outcomes(
                [
                    report(failed=False),
                    report(failed=False),
                    report(failed=True, cost=0.5),
                    report(failed=True),
                    report(intervened=True),
                ]
            )
        ]
        assert states == ["counted", "repeated", "counted", "contradicts", "counted"]
        assert transaction.known(["t1"]) == {KEY: Known(False, True, 0.5)}
        assert [item.state for item in transaction.outcomes("t1")] == ["counted", "counted", "contradicts", "counted"]
        assert transaction.tallies(0.0) == {HERE: Tally(1, 0, 1, 0.5)}


def test_what_was_said_before_is_repeated_and_takes_no_room(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_outcomes([report("late", cost=1.0)] * 3)
        add(transaction, [make_task("r1")])
        transaction.add_outcomes([report(failed=False), report(intervened=True)])
        said = [report(failed=True), report(failed=True, agent="another")]
        first = [taken.state for taken in transaction.add_outcomes(said)]
        assert first == ["contradicts", "foreign"]
        again = transaction.add_outcomes([*said, report(failed=True, agent=AGENT, ring=RING)] * MOST_REPORTS)
        assert {taken.state for taken in again} == {"repeated"}
        assert len(transaction.outcomes("t1")) == 4
        (other,) = transaction.add_outcomes([replace(report(failed=True), reporter="eve")])
        assert other.state == "contradicts"
        transaction.add_outcomes([report(cost=float(number)) for number in range(2, 40)])
        (known,) = transaction.add_outcomes([report(intervened=True)])
        assert known.state == "repeated"
        assert len(transaction.outcomes("late")) == 1


def test_an_outcome_at_one_agent_trips_no_breaker_of_another(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("r1"), replace(make_task("r2", release=ALIEN), agent="billing")])
        transaction.add_outcomes([report(cost=50.0, intervened=True, agent="billing", ring=RING)])
        assert transaction.heaviest_run(AGENT, RING, ONE.digest, 0.0) == {}
        found = transaction.heaviest_run("billing", RING, ALIEN.digest, 0.0)
        assert found == {"cost": ("t1", 50.0), "intervention_rate": ("t1", 1.0)}


def test_a_report_is_about_the_newest_request_of_each_place(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("r1", at=1.0), make_task("r2", at=3.0, release=TWO)])
        add(transaction, [replace(make_task("r3", at=2.0, release=ALIEN), agent="billing")])
        taken = transaction.add_outcomes(
            [report(cost=1.0), report(cost=2.0, agent="billing"), report(failed=True, agent="nobody")]
        )
        assert [(item.state, item.agent) for item in taken] == [
            ("counted", AGENT),
            ("counted", "billing"),
            ("foreign", AGENT),
        ]
        assert transaction.tallies(0.0)[TallyKey(AGENT, RING, TWO.digest)].cost == 1.0


def test_a_report_that_is_sooner_than_its_task_waits_for_it(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_deployment(make_deployment(ONE, ROLLOUT))
        (taken,) = transaction.add_outcomes([report(failed=True)])
        assert (taken.state, taken.agent) == ("waiting", None)
        assert transaction.unknown_reports() == 1
        add(transaction, [judged("r1")], rule="status")
        assert transaction.unknown_reports() == 0
        assert transaction.known(["t1"])[KEY].failed is True, "the report came before the answer was read"
        assert [(item.arm, item.failed) for item in transaction.observations(ROLLOUT)] == [
            ("candidate", None),
            (None, True),
        ]


def test_reports_about_another_ring_or_without_end_do_not_count(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("r1")])
        (foreign,) = transaction.add_outcomes([report(failed=True, agent="another")])
        (right,) = transaction.add_outcomes([report(cost=1.0, agent=AGENT, ring=RING)])
        assert (foreign.state, right.state) == ("foreign", "counted")
        many = transaction.add_outcomes([report(cost=float(number)) for number in range(2, 40)])
        assert {taken.state for taken in many} == {"contradicts", "refused"}
        assert len(transaction.outcomes("t1")) == MOST_REPORTS
        assert transaction.known(["t1"]) == {KEY: Known(cost=1.0)}


# --- rollouts --------------------------------------------------------------------------------------------------------


def test_a_judge_is_told_of_each_task_once_and_of_what_became_of_it(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_deployment(make_deployment(ONE, ROLLOUT))
        add(transaction, [judged("t1", duration=None, status=0)])
        add(transaction, [judged("t1"), judged("r2", at=11.0), judged("t2", "t2", Arm.STABLE)], rule="status")
        add(transaction, [judged("r4", "t3", pinned=True), make_task("r5", "t4")], rule="status")
        transaction.add_outcomes([report("t2", cost=0.2), report("t4", failed=True)])
        told = transaction.observations(ROLLOUT)
        assert [(item.task, item.arm, item.probability, item.failed, item.cost) for item in told] == [
            ("t1", "candidate", 0.1, None, None),
            ("t2", "stable", 0.1, None, None),
            ("t1", None, None, False, None),
            ("t2", None, None, False, None),
            ("t2", None, None, None, 0.2),
        ]
        assert transaction.observations(ROLLOUT, after=told[2].seq, limit=1) == (told[3],)
        assert transaction.count_tasks(ROLLOUT, 0.0) == 1
        assert transaction.count_tasks(ROLLOUT, 10.5) == 0


def test_a_conversation_that_returns_is_judged_by_what_becomes_of_it_now(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_deployment(make_deployment(ONE, ROLLOUT))
        add(transaction, [make_task("r1", at=1.0)], rule="status")
        add(transaction, [judged("r2", at=100.0, status=500), judged("r3", at=101.0)], rule="status")
        told = transaction.observations(ROLLOUT)
        assert [(item.arm, item.failed) for item in told] == [("candidate", None), (None, True)]
        assert transaction.known(["t1"]) == {KEY: Known(failed=True)}
        assert transaction.tallies(0.0)[HERE] == Tally(3, 1), "a breaker counts each answer"
        transaction.add_outcomes([report(at=102.0, failed=True, intervened=True)] * 2)
        assert [item.intervened for item in transaction.observations(ROLLOUT)][2:] == [True], "each value is told once"


def test_one_name_at_two_agents_is_two_tasks(store: Store) -> None:
    elsewhere = replace(make_task("r2", release=ALIEN, status=500), agent="billing")
    with store.transaction() as transaction:
        transaction.add_deployment(make_deployment(ONE, ROLLOUT))
        add(transaction, [judged("t1"), elsewhere], rule="status")
        transaction.add_outcomes([report(intervened=True, agent="billing"), report(cost=0.5, agent=AGENT)])
        told = transaction.observations(ROLLOUT)[1:]
        assert [(item.failed, item.intervened, item.cost) for item in told] == [(False, None, None), (None, None, 0.5)]
        there = TallyKey("billing", RING, ALIEN.digest)
        assert transaction.tallies(0.0) == {HERE: Tally(1, 0, 0, 0.5), there: Tally(1, 1, 1)}
        assert transaction.known(["t1"]) == {
            KEY: Known(failed=False, cost=0.5),
            ("t1", "billing", RING): Known(failed=True, intervened=True),
        }


def test_what_is_said_of_a_name_at_one_agent_is_not_said_of_it_at_another(store: Store) -> None:
    with store.transaction() as transaction:
        names = ["t1", "t2"]
        add(transaction, [make_task(f"here-{name}", name, at=9.0) for name in names])
        add(transaction, [replace(make_task(f"there-{name}", name, at=9.0), agent="billing") for name in names])
        transaction.add_outcomes(
            [report("t1", failed=True, agent="billing"), report("t2", failed=False, agent="billing")]
        )
        transaction.add_outcomes([report("t2", failed=True, agent=AGENT)])
        found = {task.request for task in transaction.tasks(TaskQuery(failed=True))}
        assert found == {"there-t1", "here-t2"}


def test_tasks_that_all_came_to_the_candidate_are_counted_and_not_judged(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_deployment(make_deployment(ONE, ROLLOUT))
        add(transaction, [judged("t1", probability=1.0)], rule="status")
        assert transaction.count_tasks(ROLLOUT, 0.0) == 1
        assert [item.failed for item in transaction.observations(ROLLOUT)] == [None]


def test_what_a_judge_said_is_kept(store: Store) -> None:
    with store.transaction() as transaction:
        deployment = make_deployment(ONE, ROLLOUT)
        transaction.add_deployment(deployment)
        assert transaction.judgement(ROLLOUT) is None
        first = StoredJudgement(1.0, 7, {"kind": "hold"}, {"a": [1, None, "x"]})
        transaction.save_judgement(ROLLOUT, first)
        assert transaction.judgement(ROLLOUT) == first
        second = StoredJudgement(2.0, 8, {"kind": "fail"}, {}, "fail")
        transaction.save_judgement(ROLLOUT, second)
        assert transaction.judgement(ROLLOUT) == second


# --- sums ------------------------------------------------------------------------------------------------------------


def test_sums_are_kept_by_release_for_a_while(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("t1", at=100.0), make_task("r2", "t2", at=200.0, status=500)], rule="status")
        add(transaction, [make_task("t3", "t3", TWO, at=200.0)], rule="status")
        there = TallyKey(AGENT, RING, TWO.digest)
        assert transaction.tallies(150.0) == {HERE: Tally(1, 1), there: Tally(1)}
        assert transaction.tallies(0.0, AGENT, RING)[HERE] == Tally(2, 1)
        assert transaction.tallies(0.0, "another") == {}


def test_a_failure_counts_when_its_answer_did_however_late_it_is_told(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task("t1", at=100.0, duration=90.0), begun("t2", "t2", at=100.0)])
        assert transaction.tallies(190.0) == {HERE: Tally(1)}, "a request counts when it is over"
        transaction.add_outcomes([report("t1", at=500.0, failed=True, intervened=True, cost=2.0)])
        transaction.add_outcomes([report("t2", at=500.0, failed=True)])
        assert transaction.tallies(190.0) == {HERE: Tally(1, 2, 1, 2.0)}
        assert transaction.tallies(200.0) == {HERE: Tally(0, 1, 0, 2.0)}, "t2 is not answered yet; a cost is a sum"


def test_a_report_that_waited_counts_with_the_answer(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_outcomes([report("t1", at=90.0, failed=True)])
        add(transaction, [make_task("t1", at=85.0, duration=20.0)])
        assert transaction.tallies(100.0) == {HERE: Tally(1, 1)}


def test_the_heaviest_task_of_each_kind_is_found(store: Store) -> None:
    with store.transaction() as transaction:
        add(transaction, [make_task(f"r{n}", "t1", status=500) for n in range(3)] + [make_task("r9", "t2", status=500)])
        transaction.add_outcomes([report("t1", cost=0.1), report("t2", cost=3.0, intervened=True)])
        found = transaction.heaviest_run(AGENT, RING, ONE.digest, 0.0)
        assert found == {"error_rate": ("t1", 3.0), "intervention_rate": ("t2", 1.0), "cost": ("t2", 3.0)}
        assert transaction.heaviest_run(AGENT, RING, TWO.digest, 0.0) == {}


def test_a_deployment_that_is_over_takes_what_its_judge_heard_along(store: Store) -> None:
    with store.transaction() as transaction:
        deployment = make_deployment(ONE, ROLLOUT)
        transaction.add_deployment(deployment)
        add(transaction, [judged("r1")], rule="status")
        said = StoredJudgement(45.0, 1, {"kind": "hold"}, {"units": ["t1"]}, "fail")
        transaction.save_judgement(ROLLOUT, said)
        for phase in (Phase.BUILDING, Phase.FAILED):
            deployment = transaction.move(deployment, phase, at=50.0, actor="turnout", reason="")
        transaction.prune(40.0)
        assert transaction.observations(ROLLOUT)
        assert transaction.judgement(ROLLOUT) == said
        transaction.prune(60.0)
        assert transaction.observations(ROLLOUT) == ()
        assert transaction.judgement(ROLLOUT) == replace(said, cursor=0, state={}), "what was said is kept"
