"""An agent that calls a model by its environment alone, a provider that answers it, and the configuration between them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.e2e.tiny_agent import write_agent

MODEL = "gpt-4o-2024-08-06"
PROVIDER_KEY = "sk-of-the-provider"
_SMOKE = """
[[smoke]]
name = "reaches its model"
method = "GET"
path = "/ask"
expect_text = "an answer"
timeout = "20s"
"""
_AGENT = """
import http.server, json, os, urllib.error, urllib.request

class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, content = 200, "ok"
        if self.path == "/environment":
            content = {name: value for name, value in os.environ.items() if name.split("_")[0] in NAMES}
        elif self.path == "/ask":
            status, content = ask(self.headers.get("baggage", ""))
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

NAMES = ("OPENAI", "ANTHROPIC", "TURNOUT")

def ask(baggage):
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    try:
        request = urllib.request.Request(url, body, {**headers, "baggage": baggage})
        with urllib.request.urlopen(request, timeout=20) as response:
            return 200, json.load(response)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Agent).serve_forever()
"""


@dataclass
class FakeProvider:
    """Answers every chat with "an answer"."""

    port: int
    keys: list[str] = field(default_factory=list)  # of the calls, as they came

    @property
    def url(self) -> str:
        """As a route has it."""
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def fake_provider() -> Iterator[FakeProvider]:
    """A provider on loopback."""
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys.append(self.headers["authorization"])
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(_ANSWER).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield FakeProvider(server.server_address[1], keys)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "an answer"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}


def write_config(path: Path, url: str, key: str = "env:PROVIDER_KEY") -> None:
    """A gateway.toml with one route to a provider called openai."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[[providers.openai.routes]]\nname = "only"\nurl = "{url}"\nkey = "{key}"\n')


def write_model_agent(
    folder: Path,
    agent: str,
    *,
    note: str = "one",
    rings: str = "[rings.dev]\n",
    tools: bool = False,
    smoke: bool = True,
) -> Path:
    """The agent, pinned to a model, with a smoke task that calls it; and a manifest of no tools.

    Without `smoke` nobody calls its model before callers do.
    """
    write_agent(folder, note, agent=agent, rings=rings)
    (folder / "agent.py").write_text(f"MODEL = {MODEL!r}\n{_AGENT}")
    manifest = folder / "turnout.toml"
    model = f'[model]\nprovider = "openai"\nname = "{MODEL}"\n\n'
    if tools:
        (folder / "tools.json").write_text('{"servers": {}}')
        model += '[tools]\nmanifest = "tools.json"\n\n'
    text = manifest.read_text().replace("[prompts]", f"{model}[prompts]", 1)
    manifest.write_text(text.replace("\n[rings.", f"{_SMOKE}\n[rings.", 1) if smoke else text)
    return folder
