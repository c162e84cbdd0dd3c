"""The OpenAPI document: complete, sound, and true about tokens and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.api.service import Api
from turnout.api import (
    agents,
    alerts,
    breakers,
    budgets,
    deployments,
    evals,
    incidents,
    instance,
    keys,
    metrics,
    otlp,
    outcomes,
    recordings,
    releases,
    replays,
    rollouts,
    tasks,
    tokens,
)

ROOMS = (
    *(instance, metrics, agents, releases, deployments, incidents, rollouts),
    *(outcomes, otlp, tasks, alerts, evals, recordings, replays, breakers, budgets, tokens, keys),
)


@pytest.fixture
def document(untouched: Api) -> dict[str, Any]:
    answer = untouched.clients["viewer"].get("/v1/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_endpoint_is_in_it(document: dict[str, Any]) -> None:
    declared = {
        (method.lower(), route.path_format)
        for room in ROOMS
        for route in room.router.routes
        for method in getattr(route, "methods", ())
    }
    assert {(method, path) for method, path, _ in operations(document)} == declared


def test_every_endpoint_says_what_it_does_and_has_an_id_of_its_own(document: dict[str, Any]) -> None:
    found = list(operations(document))
    assert [path for _, path, operation in found if not operation.get("summary")] == []
    assert [path for _, path, operation in found if not operation.get("description")] == []
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(ids) == len(set(ids))


def test_it_is_of_a_known_version_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] == "turnout"
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]


def test_every_parameter_of_a_path_is_declared(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        declared = {item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path)), path


def test_every_endpoint_documents_a_success(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert any(status.startswith("2") for status in operation["responses"]), (method, path)


def test_it_says_that_a_bearer_token_is_needed_everywhere_but_for_health(document: dict[str, Any]) -> None:
    schemes = document["components"].get("securitySchemes", {})
    assert [(item["type"], item["scheme"]) for item in schemes.values()] == [("http", "bearer")]
    for method, path, operation in operations(document):
        security = operation.get("security", document.get("security", []))
        assert bool(security) == (path != "/healthz"), (method, path)


def test_every_error_has_the_shape_that_is_answered(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        errors = {name: item for name, item in operation["responses"].items() if name[0] in "45d"}
        assert errors or path == "/healthz", (method, path)
        for name, error in errors.items():
            assert set(error["content"]) == {"application/problem+json"}, (method, path, name)
