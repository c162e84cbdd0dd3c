"""Which agent a verb means when none is named."""

from __future__ import annotations

from pathlib import Path

from turnout.domain.errors import NotFound


def agent_here() -> str:
    """The agent of `turnout.toml` in this folder. Raises `NotFound`, `ManifestError`."""
    from turnout.manifest import MANIFEST_NAME, load_manifest

    if not Path(MANIFEST_NAME).exists():
        raise NotFound("no agent was named and there is no turnout.toml here", hint="name it with --agent")
    return load_manifest(Path()).agent
