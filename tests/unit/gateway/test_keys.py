from __future__ import annotations

from pathlib import Path

import pytest

from turnout.domain.errors import SetupFailed
from turnout.domain.models import Digest
from turnout.gateway.keys import keep_secret, key_digest, mint_key

SECRET = bytes(range(32))
RELEASE = Digest("sha256:" + "a" * 64)


def test_a_key_is_the_same_whenever_it_is_minted_and_another_for_every_release_ring_agent_and_instance() -> None:
    key = mint_key(SECRET, "support", "dev", RELEASE)
    assert key == mint_key(SECRET, "support", "dev", RELEASE) == "tk_YOk-NnYVB-T9-DAM6_Eyq9dm0ZfH5KDmfjHnMRU06A4"
    others = {
        mint_key(bytes(32), "support", "dev", RELEASE),
        mint_key(SECRET, "sales", "dev", RELEASE),
        mint_key(SECRET, "support", "production", RELEASE),
        mint_key(SECRET, "support", "dev", Digest("sha256:" + "b" * 64)),
    }
    assert len(others | {key}) == 5


def test_what_is_published_of_a_key_does_not_hold_it() -> None:
    key = mint_key(SECRET, "support", "dev", RELEASE)
    assert len(key_digest(key)) == 64
    assert key not in key_digest(key)


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    first = keep_secret(tmp_path / "gateway")
    assert keep_secret(tmp_path / "gateway") == first
    assert len(first) == 32
    assert (tmp_path / "gateway" / "secret").stat().st_mode & 0o777 == 0o600


def test_a_damaged_secret_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(SetupFailed, match="is damaged: 5 bytes"):
        keep_secret(tmp_path)
    assert (tmp_path / "secret").read_bytes() == b"short"
