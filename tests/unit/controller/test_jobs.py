"""Long work beside the controller."""

from __future__ import annotations

import threading

import pytest

from turnout.controller.jobs import Jobs
from turnout.domain.errors import BuildFailed
from turnout.domain.view import Job


def run(work: object, jobs: Jobs | None = None) -> Job | None:
    """Start a job and wait until it says that it is over."""
    assert callable(work)
    jobs, over = jobs or Jobs(), threading.Event()
    jobs.start("prepare", "dep_1", work, over.set)
    assert over.wait(30.0)
    return jobs.look("prepare", "dep_1")


def test_a_job_that_was_not_started_is_none() -> None:
    assert Jobs().look("prepare", "dep_1") is None


def test_a_job_is_under_way_until_it_is_over() -> None:
    jobs, go, over = Jobs(), threading.Event(), threading.Event()

    def wait() -> None:
        go.wait(30.0)

    jobs.start("prepare", "dep_1", wait, over.set)
    assert jobs.look("prepare", "dep_1") == Job()
    go.set()
    assert over.wait(30.0)
    assert jobs.look("prepare", "dep_1") == Job(over=True)


def test_text_is_why_it_failed() -> None:
    assert run(lambda: "greet answered 500") == Job(over=True, error="greet answered 500")


def test_an_error_of_the_tree_is_its_message_and_hint() -> None:
    def fail() -> None:
        raise BuildFailed("no such package", hint="mend the lock")

    assert run(fail) == Job(over=True, error="no such package (mend the lock)")


def test_any_other_error_fails_the_job_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ZeroDivisionError("oh")

    assert run(fail) == Job(over=True, error="unexpected ZeroDivisionError: oh")
    assert "prepare dep_1 failed" in caplog.text


def test_a_job_is_started_once_and_jobs_of_another_kind_are_others() -> None:
    jobs, runs = Jobs(), []

    def count() -> None:
        runs.append(1)

    run(count, jobs)
    jobs.start("prepare", "dep_1", count, lambda: None)
    over = threading.Event()
    jobs.start("smoke", "dep_1", count, over.set)
    assert over.wait(30.0)
    assert len(runs) == 2


def test_a_job_that_hangs_holds_up_no_other() -> None:
    jobs, go = Jobs(), threading.Event()

    def hang() -> None:
        go.wait(30.0)

    for number in range(20):
        jobs.start("prepare", f"hanging {number}", hang, lambda: None)
    assert run(lambda: None, jobs) == Job(over=True)
    go.set()


def test_a_forgotten_job_can_be_started_again_but_not_while_it_runs() -> None:
    jobs, go, over = Jobs(), threading.Event(), threading.Event()

    def hang() -> None:
        go.wait(30.0)

    jobs.start("prepare", "dep_1", hang, over.set)
    jobs.forget("prepare", "dep_1")
    assert jobs.look("prepare", "dep_1") == Job()
    go.set()
    assert over.wait(30.0)
    jobs.forget("prepare", "dep_1")
    assert jobs.look("prepare", "dep_1") is None
