"""Worlds and receivers for tests of alerts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.alerts.receiver import Receiver, receiving
from tests.unit.alerts.world import World
from tests.unit.alerts.world import world as make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty instance on a clock of its own."""
    with make_world(tmp_path) as world:
        yield world


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    with receiving() as receiver:
        yield receiver
