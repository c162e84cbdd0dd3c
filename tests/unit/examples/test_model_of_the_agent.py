"""The documentation assistant with a language model: what it asks, for which task, and what it says without an answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.unit.examples.agent import EXAMPLE
from tests.unit.examples.conftest import StartAgent

QUESTION = json.dumps({"prompt": "how do I format a string"}).encode()


class Provider(ThreadingHTTPServer):
    """Answers as an OpenAI-compatible provider does, or refuses; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.refuses = False


class Answers(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        choice = {"message": {"role": "assistant", "content": " In my words. "}}
        answer = {"error": {"message": "the budget is spent"}} if self.server.refuses else {"choices": [choice]}
        self.send_response(429 if self.server.refuses else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def env(provider: Provider) -> dict[str, str]:
    base = f"http://127.0.0.1:{provider.server_port}/v1"
    return {"DOCS_MODEL": "small", "OPENAI_BASE_URL": base, "OPENAI_API_KEY": "tk_1"}


def test_the_model_says_it_in_its_words_and_is_told_the_task(
    provider: Provider, env: dict[str, str], start: StartAgent
) -> None:
    agent = start(EXAMPLE, **env)
    connection = agent.connect()
    connection.request("POST", "/invocations", QUESTION, {"x-turnout-task": "t-1"})
    answer = json.load(connection.getresponse())
    connection.close()

    assert "In my words." in answer["answer"]
    (path, headers, body) = provider.asked[0]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer tk_1"
    assert headers["x-turnout-task"] == "t-1"
    assert body["model"] == "small"
    assert "how do I format a string" in body["messages"][-1]["content"]


def test_a_refusal_of_the_model_is_an_error_with_its_text(
    provider: Provider, env: dict[str, str], start: StartAgent
) -> None:
    provider.refuses = True
    status, _, body = start(EXAMPLE, **env).request("POST", "/invocations", QUESTION)

    assert status == 502
    assert "the budget is spent" in json.loads(body)["detail"]


def test_a_model_that_does_not_listen_is_an_error(start: StartAgent) -> None:
    agent = start(EXAMPLE, DOCS_MODEL="small", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    status, _, body = agent.request("POST", "/invocations", QUESTION)

    assert status == 502
    assert "gave no answer" in json.loads(body)["detail"]
