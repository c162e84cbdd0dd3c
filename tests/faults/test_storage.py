"""Faults of what is stored: a full disk, a flipped byte, a server that is killed in the middle of a migration."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import turnout.db
from tests.e2e.callers import SteadyCaller
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import deploy, push_tiny
from tests.live import LiveInstance, live_instance
from turnout.artifacts.layout import OciLayoutStore

MIGRATION = """
import os, signal
from alembic import op

revision, down_revision = "9999", "{before}"

def upgrade():
    op.execute("ALTER TABLE agents ADD COLUMN colour TEXT")
    op.execute("UPDATE agents SET colour = 'blue'")
    op.execute("CREATE TABLE colours (name TEXT)")
    if os.environ.get("KILL_IN_MIGRATION"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "turnout-test", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_and_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    with live_instance(small_disk / "state") as instance:
        first = deploy(instance, "tiny", push_tiny(instance, folder, "one"))["digest"]
        with SteadyCaller(instance, "/tiny/dev/") as caller:
            (folder / "weights.bin").write_bytes(random.Random(1).randbytes(36 << 20))
            too_large = instance.run("deploy", str(folder), check=False)
            (folder / "weights.bin").write_bytes(random.Random(2).randbytes(8 << 20))
            ballast = small_disk / "ballast"
            _leave_room(ballast, 11 << 20)
            no_room_to_unpack = instance.run("deploy", str(folder), check=False)
            _leave_room(ballast, 0)
            write_agent(folder, "three")
            full = instance.run("deploy", str(folder), check=False)
            shown = instance.json("status", "tiny")["rings"][0]["stable"]
            ballast.unlink()
            (folder / "weights.bin").unlink()
            done = instance.json("deploy", str(folder))
            caller.check()
        for ended in (too_large, full):
            assert ended.returncode == 7, ended.stderr
            assert "full" in ended.stderr
            assert "hint:" in ended.stderr
        assert no_room_to_unpack.returncode == 8, no_room_to_unpack.stderr
        assert "is full" in no_room_to_unpack.stdout
        assert shown == first
        assert caller.releases.keys() == {first, done["digest"]}
        assert list(OciLayoutStore(instance.state / "artifacts").damages()) == []


def test_a_flipped_byte_is_found_named_and_never_deployed(instance: LiveInstance, tmp_path: Path) -> None:
    first = deploy(instance, "damaged", push_tiny(instance, tmp_path, "one", agent="damaged"))["digest"]
    push_tiny(instance, tmp_path, "two", agent="damaged")
    release = instance.client().release("damaged", "v2")
    blob = release["components"]["prompts"]["digest"]
    path = instance.state / "artifacts" / "blobs" / "sha256" / blob.removeprefix("sha256:")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)

    with SteadyCaller(instance, "/damaged/dev/") as caller:
        ended = instance.run("deploy", str(tmp_path), "--skip-build", "--tag", "v2", check=False)
        caller.check()
    assert ended.returncode == 8
    assert f"the blob {blob} is damaged" in ended.stdout
    assert caller.releases.keys() == {first}
    verified = instance.run("verify", "--state", str(instance.state), check=False)
    assert verified.returncode == 1
    assert blob in verified.stderr
    assert "build and push the release again" in verified.stderr

    mended = instance.json("deploy", str(tmp_path))  # what the hint says
    assert (mended["state"], mended["digest"]) == ("active", release["digest"])
    assert instance.run("verify", "--state", str(instance.state)).returncode == 0


def test_a_server_that_is_killed_in_a_migration_leaves_the_old_schema_and_the_callers_alone(tmp_path: Path) -> None:
    migrating = (sys.executable, "-m", "tests.faults.migrating_server", "up")
    (tmp_path / "9999_colours.py").write_text(MIGRATION.format(before=_newest_migration()))
    upgrade = {"EXTRA_MIGRATION": str(tmp_path / "9999_colours.py")}
    with live_instance(tmp_path / "state") as instance:
        stable = deploy(instance, "tiny", push_tiny(instance, tmp_path / "agent"))["digest"]
        database = instance.state / "turnout.db"
        with SteadyCaller(instance, "/tiny/dev/") as caller:
            instance.kill()
            before = _schema(database)
            assert _start_and_wait(instance, migrating, {**upgrade, "KILL_IN_MIGRATION": "1"}) == -signal.SIGKILL
            assert _schema(database) == before
            newer = LiveInstance(instance.state, instance.port, instance.traffic_port, server=migrating, env=upgrade)
            newer.start()
            assert newer.ring("tiny", "dev")["stable"] == stable
            assert len(_schema(database)) == len(before) + 1
            newer.kill()
            refused = _start_and_wait(instance, instance.server, {})
            caller.check()
        assert refused == 1
        assert "was written by a newer turnout" in instance.server_log()
        assert "restore the state folder from a backup" in instance.server_log()


def _newest_migration() -> str:
    versions = Path(turnout.db.__file__).parent / "migrations" / "versions"
    return max(path.name[:4] for path in versions.glob("[0-9]*.py"))


def _schema(database: Path) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def _leave_room(ballast: Path, room: int) -> None:
    """Fill the file system until so many bytes are left, while others write too."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for step in (1 << 20, 4096):
            while _free(ballast.parent) >= room + step or (step == 4096 and room == 0):
                file.write(bytes(step))


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _start_and_wait(instance: LiveInstance, server: tuple[str, ...], env: dict[str, str]) -> int:
    """Start a server that is expected to end by itself; its exit code."""
    command = [*server, "--state", str(instance.state), "--port", str(instance.port)]
    command += ["--traffic-port", str(instance.traffic_port)]
    with (instance.state / "server.log").open("ab") as log:
        return subprocess.run(
            command, stdout=log, stderr=log, env={**os.environ, **env}, timeout=60, check=False
        ).returncode
