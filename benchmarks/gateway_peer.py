"""LiteLLM's proxy, in an environment of its own that is made for a measurement and thrown away: never a dependency."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.live import free_port, wait_until
from tests.model_gateway import OPENAI_MODEL

from benchmarks.gateway_caller import HOST, Target

INSTALL_SECONDS = 600
START_SECONDS = 180
KEY = "sk-of-the-measurement"


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy that runs."""

    target: Target
    pid: int


@contextmanager
def litellm(folder: Path, upstream: str) -> Iterator[Peer | None]:
    """The proxy with one worker before an upstream; None where it does not install or start, with the reason printed."""
    environment = folder / "peer"
    reason = _install(environment)
    if reason:
        print(f"LiteLLM's proxy is left out: {reason}\n", flush=True)
        yield None
        return
    port = free_port()
    parameters = {"model": f"openai/{OPENAI_MODEL}", "api_base": upstream, "api_key": "sk-of-the-provider"}
    settings = {
        "model_list": [{"model_name": OPENAI_MODEL, "litellm_params": parameters}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False},
    }
    file = folder / "peer.yaml"
    file.write_text(json.dumps(settings))  # which is YAML as well
    command = [str(environment / "bin" / "litellm"), "--config", str(file), "--host", HOST, "--port", str(port)]
    env = {**os.environ, "LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with (folder / "peer.log").open("wb") as log:
        process = subprocess.Popen([*command, "--num_workers", "1"], env=env, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), START_SECONDS)
        if process.poll() is not None:
            last = (folder / "peer.log").read_text(errors="replace").strip().splitlines()[-1:]
            print(f"LiteLLM's proxy is left out: it ended with {process.returncode}: {last}\n", flush=True)
            yield None
            return
        yield Peer(Target(port, KEY), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _install(environment: Path) -> str:
    """Returns why not; "" when it is installed."""
    uv = Path(sys.executable).with_name("uv")
    program = str(uv) if uv.exists() else shutil.which("uv")
    if program is None:
        return "uv is not here"
    steps = (
        [program, "venv", "--quiet", "--python", sys.executable, str(environment)],
        [program, "pip", "install", "--quiet", "--python", str(environment / "bin" / "python"), "litellm[proxy]"],
    )
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"it did not install in {INSTALL_SECONDS} s"
        if done.returncode != 0:
            return f"it does not install: {done.stderr.strip().splitlines()[-1:]}"
    return ""


def _answers(port: int) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health/liveliness", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
