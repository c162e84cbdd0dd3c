"""What a closed schema finds wrong with a file: one line a fault, which opens with its place in the file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from turnout.manifest.reference import fields_by_key, schema_tables
from turnout.manifest.values import Faults, type_name

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


def problem_lines(error: ValidationError, root: type[BaseModel], name: str, *, quote: bool = True) -> list[str]:
    """Every fault of a file. `root`: the schema of the whole file; `name`: the file, for faults of no place in it.

    `quote`: whether what was found may be repeated; not where somebody may have written a secret.
    """
    tables = schema_tables(root)
    return [line for detail in error.errors(include_url=False) for line in _lines_of(detail, tables, name, quote=quote)]


def _lines_of(detail: ErrorDetails, tables: Mapping[str, type[BaseModel]], name: str, *, quote: bool) -> Iterator[str]:
    location = tuple(part for part in detail["loc"] if part != "[key]")
    place = _place_text(location) or name
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Faults):
        for below, message in cause.faults:
            at = (place if location else "") + below
            yield f"{at.lstrip('.') or name}: {message}"
    elif isinstance(cause, ValueError):
        yield f"{place}: {cause}"
    elif detail["type"] == "extra_forbidden":
        yield f"{place}: unknown key{_suggestion(location, tables)}"
    elif detail["type"] == "missing":
        yield f"{place}: is missing: {_meaning(location, tables)}"
    elif detail["type"] in _EXPECTED:
        yield f"{place}: expected {_EXPECTED[detail['type']]}, found {type_name(detail['input'])}"
    else:
        message = detail["msg"].removeprefix("Input should be ")
        found = f", found {json.dumps(detail['input'], default=str)}" if quote else ""
        yield f"{place}: expected {message}{found}"


def _place_text(location: tuple[str | int, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{_key_text(part)}"
    return text.lstrip(".")


def _key_text(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else json.dumps(key, ensure_ascii=False)


def _table_of(location: tuple[str | int, ...], tables: Mapping[str, type[BaseModel]]) -> type[BaseModel] | None:
    """The table that holds this location. Names that the reader chose are `<name>` in the schema."""
    place = ""
    for part in location[:-1]:
        if isinstance(part, int):
            place += "[]"
        elif f"{place}.<name>" in tables:
            place += ".<name>"
        else:
            place = f"{place}.{part}".lstrip(".")
    return tables.get(place)


def _suggestion(location: tuple[str | int, ...], tables: Mapping[str, type[BaseModel]]) -> str:
    model = _table_of(location, tables)
    known = sorted(fields_by_key(model)) if model else []
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    if nearest:
        return f'; did you mean "{nearest[0]}"?'
    return f"; known here: {', '.join(known)}" if known else ""


def _meaning(location: tuple[str | int, ...], tables: Mapping[str, type[BaseModel]]) -> str:
    model = _table_of(location, tables)
    field = fields_by_key(model).get(str(location[-1])) if model else None
    return (field.description if field else None) or "it must be given"
