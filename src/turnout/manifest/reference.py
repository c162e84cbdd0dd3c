"""The schema, walked: which tables there are, which fields each has, and what each field means."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from turnout.manifest.schema import Manifest
from turnout.manifest.values import Shown, format_duration

RING_PLACE = "rings.<name>"


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """One field of `turnout.toml`. `default` is TOML text, "" when there is none, "required" when it must be given."""

    path: str  # such as `rings.<name>.canary[].weight`
    type: str
    default: str
    meaning: str


def field_reference(root: type[BaseModel] = Manifest) -> list[FieldDoc]:
    """Every field of a file in the order of its schema, tables included."""
    return [
        FieldDoc(
            path=_join(place, key),
            type=_shown_type(field),
            default=_shown_default(field),
            meaning=field.description or "",
        )
        for place, model in schema_tables(root).items()
        for key, field in fields_by_key(model).items()
    ]


def schema_tables(root: type[BaseModel] = Manifest) -> dict[str, type[BaseModel]]:
    """Place in the file → its table: "" for the root, `model.fallbacks[]`, `rings.<name>`, `rings.<name>.canary[]`."""
    return dict(_walk(root, ""))


def fields_by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a table by their keys in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def is_duration(field: FieldInfo) -> bool:
    """Whether a field holds a time, which is shown with its unit."""
    return any(isinstance(mark, Shown) and mark.name == "duration" for mark in field.metadata)


def nested_table(annotation: object) -> tuple[type[BaseModel], str] | None:
    """The table that an annotation speaks of, and how it is nested: "" for one, "[]" for many, ".<name>" for named."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return nested_table(arguments[0])
    if origin in (Union, types.UnionType):
        return next((found for found in map(nested_table, arguments) if found), None)
    if origin is tuple or (isinstance(origin, type) and issubclass(origin, Mapping)):
        inner = nested_table(arguments[0] if origin is tuple else arguments[1])
        return inner and (inner[0], "[]" if origin is tuple else ".<name>")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    return None


def _walk(model: type[BaseModel], place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield place, model
    for key, field in fields_by_key(model).items():
        nested = nested_table(field.annotation)
        if nested:
            yield from _walk(nested[0], _join(place, key) + nested[1])


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _shown_type(field: FieldInfo) -> str:
    nested = nested_table(field.annotation)
    if nested:
        return {"": "table", "[]": "array of tables", ".<name>": "named tables"}[nested[1]]
    named = next((mark.name for mark in field.metadata if isinstance(mark, Shown)), None)
    return named or _type_text(field.annotation)


def _type_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        named = [mark.name for mark in arguments[1:] if isinstance(mark, Shown)]
        return named[-1] if named else _type_text(arguments[0])
    if origin in (Union, types.UnionType):
        return _type_text(next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        return f"array of {_type_text(arguments[0])}s"
    if origin is Literal:
        return " or ".join(str(value) for value in arguments)
    return {bool: "boolean", int: "integer", float: "number", str: "string"}[annotation]


def _shown_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if isinstance(default, bool):
        return str(default).lower()
    if is_duration(field):
        return f'"{format_duration(default)}"'
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, str):
        return f'"{default}"'
    return str(default) if isinstance(default, int) else ""
