"""Suites as their users meet them: at build, by `turnout eval`, in front of a ring; and what a suite cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.tiny_agent import write_agent
from tests.live import LiveInstance

CHECK = """
import json, os, sys, urllib.request
for line in sys.stdin:
    case = json.loads(line)
    request = urllib.request.Request(os.environ["TURNOUT_AGENT_URL"] + "/", b"{}", {"x-turnout-task": case["task"]})
    answer = json.load(urllib.request.urlopen(request))
    print(json.dumps({"id": case["id"], "passed": answer["note"] in case["expected"], "cost": 0.01}), flush=True)
"""
SUITE = """
[[evals]]
name = "answers"
command = ["python", "-S", "evals/check.py"]
cases = "evals/cases.jsonl"
repeat = 2
require = { success = 0.9, cost = 0.02 }
no_worse = { success = 0.2 }
against = "dev"

"""
RINGS = """
[rings.dev]

[rings.production]
evals = ["answers"]

[[rings.production.changes]]
of = ["prompts"]
approvers = ["lead"]
"""


class Project:
    """An agent's folder with a suite."""

    def __init__(
        self, instance: LiveInstance, folder: Path, agent: str, suite: str = SUITE, check: str = CHECK
    ) -> None:
        self.instance, self.folder, self.agent = instance, folder, agent
        self.suite = suite
        (folder / "evals").mkdir(parents=True)
        (folder / "evals" / "check.py").write_text(check)
        self.cases("one", "two")
        self.write("one")

    def write(self, note: str) -> None:
        """Another release."""
        write_agent(self.folder, note, agent=self.agent, rings=self.suite + RINGS)

    def cases(self, *expected: str) -> None:
        """Cases that take these answers."""
        lines = (json.dumps({"id": f"c{number}", "expected": expected}) for number in range(40))
        (self.folder / "evals" / "cases.jsonl").write_text("\n".join(lines))

    def run(self, *arguments: str, check: bool = True, token: str | None = None) -> tuple[int, str]:
        """(exit code, everything it said)."""
        done = self.instance.run(*arguments, check=check, token=token)
        return done.returncode, done.stdout + done.stderr

    def runs(self) -> list[dict[str, Any]]:
        """What the server keeps, oldest first."""
        found: list[dict[str, Any]] = self.instance.json("evals", "list", self.agent)["runs"]
        return found[::-1]


@pytest.fixture
def project(instance: LiveInstance, tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    return Project(instance, tmp_path / "agent", f"evals-{request.node.name[5:30].strip('-_').replace('_', '-')}")


def test_a_release_passes_its_suite_at_build_and_shows_it_before_a_ring(project: Project) -> None:
    _, said = project.run("deploy", str(project.folder))
    assert "answers: passed  (80 runs of 40 cases)" in said
    (first,) = project.runs()
    assert (first["passed"], first["verdict"]["cases"], first["verdict"]["problems"]) == (True, 40, [])

    assert "not run again" in project.run("deploy", str(project.folder), "--force")[1]  # it has passed exactly this
    assert len(project.runs()) == 1

    project.write("two")
    _, said = project.run("deploy", str(project.folder))
    assert "no worse than stable (100.0%) by 20.0 points" in said  # what v1 did is known already
    _, preview = project.run("promote", project.agent, "--to", "production", "--dry-run")
    assert "evals: answers was passed" in preview
    assert "approval: 1, not by admin alone, one by lead" in preview
    _, said = project.run("promote", project.agent, "--to", "production")
    assert "awaiting_approval: 1 approval is missing; lead has to approve" in said
    deputy, lead = (
        project.instance.json("tokens", "create", name, "--role", "approver")["token"] for name in ("deputy", "lead")
    )
    _, said = project.run("approve", project.agent, "--ring", "production", token=deputy)
    assert "lead has to approve" in said
    _, said = project.run("approve", project.agent, "--ring", "production", token=lead)
    assert "changes  " in said
    assert "answers: passed" in said


def test_what_has_not_passed_never_leaves_the_build(project: Project) -> None:
    project.cases("another answer")
    code, said = project.run("deploy", str(project.folder), check=False)
    assert code == 10
    assert "has not passed answers" in said
    assert project.run("evals", "list", project.agent, check=False)[0] == 4  # the server has never heard of it

    project.run("deploy", str(project.folder), "--no-evals")
    _, said = project.run("promote", project.agent, "--to", "production", "--dry-run")
    assert 'evals: the suite "answers" was not run for this release' in said
    code, said = project.run("promote", project.agent, "--to", "production", check=False)
    assert code == 5
    assert 'the suite "answers" was not run for this release (production asks for it)' in said
    code, said = project.run("eval", "--folder", str(project.folder), "v1", check=False)
    assert code == 10
    code, said = project.run("promote", project.agent, "--to", "production", check=False)
    assert 'the suite "answers" was not passed' in said

    project.cases("one")
    project.run("eval", "--folder", str(project.folder), "v1")
    before, after = (run["id"] for run in project.runs())
    _, said = project.run("evals", "compare", before, after, "--agent", project.agent)
    assert "the suite itself has changed between the two" in said
    assert said.count("0%      100%") == 40
    _, said = project.run("evals", "show", before, "--agent", project.agent)
    assert said.count("0 of 2") == 40


def test_a_suite_reaches_nothing_beyond_its_sandbox(instance: LiveInstance, tmp_path: Path) -> None:
    escape = """
import json, os, pathlib, socket, urllib.request
def tried(name, act):
    try:
        act()
    except OSError as error:
        print(json.dumps({"id": name, "passed": True, "detail": str(error)}), flush=True)
    else:
        print(json.dumps({"id": name, "passed": False}), flush=True)
tried("proxy", lambda: urllib.request.urlopen("https://tools.example.com/refund", timeout=5))
tried("socket", lambda: socket.create_connection(("127.0.0.1", %d), 5))
tried("release", lambda: pathlib.Path("../release/agent.py").write_text("x"))
tried("workspace", lambda: os.listdir(".."))
"""
    suite = '[[evals]]\nname = "escape"\ncommand = ["python", "evals/check.py"]\n'
    suite += "repeat = 1\nrequire = { success = 0.01 }\n\n"
    project = Project(instance, tmp_path / "agent", "evals-escape", suite, escape % instance.port)
    project.folder.joinpath("turnout.toml").write_text(
        project.folder.joinpath("turnout.toml").read_text().replace('evals = ["answers"]\n', "")
    )
    code, said = project.run("deploy", str(project.folder), check=False)
    assert code == 10
    assert "escape: not passed  (4 runs of 4 cases)" in said
    assert "it tried to reach tools.example.com:443, and a suite has no network" in said
    assert "not passed:" not in said  # each of the four was refused


def test_a_report_is_judged_by_the_server_and_not_by_who_hands_it_in(project: Project) -> None:
    project.run("deploy", str(project.folder))
    (known,) = project.runs()
    client = project.instance.client()
    document = client.eval_run(project.agent, known["id"])["document"]
    assert client.record_eval(project.agent, "v1", document)["id"] == known["id"]  # the same again changes nothing
    worse = json.loads(document)
    worse["runs"] = [{**run, "success": 0.0} for run in worse["runs"]]
    assert client.record_eval(project.agent, "v1", json.dumps(worse))["passed"] is False
    with pytest.raises(Exception, match="not about this release"):
        client.record_eval(project.agent, "v1", json.dumps({**worse, "release": "sha256:" + "0" * 64}))
