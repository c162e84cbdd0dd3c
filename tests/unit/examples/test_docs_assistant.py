"""The documentation assistant: a deterministic index, answers over HTTP, and parts of the release that show in them."""

from __future__ import annotations

import json
import re
import socket
import threading
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.examples.agent import EXAMPLE, Agent, build_index
from tests.unit.examples.conftest import StartAgent
from turnout.manifest import build_config, load_manifest

QUESTION = "how do I format a string"


def test_the_index_has_the_same_bytes_wherever_it_is_built(index: Path, tmp_path: Path) -> None:
    again = build_index(tmp_path / "elsewhere")

    assert again.read_bytes() == index.read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["docs.sqlite3"]


def test_an_answer_quotes_the_documentation_and_names_its_sources(agent: Agent) -> None:
    answer = agent.ask(QUESTION)

    assert answer["success"] is True
    assert "str.format()" in answer["answer"]
    assert answer["answer"].endswith("]")
    assert answer["sources"][0]["id"] == "formatstrings"
    assert all(source["score"] > 0 for source in answer["sources"])
    assert [call["name"] for call in answer["tool_calls"]] == ["search_docs", "read_topic"]
    assert answer["release"] == {"digest": "sha256:aa", "version": "v1"}


@pytest.mark.parametrize(
    ("question", "topic"),
    [("what is a lambda", "lambda"), ("await a coroutine", "await"), ("slicing a list", "slicings")],
)
def test_the_topic_that_fits_best_comes_first(agent: Agent, question: str, topic: str) -> None:
    assert agent.ask(question)["sources"][0]["id"] == topic


@pytest.mark.parametrize("question", ["zzyzx", "how do I", '"; DROP', "NEAR(a b) OR *"])
def test_a_question_without_an_answer_is_told_so(agent: Agent, question: str) -> None:
    answer = agent.ask(question)

    assert answer["success"] is True
    assert answer["sources"] == [] or answer["answer"]


def test_nothing_found_is_said_in_the_words_of_the_prompt(agent: Agent) -> None:
    assert agent.ask("zzyzx")["answer"] == "The Python documentation has no answer to that."


def test_a_stream_has_one_event_a_sentence_and_ends_with_the_whole_answer(agent: Agent) -> None:
    body = json.dumps({"prompt": QUESTION, "stream": True}).encode()
    status, content_type, stream = agent.request("POST", "/invocations", body)
    events = stream.decode().rstrip("\n").split("\n\n")
    sentences = [json.loads(event.removeprefix("data: "))["text"] for event in events[:-1]]
    head, _, last = events[-1].partition("\n")
    done = json.loads(last.removeprefix("data: "))

    assert (status, content_type) == (200, "text/event-stream")
    assert len(sentences) >= 3
    assert head == "event: done"
    assert " ".join(sentences).split() == done["answer"].split()
    assert done["answer"] == agent.ask(QUESTION)["answer"]


