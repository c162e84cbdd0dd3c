"""A registry that runs: passwords, TLS, broken lines, and other tools on the same releases."""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.registry_server import CREDENTIALS, RegistryServer, registry_server
from tests.unit.artifacts.agents import FILES, build, write_agent
from tests.unit.artifacts.registry_fake import Clock
from tests.unit.artifacts.test_registry_referrers import PROVENANCE, attest
from turnout.artifacts.build import BuiltRelease
from turnout.artifacts.digest import hex_digits, sha256_digest
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.registry import Credentials, OciRegistryStore, uploads
from turnout.artifacts.registry.client import RegistryClient
from turnout.artifacts.registry.uploads import blob_size, mount_blob
from turnout.artifacts.release import read_release, unpack_release
from turnout.domain.errors import Forbidden, Retryable, SetupFailed

CONTENT = bytes(range(256)) * 800  # 200 KiB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with registry_server(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def store(server: RegistryServer) -> Iterator[OciRegistryStore]:
    with closing(OciRegistryStore(server.location("team"))) as opened:
        yield opened
    server.clear()


@pytest.fixture
def built(store: OciRegistryStore, tmp_path: Path) -> BuiltRelease:
    built = build(write_agent(tmp_path / "agent"), store)
    store.put_release(built.manifest, built.digest, ["v1", "team/best"])
    return built


# --- other tools -----------------------------------------------------------------------------------------------------


