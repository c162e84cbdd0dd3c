"""The instance's own key: there at every start, for nobody else, renewed in time, and never used again once revoked."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.unit.artifacts.attest.people import DAY, NOW, RELEASE, promotion
from turnout.artifacts.attest.envelope import Opened, read_envelope, sign_statement
from turnout.artifacts.attest.keyring import list_keys
from turnout.artifacts.attest.own import PASSPHRASE, keep_instance_key
from turnout.domain.errors import DamagedContent, SetupFailed

YEAR = 365 * DAY


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)


def test_the_first_start_makes_a_key_that_signs(tmp_path: Path) -> None:
    own = keep_instance_key(tmp_path, NOW)
    found = read_envelope(sign_statement(promotion(), own.unlock()), [own.public], NOW, digest=RELEASE)
    assert isinstance(found, Opened)
    assert own.public.name == "instance"
    assert own.public.expires_at == NOW + 3 * YEAR


def test_every_later_start_has_the_same_key(tmp_path: Path) -> None:
    first, second = keep_instance_key(tmp_path, NOW), keep_instance_key(tmp_path, NOW + YEAR)
    assert second.public == first.public
    assert second.unlock() is second.unlock()
    assert len(list_keys(tmp_path / "keys")) == 1


def test_key_and_passphrase_are_for_the_owner_alone(tmp_path: Path) -> None:
    keep_instance_key(tmp_path, NOW)
    (kept,) = list_keys(tmp_path / "keys")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys", kept.path, tmp_path / "key.passphrase")]
    assert modes == [0o700, 0o600, 0o600]
    assert (tmp_path / "key.passphrase").read_text() not in kept.path.read_text()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_key_that_soon_expires_is_renewed_and_the_old_one_stays_known(tmp_path: Path) -> None:
    first = keep_instance_key(tmp_path, NOW)
    second = keep_instance_key(tmp_path, NOW + 3 * YEAR - 30 * DAY)
    assert second.public.keyid != first.public.keyid
    assert second.unlock().key == second.public
    old, new = list_keys(tmp_path / "keys")
    assert (old.public, new.public) == (first.public, second.public)
    assert old.retired_at is not None


def test_a_key_that_has_expired_is_replaced(tmp_path: Path) -> None:
    first = keep_instance_key(tmp_path, NOW)
    assert keep_instance_key(tmp_path, NOW + 4 * YEAR).public.keyid != first.public.keyid


def test_a_revoked_key_is_replaced_at_the_next_start(tmp_path: Path) -> None:
    first = keep_instance_key(tmp_path, NOW)
    second = keep_instance_key(tmp_path, NOW + 5, {first.public.keyid})
    assert second.public.keyid != first.public.keyid
    assert keep_instance_key(tmp_path, NOW + 9, {first.public.keyid}).public == second.public


# --- the passphrase --------------------------------------------------------------------------------------------------


def test_a_passphrase_from_outside_is_kept_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "from the vault")
    first = keep_instance_key(tmp_path, NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]
    assert keep_instance_key(tmp_path, NOW).unlock().key == first.public


def test_a_wrong_or_missing_passphrase_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "from the vault")
    keep_instance_key(tmp_path, NOW)
    monkeypatch.setenv(PASSPHRASE, "from elsewhere")
    with pytest.raises(SetupFailed, match="does not open the key") as wrong:
        keep_instance_key(tmp_path, NOW)
    assert PASSPHRASE in (wrong.value.hint or "")
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(SetupFailed, match="passphrase of the instance's key") as missing:
        keep_instance_key(tmp_path, NOW)
    assert PASSPHRASE in (missing.value.hint or "")
    assert not (tmp_path / "key.passphrase").exists()


def test_a_passphrase_that_is_kept_wins_over_one_that_is_given_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keep_instance_key(tmp_path, NOW)
    monkeypatch.setenv(PASSPHRASE, "from the vault")
    assert keep_instance_key(tmp_path, NOW).unlock().key == first.public


def test_a_crash_while_the_passphrase_is_written_leaves_nothing_that_counts(tmp_path: Path) -> None:
    (tmp_path / "key.tmp").write_text("hal")
    (tmp_path / "key.passphrase.tmp").write_text("hal")
    own = keep_instance_key(tmp_path, NOW)
    assert keep_instance_key(tmp_path, NOW).unlock().key == own.public


def test_a_damaged_key_is_named_and_not_replaced(tmp_path: Path) -> None:
    keep_instance_key(tmp_path, NOW)
    (kept,) = list_keys(tmp_path / "keys")
    kept.path.write_text(kept.path.read_text()[:-9])
    with pytest.raises(DamagedContent, match=kept.path.name):
        keep_instance_key(tmp_path, NOW)
