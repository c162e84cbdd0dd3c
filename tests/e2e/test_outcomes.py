"""Outcomes on their way to a running instance: by command line, SDK and OpenTelemetry, also while the server is away."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.callers import ask
from tests.e2e.test_readme import BLOCK
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import await_lineage, deploy, push_agent
from tests.live import REPOSITORY, LiveInstance, wait_until
from tests.unit.otlp.messages import evaluation, log_message, logs, span_event, traces
from turnout.sdk import Reporter

AGENT = "reported"
RULE = '[outcomes]\nsuccess = "report"\n\n[rings.dev]\n'
OUTSPOKEN = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.headers.get("x-turnout-task", "").encode()
        self.send_response(200)
        self.send_header("x-turnout-outcome", "failure; intervention; cost=0.5")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def token(instance: LiveInstance) -> str:
    """A token that can report, and nothing else."""
    return str(instance.client().create_token("e2e-reporter", "reporter")["token"])


@pytest.fixture(scope="module", autouse=True)
def _deployed(instance: LiveInstance, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An agent of which reports decide what became of a task."""
    folder = write_agent(tmp_path_factory.mktemp("agent"), agent=AGENT, rings=RULE)
    deploy(instance, AGENT, push_agent(instance, folder, tag="v1"))


def begin(instance: LiveInstance) -> str:
    """A task that was answered."""
    answer = ask(instance, f"/{AGENT}/dev/")
    assert (answer.status, bool(answer.task)) == (200, True)
    return answer.task or ""


def await_outcome(instance: LiveInstance, task: str, **expected: Any) -> Any:
    """Wait until what is known of a task is as expected; its reports."""
    return await_lineage(instance, task, lambda view: expected.items() <= view["outcome"].items())["reports"]


def test_a_report_by_the_command_line_counts_once(instance: LiveInstance, token: str) -> None:
    task = begin(instance)

    first = instance.json("report", task, "--failure", "--cost", "0.25", token=token)
    again = instance.json("report", task, "--failure", "--cost", "0.25", token=token)
    against = instance.run("report", task, "--success", token=token, check=False)

    assert first["state"] in ("counted", "waiting")
    assert again["state"] in ("repeated", "waiting")
    assert against.stdout.startswith(("contradicts", "waiting"))
    await_outcome(instance, task, success=False, cost=0.25)


def test_an_agent_says_in_its_answer_what_became_of_the_task(instance: LiveInstance, tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent", agent="outspoken", rings=RULE)
    (folder / "agent.py").write_text(OUTSPOKEN)
    deploy(instance, "outspoken", push_agent(instance, folder, tag="v1"))
    wait_until(lambda: ask(instance, "/outspoken/dev/").status == 200, 20)  # the proxy has the new routes

    answer = ask(instance, "/outspoken/dev/", {"x-turnout-task": "conversation-7"})

    assert answer.text == "conversation-7"  # the agent knows the task that it works on
    (report,) = await_outcome(instance, "conversation-7", success=False, intervention=True, cost=0.5)
    assert report["source"] == "report"


def test_a_token_for_reports_sees_nothing(instance: LiveInstance, token: str) -> None:
    for command in (("status",), ("tasks", "list"), ("lineage", "t1")):
        refused = instance.run(*command, token=token, check=False)
        assert refused.returncode == 6, refused.stderr


def test_evaluations_come_by_opentelemetry_in_both_encodings(instance: LiveInstance, token: str) -> None:
    one, two = begin(instance), begin(instance)
    record = evaluation(turnout__task=one, gen_ai__evaluation__score__label="fail", gen_ai__evaluation__name="Tone")
    event = span_event(session__id=two, gen_ai__evaluation__score__value=0.9)

    post(
        instance, token, "logs", gzip.compress(log_message(logs(record)).SerializeToString()), "application/x-protobuf"
    )
    post(instance, token, "traces", gzip.compress(json.dumps(traces(event)).encode()), "application/json")

    (report,) = await_outcome(instance, one, success=False)
    assert (report["source"], report["reporter"]) == ("evaluation", "e2e-reporter")
    await_outcome(instance, two, success=True)


def test_reports_of_the_sdk_wait_for_a_server_that_is_down(instance: LiveInstance, token: str, tmp_path: Path) -> None:
    """The process that reports ends while the server is away; the next one sends what is in the journal."""
    tasks = [begin(instance) for _ in range(3)]
    script = (
        "import sys\nfrom turnout.sdk import Reporter\n"
        "reporter = Reporter(journal=sys.argv[1])\n"
        "assert all(reporter.report(task, success=False, detail='from afar') for task in sys.argv[2:])\n"
        "assert not reporter.close(0.3)\n"
    )
    env = {**os.environ, "TURNOUT_SERVER": instance.api, "TURNOUT_TOKEN": token}
    instance.kill()
    try:
        command = [sys.executable, "-c", script, str(tmp_path / "journal"), *tasks]
        subprocess.run(command, env=env, check=True, timeout=30)
        reporter = Reporter(instance.api, token, journal=tmp_path / "journal")
    finally:
        instance.start()

    assert reporter.flush(20), reporter.counts
    assert reporter.counts.sent == 3
    for task in tasks:
        (report,) = await_outcome(instance, task, success=False)
        assert report["detail"] == "from afar"
    reporter.close()


def test_the_guide_works_as_written(instance: LiveInstance, tmp_path: Path) -> None:
    task = begin(instance)
    env = {
        **os.environ,
        "TURNOUT_STATE": str(instance.state),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TASK": task,
    }
    blocks = list(BLOCK.finditer((REPOSITORY / "docs" / "guides" / "outcomes.md").read_text()))
    assert len(blocks) > 2
    for block in blocks:
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"])
            continue
        script = block["text"].replace("http://127.0.0.1:7070", instance.api)
        done = subprocess.run(
            ["bash", "-ec", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


def post(instance: LiveInstance, token: str, what: str, content: bytes, content_type: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type, "Content-Encoding": "gzip"}
    request = urllib.request.Request(f"{instance.api}/v1/otlp/v1/{what}", content, headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
