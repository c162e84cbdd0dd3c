"""What every prober must do: the fake and the real one alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from turnout.domain.models import HealthCheck, SmokeTask
from turnout.ports import Prober
from turnout.runtimes.fake import FakeProber
from turnout.runtimes.probe import HttpProber


class Agent(BaseHTTPRequestHandler):
    ill = False

    def do_GET(self) -> None:
        self.send_response(503 if self.ill else 204)
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()
        self.wfile.write(b"good day")

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Stage:
    prober: Prober
    address: str
    agent: type[Agent]

    def make_ill(self) -> None:
        self.agent.ill = True
        if isinstance(self.prober, FakeProber):
            self.prober.ill[self.address] = "GET /ping answered 503"


@pytest.fixture(params=["fake", "http"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    agent = type("OneAgent", (Agent,), {})
    if request.param == "fake":
        fake = FakeProber()
        fake.failing["broken"] = "answered 500, expected 200: good day"
        yield Stage(fake, "127.0.0.1:1", agent)
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), agent) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        prober = HttpProber()
        yield Stage(prober, f"127.0.0.1:{server.server_port}", agent)
        prober.close()
        server.shutdown()
        thread.join()


def test_an_agent_that_answers_2xx_is_healthy(stage: Stage) -> None:
    assert stage.prober.healthy(stage.address, HealthCheck()) is None


def test_an_agent_that_answers_otherwise_is_not_and_the_reason_is_given(stage: Stage) -> None:
    stage.make_ill()
    assert stage.prober.healthy(stage.address, HealthCheck()) == "GET /ping answered 503"


def test_smoke_tasks_that_are_answered_as_declared_pass(stage: Stage) -> None:
    tasks = (SmokeTask("greet", "/", body='{"name": "Ann"}', expect_text="good day"), SmokeTask("again", "/"))
    assert stage.prober.smoke(stage.address, tasks).passed
    assert stage.prober.smoke(stage.address, ()).passed


def test_the_first_smoke_task_that_fails_is_named_with_what_was_expected_and_found(stage: Stage) -> None:
    tasks = (SmokeTask("greet", "/"), SmokeTask("broken", "/broken"), SmokeTask("after", "/broken"))
    result = stage.prober.smoke(stage.address, tasks)
    assert not result.passed
    assert result.message == "smoke task 'broken': POST /broken answered 500, expected 200: good day"
