"""JSON Schema and patterns, with an engine that takes linear time and asks nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

_BACKTRACKS = 100_000  # of a pattern that looks ahead or back, before it counts as not matching
_LARGEST_PATTERN = 1 << 20  # bytes that a compiled pattern may take


class JsonSchema:
    """A schema that values are checked against. Raises `ValueError` for one that is wrong, or refers to another place."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        options = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS, size_limit=_LARGEST_PATTERN)
        try:
            self._validator = jsonschema_rs.validator_for(
                dict(schema), pattern_options=options, mask="the value", offline=True
            )
        except (ValueError, RecursionError) as error:
            raise ValueError(str(error).splitlines()[0]) from None

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value, with the place but without the value; None when nothing is."""
        try:
            error = next(iter(self._validator.iter_errors(value)), None)
        except (ValueError, RecursionError) as failed:
            return str(failed).splitlines()[0]
        if error is None:
            return None
        place = ".".join(str(part) for part in error.instance_path)
        return f"{place}: {error.message}" if place else error.message


def pattern_fault(pattern: str) -> str | None:
    """Why a pattern cannot be used; None when it can."""
    try:
        _compiled(pattern)
    except ValueError:
        return (
            "is no regular expression that takes linear time; it may not look ahead or back, or repeat a group by name"
        )
    return None


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern matches all of a text."""
    return _compiled(pattern).is_valid(text)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> jsonschema_rs.Validator:
    options = jsonschema_rs.RegexOptions(size_limit=_LARGEST_PATTERN)
    jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=options, offline=True)  # right by itself
    return jsonschema_rs.validator_for({"pattern": f"^(?:{pattern})$"}, pattern_options=options, offline=True)
