"""Debian's docker-registry for tests: on a free loopback port, in a folder of its own, gone at the end."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.live import free_port, wait_until
from turnout.artifacts.registry import Credentials, RegistryLocation, parse_location
from turnout.domain.models import Digest

COMMAND = shutil.which("docker-registry")
CREDENTIALS = Credentials("builder", "correct horse")
_HTPASSWD = "builder:$2b$04$om7JQ7sBcuc4dGpBJjLIhOBi6fFIqDzI/pX0Hi4vko.HSqxDTR3ga\n"


@dataclass(frozen=True)
class RegistryServer:
    """A registry that runs. `ca_file`: the certificate that it shows, if it speaks TLS."""

    folder: Path
    data: Path
    port: int
    ca_file: Path | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def location(self, prefix: str = "") -> RegistryLocation:
        return parse_location(f"registry+{'https' if self.ca_file else 'http'}://{self.address}/{prefix}")

    def overwrite(self, digest: Digest, content: bytes | None) -> None:
        """Change a blob, or remove it if `content` is None, past the registry."""
        digits = digest.removeprefix("sha256:")
        path = self.data / "docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.data, ignore_errors=True)


@contextmanager
def registry_server(folder: Path, *, password: bool = False, tls: bool = False) -> Iterator[RegistryServer]:
    """Run a registry; `password` lets in only `CREDENTIALS`. Skips the test when docker-registry is not installed."""
    if COMMAND is None:
        pytest.skip("docker-registry is not installed here (apt-get install docker-registry)")
    memory = Path("/dev/shm")  # the registry syncs every file: three times as fast here
    data = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else folder))
    server = RegistryServer(folder, data, free_port(), _make_certificate(folder) if tls else None)
    (folder / "config.yml").write_text(json.dumps(_config(server, password=password)))  # JSON is YAML
    (folder / "htpasswd").write_text(_HTPASSWD)
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([COMMAND, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(server), 30, lambda: (folder / "registry.log").read_text()[-2000:])
        yield server
    finally:
        process.kill()
        process.wait()
        server.clear()


def _config(server: RegistryServer, *, password: bool) -> dict[str, object]:
    http: dict[str, object] = {"addr": server.address, "secret": "shared"}
    if server.ca_file:
        http["tls"] = {"certificate": str(server.ca_file), "key": str(server.ca_file.with_suffix(".key"))}
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(server.data)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": http,
    }
    if password:
        config["auth"] = {"htpasswd": {"realm": "releases", "path": str(server.folder / "htpasswd")}}
    return config


def _make_certificate(folder: Path) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed here")
    certificate = folder / "registry.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate


def _answers(server: RegistryServer) -> bool:
    url = f"{server.location().origin}/v2/"
    try:
        return httpx.get(url, verify=False, trust_env=False).status_code in (200, 401)
    except httpx.TransportError:
        return False
