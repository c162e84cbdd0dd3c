"""Folder → checked `Manifest`, or one `ManifestError` with every problem and its place in the file."""

from __future__ import annotations

import difflib
import errno
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from turnout.domain.errors import ManifestError
from turnout.manifest.files import file_problems
from turnout.manifest.reference import fields_by_key, schema_tables
from turnout.manifest.schema import Manifest
from turnout.manifest.values import Faults, type_name

MANIFEST_NAME = "turnout.toml"
ALLOW_NAME = "turnout-allow.toml"  # findings of the secret scan that are none
_LARGEST_MANIFEST = 1 << 20

_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "tuple_type": "an array",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


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
        for detail in error.errors(include_url=False):
            problems.extend(_problem_lines(detail))
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


# --- what the schema found -------------------------------------------------------------------------------------------


def _problem_lines(detail: ErrorDetails) -> Iterator[str]:
    location = tuple(part for part in detail["loc"] if part != "[key]")
    place = _place_text(location)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Faults):
        for below, message in cause.faults:
            at = (place if location else "") + below
            yield f"{at.lstrip('.') or MANIFEST_NAME}: {message}"
    elif isinstance(cause, ValueError):
        yield f"{place}: {cause}"
    elif detail["type"] == "extra_forbidden":
        yield f"{place}: unknown key{_suggestion(location)}"
    elif detail["type"] == "missing":
        yield f"{place}: is missing: {_meaning(location)}"
    elif detail["type"] in _EXPECTED:
        yield f"{place}: expected {_EXPECTED[detail['type']]}, found {type_name(detail['input'])}"
    else:
        message = detail["msg"].removeprefix("Input should be ")
        yield f"{place}: expected {message}, found {json.dumps(detail['input'], default=str)}"


def _place_text(location: tuple[str | int, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{_key_text(part)}"
    return text.lstrip(".") or MANIFEST_NAME


def _key_text(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else json.dumps(key, ensure_ascii=False)


def _table_place(location: tuple[str | int, ...]) -> str:
    """The place of the table that holds this location, as the schema calls it."""
    parts = ["<name>" if index == 1 and location[0] == "rings" else part for index, part in enumerate(location[:-1])]
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def _suggestion(location: tuple[str | int, ...]) -> str:
    model = schema_tables().get(_table_place(location))
    known = sorted(fields_by_key(model)) if model else []
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    if nearest:
        return f'; did you mean "{nearest[0]}"?'
    return f"; known here: {', '.join(known)}" if known else ""


def _meaning(location: tuple[str | int, ...]) -> str:
    model = schema_tables().get(_table_place(location))
    field = fields_by_key(model).get(str(location[-1])) if model else None
    return (field.description if field else None) or "it must be given"
