"""A listening socket goes to whoever can show the secret of the instance, and to nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnout.gateway.handover import Offer, fetch
from turnout.gateway.serve import listen

HOST = "127.0.0.1"
SECRET = b"s" * 32


@pytest.fixture(params=["short", "long"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of the place; the path of a Unix socket itself has at most 107 bytes."""
    folder = tmp_path if request.param == "short" else tmp_path / ("x" * 120)
    folder.mkdir(exist_ok=True)
    return folder / "model-0.sock"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen(HOST, 0) as made:
        yield made


def test_a_socket_is_handed_on_and_outlives_the_one_who_had_it(path: Path, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    offer = Offer(path, listener.dup(), SECRET)
    offer.open()
    found = fetch(path, SECRET, HOST, port)
    assert found is not None
    with found:
        offer.close()
        listener.close()
        with socket.create_connection((HOST, port), timeout=5):
            found.setblocking(True)
            found.settimeout(5)
            found.accept()[0].close()
        assert not found.get_inheritable()
        assert fetch(path, SECRET, HOST, port) is None


def test_it_is_handed_to_nobody_without_the_secret_or_for_another_port(path: Path, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    offer = Offer(path, listener.dup(), SECRET)
    offer.open()
    assert fetch(path, b"t" * 32, HOST, port) is None
    assert fetch(path, SECRET, HOST, port + 1) is None
    with socket.socket(socket.AF_UNIX) as silent:  # keeps the others waiting, but not for long
        if len(str(path)) < 100:
            silent.connect(str(path))
            silent.sendall(b"short")
            silent.shutdown(socket.SHUT_WR)
            assert silent.recv(1) == b""
    with fetch(path, SECRET, HOST, port) or pytest.fail("it is not handed on any more") as found:
        assert found.getsockname()[1] == port
    offer.close()


def test_who_serves_later_takes_the_place_of_the_offer(path: Path, listener: socket.socket) -> None:
    with listen(HOST, 0) as later:
        offers = [Offer(path, each.dup(), SECRET) for each in (listener, later)]
        for offer in offers:
            offer.open()
        found = fetch(path, SECRET, HOST, later.getsockname()[1])
        assert found is not None
        found.close()
        for offer in offers:
            offer.close()


def test_a_place_where_nothing_can_be_offered_is_told(
    tmp_path: Path, listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    offer = Offer(tmp_path / "missing" / "model-0.sock", listener.dup(), SECRET)
    offer.open()
    offer.close()
    assert "cannot be handed on" in caplog.text
