"""Keys on disk: encrypted, for their owner alone, whole after a crash, retired and still known."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit.artifacts.attest.people import DAY, NOW, RELEASE, provenance
from turnout.artifacts.attest import keyring
from turnout.artifacts.attest.envelope import Fault, FaultCode, Opened, read_envelope, sign_statement
from turnout.artifacts.attest.keyring import KeptKey, create_key, list_keys, load_signing_key, rotate_key
from turnout.domain.errors import Conflict, DamagedContent, InvalidRequest, NotFound, SetupFailed, StorageFull

PASSPHRASE = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys"


@pytest.fixture
def kept(folder: Path) -> KeptKey:
    return create_key(folder, "alice", PASSPHRASE, now=NOW, lifetime=DAY)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_key_signs_and_its_signature_opens(folder: Path, kept: KeptKey) -> None:
    key = load_signing_key(folder, "alice", PASSPHRASE, now=NOW)
    assert key.key == kept.public
    found = read_envelope(sign_statement(provenance(), key), [kept.public], NOW, digest=RELEASE)
    assert isinstance(found, Opened)


def test_the_folder_and_the_files_are_for_their_owner_alone(folder: Path, kept: KeptKey) -> None:
    assert kept.path == folder / f"{kept.public.keyid[:16]}.json"
    assert (mode(folder), mode(kept.path)) == (0o700, 0o600)
    assert [path.name for path in folder.iterdir()] == [kept.path.name]


def test_the_private_half_is_encrypted_under_more_than_the_passphrase(kept: KeptKey) -> None:
    file = json.loads(kept.path.read_bytes())
    assert file["private"].startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert file["stretch"]["n"] * file["stretch"]["p"] * file["stretch"]["r"] * 128 >= 96 << 20
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(file["private"].encode(), PASSPHRASE.encode())


def test_a_wrong_passphrase_is_said_so(folder: Path, kept: KeptKey) -> None:
    for wrong in ("", "wrong", PASSPHRASE + " "):
        with pytest.raises(InvalidRequest, match=r"the passphrase does not open the key \w{12} \(alice\)") as caught:
            load_signing_key(folder, "alice", wrong, now=NOW)
        assert not wrong or wrong not in str(caught.value)


def test_a_passphrase_is_the_same_however_its_letters_are_composed(folder: Path) -> None:
    create_key(folder, "zoe", "Zoe\u0308 was here", now=NOW, lifetime=DAY)
    assert load_signing_key(folder, "zoe", "Zo\u00eb was here", now=NOW).key.name == "zoe"


def test_a_key_is_found_by_its_id_too(folder: Path, kept: KeptKey) -> None:
    for name in (kept.public.keyid, kept.public.keyid[:8]):
        assert load_signing_key(folder, name, PASSPHRASE, now=NOW).key == kept.public
    for name in (kept.public.keyid[:7], "bob", ""):
        with pytest.raises(NotFound):
            load_signing_key(folder, name, PASSPHRASE, now=NOW)


def test_an_empty_ring_has_no_keys(folder: Path) -> None:
    assert list_keys(folder) == ()
    with pytest.raises(NotFound):
        load_signing_key(folder, "alice", PASSPHRASE, now=NOW)


def test_a_name_has_one_key_that_signs(folder: Path, kept: KeptKey) -> None:
    with pytest.raises(Conflict, match="has the key") as caught:
        create_key(folder, "alice", PASSPHRASE, now=NOW, lifetime=DAY)
    assert "rotate" in (caught.value.hint or "")
    later = create_key(folder, "alice", PASSPHRASE, now=NOW + DAY, lifetime=DAY)
    assert list_keys(folder) == (kept, later)


def test_a_rotated_key_signs_no_more_and_still_verifies_until_it_expires(folder: Path, kept: KeptKey) -> None:
    old = load_signing_key(folder, "alice", PASSPHRASE, now=NOW)
    envelope = sign_statement(provenance(), old)
    new = rotate_key(folder, "alice", "another passphrase", now=NOW + 60, lifetime=DAY)
    first, second = list_keys(folder)
    assert (first.public, first.retired_at) == (kept.public, NOW + 60)
    assert second == new
    assert load_signing_key(folder, "alice", "another passphrase", now=NOW + 60).key == new.public
    with pytest.raises(Conflict, match=r"was retired on 2026-09-21T14:14:20Z and signs no more"):
        load_signing_key(folder, kept.public.keyid, PASSPHRASE, now=NOW + 60)
    trusted = [first.public, second.public]
    assert isinstance(read_envelope(envelope, trusted, NOW + DAY - 1, digest=RELEASE), Opened)
    found = read_envelope(envelope, trusted, NOW + DAY, digest=RELEASE)
    assert isinstance(found, Fault)
    assert found.code is FaultCode.KEY_EXPIRED


def test_rotating_leaves_the_keys_of_others_alone(folder: Path, kept: KeptKey) -> None:
    create_key(folder, "bob", PASSPHRASE, now=NOW, lifetime=DAY)
    rotate_key(folder, "bob", PASSPHRASE, now=NOW + 1, lifetime=DAY)
    assert load_signing_key(folder, "alice", PASSPHRASE, now=NOW).key == kept.public
    with pytest.raises(NotFound, match="no key of carol"):
        rotate_key(folder, "carol", PASSPHRASE, now=NOW, lifetime=DAY)


def test_a_rotation_that_was_cut_off_is_mended_by_the_next(
    folder: Path, kept: KeptKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = keyring._write_file
    written: list[Path] = []

    def cut_off(path: Path, file: keyring._KeyFile) -> None:
        if written:
            raise StorageFull("the disk is full")
        written.append(path)
        write(path, file)

    with monkeypatch.context() as patch:
        patch.setattr(keyring, "_write_file", cut_off)
        with pytest.raises(StorageFull):
            rotate_key(folder, "alice", PASSPHRASE, now=NOW + 1, lifetime=DAY)
    assert [key.can_sign(NOW + 1) for key in list_keys(folder)] == [True, True]
    assert load_signing_key(folder, "alice", PASSPHRASE, now=NOW + 1).key != kept.public
    rotate_key(folder, "alice", PASSPHRASE, now=NOW + 2, lifetime=DAY)
    assert [key.can_sign(NOW + 2) for key in list_keys(folder)] == [False, False, True]


def test_an_expired_key_signs_no_more(folder: Path, kept: KeptKey) -> None:
    with pytest.raises(Conflict, match="expired on 2026-09-22T14:13:20Z") as caught:
        load_signing_key(folder, "alice", PASSPHRASE, now=NOW + DAY)
    assert caught.value.hint == "rotate it"


@pytest.mark.parametrize(
    ("name", "passphrase", "lifetime"),
    [
        ("", PASSPHRASE, DAY),
        ("../alice", PASSPHRASE, DAY),
        ("alice\n", PASSPHRASE, DAY),
        ("alice", "", DAY),
        ("alice", "1234567", DAY),
        ("alice", PASSPHRASE, 0),
        ("alice", PASSPHRASE, -DAY),
        ("alice", PASSPHRASE, float("nan")),
        ("alice", PASSPHRASE, float("inf")),
    ],
)
def test_what_cannot_be_a_key_leaves_nothing(folder: Path, name: str, passphrase: str, lifetime: float) -> None:
    with pytest.raises(InvalidRequest):
        create_key(folder, name, passphrase, now=NOW, lifetime=lifetime)
    assert not folder.exists()


def test_a_file_that_others_can_read_is_not_used(folder: Path, kept: KeptKey) -> None:
    kept.path.chmod(0o640)
    with pytest.raises(SetupFailed, match="mode 0640") as caught:
        load_signing_key(folder, "alice", PASSPHRASE, now=NOW)
    assert "0600" in (caught.value.hint or "")


def test_a_folder_that_is_open_to_others_gets_no_key(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    with pytest.raises(SetupFailed, match="mode 0755"):
        create_key(folder, "alice", PASSPHRASE, now=NOW, lifetime=DAY)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[" * 100_000])
def test_a_damaged_file_is_named(folder: Path, kept: KeptKey, content: bytes) -> None:
    kept.path.write_bytes(content)
    with pytest.raises(DamagedContent, match=kept.path.name) as caught:
        list_keys(folder)
    assert "backup" in (caught.value.hint or "")


def test_a_damaged_file_is_told_without_its_secret(folder: Path, kept: KeptKey) -> None:
    file = json.loads(kept.path.read_bytes())
    secret = file["private"].splitlines()[1]
    for edit in ({"private": [file["private"]]}, {"extra": file["private"]}, {"keyid": "0" * 64}):
        kept.path.write_text(json.dumps({**file, **edit}))
        with pytest.raises(DamagedContent) as caught:
            list_keys(folder)
        assert secret not in str(caught.value)


def test_the_private_half_of_another_key_is_damage(folder: Path, kept: KeptKey) -> None:
    other = create_key(folder, "bob", PASSPHRASE, now=NOW, lifetime=DAY)
    mine, theirs = (json.loads(key.path.read_bytes()) for key in (kept, other))
    mixed = {**mine, "private": theirs["private"], "stretch": theirs["stretch"]}
    kept.path.write_text(json.dumps(mixed))
    with pytest.raises(DamagedContent, match="the private half of another key"):
        load_signing_key(folder, "alice", PASSPHRASE, now=NOW)


def test_the_cost_of_a_guess_cannot_be_set_without_bound(folder: Path, kept: KeptKey) -> None:
    file = json.loads(kept.path.read_bytes())
    for stretch in ({"n": 1 << 30}, {"n": 2}, {"p": 10_000}, {"r": 1 << 20}):
        kept.path.write_text(json.dumps({**file, "stretch": {**file["stretch"], **stretch}}))
        with pytest.raises(DamagedContent):
            load_signing_key(folder, "alice", PASSPHRASE, now=NOW)


def test_a_full_disk_leaves_what_was_there(folder: Path, kept: KeptKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            rotate_key(folder, "alice", PASSPHRASE, now=NOW + 1, lifetime=DAY)
    assert list_keys(folder) == (kept,)
    assert [path.name for path in folder.iterdir()] == [kept.path.name]


def test_the_private_half_is_never_printed(folder: Path, kept: KeptKey) -> None:
    shown = repr(keyring._read_file(kept.path)) + repr(kept) + repr(list_keys(folder))
    assert "PRIVATE KEY" not in shown
