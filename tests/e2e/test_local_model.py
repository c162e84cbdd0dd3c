"""A real language model on this machine. Skipped where the extra is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
import urllib3

pytest.importorskip("xllamacpp", reason="the extra local-model is not installed: `make local-model`")


@pytest.fixture(scope="module")
def model() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "turnout.cli.main", "local-model", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode()]
        while not lines[-1].startswith("}"):
            lines.append(process.stdout.readline().decode())
        yield json.loads("".join(lines))
        process.terminate()


def test_the_small_model_answers_and_tells_what_it_used(model: dict[str, str]) -> None:
    body = {"model": model["model"], "messages": [{"role": "user", "content": "Say a word."}], "max_tokens": 4}
    answer = urllib3.request("POST", f"{model['url']}/chat/completions", json=body, timeout=60)
    assert answer.status == 200
    assert 0 < answer.json()["usage"]["completion_tokens"] <= 4
    assert answer.json()["model"] == model["model"]
