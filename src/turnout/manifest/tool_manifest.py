"""The tool manifest (`tools.json`): the tools that a release may call, each pinned by its description as its server gave it.

`{"servers": {"docs": {"tools": [{"name": …, "inputSchema": …, "sha256": …}]}}}`. A list of tools without servers is legal
too, `{"tools": [...]}`: what names no server is not called through the gateway, and is not checked.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import rfc8785
from pydantic import JsonValue

from turnout.domain.errors import ManifestError
from turnout.domain.grants import ToolPin
from turnout.domain.tool_pins import DESCRIBED, pinned_description
from turnout.domain.tool_rules import rules_faults
from turnout.manifest.json_schema import JsonSchema, pattern_fault
from turnout.manifest.values import parse_duration, plain_json

LARGEST = 16 << 20  # bytes
LONGEST_TIMEOUT = 3_600.0  # seconds
DEFAULT_TIMEOUT = 60.0
SETTINGS = ("sha256", "rules", "timeout", "side_effects")  # of a tool, beside its description
_NAMES = 200  # characters of a name, at most
_HINT = (
    "`turnout tools pin` writes descriptions and digests as the servers give them, and keeps your rules and timeouts"
)
_TEXTS = ("title", "description")
_OBJECTS = ("outputSchema", "annotations", "rules")

Faults = Iterator[tuple[str, str]]


def read_tool_pins(content: bytes) -> tuple[ToolPin, ...]:
    """The pins of a tool manifest, in the order of the file.

    Raises `ManifestError` with a line for each fault that opens with its place, such as `servers.docs.tools[0].sha256: …`.
    """
    document = parse_document(content)
    faults = list(_document_faults(document))
    if not faults:
        pins = tuple(_pin(server, tool) for server, tool, _ in entries(document))
        faults = list(_twice(document))
    if faults:
        problems = tuple(f"{place}: {text}" if place else text for place, text in faults)
        raise ManifestError("the tool manifest is wrong", problems=problems, hint=_HINT)
    return pins


def parse_document(content: bytes) -> Any:
    """A tool manifest as JSON. Raises `ManifestError`."""
    if len(content) > LARGEST:
        raise ManifestError("the tool manifest is larger than 16 MiB")
    try:
        return parse_tools(content)
    except json.JSONDecodeError as error:
        raise ManifestError(f"the tool manifest is not valid JSON: {error}") from None
    except UnicodeDecodeError:
        raise ManifestError("the tool manifest is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"the tool manifest cannot be used: {error}") from None


def parse_tools(content: bytes) -> JsonValue:
    """The tool manifest as JSON. Raises `ValueError` for bad JSON, a key that is there twice, or no canonical form."""
    return plain_json(json.loads(content.decode(), object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant))


def entries(document: Any) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(server, tool, place) of the tools that name a server, or could: "" is the server of one that names none."""
    if not isinstance(document, Mapping):
        return
    for server, table in _servers(document).items():
        for number, tool in enumerate(_tools(table)):
            yield server, tool, f"servers.{server}.tools[{number}]"
    for number, tool in enumerate(_tools(document)):
        named = tool.get("server")
        if isinstance(tool.get("name"), str):
            yield (named if isinstance(named, str) else ""), tool, f"tools[{number}]"


def tool_digest(description: Mapping[str, Any]) -> str:
    """The SHA-256, in hexadecimal digits, of the canonical JSON (RFC 8785) of what is pinned of a tool.

    Raises `ValueError` for a description that has no canonical form.
    """
    try:
        return hashlib.sha256(rfc8785.dumps(pinned_description(description))).hexdigest()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError(f"has no canonical JSON form: {error}") from None


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f'the key "{key}" is there twice in one object')
        table[key] = value
    return table


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _servers(document: Mapping[str, Any]) -> Mapping[str, Any]:
    servers = document.get("servers")
    return servers if isinstance(servers, Mapping) else {}


