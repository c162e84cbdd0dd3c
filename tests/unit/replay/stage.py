"""A release that does what requests ask of it: calls tools, hangs, dies. In a thread of the tests."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.unit.domain.recorded import RELEASE, recorded_request, recorded_tool, recording
from turnout.domain.calls import Ended, ToolCall
from turnout.domain.errors import BuildFailed
from turnout.domain.recordings import Recording
from turnout.domain.replays import Divergence
from turnout.playback import Playback

Asked = dict[str, Any]
"""{"calls": [[tool, arguments], …], "hang": seconds, "die": true, "status": 200}"""


class Stage:
    """See `engine.Stage`. `alter` is what the release does otherwise than it was asked: its fault, or the planted change."""

    def __init__(self, playback: Playback, alter: Callable[[str, Asked], Asked] = lambda _, asked: asked) -> None:
        self.playback = playback
        self.alter = alter
        self.starts = 0
        self.breaks_at = 100  # the start that fails
        self.untold: frozenset[str] = frozenset()  # tasks that call a tool without telling whose call it is
        self.at_once = 0  # tasks under way, at most
        self._busy = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def alive(self) -> bool:
        return self._server is not None

    def log_tail(self) -> str:
        return "Traceback\nZeroDivisionError: division by zero"

    def restart(self) -> None:
        self.stop()
        self.starts += 1
        if self.starts >= self.breaks_at:
            raise BuildFailed("the agent ended before it was ready")
        stage = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stage.answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        task = handler.headers["x-turnout-task"]
        asked = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        asked = self.alter(task, asked)
        with self._lock:
            self._busy += 1
            self.at_once = max(self.at_once, self._busy)
        try:
            self._do(task, asked)
        finally:
            with self._lock:  # before the answer: whoever has it may send the next task at once
                self._busy -= 1
        self._say(handler, asked)

    def _do(self, task: str, asked: Asked) -> None:
        for tool, arguments in asked.get("calls", ()):
            self._call(task, tool, arguments)
        if task in self.untold:
            self.playback.diverged(self.playback.find(None), Divergence("tool", "refund", "not recorded"))
        time.sleep(asked.get("hang", 0.0))

    def _say(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        if asked.get("die"):
            threading.Thread(target=self.stop).start()
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        said = json.dumps({"text": f"done {len(asked.get('calls', ()))}"})
        body = asked.get("says", said).encode()
        with suppress(OSError):  # nobody waits any more for what hung
            handler.send_response(asked.get("status", 200))
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

    def _call(self, task: str, tool: str, arguments: Asked) -> None:
        made = recorded_tool(tool, arguments)
        found, in_time = self.playback.tool_call(task, tool, made.arguments_digest)
        if not in_time:
            self.playback.diverged(task, Divergence("tool", tool, "not recorded"))
        ended = Ended.DONE if found else Ended.REFUSED
        result = found.result if found else None
        call = ToolCall(
            "c", time.time(), 0.0, "shop", "sandbox", RELEASE, task, "shop", tool, ended,
            False, made.arguments, made.arguments_digest, result,
        )  # fmt: skip
        self.playback.write(call)


@contextmanager
def stage(alter: Callable[[str, Asked], Asked] = lambda _, asked: asked) -> Iterator[Stage]:
    """A release that runs."""
    release = Stage(Playback(), alter)
    release.restart()
    try:
        yield release
    finally:
        release.stop()


def taped(task: str, *requests: Sequence[tuple[str, Asked]], **asked: Any) -> Recording:
    """What the release does when it is asked for some calls, a request each; all went well then."""
    return recording(
        [recorded_tool(tool, arguments) for calls in requests for tool, arguments in calls],
        task=task,
        requests=tuple(
            recorded_request(
                json.dumps({"calls": calls, **asked}).encode(), json.dumps({"text": f"done {len(calls)}"}).encode()
            )
            for calls in requests
        ),
    )
