"""What a build or deploy signs, with which key, and when it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.artifacts.agents import write_agent
from tests.unit.cli.command import CommandLine
from turnout.artifacts.attest.envelope import Opened, read_envelope
from turnout.artifacts.attest.keyring import list_keys
from turnout.artifacts.attest.predicates import Provenance
from turnout.artifacts.digest import sha256_digest
from turnout.domain.errors import NotFound, ServerUnreachable

PASSPHRASE = "correct horse battery"


@dataclass
class Taking:
    """A server that takes every push. `missing`: whether it asks for the blobs. `breaks`: it takes no attestation."""

    missing: bool = True
    note: str | None = None
    recorded: bool = False
    breaks: bool = False
    calls: list[str] = field(default_factory=list)
    envelopes: list[str] = field(default_factory=list)

    def missing_blobs(self, agent: str, digests: list[str]) -> list[str]:
        return digests if self.missing else []

    def missing_chunks(self, agent: str, index: str, *, verify: bool = False) -> list[tuple[int, int]]:
        return []

    def put_blob(self, agent: str, digest: str, chunks: Any) -> None:
        list(chunks)

    def put_release(self, agent: str, digest: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append("put_release")
        self.recorded = True
        return {"digest": digest, "version": "v1"}

    def attest(self, agent: str, ref: str, envelope: str) -> dict[str, Any]:
        if self.breaks:
            raise ServerUnreachable("the connection was cut")
        self.calls.append("attest")
        self.envelopes.append(envelope)
        return {"note": self.note}

    def attestations(self, agent: str, ref: str) -> dict[str, Any]:
        if not self.recorded:
            raise NotFound(f"agent {agent} has no release {ref}")
        keyids = [json.loads(envelope)["signatures"][0]["keyid"] for envelope in self.envelopes]
        return {"attestations": [{"kind": "provenance", "keyid": keyid} for keyid in keyids]}


@pytest.fixture
def server(turnout: CommandLine) -> Taking:
    server = Taking()
    turnout.speaks_to(server)
    return server


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for keys, and the passphrase of those in it."""
    monkeypatch.setenv("TURNOUT_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("TURNOUT_KEY_PASSPHRASE", PASSPHRASE)
    return tmp_path / "keys"


def test_what_is_pushed_is_signed_when_there_is_a_key(
    turnout: CommandLine, server: Taking, agent: Path, keys: Path
) -> None:
    turnout("keys", "init", "--name", "ci")
    done = turnout("build", str(agent), "--push", "--json")
    assert done.code == 0, done.err
    assert "sign     provenance, with the key" in done.err
    (kept,) = list_keys(keys)
    (envelope,) = server.envelopes
    found = read_envelope(envelope.encode(), [kept.public], kept.public.created_at + 60, digest=done.json()["digest"])
    assert isinstance(found, Opened), found
    assert isinstance(found.facts, Provenance)
    assert found.facts.components == done.json()["components"]
    assert found.facts.manifest == sha256_digest((agent / "turnout.toml").read_bytes())
    assert found.facts.started_at is not None
    assert found.facts.finished_at is not None
    assert found.facts.started_at <= found.facts.finished_at
    assert server.calls == ["put_release", "attest"]


def test_without_a_key_nothing_is_signed_and_nothing_said(
    turnout: CommandLine, server: Taking, agent: Path, keys: Path
) -> None:
    done = turnout("build", str(agent), "--push")
    assert (done.code, server.envelopes) == (0, [])
    assert "sign" not in done.err


def test_without_its_passphrase_a_key_signs_nothing_and_it_is_said(
    turnout: CommandLine, server: Taking, agent: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turnout("keys", "init")
    monkeypatch.delenv("TURNOUT_KEY_PASSPHRASE")
    done = turnout("build", str(agent), "--push")
    assert (done.code, server.envelopes) == (0, [])
    assert "not signed: give the passphrase" in done.err
    demanded = turnout("build", str(agent), "--push", "--sign")
    assert demanded.code == 3
    assert "TURNOUT_KEY_PASSPHRASE" in demanded.err


def test_a_wrong_passphrase_leaves_no_release_behind(
    turnout: CommandLine, server: Taking, agent: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turnout("keys", "init")
    monkeypatch.setenv("TURNOUT_KEY_PASSPHRASE", "something else")
    done = turnout("build", str(agent), "--push")
    assert done.code == 3
    assert "does not open the key" in done.err
    assert "hint: correct TURNOUT_KEY_PASSPHRASE" in done.err
    assert server.calls == []


def test_signing_that_is_asked_for_needs_a_key(turnout: CommandLine, server: Taking, agent: Path, keys: Path) -> None:
    done = turnout("build", str(agent), "--push", "--sign")
    assert done.code == 4
    assert "turnout keys init" in done.err
    assert server.calls == []


def test_a_release_that_was_pushed_before_there_was_a_key_is_signed_by_the_next_build(
    turnout: CommandLine, server: Taking, agent: Path, keys: Path
) -> None:
    turnout("build", str(agent), "--push")
    turnout("keys", "init")
    server.missing = False
    done = turnout("build", str(agent), "--push")
    assert "push     nothing: the server has every blob" in done.err
    assert len(server.envelopes) == 1


def test_a_build_after_one_whose_attestation_was_lost_is_signed(
    turnout: CommandLine, server: Taking, agent: Path, keys: Path
) -> None:
    turnout("keys", "init")
    server.breaks = True
    assert turnout("build", str(agent), "--push").code == 7
    assert (server.calls, server.envelopes) == (["put_release"], [])
    server.breaks, server.missing = False, False
    assert turnout("build", str(agent), "--push").code == 0
    assert len(server.envelopes) == 1


def test_a_release_is_signed_once_by_each_key_unless_it_is_asked_for_again(
    turnout: CommandLine, server: Taking, agent: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turnout("keys", "init")
    turnout("build", str(agent), "--push")
    monkeypatch.delenv("TURNOUT_KEY_PASSPHRASE")
    again = turnout("build", str(agent), "--push")
    assert (again.code, len(server.envelopes)) == (0, 1)
    assert "not signed" not in again.err, "it is signed already, so nobody need type a passphrase"
    monkeypatch.setenv("TURNOUT_KEY_PASSPHRASE", PASSPHRASE)
    turnout("build", str(agent), "--push", "--sign")
    assert len(server.envelopes) == 2
    turnout("keys", "rotate")
    turnout("build", str(agent), "--push")
    assert len(server.envelopes) == 3


def test_no_sign_signs_nothing(turnout: CommandLine, server: Taking, agent: Path, keys: Path) -> None:
    turnout("keys", "init")
    assert turnout("build", str(agent), "--push", "--no-sign").code == 0
    assert server.envelopes == []


def test_the_newest_key_signs_and_a_retired_one_does_not(
    turnout: CommandLine, server: Taking, agent: Path, keys: Path
) -> None:
    turnout("keys", "init")
    newest = turnout("keys", "rotate", "--json").json()["keyid"]
    turnout("build", str(agent), "--push")
    (signature,) = json.loads(server.envelopes[0])["signatures"]
    assert signature["keyid"] == newest


def test_why_a_signature_does_not_count_is_said(turnout: CommandLine, server: Taking, agent: Path, keys: Path) -> None:
    turnout("keys", "init")
    server.note = "the provenance is signed by no trusted key"
    done = turnout("build", str(agent), "--push")
    assert done.code == 0
    assert "sign     does not count here: the provenance is signed by no trusted key" in done.err
