"""APIs in the states that tests begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.api.service import Api, served, to_canary


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API that knows three releases, none of them deployed."""
    with served(tmp_path) as api:
        yield api


@pytest.fixture
def canary(api: Api) -> Api:
    """v1 is active in every ring; v2 runs its canary in production."""
    to_canary(api)
    return api


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The same for all tests of a module: they may look at it and be refused by it, and change nothing."""
    with served(tmp_path_factory.mktemp("untouched")) as api:
        to_canary(api)
        yield api
