from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest
import rfc8785

from turnout.domain.errors import ManifestError, NotFound
from turnout.manifest.json_schema import JsonSchema, matches, pattern_fault
from turnout.manifest.tool_manifest import read_tool_pins, tool_digest
from turnout.manifest.tool_pinning import pin_tools, render_manifest

SEARCH: dict[str, Any] = {
    "name": "search",
    "description": "Search the documents.",
    "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}
PINNED = {**SEARCH, "sha256": hashlib.sha256(rfc8785.dumps(SEARCH)).hexdigest()}


def manifest(*tools: Any, server: str = "docs") -> bytes:
    return json.dumps({"servers": {server: {"tools": list(tools)}}}).encode()


def problems(content: bytes) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        read_tool_pins(content)
    return caught.value.problems


def test_a_pin_holds_description_digest_and_what_was_decided() -> None:
    decided = {"rules": {"query": {"max_length": 100}}, "timeout": "5s", "side_effects": False}
    (pin,) = read_tool_pins(manifest({**PINNED, **decided}))

    assert (pin.server, pin.name, pin.schema) == ("docs", "search", PINNED["sha256"])
    assert pin.description == SEARCH
    assert (pin.rules, pin.timeout, pin.side_effects) == (decided["rules"], 5.0, False)


def test_without_decisions_any_argument_goes_and_a_call_has_a_minute() -> None:
    (pin,) = read_tool_pins(manifest(PINNED))

    assert (pin.rules, pin.timeout, pin.side_effects) == (None, 60.0, True)


@pytest.mark.parametrize(
    ("tool", "problem"),
    [
        ({**PINNED, "description": "Search."}, "servers.docs.tools[0].sha256: is not the digest of this description"),
        (SEARCH, "servers.docs.tools[0].sha256: is missing"),
        ({**PINNED, "name": ""}, "servers.docs.tools[0].name: expected a name"),
        ({**PINNED, "inputSchema": 5}, "servers.docs.tools[0].inputSchema: expected the JSON Schema"),
        ({**PINNED, "inputSchema": {"type": 5}}, "servers.docs.tools[0].inputSchema: is no JSON Schema"),
        ({**PINNED, "inputSchema": {"$ref": "http://127.0.0.1:1/x"}}, "servers.docs.tools[0].inputSchema: is no JSON"),
        ({**PINNED, "timeout": "soon"}, 'servers.docs.tools[0].timeout: "soon" is no duration'),
        ({**PINNED, "timeout": 0}, "servers.docs.tools[0].timeout: expected a duration above zero"),
        ({**PINNED, "side_effects": "no"}, "servers.docs.tools[0].side_effects: expected true or false"),
        ({**PINNED, "rule": {}}, 'servers.docs.tools[0].rule: is not known here; did you mean "rules"?'),
        ({**PINNED, "rules": {"query": {}}}, "servers.docs.tools[0].rules.query: allows nothing"),
        (
            {**PINNED, "rules": {"query": {"pattern": "(?=a)"}}},
            "servers.docs.tools[0].rules.query.pattern: is no regular",
        ),
        (
            {**PINNED, "rules": {"qery": {"any": True}}},
            'rules.qery: the tool has no such argument; did you mean "query"?',
        ),
        (5, "servers.docs.tools[0]: expected an object"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tool: Any, problem: str) -> None:
    assert any(problem in line for line in problems(manifest(tool)))


def test_two_tools_of_one_name_are_refused() -> None:
    document = {"servers": {"a": {"tools": [PINNED]}, "b": {"tools": [PINNED]}}}

    assert problems(json.dumps(document).encode()) == (
        'servers.b.tools[0].name: "search" is the name of servers.a.tools[0] already; agents call by the name alone',
    )


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b'{"servers": {}, "servers": {}}', b'{"servers": {"a": {"tools": NaN}}}']
)
def test_a_file_that_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestError):
        read_tool_pins(content)


@pytest.mark.parametrize(
    "servers", [5, {"docs": 5}, {"docs": {}}, {"docs": {"tools": {}}}, {"docs": {"tools": [], "x": 1}}]
)
def test_servers_that_cannot_be_read_are_refused(servers: Any) -> None:
    assert all(line.startswith("servers") for line in problems(json.dumps({"servers": servers}).encode()))


@pytest.mark.parametrize("document", [[], {}, {"anything": 1}, {"tools": ["search"]}, [{"name": "search"}], 5])
def test_manifests_of_another_kind_stay_legal_and_pin_nothing(document: Any) -> None:
    assert read_tool_pins(json.dumps(document).encode()) == ()