def skopeo(*arguments: str) -> bytes:
    command = shutil.which("skopeo")
    if command is None:
        pytest.skip("skopeo is not installed here (apt-get install skopeo)")
    done = subprocess.run([command, "--insecure-policy", *arguments], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_skopeo_reads_what_turnout_pushes(server: RegistryServer, built: BuiltRelease) -> None:
    for tag in ("v1", "team__best", hex_digits(built.digest)):
        name = f"docker://{server.location('team').name}:{tag}"
        assert skopeo("inspect", "--raw", "--tls-verify=false", name) == built.manifest


def test_turnout_reads_what_skopeo_copies_to_a_layout(
    server: RegistryServer, built: BuiltRelease, tmp_path: Path
) -> None:
    name = f"docker://{server.location('team').name}:v1"
    skopeo("copy", "--src-tls-verify=false", name, f"oci:{tmp_path / 'copy'}:v1")
    copy = OciLayoutStore(tmp_path / "copy")
    assert read_release(copy, built.digest).components == built.components
    assert copy.read_all(sha256_digest(built.manifest)) == built.manifest
    copy.put_release(built.manifest, built.digest, ["v1"])
    assert copy.releases() == {built.digest: ("v1",)}
    assert list(copy.damages()) == []


def test_turnout_reads_what_skopeo_copies_to_another_registry(
    server: RegistryServer, built: BuiltRelease, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with registry_server(tmp_path / "other") as other, closing(OciRegistryStore(other.location("copy"))) as copy:
        source, target = server.location("team"), other.location("copy")
        both = ("--src-tls-verify=false", "--dest-tls-verify=false")
        skopeo("copy", *both, f"docker://{source.name}:v1", f"docker://{target.name}:v1")
        assert copy.releases() == {built.digest: ("v1",)}
        assert list(copy.damages()) == []
        unpack_release(copy, built.digest, tmp_path / "unpacked")
        assert (tmp_path / "unpacked" / "server.py").read_bytes() == FILES["server.py"]
        other.overwrite(built.components["code"].digest, b"?")
        assert [digest for digest, _ in copy.damages()] == [built.components["code"].digest]


# --- what distribution does ------------------------------------------------------------------------------------------


def test_referrers_are_kept_though_the_registry_has_no_list_of_them(
    server: RegistryServer, store: OciRegistryStore, built: BuiltRelease
) -> None:
    subject = sha256_digest(built.manifest)
    digest = store.put_referrer(subject, attest(store, subject, "signed"))
    assert [(found.digest, found.artifact_type) for found in store.referrers(subject)] == [(digest, PROVENANCE)]
    assert store.releases() == {built.digest: ("team/best", "v1")}
    server.overwrite(sha256_digest(b"signed"), b"forged")
    assert [damaged for damaged, _ in store.damages()] == [sha256_digest(b"signed")]


def test_a_blob_is_mounted_across_repositories(server: RegistryServer, store: OciRegistryStore) -> None:
    digest = store.write([CONTENT])
    with closing(RegistryClient(server.location("other"))) as client:
        assert blob_size(client, digest) is None
        assert mount_blob(client, digest, "unknown/releases") is False
        assert mount_blob(client, digest, "team/releases") is True
        assert blob_size(client, digest) == len(CONTENT)


# --- who may, and with whom one speaks -------------------------------------------------------------------------------


def test_a_password_is_needed_where_the_registry_asks_for_one(tmp_path: Path) -> None:
    with registry_server(tmp_path, password=True) as guarded:
        with closing(OciRegistryStore(guarded.location("x"), CREDENTIALS)) as store:
            assert store.read_all(store.write([CONTENT])) == CONTENT
        for credentials in (None, Credentials(CREDENTIALS.username, "wrong")):
            with closing(OciRegistryStore(guarded.location("x"), credentials)) as refused:
                with pytest.raises(Forbidden, match="401") as caught:
                    refused.write([CONTENT])
                assert "wrong" not in caught.value.message
                with pytest.raises(Forbidden):
                    refused.releases()


def test_an_own_authority_is_trusted_only_when_it_is_named(tmp_path: Path) -> None:
    with registry_server(tmp_path, tls=True) as secure:
        with closing(OciRegistryStore(secure.location("x"), ca_file=secure.ca_file)) as store:
            assert store.read_all(store.write([CONTENT])) == CONTENT
        with closing(OciRegistryStore(secure.location("x"))) as doubting:
            with pytest.raises(SetupFailed, match="is not trusted") as caught:
                doubting.has(sha256_digest(CONTENT))
            assert "CA file" in (caught.value.hint or "")


def test_a_registry_that_ends_is_unavailable(server: RegistryServer) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        location = replace(server.location("x"), port=unused.getsockname()[1])
        client = RegistryClient(location, sleep=Clock().sleep)
        with closing(OciRegistryStore(location, client=client)) as store, pytest.raises(Retryable, match="reached"):
            store.write([CONTENT])


# --- broken lines ----------------------------------------------------------------------------------------------------


class CuttingLine:
    """Passes connections on to the registry; the first one is cut after so many bytes there or back."""

    def __init__(self, server: RegistryServer, *, there: int | None = None, back: int | None = None) -> None:
        self.cut = threading.Event()
        self._target = ("127.0.0.1", server.port)
        self._limits = [there, back]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._pass_on, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for source in ready:
                    content = source.recv(4096)
                    if not content:
                        return
                    if self._send(content, server if source is client else client, int(source is server)):
                        return

    def _send(self, content: bytes, target: socket.socket, direction: int) -> bool:
        """Whether the line is cut now."""
        left = self._limits[direction]
        target.sendall(content if left is None else content[:left])
        if left is None:
            return False
        self._limits[direction] = left - len(content)
        if left > len(content):
            return False
        self._limits = [None, None]
        self.cut.set()
        return True


@contextmanager
def cut_store(line: CuttingLine, server: RegistryServer) -> Iterator[OciRegistryStore]:
    location = replace(server.location("team"), port=line.port)
    client = RegistryClient(location, sleep=Clock().sleep)
    try:
        with closing(OciRegistryStore(location, client=client)) as store:
            yield store
    finally:
        line.close()


@pytest.mark.parametrize("position", [1, 300, 700, 20_000, 65_536, 66_500, 131_072, 180_000, 205_000, 205_900])
def test_an_upload_arrives_whole_wherever_it_is_cut(
    server: RegistryServer, store: OciRegistryStore, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 64 << 10)
    line = CuttingLine(server, there=position)
    with cut_store(line, server) as cut:
        digest = cut.write([CONTENT])
    assert line.cut.is_set()
    assert store.read_all(digest) == CONTENT


@pytest.mark.parametrize("position", [1, 150, 300, 700, 20_000, 100_000, 205_000, 205_300])
def test_a_download_arrives_whole_wherever_it_is_cut(
    server: RegistryServer, store: OciRegistryStore, position: int
) -> None:
    digest = store.write([CONTENT])
    line = CuttingLine(server, back=position)
    with cut_store(line, server) as cut:
        assert b"".join(cut.read(digest)) == CONTENT
    assert line.cut.is_set()


def test_answers_that_are_lost_on_the_way_back_lose_nothing(
    server: RegistryServer, store: OciRegistryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 64 << 10)
    for position in range(1, 2_600, 400):
        content = CONTENT + str(position).encode()
        line = CuttingLine(server, back=position)
        with cut_store(line, server) as cut:
            digest = cut.write([content])
        assert store.read_all(digest) == content
