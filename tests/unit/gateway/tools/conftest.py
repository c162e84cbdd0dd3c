from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mcp_servers import build_docs_server, http_server, pins_of, stdio_server
from turnout.domain.grants import ToolPin
from turnout.gateway.values import ToolServer


@pytest.fixture(scope="session")
def docs() -> Iterator[ToolServer]:
    """A well-behaved server over HTTP, shared by tests that change nothing of it."""
    with http_server(build_docs_server()) as url:
        yield ToolServer("docs", url=url)


@pytest.fixture(scope="session")
def docs_pins(docs: ToolServer) -> dict[str, ToolPin]:
    return {pin.name: pin for pin in pins_of(docs)}


@pytest.fixture(scope="session")
def rough_pins() -> dict[str, ToolPin]:
    """The tools of the server on stdio that misbehaves on request."""
    return {pin.name: pin for pin in pins_of(stdio_server())}
