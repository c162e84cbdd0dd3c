"""Tasks of a stable release become recordings, with what the caller sent and what its model answered; export and delete."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway_world import PROVIDER_KEY, fake_provider, write_config, write_model_agent
from tests.e2e.workshop import deploy, push_agent
from tests.live import LiveInstance, free_port, live_instance, wait_until
from turnout.domain.recording_document import parse_recording
from turnout.domain.recordings import Recording

RINGS = '[rings.dev]\n[rings.dev.capture]\nsize = 4\nredact = ["sk-[0-9]+"]\n[rings.dev.record]\nkeep = "1h"\n'


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstance]:
    state = tmp_path_factory.mktemp("recordings")
    flags = ("--gateway-port", str(free_port()), "--tool-port", str(free_port()), "--record-settle", "100ms")
    with fake_provider() as provider:
        write_config(state / "gateway.toml", provider.url)
        with live_instance(state, flags=flags, env={"PROVIDER_KEY": PROVIDER_KEY}) as instance:
            folder = write_model_agent(state / "agent", "asking", rings=RINGS)
            deploy(instance, "asking", push_agent(instance, folder))
            yield instance


def visit(instance: LiveInstance, task: str, query: str = "") -> Any:
    request = urllib.request.Request(
        f"{instance.traffic}/asking/dev/ask{query}", headers={"x-turnout-task": task}, method="GET"
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def recorded(instance: LiveInstance) -> dict[str, Any]:
    return {item["task"]: item for item in instance.client().recordings("asking")["recordings"]}


def test_what_callers_asked_and_what_models_answered_is_recorded_once_and_exported(
    instance: LiveInstance, tmp_path: Path
) -> None:
    for task in ("first", "second"):
        assert visit(instance, task) == "an answer"
    wait_until(lambda: recorded(instance).keys() == {"first", "second"}, 15)

    path = tmp_path / "recordings.jsonl"
    instance.run("recordings", "export", "asking", "-o", str(path))
    second, first = map(parse_recording, path.read_bytes().splitlines())
    assert [first.task, second.task] == ["first", "second"]
    check(first)

    lineage = instance.client().lineage("first")
    answer = lineage["requests"][0]["answer"]
    assert answer is not None
    assert answer["bytes"] == 4, "a task shows no more than its ring captures"
    assert "answer" not in lineage["model_calls"][0]

    instance.run("recordings", "delete", "asking", "first")
    assert list(recorded(instance)) == ["second"]
    assert len(list((instance.state / "recordings").rglob("*.zst"))) == 1


def check(recording: Recording) -> None:
    (request,), (call,) = recording.requests, recording.models
    assert recording.faults(models=True) == ()
    assert (request.method, request.path, request.body, request.status) == ("GET", "/ask", b"", 200)
    assert json.loads(request.answer or b"") == "an answer"
    assert (call.provider, call.status, call.tokens_out) == ("openai", 200, 5)
    assert json.loads(call.answer or "")["choices"][0]["message"]["content"] == "an answer"
    assert len(call.request_digest) == 64
    assert recording.cost is not None


def test_a_damaged_document_is_named_and_the_others_go_out(instance: LiveInstance, tmp_path: Path) -> None:
    for task in ("kept", "broken"):
        visit(instance, task)
    wait_until(lambda: {"kept", "broken"} <= recorded(instance).keys(), 15)
    name = recorded(instance)["broken"]["document"].removeprefix("sha256:")
    (path,) = (instance.state / "recordings").rglob(f"{name}.zst")
    path.write_bytes(b"nothing of the kind")

    listed = instance.run("recordings", "list", "asking", check=False)
    exported = instance.run("recordings", "export", "asking", check=False)
    assert (listed.returncode, exported.returncode) == (1, 1)
    assert "broken: the recording" in listed.stderr
    assert "broken: the recording" in exported.stderr
    tasks = [parse_recording(line.encode()).task for line in exported.stdout.splitlines()]
    assert "kept" in tasks
    assert "broken" not in tasks
