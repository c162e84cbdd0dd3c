"""Rules for the arguments of a tool: what is not allowed by a rule is refused. Pure.

A rule is an object of conditions that must all hold: `any`, `const`, `enum`, `pattern`, `max_length`, `minimum`, `maximum`,
`folders`, `hosts`, `items`, `max_items`, `fields`; `required` says that the argument must be there. Whoever asks brings the
engine for patterns, because those of the standard library can take for ever.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

Rules = Mapping[str, Any]  # a rule by the name of an argument
Matches = Callable[[str, str], bool]  # (pattern, text) → whether the pattern matches all of the text
PatternFault = Callable[[str], str | None]  # why a pattern cannot be used

_DEEPEST = 16
_URL = re.compile(
    r"https?://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?)(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?"
)
_HOST = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::\d{1,5})?")


def arguments_fault(rules: Rules, arguments: Mapping[str, Any], matches: Matches) -> str | None:
    """Why arguments are refused, naming the first that is; None where the rules allow all of them."""
    return _fields_fault(rules, arguments, "", matches)


def rules_faults(rules: Any, pattern_fault: PatternFault) -> Iterator[tuple[str, str]]:
    """(place below the rules, what is wrong there) for rules as they are written in a tool manifest."""
    if not isinstance(rules, Mapping):
        yield "", "expected an object: a rule by the name of an argument"
        return
    for name, rule in rules.items():
        yield from _rule_faults(rule, f".{name}", pattern_fault, _DEEPEST)


# --- what a rule allows ----------------------------------------------------------------------------------------------


def _fields_fault(rules: Rules, values: Mapping[str, Any], at: str, matches: Matches) -> str | None:
    for name in values:
        if name not in rules:
            return f"{at}{name}: no rule allows this argument"
    for name, rule in rules.items():
        if name in values:
            fault = _value_fault(rule, values[name], f"{at}{name}", matches)
        else:
            fault = f"{at}{name}: a rule requires this argument" if rule.get("required") else None
        if fault:
            return fault
    return None


def _value_fault(rule: Mapping[str, Any], value: Any, at: str, matches: Matches) -> str | None:
    for key, wanted in rule.items():
        if key == "items":
            fault = _items_fault(wanted, value, at, matches)
        elif key == "fields":
            fault = (
                _fields_fault(wanted, value, f"{at}.", matches) if isinstance(value, Mapping) else _not(at, "an object")
            )
        elif key == "pattern":
            holds = isinstance(value, str) and matches(wanted, value)
            fault = None if holds else f"{at}: does not match the pattern {wanted}"
        elif key in ("any", "required"):
            fault = None
        else:
            check = _CHECKS.get(key)
            text = check(wanted, value) if check else f'the condition "{key}" is not known'
            fault = f"{at}: {text}" if text else None
        if fault:
            return fault
    return None if _decides(rule) else f"{at}: no rule allows a value here"


def _items_fault(rule: Mapping[str, Any], value: Any, at: str, matches: Matches) -> str | None:
    if not isinstance(value, list):
        return _not(at, "a list")
    faults = (_value_fault(rule, item, f"{at}[{number}]", matches) for number, item in enumerate(value))
    return next((fault for fault in faults if fault), None)


def _not(at: str, kind: str) -> str:
    return f"{at}: is not {kind}"


def _const_text(wanted: Any, value: Any) -> str | None:
    return None if _same(wanted, value) else "is not the one value that is allowed"


def _enum_text(wanted: Sequence[Any], value: Any) -> str | None:
    return None if any(_same(item, value) for item in wanted) else "is none of the values that are allowed"


def _max_length_text(wanted: int, value: Any) -> str | None:
    return None if isinstance(value, str) and len(value) <= wanted else f"is not a text of at most {wanted} characters"


def _minimum_text(wanted: float, value: Any) -> str | None:
    return None if _is_number(value) and value >= wanted else f"is not a number of at least {wanted}"


def _maximum_text(wanted: float, value: Any) -> str | None:
    return None if _is_number(value) and value <= wanted else f"is not a number of at most {wanted}"


def _max_items_text(wanted: int, value: Any) -> str | None:
    return None if isinstance(value, list) and len(value) <= wanted else f"is not a list of at most {wanted}"


def _folders_text(wanted: Sequence[str], value: Any) -> str | None:
    allowed = isinstance(value, str) and any(_is_below(folder, value) for folder in wanted)
    return None if allowed else f"is not a path in {' or '.join(wanted)}"


def _hosts_text(wanted: Sequence[str], value: Any) -> str | None:
    match = _URL.fullmatch(value) if isinstance(value, str) else None
    allowed = match is not None and any(_is_host(host, match["host"].lower()) for host in wanted)
    return None if allowed else f"is not an http or https URL at {' or '.join(wanted)}"


_CHECKS: Mapping[str, Callable[[Any, Any], str | None]] = {
    "const": _const_text,
    "enum": _enum_text,
    "max_length": _max_length_text,
    "minimum": _minimum_text,
    "maximum": _maximum_text,
    "max_items": _max_items_text,
    "folders": _folders_text,
    "hosts": _hosts_text,
}


def _is_below(folder: str, path: str) -> bool:
    """Whether a path names a folder or something in it, however the tool reads it. Links are the tool's own affair."""
    if "\\" in path or "\0" in path or path.startswith("~") or path != unquote(path):
        return False
    parts, wanted = _parts(path), _parts(folder)
    if ".." in parts or path.startswith("/") != folder.startswith("/"):
        return False
    if parts and ":" in parts[0]:  # a drive, or a URL
        return False
    return parts[: len(wanted)] == wanted


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _is_host(wanted: str, host: str) -> bool:
    if wanted.startswith("*."):
        return host.endswith(wanted[1:]) and ".." not in host
    return host == wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON: 1 is 1.0, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


