"""A small agent that has all components, for tests of what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from turnout.artifacts.build import BuiltRelease, build_release
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.manifest import load_manifest
from turnout.ports import ArtifactStore

MANIFEST = """
schema = 1
agent = "support"
[code]
start = ["python", "server.py", "--port", "{port}"]
lock = "requirements.txt"
exclude = ["notes/", "*.log"]
[model]
provider = "anthropic"
name = "claude-sonnet-4-5-20250929"
parameters = { temperature = 0.2 }
[prompts]
files = ["prompts/**"]
[tools]
manifest = "tools.json"
[data]
path = "index"
[env]
LOG_LEVEL = "info"
[rings.dev]
[rings.production]
canary = [{ weight = 10, time = "5m" }]
"""

FILES: Mapping[str, bytes] = {
    "server.py": b"print('hello')\n",
    "lib/answer.py": b"ANSWER = 42\n",
    "requirements.txt": b"",
    "prompts/system.md": b"You are kind.\n",
    "prompts/de/system.md": "Du bist höflich.\n".encode(),
    "tools.json": b'{"tools": [ {"name": "search"} ]}\n',
    "index/part-0.bin": bytes(range(256)) * 40,
    "index/part-1.bin": b"",
    "notes/draft.md": b"left out",
    "debug.log": b"left out",
    "__pycache__/server.pyc": b"left out",
    ".env": b"SECRET=left out",
}
COMPONENTS = ("code", "model", "prompts", "tools", "data", "config")


def write_agent(folder: Path, *, order: Iterable[str] | None = None, manifest: str = MANIFEST) -> Path:
    """The agent in a new folder, its files created in the given order."""
    folder.mkdir(parents=True)
    (folder / "turnout.toml").write_text(manifest)
    for name in order or FILES:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(FILES[name])
    (folder / "server.py").chmod(0o755 & ~_umask())
    return folder


def build(folder: Path, store: ArtifactStore | None = None) -> BuiltRelease:
    """The release of a folder, in a store of its own unless one is given."""
    return build_release(folder, load_manifest(folder), store or MemoryArtifactStore())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
