"""Shared by the tests of diffs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.artifacts.diff.pairs import Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)