def test_a_tool_without_a_server_is_no_pin_but_known() -> None:
    (pin,) = read_tool_pins(json.dumps({"tools": [SEARCH]}).encode())

    assert (pin.server, pin.name, pin.schema) == ("", "search", "")


def test_a_flat_tool_that_names_its_server_is_pinned() -> None:
    (pin,) = read_tool_pins(json.dumps({"tools": [{**PINNED, "server": "docs"}]}).encode())

    assert (pin.server, pin.schema) == ("docs", PINNED["sha256"])


def test_a_digest_counts_what_is_described_and_not_how_it_is_written() -> None:
    other = {key: SEARCH[key] for key in reversed(SEARCH)}

    assert tool_digest({**other, "_meta": {"x": 1}, "title": None, "icons": []}) == PINNED["sha256"]
    assert tool_digest({**SEARCH, "annotations": {"readOnlyHint": True}}) != PINNED["sha256"]


def test_a_description_without_a_canonical_form_has_no_digest() -> None:
    with pytest.raises(ValueError, match="no canonical JSON form"):
        tool_digest({**SEARCH, "inputSchema": {"maximum": 2**60}})


# --- pinning ---------------------------------------------------------------------------------------------------------


def test_pinning_writes_descriptions_and_keeps_what_was_decided() -> None:
    before = {
        "note": 1,
        "servers": {"docs": {"tools": [{**PINNED, "rules": {"query": {"any": True}}, "timeout": "5s"}]}},
    }
    now = {**SEARCH, "description": "Another."}
    after = pin_tools(before, "docs", {"search": now, "delete": {}}, {"search"})

    (tool,) = after["servers"]["docs"]["tools"]
    assert (tool["description"], tool["sha256"]) == ("Another.", tool_digest(now))
    assert (tool["rules"], tool["timeout"]) == ({"query": {"any": True}}, "5s")
    assert after["note"] == 1
    assert read_tool_pins(render_manifest(after))


def test_pinning_twice_changes_nothing() -> None:
    first = pin_tools({}, "docs", {"search": SEARCH}, {"search"})

    assert pin_tools(first, "docs", {"search": SEARCH}, {"search"}) == first


def test_a_tool_that_only_reads_is_proposed_to_have_no_side_effects() -> None:
    reads = {**SEARCH, "annotations": {"readOnlyHint": True}}
    after = pin_tools({}, "docs", {"search": reads}, {"search"})

    assert after["servers"]["docs"]["tools"][0]["side_effects"] is False


def test_a_decision_about_side_effects_is_never_proposed_away() -> None:
    reads = {**SEARCH, "annotations": {"readOnlyHint": True}}
    before = {"servers": {"docs": {"tools": [PINNED]}}}

    assert "side_effects" not in pin_tools(before, "docs", {"search": reads}, {"search"})["servers"]["docs"]["tools"][0]


def test_a_tool_that_the_server_has_not_is_named() -> None:
    with pytest.raises(NotFound, match="has no tool serach; it has search"):
        pin_tools({}, "docs", {"search": SEARCH}, {"serach"})


# --- schemas and patterns --------------------------------------------------------------------------------------------


def test_a_pattern_that_would_take_for_ever_elsewhere_takes_no_time() -> None:
    schema = JsonSchema({"properties": {"a": {"pattern": "^(a+)+$"}}})
    looking = JsonSchema({"properties": {"a": {"pattern": "^(?=(a+)+$).*b"}}})
    began = time.process_time()

    assert not matches("(a+)+", "a" * 50_000 + "b")
    assert schema.fault({"a": "a" * 50_000 + "b"})
    assert looking.fault({"a": "a" * 5_000 + "c"})
    assert time.process_time() - began < 2


@pytest.mark.parametrize(("pattern", "text"), [("a|b", "ab"), ("a", "a\n"), ("a", "ba"), ("^a$", "a\na")])
def test_a_pattern_has_to_match_all_of_the_text(pattern: str, text: str) -> None:
    assert not matches(pattern, text)


@pytest.mark.parametrize("pattern", ["(", "(?=a)", "(a)\\1", "a)|(b", "x{99999999}"])
def test_patterns_that_cannot_be_used_are_found(pattern: str) -> None:
    assert pattern_fault(pattern) is not None


def test_what_is_wrong_with_a_value_does_not_tell_the_value() -> None:
    fault = JsonSchema({"properties": {"a": {"type": "integer"}}}).fault({"a": "hunter2"})

    assert fault == 'a: the value is not of type "integer"'
