"""The agent over HTTP: POST /invocations with {"task": ID} does a task of tau2, GET /ping says that the agent is up.

There is no language model in it: it follows the actions that tau2 recorded for the task, and makes mistakes at a rate that
is set, so that what a judge or a gate should find is known. Standard library only. Settings come from the environment:

    ERROR_RATE   share of runs with a mistake, 0 to 1        ERROR_SEED   chooses which
    PLANTED      tasks that always go wrong, such as retail-3,retail-7:extra
    CALL_PRICE   dollars a call costs                        TOOLS        off: decide, and call nothing
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from decisions import Mistakes, decide, is_right, parse_mistakes
from recorded_tasks import Action, Fault, Task, load_tasks
from tool_client import ToolClient, ToolsUnreachable

LARGEST_REQUEST = 1 << 16  # bytes
THREAD_STACK = 1 << 20  # bytes
GRACE = 20.0  # seconds that requests under way have after SIGTERM


class BadRequest(Exception):
    """The request cannot be understood."""


class Agent:
    """Does tasks. `tools`: None calls nothing. `price`: dollars a call."""

    def __init__(self, tasks: Mapping[str, Task], mistakes: Mistakes, tools: ToolClient | None, price: float) -> None:
        unknown = sorted(set(mistakes.planted) - set(tasks))
        if unknown:
            raise ValueError(f"PLANTED names tasks that there are not: {', '.join(unknown)}")
        self._tasks = tasks
        self._mistakes = mistakes
        self._tools = tools
        self._price = price

    def do(self, task_id: str, run: str, turnout_task: str | None) -> tuple[dict[str, Any], str]:
        """Do a task: the answer, and the outcome for the header. Raises `BadRequest`, `ToolsUnreachable`."""
        task = self._tasks.get(task_id)
        if task is None:
            raise BadRequest(f"there is no task {task_id!r}")
        calls = decide(task, run, self._mistakes)
        refused = [refusal for action in calls if (refusal := self._call(action, turnout_task))]
        right = is_right(task, calls) and not refused
        answer = {
            "done": not refused,
            "actions": len(calls),
            "calls": [{"tool": action.tool, "arguments": action.arguments} for action in calls],
            "reply": _reply(calls, refused),
            "cost": round(self._price * len(calls), 6),
        }
        # Only an agent that follows a recording can know this; others leave it to those who see what became of a task.
        return answer, f"{'success' if right else 'failure'}; cost={answer['cost']:.6f}"

    def _call(self, action: Action, turnout_task: str | None) -> str:
        """Why a call was refused or failed; nothing when it worked."""
        if self._tools is None:
            return ""
        result = self._tools.call(action.tool, action.arguments, turnout_task)
        return f"{action.tool}: {result.text}" if result.failed else ""


def main() -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first."""
    try:
        agent = build_agent(os.environ)
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"the agent cannot start: {type(error).__name__}: {error}")
    threading.stack_size(THREAD_STACK)
    server = Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))), agent)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # in every thread, so that none but the wait below gets them
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    print(f"listening on port {server.server_port}", flush=True)
    signal.sigwait(ends)
    server.finish()


def build_agent(environment: Mapping[str, str]) -> Agent:
    """As the environment says. Raises `Fault`, `KeyError`, `ValueError`, `OSError`."""
    data = Path(environment.get("TURNOUT_DATA_DIR") or Path(__file__).parent / "tasks")
    tasks = load_tasks(data / "tasks.jsonl")
    if not tasks:
        raise Fault(f"{data}: there is no task in it")
    off = environment.get("TOOLS", "").lower() == "off"
    tools = None if off else ToolClient(environment["TURNOUT_MCP_URL"], environment["TURNOUT_GATEWAY_KEY"])
    return Agent(tasks, parse_mistakes(environment), tools, float(environment.get("CALL_PRICE") or "0"))


class Server(ThreadingHTTPServer):
    """One thread a connection."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], agent: Agent) -> None:
        super().__init__(address, Handler)
        self.agent = agent
        self.stopping = False
        self._busy = 0
        self._changed = threading.Condition()

    def finish(self) -> None:
        """Accept no more, and wait until what is under way is answered."""
        self.stopping = True
        self.shutdown()
        self.server_close()
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, GRACE)

    def count(self, change: int) -> None:
        """A request has begun (1) or was answered (-1)."""
        with self._changed:
            self._busy += change
            self._changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet

    def do_GET(self) -> None:
        if self.path == "/ping":
            self._send(HTTPStatus.OK, {"status": "healthy"})
        else:
            self._send(HTTPStatus.NOT_FOUND, {"detail": f"there is nothing at {self.path}"})

    def do_POST(self) -> None:
        self.server.count(1)
        try:
            task, run = self._invocation()
            answer, outcome = self.server.agent.do(task, run, self.headers.get("x-turnout-task"))
            self._send(HTTPStatus.OK, answer, {"x-turnout-outcome": outcome})
        except BadRequest as error:
            self._send(HTTPStatus.BAD_REQUEST, {"done": False, "detail": str(error)})
        except ToolsUnreachable as error:
            self._send(HTTPStatus.BAD_GATEWAY, {"done": False, "detail": str(error)})
        finally:
            self.wfile.flush()
            self.server.count(-1)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The proxy keeps the access log."""

    def _invocation(self) -> tuple[str, str]:
        """The task, and what tells its runs apart: "run" of the body, else the id that the request is known by."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_REQUEST:
            self.close_connection = True
            raise BadRequest(f"a body of at most {LARGEST_REQUEST} bytes with a Content-Length is needed")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is no JSON: {error}") from error
        if self.path != "/invocations":
            raise BadRequest(f"there is nothing at {self.path}")
        if not isinstance(body, dict) or not isinstance(body.get("task"), str):
            raise BadRequest('the body needs the id of a task under "task"')
        return body["task"], str(body.get("run", self.headers.get("x-turnout-task", "")))

    def _send(self, status: HTTPStatus, value: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        for name, content in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, content)
        self.send_header("Content-Length", str(len(body)))
        if self.server.stopping or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _reply(calls: tuple[Action, ...], refused: list[str]) -> str:
    if refused:
        return f"I could not do it. {'; '.join(refused)}"
    return f"It is done, with {len(calls)} actions." if calls else "There is nothing that I may do here."


if __name__ == "__main__":
    main()
