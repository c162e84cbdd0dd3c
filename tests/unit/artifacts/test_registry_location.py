"""URLs of registries: what they name, and that no password stays in one."""

from __future__ import annotations

import pytest

from turnout.artifacts.registry import RegistryLocation, parse_location
from turnout.domain.errors import InvalidRequest


@pytest.mark.parametrize(
    ("url", "origin", "name"),
    [
        ("registry+http://127.0.0.1:5000", "http://127.0.0.1:5000", "127.0.0.1:5000/releases"),
        ("registry+http://127.0.0.1:5000/", "http://127.0.0.1:5000", "127.0.0.1:5000/releases"),
        ("registry+https://r.example/team/turnout", "https://r.example", "r.example/team/turnout/releases"),
        ("https://R.example:8443/a-b/c.d_e/", "https://r.example:8443", "r.example:8443/a-b/c.d_e/releases"),
        ("registry+http://[::1]:5000/x", "http://[::1]:5000", "[::1]:5000/x/releases"),
    ],
)
def test_a_url_names_a_registry_and_one_repository(url: str, origin: str, name: str) -> None:
    location = parse_location(url)
    assert location.origin == origin
    assert location.name == name


def test_locations_are_values() -> None:
    assert parse_location("https://r.example/a") == RegistryLocation("https", "r.example", None, "a")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "r.example",
        "http://r.example",
        "ftp://r.example",
        "https://",
        "https://r.example:port",
        "https://[::1",
        "https://r.example/UPPER",
        "https://r.example/../x",
        "https://r.example/a//b",
        "https://r.example/a?x=1",
        "https://r.example/a#x",
        "https://r.example/" + "a" * 250,
    ],
)
def test_what_is_no_registry_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_location(url)
    assert len(caught.value.message) < 400


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidRequest, match="holds credentials") as caught:
        parse_location("https://bob:geheim@r.example/team")
    assert "geheim" not in repr(caught.value) + str(caught.value.hint)
