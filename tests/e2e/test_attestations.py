"""A ring that demands attestations: what is not signed, or not by somebody it trusts, never starts there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_readme import BLOCK
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import SETTLED, await_condition, await_state, deploy, push_agent
from tests.live import REPOSITORY, LiveInstance, live_instance, wait_until
from tests.unit.artifacts.attest.people import make_key
from turnout.artifacts.attest.envelope import sign_statement
from turnout.artifacts.attest.keys import SigningKey, export_public
from turnout.artifacts.attest.predicates import Provenance, build_approval, build_provenance
from turnout.client import Client, Problem
from turnout.domain.models import Approval, Digest

DAY = 86_400.0
DEMANDING = '[rings.dev]\nrequire = ["provenance"]\n'
GATED = '[rings.dev]\n\n[rings.production]\napprovals = 1\nrequire = ["approval"]\n'


@dataclass
class Releaser:
    """Somebody with a key who releases an agent of their own."""

    instance: LiveInstance
    agent: str
    folder: Path
    key: SigningKey

    @property
    def client(self) -> Client:
        return self.instance.client()

    def push(self, note: str = "one", rings: str = DEMANDING, *, signed: bool = True) -> Digest:
        """Push a release; signed by the key of this releaser."""
        digest = Digest(push_agent(self.instance, write_agent(self.folder, note, agent=self.agent, rings=rings)))
        if signed:
            self.client.attest(self.agent, digest, self.sign(digest))
        return digest

    def sign(self, digest: Digest) -> str:
        """The envelope with the provenance of a release."""
        built = Provenance("urn:example:builder", finished_at=time.time())
        return sign_statement(build_provenance(self.agent, digest, built), self.key).decode()

    def trust(self, *, instance: bool = False) -> None:
        """Let the instance trust the key."""
        self.client.trust_key(export_public(self.key.key).decode(), instance=instance)

    def refusal(self, digest: Digest) -> str:
        """Why the first ring refuses a release. Nothing of it may have been started."""
        with pytest.raises(Problem) as refused:
            self.client.deploy(self.agent, "dev", {"release": digest})
        assert refused.value.code == "policy_refused"
        assert self.replicas() == []
        return refused.value.message

    def replicas(self) -> list[Path]:
        """What was ever started of the agent."""
        return sorted((self.instance.state / "runtime" / "replicas").glob(f"{self.agent}.*"))

    def verification(self, digest: Digest, ring: str | None) -> Any:
        return self.client.verification(self.agent, digest, ring)


@pytest.fixture
def releaser(instance: LiveInstance, tmp_path: Path, request: pytest.FixtureRequest) -> Releaser:
    """A releaser whose key nobody trusts yet; agent and key are the test's own."""
    agent = f"att-{zlib.crc32(request.node.name.encode())}"
    made = make_key(agent, tmp_path.name.encode().ljust(32, b"-")[-32:])
    now = time.time()
    key = replace(made, key=replace(made.key, created_at=now - DAY, expires_at=now + DAY))
    return Releaser(instance, agent, tmp_path / "agent", key)


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_guide_works_as_written(instance: LiveInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a release that a ring refuses to one that it takes, with the commands of the guide."""
    monkeypatch.setenv("TURNOUT_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("LOGNAME", "carol")
    blocks = list(BLOCK.finditer((REPOSITORY / "docs" / "guides" / "signing.md").read_text()))
    (rings,) = [block["text"] for block in blocks if block["file"]]
    folder = write_agent(tmp_path / "support", agent="support", rings=rings)
    unsigned = instance.run("deploy", str(folder), check=False)
    assert unsigned.returncode == 5, unsigned.stderr
    assert "dev demands provenance: no provenance signed by a trusted key" in unsigned.stderr
    assert "`turnout deploy --sign`" in unsigned.stderr
    missing = instance.run("verify", "v1", "--ring", "dev", "--agent", "support", check=False)
    assert missing.returncode == 9
    assert "✗ dev demands provenance\n      no provenance signed by a trusted key" in missing.stdout

    (tmp_path / "passphrase").write_text("correct horse battery\n")
    (folder / "prompts" / "note.md").write_text("two\n")
    env = {
        **os.environ,
        "TURNOUT_STATE": str(instance.state),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    trusted, verified = [
        subprocess.run(
            ["bash", "-ec", block["text"].replace("verify v1", "verify v2")],
            cwd=tmp_path,
            env=env,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for block in blocks
        if not block["file"]
    ]
    assert "trusts " in trusted
    assert "support v2 in dev: active" in verified
    assert "✓ content: every blob has its digest" in verified
    assert "✓ provenance by carol" in verified
    assert "✓ dev demands provenance" in verified


# --- what does not count ---------------------------------------------------------------------------------------------


def test_a_key_that_nobody_trusts_signs_for_nothing_until_somebody_does(releaser: Releaser) -> None:
    digest = releaser.push()
    assert "signed by no trusted key" in releaser.refusal(digest)
    releaser.trust()
    assert deploy(releaser.instance, releaser.agent, digest)["state"] == "active"


def test_a_revoked_key_opens_no_ring_any_more(releaser: Releaser) -> None:
    releaser.trust()
    digest = releaser.push()
    assert releaser.verification(digest, "dev")["verified"] is True
    releaser.client.revoke_key(releaser.key.key.keyid)
    assert "which was revoked on" in releaser.refusal(digest)
    assert "was revoked" in releaser.verification(digest, "dev")["attestations"][0]["verdict"]
    with pytest.raises(Problem, match="was revoked"):
        releaser.trust()


def test_an_expired_key_opens_no_ring_any_more(releaser: Releaser) -> None:
    releaser.key = replace(releaser.key, key=replace(releaser.key.key, expires_at=time.time() + 1.0))
    releaser.trust()
    digest = releaser.push()
    wait_until(lambda: time.time() >= releaser.key.key.expires_at, 5.0)
    assert "which expired on" in releaser.refusal(digest)


def test_the_attestation_of_another_release_is_not_taken(releaser: Releaser) -> None:
    releaser.trust()
    first, second = releaser.push("one"), releaser.push("two", signed=False)
    with pytest.raises(Problem, match="is about another release"):
        releaser.client.attest(releaser.agent, second, releaser.sign(first))
    with pytest.raises(Problem, match="it was changed"):
        releaser.client.attest(releaser.agent, second, _claiming(releaser.sign(first), releaser.sign(second)))
    assert "no provenance" in releaser.refusal(second)


def _claiming(signature: str, payload: str) -> str:
    """The payload of one envelope under the signature of another."""
    return json.dumps({**json.loads(payload), "signatures": json.loads(signature)["signatures"]})


def test_a_flipped_bit_in_a_stored_attestation_is_found_and_named(releaser: Releaser) -> None:
    releaser.trust()
    digest = releaser.push()
    (found,) = releaser.verification(digest, "dev")["attestations"]
    blob = found["envelope"]
    with flipped(releaser.instance.state / "artifacts" / "blobs" / "sha256" / blob.removeprefix("sha256:")):
        view = releaser.verification(digest, "dev")
        assert [blob in damage for damage in view["damages"]] == [True]
        assert any(blob in problem for problem in view["problems"])
        shown = releaser.instance.run("verify", digest, "--ring", "dev", "--agent", releaser.agent, check=False)
        assert shown.returncode == 1
        assert blob in shown.stdout
        assert blob in releaser.refusal(digest)
    assert deploy(releaser.instance, releaser.agent, digest)["state"] == "active"


@contextmanager
def flipped(path: Path) -> Iterator[None]:
    """One bit of a file is another while the block lasts."""
    whole = path.read_bytes()
    half = len(whole) // 2
    path.chmod(0o600)
    path.write_bytes(whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :])
    try:
        yield
    finally:
        path.write_bytes(whole)


# --- ways around -----------------------------------------------------------------------------------------------------


def test_a_release_that_asks_for_less_is_held_to_what_serves(releaser: Releaser) -> None:
    releaser.trust()
    deploy(releaser.instance, releaser.agent, releaser.push("one"))
    before = releaser.replicas()
    lax = releaser.push("two", "[rings.dev]\n", signed=False)
    with pytest.raises(Problem, match="no provenance"):
        releaser.client.deploy(releaser.agent, "dev", {"release": lax})
    assert releaser.replicas() == before


def test_only_an_admin_passes_over_it_and_that_is_in_the_history(releaser: Releaser) -> None:
    digest = releaser.push(signed=False)
    token = releaser.client.create_token(f"dev-{releaser.agent}", "developer")["token"]
    developer = Client(releaser.instance.api, token)
    with pytest.raises(Problem, match="may not override"):
        developer.deploy(releaser.agent, "dev", {"release": digest, "override": "must"})
    deploy(releaser.instance, releaser.agent, digest, override="the signer is down")
    told = releaser.client.events(agent=releaser.agent)["events"]
    (override,) = [event for event in told if event["type"] == "policy.overridden"]
    assert override["actor"] == "admin"
    assert override["data"]["reason"] == "the signer is down"
    assert "no provenance" in " ".join(override["data"]["overridden"])


# --- what the instance attests ---------------------------------------------------------------------------------------


def test_approval_and_promotion_are_attested_and_an_approval_is_counted(releaser: Releaser) -> None:
    digest = releaser.push(rings=GATED, signed=False)
    deploy(releaser.instance, releaser.agent, digest)
    asked = releaser.client.promote(releaser.agent, "production", {"source": "dev"})
    await_condition(releaser.instance, asked["id"], "awaiting_approval")
    assert "no approval for production" in " ".join(releaser.verification(digest, "production")["problems"])
    bob = Client(releaser.instance.api, releaser.client.create_token(f"bob-{releaser.agent}", "approver")["token"])
    bob.decide(releaser.agent, "production", {"approved": True, "comment": "fine"})
    done = await_state(releaser.instance, asked["id"], SETTLED)
    assert done["state"] == "active"
    assert any("approval verified" in item["reason"] for item in done["transitions"])
    view = releaser.verification(digest, "production")
    assert view["verified"] is True
    assert sorted((item["kind"], item["signer"], item["counts"]) for item in view["attestations"]) == [
        ("approval", "instance", True),
        ("promotion", "instance", True),
    ]


def test_a_person_cannot_attest_the_approval_of_another(releaser: Releaser) -> None:
    releaser.trust()
    digest = releaser.push(rings='[rings.dev]\nrequire = ["approval"]\n', signed=False)
    now = time.time()
    claimed = Approval(releaser.agent, "dev", digest, "bob", True, now, now + DAY)
    releaser.client.attest(releaser.agent, digest, sign_statement(build_approval(claimed), releaser.key).decode())
    assert "which speaks for" in " ".join(releaser.verification(digest, "dev")["problems"])


def test_an_instance_whose_key_is_revoked_makes_a_new_one_when_it_starts(tmp_path: Path) -> None:
    with live_instance(tmp_path / "state") as own:
        (key,) = own.client().trusted_keys()["keys"]
        assert (key["name"], key["instance"], key["added_by"]) == ("instance", True, "turnout")
        own.client().revoke_key(key["keyid"])
        own.run("down", "--server-only")
        own.start()
        keys = own.client().trusted_keys()["keys"]
        assert [(item["keyid"] == key["keyid"], item["revoked_at"] is None) for item in keys] == [
            (True, False),
            (False, True),
        ]
        assert (own.state / "key.passphrase").stat().st_mode & 0o077 == 0
