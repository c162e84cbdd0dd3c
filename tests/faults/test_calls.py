"""A server that is killed while calls are written down: afterwards every call is in the database, once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from tests.live import LiveInstance, live_instance, wait_until

NAMES = ("model-0", "model-1", "tool-0")
LARGEST = 20_000  # bytes of a file


def test_a_server_that_is_killed_again_and_again_takes_in_every_call_once(tmp_path: Path) -> None:
    with live_instance(tmp_path / "state") as instance:
        folder = instance.state / "gateway" / "journal"
        writers = [_start(folder, name) for name in NAMES]
        try:
            for pause in (0.4, 0.9, 0.15):
                _await_more(instance, _count(instance))
                time.sleep(pause)  # somewhere in the middle of something
                instance.kill()
                instance.start()
        finally:
            for writer in writers:
                writer.terminate()
        written = {name: int(writer.communicate(timeout=20)[0]) for name, writer in zip(NAMES, writers, strict=True)}
        wait_until(
            lambda: _count(instance) >= sum(written.values()),
            30,
            lambda: f"{_count(instance)} calls, {written} written",
        )
        assert _ids(instance) == sorted(f"{name}-{number}" for name in NAMES for number in range(written[name]))
        view = instance.json("lineage", "task-of-model-0")
        assert {call["agent"] for call in view["model_calls"]} == {"support"}
        wait_until(lambda: len(list(folder.iterdir())) <= 2 * len(NAMES), 10, lambda: f"{sorted(folder.iterdir())}")


def _await_more(instance: LiveInstance, before: int) -> None:
    wait_until(lambda: _count(instance) > before, 20, instance.server_log)


def _start(folder: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.calling_gateway", str(folder), name, str(LARGEST)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy())


def _ids(instance: LiveInstance) -> list[str]:
    with closing(sqlite3.connect(instance.state / "turnout.db", timeout=10)) as connection:
        found = connection.execute("SELECT id FROM model_calls UNION ALL SELECT id FROM tool_calls")
        return sorted(name for (name,) in found)


def _count(instance: LiveInstance) -> int:
    return len(_ids(instance))