def _tools(table: Any) -> list[Mapping[str, Any]]:
    tools = table.get("tools") if isinstance(table, Mapping) else None
    return [tool for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []


def _pin(server: str, tool: Mapping[str, Any]) -> ToolPin:
    if not server:
        return ToolPin(server, str(tool["name"]), description=pinned_description(tool))
    return ToolPin(
        server,
        tool["name"],
        tool["sha256"],
        pinned_description(tool),
        tool.get("rules"),
        parse_duration(tool.get("timeout", DEFAULT_TIMEOUT)),
        tool.get("side_effects", True),
    )


# --- faults ----------------------------------------------------------------------------------------------------------


def _document_faults(document: Any) -> Faults:
    if not isinstance(document, Mapping) or not ("servers" in document or _tools(document)):
        return  # a manifest of another kind: it says what the agent does, and nothing goes through the gateway
    servers = document.get("servers", {})
    if not isinstance(servers, Mapping):
        yield "servers", "expected an object: a server by its name"
        return
    for server, table in servers.items():
        yield from _server_faults(server, table)
    for server, tool, place in entries({"tools": document.get("tools")}):
        if server:
            yield from _tool_faults({key: value for key, value in tool.items() if key != "server"}, place)


def _server_faults(server: str, table: Any) -> Faults:
    place = f"servers.{server}"
    if not server or len(server) > _NAMES:
        yield place, f"expected a name of up to {_NAMES} characters"
    if not isinstance(table, Mapping):
        yield place, "expected an object that holds tools"
        return
    yield from _unknown(table, ("tools",), place)
    tools = table.get("tools")
    if not isinstance(tools, list):
        yield f"{place}.tools", "expected a list of tools"
        return
    for number, tool in enumerate(tools):
        at = f"{place}.tools[{number}]"
        if isinstance(tool, Mapping):
            yield from _tool_faults(tool, at)
        else:
            yield at, "expected an object that describes a tool"


def _tool_faults(tool: Mapping[str, Any], at: str) -> Faults:
    name = tool.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _NAMES:
        yield f"{at}.name", f"expected a name of up to {_NAMES} characters"
    yield from _unknown(tool, (*DESCRIBED, *SETTINGS), at)
    for key in _TEXTS:
        if not isinstance(tool.get(key, ""), str):
            yield f"{at}.{key}", "expected a text"
    for key in _OBJECTS:
        if not isinstance(tool.get(key, {}), Mapping):
            yield f"{at}.{key}", "expected an object"
    if not isinstance(tool.get("side_effects", True), bool):
        yield f"{at}.side_effects", "expected true or false"
    yield from _timeout_faults(tool, at)
    yield from _schema_faults(tool, at)
    if isinstance(tool.get("rules"), Mapping):
        yield from ((f"{at}.rules{place}", text) for place, text in rules_faults(tool["rules"], pattern_fault))
        yield from _argument_faults(tool, at)
    yield from _digest_faults(tool, at)


def _timeout_faults(tool: Mapping[str, Any], at: str) -> Faults:
    try:
        seconds = parse_duration(tool.get("timeout", DEFAULT_TIMEOUT))
    except ValueError as error:
        yield f"{at}.timeout", str(error)
        return
    if not 0 < seconds <= LONGEST_TIMEOUT:
        yield f"{at}.timeout", "expected a duration above zero and up to an hour"


def _schema_faults(tool: Mapping[str, Any], at: str) -> Faults:
    schema = tool.get("inputSchema")
    if not isinstance(schema, Mapping):
        yield f"{at}.inputSchema", "expected the JSON Schema of the arguments"
        return
    try:
        JsonSchema(schema)
    except ValueError as error:
        yield f"{at}.inputSchema", f"is no JSON Schema that can be used: {error}"


def _argument_faults(tool: Mapping[str, Any], at: str) -> Faults:
    """A rule for an argument that the tool does not have is a slip of the pen."""
    schema = tool.get("inputSchema")
    if not isinstance(schema, Mapping) or schema.get("additionalProperties") or schema.get("patternProperties"):
        return
    known = schema.get("properties")
    if not isinstance(known, Mapping):
        return
    for name in tool["rules"]:
        if name not in known:
            yield f"{at}.rules.{name}", f"the tool has no such argument{_near(name, known)}"


def _digest_faults(tool: Mapping[str, Any], at: str) -> Faults:
    stated = tool.get("sha256")
    if not isinstance(stated, str):
        yield f"{at}.sha256", "is missing: the digest of the description, in hexadecimal digits"
        return
    try:
        found = tool_digest(tool)
    except ValueError as error:
        yield at, str(error)
        return
    if stated != found:
        yield f"{at}.sha256", f"is not the digest of this description, which is {found}"


def _twice(document: Any) -> Faults:
    first: dict[str, str] = {}
    for server, tool, place in entries(document):
        if server and tool["name"] in first:
            yield (
                f"{place}.name",
                f'"{tool["name"]}" is the name of {first[tool["name"]]} already; agents call by the name alone',
            )
        elif server:
            first[tool["name"]] = place


def _unknown(table: Mapping[str, Any], known: tuple[str, ...], at: str) -> Faults:
    for key in table:
        if key not in known:
            yield f"{at}.{key}", f"is not known here{_near(key, known)}"


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""
