"""A courier brings every event in order, and keeps at it; what it cannot bring for good it gives up in the open."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.alerts.world import FakeTarget, World
from turnout.alerts.attempts import Attempt, Fault
from turnout.alerts.progress import Progress, Wishes, read_progress, read_wishes
from turnout.domain.errors import LeaseLost
from turnout.domain.events import EventType
from turnout.ports import StoredEvent

DOWN = Attempt("it is not reached")


def test_a_new_target_begins_with_what_happens_from_now_on(world: World) -> None:
    world.emit(3)
    target = FakeTarget()
    courier = world.courier(target)
    courier.prepare()
    (fourth,) = world.emit()
    world.visit(courier)
    assert target.tried == [fourth]


def test_everything_comes_once_and_in_order(world: World) -> None:
    target = FakeTarget()
    courier = world.courier(target)
    courier.prepare()
    seqs = world.emit(250)
    world.visit(courier)
    world.visit(courier, 5.0)
    assert target.tried == seqs
    assert world.progress().seq == seqs[-1]
    assert world.progress().sent == 250


def test_what_is_not_wanted_is_passed_over(world: World) -> None:
    target = FakeTarget()
    courier = world.courier(target)
    courier.prepare()
    world.emit(2, EventType.TOKEN_CREATED)
    (third,) = world.emit()
    (last,) = world.emit(1, EventType.TOKEN_CREATED)
    world.visit(courier)
    assert target.tried == [third]
    assert world.progress().seq == last


def test_an_event_that_did_not_arrive_holds_up_those_behind_it(world: World) -> None:
    down = True
    target = FakeTarget(answers=lambda _: DOWN if down else Attempt())
    courier = world.courier(target)
    courier.prepare()
    first, second = world.emit(2)
    world.visit(courier, 100.0)
    assert set(target.tried) == {first}
    failing = world.progress()
    assert (failing.error, failing.tries, failing.sent) == ("it is not reached", len(target.tried), 0)
    down = False
    world.visit(courier, 31.0)
    assert target.tried[-2:] == [first, second]
    assert (world.progress().error, world.progress().failing_since) == ("", None)


def test_pauses_grow_to_half_a_minute_and_no_further(world: World) -> None:
    at: list[float] = []

    def note(_: StoredEvent) -> Attempt:
        at.append(world.clock.at)
        return DOWN

    courier = world.courier(FakeTarget(answers=note))
    courier.prepare()
    world.emit()
    world.visit(courier, 200.0)
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(at)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert set(pauses[6:]) == {30}


def test_a_clock_that_is_set_back_stops_nothing(world: World) -> None:
    down = True
    target = FakeTarget(answers=lambda _: DOWN if down else Attempt())
    courier = world.courier(target)
    courier.prepare()
    world.emit()
    world.visit(courier)
    down = False
    world.clock.at -= 50_000.0
    world.visit(courier, 1.0)
    assert world.progress().sent == 1


def test_what_a_receiver_will_not_have_is_given_up_and_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    poison = 0
    target = FakeTarget(
        answers=lambda stored: Attempt("it answered 422", Fault.EVENT) if stored.seq == poison else Attempt()
    )
    courier = world.courier(target)
    courier.prepare()
    poison, second = world.emit(2)
    world.visit(courier, 60.0)
    assert target.tried == [poison] * 5 + [second]
    assert world.progress().skipped == 1
    assert "422" in world.progress().skipped_note
    assert f"event {poison} (key.trusted) was given up after 5 tries: it answered 422" in caplog.text


def test_a_receiver_that_knows_nobody_for_a_quarter_of_an_hour_loses_nothing(world: World) -> None:
    moved = Attempt("it answered 404", Fault.RECEIVER)
    down = True
    target = FakeTarget(answers=lambda _: moved if down else Attempt())
    courier = world.courier(target)
    courier.prepare()
    seqs = world.emit(3)
    world.visit(courier, 900.0)
    down = False
    world.visit(courier, 31.0)
    assert target.tried[-3:] == seqs
    assert world.progress().skipped == 0


def test_another_server_goes_on_where_the_first_was(world: World) -> None:
    one, two = FakeTarget(), FakeTarget()
    first, second = world.courier(one, "one"), world.courier(two, "two")
    first.prepare()
    second.prepare()
    begun = world.emit(2)
    world.visit(first)
    world.visit(second)
    assert (one.tried, two.tried) == (begun, [])
    world.clock.at += 61.0  # the first is dead
    after = world.emit(2)
    world.visit(second, 1.0)
    assert two.tried == after


def test_a_server_that_lost_its_target_does_not_write_over_the_other(world: World) -> None:
    taker = FakeTarget()

    def sends_slowly(_: StoredEvent) -> Attempt:
        world.clock.at += 61.0
        world.visit(world.courier(taker, "two"))
        return Attempt()

    slow = world.courier(FakeTarget(answers=sends_slowly), "one")
    slow.prepare()
    (seq,) = world.emit()
    with pytest.raises(LeaseLost):
        slow.visit()
    assert taker.tried == [seq]
    assert world.progress().sent == 1


def test_a_try_that_takes_longer_than_the_lease_counts_if_nobody_took_it(world: World) -> None:
    def sends_slowly(_: StoredEvent) -> Attempt:
        world.clock.at += 90.0
        return Attempt()

    target = FakeTarget(answers=sends_slowly)
    courier = world.courier(target)
    courier.prepare()
    seqs = world.emit(3)
    world.visit(courier)
    assert target.tried == seqs


def test_what_a_newer_version_wrote_is_read_as_far_as_it_goes(world: World) -> None:
    with world.store.transaction() as transaction:
        transaction.save_cursor("alerts/ops", '{"seq": 7, "sent": 3, "colour": "red"}')
        transaction.save_cursor("alert-wishes/ops", '{"test": "t", "colour": "red"}')
    with world.store.snapshot() as snapshot:
        assert (read_progress(snapshot, "ops"), read_wishes(snapshot, "ops")) == (Progress(7, 3), Wishes(test="t"))


def test_a_crash_before_it_is_written_sends_again(world: World) -> None:
    class Killed(BaseException):
        pass

    def die(stored: StoredEvent) -> Attempt:
        if stored.seq == third:
            raise Killed
        return Attempt()

    target = FakeTarget(answers=die)
    courier = world.courier(target)
    courier.prepare()
    _, second, third = world.emit(3)
    with pytest.raises(Killed):
        courier.visit()
    again = FakeTarget()
    world.visit(world.courier(again))
    assert again.tried == [second, third], "the first was written down, the second may come twice"


def test_a_fresh_gap_is_waited_for_and_an_old_one_is_not(world: World) -> None:
    """Another server may commit an event with a smaller number a moment later."""
    target = FakeTarget()
    courier = world.courier(target)
    courier.prepare()
    first, hole, third = world.emit(3)
    with world.store._engine.begin() as connection:
        kept = connection.exec_driver_sql(f"select * from events where seq = {hole}").one()
        connection.exec_driver_sql(f"delete from events where seq = {hole}")
    world.visit(courier, 2.0)
    assert target.tried == [first]
    with world.store._engine.begin() as connection:
        marks = ", ".join("?" for _ in kept)
        connection.exec_driver_sql(f"insert into events values ({marks})", tuple(kept))
    world.visit(courier, 1.0)
    assert target.tried == [first, hole, third]
    fourth, gone, sixth = world.emit(3)
    with world.store._engine.begin() as connection:
        connection.exec_driver_sql(f"delete from events where seq = {gone}")
    world.visit(courier, 12.0)
    assert target.tried[3:] == [fourth, sixth]


def test_a_replay_sends_again_from_where_it_was_asked(world: World) -> None:
    target = FakeTarget()
    courier = world.courier(target)
    courier.prepare()
    seqs = world.emit(4)
    world.visit(courier)
    world.wish(Wishes(replay="r1", after=seqs[1]))
    world.visit(courier, 1.0)
    assert target.tried == [*seqs, *seqs[2:]]
    world.visit(courier, 5.0)
    assert len(target.tried) == 6, "a wish is seen to once"


def test_a_replay_leaves_a_poisoned_event_behind(world: World) -> None:
    target = FakeTarget(answers=lambda stored: DOWN if stored.seq == 1 else Attempt())
    courier = world.courier(target)
    courier.prepare()
    first, second = world.emit(2)
    world.visit(courier, 40.0)
    world.wish(Wishes(replay="r1", after=first))
    world.visit(courier, 1.0)
    assert target.tried[-1] == second


def test_a_test_is_sent_at_once_and_only_once(world: World) -> None:
    target = FakeTarget()
    courier = world.courier(target)
    courier.prepare()
    world.wish(Wishes(test="t1"))
    world.visit(courier, 5.0)
    assert target.tests == ["t1"]
    assert (world.progress().test, world.progress().test_error) == ("t1", None)


def test_a_test_that_arrives_ends_the_wait_for_the_next_try(world: World) -> None:
    down = True
    target = FakeTarget(answers=lambda _: DOWN if down else Attempt())
    courier = world.courier(target)
    courier.prepare()
    world.emit()
    world.visit(courier, 100.0)
    down = False
    world.wish(Wishes(test="t1"))
    world.visit(courier, 1.0)
    assert world.progress().sent == 1


def test_a_test_that_fails_says_why(world: World) -> None:
    courier = world.courier(FakeTarget(test_answer=DOWN))
    courier.prepare()
    world.wish(Wishes(test="t1"))
    world.visit(courier)
    assert world.progress().test_error == "it is not reached"


def test_a_fault_of_ours_does_not_silence_a_target(world: World, caplog: pytest.LogCaptureFixture) -> None:
    faults = [ValueError("a fault")]

    def fail_once(_: StoredEvent) -> Attempt:
        if faults:
            raise faults.pop()
        return Attempt()

    target = FakeTarget(answers=fail_once)
    courier = world.courier(target)
    courier.prepare()
    (seq,) = world.emit()
    rounds = iter(range(4))
    courier._sleep = lambda _: next(rounds, None) is None
    courier.run()
    assert target.tried == [seq, seq]
    assert "alerts to ops failed" in caplog.text
    assert world.progress().sent == 1
