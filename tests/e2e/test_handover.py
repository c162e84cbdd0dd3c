"""A release that goes from one instance to another as a file, and what becomes of releases that nothing needs."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import SETTLED, await_condition, await_state, deploy, push_agent, push_tiny
from tests.live import LiveInstance, live_instance
from turnout.client import Client

NO_INDEX = {"UV_INDEX_URL": "http://127.0.0.1:9/simple", "UV_NO_CACHE": "1"}


def make_wheel(folder: Path) -> Path:
    """A package of one module."""
    path = folder / "greeting-1.0-py3-none-any.whl"
    info = "greeting-1.0.dist-info"
    files = {
        "greeting.py": "WORD = 'hello'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def test_a_release_is_handed_over_with_its_packages_to_an_instance_without_an_index(
    instance: LiveInstance, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = make_wheel(tmp_path / "wheels")
    lock = f"greeting==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    digest = push_agent(instance, write_agent(tmp_path / "agent", agent="handed", lock=lock), "v7")
    plain, full = tmp_path / "plain.tar", tmp_path / "full.tar"
    exported = instance.json("release", "export", "v7", "-o", str(plain), "--agent", "handed")
    assert (exported["digest"], exported["bytes"]) == (digest, plain.stat().st_size)
    local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    instance.run("release", "export", "v7", "-o", str(full), "--agent", "handed", "--wheels", more=local)
    assert wheel.read_bytes() in full.read_bytes()

    with live_instance(tmp_path / "other", env=NO_INDEX) as other:
        assert other.json("release", "import", str(plain))["digest"] == digest
        refused = other.run("deploy", str(tmp_path / "agent"), "--skip-build", "--tag", "v7", check=False)
        assert refused.returncode == 8
        assert "the environment could not be built" in refused.stdout
        taken = other.json("release", "import", str(full))
        assert (taken["digest"], taken["version"]) == (digest, "v7")
        assert deploy(other, "handed", digest)["digest"] == digest
        assert other.json("verify") == {"damages": []}


def test_the_other_side_needs_the_file_and_the_keys_and_nothing_else(instance: LiveInstance, tmp_path: Path) -> None:
    rings = '[rings.dev]\n\n[rings.production]\nrequire = ["approval"]\n'
    digest = push_tiny(instance, tmp_path / "agent", agent="alone", rings=rings)
    archive, key = tmp_path / "release.tar", tmp_path / "instance.json"
    deploy(instance, "alone", digest)
    asked = instance.client().promote("alone", "production", {"source": "dev"})
    await_condition(instance, asked["id"], "awaiting_approval")
    bob = Client(instance.api, instance.client().create_token("bob-alone", "approver")["token"])
    bob.decide("alone", "production", {"approved": True})
    assert await_state(instance, asked["id"], SETTLED)["state"] == "active"
    instance.run("release", "export", digest, "-o", str(archive), "--agent", "alone")
    instance.run("keys", "export", "--instance", "-o", str(key))
    with live_instance(tmp_path / "other") as other:
        assert other.run("keys", "trust", str(key), check=False).returncode == 3, "not as a person's key"
        taken = other.run("release", "import", str(archive))
        assert "`turnout keys trust` trusts a key" in taken.stderr
        other.run("keys", "trust", str(key), "--instance")
        assert other.json("verify", "v1", "--ring", "production", "--agent", "alone")["verified"] is True
        preview = other.json("deploy", "--agent", "alone", "--tag", "v1", "--dry-run")
        assert preview["digest"] == digest
        assert other.run("deploy", "--agent", "alone", check=False).returncode == 3
        done = other.json("deploy", "--agent", "alone", "--tag", "v1")
        assert (done["digest"], done["ring"], done["state"]) == (digest, "dev", "active")


def test_a_layout_and_an_archive_of_other_tools_are_taken_too(instance: LiveInstance, tmp_path: Path) -> None:
    digest = push_tiny(instance, tmp_path / "agent", agent="foreign")
    ours, layout, foreign = tmp_path / "ours.tar", tmp_path / "layout", tmp_path / "foreign.tar"
    instance.run("release", "export", digest, "-o", str(ours), "--agent", "foreign")
    with tarfile.open(ours) as archive:
        archive.extractall(layout, filter="data")
    index = json.loads((layout / "index.json").read_bytes())
    for entry in index["manifests"]:  # as others write it: without what turnout adds
        del entry["annotations"], entry["artifactType"]
    index["manifests"] = index["manifests"][:1]
    (layout / "index.json").write_text(json.dumps(index))
    with tarfile.open(foreign, "w") as archive:
        archive.add(layout, arcname=".")
    with live_instance(tmp_path / "other") as other:
        for source in (foreign, layout):
            assert other.json("release", "import", str(source), "--tag", "v1")["digest"] == digest
        assert deploy(other, "foreign", digest)["state"] == "active"


def test_an_archive_that_was_changed_is_refused_and_nothing_of_it_is_visible(
    instance: LiveInstance, tmp_path: Path
) -> None:
    digest = push_tiny(instance, tmp_path / "agent", agent="cut")
    archive = tmp_path / "release.tar"
    instance.run("release", "export", digest, "-o", str(archive), "--agent", "cut")
    whole = archive.read_bytes()
    with live_instance(tmp_path / "other") as other:
        for damaged in (whole[: len(whole) // 2], whole.replace(b'"agent":"cut"', b'"agent":"cot"'), b"no archive"):
            archive.write_bytes(damaged)
            refused = other.run("release", "import", str(archive), check=False)
            assert refused.returncode in (1, 3), refused.stderr
            assert other.json("status")["agents"] == []
        archive.write_bytes(whole)
        assert other.json("release", "import", str(archive))["digest"] == digest


def test_garbage_is_what_no_version_ring_or_push_needs(tmp_path: Path) -> None:
    with live_instance(tmp_path / "state") as own:
        digests = [push_tiny(own, tmp_path / name, name) for name in ("one", "two", "three")]
        for digest in digests[:2]:
            deploy(own, "tiny", digest)
        for version in ("v1", "v2", "v3"):
            own.run("release", "untag", version, "--agent", "tiny")
        nothing = {"releases": [], "blobs": 0, "bytes": 0, "dry_run": False}
        assert own.json("release", "collect-garbage") == nothing, "everything is fresh: a push may be under way"
        age(tmp_path / "state" / "artifacts")
        would = own.json("release", "collect-garbage", "--dry-run")
        assert would["releases"] == [digests[2]], "the second serves and the first is its last-good"
        assert own.json("release", "collect-garbage") == {**would, "dry_run": False}
        assert own.json("verify") == {"damages": []}
        gone = own.run("release", "export", digests[2], "-o", str(tmp_path / "x"), "--agent", "tiny", check=False)
        assert gone.returncode == 4
        assert own.client().roll_back("tiny", "dev", {})["digest"] == digests[0]
        assert push_tiny(own, tmp_path / "three", "three") == digests[2], "it can be pushed again"
        assert deploy(own, "tiny", digests[2], override="it was not tried")["state"] == "active"


def age(store: Path) -> None:
    """As if everything had been pushed two days ago."""
    before = time.time() - 2 * 86_400
    for path in (store / "blobs").rglob("*"):
        os.utime(path, (before, before))


@pytest.mark.parametrize("verb", [("untag", "v1", "--agent", "tiny"), ("collect-garbage",)])
def test_only_admins_let_releases_go(instance: LiveInstance, tmp_path: Path, verb: tuple[str, ...]) -> None:
    push_tiny(instance, tmp_path / "agent")
    token = instance.json("tokens", "create", f"dev-{verb[0]}", "--role", "developer")["token"]
    refused = instance.run("release", *verb, check=False, token=token)
    assert refused.returncode == 6
