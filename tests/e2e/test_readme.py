"""The README's tour, run as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.live import REPOSITORY, free_port

BLOCK = re.compile(r"<!-- (file: (?P<file>\S+)|run) -->\n```\w*\n(?P<text>.*?)```", re.DOTALL)


def test_the_tour_works_as_written(tmp_path: Path) -> None:
    port, traffic_port = free_port(), free_port()
    state = tmp_path / "state"
    env = {
        **os.environ,
        "TURNOUT_STATE": str(state),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    outputs: list[str] = []
    try:
        for block in BLOCK.finditer((REPOSITORY / "README.md").read_text()):
            if block["file"]:
                path = tmp_path / block["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block["text"])
                continue
            script = block["text"].replace("127.0.0.1:8080", f"127.0.0.1:{traffic_port}")
            script = script.replace("turnout up -d", f"turnout up -d --port {port} --traffic-port {traffic_port}")
            done = subprocess.run(
                ["bash", "-ec", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
            outputs.append(done.stdout)
    finally:
        command = [sys.executable, "-m", "turnout.cli.main", "down", "--state", str(state), "--grace", "1"]
        subprocess.run(command, env=env, check=False, capture_output=True, timeout=60)

    deployed, _promoted, changed, rolled_back = outputs
    assert "x-turnout-release: sha256:" in deployed
    assert "Good morning." in deployed
    assert "+Good morning." in changed
    assert '{"answer": "Good morning."}' in rolled_back
    assert "rolled back" in rolled_back or "wrong greeting" in rolled_back
