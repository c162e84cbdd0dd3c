"""Processes that hang are ended; those that beat, and those that never did, are left alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live import wait_until
from turnout.gateway.asgi import Message, Receive, Scope, Send
from turnout.gateway.heartbeat import HeartbeatWatch, beat_path, with_heartbeat

BEATING = """
import asyncio, sys
from pathlib import Path
from turnout.gateway.heartbeat import with_heartbeat

async def app(scope, receive, send):
    await send({"type": "lifespan.startup.complete"})
    await receive()

async def nothing(*_):
    await asyncio.sleep(60)

async def told(_):
    pass

asyncio.run(with_heartbeat(app, Path(sys.argv[1]), 0.02)({"type": "lifespan"}, nothing, told))
"""


@contextmanager
def beating(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", BEATING, str(folder)])
    try:
        wait_until(beat_path(folder, process.pid).exists, 10)
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_a_process_that_was_stopped_is_ended_and_one_that_beats_is_not(tmp_path: Path) -> None:
    with beating(tmp_path) as sound, beating(tmp_path) as hung:
        watch = HeartbeatWatch(tmp_path, lambda: [sound.pid, hung.pid, os.getpid()], pause=0.1, missed=10)
        watch.start()
        try:
            hung.send_signal(signal.SIGSTOP)
            assert hung.wait(20) == -signal.SIGKILL
            assert sound.poll() is None
            wait_until(lambda: not beat_path(tmp_path, hung.pid).exists(), 10)  # which comes after the kill
        finally:
            watch.close()


def test_only_looks_in_a_row_without_a_beat_count(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        path = beat_path(tmp_path, process.pid)
        watch = HeartbeatWatch(tmp_path, lambda: [process.pid], missed=3)
        assert [watch.look() for _ in range(5)] == [[]] * 5, "it never beat"
        for at in (1, 2):
            path.touch()
            os.utime(path, ns=(at, at))
            assert [watch.look() for _ in range(3)] == [[]] * 3
        assert watch.look() == [process.pid]
        assert process.wait(10) == -signal.SIGKILL
    finally:
        process.kill()


def test_the_file_of_a_process_goes_with_it(tmp_path: Path) -> None:
    path, seen = beat_path(tmp_path, os.getpid()), []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        while not path.exists():
            await asyncio.sleep(0.01)
        seen.append(path.stat().st_mode & 0o777)

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None:
        return

    asyncio.run(asyncio.wait_for(with_heartbeat(app, tmp_path)({"type": "lifespan"}, receive, send), 10))
    assert seen == [0o600]
    assert not path.exists()
