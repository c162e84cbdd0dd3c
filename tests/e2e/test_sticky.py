"""The split of a canary, by task: its share, that it is sticky, and that a larger share moves only the added band."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.workshop import await_deployment, deploy, push_tiny
from tests.live import LiveInstance

AGENT = "split"
TASKS = [f"task-{number:05d}" for number in range(10_000)]
CALLERS = 4
RINGS = '[rings.dev]\ncanary = [{ weight = 10, time = "1h" }, { weight = 25, time = "1h" }]\n'


def test_a_tenth_of_the_tasks_is_on_the_candidate_and_stays_there_when_it_grows(
    instance: LiveInstance, tmp_path: Path
) -> None:
    stable = deploy(instance, AGENT, push_tiny(instance, tmp_path, "one", agent=AGENT, rings=RINGS))["digest"]
    candidate = push_tiny(instance, tmp_path, "two", agent=AGENT, rings=RINGS)
    started = instance.client().deploy(AGENT, "dev", {"release": candidate})
    await_deployment(instance, started["id"], lambda view: view["step"] == 1 and view["weight"] == 10)
    tenth = _ask_all(instance, TASKS)
    assert set(tenth.values()) == {stable, candidate}
    chosen = {task for task, release in tenth.items() if release == candidate}
    repeated = sorted(chosen) + TASKS[:500]
    assert _ask_all(instance, repeated) == {task: tenth[task] for task in repeated}

    instance.client().steer(AGENT, "dev", {"action": "advance"})
    await_deployment(instance, started["id"], lambda view: view["step"] == 2 and view["weight"] == 25)
    quarter = {task for task, release in _ask_all(instance, TASKS).items() if release == candidate}
    print(f"of 10,000 tasks {len(chosen)} at 10 %, {len(quarter)} at 25 %, {len(chosen - quarter)} moved back")
    assert 900 <= len(chosen) <= 1_100
    assert 2_350 <= len(quarter) <= 2_650
    assert chosen <= quarter


def _ask_all(instance: LiveInstance, tasks: list[str]) -> dict[str, str]:
    """Which release answers each task; several callers, each on one connection."""
    with ThreadPoolExecutor(CALLERS) as pool:
        shares = [tasks[number::CALLERS] for number in range(CALLERS)]
        found = pool.map(lambda share: _ask_share(instance.traffic_port, share), shares)
        return {task: release for share in found for task, release in share.items()}


def _ask_share(port: int, tasks: Iterable[str]) -> dict[str, str]:
    """Plain sockets: a client library would take most of the time."""
    found = {}
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for task in tasks:
            request = f"GET /{AGENT}/dev/ HTTP/1.1\r\nhost: localhost\r\nx-turnout-task: {task}\r\n\r\n"
            connection.sendall(request.encode())
            head, received = b"", b""
            while not head:
                received += connection.recv(65_536)
                head = received.partition(b"\r\n\r\n")[0] if b"\r\n\r\n" in received else b""
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
            left = int(headers["content-length"]) - (len(received) - len(head) - 4)
            while left:
                left -= len(connection.recv(left))
            assert headers["x-turnout-task"] == task
            found[task] = headers["x-turnout-release"]
    return found
