"""The verbs as people and programs meet them: what they print, what they change, and that a dry run changes nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.e2e.tiny_agent import PLAIN_RINGS, write_agent
from tests.e2e.workshop import deploy, push_tiny
from tests.live import LiveInstance, wait_until

DEPLOYMENT = {"id", "agent", "ring", "digest", "state", "kind", "condition"}
RING = {"ring", "stable", "candidate", "weight", "last_good", "active_deployment", "url"}
WRITTEN = ("agents", "releases", "tags", "deployments", "pointers", "approvals", "quarantines", "events", "tokens")


def test_the_keys_that_programs_rely_on_are_there(instance: LiveInstance, tmp_path: Path) -> None:
    folder = str(write_agent(tmp_path, agent="keys"))
    built = instance.json("build", folder)
    assert {"digest", "version", "components"} <= built.keys()
    assert {"code", "prompts", "config"} <= built["components"].keys()
    assert all(digest.startswith("sha256:") and len(digest) == 71 for digest in built["components"].values())

    deployed = instance.json("deploy", folder)
    promoted = instance.json("promote", "keys", "--to", "staging")
    write_agent(tmp_path, "two", agent="keys")
    instance.json("deploy", folder)
    rolled_back = instance.json("rollback", "keys", "--ring", "dev")
    for view in (deployed, promoted, rolled_back):
        assert view.keys() >= DEPLOYMENT
    assert [view["kind"] for view in (deployed, promoted, rolled_back)] == ["deploy", "promote", "rollback"]

    status = instance.json("status", "keys")
    assert status["agent"] == "keys"
    assert [ring["ring"] for ring in status["rings"]] == ["dev", "staging", "production"]
    assert all(ring.keys() >= RING for ring in status["rings"])
    shown = instance.json("deployments", "status", deployed["id"])
    assert shown.keys() >= DEPLOYMENT
    assert all(step.keys() == {"from", "to", "at", "actor", "reason"} for step in shown["transitions"])


def test_a_dry_run_changes_nothing(instance: LiveInstance, tmp_path: Path) -> None:
    rings = "[rings.dev]\ncanary = [{ weight = 5, tasks = 9 }]\n\n[rings.production]\napprovals = 2\n"
    deploy(instance, "dry", push_tiny(instance, tmp_path, "one", agent="dry", rings=rings))
    write_agent(tmp_path, "two", agent="dry", rings=rings)
    before = _everything(instance, tmp_path)
    deployed = instance.run("deploy", str(tmp_path), "--dry-run")
    promoted = instance.json("promote", "dry", "--to", "production", "--dry-run")
    assert _everything(instance, tmp_path) == before
    assert "nothing was changed" in deployed.stdout
    assert "changes  prompts" in deployed.stdout
    assert "canary: 5 % until 9 tasks" in deployed.stdout
    assert any(step.startswith("approval: 2") for step in promoted["steps"])
    assert promoted["dry_run"] is True


def test_skip_build_tag_and_force_choose_what_is_deployed(instance: LiveInstance, tmp_path: Path) -> None:
    folder = str(write_agent(tmp_path, agent="chosen"))
    first = instance.json("deploy", folder, "--tag", "v1.0.0")
    assert first["version"] == "v1.0.0"
    again = instance.json("deploy", folder)
    assert again["id"] == first["id"]
    forced = instance.json("deploy", folder, "--force")
    assert (forced["id"] != first["id"], forced["digest"]) == (True, first["digest"])

    write_agent(tmp_path, "two", agent="chosen")
    skipped = instance.json("deploy", folder, "--skip-build")
    assert skipped["digest"] == first["digest"]
    second = instance.json("deploy", folder)
    assert second["digest"] != first["digest"]
    taken = instance.run("build", folder, "--tag", "v1.0.0", check=False)
    assert taken.returncode == 5
    assert "already names" in taken.stderr
    named = instance.json("deploy", folder, "--skip-build", "--tag", "v1.0.0")
    assert (named["digest"], named["state"]) == (first["digest"], "active")


def test_logs_show_what_agents_print_and_follow_shows_what_comes(instance: LiveInstance, tmp_path: Path) -> None:
    deploy(instance, "chatty", push_tiny(instance, tmp_path, "one", agent="chatty"))
    assert "one listens" in instance.run("logs", "chatty", "--ring", "dev").stdout
    command = [sys.executable, "-m", "turnout.cli.main", "logs", "chatty", "--ring", "dev", "-f"]
    seen = tmp_path / "followed.txt"
    with seen.open("wb") as file:
        env = {**os.environ, "TURNOUT_STATE": str(instance.state)}
        following = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL, env=env)
    try:
        wait_until(lambda: "one listens" in seen.read_text(), 15)
        deploy(instance, "chatty", push_tiny(instance, tmp_path, "two", agent="chatty"))
        wait_until(lambda: "two listens" in seen.read_text(), 15, seen.read_text)
        assert seen.read_text().count("one listens") == 1
    finally:
        following.terminate()
        following.wait(10)


def test_history_and_diff_tell_what_happened_and_what_changed(instance: LiveInstance, tmp_path: Path) -> None:
    push_tiny(instance, tmp_path, "one", agent="told")
    deploy(instance, "told", push_tiny(instance, tmp_path, "two", agent="told"), reason="the note was wrong")
    events = instance.json("history", "told", "--all")["events"]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    created = next(event for event in events if event["type"] == "deployment.created")
    assert (created["actor"], created["data"]["reason"]) == ("admin", "the note was wrong")
    assert {event["type"] for event in events} >= {"release.pushed", "deployment.transitioned", "pointer.changed"}
    releases = instance.json("history", "told", "--releases")["releases"]
    assert {release["version"] for release in releases} == {"v1", "v2"}
    changed = instance.json("diff", "v1", "ring:dev", "--agent", "told")
    assert changed["changed"] == ["prompts"]
    shown = instance.run("diff", "v1", "v2", "--agent", "told").stdout
    assert "-one" in shown
    assert "+two" in shown


def test_tokens_say_who_may_do_what_and_can_be_revoked(instance: LiveInstance, tmp_path: Path) -> None:
    folder = str(write_agent(tmp_path, agent="guarded", rings=PLAIN_RINGS))
    viewer = instance.json("tokens", "create", "vera", "--role", "viewer")["token"]
    developer = instance.json("tokens", "create", "dave", "--role", "developer")["token"]
    listed = instance.run("tokens", "list", "--json").stdout
    assert "vera" in listed
    assert viewer not in listed
    assert viewer not in (instance.state / "turnout.db").read_bytes().decode("latin-1")

    forbidden = instance.run("deploy", folder, check=False, token=viewer)
    assert forbidden.returncode == 6
    assert "role viewer" in forbidden.stderr
    assert instance.json("deploy", folder, token=developer)["actor"] == "dave"
    instance.run("promote", "guarded", "--to", "staging", token=developer)
    production = instance.run("promote", "guarded", "--to", "production", check=False, token=developer)
    assert production.returncode == 6

    instance.run("tokens", "revoke", "vera")
    revoked = instance.run("status", check=False, token=viewer)
    assert revoked.returncode == 6
    assert "not known" in revoked.stderr


def test_the_digest_does_not_depend_on_folder_umask_times_or_file_order(instance: LiveInstance, tmp_path: Path) -> None:
    one = write_agent(tmp_path / "one", agent="same")
    digests = {instance.json("build", str(one), "--no-push")["digest"]}
    former = os.umask(0o077)
    try:
        other = tmp_path / "another place" / "two"
        (other / "prompts").mkdir(parents=True)
        for number, path in enumerate(sorted(one.rglob("*.*"), reverse=True)):
            if ".turnout" not in path.parts and path.is_file():
                copy = other / path.relative_to(one)
                copy.write_bytes(path.read_bytes())
                os.utime(copy, (number, 1_000_000 + number))
        digests.add(instance.json("build", str(other), "--no-push")["digest"])
    finally:
        os.umask(former)
    assert len(digests) == 1


def _everything(instance: LiveInstance, folder: Path) -> tuple[list[list[Any]], list[str]]:
    """All that a deployment writes: rows, and the files of the store, of the releases and beside the manifest."""
    with closing(sqlite3.connect(f"file:{instance.state}/turnout.db?mode=ro", uri=True)) as database:
        rows = [database.execute(f"SELECT * FROM {table}").fetchall() for table in WRITTEN]
    folders = (instance.state / "artifacts", instance.state / "runtime" / "releases", folder)
    return rows, [str(path) for root in folders for path in sorted(root.rglob("*"))]
