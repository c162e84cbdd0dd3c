"""Whose signatures count: trusted by an admin, never changed in what they may say, revoked for good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.artifacts.attest.people import ALICE, DAY, HOME, NOW, make_key
from tests.unit.controller.stage import ADMIN
from tests.unit.services.signed import SigningStage, events, signing_stage
from turnout.artifacts.attest.keys import export_public
from turnout.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound
from turnout.domain.policy import Role
from turnout.services.keys import list_keys, revoke_key, trust_key
from turnout.services.office import Actor

DAVE = make_key("dave", b"d" * 32)
FILE = export_public(DAVE.key)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[SigningStage]:
    with signing_stage(tmp_path) as stage:
        yield stage


def test_a_trusted_key_is_listed_with_who_trusted_it_and_when(stage: SigningStage) -> None:
    stage.clock.at = NOW + 7
    view = trust_key(stage.office, ADMIN, FILE, instance=False)
    assert view in list_keys(stage.office, Actor("eve", Role.VIEWER))["keys"]
    assert (view["keyid"], view["name"], view["instance"]) == (DAVE.key.keyid, "dave", False)
    assert (view["added_by"], view["revoked_at"]) == ("ann", None)
    assert view["added_at"] > view["created_at"]
    assert events(stage.office, "key.trusted")[-1] == {"keyid": DAVE.key.keyid, "name": "dave", "instance": False}


def test_trusting_a_key_again_changes_nothing(stage: SigningStage) -> None:
    before = trust_key(stage.office, ADMIN, FILE, instance=False)
    told = events(stage.office, "key.trusted")
    stage.clock.at += 60
    assert trust_key(stage.office, Actor("root", Role.ADMIN), FILE, instance=False) == before
    assert events(stage.office, "key.trusted") == told


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
def test_only_admins_decide_who_is_trusted(stage: SigningStage, role: Role) -> None:
    with pytest.raises(Forbidden):
        trust_key(stage.office, Actor("x", role), FILE, instance=False)
    with pytest.raises(Forbidden):
        revoke_key(stage.office, Actor("x", role), ALICE.key.keyid)


def test_what_a_key_may_say_cannot_be_widened_later(stage: SigningStage) -> None:
    with pytest.raises(Conflict, match="that of a person already"):
        trust_key(stage.office, ADMIN, export_public(ALICE.key), instance=True)
    with pytest.raises(Conflict, match="that of an instance already"):
        trust_key(stage.office, ADMIN, export_public(replace(HOME.key, instance=False)), instance=False)


def test_a_key_cannot_be_given_a_longer_life_or_another_name(stage: SigningStage) -> None:
    changed = replace(ALICE.key, name="bob", expires_at=NOW + 900 * DAY)
    view = trust_key(stage.office, ADMIN, export_public(changed), instance=False)
    assert view["name"] == "alice"
    with stage.store.snapshot() as snapshot:
        assert max(key.expires_at for key in snapshot.trusted_keys()) == ALICE.key.expires_at


def test_an_expired_key_is_refused(stage: SigningStage) -> None:
    expired = replace(DAVE.key, expires_at=NOW)
    with pytest.raises(InvalidRequest, match="expired on"):
        trust_key(stage.office, ADMIN, export_public(expired), instance=False)


def test_what_is_no_public_key_is_refused(stage: SigningStage) -> None:
    for content in (b"", b"{}", FILE.replace(DAVE.key.keyid.encode(), ALICE.key.keyid.encode())):
        with pytest.raises(InvalidRequest):
            trust_key(stage.office, ADMIN, content, instance=False)


def test_a_revoked_key_never_comes_back(stage: SigningStage) -> None:
    revoke_key(stage.office, ADMIN, ALICE.key.keyid)
    assert events(stage.office, "key.revoked") == [{"keyid": ALICE.key.keyid}]
    (view,) = [key for key in list_keys(stage.office, ADMIN)["keys"] if key["name"] == "alice"]
    assert view["revoked_at"] is not None
    with pytest.raises(Conflict, match="was revoked on"):
        trust_key(stage.office, ADMIN, export_public(ALICE.key), instance=False)


def test_revoking_twice_or_what_is_not_trusted_is_an_error_and_tells_nothing(stage: SigningStage) -> None:
    revoke_key(stage.office, ADMIN, ALICE.key.keyid)
    for keyid in (ALICE.key.keyid, DAVE.key.keyid, ""):
        with pytest.raises(NotFound):
            revoke_key(stage.office, ADMIN, keyid)
    assert len(events(stage.office, "key.revoked")) == 1
