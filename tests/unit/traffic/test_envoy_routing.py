"""What callers and agents see through a real Envoy."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace

import pytest

from tests.unit.traffic.support import (
    CANDIDATE,
    HOST,
    OTHER,
    STABLE,
    Upstream,
    ask,
    releases_of,
    ring_route,
    routes,
    until,
)
from turnout.domain.models import FULL_WEIGHT, Arm, Task
from turnout.traffic.access_log import EnvoyAccessLog, parse_access_line
from turnout.traffic.envoy import EnvoyRouter

Proxy = tuple[EnvoyRouter, int]
UUID = re.compile(r"[0-9a-f-]{36}")


@pytest.fixture
def port(proxy: Proxy, stable: Upstream, candidate: Upstream) -> int:
    """Production serves stable, with a warm candidate and one that is going; staging has nothing, dev a dead release."""
    router, port = proxy
    router.apply(
        routes(
            ring_route(
                (STABLE, FULL_WEIGHT), stable=stable.address, candidate=candidate.address, other=candidate.address
            ),
            ring_route(ring="staging"),
            ring_route((STABLE, FULL_WEIGHT), ring="dev", stable=""),
        )
    )
    return port


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("/support/production", "/"),
        ("/support/production/", "/"),
        ("/support/production/a/b?q=1", "/a/b?q=1"),
        ("/support/production?q=1", "/?q=1"),
        ("/support/dev/../production/x", "/x"),
    ],
)
def test_a_ring_is_reached_by_path_and_the_prefix_is_taken_off(port: int, asked: str, seen: str) -> None:
    reply = ask(port, asked)
    assert (reply.status, reply.json["name"], reply.json["path"]) == (200, "stable", seen)


@pytest.mark.parametrize("host", ["production.support.localhost", "Production.Support.localhost:1234"])
def test_a_ring_is_reached_by_host_name_on_any_port(port: int, host: str) -> None:
    reply = ask(port, "/support/production/x", host=host)
    assert (reply.status, reply.json["path"]) == (200, "/support/production/x")
    assert reply.json["headers"]["host"] == host  # type: ignore[index]


@pytest.mark.parametrize("path", ["/", "/support", "/support/productions", "/nobody/production/", "/support/uat/"])
def test_an_unknown_ring_is_answered_404_with_a_problem(port: int, path: str) -> None:
    reply = ask(port, path)
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")
    assert (reply.json["type"], reply.json["status"]) == ("not_found", 404)
    assert "no such agent and ring" in str(reply.json["detail"])


@pytest.mark.parametrize(("ring", "detail"), [("staging", "no stable release yet"), ("dev", "no replica")])
def test_a_ring_that_cannot_answer_says_why_with_503(port: int, ring: str, detail: str) -> None:
    reply = ask(port, f"/support/{ring}/x")
    assert (reply.status, reply.headers["content-type"]) == (503, "application/problem+json")
    assert reply.json["type"] == "unavailable"
    assert detail in str(reply.json["detail"])


def test_the_response_carries_the_true_release_and_task_whatever_the_agent_claims(port: int) -> None:
    reply = ask(port, x_turnout_task="t-1")
    assert (reply.headers["x-turnout-release"], reply.headers["x-turnout-task"]) == (STABLE, "t-1")


def test_the_agent_is_told_the_truth_whatever_the_caller_claims(port: int) -> None:
    reply = ask(port, x_turnout_task="t-1", x_turnout_release=CANDIDATE, x_turnout_ring="dev", x_turnout_request="r")
    headers = reply.json["headers"]
    assert isinstance(headers, dict)
    assert headers["x-turnout-release"] == CANDIDATE
    assert headers["x-turnout-ring"] == "production"
    assert headers["x-turnout-task"] == "t-1"
    assert UUID.fullmatch(headers["x-turnout-request"])


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ("t-1", None, "turnout.task=t-1"),
        ('a, b=c;%é/"', None, "turnout.task=a%2C%20b%3Dc%3B%25%C3%A9%2F%22"),
        ("t-1", "user=7;p=1, turnout.task=forged,turnout.task ;x", "turnout.task=t-1,user=7;p=1"),
        ("t-1", "turnout.tasks=2", "turnout.task=t-1,turnout.tasks=2"),
        ("t-1", f"long={'x' * 4_096}", "turnout.task=t-1"),
    ],
)
def test_the_task_goes_into_the_baggage_whatever_it_holds(
    port: int, task: str, given: str | None, expected: str
) -> None:
    headers = {"x-turnout-task": task.encode().decode("latin-1"), **({"baggage": given} if given else {})}
    seen = ask(port, **headers).json["headers"]
    assert isinstance(seen, dict)
    assert seen["baggage"] == expected


def test_callers_may_speak_http_2_from_the_start(port: int) -> None:
    settings = b"\0\0\0\x04\0\0\0\0\0"
    with socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        assert connection.recv(9)[3] == settings[3]


def test_a_pin_reaches_a_warm_release(port: int) -> None:
    reply = ask(port, x_turnout_release=CANDIDATE)
    assert (reply.json["name"], reply.headers["x-turnout-release"]) == ("candidate", CANDIDATE)
    assert ask(port, x_turnout_release="").json["name"] == "stable"


@pytest.mark.parametrize("pin", [OTHER, "sha256:" + "d" * 64, CANDIDATE[:-1], "latest"])
def test_a_pin_to_anything_else_is_answered_409(port: int, pin: str) -> None:
    reply = ask(port, x_turnout_release=pin)
    assert (reply.status, reply.json["type"]) == (409, "conflict")
    assert "not warm in this ring" in str(reply.json["detail"])


def test_the_task_is_named_by_the_first_header_that_is_there(port: int) -> None:
    names = {
        "x-turnout-task": "own",
        "x-amzn-bedrock-agentcore-runtime-session-id": "session",
        "x-a2a-context-id": "context",
        "cookie": "a=b; turnout-task=cookie; c=d",
    }
    while names:
        first = next(iter(names))
        expected = names[first] if first != "cookie" else "cookie"
        assert ask(port, **names).headers["x-turnout-task"] == expected
        del names[first]


@pytest.mark.parametrize("bad", ["", "x" * 257, "a\tb"])
def test_a_task_id_that_cannot_be_one_is_replaced(port: int, bad: str) -> None:
    given = [ask(port, x_turnout_task=bad).headers["x-turnout-task"] for _ in range(2)]
    assert all(UUID.fullmatch(task) for task in given)
    assert given[0] != given[1]
    assert ask(port, x_turnout_task="x" * 256).headers["x-turnout-task"] == "x" * 256


def test_tasks_stay_on_their_side_and_a_higher_weight_moves_only_the_added_band(
    proxy: Proxy, stable: Upstream, candidate: Upstream
) -> None:
    router, port = proxy
    tasks = [f"task-{number}" for number in range(10_000)]

    def split(weight: int, tasks: list[str]) -> dict[str, str]:
        weights = ((CANDIDATE, weight), (STABLE, FULL_WEIGHT - weight))
        router.apply(routes(ring_route(*weights, stable=stable.address, candidate=candidate.address)))
        return releases_of(port, tasks)

    at_ten = split(1_000, tasks)
    moved = {task for task in tasks if at_ten[task] == CANDIDATE}
    assert 900 <= len(moved) <= 1_100
    assert releases_of(port, tasks[:1_000]) == {task: at_ten[task] for task in tasks[:1_000]}
    at_quarter = split(2_500, tasks)
    quarter = {task for task in tasks if at_quarter[task] == CANDIDATE}
    assert moved < quarter
    assert 2_350 <= len(quarter) <= 2_650


def test_every_request_is_in_the_access_log_without_its_query(proxy: Proxy, port: int) -> None:
    router, _ = proxy
    log = EnvoyAccessLog(router.access_log_path, router.reopen_logs)
    cursor = end_of(log)
    ask(port, "/support/production/x?secret=1", x_turnout_task="logged-1")
    ask(port, "/support/staging/y", x_turnout_task="logged-2")
    ask(port, "/support/dev/z", x_turnout_task="logged-3")
    ask(port, "/support/production/", x_turnout_task="logged-4", x_turnout_release="old")
    ask(port, "/nobody/", x_turnout_task="logged-5")

    def logged() -> tuple[bytes, ...]:
        lines = log.read(cursor, 100_000).lines
        return lines if sum(b"logged-" in line and b"DownstreamEnd" in line for line in lines) == 5 else ()

    lines = until(logged)
    begun = [task for task in map(parse_access_line, lines) if task and task.duration is None]
    assert [(task.task, task.release) for task in begun if task.task.startswith("logged-")] == [("logged-1", STABLE)]
    lines = tuple(line for line in lines if b"DownstreamEnd" in line)
    tasks = [task for task in map(parse_access_line, lines) if task and task.task.startswith("logged-")]
    assert [(task.task, task.ring, task.release, task.status, task.flags) for task in tasks] == [
        ("logged-1", "production", STABLE, 200, ""),
        ("logged-2", "staging", None, 503, ""),
        ("logged-3", "dev", STABLE, 503, "UH"),
        ("logged-4", "production", None, 409, ""),
    ]
    assert (tasks[0].agent, tasks[0].method, tasks[0].path, tasks[0].bytes_in) == ("support", "GET", "/x", 0)
    assert tasks[0].bytes_out > 0
    assert len({task.request for task in tasks}) == 4
    assert not any(b"secret" in line for line in lines)
    (stray,) = [json.loads(line) for line in lines if b"logged-5" in line]
    assert (stray["agent"], stray["ring"], stray["status"]) == (None, None, 404)


def test_a_rollout_is_told_of_in_the_access_log_and_payloads_are_captured_where_the_ring_asks(
    proxy: Proxy, port: int, stable: Upstream, candidate: Upstream
) -> None:
    router, _ = proxy
    log = EnvoyAccessLog(router.access_log_path, router.reopen_logs)
    cursor = end_of(log)
    weights = ((CANDIDATE, 5_000), (STABLE, 5_000))
    ring = ring_route(*weights, stable=stable.address, candidate=candidate.address)
    router.apply(routes(replace(ring, rollout="dep_1", capture=8)))
    for number in range(20):
        ask(port, x_turnout_task=f"arm-{number}")
    ask(port, x_turnout_task="arm-pinned", x_turnout_release=CANDIDATE)

    def over() -> list[Task]:
        read = [parse_access_line(line) for line in log.read(cursor, 1_000_000).lines]
        ended = [task for task in read if task and task.duration is not None and task.task.startswith("arm-")]
        return ended if len(ended) == 21 else []

    *tasks, pinned = until(over)
    assert {(task.arm, task.release) for task in tasks} == {(Arm.CANDIDATE, CANDIDATE), (Arm.STABLE, STABLE)}
    assert {(task.rollout, task.probability, task.pinned) for task in tasks} == {("dep_1", 0.5, False)}
    assert (pinned.arm, pinned.probability, pinned.rollout, pinned.pinned) == (None, None, None, True)
    assert {(task.question, len(task.answer or b"")) for task in tasks} == {(b"", 8)}


@pytest.mark.parametrize(
    ("path", "host"),
    [("/support/production/", "x"), ("/support/production", "x"), ("/", "production.support.localhost")],
    ids=["path", "no slash", "host"],
)
def test_payloads_are_captured_on_whichever_way_the_ring_is_reached(
    proxy: Proxy, port: int, stable: Upstream, path: str, host: str
) -> None:
    router, _ = proxy
    log = EnvoyAccessLog(router.access_log_path, router.reopen_logs)
    cursor = end_of(log)
    router.apply(routes(replace(ring_route((STABLE, FULL_WEIGHT), stable=stable.address), capture=8)))
    assert ask(port, path, host=host, x_turnout_task="captured").status == 200

    def over() -> list[Task]:
        read = map(parse_access_line, log.read(cursor, 1_000).lines)
        return [task for task in read if task and task.duration is not None and task.task == "captured"]

    (task,) = until(over)
    assert (task.question, task.answer) == (b"", b'{"name":')


def test_of_an_answer_that_breaks_off_is_kept_what_came(proxy: Proxy, port: int, stable: Upstream) -> None:
    router, _ = proxy
    log = EnvoyAccessLog(router.access_log_path, router.reopen_logs)
    cursor = end_of(log)
    router.apply(routes(replace(ring_route((STABLE, FULL_WEIGHT), stable=stable.address), capture=1_000)))
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(b"GET /support/production/sse HTTP/1.1\r\nhost: x\r\nx-turnout-task: broken-off\r\n\r\n")
        until(lambda: stable.streams)
        stable.emit("one")
        until(lambda: b"one" in connection.recv(10_000))
    stable.finish()

    def over() -> list[Task]:
        read = map(parse_access_line, log.read(cursor, 1_000).lines)
        return [task for task in read if task and task.duration is not None and task.task == "broken-off"]

    (task,) = until(over)
    assert task.answer == b"data: one\n\n"


def end_of(log: EnvoyAccessLog) -> str:
    """The cursor after all that was logged so far."""
    cursor = log.read(None).cursor
    while (after := log.read(cursor).cursor) != cursor:
        cursor = after
    return cursor
