"""Tools by name, and the differences in their schemas."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.artifacts.diff.pairs import Workshop, paths, short
from turnout.artifacts.diff.tools import diff_tools
from turnout.artifacts.digest import canonical_json

SEARCH: dict[str, Any] = {
    "name": "search",
    "description": "Find passages.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "the question"},
            "limit": {"type": "integer", "maximum": 20},
            "filter": {"type": "object", "properties": {"lang": {"type": "string"}}, "required": ["lang"]},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
}
READ = {"name": "read", "inputSchema": {"type": "object"}}


def changed(**schema: Any) -> dict[str, Any]:
    """The tool with other keys in its schema; `None` takes a property away."""
    tool = copy.deepcopy(SEARCH)
    for key, value in schema.items():
        if key == "properties":
            tool["inputSchema"]["properties"] = {
                name: item for name, item in {**tool["inputSchema"]["properties"], **value}.items() if item is not None
            }
        else:
            tool["inputSchema"][key] = value
    return tool


def told(before: Any, after: Any) -> list[tuple[Any, ...]]:
    """What differs in one tool, apart from its pins."""
    found = short(list(diff_tools({"tools": [before]}, {"tools": [after]})))
    assert found[0][:3] == ("tool", "search", "changed")
    return found[1:]


def test_tools_come_go_and_change_by_name_with_their_pins() -> None:
    new = {**SEARCH, "description": "Find more passages."}
    found = list(diff_tools({"tools": [READ, SEARCH]}, {"tools": [new, {"name": "write"}]}))
    assert paths(found) == [
        ("tool", "read", "removed"),
        ("tool", "search", "changed"),
        ("description", "search.description", "changed"),
        ("tool", "write", "added"),
    ]
    pin = {"sha256": hashlib.sha256(canonical_json(SEARCH)).hexdigest()}
    assert found[1]["before"] == pin
    assert found[1]["after"] != pin


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (
            changed(properties={"lang": {"type": "string"}}, required=["query", "lang"]),
            ("parameter", "search.parameters.lang", "added", None, {"type": "string"}),
        ),
        (
            changed(properties={"limit": None}),
            ("parameter", "search.parameters.limit", "removed", {"type": "integer", "maximum": 20}, None),
        ),
        (
            changed(required=["query", "limit"]),
            ("parameter", "search.parameters.limit.required", "changed", False, True),
        ),
        (changed(required=[]), ("parameter", "search.parameters.query.required", "changed", True, False)),
        (
            changed(properties={"limit": {"type": "number", "maximum": 20}}),
            ("parameter", "search.parameters.limit.type", "changed", "integer", "number"),
        ),
        (
            changed(properties={"query": {"type": "string", "description": "your question"}}),
            ("parameter", "search.parameters.query.description", "changed", "the question", "your question"),
        ),
        (
            changed(properties={"limit": {"type": "integer", "maximum": 50}}),
            ("parameter", "search.parameters.limit.maximum", "changed", 20, 50),
        ),
        (
            changed(properties={"limit": {"type": "integer", "maximum": 20, "enum": [1, 2]}}),
            ("parameter", "search.parameters.limit.enum", "added", None, [1, 2]),
        ),
        (
            changed(
                properties={
                    "filter": {"type": "object", "properties": {"lang": {"type": "array"}}, "required": ["lang"]}
                }
            ),
            ("parameter", "search.parameters.filter.properties.lang.type", "changed", "string", "array"),
        ),
        (
            changed(properties={"filter": {"type": "object", "properties": {"lang": {"type": "string"}}}}),
            ("parameter", "search.parameters.filter.properties.lang.required", "changed", True, False),
        ),
        (
            changed(additionalProperties=True),
            ("parameter", "search.schema.additionalProperties", "changed", False, True),
        ),
    ],
)
def test_a_difference_in_a_schema_is_told_by_its_path(after: Any, expected: tuple[Any, ...]) -> None:
    assert told(SEARCH, after) == [expected]


def test_whether_a_new_parameter_must_be_given_is_told() -> None:
    for required, note in ((["query", "lang"], "required"), (["query"], "optional")):
        after = changed(properties={"lang": {"type": "string"}}, required=required)
        assert list(diff_tools([SEARCH], [after]))[1]["note"] == note


def test_other_parts_of_a_tool_are_told_too() -> None:
    after = {**SEARCH, "annotations": {"readOnlyHint": True}, "outputSchema": {"properties": {"text": {}}}}
    assert told(SEARCH, after) == [
        ("output", "search.outputSchema.properties.text", "added", None, {}),
        ("setting", "search.annotations", "added", None, {"readOnlyHint": True}),
    ]


def test_another_order_of_tools_is_told() -> None:
    found = list(diff_tools({"tools": [READ, SEARCH]}, {"tools": [SEARCH, READ]}))
    assert short(found) == [("tool", "tools", "changed", ["read", "search"], ["search", "read"])]


def test_tools_of_several_servers_are_told_apart() -> None:
    def servers(first: Any, second: Any, url: str = "https://a.example") -> Any:
        return {"servers": {"a": {"url": url, "tools": [first]}, "b": {"tools": [second]}}}

    found = list(diff_tools(servers(SEARCH, SEARCH), servers(SEARCH, changed(required=[]), "https://b.example")))
    assert paths(found) == [
        ("tool", "servers.b.search", "changed"),
        ("parameter", "servers.b.search.parameters.query.required", "changed"),
        ("setting", "servers.a.url", "changed"),
    ]


def test_tools_within_a_function_are_read() -> None:
    def wrapped(tool: dict[str, Any]) -> dict[str, Any]:
        function = {"name": tool["name"], "parameters": tool["inputSchema"]}
        return {"type": "function", "function": function}

    assert paths(list(diff_tools([wrapped(SEARCH)], [wrapped(changed(required=[]))]))) == [
        ("tool", "search", "changed"),
        ("parameter", "search.parameters.query.required", "changed"),
    ]


def test_mere_names_are_tools_as_well() -> None:
    found = list(diff_tools({"tools": ["a", "b"]}, {"tools": ["b", "c"]}))
    assert paths(found) == [("tool", "a", "removed"), ("tool", "c", "added")]


def test_a_release_shows_its_tools(shop: Workshop) -> None:
    one, two = (
        shop.release({"tools.json": json.dumps({"tools": tools}).encode()}) for tools in ([SEARCH], [SEARCH, READ])
    )
    found = shop.diff(one, two)["tools"]
    assert paths(found["changes"]) == [("tool", "read", "added")]
    assert found["summary"]["text"] == "1 tool added"


KEYS = ["tools", "name", "inputSchema", "properties", "required", "type", "function", "é.b"]


def documents(keys: list[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "search", "a b", "x\ny"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
        max_leaves=12,
    )


@given(documents(KEYS), documents(KEYS))
def test_any_two_documents_can_be_compared(before: Any, after: Any) -> None:
    assert list(diff_tools(before, before)) == []
    found = list(diff_tools(before, after))
    json.dumps(found, ensure_ascii=False).encode()
    for change in found:
        assert ("before" in change) == (change["change"] != "added")
        assert ("after" in change) == (change["change"] != "removed")


@given(documents(KEYS[1:]), documents(KEYS[1:]))
def test_a_tool_that_differs_is_told_with_what_differs_in_it(before: Any, after: Any) -> None:
    one, two = ({"name": "search", "inputSchema": schema} for schema in (before, after))
    found = list(diff_tools([one], [two]))
    assert bool(found) == (canonical_json(before) != canonical_json(after))
    assert len(found) != 1 or "note" in found[0], "the pins are told, and why they differ"