def test_ping_says_healthy(agent: Agent) -> None:
    status, _, body = agent.request("GET", "/ping")

    assert (status, json.loads(body)) == (200, {"status": "healthy"})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"prompt": ""}',
        b'{"prompt": 7}',
        b'{"prompt": "x", "stream": "yes"}',
        b"\xff",
        b"[" * 90_000,
    ],
)
def test_a_body_that_cannot_be_understood_is_a_bad_request(agent: Agent, body: bytes) -> None:
    status, content_type, answer = agent.request("POST", "/invocations", body)
    problem = json.loads(answer)

    assert (status, content_type) == (400, "application/problem+json")
    assert problem["status"] == 400
    assert problem["detail"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_not_found(agent: Agent, method: str) -> None:
    status, content_type, answer = agent.request(method, "/nowhere", b"{}")

    assert (status, content_type) == (404, "application/problem+json")
    assert "/nowhere" in json.loads(answer)["detail"]


def test_a_connection_is_kept_for_the_next_request(agent: Agent) -> None:
    used = set()
    with closing(agent.connect()) as connection:
        for body in ('{"prompt": "a lambda"}', "{", '{"prompt": "a lambda", "stream": true}', '{"prompt": "a class"}'):
            connection.request("POST", "/invocations", body)
            connection.getresponse().read()
            used.add(connection.sock.getsockname())

    assert len(used) == 1


def test_many_callers_at_once_are_all_answered(start: StartAgent) -> None:
    running = start(EXAMPLE, DOCS_THREADS="4")
    answers: list[bool] = []
    callers = [threading.Thread(target=lambda: answers.append(running.ask(QUESTION)["success"])) for _ in range(24)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert answers == [True] * 24


def test_the_prompt_shapes_the_answer(folder: Path, start: StartAgent) -> None:
    prompt = folder / "prompts" / "system.md"
    text = prompt.read_text("utf-8").replace("Sentences: 3", "Sentences: 1").replace("[{id}]", "<{id}>")
    prompt.write_text(text.replace("According to the Python documentation: ", "In short: "), "utf-8")

    answer = start(folder).ask(QUESTION)["answer"]

    assert answer.startswith("In short: The ")
    assert "<formatstrings>" in answer
    assert answer.count(". ") == 0


def test_a_prompt_with_an_unknown_placeholder_stops_the_agent_at_once(folder: Path, start: StartAgent) -> None:
    (folder / "prompts" / "system.md").write_text("## Answer\n{answr}\n", "utf-8")

    with pytest.raises(AssertionError, match=r"system\.md: unknown placeholder 'answr'"):
        start(folder)


def test_a_missing_index_stops_the_agent_and_says_what_to_do(folder: Path, start: StartAgent) -> None:
    with pytest.raises(AssertionError, match=r"run build_index\.py first"):
        start(folder, TURNOUT_DATA_DIR=str(folder))


def test_the_citations_flag_takes_the_sources_out_of_the_text_only(start: StartAgent) -> None:
    answer = start(EXAMPLE, FEATURE_CITATIONS="false").ask(QUESTION)

    assert "Sources" not in answer["answer"]
    assert answer["sources"]


def test_a_tool_that_the_manifest_does_not_hold_is_never_called(folder: Path, start: StartAgent) -> None:
    manifest = folder / "tools.json"
    tools = json.loads(manifest.read_text("utf-8"))
    tools["tools"] = [tool for tool in tools["tools"] if tool["name"] != "read_topic"]
    manifest.write_text(json.dumps(tools), "utf-8")

    answer = start(folder).ask(QUESTION)

    assert answer["success"] is False
    assert answer["status"] == 500
    assert answer["detail"] == "tools.json does not permit the tool read_topic"


def test_an_argument_that_the_schema_does_not_declare_is_refused(folder: Path, start: StartAgent) -> None:
    manifest = folder / "tools.json"
    manifest.write_text(manifest.read_text("utf-8").replace('"passage"', '"part"'), "utf-8")

    assert "declares no argument passage for the tool read_topic" in start(folder).ask(QUESTION)["detail"]


def test_sigterm_lets_a_request_under_way_finish_and_closes_the_idle_ones(start: StartAgent) -> None:
    running = start(EXAMPLE)
    body = json.dumps({"prompt": QUESTION}).encode()
    with closing(running.connect()) as idle, socket.create_connection(("127.0.0.1", running.port), 20) as busy:
        idle.request("GET", "/ping")
        idle.getresponse().read()
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        busy.sendall(head.encode())
        assert busy.recv(100).startswith(b"HTTP/1.1 100")  # the request is under way
        running.terminate()
        assert idle.sock.recv(1) == b""  # closed: the agent is stopping
        busy.sendall(body)
        answer = b"".join(iter(lambda: busy.recv(65_536), b""))

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer
    assert b'"success": true' in answer
    assert running.end() == "stopped\n"
    assert running.process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port), timeout=20)


def test_the_manifest_is_valid_and_its_model_pin_is_what_the_agent_ranks_with() -> None:
    manifest = load_manifest(EXAMPLE)
    weights = tomllib.loads((EXAMPLE / "turnout.toml").read_text("utf-8"))["model"]["parameters"]
    ranking = re.search(r"bm25\(search, (.+?)\)", (EXAMPLE / "assistant.py").read_text("utf-8"))

    assert build_config(manifest)["agent"] == "docs-assistant"
    assert ranking is not None
    assert [float(weight) for weight in ranking[1].split(", ")] == [*weights.values()]
