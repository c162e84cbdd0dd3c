"""What others move or store for the same folder: a Docker engine, a tar layer, restic."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.contract.registry_server import RegistryServer
from tests.live import LiveInstance, wait_until

from benchmarks.artifact_data import AGENT, run
from benchmarks.artifact_proxy import CountingProxy, counting_proxy
from turnout.artifacts.archive import pack
from turnout.artifacts.select import select_files
from turnout.client import Client
from turnout.manifest import load_manifest

_IMAGE = "agent"


class Rival(Protocol):
    """Something that takes in a folder again and again."""

    @property
    def name(self) -> str:
        """How it is called in the tables."""

    def take(self, folder: Path) -> int:
        """Take in the folder as it is now. Returns the bytes that were moved or stored for it."""


@dataclass(frozen=True, slots=True)
class Docker:
    """`docker build` and `docker push` to a registry through a counting proxy."""

    proxy: CountingProxy
    env: dict[str, str]
    dockerfile: Path
    name: str = "docker build + docker push"

    def take(self, folder: Path) -> int:
        """See `Rival`."""
        before = self.proxy.sent
        image = f"127.0.0.1:{self.proxy.port}/{_IMAGE}"
        run("docker", "build", "--quiet", "--file", str(self.dockerfile), "--tag", image, str(folder), env=self.env)
        run("docker", "push", "--quiet", image, env=self.env)
        return self.proxy.sent - before


@dataclass(frozen=True, slots=True)
class TarLayer:
    """The data as one tar, as an image has it, uncompressed, uploaded by turnout's client through a counting proxy."""

    proxy: CountingProxy
    token: str
    name: str = "a tar layer, turnout's client"

    def take(self, folder: Path) -> int:
        """See `Rival`."""
        before = self.proxy.sent
        files = select_files(folder, load_manifest(folder)).data
        seen = hashlib.sha256()
        for chunk in pack(files):
            seen.update(chunk)
        client = Client(f"http://127.0.0.1:{self.proxy.port}", self.token)
        client.put_blob(AGENT, f"sha256:{seen.hexdigest()}", pack(files))
        return self.proxy.sent - before


@dataclass(frozen=True, slots=True)
class Restic:
    """What a repository of restic grows by."""

    repository: Path
    name: str = "restic backup (stored)"

    def take(self, folder: Path) -> int:
        """See `Rival`."""
        env = {"RESTIC_PASSWORD": "none", "RESTIC_REPOSITORY": str(self.repository)}
        if not self.repository.exists():
            run("restic", "init", "--quiet", "--no-cache", env=env)
        before = _folder_size(self.repository)
        run("restic", "backup", "--quiet", "--no-cache", "--exclude", ".turnout", str(folder), env=env)
        return _folder_size(self.repository) - before


@contextmanager
def rivals(
    folder: Path, instance: LiveInstance, proxy: CountingProxy, registry: RegistryServer | None
) -> Iterator[list[Rival]]:
    """Those that this machine has, and what the others would need. Docker comes first, else the tar layer."""
    with ExitStack() as stack:
        found: list[Rival] = []
        if registry and shutil.which("docker") and shutil.which("dockerd") and os.geteuid() == 0:
            found.append(stack.enter_context(_docker(folder, registry)))
        else:
            print("no Docker engine: it needs dockerd, docker-registry and the user root", flush=True)
        found.append(TarLayer(proxy, (instance.state / "admin.token").read_text().strip()))
        if shutil.which("restic"):
            found.append(Restic(folder / "restic"))
        else:
            print("no restic (apt-get install restic)", flush=True)
        yield found


@contextmanager
def _docker(folder: Path, registry: RegistryServer) -> Iterator[Docker]:
    """An engine of its own, with everything below a folder."""
    home = folder / "docker"
    home.mkdir()
    (home / "Dockerfile").write_text("FROM scratch\nCOPY . /agent/\n")
    host = f"unix://{home / 'socket'}"
    env = {"DOCKER_HOST": host, "DOCKER_CONFIG": str(home / "config"), "DOCKER_BUILDKIT": "0"}
    command = ["dockerd", "--host", host, "--data-root", str(home / "data"), "--exec-root", str(home / "exec")]
    command += ["--pidfile", str(home / "pid"), "--bridge", "none", "--iptables=false", "--ip6tables=false"]
    with (home / "log").open("wb") as log:
        engine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: _engine_answers(engine, env), 60, lambda: (home / "log").read_text()[-2000:])
        with counting_proxy(registry.port) as proxy:
            yield Docker(proxy, env, home / "Dockerfile")
    finally:
        engine.terminate()
        engine.wait(60)


def _engine_answers(engine: subprocess.Popen[bytes], env: dict[str, str]) -> bool:
    if engine.poll() is not None:
        raise RuntimeError(f"dockerd ended with {engine.returncode}")
    time.sleep(0.2)
    asked = subprocess.run(["docker", "version"], env={**os.environ, **env}, capture_output=True, check=False)
    return asked.returncode == 0


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
