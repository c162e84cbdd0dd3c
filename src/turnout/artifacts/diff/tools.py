"""The tool manifest: which tools came, went and changed, and how their schemas differ.

A tool is a named object in a list that is called `tools`, wherever that is: at the top, or within a server. A manifest that
is a list is a list of tools. What is no tool is compared as plain JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from turnout.artifacts.diff.changes import ABSENT, value_change
from turnout.artifacts.diff.values import Parts, diff_order, diff_values, render, same
from turnout.artifacts.digest import canonical_json
from turnout.schemas import ChangeView

_INPUTS = ("inputSchema", "input_schema", "parameters")
_OUTPUTS = ("outputSchema", "output_schema")


def diff_tools(before: Any, after: Any) -> Iterator[ChangeView]:
    """Each tool that differs, with its pins (SHA-256 of its canonical JSON), followed by the differences in it.

    `search.parameters.limit` is a parameter, `search.parameters.limit.required` and the like what changed of it, and
    `search.schema.additionalProperties` what is said of all parameters.
    """
    old, new = _find_tools(before), _find_tools(after)
    for name in sorted({*old, *new}):
        yield from _diff_tool(name, old.get(name), new.get(name))
    yield from diff_order(list(old), list(new), "tool", "tools")
    yield from diff_values(_rest(before), _rest(after), lambda _: "setting")


def _diff_tool(name: str, before: Any, after: Any) -> Iterator[ChangeView]:
    if before is not None and after is not None and same(before, after):
        return
    details = [] if before is None or after is None else list(_diff_parts(name, _opened(before), _opened(after)))
    told = before is None or after is None or details
    yield value_change("tool", name, _pin(before), _pin(after), "" if told else "written in another way")
    yield from details


def _diff_parts(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[ChangeView]:
    inputs, outputs = _shared(_INPUTS, old, new), _shared(_OUTPUTS, old, new)
    left, right = _table(old.get(inputs)), _table(new.get(inputs))
    yield from _diff_schema(left, right, (name, "parameters"), (name, "schema"), "parameter")
    left, right = _table(old.get(outputs)), _table(new.get(outputs))
    yield from _diff_schema(left, right, (name, "outputSchema", "properties"), (name, "outputSchema"), "output")
    rest = [{key: value for key, value in tool.items() if key not in (inputs, outputs)} for tool in (old, new)]
    yield from diff_values(rest[0], rest[1], _text_kind, (name,))


def _shared(keys: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The key under which both tools, or the only one that has any, hold a schema that can be taken apart."""
    return next(
        (
            key
            for key in keys
            if (key in old or key in new) and isinstance(old.get(key, {}), dict) and isinstance(new.get(key, {}), dict)
        ),
        "",
    )


def _text_kind(at: Parts) -> str:
    return "description" if at[-1] == "description" else "setting"


def _diff_schema(
    before: Mapping[str, Any], after: Mapping[str, Any], at: Parts, keywords: Parts, kind: str
) -> Iterator[ChangeView]:
    """Properties by name below `at`, each with whether it is required; the other keywords below `keywords`."""
    old, new = _table(before.get("properties")), _table(after.get("properties"))
    needed, needs = _required(before), _required(after)
    for name in sorted({*old, *new, *(needed ^ needs)}):
        place = (*at, name)
        if name not in old or name not in new:
            if name in old or name in new:
                required = name in (needs if name in new else needed)
                one, other = old.get(name, ABSENT), new.get(name, ABSENT)
                yield value_change(kind, render(place), one, other, "required" if required else "optional")
                continue
        elif not same(old[name], new[name]):
            yield from _diff_property(old[name], new[name], place, kind)
        if (name in needed) != (name in needs):
            yield value_change(kind, render((*place, "required")), name in needed, name in needs)
    left, right = _keywords(before, "required"), _keywords(after, "required")
    yield from diff_values(left, right, lambda _: kind, keywords)


def _diff_property(before: Any, after: Any, at: Parts, kind: str) -> Iterator[ChangeView]:
    if _is_object(before) and _is_object(after):
        yield from _diff_schema(before, after, (*at, "properties"), at, kind)
    else:
        yield from diff_values(before, after, lambda _: kind, at)


def _keywords(schema: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    """What a schema says apart from its properties; they are left in where they have no known shape."""
    dropped = {*left_out} if isinstance(schema.get("required", []), list) else set()
    if isinstance(schema.get("properties"), dict):
        dropped.add("properties")
    return {key: value for key, value in schema.items() if key not in dropped}


def _is_object(schema: Any) -> bool:
    return isinstance(schema, dict) and isinstance(schema.get("properties"), dict)


def _required(schema: Mapping[str, Any]) -> set[str]:
    names = schema.get("required")
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _opened(tool: Any) -> dict[str, Any]:
    """The object that holds the schema: some write it within `function`."""
    if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
        return {**{key: value for key, value in tool.items() if key != "function"}, **tool["function"]}
    return _table(tool)


def _pin(tool: Any) -> Any:
    return ABSENT if tool is None else {"sha256": hashlib.sha256(canonical_json(tool)).hexdigest()}


# --- finding the tools -----------------------------------------------------------------------------------------------


def _find_tools(document: Any) -> dict[str, Any]:
    """Tool by name; one within a server by `servers.github.search`, so that two servers may have tools of one name."""
    return dict(_tools_in(document, ()))


def _tools_in(value: Any, at: Parts) -> Iterator[tuple[str, Any]]:
    named = _named_tools(value) if not at or at[-1] == "tools" else None
    if named is not None:
        yield from ((render((*at[:-1], name)), tool) for name, tool in named.items())
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tools_in(item, (*at, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            name = item.get("name") if isinstance(item, dict) else None
            yield from _tools_in(item, (*at, name if isinstance(name, str) else number))


def _rest(document: Any) -> Any:
    left = _without_tools(document)
    return {} if left is ABSENT else left


def _without_tools(value: Any, at: Parts = ()) -> Any:
    if (not at or at[-1] == "tools") and _named_tools(value) is not None:
        return ABSENT
    if isinstance(value, dict):
        left = {key: _without_tools(item, (*at, key)) for key, item in value.items()}
        return {key: item for key, item in left.items() if item is not ABSENT}
    if isinstance(value, list):
        return [_without_tools(item, (*at, number)) for number, item in enumerate(value)]
    return value


def _named_tools(value: Any) -> dict[str, Any] | None:
    """The tools of a list by name; None for what is no list of tools, or holds a name twice."""
    if isinstance(value, list):
        names = [_tool_name(item) for item in value]
        if all(name is not None for name in names) and len(set(names)) == len(names):
            return {str(name): item for name, item in zip(names, value, strict=True)}
    return None


def _tool_name(item: Any) -> str | None:
    """Of an object with a name, of one with a function that has a name, or of a mere name."""
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        return None
    function = item.get("function")
    name = item.get("name", function.get("name") if isinstance(function, dict) else None)
    return name if isinstance(name, str) else None
