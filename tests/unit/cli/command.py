"""Runs the command line in this process, as its entry point does."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from turnout.cli import connection
from turnout.cli.main import main
from turnout.client import Client


@dataclass(frozen=True)
class Done:
    """What a run of the command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output, which is one JSON document."""
        return json.loads(self.out)


@dataclass
class CommandLine:
    """`turnout` with a state folder of its own, and no instance in it."""

    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    state: Path

    def __call__(self, *arguments: str) -> Done:
        """Run a verb."""
        self.capture.readouterr()
        self.patch.setattr(sys, "argv", ["turnout", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self.capture.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    def speaks_to(self, client: object) -> None:
        """Every verb speaks to this client from now on."""
        self.patch.setenv("TURNOUT_SERVER", "http://127.0.0.1:1")
        self.patch.setenv("TURNOUT_TOKEN", "t")
        self.patch.setattr(connection, "Client", lambda _url, _token: cast(Client, client))
