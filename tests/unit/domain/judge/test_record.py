"""What is remembered for people: the heaviest units, and the course of the evidence, both bounded."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from turnout.domain.judge.record import Course, Heaviest
from turnout.domain.judge.units import Unit


def unit(number: int) -> Unit:
    return Unit(f"t{number}", candidate=True, share=0.1, at=float(number), period=60.0)


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0.5, 9.0)), max_size=40))
def test_the_heaviest_are_those_that_sorting_all_of_them_finds(noted: list[tuple[int, float]]) -> None:
    heaviest, best = Heaviest(3), dict.fromkeys(range(7), 1.0)
    for number, factor in noted:
        heaviest.note(unit(number), "failure", factor)
        best[number] = max(best[number], factor)
    factors = sorted((factor for factor in best.values() if factor > 1), reverse=True)
    assert [weighed.factor for weighed in heaviest.listed()] == factors[:3]


def test_a_unit_is_listed_once_for_each_metric_with_its_heaviest_age() -> None:
    heaviest = Heaviest(5)
    for factor in (2.0, 4.0, 3.0):
        heaviest.note(unit(1), "failure", factor)
    heaviest.note(unit(1), "cost", 2.5)
    assert [(found.metric, found.factor) for found in heaviest.listed()] == [("failure", 4.0), ("cost", 2.5)]


def test_nothing_is_listed_where_nothing_is_wanted() -> None:
    heaviest = Heaviest(0)
    heaviest.note(unit(1), "failure", 5.0)
    assert heaviest.listed() == ()


def test_a_list_that_is_full_is_full_after_its_state_was_kept() -> None:
    heaviest, again = Heaviest(2), Heaviest(2)
    for number, factor in enumerate((3.0, 2.0)):
        heaviest.note(unit(number), "failure", factor)
    again.load(json.loads(json.dumps(heaviest.to_state())))
    for kept in (heaviest, again):
        kept.note(unit(7), "failure", 1.5)
        kept.note(unit(8), "failure", 2.5)
    assert again.listed() == heaviest.listed()
    assert [found.task for found in again.listed()] == ["t0", "t8"]


def test_the_course_stays_bounded_and_even_however_long_it_gets() -> None:
    course = Course(60.0)
    for minute in range(20_000):
        if course.due(minute * 60.0):
            course.note(minute * 60.0, {"failure": float(minute)})
    points = course.listed()
    assert 60 <= len(points) <= 241
    assert points[0].at == 0.0
    assert points[-1].at > 0.98 * 20_000 * 60
    gaps = [second.at - first.at for first, second in pairwise(points)]
    assert max(gaps) <= 2 * min(gaps)


def test_the_course_goes_on_from_its_state() -> None:
    course, again = Course(60.0), Course(60.0)
    for minute in range(500):
        if course.due(minute * 60.0):
            course.note(minute * 60.0, {"cost": 1.0})
    again.load(json.loads(json.dumps(course.to_state())))
    assert again.listed() == course.listed()
    assert [again.due(at) for at in (29_990.0, 30_100.0)] == [course.due(at) for at in (29_990.0, 30_100.0)]
