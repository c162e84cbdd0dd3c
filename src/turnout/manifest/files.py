"""The files that a manifest names: are they there, inside of the agent's folder, and readable?

The checks work on the raw values, so that their problems are reported together with those of the schema.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from turnout.domain.errors import ManifestError
from turnout.manifest.tool_manifest import read_tool_pins
from turnout.manifest.values import path_fault

_INSTRUMENTATION = "opentelemetry-instrumentation"
_SERVERS = ("fastapi", "starlette", "flask", "django", "aiohttp-server", "tornado", "falcon", "pyramid")
_CLIENTS = ("httpx", "requests", "aiohttp-client", "urllib", "urllib3")
_PYTHON_COMMANDS = ("python", "python3")


def file_problems(folder: Path, raw: Mapping[str, Any]) -> Iterator[str]:
    """One line per problem, each opening with the path in `turnout.toml`. `raw` is the parsed file, unchecked.

    What a path alone gives away (absolute, `..`) is left to the schema.
    """
    lock = _path(raw, "code", "lock")
    if lock:
        fault = _file_fault(folder, lock) or _lock_fault(folder, lock)
        yield from _lines("code.lock", fault)
    if _value(raw, "code", "instrument") is True:
        yield from _lines("code.instrument", _instrument_fault(folder, lock))
    script = _script(raw)
    if script:
        yield from _lines("code.start[1]", _file_fault(folder, script))
    tools = _path(raw, "tools", "manifest")
    if tools:
        fault = _file_fault(folder, tools)
        faults = (fault,) if fault else tuple(_tools_faults(folder / tools, tools))
        yield from (f"tools.manifest: {text}" for text in faults)
    data = _path(raw, "data", "path")
    if data:
        yield from _lines("data.path", _data_fault(folder, data, built=bool(_value(raw, "data", "build"))))
    suites = raw.get("evals")
    for at, suite in enumerate(suites if isinstance(suites, list) else ()):
        for key in ("cases", "dataset", "lock"):
            path = _path({"suite": suite}, "suite", key)
            if path:
                yield from _lines(f"evals[{at}].{key}", _file_fault(folder, path))


def _lines(place: str, fault: str | None) -> Iterator[str]:
    if fault:
        yield f"{place}: {fault}"


def _value(raw: Mapping[str, Any], table: str, key: str) -> Any:
    section = raw.get(table)
    return section.get(key) if isinstance(section, Mapping) else None


def _path(raw: Mapping[str, Any], table: str, key: str) -> str | None:
    """A path that the schema finds nothing wrong with."""
    value = _value(raw, table, key)
    return value if isinstance(value, str) and "\0" not in value and not path_fault(value) else None


def _script(raw: Mapping[str, Any]) -> str | None:
    """The Python file that the start command runs, when it plainly names one in the folder."""
    start = _value(raw, "code", "start")
    if not isinstance(start, list) or len(start) < 2 or start[0] not in _PYTHON_COMMANDS:
        return None
    script = start[1]
    if not isinstance(script, str) or not script.endswith(".py") or "\0" in script or script.startswith("/"):
        return None
    return script


def _file_fault(folder: Path, path: str) -> str | None:
    fault = path_fault(path) or _link_fault(folder, path)
    if fault or (folder / path).is_file():
        return fault
    near = difflib.get_close_matches(path, _file_names(folder, (folder / path).parent), n=1)
    return f"{path} is not there" + (f'; did you mean "{near[0]}"?' if near else "")


def _link_fault(folder: Path, path: str) -> str | None:
    try:
        inside = (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return f"{path} is a link that cannot be followed"
    return None if inside else f"{path} is a link that leaves the agent's folder"


def _file_names(folder: Path, parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    return [item.relative_to(folder).as_posix() for item in parent.iterdir() if item.is_file()]


def _lock_fault(folder: Path, lock: str) -> str | None:
    project = PurePosixPath(lock).with_name("pyproject.toml").as_posix()
    if PurePosixPath(lock).name == "uv.lock" and not (folder / project).is_file():
        return f"{lock} needs {project} beside it"
    if lock.endswith(".txt") and (folder / lock).is_file():
        return _unpinned_fault(folder / lock, lock)
    return None


def _unpinned_fault(path: Path, name: str) -> str | None:
    """A requirement without an exact version would be another one tomorrow, under the same digest."""
    continued = False
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        requirement = line.split("#")[0].strip()
        first = not continued
        continued = requirement.endswith("\\")
        exact = "==" in requirement or " @ " in requirement or requirement.startswith("-")
        if requirement and first and not exact:
            return (
                f"{name}, line {number}: {requirement} is not pinned; write the versions of it and of all it needs, "
                "as `uv pip compile` does"
            )
    return None


def _instrument_fault(folder: Path, lock: str | None) -> str | None:
    """Why calls would not tell their task: the agent has to read it where it is called, and to pass it on where it calls."""
    if lock is None:
        return f"needs a code.lock that contains {_INSTRUMENTATION}"
    names = _locked_names(folder / lock)
    if names is None:
        return None  # told of already
    missing = [_INSTRUMENTATION] if _INSTRUMENTATION not in names else []
    for what, known in (("the server", _SERVERS), ("the client", _CLIENTS)):
        if not any(f"{_INSTRUMENTATION}-{name}" in names for name in known):
            missing.append(f"an instrumentation of {what} ({_INSTRUMENTATION}-{', -'.join(known)})")
    return f"{lock} does not contain {' and '.join(missing)}" if missing else None


def _locked_names(path: Path) -> set[str] | None:
    """The normalized names of the packages in a lock file; None for one that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".txt":
            found = re.findall(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)", text, re.MULTILINE)
        else:
            document = tomllib.loads(text)
            found = [item["name"] for item in document.get("package", document.get("packages", []))]
    except (OSError, tomllib.TOMLDecodeError, TypeError, KeyError, AttributeError):
        return None
    return {re.sub(r"[-_.]+", "-", str(name)).lower() for name in found}


def _data_fault(folder: Path, data: str, *, built: bool) -> str | None:
    fault = _link_fault(folder, data)
    if fault or built or (folder / data).exists():
        return fault
    return f"{data} is not there; create it, or give data.build, the command that makes it"


def _tools_faults(path: Path, name: str) -> Iterator[str]:
    try:
        read_tool_pins(path.read_bytes())
    except ManifestError as error:
        yield from (
            (f"{name}, {problem}" for problem in error.problems) if error.problems else (f"{name}: {error.message}",)
        )
    except OSError as error:
        yield f"{name} cannot be read: {error.strerror}"
