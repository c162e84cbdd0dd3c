from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from turnout.processes import KnownProcess, spawn, start_mark


@pytest.fixture
def sleeper(tmp_path: Path) -> KnownProcess:
    return spawn(
        [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"], {}, tmp_path / "log"
    )


def test_a_process_has_a_session_of_its_own_and_a_private_log(sleeper: KnownProcess, tmp_path: Path) -> None:
    assert sleeper.alive
    assert os.getsid(sleeper.pid) == sleeper.pid
    sleeper.end()
    assert not sleeper.alive
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_another_process_with_the_same_pid_is_not_taken_for_it(sleeper: KnownProcess) -> None:
    stranger = KnownProcess(sleeper.pid, "another mark")
    assert not stranger.alive
    assert stranger.wait(0)
    stranger.end()
    assert sleeper.alive
    sleeper.end()


def test_waiting_ends_with_the_time_or_with_the_process(sleeper: KnownProcess) -> None:
    began = time.monotonic()
    assert not sleeper.wait(0.05)
    assert time.monotonic() - began >= 0.05
    sleeper.end()
    assert sleeper.wait(60)
    assert time.monotonic() - began < 30


def test_the_end_of_a_process_is_seen_that_is_not_a_child() -> None:
    """Its parent never clears it away: it stays a zombie."""
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '0.2']).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        process = KnownProcess(pid, start_mark(pid) or "ended")
        assert process.wait(30)
        parent.kill()
