"""Grants ↔ the JSON document that the server publishes and the gateway's processes read. Pure.

    {"schema": 1, "writer": "0.1.0", "grants": [{"key": …, "agent": …, …}]}

A reader takes a document of another version as far as it understands it: what is unknown is left out, what is missing has
its default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from turnout.domain.budget import Budget, BudgetScope, Unit
from turnout.domain.grants import Grant, Grants, ModelPin, ToolPin
from turnout.domain.models import Capture, Digest


def render_grants(grants: Grants, writer: str) -> bytes:
    """The document. `writer`: the version of turnout that writes it. Equal grants give equal bytes."""
    ordered = sorted(grants.grants.values(), key=lambda grant: (grant.agent, grant.ring, grant.release))
    document = {"schema": 1, "writer": writer, "grants": [_grant_document(grant) for grant in ordered]}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def parse_grants(content: bytes) -> tuple[Grants, str]:
    """The grants, and who wrote them. Raises `ValueError` for anything but a whole document."""
    try:
        document = json.loads(content)
        if document["schema"] != 1:
            raise ValueError(f"a document of schema {document['schema']!r}")
        grants = [_parse_grant(item) for item in document["grants"]]
        return Grants({grant.key: grant for grant in grants}), str(document["writer"])
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a document of grants: {error!r}") from error


def _grant_document(grant: Grant) -> dict[str, Any]:
    return {
        **_plain(grant),
        "models": [_plain(pin) for pin in grant.models],
        "fallbacks": [_plain(pin) for pin in grant.fallbacks],
        "tools": [_plain(pin) for pin in grant.tools],
        "budgets": [_plain(budget) for budget in grant.budgets],
        "capture": _plain(grant.capture),
    }


def _plain(value: object) -> dict[str, Any]:
    """The fields of a frozen value as they are."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}  # type: ignore[attr-defined]


def _parse_grant(item: Mapping[str, Any]) -> Grant:
    given = _known(Grant, item)
    for name, kind in (("models", ModelPin), ("fallbacks", ModelPin), ("tools", ToolPin)):
        given[name] = tuple(kind(**_known(kind, pin)) for pin in item.get(name, ()))
    given["budgets"] = tuple(_parse_budget(budget) for budget in item.get("budgets", ()))
    capture = _known(Capture, item.get("capture", {}))
    given["capture"] = Capture(**{**capture, "redact": tuple(capture.get("redact", ()))})
    given["release"] = Digest(item["release"])
    return Grant(**given)


def _parse_budget(item: Mapping[str, Any]) -> Budget:
    given = _known(Budget, item)
    return Budget(**{**given, "scope": BudgetScope(item["scope"]), "unit": Unit(item["unit"])})


def _known(kind: type, item: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in item.items() if name in names}
