"""Folder → checked `Manifest`, or one `ManifestError` with every problem and its place in the file."""

from __future__ import annotations

import errno
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from turnout.domain.errors import ManifestError
from turnout.manifest.files import file_problems
from turnout.manifest.problems import problem_lines
from turnout.manifest.schema import Manifest

MANIFEST_NAME = "turnout.toml"
ALLOW_NAME = "turnout-allow.toml"  # findings of the secret scan that are none
_LARGEST_MANIFEST = 1 << 20


def load_manifest(folder: Path) -> Manifest:
    """Read and check `turnout.toml` in a folder, and that the files it names are there.

    Raises `ManifestError`; each of its problems opens with the path in the file.
    """
    raw = _parse(_read(folder / MANIFEST_NAME), folder / MANIFEST_NAME)
    problems: list[str] = []
    manifest = None
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        problems.extend(problem_lines(error, Manifest, MANIFEST_NAME))
    problems.extend(file_problems(folder, raw))
    if problems or manifest is None:
        raise _error(problems)
    return manifest


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_MANIFEST + 1)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise ManifestError(
                f"there is no {MANIFEST_NAME} in {path.parent}", hint="run `turnout init` there to write one"
            ) from None
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST_MANIFEST:
        raise ManifestError(f"{path} is larger than 1 MiB")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ManifestError(f"{path} is not UTF-8 (line {line})", hint="save it as UTF-8") from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{path} is not valid TOML: {error}", problems=(f"{MANIFEST_NAME}: {error}",)) from None
    except RecursionError:
        raise ManifestError(f"{path} is nested too deeply") from None


def _error(problems: list[str]) -> ManifestError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ManifestError(
        f"{MANIFEST_NAME} has {count}",
        problems=tuple(problems),
        hint="correct these places; the file that `turnout init` writes explains every field",
    )
