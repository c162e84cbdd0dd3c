from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.traffic.support import Upstream, running_router
from turnout.traffic.envoy import EnvoyRouter


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EnvoyRouter, int]]:
    """An Envoy that the tests of a module share, and its port."""
    with running_router(tmp_path_factory.mktemp("envoy")) as running:
        yield running


@pytest.fixture(scope="module")
def stable() -> Iterator[Upstream]:
    upstream = Upstream("stable")
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def candidate() -> Iterator[Upstream]:
    upstream = Upstream("candidate")
    yield upstream
    upstream.close()
