"""The command line, cut off from the instance of whoever runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.command import CommandLine


@pytest.fixture
def turnout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    """`turnout` with a state folder of its own, and no instance in it."""
    for name in ("TURNOUT_SERVER", "TURNOUT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TURNOUT_STATE", str(tmp_path / "state"))
    return CommandLine(monkeypatch, capsys, tmp_path / "state")
