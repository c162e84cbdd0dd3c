"""The client: it goes on after a lost connection, never does a write twice, and tells apart what was refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from turnout import client as module
from turnout.client import Client, Problem
from turnout.domain.errors import ServerUnreachable

Answer = tuple[int, bytes] | None  # None: the connection is closed without one


@dataclass
class Script:
    """What a server answers, request by request, and what it was asked."""

    answers: list[Answer]
    url: str = ""
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)


@contextmanager
def serving(*answers: Answer) -> Iterator[tuple[Script, Client]]:
    """A server that follows a script, and a client for it."""
    script = Script(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self._read()
            script.asked.append((self.command, self.path, body))
            script.keys.append(self.headers["Idempotency-Key"])
            script.tokens.add(self.headers["Authorization"])
            answer = script.answers.pop(0)
            if answer is None:
                self.close_connection = True
                return
            status, content = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def do_PUT(self) -> None:
            self.answer()

        def do_DELETE(self) -> None:
            self.answer()

        def _read(self) -> bytes:
            if self.headers["Transfer-Encoding"] != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"] or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script, Client(f"{script.url}/", "secret")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)


def event(name: str, seq: int, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'seq': seq, **data})}\n\n".encode()


def test_a_read_is_an_answer_with_the_token_in_a_header() -> None:
    with serving((200, b'{"agents": []}')) as (script, client):
        assert client.agents() == {"agents": []}
        assert script.asked == [("GET", "/v1/agents", b"")]
        assert script.tokens == {"Bearer secret"}


def test_names_are_quoted() -> None:
    with serving((200, b"{}"), (200, b"{}")) as (script, client):
        client.release("a/b", "ring:dev")
        client.events(agent="a&b", newest_first=True, ring=None)
        assert [path for _, path, _ in script.asked] == [
            "/v1/agents/a%2Fb/releases/ring%3Adev",
            "/v1/events?agent=a%26b&newest_first=true",
        ]


def test_a_write_that_lost_its_connection_is_sent_again_under_the_same_key() -> None:
    with serving(None, None, (202, b'{"id": "dep_1"}')) as (script, client):
        assert client.deploy("support", "dev", {"release": "v1", "reason": None})["id"] == "dep_1"
        assert len(script.asked) == 3
        assert len(set(script.keys)) == 1
        assert script.keys[0]
        assert json.loads(script.asked[0][2]) == {"release": "v1"}


def test_two_writes_have_two_keys() -> None:
    with serving((202, b"{}"), (202, b"{}")) as (script, client):
        client.deploy("support", "dev", {})
        client.deploy("support", "dev", {})
        assert len(set(script.keys)) == 2


def test_a_server_that_never_answers_is_unreachable() -> None:
    with serving(*[None] * 5) as (script, client):
        with pytest.raises(ServerUnreachable, match=script.url) as refused:
            client.agents()
        assert len(script.asked) == 5
        assert "turnout up" in str(refused.value.hint)


def test_what_is_refused_is_not_tried_again() -> None:
    problem = {"type": "urn:turnout:problem:policy_refused", "detail": "no", "hint": "ask", "problems": ["a", "b"]}
    with serving((409, json.dumps(problem).encode())) as (script, client):
        with pytest.raises(Problem, match="no") as refused:
            client.promote("support", "staging", {})
        assert (refused.value.code, refused.value.status) == ("policy_refused", 409)
        assert (refused.value.hint, refused.value.problems) == ("ask", ("a", "b"))
        assert len(script.asked) == 1


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[]"])
def test_an_error_that_is_no_problem_is_told_by_its_status(body: bytes) -> None:
    with serving((502, body)) as (_, client), pytest.raises(Problem, match="502") as refused:
        client.agents()
    assert refused.value.code == "internal"


def test_a_blob_is_sent_in_chunks_and_an_empty_chunk_does_not_end_it() -> None:
    with serving((204, b"")) as (script, client):
        client.put_blob("support", "sha256:0", [b"one", b"", b"two"])
        assert script.asked[0][2] == b"onetwo"


def test_a_deployment_is_followed_over_a_lost_connection_without_repeating_anything() -> None:
    first = event("deployment.created", 1) + event("deployment.transitioned", 2)
    whole = first + event("deployment.waiting", 3) + event("settled", 0, state="active")
    with serving((200, first), None, (200, whole)) as (script, client):
        seen = [(item.name, item.data["seq"]) for item in client.follow_deployment("dep_1")]
        assert seen == [
            ("deployment.created", 1),
            ("deployment.transitioned", 2),
            ("deployment.waiting", 3),
            ("settled", 0),
        ]
        assert len(script.asked) == 3


def test_following_what_is_not_there_is_refused() -> None:
    problem = {"type": "urn:turnout:problem:not_found", "detail": "there is no deployment"}
    with serving((404, json.dumps(problem).encode())) as (_, client), pytest.raises(Problem) as refused:
        list(client.follow_deployment("dep_9"))
    assert refused.value.code == "not_found"


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (lambda c: c.instance(), "GET", "/v1/instance"),
        (lambda c: c.agent("a"), "GET", "/v1/agents/a"),
        (lambda c: c.releases("a"), "GET", "/v1/agents/a/releases"),
        (lambda c: c.diff("a", "v1", "v2"), "GET", "/v1/agents/a/diff?a=v1&b=v2"),
        (lambda c: c.deployments("a", None, 5), "GET", "/v1/deployments?agent=a&limit=5"),
        (lambda c: c.deployment("d"), "GET", "/v1/deployments/d"),
        (lambda c: c.tokens(), "GET", "/v1/tokens"),
        (lambda c: c.approvals("a", "dev"), "GET", "/v1/agents/a/rings/dev/approvals"),
        (lambda c: c.roll_back("a", "dev", {}), "POST", "/v1/agents/a/rings/dev/rollbacks"),
        (lambda c: c.preview("a", "dev", "promotions", {}), "POST", "/v1/agents/a/rings/dev/promotions"),
        (lambda c: c.decide("a", "dev", {}), "POST", "/v1/agents/a/rings/dev/approvals"),
        (lambda c: c.steer("a", "dev", {}), "POST", "/v1/agents/a/rings/dev/rollout"),
        (lambda c: c.create_token("n", "viewer"), "POST", "/v1/tokens"),
        (lambda c: c.revoke_token("n"), "DELETE", "/v1/tokens/n"),
        (lambda c: c.put_release("a", "sha256:0", {}), "PUT", "/v1/agents/a/releases/sha256:0"),
    ],
)
def test_each_call_has_its_place(call: Callable[[Client], object], method: str, path: str) -> None:
    with serving((200, b"{}")) as (script, client):
        call(client)
        assert [asked[:2] for asked in script.asked] == [(method, path)]
