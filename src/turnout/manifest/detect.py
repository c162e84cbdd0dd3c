"""What a folder says about the agent in it, and the commented `turnout.toml` that `turnout init` writes from that."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.manifest.example import example_canary, render_document
from turnout.manifest.values import path_fault

_ENTRY_FILES = ("server.py", "main.py", "app.py", "agent.py")
_ENTRY_FOLDERS = ("", "src/")
_LOCK_FILES = ("uv.lock", "pylock.toml", "requirements.txt")
_PROMPT_SUFFIXES = (".prompt", ".prompt.md")
_DATA_FOLDERS = ("data", "index", "corpus", "knowledge")
_DATA_BUILDS = ("build_index.py", "build_data.py")
_HEALTH_PATHS = ("/ping", "/healthz", "/health")
_ASGI_APP = re.compile(r"^([A-Za-z_]\w*)\s*(?::[^=\n]+)?=\s*(?:\w+\.)?(?:FastAPI|Starlette)\(", re.MULTILINE)
_LARGEST_SOURCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found. `start` is empty and `asgi` None when no way to start the agent was found."""

    agent: str
    start: tuple[str, ...] = ()
    asgi: str | None = None
    lock: str | None = None
    prompts: tuple[str, ...] = ()
    tools: str | None = None
    data: str | None = None
    data_build: tuple[str, ...] = ()
    health: str | None = None


def detect_project(folder: Path) -> Detected:
    """Look at a folder, change nothing. What cannot be read counts as not there."""
    entry = _entry_file(folder)
    asgi = _asgi_entry(folder, entry)
    start = () if asgi else _docker_command(folder) or _script_command(folder, entry)
    data_build = next((("python", name) for name in _DATA_BUILDS if (folder / name).is_file()), ())
    return Detected(
        agent=_slug(folder.resolve().name),
        start=start,
        asgi=asgi,
        lock=_lock(folder),
        prompts=_prompt_globs(folder),
        tools="tools.json" if _is_json(folder / "tools.json") else None,
        data=next((name for name in _DATA_FOLDERS if (folder / name).is_dir()), "index" if data_build else None),
        data_build=data_build,
        health=_health_path(folder, entry),
    )


def render_manifest(detected: Detected) -> str:
    """The commented `turnout.toml` for what was found; what was not found is shown as a comment."""
    code = {"start": list(detected.start), "asgi": detected.asgi, "lock": detected.lock}
    values: dict[str, Any] = {"schema": 1, "agent": detected.agent, "code": _given(code)}
    if detected.prompts:
        values["prompts"] = {"files": list(detected.prompts)}
    if detected.tools:
        values["tools"] = {"manifest": detected.tools}
    if detected.data:
        values["data"] = _given({"path": detected.data, "build": list(detected.data_build)})
    values["health"] = _given({"path": detected.health})
    values["rings"] = {"dev": {}, "staging": {}, "production": {"canary": example_canary()}}
    return render_document(values)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return slug if len(slug) >= 2 else "agent"


def _entry_file(folder: Path) -> str | None:
    candidates = [prefix + name for prefix in _ENTRY_FOLDERS for name in _ENTRY_FILES]
    return next((path for path in candidates if (folder / path).is_file()), None)


def _asgi_entry(folder: Path, entry: str | None) -> str | None:
    """`module:app` when the entry file makes an ASGI application and does not serve it itself."""
    if entry is None or "/" in entry:
        return None
    source = _source(folder / entry)
    found = _ASGI_APP.search(source)
    if found is None or "uvicorn.run(" in source:
        return None
    return f"{entry.removesuffix('.py')}:{found[1]}"


def _docker_command(folder: Path) -> tuple[str, ...]:
    """The last CMD in exec form, with its port replaced by the one that turnout gives."""
    commands = re.findall(r"^\s*CMD\s+(\[.*\])\s*$", _source(folder / "Dockerfile"), re.MULTILINE)
    try:
        parts = json.loads(commands[-1]) if commands else []
    except json.JSONDecodeError:
        return ()
    if not parts or not all(isinstance(part, str) and part for part in parts):
        return ()
    command = [re.sub(r"^(--port=|-p=)\d+$", r"\1{port}", part) for part in parts]
    for index, part in enumerate(command[:-1]):
        if part in ("--port", "-p") and command[index + 1].isdigit():
            command[index + 1] = "{port}"
    script = command[1] if len(command) > 1 and command[0] in ("python", "python3") else ""
    if script.endswith(".py") and (path_fault(script) or not (folder / script).is_file()):
        return ()  # it speaks of the image's own layout
    return tuple(command)


def _script_command(folder: Path, entry: str | None) -> tuple[str, ...]:
    if entry is None:
        return ()
    takes_port = "--port" in _source(folder / entry)
    return ("python", entry, "--port", "{port}") if takes_port else ("python", entry)


def _lock(folder: Path) -> str | None:
    for name in _LOCK_FILES:
        complete = name != "uv.lock" or (folder / "pyproject.toml").is_file()
        if complete and (folder / name).is_file():
            return name
    return None


def _prompt_globs(folder: Path) -> tuple[str, ...]:
    prompts = folder / "prompts"
    globs = ["prompts/**"] if prompts.is_dir() and any(item.is_file() for item in prompts.rglob("*")) else []
    for suffix in _PROMPT_SUFFIXES:
        if any(item.name.endswith(suffix) and item.is_file() for item in folder.glob(f"*{suffix}")):
            globs.append(f"*{suffix}")
    return tuple(globs)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return True


def _health_path(folder: Path, entry: str | None) -> str | None:
    source = _source(folder / entry) if entry else ""
    return next((path for path in _HEALTH_PATHS if f'"{path}"' in source or f"'{path}'" in source), None)


def _source(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_SOURCE).decode(errors="replace")
    except OSError:
        return ""
