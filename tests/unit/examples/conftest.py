"""One index for all tests of the sample agent, and agents that end with the test that started them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.examples.agent import EXAMPLE, Agent, build_index

StartAgent = Callable[..., Agent]


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the running Python's documentation."""
    return build_index(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def agent(index: Path) -> Iterator[Agent]:
    """The agent as it is shipped, for tests that only ask."""
    running = Agent(
        EXAMPLE, {"TURNOUT_DATA_DIR": str(index.parent), "TURNOUT_RELEASE": "sha256:aa", "TURNOUT_VERSION": "v1"}
    )
    yield running
    running.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the agent that a test may change."""
    return shutil.copytree(EXAMPLE, tmp_path / "agent", ignore=shutil.ignore_patterns("index", "__pycache__"))


@pytest.fixture
def start(index: Path) -> Iterator[StartAgent]:
    """Start agents from a folder with additional environment; each ends with the test."""
    running: list[Agent] = []

    def start_agent(folder: Path, **env: str) -> Agent:
        running.append(Agent(folder, {"TURNOUT_DATA_DIR": str(index.parent), **env}))
        return running[-1]

    yield start_agent
    for one in running:
        if not one.output.closed:
            one.end()
