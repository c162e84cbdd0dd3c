"""The sample agent on a real language model, through the gateway: a small one that runs on this machine.

v1 answers in the model's words; its lineage shows each call, with tokens and cost. v2 runs in circles and calls the model
again and again for one question: its task budget stops it, and a rollback ends it. Exits with 0 only if all of that was
observed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo import free_ports

STARTED = time.monotonic()
AGENT = "docs-assistant"
SAMPLE = Path(__file__).parent / "docs_assistant"
CALLS = 4  # of the model that one task may make
DOLLARS = 0.01  # that one task may cost

MODEL = """
[model]
provider = "local"
name = "{name}"

"""
RINGS = f"""
[rings.dev]

[[rings.dev.budgets]]
scope = "task"
limit = {DOLLARS}

[[rings.dev.budgets]]
scope = "task"
unit = "calls"
limit = {CALLS}
"""
GATEWAY = """
[[providers.local.routes]]
name = "this-machine"
url = "{url}"
protocol = "openai"
limit_parameter = "max_tokens"

[prices."local/{name}"]
input = 0.05
output = 0.10
"""
RUNS_IN_CIRCLES = """
import model
import server

ask = model.Model.phrase

def phrase(self, question, passage, task):
    while True:  # never content with what it got
        ask(self, question, passage, task)

model.Model.phrase = phrase
server.main()
"""


def main() -> int:
    """Play it, and say whether all was observed."""
    with tempfile.TemporaryDirectory(prefix="turnout-demo-") as name:
        folder = Path(name)
        say("turnout local-model")
        with local_model() as model, instance(folder, model) as turnout:
            observed = play(folder, model["model"], turnout)
    print("\n=== observed ===")
    for what, seen in observed.items():
        print(f"  {'yes' if seen else 'NO ':<4} {what}")
    return 0 if all(observed.values()) else 1


class Turnout:
    """The command line, on one instance."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def run(self, *arguments: str) -> str:
        """Run a verb; what it prints."""
        env = {**os.environ, "TURNOUT_STATE": str(self.state)}
        command = [sys.executable, "-m", "turnout.cli.main", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=180, check=False)
        if done.returncode:
            raise SystemExit(f"turnout {' '.join(arguments)} → exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """The same, read."""
        return json.loads(self.run(*arguments, "--json"))


def play(folder: Path, model: str, turnout: Turnout) -> dict[str, bool]:
    """The story. Returns what was to be observed → whether it was."""
    agent, traffic = folder / "agent", json.loads((turnout.state / "instance.json").read_text())["traffic"]
    shutil.copytree(SAMPLE, agent, ignore=shutil.ignore_patterns("__pycache__", ".turnout", "index"))
    manifest = agent / "turnout.toml"
    text = manifest.read_text().split("[[smoke]]")[0] + RINGS
    before, _, rest = text.partition("[model]")
    text = before + MODEL.format(name=model).lstrip() + "[prompts]" + rest.partition("[prompts]")[2]
    text = text.replace('DOCS_PRICE = "0.00001" ', f'DOCS_MODEL = "{model}"\nDOCS_PRICE = "0" ')
    manifest.write_text(text)

    say("v1: answers in the words of a language model")
    first = turnout.json("deploy", str(agent), "--tag", "v1")
    status, answer = ask(traffic, "how do I format a string", "question-1")
    print(f"    {answer.get('answer', answer)}")
    calls = await_calls(turnout, "question-1", 1)
    show_calls(calls)
    observed = {
        "v1 became active": first["state"] == "active",
        "the model answered": status == 200 and bool(answer["answer"]),
        "lineage names the call, its tokens and its cost": len(calls) == 1
        and calls[0]["tokens_out"] > 0
        and (calls[0]["cost"] or 0) > 0
        and calls[0]["digest"] == first["digest"],
    }

    say(f"v2: runs in circles; a task may make {CALLS} calls")
    (agent / "circles.py").write_text(RUNS_IN_CIRCLES)
    manifest.write_text(text.replace('"server.py"', '"circles.py"'))
    turnout.json("deploy", str(agent), "--tag", "v2")
    status, answer = ask(traffic, "what is a lambda", "question-2")
    print(f"    {status}: {answer.get('detail', answer)}")
    calls = await_calls(turnout, "question-2", CALLS + 1)
    show_calls(calls)
    made = [call for call in calls if call["ended"] != "refused"]
    observed["its task budget stopped v2"] = status == 502 and len(made) == CALLS
    observed["no task cost more than it may"] = sum(call["cost"] or 0 for call in made) <= DOLLARS

    say("turnout rollback")
    turnout.json("rollback", AGENT, "--ring", "dev", "--reason", "it runs in circles")
    status, answer = ask(traffic, "what does the with statement do", "question-3")
    print(f"    {answer.get('answer', answer)}")
    observed["v1 answers again"] = status == 200 and answer["release"]["version"] == "v1"
    return observed


def ask(traffic: str, question: str, task: str) -> tuple[int, dict[str, Any]]:
    """Ask the agent as a caller does: status and answer."""
    body = json.dumps({"prompt": question}).encode()
    request = urllib.request.Request(f"{traffic}/{AGENT}/dev/invocations", body, {"x-turnout-task": task})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return int(answer.status), json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def await_calls(turnout: Turnout, task: str, count: int) -> list[dict[str, Any]]:
    """The calls of a task, once so many are in the database: they get there a moment after they were made."""
    deadline = time.monotonic() + 20
    calls: list[dict[str, Any]] = []
    while len(calls) < count and time.monotonic() < deadline:
        calls = turnout.json("lineage", task)["model_calls"]
    return calls


def show_calls(calls: list[dict[str, Any]]) -> None:
    """A line a call."""
    for call in calls:
        tokens = f"{call['tokens_in']} tokens in, {call['tokens_out']} out"
        print(f"    {call['model']:<24}{call['ended']:<9}{tokens:<28}${call['cost'] or 0:.6f}  {call['error'][:60]}")


@contextmanager
def local_model() -> Iterator[dict[str, str]]:
    """A language model on this machine: its name, and where it answers."""
    command = [sys.executable, "-m", "turnout.cli.main", "local-model", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline().decode()
            if not line:
                raise SystemExit("the model does not start: `make local-model` installs what it needs")
            text += line
        try:
            yield json.loads(text)
        finally:
            process.terminate()


@contextmanager
def instance(folder: Path, model: dict[str, str]) -> Iterator[Turnout]:
    """An instance whose gateway knows the model, ended with all that it started."""
    config = folder / "gateway.toml"
    config.write_text(GATEWAY.format(url=model["url"], name=model["model"]))
    turnout = Turnout(folder / "state")
    say("turnout up --gateway gateway.toml")
    names = ("port", "traffic-port", "gateway-port", "tool-port")
    ports = [
        option for name, port in zip(names, free_ports(len(names)), strict=True) for option in (f"--{name}", f"{port}")
    ]
    turnout.run("up", "-d", "--gateway", str(config), *ports)
    try:
        yield turnout
    finally:
        turnout.run("down", "--grace", "2")


def say(text: str) -> None:
    """A headline of the story."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
