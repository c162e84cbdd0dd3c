"""The OpenAPI document: what FastAPI finds out, with the token and the errors that every endpoint has."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from turnout.schemas import Problem

OPEN_PATHS = ("/healthz",)  # answered without a token
_TOKEN = "token"  # noqa: S105  (the name of the scheme)
_ERROR = {
    "description": "an error; `detail` says what is wrong, `hint` what to do",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def build_document(app: FastAPI) -> dict[str, Any]:
    """The document of an application. Pure but for reading its routes."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = document.setdefault("components", {})
    components["securitySchemes"] = {_TOKEN: {"type": "http", "scheme": "bearer"}}
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = TypeAdapter(Problem).json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            _complete(operation, secured=path not in OPEN_PATHS)
    return document


def _complete(operation: dict[str, Any], *, secured: bool) -> None:
    operation["summary"] = operation["description"].split("\n\n")[0].replace("\n", " ")
    answers = operation["responses"]
    operation["responses"] = {code: answer for code, answer in answers.items() if int(code) < 400} | {"default": _ERROR}
    if secured:
        operation["security"] = [{_TOKEN: []}]
