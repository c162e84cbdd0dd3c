"""An agent of a shop that calls the tools which a request names, and whose next release does some things otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from turnout.artifacts.build import build_release
from turnout.artifacts.layout import OciLayoutStore
from turnout.domain.models import Release
from turnout.manifest import load_manifest
from turnout.manifest.tool_manifest import tool_digest
from turnout.replay_process import found_release

AGENT = "shop"
MODEL = "gpt-4o-2024-08-06"
_CODE = """
import http.server, json, os, sys, time, urllib.error, urllib.request

class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.say(200, "ok")
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        task = self.headers.get("x-turnout-task", "")
        odd = task in os.environ.get("ODD", "").split(",")
        if odd and os.environ["DOES"] == "hang":
            time.sleep(60)
        if odd and os.environ["DOES"] == "die":
            sys.stderr.write("out of luck\\n")
            sys.stderr.flush()
            os._exit(3)
        said = []
        for tool, arguments in asked["calls"]:
            if odd and tool == "refund":
                arguments = {**arguments, "amount": 1000}
            said.append(call(tool, arguments, task))
        if asked.get("think"):
            said.append(think(asked["think"], task))
        self.say(200, {"said": said})
    def say(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

def call(tool, arguments, task):
    params = {"name": tool, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return post(os.environ["TURNOUT_MCP_URL"], body, task)["result"]["content"][0]["text"]

def think(text, task):
    body = {"model": "THE_MODEL", "messages": [{"role": "user", "content": text}]}
    try:
        answer = post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, task)
    except urllib.error.HTTPError as error:
        return "refused " + str(error.code)
    return answer["choices"][0]["message"]["content"]

def post(url, body, task):
    headers = {
        "authorization": "Bearer " + os.environ["TURNOUT_GATEWAY_KEY"],
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "x-turnout-task": task,
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Agent).serve_forever()
"""
_OBJECT = {"type": "object", "properties": {"order": {"type": "integer"}, "amount": {"type": "integer"}}}
TOOLS: list[dict[str, Any]] = [
    {"name": name, "description": f"Does {name}.", "inputSchema": _OBJECT} for name in ("find", "refund")
]


def write_shop(folder: Path, *, odd: str = "", does: str = "", rings: str = "[rings.dev]\n", note: str = "one") -> Path:
    """The agent. `odd`: tasks in which this release `does` something else; `note` makes another release of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agent.py").write_text(_CODE.replace("THE_MODEL", MODEL))
    (folder / "tools.json").write_text(json.dumps(_pinned()))
    (folder / "turnout.toml").write_text(
        f'schema = 1\nagent = "{AGENT}"\n\n[code]\nstart = ["python", "-S", "agent.py"]\n\n'
        f'[model]\nprovider = "openai"\nname = "{MODEL}"\n\n[tools]\nmanifest = "tools.json"\n\n'
        f'[env]\nODD = "{odd}"\nDOES = "{does}"\nNOTE = "{note}"\n\n[health]\ninterval = "100ms"\n\n{rings}'
    )
    return folder


def build_shop(folder: Path, store: OciLayoutStore, version: str, *, odd: str = "", does: str = "") -> Release:
    """A release of it in a store."""
    write_shop(folder, odd=odd, does=does)
    built = build_release(folder, load_manifest(folder), store)
    return found_release(store, built.digest, version)


def _pinned() -> dict[str, Any]:
    side_effects = {"find": False, "refund": True}
    pins = [{**tool, "sha256": tool_digest(tool), "side_effects": side_effects[tool["name"]]} for tool in TOOLS]
    return {"servers": {"shop": {"tools": pins}}}
