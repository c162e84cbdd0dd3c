"""`turnout keys`: keys of one's own need no server, and a passphrase is never an argument."""

from __future__ import annotations

import getpass
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.unit.artifacts.attest.people import make_key
from tests.unit.cli.command import CommandLine
from turnout.artifacts.attest.keys import parse_public
from turnout.cli import signing
from turnout.domain.errors import Conflict, InvalidRequest

PASSPHRASE = "correct horse battery"
TIMES = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z", "added_at": "2026-01-01T00:00:00Z"}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the keys of these tests are."""
    monkeypatch.setenv("TURNOUT_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("TURNOUT_KEY_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("LOGNAME", "alice")
    return tmp_path / "keys"


class Trusting:
    """A server that notes what it is asked to trust."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.asked: list[tuple[str, bool]] = []
        self.revoked: list[str] = []

    def trusted_keys(self) -> dict[str, Any]:
        return {"keys": self.keys}

    def trust_key(self, public_key: str, *, instance: bool) -> dict[str, Any]:
        self.asked.append((public_key, instance))
        return view(parse_public(public_key.encode()).keyid)

    def revoke_key(self, keyid: str) -> None:
        self.revoked.append(keyid)


def view(keyid: str, name: str = "alice", *, instance: bool = False, revoked_at: str | None = None) -> dict[str, Any]:
    return {
        "keyid": keyid,
        "name": name,
        "instance": instance,
        "added_by": "ann",
        "revoked_at": revoked_at,
        **TIMES,
    }


# --- own keys --------------------------------------------------------------------------------------------------------


def test_a_new_key_is_for_its_owner_alone_and_the_next_step_is_named(turnout: CommandLine, folder: Path) -> None:
    done = turnout("keys", "init")
    assert done.code == 0, done.err
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"(alice)  {file}" in done.out
    assert "`turnout keys export | turnout keys trust -`" in done.err
    assert PASSPHRASE not in done.out + done.err + file.read_text()


def test_a_key_of_another_name_is_exported_by_that_name(turnout: CommandLine) -> None:
    assert "`turnout keys export --name ci | turnout keys trust -`" in turnout("keys", "init", "--name", "ci").err
    assert turnout("keys", "export").code == 4
    assert parse_public(turnout("keys", "export", "--name", "ci").out.encode().strip()).name == "ci"


def test_a_second_key_needs_rotation(turnout: CommandLine) -> None:
    first = turnout("keys", "init", "--json").json()
    refused = turnout("keys", "init")
    assert refused.code == 5
    assert "`turnout keys rotate --name alice`" in refused.err
    second = turnout("keys", "rotate", "--json").json()
    assert set(second) == {"keyid", "name", "file"}
    assert second["keyid"] != first["keyid"]
    assert json.loads(turnout("keys", "export").out)["keyid"] == second["keyid"]


def test_there_is_nothing_to_rotate_or_export_before_there_is_a_key(turnout: CommandLine) -> None:
    for verb in ("rotate", "export"):
        done = turnout("keys", verb)
        assert done.code == 4
        assert "`turnout keys init" in done.err


def test_who_has_keys_of_another_name_is_told_of_them(turnout: CommandLine) -> None:
    turnout("keys", "init", "--name", "ci")
    assert "there are keys of ci: --name" in turnout("keys", "export").err
    assert "`turnout keys rotate --name ci`" in turnout("keys", "init", "--name", "ci").err
    assert "`turnout keys init --name ops`" in turnout("keys", "rotate", "--name", "ops").err


def test_a_key_needs_a_passphrase(turnout: CommandLine, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("TURNOUT_KEY_PASSPHRASE", "short")
    assert turnout("keys", "init").code == 3
    monkeypatch.delenv("TURNOUT_KEY_PASSPHRASE")
    done = turnout("keys", "init")
    assert done.code == 3
    assert "TURNOUT_KEY_PASSPHRASE" in done.err
    assert not folder.exists()


@pytest.mark.parametrize("lifetime", ["0s", "11y", "soon", "9999d"])
def test_a_lifetime_is_a_duration_of_at_most_ten_years(turnout: CommandLine, lifetime: str, folder: Path) -> None:
    assert turnout("keys", "init", "--lifetime", lifetime).code in (2, 3)
    assert not folder.exists()


def test_what_is_exported_has_no_private_half(turnout: CommandLine, tmp_path: Path) -> None:
    turnout("keys", "init")
    assert turnout("keys", "export", "-o", str(tmp_path / "alice.json")).code == 0
    exported = json.loads((tmp_path / "alice.json").read_text())
    assert set(exported) == {"keyid", "name", "algorithm", "public", "created_at", "expires_at"}


def test_a_user_without_a_name_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container there may be no entry for the user."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert signing.user_name().startswith("user-")


# --- keys that an instance trusts ------------------------------------------------------------------------------------


def test_without_an_instance_own_keys_are_listed_all_the_same(turnout: CommandLine) -> None:
    made = turnout("keys", "init", "--json").json()
    done = turnout("keys", "list", "--json")
    assert done.code == 0, done.err
    assert [(key["keyid"], key["signs"]) for key in done.json()["own"]] == [(made["keyid"], True)]
    assert done.json()["trusted"] == []
    assert "what an instance trusts is not known" in done.err
    assert made["keyid"][:12] in turnout("keys", "list").out


def test_the_list_tells_own_trusted_and_revoked_keys_apart(turnout: CommandLine) -> None:
    turnout("keys", "init")
    turnout("keys", "rotate")
    turnout.speaks_to(
        Trusting(
            view("a" * 64),
            view("b" * 64, "home", instance=True),
            view("c" * 64, "eve", revoked_at="2026-05-05T00:00:00Z"),
        )
    )
    out = turnout("keys", "list").out
    own, trusted = out.split("trusted by the instance")
    assert [line.split()[-1] for line in own.splitlines()[2:] if line] == ["no", "yes"]
    assert "home (instance)" in trusted
    assert "by ann" in trusted
    assert "revoked 2026-05-05" in trusted


def test_a_key_is_trusted_from_a_file_or_standard_input(turnout: CommandLine, tmp_path: Path) -> None:
    turnout("keys", "init")
    exported = turnout("keys", "export").out
    file = tmp_path / "alice.json"
    file.write_text(exported)
    server = Trusting()
    turnout.speaks_to(server)
    done = turnout("keys", "trust", str(file))
    assert done.code == 0, done.err
    assert done.out.startswith("trusts ")
    assert turnout("keys", "trust", str(file), "--instance", "--json").json()["name"] == "alice"
    assert server.asked == [(exported.strip(), False), (exported.strip(), True)]


@pytest.mark.parametrize("content", [b"# turnout\n", b"\xff\xfe\x00", b"{}", b""])
def test_another_file_is_no_key_and_where_to_get_one_is_said(
    turnout: CommandLine, tmp_path: Path, content: bytes
) -> None:
    class Reading(Trusting):
        def trust_key(self, public_key: str, *, instance: bool) -> dict[str, Any]:
            return view(parse_public(public_key.encode()).keyid)

    (tmp_path / "file").write_bytes(content)
    turnout.speaks_to(Reading())
    done = turnout("keys", "trust", str(tmp_path / "file"))
    assert done.code == 3
    assert "the public key cannot be read" in done.err
    assert "hint: give a file that `turnout keys export` wrote" in done.err


def test_a_refusal_is_passed_on(turnout: CommandLine, tmp_path: Path) -> None:
    class Refusing(Trusting):
        def trust_key(self, public_key: str, *, instance: bool) -> dict[str, Any]:
            raise Conflict("the key was revoked")

    turnout("keys", "init")
    (tmp_path / "alice.json").write_text(turnout("keys", "export").out)
    turnout.speaks_to(Refusing())
    done = turnout("keys", "trust", str(tmp_path / "alice.json"))
    assert (done.code, done.out) == (5, "")


def test_the_key_of_an_instance_is_exported_and_says_that_it_is_one(turnout: CommandLine) -> None:
    keys = [make_key(name, name.encode().ljust(32, b"-")).key for name in ("old", "new", "gone", "other")]
    old, new, gone, other = (view(key.keyid, "instance", instance=True) | {"public": key.public} for key in keys)
    own = [item | {"added_by": "turnout"} for item in (old, new, gone)]
    own[1]["created_at"] = "2026-06-01T00:00:00Z"
    own[2] |= {"created_at": "2026-07-01T00:00:00Z", "revoked_at": "2026-08-01T00:00:00Z"}
    turnout.speaks_to(Trusting(*own, other))
    content = turnout("keys", "export", "--instance").out.encode().strip()
    assert parse_public(content, instance=True).keyid == new["keyid"]
    with pytest.raises(InvalidRequest, match="the key of an instance"):
        parse_public(content)
    turnout.speaks_to(Trusting(other))
    assert turnout("keys", "export", "--instance").code == 4


def test_a_key_is_revoked_by_its_first_digits(turnout: CommandLine) -> None:
    server = Trusting(view("abcdef12" + "0" * 56), view("abcdef13" + "0" * 56))
    turnout.speaks_to(server)
    for named in ("abcdef1", "abcdef", "ffffffff", ""):
        assert turnout("keys", "revoke", named).code == 4
    assert server.revoked == []
    assert turnout("keys", "revoke", "abcdef13").code == 0
    assert server.revoked == ["abcdef13" + "0" * 56]