# --- what a rule may say ---------------------------------------------------------------------------------------------


def _rule_faults(rule: Any, at: str, pattern_fault: PatternFault, depth: int) -> Iterator[tuple[str, str]]:
    if not isinstance(rule, Mapping):
        yield at, "expected an object of conditions"
        return
    if depth == 0:
        yield at, "the rules are nested too deep"
        return
    for key, value in rule.items():
        place = f"{at}.{key}"
        if key == "items":
            yield from _rule_faults(value, place, pattern_fault, depth - 1)
        elif key == "fields":
            yield from _fields_faults(value, place, pattern_fault, depth - 1)
        elif key == "pattern" and isinstance(value, str):
            fault = pattern_fault(value)
            if fault:
                yield place, fault
        elif key in _EXPECTED:
            kind, is_right = _EXPECTED[key]
            if not is_right(value):
                yield place, f"expected {kind}"
        else:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            yield (
                place,
                "is no condition" + (f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(_KEYS)}"),
            )
    if not _decides(rule):
        yield at, 'allows nothing; write {"any": true} for whatever the schema allows'


def _fields_faults(rules: Any, at: str, pattern_fault: PatternFault, depth: int) -> Iterator[tuple[str, str]]:
    if not isinstance(rules, Mapping):
        yield at, "expected an object: a rule by the name of a field"
        return
    for name, rule in rules.items():
        yield from _rule_faults(rule, f"{at}.{name}", pattern_fault, depth)


def _decides(rule: Mapping[str, Any]) -> bool:
    """Whether a rule says anything about the value itself."""
    return any(key != "required" for key in rule)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_folders(value: Any) -> bool:
    return _is_texts(value) and all(
        not item.startswith("~") and ".." not in _parts(item) and "\\" not in item for item in value
    )


def _is_hosts(value: Any) -> bool:
    return _is_texts(value) and all(_HOST.fullmatch(item) for item in value)


_EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "any": ("true", lambda value: value is True),
    "required": ("true or false", lambda value: isinstance(value, bool)),
    "const": ("a value", lambda _: True),
    "enum": ("a list of values", lambda value: isinstance(value, list) and bool(value)),
    "pattern": ("a regular expression", lambda _: False),
    "max_length": ("a number of characters", _is_count),
    "minimum": ("a number", _is_number),
    "maximum": ("a number", _is_number),
    "max_items": ("a number of items", _is_count),
    "folders": ('a list of folders such as "docs" or "/srv/data"', _is_folders),
    "hosts": ('a list of hosts such as "api.example.com", "*.example.com" or "127.0.0.1:8080"', _is_hosts),
}
_KEYS = (*_EXPECTED, "items", "fields")
