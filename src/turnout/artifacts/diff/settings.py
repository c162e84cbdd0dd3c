"""The model pin and the config, which are JSON documents of a known shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from turnout.artifacts.diff.values import Parts, diff_named, diff_values
from turnout.manifest.ring_schema import FLAG_PREFIX
from turnout.schemas import ChangeView

_MODEL_KINDS = {"provider": "provider", "name": "name", "parameters": "parameter", "fallbacks": "fallback"}
_CONFIG_KINDS = {"rings": "ring", "health": "health", "limits": "limit", "smoke": "smoke"}
_PIN = ("provider", "name")


def diff_model(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[ChangeView]:
    """Provider, name, parameters, and the fallbacks with their order. An empty mapping stands for no model."""
    for part in _PIN:
        yield from diff_values(_only(before, part), _only(after, part), _model_kind)
    yield from diff_values(_without(before), _without(after), _model_kind)
    yield from diff_named(_fallbacks(before), _fallbacks(after), _model_kind, ("fallbacks",))


def describe_pin(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """`anthropic/claude-… → openai/gpt-…`; None when both are pinned to the same."""
    old, new = (f"{side.get('provider')}/{side.get('name')}" if side else "none" for side in (before, after))
    return None if old == new else f"{old} → {new}"


def diff_config(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[ChangeView]:
    """Every key by its dotted path."""
    yield from diff_values(before, after, _config_kind)


def _only(document: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {part: document[part]} if part in document else {}


def _without(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in (*_PIN, "fallbacks")}


def _fallbacks(document: Mapping[str, Any]) -> dict[str, Any]:
    models = document.get("fallbacks") or ()
    return {f"{model['provider']}/{model['name']}": model for model in models if {*_PIN} <= model.keys()}


def _model_kind(at: Parts) -> str:
    return _MODEL_KINDS.get(str(at[0]), "setting")


def _config_kind(at: Parts) -> str:
    if len(at) > 1 and at[-2] == "env":
        return "flag" if str(at[-1]).startswith(FLAG_PREFIX) else "env"
    return _CONFIG_KINDS.get(str(at[0]), "setting") if at else "setting"
