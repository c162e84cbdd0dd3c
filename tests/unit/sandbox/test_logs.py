"""Logs of a sandbox stay small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live import wait_until
from turnout import sandbox


def test_a_log_that_is_too_long_is_cut_to_its_end_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "LARGEST_LOG", 10_000)
    monkeypatch.setattr(sandbox, "_LOOK_AT_LOGS", 0.01)
    path = tmp_path / "agent.log"
    with path.open("ab", buffering=0) as log, sandbox._bounded_logs(tmp_path):
        log.write(b"x" * 20_000 + b"\nthe end\n")
        wait_until(lambda: path.stat().st_size < 10_000 and sandbox.read_tail(path).endswith("the end"), 10.0)
        log.write(b"and more\n")
    assert path.read_bytes().startswith(b"[turnout] what was here was too long")
    assert sandbox.read_tail(path).endswith("the end\nand more")
