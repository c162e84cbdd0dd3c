"""Lock files → dependencies by name, and what differs: versions, and hashes or sources under one version."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from turnout.artifacts.diff.changes import ABSENT, value_change
from turnout.schemas import ChangeView

LONGEST_LOCK = 4 << 20  # bytes
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*(.*)", re.DOTALL)
_HASH = re.compile(r"--hash[=\s]+(\S+)")


@dataclass(frozen=True, slots=True)
class Pin:
    """A package at one version. `extra`: the marker and the like, under which it is installed."""

    version: str
    source: str = ""
    extra: str = ""
    hashes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lock:
    """The packages by normalized name (one may be locked at several versions), and the options that hold for all."""

    packages: Mapping[str, tuple[Pin, ...]]
    options: tuple[str, ...] = ()


def parse_lock(path: str, content: str) -> Lock | None:
    """A requirements.txt, uv.lock or pylock.toml; None for what is neither, or malformed."""
    if path.endswith(".txt"):
        return _parse_requirements(content)
    try:
        document = tomllib.loads(content)
        uv = PurePosixPath(path).name == "uv.lock"
        return _parse_uv(document) if uv else _parse_pylock(document)
    except (tomllib.TOMLDecodeError, TypeError, AttributeError, KeyError, RecursionError):
        return None


def diff_locks(before: Lock, after: Lock) -> Iterator[ChangeView]:
    """Dependencies by name with their versions, then the options."""
    for name in sorted({*before.packages, *after.packages}):
        old, new = before.packages.get(name), after.packages.get(name)
        if old != new:
            yield value_change("dependency", name, _versions(old), _versions(new), _note(old, new))
    for option in sorted({*before.options, *after.options}):
        if option not in before.options:
            yield value_change("option", option, after=True)
        elif option not in after.options:
            yield value_change("option", option, before=True)


def _versions(pins: tuple[Pin, ...] | None) -> Any:
    if pins is None:
        return ABSENT
    return ", ".join(dict.fromkeys(pin.version or pin.source or "any" for pin in pins))


def _note(old: tuple[Pin, ...] | None, new: tuple[Pin, ...] | None) -> str:
    """What else is another, apart from the version. With another version the hashes are others anyway."""
    if not old or not new:
        return ""
    parts = []
    if {pin.source for pin in old} != {pin.source for pin in new}:
        parts.append("another source")
    if {pin.extra for pin in old} != {pin.extra for pin in new}:
        parts.append("other conditions")
    if _versions(old) == _versions(new) and {h for p in old for h in p.hashes} != {h for p in new for h in p.hashes}:
        parts.append("other hashes under the same version")
    return ", ".join(parts)


def _lock(pins: list[tuple[str, Pin]], options: list[str]) -> Lock:
    packages: dict[str, list[Pin]] = {}
    for name, pin in pins:
        packages.setdefault(re.sub(r"[-_.]+", "-", name).lower(), []).append(pin)
    ordered = {
        name: tuple(sorted(found, key=lambda pin: (pin.version, pin.extra, pin.source)))
        for name, found in packages.items()
    }
    return Lock(ordered, tuple(options))


# --- the formats -----------------------------------------------------------------------------------------------------


def _parse_requirements(content: str) -> Lock:
    pins, options = [], []
    for line in re.sub(r"\\\r?\n", " ", content).splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        match = None if text.startswith("-") else _REQUIREMENT.fullmatch(text)
        if match:
            pins.append((match[1], _requirement_pin(match[2] or "", match[3])))
        elif text:
            options.append(" ".join(text.split()))
    return _lock(pins, options)


def _requirement_pin(extras: str, rest: str) -> Pin:
    hashes = frozenset(_HASH.findall(rest))
    wanted, _, marker = _HASH.sub("", rest).partition("@" if rest.startswith("@") else ";")
    if rest.startswith("@"):
        source, _, marker = marker.strip().partition(" ;")
        return Pin("", source.strip(), " ".join([extras, *marker.split()]).strip(), hashes)
    version = wanted.strip()
    exact = version.removeprefix("===").removeprefix("==").strip()
    return Pin(exact, "", " ".join([extras, *marker.split()]).strip(), hashes)


def _parse_uv(document: dict[str, Any]) -> Lock:
    pins = []
    for package in document.get("package", ()):
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        hashes = frozenset(str(file["hash"]) for file in files if "hash" in file)
        extra = " or ".join(str(marker) for marker in package.get("resolution-markers", ()))
        version, source = str(package.get("version", "")), _flat(package.get("source", {}))
        pins.append((package["name"], Pin(version, source, extra, hashes)))
    return _lock(pins, _options(document))


def _parse_pylock(document: dict[str, Any]) -> Lock:
    pins = []
    for package in document.get("packages", ()):
        files = [
            *package.get("wheels", ()),
            *(package[key] for key in ("sdist", "archive") if key in package),
        ]
        hashes = frozenset(f"{kind}:{digits}" for file in files for kind, digits in file.get("hashes", {}).items())
        places = {key: package[key] for key in ("vcs", "directory", "index") if key in package}
        archive = package.get("archive", {})
        places |= {key: archive[key] for key in ("url", "path") if key in archive}
        pin = Pin(str(package.get("version", "")), _flat(places), str(package.get("marker", "")), hashes)
        pins.append((package["name"], pin))
    return _lock(pins, _options(document))


def _options(document: dict[str, Any]) -> list[str]:
    value = document.get("requires-python")
    return [f"requires-python {value}"] if value is not None else []


def _flat(table: dict[str, Any]) -> str:
    """`git https://…`, `registry https://…`; of nested tables the same within."""
    return ", ".join(
        f"{key} {_flat(value) if isinstance(value, dict) else value}" for key, value in sorted(table.items())
    )
