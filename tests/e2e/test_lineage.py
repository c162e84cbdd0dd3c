"""From the answer that a caller got back to the text of the prompt, over the command line and over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.callers import Answer, ask
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import await_lineage, deploy, push_agent
from tests.live import LiveInstance

AGENT = "traced"
NOTE = "Answer in the voice of a lighthouse keeper."


@pytest.fixture(scope="module")
def answered(instance: LiveInstance, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """An answer of an agent in its first ring."""
    folder = write_agent(tmp_path_factory.mktemp("agent"), NOTE, agent=AGENT, behaviour="calm")
    deploy(instance, AGENT, push_agent(instance, folder, tag="v1"), reason="first light")
    return ask(instance, f"/{AGENT}/dev/")


def lineage(instance: LiveInstance, task: str) -> Any:
    """What is known of a task whose requests are over."""
    return await_lineage(instance, task, lambda view: all(item["duration"] is not None for item in view["requests"]))


def test_the_task_of_an_answer_leads_to_the_text_of_the_prompt(instance: LiveInstance, answered: Answer) -> None:
    assert answered.task
    found = lineage(instance, answered.task)

    (request,) = found["requests"]
    assert (request["status"], request["agent"], request["ring"]) == (200, AGENT, "dev")
    assert request["digest"] == answered.release
    (release,) = found["releases"]
    assert release["release"]["digest"] == answered.release
    assert {item["path"]: item["text"] for item in release["prompts"]} == {"prompts/note.md": f"{NOTE}\n"}
    assert release["env"]["BEHAVIOUR"] == "calm"
    assert release["admission"]["reason"] == "first light"
    assert lineage(instance, request["request"])["task"] == answered.task


def test_people_see_the_same_on_one_page(instance: LiveInstance, answered: Answer) -> None:
    assert answered.task
    lineage(instance, answered.task)
    instance.run("report", answered.task, "--cost", "0.5", "--detail", "as agreed")

    shown = instance.run("lineage", answered.task).stdout

    for part in (
        NOTE,
        answered.release or "",
        "BEHAVIOUR=calm",
        "came by    deploy",
        "first light",
        "as agreed",
        "cost 0.5",
    ):
        assert part in shown, shown


def test_tasks_are_listed_and_exported_as_json_lines(instance: LiveInstance, answered: Answer) -> None:
    assert answered.task
    lineage(instance, answered.task)
    listed = instance.run("tasks", "list", AGENT, "--ring", "dev", "--since", "1h").stdout
    exported = instance.run("tasks", "export", AGENT, "--release", "v1", "--limit", "5").stdout

    assert answered.task in listed
    lines = [json.loads(line) for line in exported.splitlines()]
    assert [line["task"] for line in lines] == [answered.task]
    assert instance.run("tasks", "export", AGENT, "--until", "1h").stdout == ""
    missing = instance.run("lineage", "no-such-task", check=False)
    assert missing.returncode == 4
    assert "x-turnout-task" in missing.stderr
