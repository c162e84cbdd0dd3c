"""Digests and canonical JSON."""

from __future__ import annotations

import pytest

from turnout.artifacts.digest import canonical_json, parse_digest, sha256_digest
from turnout.domain.errors import BuildFailed, InvalidRequest


def test_the_digest_of_bytes_is_their_sha256() -> None:
    expected = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_digest(b"") == parse_digest(expected) == expected


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "A" * 64, "sha512:" + "a" * 64, "sha256:" + "a" * 64 + "\n", "a" * 64, "../" * 9],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no digest"):
        parse_digest(text)


def test_canonical_json_sorts_keys_and_writes_numbers_in_one_way() -> None:
    assert canonical_json({"b": 1.0, "a": [1e21, "é", None, True]}) == '{"a":[1e+21,"é",null,true],"b":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), 2**60, "\ud800", {1: 2}, object()])
def test_a_value_without_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(BuildFailed, match="canonical JSON"):
        canonical_json(value)
