"""The two files that tell a running Envoy what to route. Each is replaced atomically, and only when it changes.

They are not flushed to the disk: after a power failure the server renders them again from its database.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from turnout.domain.errors import RouterUnavailable
from turnout.domain.models import Routes
from turnout.traffic.admin import CLUSTERS, ROUTES
from turnout.traffic.snapshot import ROUTE_CONFIG_NAME, Snapshot, build_snapshot, parse_document, render_document


class ConfigFiles:
    """What the files hold, and their versions as Envoy reports them (by subscription: `CLUSTERS`, `ROUTES`)."""

    def __init__(self, folder: Path) -> None:
        self.clusters_path = folder / "clusters.json"
        self.routes_path = folder / "routes.json"
        self.content = Snapshot({}, "")
        self.versions: dict[str, str] = {}

    def load(self) -> None:
        """Read what an earlier run wrote. Files that are missing or damaged are written so that they route nothing."""
        try:
            clusters = self._load(self.clusters_path, CLUSTERS)
            routes = self._load(self.routes_path, ROUTES)
            self.content = Snapshot(clusters, routes[ROUTE_CONFIG_NAME])
        except (OSError, ValueError, KeyError):
            self.content = Snapshot({"": ""}, "")  # differs from any, so that both files are written
            self.write(build_snapshot(Routes(())))

    def write(self, snapshot: Snapshot) -> None:
        """Make the files hold the snapshot, backends first. Raises `RouterUnavailable` when the disk refuses."""
        if snapshot.clusters != self.content.clusters:
            ordered = [snapshot.clusters[name] for name in sorted(snapshot.clusters)]
            self.versions[CLUSTERS] = self._write(self.clusters_path, ordered)
            self.content = Snapshot(snapshot.clusters, self.content.routes)
        if snapshot.routes != self.content.routes:
            self.versions[ROUTES] = self._write(self.routes_path, [snapshot.routes])
            self.content = snapshot

    def _load(self, path: Path, subscription: str) -> dict[str, str]:
        text = path.read_text(encoding="utf-8")
        resources = parse_document(text)
        self.versions[subscription] = str(json.loads(text)["version_info"])
        return resources

    def _write(self, path: Path, resources: list[str]) -> str:
        document = render_document(resources)
        try:
            swap_file(path, document.text)
        except OSError as error:
            raise RouterUnavailable(
                f"{path} cannot be written: {error.strerror}", hint="make room on the disk of the state folder"
            ) from error
        return document.version


def replace_file(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new text, never a part of it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def swap_file(path: Path, text: str) -> None:
    """Like `replace_file`, for what must not wait for the disk: the path is a link, and it is the link that is replaced.

    Replacing a file itself makes ext4 write its text to the disk first, which takes up to tens of milliseconds when the
    disk is busy, in the middle of a rollback.
    """
    fresh = path.with_name(f".{path.name}.{time.time_ns():x}")
    fresh.write_text(text, encoding="utf-8")
    link = path.with_name(f".{path.name}.link")
    try:
        link.symlink_to(fresh.name)
    except FileExistsError:  # left behind by a crash
        link.unlink()
        link.symlink_to(fresh.name)
    former = path.readlink() if path.is_symlink() else None
    link.replace(path)
    if former is not None:
        path.with_name(former.name).unlink(missing_ok=True)
