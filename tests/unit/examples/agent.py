"""The sample agent as tests meet it: its folder, its build step, and a real process that answers over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[3] / "examples" / "docs_assistant"
DEADLINE = 20.0  # seconds


def build_index(target: Path) -> Path:
    """Run the build step with the target as its data folder; returns the index file."""
    subprocess.run(
        [sys.executable, "-I", "build_index.py"],
        cwd=EXAMPLE,
        env={**os.environ, "TURNOUT_DATA_DIR": str(target)},
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    return target / "docs.sqlite3"


class Agent:
    """A running agent. Raises `AssertionError` with what it wrote when it does not come up."""

    def __init__(self, folder: Path, env: Mapping[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "server.py", "--port", "0", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        first = self.output.readline()
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", first)
        if found is None:
            rest = self.end()
            raise AssertionError(first + rest)
        self.port = int(found[1])

    def connect(self) -> http.client.HTTPConnection:
        """A connection that the caller closes."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        """Status, content type and body of the answer, on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read()
        finally:
            connection.close()

    def ask(self, prompt: str) -> dict[str, Any]:
        """The JSON answer, whatever its status."""
        answer: dict[str, Any] = json.loads(
            self.request("POST", "/invocations", json.dumps({"prompt": prompt}).encode())[2]
        )
        return answer

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> str:
        """Make sure that it has ended; returns what it wrote since it came up."""
        if self.process.poll() is None:
            self.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        rest = self.output.read()
        self.output.close()
        return rest
