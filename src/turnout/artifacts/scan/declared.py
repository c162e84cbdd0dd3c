"""What `turnout.toml` puts into a release (config, model), as a text that a scanner can read, line by line.

Each declared text stands on a line of its own behind its key, as it is: the quoting of JSON or TOML would hide what spans
lines or holds quotes, such as a private key or the body of a smoke task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.manifest.schema import Manifest


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is declared: its key, such as `rings.dev.env.WEBHOOK`, and the line in `turnout.toml` (0: unknown)."""

    key: str
    line: int


@dataclass(frozen=True, slots=True)
class Declared:
    """The text, and for each of its lines the place that it comes from."""

    text: str
    places: tuple[Place, ...]

    def place(self, line: int) -> Place:
        """The place behind a line of the text, counted from 1."""
        return self.places[line - 1] if 0 < line <= len(self.places) else Place("", 0)


def declared_text(manifest: Manifest, file_text: str) -> Declared:
    """Everything that a manifest declares. `file_text` is `turnout.toml`, in which the lines are looked up."""
    file_lines = file_text.splitlines()
    lines: list[str] = []
    places: list[Place] = []
    for key, value in _leaves(manifest.model_dump(by_alias=True), ""):
        below = f'{key} = "{value}"'.replace("\r", "\n").split("\n")
        lines += below
        places += [Place(key, _find_line(file_lines, key, value))] * len(below)
    return Declared("\n".join(lines) + "\n", tuple(places))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """(key, text) of every text. A list of texts is one: a flag and its value belong together."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, Sequence):
        texts = [item for item in value if isinstance(item, str)]
        if texts:
            yield key, " ".join(texts)
        for index, item in enumerate(value):
            if not isinstance(item, str):
                yield from _leaves(item, f"{key}[{index}]")


def _find_line(lines: Sequence[str], key: str, value: str) -> int:
    """The line where the value begins, best one that names the last part of the key too; else one that does."""
    name = key.rpartition(".")[2].partition("[")[0]
    first = value.split("\n", 1)[0].strip()
    forms = [form for form in (first, json.dumps(first, ensure_ascii=False)[1:-1]) if form]
    with_value = [index for index, line in enumerate(lines, 1) if any(form in line for form in forms)]
    as_key = re.compile(rf"""(?<![\w-]){re.escape(name)}["']?\s*=""")
    with_name = [index for index, line in enumerate(lines, 1) if as_key.search(line)]
    both = [index for index in with_value if index in with_name]
    return next(iter(both or with_value or with_name), 0)
