"""Two releases of one agent that differ as a test wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.unit.artifacts.agents import MANIFEST, build, write_agent
from turnout.artifacts.diff import diff_releases
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.domain.models import ComponentRef, Release
from turnout.schemas import ChangeView, ComponentDiff


@dataclass
class Workshop:
    """Builds releases into one store."""

    folder: Path
    store: MemoryArtifactStore = field(default_factory=MemoryArtifactStore)
    built: int = 0

    def release(self, files: Mapping[str, bytes | None] | None = None, manifest: str = MANIFEST) -> Release:
        """The small agent with other files (None: without that file) or another manifest."""
        self.built += 1
        folder = write_agent(self.folder / f"agent{self.built}", manifest=manifest)
        for name, content in (files or {}).items():
            place = folder / name
            if content is None:
                place.unlink()
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return self.of(folder)

    def of(self, folder: Path) -> Release:
        """The release of a folder."""
        built = build(folder, self.store)
        return Release(built.digest, "support", f"v{self.built}", built.components, built.spec, "ann", 0.0)

    def with_blob(self, release: Release, component: str, content: bytes) -> Release:
        """The release as if a component held something that no build writes."""
        ref = release.components[component]
        other = ComponentRef(self.store.write([content]), ref.media_type, len(content))
        components = {**release.components, component: other}
        return Release(release.digest, "support", "odd", components, release.spec, "ann", 0.0)

    def diff(self, a: Release, b: Release) -> dict[str, ComponentDiff]:
        """By component."""
        return {component["component"]: component for component in diff_releases(self.store, a, b)}

    def changes(self, a: Release, b: Release, component: str) -> list[ChangeView]:
        """Of the one component that is expected to differ."""
        found = self.diff(a, b)
        assert list(found) == [component]
        return found[component]["changes"]


def short(changes: list[ChangeView]) -> list[tuple[Any, ...]]:
    """(kind, path, change, before, after) of each."""
    keys = ("kind", "path", "change", "before", "after")
    return [tuple(change.get(key) for key in keys) for change in changes]


def paths(changes: list[ChangeView]) -> list[tuple[str, str, str]]:
    """(kind, path, change) of each."""
    return [(change["kind"], change["path"], change["change"]) for change in changes]
