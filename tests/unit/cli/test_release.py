"""`turnout release`: files that are written, files that are taken, and what is said when one is not as it should be."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.cli.command import CommandLine
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.handover import hand_over
from turnout.domain.errors import ServerUnreachable


class Office:
    """A server with one release in its store that notes what is asked of it."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryArtifactStore()
        self.release_digest = build(folder, self.store).digest
        self.damages = ["the blob sha256:12 is damaged"]
        self.calls: list[str] = []

    def release(self, agent: str, ref: str) -> dict[str, Any]:
        return {"agent": agent, "version": "v1", "digest": self.release_digest}

    def archive(self, agent: str, ref: str) -> Iterator[bytes]:
        return hand_over(self.store, self.release_digest, "v1").content

    def verification(self, agent: str, ref: str, ring: str | None) -> dict[str, Any]:
        return {"damages": self.damages}

    def missing_blobs(self, agent: str, digests: list[str]) -> list[str]:
        return digests

    def put_blob(self, agent: str, digest: str, chunks: Iterable[bytes]) -> None:
        for _ in chunks:
            pass
        self.calls.append("put_blob")

    def put_release(self, agent: str, digest: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(f"put_release {body['tag']}")
        return {"agent": agent, "version": body["tag"] or "v1", "digest": digest}

    def remove_tag(self, agent: str, tag: str) -> None:
        self.calls.append(f"remove_tag {tag}")


@pytest.fixture
def office(turnout: CommandLine, tmp_path: Path) -> Office:
    office = Office(write_agent(tmp_path / "agent"))
    turnout.speaks_to(office)
    return office


@pytest.fixture
def archive(turnout: CommandLine, office: Office, tmp_path: Path) -> Path:
    """The release as a file."""
    path = tmp_path / "release.tar"
    assert turnout("release", "export", "v1", "-o", str(path), "--agent", "support").code == 0
    return path


# --- export ----------------------------------------------------------------------------------------------------------


def test_an_export_is_one_file_that_says_what_it_is(turnout: CommandLine, office: Office, tmp_path: Path) -> None:
    path = tmp_path / "release.tar"
    done = turnout("release", "export", "v1", "-o", str(path), "--agent", "support", "--json")
    assert done.json() == {
        "agent": "support",
        "digest": office.release_digest,
        "version": "v1",
        "file": str(path),
        "bytes": path.stat().st_size,
    }
    with tarfile.open(path) as written:
        assert {"oci-layout", "index.json"} < set(written.getnames())
    assert sorted(item.name for item in tmp_path.iterdir()) == ["agent", "release.tar"]


@pytest.mark.parametrize("place", ["missing/release.tar", "agent/turnout.toml/release.tar"])
def test_an_export_into_a_folder_that_is_not_there_says_so(
    turnout: CommandLine, office: Office, tmp_path: Path, place: str
) -> None:
    done = turnout("release", "export", "v1", "-o", str(tmp_path / place), "--agent", "support")
    assert done.code == 3
    assert done.err.startswith(f"error: there is no folder {(tmp_path / place).parent}\nhint: ")


def test_an_export_to_where_nothing_can_be_written_says_so(turnout: CommandLine, office: Office) -> None:
    done = turnout("release", "export", "v1", "-o", "/proc/release.tar", "--agent", "support")
    assert done.code == 1
    assert "cannot be used" in done.err
    assert "Traceback" not in done.err


def test_an_export_that_the_server_cuts_names_what_is_damaged(
    turnout: CommandLine, office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(agent: str, ref: str) -> Iterator[bytes]:
        yield b"the beginning"
        raise ServerUnreachable("the connection was cut")

    monkeypatch.setattr(office, "archive", cut)
    export = ("release", "export", "v1", "-o", str(tmp_path / "release.tar"), "--agent", "support")
    damaged = turnout(*export)
    assert damaged.code == 1
    assert damaged.err.startswith("error: the blob sha256:12 is damaged\nhint: build and push")
    monkeypatch.setattr(office, "damages", [])
    assert turnout(*export).code == 7
    assert [item.name for item in tmp_path.iterdir()] == ["agent"]


# --- import ----------------------------------------------------------------------------------------------------------


def test_what_was_exported_is_taken_with_its_version(turnout: CommandLine, office: Office, archive: Path) -> None:
    done = turnout("release", "import", str(archive))
    assert done.code == 0, done.err
    assert done.out == f"support v1  {office.release_digest}\n"
    assert office.calls[-1] == "put_release v1"


def test_a_dry_run_of_an_import_reads_everything_and_sends_nothing(
    turnout: CommandLine, office: Office, archive: Path
) -> None:
    done = turnout("release", "import", str(archive), "--dry-run", "--tag", "v9", "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert (found["digest"], found["version"], found["dry_run"]) == (office.release_digest, "v9", True)
    assert office.calls == []
    damage(archive)
    assert turnout("release", "import", str(archive), "--dry-run").code == 1


def test_a_file_that_was_changed_on_its_way_is_named_and_not_taken(
    turnout: CommandLine, office: Office, archive: Path
) -> None:
    damage(archive)
    done = turnout("release", "import", str(archive))
    assert done.code == 1
    assert f"error: {archive} cannot be taken: the blob sha256:" in done.err
    assert "hint: hand it over again" in done.err
    assert not any(call.startswith("put_release") for call in office.calls)


def damage(archive: Path) -> None:
    """Change one letter of a prompt inside."""
    content = archive.read_bytes()
    assert b"You are kind." in content
    archive.write_bytes(content.replace(b"You are kind.", b"You are king."))


@pytest.mark.parametrize("length", [0, 700, 10_000])
def test_a_file_that_was_cut_is_named_and_not_taken(
    turnout: CommandLine, office: Office, archive: Path, length: int
) -> None:
    archive.write_bytes(archive.read_bytes()[:length])
    done = turnout("release", "import", str(archive))
    assert done.code == 3
    assert f"error: {archive} cannot be taken: the archive ends in the middle" in done.err
    assert office.calls == []


def test_a_layout_that_lost_a_blob_is_not_taken(
    turnout: CommandLine, office: Office, archive: Path, tmp_path: Path
) -> None:
    with tarfile.open(archive) as whole:
        whole.extractall(tmp_path / "layout", filter="data")
    (tmp_path / "layout" / "blobs" / "sha256" / office.release_digest.removeprefix("sha256:")).unlink()
    done = turnout("release", "import", str(tmp_path / "layout"))
    assert done.code == 1
    assert f"the blob {office.release_digest} is not stored" in done.err
    assert office.calls == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "blobs/../../evil"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archive_that_would_leave_its_folder_is_not_taken(
    turnout: CommandLine, office: Office, tmp_path: Path, name: str, kind: bytes
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(member)
    done = turnout("release", "import", str(tmp_path / "evil.tar"))
    assert done.code == 3
    assert "cannot be taken" in done.err
    assert not list(tmp_path.rglob("evil"))


def test_a_folder_that_is_no_layout_is_said_to_be_none(turnout: CommandLine, office: Office, tmp_path: Path) -> None:
    done = turnout("release", "import", str(tmp_path / "agent"))
    assert done.code == 3
    assert "is no OCI image layout" in done.err


# --- adopt and untag -------------------------------------------------------------------------------------------------


def test_a_release_that_the_store_has_already_is_recorded(turnout: CommandLine, office: Office) -> None:
    done = turnout("release", "adopt", "support", office.release_digest, "--tag", "v4")
    assert done.out == f"support v4  {office.release_digest}\n"
    assert office.calls == ["put_release v4"]


def test_a_dry_run_of_untag_says_what_the_version_names(turnout: CommandLine, office: Office) -> None:
    done = turnout("release", "untag", "v1", "--agent", "support", "--dry-run")
    assert (done.code, office.calls) == (0, [])
    assert f"v1 names {office.release_digest}" in done.out
    assert turnout("release", "untag", "v1", "--agent", "support", "--json").json()["untagged"] is True
    assert office.calls == ["remove_tag v1"]
