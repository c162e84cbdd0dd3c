"""The end of a process is noticed, with and without pidfd."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from tests.unit.runtimes.support import eventually
from turnout.runtimes.exits import ExitWatch
from turnout.runtimes.shim import process_identity


@pytest.fixture(params=["pidfd", "polling"])
def without_pidfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "polling":
        monkeypatch.delattr(os, "pidfd_open")


@pytest.mark.usefixtures("without_pidfd")
def test_the_end_of_a_process_is_told_once_and_promptly() -> None:
    watch, told, ended = ExitWatch(), [], threading.Event()

    def tell() -> None:
        told.append(1)
        ended.set()

    with subprocess.Popen(["sleep", "60"]) as sleeper:
        watch.watch(sleeper.pid, process_identity(sleeper.pid), tell)
        assert not ended.wait(0.15)
        sleeper.kill()
        assert ended.wait(2.0)
    watch.close()
    assert told == [1]


@pytest.mark.usefixtures("without_pidfd")
def test_a_process_that_is_gone_or_another_by_now_has_ended() -> None:
    watch, told = ExitWatch(), []
    watch.watch(os.getpid(), "an earlier process", lambda: told.append("another"))
    watch.watch(os.getpid(), None, lambda: told.append("never seen"))
    eventually(lambda: told == ["another", "never seen"], 2.0)
    watch.close()


def test_a_fault_of_one_who_is_told_does_not_keep_the_others_from_it() -> None:
    def fail() -> None:
        raise ValueError("a fault of who is told")

    watch, told = ExitWatch(), []
    watch.watch(os.getpid(), None, fail)
    watch.watch(os.getpid(), None, lambda: told.append(1))
    eventually(lambda: told == [1], 2.0)
    watch.close()
    watch.close()


def test_the_identity_of_a_zombie_or_of_nobody_is_none() -> None:
    with subprocess.Popen(["true"]) as child:
        eventually(lambda: process_identity(child.pid) is None, 2.0)
        assert child.returncode is None
    assert process_identity(child.pid) is None
    assert process_identity(os.getpid()) == process_identity(os.getpid()) is not None
