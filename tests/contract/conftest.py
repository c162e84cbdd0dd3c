"""What the suites of a port share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store_support import DATABASES, make_template, opened
from turnout.ports import Store


@pytest.fixture(scope="session", params=DATABASES)
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to copy, that knows three releases."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    """A store that knows three releases."""
    with opened(template, tmp_path) as store:
        yield store
