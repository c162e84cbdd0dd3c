"""The annotated `turnout.toml`, written from the schema itself: the file of `turnout init` and the full example.

Every field is written with its meaning. A field with a value is live; the others are comments that show what to write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from turnout.manifest.reference import fields_by_key, is_duration, nested_table
from turnout.manifest.schema import Manifest
from turnout.manifest.values import Shown, format_duration

_WIDTH = 118
_COMMENT_COLUMN = 44
_FULL_CANARY = [{"weight": 10, "time": "5m", "tasks": 50}, {"weight": 50, "time": "1h30m", "tasks": 500}]


def render_document(values: Mapping[str, Any]) -> str:
    """The commented file with these values live, laid out as the schema is. `values` is shaped like the parsed file."""
    plain = {key: field for key, field in fields_by_key(Manifest).items() if not _is_section(field)}
    lines = ["# What this agent's releases are made of. Lines that begin with # show what else can be set.", ""]
    lines.extend(_field_lines(plain, values))
    for key, field in fields_by_key(Manifest).items():
        if not _is_section(field):
            continue
        lines.append("")
        lines.extend(_section_lines(key, field, values.get(key)))
    return "\n".join(lines) + "\n"


def example_manifest() -> str:
    """A file in which every field has a value (of the two ways to start and to send a body, the first)."""
    values = _example_values(Manifest)
    values["rings"] = {
        "dev": {},
        "staging": {"approvals": 1},
        "production": {**_example_values(nested_ring()), "approvals": 2, "canary": _FULL_CANARY},
    }
    return render_document(values)


def example_canary() -> list[dict[str, Any]]:
    """Two steps, for a first production ring."""
    return [{"weight": 10, "time": "1m"}, {"weight": 50, "time": "1m"}]


def nested_ring() -> type[BaseModel]:
    """The table of one ring."""
    nested = nested_table(fields_by_key(Manifest)["rings"].annotation)
    assert nested is not None  # noqa: S101  # the schema has rings
    return nested[0]


def toml_value(value: object) -> str:
    """A value as TOML on one line: strings, numbers, booleans, arrays and inline tables of them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    raise TypeError(f"TOML cannot hold {value!r}")


def _is_section(field: FieldInfo) -> bool:
    return nested_table(field.annotation) is not None or _is_free_table(field)


def _is_free_table(field: FieldInfo) -> bool:
    """Whether the keys of the table are the reader's own, as in [env]."""
    return any(isinstance(mark, Shown) and mark.name.startswith("table") for mark in field.metadata)


def _section_lines(key: str, field: FieldInfo, value: Any) -> Iterator[str]:
    yield from _comment(f"{_capital(field.description or '')}.")
    nested = nested_table(field.annotation)
    if nested is None:
        yield _header(f"[{key}]", live=bool(value))
        yield from _free_lines(field, value)
    elif nested[1] == "":
        yield _header(f"[{key}]", live=value is not None)
        yield from _field_lines(fields_by_key(nested[0]), value or {}, live=value is not None)
    elif nested[1] == "[]":
        for table in value or [None]:
            yield _header(f"[[{key}]]", live=table is not None)
            yield from _field_lines(fields_by_key(nested[0]), table or {}, live=table is not None)
    else:
        yield from _named_lines(key, nested[0], value or {})


def _named_lines(key: str, model: type[BaseModel], tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The tables by name. Only the last one, the furthest ring, shows what else can be set."""
    for position, (name, table) in enumerate(tables.items(), start=1):
        if position > 1:
            yield ""
        fields = fields_by_key(model)
        shown = fields if position == len(tables) else {field: fields[field] for field in fields if field in table}
        yield _header(f"[{key}.{_toml_key(name)}]", live=True)
        yield from _field_lines(shown, table)


def _field_lines(fields: Mapping[str, FieldInfo], values: Mapping[str, Any], *, live: bool = True) -> Iterator[str]:
    for key, field in fields.items():
        given = live and key in values
        text = f"{key} = {toml_value(values[key] if given else _sample(field))}"
        text = text if given else f"# {text}"
        meaning = field.description or ""
        padded = f"{text:<{_COMMENT_COLUMN}}"
        if len(padded) + len(meaning) + 4 > _WIDTH:
            yield from _comment(f"{_capital(meaning)}:")
            yield text
        else:
            yield f"{padded}  # {meaning}"


def _free_lines(field: FieldInfo, value: Mapping[str, Any] | None) -> Iterator[str]:
    for key, item in (value or {}).items():
        yield f"{_toml_key(key)} = {toml_value(item)}"
    for key, item in {} if value else _sample(field).items():
        yield f"# {_toml_key(key)} = {toml_value(item)}"


def _header(text: str, *, live: bool) -> str:
    return text if live else f"# {text}"


def _comment(text: str) -> Iterator[str]:
    yield f"# {text}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sample(field: FieldInfo) -> Any:
    """What to write for a field: its example, else its default."""
    if field.examples:
        return field.examples[0]
    nested = nested_table(field.annotation)
    if nested:
        table = _example_values(nested[0])
        return [table] if nested[1] == "[]" else table
    if is_duration(field):
        return format_duration(field.default)
    return field.default


def _example_values(model: type[BaseModel]) -> dict[str, Any]:
    """An example for every field, but for the second of two that exclude each other."""
    excluded = {"asgi", "body", "dataset", "task", "evaluators"}
    return {key: _sample(field) for key, field in fields_by_key(model).items() if key not in excluded}


def _toml_key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else toml_value(key)
