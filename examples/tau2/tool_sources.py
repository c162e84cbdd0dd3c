"""The tools of tau2, read from its source by `ast`: names, schemas of their arguments, and which of them write.

Nothing of the package is imported; its dependencies need not be there. A tool is a method of a class `…Tools` with the
decorator `@is_tool(ToolType.READ | WRITE | GENERIC)`. GENERIC says nothing about effects, so `GENERIC_WRITES` does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorded_tasks import Fault

DOMAINS = ("retail", "airline")
# Ours, as tau2 marks neither: a calculation changes nothing; whoever is handed to a person has left the agent.
GENERIC_WRITES: Mapping[str, bool] = {"calculate": False, "transfer_to_human_agents": True}
_PLAIN = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "dict": "object"}
_ARGUMENT = re.compile(r"^\s*(\w+): (.+)$")


@dataclass(frozen=True, slots=True)
class ToolSource:
    """A tool as its source describes it. `schema`: JSON Schema of the arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]
    writes: bool


def read_tools(package: Path) -> dict[str, ToolSource]:
    """The tools of both domains by name. `package`: the folder that holds the folder tau2. Raises `Fault`.

    Both domains have some tools of one name; they take the same arguments, and the description is that of the first.
    """
    tools: dict[str, ToolSource] = {}
    for domain in DOMAINS:
        for tool in _domain_tools(package / "tau2" / "domains" / domain):
            known = tools.setdefault(tool.name, tool)
            if (set(known.schema["properties"]), known.writes) != (set(tool.schema["properties"]), tool.writes):
                raise Fault(f"{domain}: {tool.name} is not the {tool.name} of another domain")
    return tools


def _domain_tools(folder: Path) -> Iterator[ToolSource]:
    choices = dict(_choices(_parse(folder / "data_model.py")))
    path = folder / "tools.py"
    found = 0
    for node in ast.walk(_parse(path)):
        kind = _kind(node)
        if isinstance(node, ast.FunctionDef) and kind:
            try:
                yield _tool(node, kind, choices)
            except (KeyError, AttributeError) as error:
                raise Fault(f"{path}: the tool {node.name}: {error} is not understood") from error
            found += 1
    if not found:
        raise Fault(f"{path}: there is no tool in it")


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise Fault(f"{path}: {error}") from error


def _choices(module: ast.Module) -> Iterator[tuple[str, list[Any]]]:
    """Names of types such as `Insurance = Literal["yes", "no"]`, and their values."""
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            target, subscript = node.targets[0], node.value
            if isinstance(target, ast.Name) and ast.unparse(subscript.value) == "Literal":
                yield target.id, list(ast.literal_eval(f"[{ast.unparse(subscript.slice).strip('()')}]"))


def _kind(node: ast.AST) -> str:
    """READ, WRITE or GENERIC; nothing for what is no tool."""
    for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
        text = ast.unparse(decorator)
        if text.startswith("is_tool(ToolType."):
            return text.removeprefix("is_tool(ToolType.").rstrip(")")
    return ""


def _tool(node: ast.FunctionDef, kind: str, choices: Mapping[str, list[Any]]) -> ToolSource:
    summary, described = _docstring(ast.get_docstring(node) or "")
    properties: dict[str, Any] = {}
    for argument in node.args.args[1:]:
        schema = _schema(argument.annotation, choices)
        properties[argument.arg] = (
            {**schema, "description": described[argument.arg]} if argument.arg in described else schema
        )
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties)[: len(properties) - len(node.args.defaults)],
        "additionalProperties": False,
    }
    writes = GENERIC_WRITES[node.name] if kind == "GENERIC" else {"READ": False, "WRITE": True}[kind]
    return ToolSource(node.name, summary, schema, writes)


def _schema(annotation: ast.expr | None, choices: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Classes of the package count as objects: what is in them is not looked at. Raises `KeyError`."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).lower() == "list":
        return {"type": "array", "items": _schema(annotation.slice, choices)}
    if isinstance(annotation, ast.BinOp):  # `FlightInfo | dict`
        return _schema(annotation.right, choices)
    name = ast.unparse(annotation) if annotation is not None else "nothing"
    if name in choices:
        return {"type": "string", "enum": choices[name]}
    return {"type": _PLAIN[name]}


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph on one line, and what is said of each argument."""
    summary, _, rest = text.partition("\n\n")
    lines = rest.partition("Args:\n")[2].partition("\n\n")[0].splitlines()
    described = {match[1]: match[2] for line in lines if (match := _ARGUMENT.match(line))}
    return " ".join(summary.partition("\n - ")[0].split()), described
