"""One instance for the tests that do not end it; each test releases an agent of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live import LiveInstance, live_instance


@pytest.fixture(scope="package")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstance]:
    with live_instance(tmp_path_factory.mktemp("faulty")) as started:
        yield started
