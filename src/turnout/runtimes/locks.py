"""Reads lock files: which commands of uv install one, and whether what it installs depends on the release's own files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from turnout.domain.errors import BuildFailed

LOCAL_LINE = re.compile(
    r"^(-e|--editable|-r|--requirement|-c|--constraint|-f|--find-links|\.|/|[\w.-]+/|.*@\s*file:|file:)|\$\{"
)
OPTION = re.compile(r"^--?[a-zA-Z]")
LOCAL_SOURCES = ("directory", "editable", "path")
COMMON = ("--color", "never", "--no-progress", "--no-python-downloads")


def build_commands(uv: str, release: Path, lock: str | None, environment: Path, python: str) -> list[list[str]]:
    """The commands that build an environment, to be run one after the other in the release's folder.

    Raises `BuildFailed` for a lock file of a kind that is not known.
    """
    create = [uv, "venv", *COMMON, "--no-project", "--no-config", "--quiet", "--python", python, str(environment)]
    if lock is None:
        return [create]
    interpreter = str(environment / "bin" / "python")
    name = Path(lock).name
    if name == "uv.lock":
        project = str((release / lock).parent)
        flags = ["--frozen", "--no-install-project", "--no-dev", "--no-editable", "--compile-bytecode"]
        return [create, [uv, "sync", *COMMON, "--project", project, *flags, "--python", interpreter]]
    # What is installed must follow from the lock alone: no configuration of the release, and nothing missing from the list.
    sync = [uv, "pip", "sync", *COMMON, "--no-config", "--compile-bytecode", "--python", interpreter]
    check = [uv, "pip", "check", *COMMON, "--no-config", "--python", interpreter]
    if re.fullmatch(r"pylock(\..+)?\.toml", name):
        return [create, [*sync, lock], check]
    if Path(name).suffix != ".txt":
        raise BuildFailed(f"{lock} is no lock file: requirements.txt, uv.lock and pylock.toml are known")
    hashes = ["--require-hashes"] if all_hashed(release / lock) else []
    return [create, [*sync, "--allow-empty-requirements", *hashes, lock], check]


def all_hashed(requirements: Path) -> bool:
    """Whether every requirement of the file has a hash."""
    required = [line for line in _logical_lines(requirements) if not OPTION.match(line)]
    return bool(required) and all("--hash=" in line for line in required)


def is_self_contained(lock: Path) -> bool:
    """Whether what is installed is determined by the lock file alone, whatever else the release holds."""
    if lock.suffix == ".txt":
        return not any(LOCAL_LINE.search(line) for line in _logical_lines(lock))
    try:
        packages = tomllib.loads(lock.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BuildFailed(f"{lock.name} cannot be read: {error}") from error
    return not any(_is_local(package) for name in ("package", "packages") for package in packages.get(name, ()))


def _is_local(package: dict[str, Any]) -> bool:
    """Whether a package of uv.lock (`source`) or pylock.toml (`directory`, `archive`, `sdist`, `wheels`) is a local file."""
    source = package.get("source", {})
    if any(source.get(kind, ".") != "." for kind in LOCAL_SOURCES) or "://" not in source.get("registry", "://"):
        return True
    files = [package.get("archive", {}), package.get("sdist", {}), *package.get("wheels", ())]
    return "directory" in package or any("path" in file for file in files)


def _logical_lines(requirements: Path) -> list[str]:
    """The lines of a requirements file without comments, continued lines joined."""
    text = requirements.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]
